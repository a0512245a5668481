"""One spectrum onto another grid: flux conserved, variances propagated, masks widened, by spectres."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsca_torch.errors import InputError

__all__ = ["Resampled", "resampled"]

Floats = NDArray[np.float64]


class Resampled(NamedTuple):
    """A spectrum on a new grid.

    Attributes:
        flux: (Q,) the mean over each bin; NaN where it is not valid.
        sigma: (Q,) its standard error. Neighbouring bins that share a pixel have errors in common.
        valid: (Q,) True where no bad pixel has a part in the bin, and the old grid covers it.
    """

    flux: Floats
    sigma: Floats
    valid: NDArray[np.bool_]


def resampled(wavelength: Floats, flux: Floats, sigma: Floats, good: NDArray[np.bool_], grid: Floats) -> Resampled:
    """A spectrum on another grid.

    The library was chosen by its measured error and speed: ``experiments/surveys/resampling.py``, docs/own-data.md.

    Args:
        wavelength: (P,) Angstrom, rising: the pixels' centres.
        flux: (P,) mean over each pixel.
        sigma: (P,) its standard error, independent from pixel to pixel.
        good: (P,) which pixels may be used.
        grid: (Q,) Angstrom, rising: the bins' centres.

    Raises:
        InputError: spectres is not installed.

    Example:
        >>> old, new = np.arange(5000.0, 5006.0), np.array([5000.5, 5002.5, 5004.5])
        >>> good = np.array([True, True, True, True, False, True])
        >>> resampled(old, np.arange(6.0), np.full(6, 0.1), good, new).flux
        array([0.5, 2.5, nan])
    """
    near = np.flatnonzero((grid >= wavelength[0]) & (grid <= wavelength[-1]))
    values = np.full((2, len(grid)), np.nan)
    if len(near) > 1 and len(wavelength) > 1:
        holed = np.where(good, flux, np.nan)  # NaN goes into every bin that a bad pixel has a part in
        values[:, near] = _spectres()(grid[near], wavelength, holed, np.where(good, sigma, np.nan), np.nan, False)
    valid = np.isfinite(values).all(axis=0)
    return Resampled(values[0], values[1], valid)


def _spectres() -> Any:  # noqa: ANN401  (spectres has no types)
    """Compiled where numba is installed, 70 times as fast, else in Python: the same numbers."""
    try:
        if find_spec("numba") is not None:
            return importlib.import_module("spectres.spectral_resampling_numba").spectres_numba
        return importlib.import_module("spectres").spectres
    except ImportError as error:
        raise InputError(
            "description.grid.resample needs the package spectres: pip install 'rsca_torch[resampling]'"
        ) from error
