"""Which bins are trusted: on a detector, outside interstellar bands, and measured well enough (paper, section 4.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.survey.apogee import CHIPS, N_PIXELS, wavelength

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
        interstellar_pixels: half-open ranges of pixels that are never used.
        interstellar_angstrom: half-open ranges of vacuum wavelength that are never used, Angstrom; added to the pixels.

    Raises:
        InputError: a bound is not positive, or a range is empty or off the grid.
    """

    max_error: float = 0.05
    min_flux: float = 0.001
    interstellar_pixels: Sequence[Sequence[int]] = ((720, 910), (2370, 2470), (2600, 2750), (4300, 4600))
    interstellar_angstrom: Sequence[Sequence[float]] = ()

    def __post_init__(self) -> None:
        if not (self.max_error > 0 and self.min_flux >= 0):
            raise InputError(
                f"censoring needs max_error > 0 and min_flux >= 0, got {self.max_error} and {self.min_flux}"
            )
        grid = wavelength()
        for ranges, low, high in (
            (self.interstellar_pixels, 0, N_PIXELS),
            (self.interstellar_angstrom, grid[0], grid[-1]),
        ):
            for pair in ranges:
                if len(pair) != 2 or not low <= pair[0] < pair[1] <= high:
                    raise InputError(
                        f"an interstellar range is [first, end) between {low:.0f} and {high:.0f}, got {list(pair)}"
                    )

    def trusted_bins(self) -> NDArray[np.bool_]:
        """(8575,) True for pixels on a chip and in no interstellar range.

        Fixed ranges, because in the gaps flux and error are both exactly 0: no bound on the error catches them, and
        "0 in every star" would depend on the stars.
        """
        pixels, grid = np.arange(N_PIXELS), wavelength()
        on_chip = np.any([(pixels >= first) & (pixels < end) for first, end in CHIPS.values()], axis=0)
        for first, end in self.interstellar_pixels:
            on_chip &= ~((pixels >= first) & (pixels < end))
        for shortest, longest in self.interstellar_angstrom:
            on_chip &= ~((grid >= shortest) & (grid < longest))
        return np.asarray(on_chip)

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
