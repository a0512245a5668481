"""Which bins of two wavelength grids are the same; and what to type where the grids are different ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rsca_torch.errors import InputError

__all__ = ["grid_told", "lacking", "resampling_to", "same_bins"]

SAME_BIN = 1e-7  # relative; bins of a spectrum lie 1e-5 apart


def same_bins(own: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """((P,) numbers of the own bins that are nearest to the wanted ones, (P,) whether they are the same bins).

    Args:
        own: of the spectra, Angstrom, rising.
        wanted: (P,) those that they are to be brought to, a model's say.

    Raises:
        InputError: another grid: not a single bin coincides (to 1e-7 of the wavelength), or bins that are wanted fall
            between two of the own, of which some may coincide by chance. It says both grids, and how to resample.

    Examples:
        >>> own = torch.tensor([5000.0, 5001.0, 5002.0]).double()
        >>> same_bins(own, torch.tensor([5001.0, 5003.0]).double())
        (tensor([1, 2]), tensor([ True, False]))
        >>> same_bins(own, own + 0.3)
        Traceback (most recent call last):
        rsca_torch.errors.InputError: another wavelength grid: the spectra have 3 bins from 5000 to 5002 Angstrom...
    """
    place = torch.searchsorted(own.contiguous(), wanted.contiguous()).clamp(max=len(own) - 1)
    before = (place - 1).clamp(min=0)
    place = torch.where((own[before] - wanted).abs() < (own[place] - wanted).abs(), before, place)
    distance = (own[place] - wanted).abs()
    found = distance <= SAME_BIN * wanted.abs()
    step = torch.cat([own.diff(), wanted.diff()]).abs()
    between = int((~found & (distance < 0.49 * step.min())).sum()) if len(step) else 0
    if between or not found.any():
        same = f"{int(found.sum())} of which are the same" if found.any() else "of which none is the same"
        raise InputError(
            f"another wavelength grid: the spectra have {grid_told(own)}, wanted are {grid_told(wanted)}, {same}"
            f"{_cure(own, wanted)}"
        )
    return place, found


def lacking(own: Tensor, wanted: Tensor) -> str:
    """How many of a model's bins spectra lack, as a sentence; "" where they have them all.

    Raises:
        InputError: as `same_bins`.

    >>> lacking(torch.tensor([5000.0, 5001.0]), torch.tensor([5001.0, 5002.0, 5003.0]))
    "2 of the model's 3 bins are not in the store: as censored"
    >>> lacking(torch.tensor([5000.0, 5001.0]), torch.tensor([5001.0]))
    ''
    """
    found = same_bins(own, wanted)[1]
    many = int((~found).sum())
    return f"{many} of the model's {len(found)} bins are not in the store: as censored" if many else ""


def grid_told(wavelength: Tensor) -> str:
    """How many bins from where to where.

    >>> grid_told(torch.tensor([5000.0, 5001.0]))
    '2 bins from 5000 to 5001 Angstrom'
    """
    ends = f" from {float(wavelength[0]):.7g} to {float(wavelength[-1]):.7g} Angstrom" if len(wavelength) else ""
    return f"{len(wavelength)} bins{ends}"


def resampling_to(wavelength: Tensor) -> str | None:
    """What `grid` of a described survey must be to have these bins among its own; None: they are not evenly spaced.

    >>> resampling_to(torch.tensor([5000.0, 5002.0, 5004.0, 5010.0]).double())
    '{resample: {start: 5000, step: 2, n: 6, log: false}}'
    >>> resampling_to(torch.tensor([5000.0, 5001.0, 5003.5]).double())
    """
    bins = wavelength.double().cpu().numpy()
    if len(bins) < 2 or bins[0] <= 0 or (np.diff(bins) <= 0).any():
        return None
    for log, axis in ((False, bins), (True, np.log10(bins))):
        apart = np.diff(axis)
        number = np.append(0, np.cumsum(np.rint(apart / np.median(apart))))  # gaps between detectors are many steps
        step, first = np.polyfit(number, axis, 1)
        start = float(f"{10**first if log else first:.11g}")
        step = float(f"{step:.9g}")
        made = start * 10 ** (step * number) if log else start + step * number
        if (np.abs(made - bins) <= 0.9 * SAME_BIN * bins).all():
            n = int(number[-1]) + 1
            return f"{{resample: {{start: {start:.11g}, step: {step:.9g}, n: {n}, log: {str(log).lower()}}}}}"
    return None


def _cure(own: Tensor, wanted: Tensor) -> str:
    """What to do: look at the unit where the ranges have nothing in common, else resample."""
    if len(wanted) and (own.max() < wanted.min() or wanted.max() < own.min()):
        return (
            ": is one of them in micron or nm? Wavelengths are vacuum Angstrom; give an astropy Quantity, which is "
            "converted"
        )
    grid = resampling_to(wanted)
    how = "" if grid is None else f" ingest them with grid: {grid} in the survey's description (docs/own-data.md), or"
    return f":{how} fit a model on these spectra"
