"""Which bins are trusted: on a detector, outside interstellar bands, and measured well enough (paper, section 4.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.survey.grid import Grid

__all__ = ["Censoring"]

LARGEST = float(np.finfo(np.float32).max)  # what is above it is infinite where spectra are stored
AnyArray = Any  # NumPy's or torch's: the comparisons are the same


@dataclass(frozen=True)
class Censoring:
    """The rule for which bins are used.

    Attributes:
        max_error: largest trusted standard error of the continuum-normalised flux. Sky lines are kept in the files with
            their flux and an error of 0.06 to 100.
        min_flux: the flux must be larger. Bad pixels hold 0 (to DR16) or 1e-4 (DR17); no real one is below 0.001.
        interstellar_pixels: half-open ranges of pixels of the survey's grid that are never used.
        interstellar_angstrom: half-open ranges of vacuum wavelength that are never used, Angstrom; added to the pixels.

    Raises:
        InputError: a bound is not positive, or a range is empty.

    Example:
        >>> Censoring(max_error=0.05).valid(np.array([1.0, 1.0, 0.0]), np.array([0.01, 0.2, 0.01])).tolist()
        [True, False, False]
    """

    max_error: float = 0.05
    min_flux: float = 0.001
    interstellar_pixels: Sequence[Sequence[int]] = ()
    interstellar_angstrom: Sequence[Sequence[float]] = ()

    def __post_init__(self) -> None:
        if not (self.max_error > 0 and self.min_flux >= 0):
            raise InputError(
                f"censoring needs max_error > 0 and min_flux >= 0, got {self.max_error} and {self.min_flux}"
            )
        pairs: list[Sequence[float]] = [*self.interstellar_pixels, *self.interstellar_angstrom]
        for pair in pairs:
            _require_inside(pair, -math.inf, math.inf)

    def trusted_bins(self, grid: Grid) -> NDArray[np.bool_]:
        """(P,) True for the grid's pixels on a detector and in no interstellar range.

        Raises:
            InputError: a range is off the grid.
        """
        for pair in self.interstellar_pixels:
            _require_inside(pair, 0, len(grid))
        for angstrom in self.interstellar_angstrom:
            _require_inside(angstrom, grid.wavelength[0], grid.wavelength[-1])
        return grid.usable() & self.outside_ranges(np.arange(len(grid)), grid.wavelength)

    def outside_ranges(self, bins: NDArray[np.integer], wavelength: NDArray[np.floating]) -> NDArray[np.bool_]:
        """(P,) True for the bins in no interstellar range.

        Args:
            bins: (P,) their pixels on the survey's grid.
            wavelength: (P,) Angstrom.
        """
        inside = [(bins >= first) & (bins < end) for first, end in self.interstellar_pixels]
        inside += [(wavelength >= first) & (wavelength < end) for first, end in self.interstellar_angstrom]
        return ~np.any(inside, axis=0) if inside else np.ones(len(bins), dtype=bool)

    def valid(self, flux: AnyArray, error: AnyArray) -> AnyArray:
        """True where a measurement is used; same shape and kind (NumPy or torch) as flux and error.

        The bounds take the arrays' own precision: an error of 0.05 stored as float32 is 0.0500000007 and is valid.
        """
        return self._has_flux(flux) & (error > 0) & (error <= min(self.max_error, LARGEST))

    def faulty_errors(self, flux: NDArray[np.floating], error: NDArray[np.floating]) -> tuple[int, int, int]:
        """How many errors are zero, negative, and not finite, where there is a flux; none of them is valid.

        No release writes such: gaps (error 0) and bad pixels have no flux, and a sky line's error is large but finite.

        Args:
            flux: (P,) in trusted bins, continuum-normalised.
            error: (P,) its standard error.
        """
        told = error[self._has_flux(flux)]
        finite = np.isfinite(told)
        return int((told == 0).sum()), int(((told < 0) & finite).sum()), int((~finite).sum())

    def _has_flux(self, flux: AnyArray) -> AnyArray:
        return (flux > self.min_flux) & (flux < math.inf)


def _require_inside(pair: Sequence[float], low: float, high: float) -> None:
    if len(pair) != 2 or not low <= pair[0] < pair[1] <= high:
        between = f" between {low:.0f} and {high:.0f}" if math.isfinite(high) else ""
        raise InputError(f"an interstellar range is [first, end){between}, got {list(pair)}")
