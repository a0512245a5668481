"""From an arm as its file has it to a spectrum on the survey's grid: in vacuum, at rest, normalised, resampled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.survey.described.continuum import continuum_of
from rsca_torch.survey.described.description import Description
from rsca_torch.survey.described.parts import ErrorKind
from rsca_torch.survey.described.resampling import resampled
from rsca_torch.survey.described.wavelength import at_rest
from rsca_torch.survey.fits_files import UnusableFileError
from rsca_torch.survey.reader import Measured

__all__ = ["Prepared", "Raw", "on_common_grid", "on_new_grid", "prepared"]

Floats = NDArray[np.float64]


class Raw(NamedTuple):
    """One arm of one star as its file has it.

    Attributes:
        wavelength, flux: (P,).
        error: (P,), of the description's kind.
        mask: (P,) as the file has it. None: there is none.
        divisor: (P,) the continuum of the file. None: there is none, or none is to be used.
        range: vacuum Angstrom that are used. None: all.
    """

    wavelength: NDArray[Any]
    flux: NDArray[Any]
    error: NDArray[Any]
    mask: NDArray[Any] | None = None
    divisor: NDArray[Any] | None = None
    range: Any = None


class Prepared(NamedTuple):
    """One arm in vacuum and at rest, normalised, on its own grid.

    Attributes:
        wavelength: (P,) Angstrom, rising.
        flux, sigma: (P,).
        good: (P,) which pixels may be used.
    """

    wavelength: Floats
    flux: Floats
    sigma: Floats
    good: NDArray[np.bool_]


def prepared(raw: Raw, rule: Description, velocity: float) -> Prepared:
    """One arm in vacuum, at rest and normalised.

    Raises:
        UnusableFileError: lengths differ, wavelengths do not rise, or not a pixel can be used.
    """
    n = len(raw.wavelength)
    for name in ("flux", "error", "mask", "divisor"):
        values = getattr(raw, name)
        if values is not None and len(values) != n:
            raise UnusableFileError(f"{name} has {len(values)} pixels, the wavelengths {n}")
    known = np.isfinite(raw.wavelength) & (raw.wavelength > 0)  # files of one width are padded with -1, 0 or NaN
    end = int(np.flatnonzero(known)[-1]) + 1 if known.any() else 0
    if not known[:end].all() or end < 2:
        raise UnusableFileError(f"{n - int(known.sum())} of {n} wavelengths are not known")
    wavelength = at_rest(raw.wavelength[:end], rule.wavelength, velocity)
    if (falls := np.flatnonzero(np.diff(wavelength) <= 0)).size:
        at = int(falls[0])
        raise UnusableFileError(
            f"wavelengths do not rise: pixel {at + 1} at {wavelength[at + 1]:.4f} after {wavelength[at]:.4f} Angstrom"
        )
    flux, sigma = (np.asarray(values[:end], dtype=np.float64) for values in (raw.flux, raw.error))
    sigma = as_sigma(sigma, flux, rule.error)
    good = is_good(raw.mask, rule.mask, n)[:end] & np.isfinite(flux) & np.isfinite(sigma) & (sigma > 0)
    if raw.range is not None:
        good &= (wavelength >= raw.range[0]) & (wavelength <= raw.range[1])
    if good.any():
        good &= sigma <= rule.error.largest * abs(float(np.median(flux[good])))
    if not good.any():
        raise UnusableFileError("no pixel with a finite flux, a positive error and a clear mask")
    divisor = None if raw.divisor is None else np.asarray(raw.divisor[:end], dtype=np.float64)
    if rule.continuum is not None:
        divisor = continuum_of(wavelength, flux, good, rule.continuum)
    if divisor is not None:
        good &= np.isfinite(divisor) & (divisor > 0)
        flux, sigma = (np.where(good, part / np.where(good, divisor, 1.0), np.nan) for part in (flux, sigma))
    return Prepared(wavelength, flux, sigma, good)


def as_sigma(error: Floats, flux: Floats, rule: ErrorKind) -> Floats:
    """(P,) standard errors; infinite where the file says none.

    >>> as_sigma(np.array([4.0, 0.0]), np.ones(2), ErrorKind("ivar")).tolist()
    [0.5, inf]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if rule.kind == "ivar":
            return np.where(error > 0, 1.0 / np.sqrt(np.where(error > 0, error, 1.0)), np.inf)
        if rule.kind == "variance":
            return np.sqrt(np.where(error > 0, error, np.inf))
        return error * np.abs(flux) if rule.kind == "relative" else error


def is_good(mask: NDArray[Any] | None, rule: Any, n: int) -> NDArray[np.bool_]:  # noqa: ANN401  (of the description)
    """(P,) True where the survey's mask lets a pixel be used.

    >>> is_good(np.array([0.0, 2.0, 4.0]), (1, 3), 3).tolist()
    [True, False, True]
    """
    if mask is None or rule == "none":
        return np.ones(n, dtype=bool)
    known = np.isfinite(mask) if mask.dtype.kind == "f" else np.ones(n, dtype=bool)
    whole = np.where(known, mask, 0).astype(np.int64)  # flags may be stored as floating point
    if rule == "true_is_good":
        good = whole != 0
    else:
        good = whole == 0 if rule == "zero" else (whole & sum(1 << bit for bit in rule)) == 0
    return np.asarray(known & good)


def on_new_grid(arms: list[Prepared], grid: Floats) -> Measured:
    """Each arm on the survey's grid; where two overlap, their mean weighted by inverse variance."""
    weight, flux = np.zeros((2, len(grid)))
    for arm in arms:
        new = resampled(arm.wavelength, arm.flux, arm.sigma, arm.good, grid)
        inverse = np.where(new.valid & (new.sigma > 0), 1.0 / np.where(new.valid, new.sigma, 1.0) ** 2, 0.0)
        weight += inverse
        flux += inverse * np.where(new.valid, new.flux, 0.0)
    valid = weight > 0
    safe = np.where(valid, weight, 1.0)
    return Measured(np.where(valid, flux / safe, np.nan), np.where(valid, safe**-0.5, np.inf), valid)


def on_common_grid(arms: list[Prepared], grid: Floats, who: str) -> Measured:
    """The arms as they are, side by side.

    Raises:
        InputError: they lie on another grid.
    """
    wavelength = np.concatenate([arm.wavelength for arm in arms])
    if len(wavelength) != len(grid) or not np.allclose(wavelength, grid, rtol=1e-7, atol=0.0):
        raise InputError(
            f"{who} has {len(wavelength)} pixels from {wavelength[0]:.4f} to {wavelength[-1]:.4f} Angstrom, the first "
            f"star {len(grid)} from {grid[0]:.4f} to {grid[-1]:.4f}: grids differ; say "
            "description.grid: {resample: {start, step, n, log}}"
        )
    flux, sigma, good = (np.concatenate([getattr(arm, name) for arm in arms]) for name in ("flux", "sigma", "good"))
    return Measured(flux, sigma, good)
