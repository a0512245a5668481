"""Spectra that are read as they are needed: some stars of a store or an array, on some bins, minus what is removed."""

from __future__ import annotations

import copy
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.spectra.arrays import Array
from rsca_torch.spectra.bins import same_bins
from rsca_torch.spectra.blocks import Rows, Some, Source
from rsca_torch.spectra.spectra import Spectra, as_angstrom, row_numbers
from rsca_torch.spectra.stars import Stars

__all__ = ["AnySpectra", "Removable", "RowSource", "View", "sources_of"]


class RowSource(Protocol):
    """Spectra that can be read by the numbers of their stars: a store, or `Spectra`."""

    @property
    def stars(self) -> Stars:
        """N rows."""

    @property
    def wavelength(self) -> Array:
        """(P,) float64, vacuum Angstrom."""

    @property
    def has_sigma(self) -> bool:
        """Whether the errors are known."""

    @property
    def checked(self) -> bool:
        """Whether every valid bin is known to be finite, with a positive error."""

    def read(self, stars: Any) -> Rows:  # noqa: ANN401  (row numbers)
        """(flux, valid or None, sigma or None) of the given stars, each (n, P)."""


class Removable(Protocol):
    """What can be taken out of spectra: `rsca_torch.removal.Removal`."""

    def coordinates(self, source: Source) -> Tensor:
        """(N, d) how much of it every star has."""

    def minus(self, flux: Tensor, coordinates: Tensor) -> Tensor:
        """(N, P) flux without it."""


class View:
    """N spectra that stay where they are: nothing is copied, and memory does not grow with the number of stars.

    Args:
        source: a store, or spectra in memory.
        rows: (N,) numbers of its stars. None: all.

    Attributes:
        stars: N rows.
        wavelength: (P,) float64, vacuum Angstrom.
        removal: what is subtracted from the spectra as they are read. None: nothing.

    Example:
        >>> spectra = Spectra(torch.ones(3, 4), wavelength=[15100, 15101, 15102, 15103])
        >>> view = View(spectra).take([2, 0]).on(torch.tensor([15101.0, 15102.0]).double())
        >>> view.stars.id.tolist(), view.read(slice(None))[0].shape
        (['2', '0'], torch.Size([2, 2]))
    """

    def __init__(self, source: RowSource, rows: NDArray[np.int64] | None = None) -> None:
        self._source = source
        self._rows = np.arange(len(source.stars)) if rows is None else rows
        self._bins: tuple[Tensor, Tensor] | None = None  # (P,) numbers in the source, and whether they are there
        self._coordinates: Tensor | None = None  # (N, d) in `removal`
        self.removal: Removable | None = None
        self.stars = source.stars[self._rows]
        self.wavelength = as_angstrom(source.wavelength)
        self.has_sigma, self.checked = source.has_sigma, source.checked

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        removed = "" if self.removal is None else ", something removed as they are read"
        ends = f" from {self.wavelength[0]:.2f} to {self.wavelength[-1]:.2f} Angstrom" if self.n_bins else ""
        return f"View: {len(self)} stars, {self.n_bins} bins{ends}{removed}, read as they are needed"

    @property
    def n_bins(self) -> int:
        """P."""
        return len(self.wavelength)

    @property
    def origin(self) -> dict[str, Any]:
        """What a store says of itself: its checksum as `store`, and its survey; {} of spectra in memory."""
        return dict(getattr(self._source, "origin", {}))

    def take(self, rows: Any) -> View:  # noqa: ANN401  (whatever indexes an array)
        """The given stars: a bool mask, integers or a slice."""
        other, chosen = copy.copy(self), row_numbers(len(self), rows)
        other._rows, other.stars = self._rows[chosen], self.stars[chosen]
        if self._coordinates is not None:
            other._coordinates = self._coordinates[torch.from_numpy(chosen)]
        return other

    def on(self, wavelength: Array) -> View:
        """The same stars on other bins of the same grid; bins that these spectra lack are invalid.

        Raises:
            InputError: as `Spectra.on`, and where something is removed already.
        """
        wavelength = as_angstrom(wavelength)
        if torch.equal(wavelength, self.wavelength):
            return self
        if self._bins is not None or self.removal is not None:
            raise InputError("bring spectra to the bins that are wanted once, before something is removed from them")
        other = copy.copy(self)
        other._bins, other.wavelength = same_bins(self.wavelength, wavelength), wavelength
        return other

    def minus(self, removal: Removable) -> View:
        """The same spectra without what is to be removed, which is subtracted as they are read."""
        other = copy.copy(self)
        other.removal, other._coordinates = removal, removal.coordinates(self)
        return other

    def read(self, stars: Some) -> Rows:
        """(flux, valid, sigma) of some stars, each (n, P)."""
        flux, valid, sigma = self._source.read(self._rows[stars])
        if self._bins is not None:
            place, found = self._bins
            valid = found.expand(len(flux), -1) if valid is None else valid[:, place] & found
            flux, sigma = flux[:, place], None if sigma is None else sigma[:, place]
        if self.removal is not None and self._coordinates is not None:
            flux = self.removal.minus(flux, self._coordinates[stars])
        return flux, valid, sigma


AnySpectra = Spectra | View


def sources_of(*parts: AnySpectra) -> tuple[dict[str, Any], ...]:
    """The origins of spectra, each once; {} stands for spectra in memory.

    >>> sources_of(Spectra([[1.0, 2.0]]), Spectra([[3.0, 4.0]]))
    ({},)
    """
    told = [dict(getattr(part, "origin", {})) for part in parts]
    return tuple(one for place, one in enumerate(told) if one not in told[:place])
