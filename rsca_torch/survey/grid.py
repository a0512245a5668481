"""The wavelength grid of a survey's spectra, and which of its pixels a detector sees."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rsca_torch.errors import InputError

__all__ = ["Grid"]


class Grid:
    """The pixels that all spectra of a survey have in common.

    Args:
        wavelength: (P,) vacuum wavelength of each pixel, Angstrom, rising.
        segments: name of each detector -> its usable pixels, half-open. None given: one, of all pixels.

    Raises:
        InputError: the wavelengths do not rise, or a segment is empty or off the grid.

    Example:
        >>> grid = Grid([5000.0, 5001.0, 5002.0, 5003.0], {"green": (1, 4)})
        >>> grid.usable().tolist(), grid.edges()
        ([False, True, True, True], {'green': (5001.0, 5003.0)})
    """

    def __init__(self, wavelength: ArrayLike, segments: Mapping[str, tuple[int, int]] | None = None) -> None:
        self.wavelength = np.asarray(wavelength, dtype=np.float64)
        if self.wavelength.ndim != 1 or not len(self) or not (np.diff(self.wavelength) > 0).all():
            raise InputError(
                f"wavelengths must rise from pixel to pixel, got an array of shape {self.wavelength.shape}"
            )
        self.segments = dict(segments or {"all": (0, len(self))})
        for name, (first, end) in self.segments.items():
            if not 0 <= first < end <= len(self):
                raise InputError(f"segment {name} is [first, end) of {len(self)} pixels, got [{first}, {end})")

    def __len__(self) -> int:
        return len(self.wavelength)

    def usable(self) -> NDArray[np.bool_]:
        """(P,) True for the pixels of a segment.

        Fixed ranges, because in the gaps between detectors flux and error may both be exactly 0: no bound on the error
        catches them, and "0 in every star" would depend on the stars.
        """
        inside = np.zeros(len(self), dtype=bool)
        for first, end in self.segments.values():
            inside[first:end] = True
        return inside

    def edges(self) -> dict[str, tuple[float, float]]:
        """Name of each segment -> its first and last wavelength, Angstrom."""
        return {
            name: (float(self.wavelength[first]), float(self.wavelength[end - 1]))
            for name, (first, end) in self.segments.items()
        }
