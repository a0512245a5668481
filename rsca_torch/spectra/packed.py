"""Spectra as one tensor, for learners that see spectra: flux and the inverse of its error, 0 where it is censored."""

from __future__ import annotations

import torch
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.spectra.arrays import Array, as_tensor
from rsca_torch.spectra.blocks import Source

__all__ = ["MOST_BYTES", "PACKED", "pack", "packed", "require_room", "unpack", "with_noise"]

PACKED = 3  # dimensions of the tensor; of latents: 2
MOST_BYTES = 8 * 2**30  # of memory for packed spectra: 79,000 stars of 6,774 bins
AT_ONCE = 1024  # stars read


def pack(flux: Array, valid: Array, sigma: Array) -> Tensor:
    """(N, 2, P) float64: flux, and 1 / sigma; both 0 where censored, so that a bin's weight says whether it is there.

    Args:
        flux: (N, P); what stands in a censored bin never matters.
        valid: (N, P) bool, True = use.
        sigma: (N, P) standard errors.

    Raises:
        InputError: where shapes disagree, or a valid bin is not finite or has no positive error.

    Example:
        >>> z = pack(torch.tensor([[1.0, 0.9]]), torch.tensor([[True, False]]), torch.tensor([[0.25, 9.0]]))
        >>> z.tolist(), unpack(z)[2].tolist()
        ([[[1.0, 0.0], [4.0, 0.0]]], [[0.25, inf]])
    """
    flux, valid, sigma = as_tensor(flux).double(), as_tensor(valid).bool(), as_tensor(sigma).double()
    if flux.ndim != 2 or not flux.shape == valid.shape == sigma.shape:
        shapes = ", ".join(str(tuple(each.shape)) for each in (flux, valid, sigma))
        raise InputError(f"flux, valid and sigma of one shape (N, P) expected, got {shapes}")
    z = torch.stack([torch.where(valid, flux, 0), torch.where(valid, 1 / sigma, 0)], dim=1)
    bad = int((~z.isfinite() | (z[:, 1:] < 0)).any(1).sum()) + int((valid & (z[:, 1] == 0)).sum())
    if bad:
        raise InputError(f"{bad} valid bins have no finite flux or no positive, finite error: mark them invalid")
    return z


def packed(source: Source) -> Tensor:
    """(N, 2, P) float64 as `pack`, of spectra that are read block by block. All are held in memory.

    Raises:
        InputError: as `require_room`.
    """
    require_room(source)
    z = torch.empty(len(source), 2, source.n_bins, dtype=torch.float64)
    for first in range(0, len(source), AT_ONCE):
        flux, valid, sigma = source.read(slice(first, first + AT_ONCE))
        assert sigma is not None
        z[first : first + AT_ONCE] = pack(flux, flux.isfinite() & sigma.isfinite() if valid is None else valid, sigma)
    return z


def require_room(source: Source) -> None:
    """Refuse spectra that cannot be packed.

    Raises:
        InputError: where errors are not known, or the spectra need more than MOST_BYTES.
    """
    if not source.has_sigma:
        raise InputError("learners of spectra see their errors: give sigma, or choose a learner of latents")
    size = 16 * len(source) * source.n_bins
    if size > MOST_BYTES:
        raise InputError(
            f"{len(source)} spectra of {source.n_bins} bins need {size / 2**30:.1f} GiB, more than the "
            f"{MOST_BYTES / 2**30:.0f} GiB that learners of spectra may hold: select fewer field stars, or choose a "
            "learner of latents"
        )


def unpack(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(flux (N, P), valid (N, P) bool, sigma (N, P)) of packed spectra; a censored bin has flux 0 and sigma inf.

    Raises:
        InputError: for another shape, as of latents.
    """
    if z.ndim != PACKED or z.shape[1] != 2:
        raise InputError(
            f"spectra (N, 2, P), as rsca_torch.spectra.packed.pack gives them, expected, got {tuple(z.shape)}"
        )
    flux, inverse = z.unbind(1)
    valid = inverse > 0
    return torch.where(valid, flux, 0), valid, torch.where(valid, 1 / inverse, torch.inf)


def with_noise(z: Tensor) -> Tensor:
    """The same spectra with the flux of every valid bin drawn anew from N(flux, sigma^2); seeded by torch."""
    flux, valid, sigma = unpack(z)
    return torch.stack([torch.where(valid, flux + torch.randn_like(flux) * sigma, 0), z[:, 1]], dim=1)
