"""Spectra on disk with their star table: the rows of a store, or those of its repeats."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.spectra.stars import Stars
from rsca_torch.survey.censoring import Censoring

__all__ = ["StoredRows"]


class StoredRows:
    """Observations that lie in a store's folder, memory-mapped.

    Args:
        path: the folder.
        part: "repeats"; "" for the field and the members.
        roles: role -> column of the star table.
        wavelength: (P,) vacuum Angstrom.
        censoring: which measurements are valid.

    Attributes:
        stars: n rows.
        wavelength: (P,) vacuum Angstrom.
    """

    has_sigma, checked = True, True  # by the censoring

    def __init__(
        self,
        path: Path,
        part: str,
        roles: Mapping[str, str],
        wavelength: NDArray[np.float64],
        censoring: Censoring,
    ) -> None:
        self._given = (path, part, roles, wavelength, censoring)
        self.wavelength, self.censoring = wavelength, censoring
        self.stars = Stars(_read_stars(path / f"{part or 'stars'}.fits")).playing(roles)
        before = f"{part}_" if part else ""
        self._flux, self._error = (_mapped(path / f"{before}{name}.npy") for name in ("flux", "error"))
        wanted = (len(self.stars), len(wavelength))
        if self._flux.shape != wanted or self._error.shape != wanted:
            raise ValueError(f"flux of shape {tuple(self._flux.shape)} and as many errors expected, {wanted}")

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process: opened there, not copied."""
        return StoredRows, self._given

    def read(self, chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """(flux, valid, sigma) of the given rows, each (n, P); flux and sigma float32, as stored."""
        rows = torch.from_numpy(np.ascontiguousarray(chosen))
        flux, error = (tensor.index_select(0, rows) for tensor in (self._flux, self._error))
        valid = self.censoring.valid(flux.numpy(), error.numpy())  # NumPy compares twice as fast as torch
        return flux, torch.from_numpy(valid), error


def _mapped(file: Path) -> Tensor:
    """(n, P) float32, left on disk, for reading alone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*not writable")  # nothing here writes
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        if array.dtype != np.float32:
            raise ValueError(f"{file.name} holds {array.dtype}, not float32")
        return torch.from_numpy(array)


def _read_stars(path: Path) -> Table:
    with fits.open(path, memmap=False, character_as_bytes=True) as hdus:
        data = hdus[1].data
        columns = {name: np.asarray(data[name]) for name in data.names}
    return Table({name: _plain(values) for name, values in columns.items()})


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "surrogateescape")
    return values.astype(values.dtype.newbyteorder("="))
