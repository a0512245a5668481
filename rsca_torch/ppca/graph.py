"""The latents of step 1 as a graph: operators alone, which `torch.export`, `torch.jit.trace` and ONNX can follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from rsca_torch.ppca.e_step import ROUNDS
from rsca_torch.spectra.blocks import Rows

__all__ = ["graph_latents", "in_graph", "only_if"]

LARGEST = 1e10  #: condition of a star's precision beyond which sums over its bins do not tell its latents to 1e-5
IS_EXPORTING = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # the former since torch 2.7


def in_graph() -> bool:
    """Whether what is computed is being exported or traced, so that no choice of Python's can depend on numbers.

    >>> in_graph()
    False
    """
    return bool(IS_EXPORTING()) or torch._C._get_tracing_state() is not None


def only_if(
    needed: Tensor, whole: Callable[..., Tensor], short: Callable[..., Tensor], operands: tuple[Tensor, ...]
) -> Tensor:
    """What `whole` makes of the operands; where it is not needed, `short` makes the same in less time.

    An exported graph holds both and chooses as it runs; a trace, which cannot, always does the whole.

    Args:
        needed: () bool.
        whole: right always.
        short: right where the whole is not needed; it gives back no operand, but a copy.
        operands: of both.
    """
    if torch._C._get_tracing_state() is not None:
        return whole(*operands)
    chosen: Tensor = torch.cond(needed, whole, short, operands)
    return chosen


class Step1(Protocol):
    """What is asked of step 1, which is a `MaskedPPCA`."""

    loadings: Tensor
    mean: Tensor
    scatter: Tensor
    bin_variance: Tensor
    noise_variance: float | None
    clip: float | None


def graph_latents(ppca: Step1, rows: Rows) -> Tensor:
    """(N, K) float64, as `MaskedPPCA.latents`; all stars at once, as long as a bin of any of them is set aside anew.

    A graph cannot refuse: a valid bin that is not finite, or has no positive error, makes its star NaN. Nor can it
    choose another way for a star whose errors are many decades apart, as `MaskedPPCA` does: that star is NaN too.

    Args:
        ppca: step 1.
        rows: flux, valid or None and sigma or None of N stars, (N, P) each.
    """
    flux, valid, sigma = rows
    loadings, known = ppca.loadings.double(), ppca.mean.isfinite()
    if sigma is None or ppca.noise_variance is not None:
        used = flux.isfinite() if valid is None else valid.bool()
        noise = torch.where(known, ppca.bin_variance.double(), 1.0)
    else:
        used = flux.isfinite() & sigma.isfinite() if valid is None else valid.bool()
        noise = torch.where(sigma > 0, sigma.double().square(), torch.nan)
        noise = noise + torch.where(known, ppca.scatter.double(), 1.0)
    used = used & known
    residual = torch.where(used, flux.double() - ppca.mean.double().nan_to_num(), 0.0)
    weight = torch.where(used, noise.reciprocal(), 0.0)
    constants = loadings, *_packed(loadings)
    if ppca.clip is not None:
        with torch.no_grad():  # which bins are set aside has no gradient
            aside = _set_aside(ppca.clip, residual.detach(), weight.detach(), *constants)
        weight = weight.masked_fill(aside, 0.0)
    return _mean(weight, residual, *constants)


def _packed(loadings: Tensor) -> tuple[Tensor, Tensor]:
    """((P, K (K + 1) / 2) packed w_p w_p^T, (K * K,) where each entry of the whole matrix is among the packed)."""
    size, device = loadings.shape[1], loadings.device
    row, column = torch.triu_indices(size, size, device=device)
    number, place = torch.arange(len(row), device=device), torch.zeros(size, size, dtype=torch.long, device=device)
    place = place.index_put((row, column), number).index_put((column, row), number)
    return loadings[:, row] * loadings[:, column], place.flatten()


def _set_aside(clip: float, residual: Tensor, weight: Tensor, *constants: Tensor) -> Tensor:
    """(n, P) bool: the bins that are set aside when nothing changes any more, or after the last of the rounds."""
    mean = _mean(weight, residual, *constants)
    aside = torch.zeros_like(weight, dtype=torch.bool)
    for left in reversed(range(ROUNDS)):
        beyond = (residual - mean @ constants[0].T).square() * weight > clip**2
        if left:
            changed = (beyond != aside).any(1, keepdim=True)
            mean = only_if(changed.any(), _without, _unchanged, (mean, changed, beyond, weight, residual, *constants))
        aside = beyond
    return aside


def _without(mean: Tensor, changed: Tensor, aside: Tensor, weight: Tensor, *others: Tensor) -> Tensor:
    """The mean without the bins that are set aside, of the stars in which those have changed."""
    return torch.where(changed, _mean(weight.masked_fill(aside, 0.0), *others), mean)


def _unchanged(mean: Tensor, *_: Tensor) -> Tensor:
    """The mean as it is."""
    return mean.clone()


def _mean(weight: Tensor, residual: Tensor, loadings: Tensor, outer: Tensor, place: Tensor) -> Tensor:
    """(n, K) eq. 1.4."""
    size = loadings.shape[1]
    eye = torch.eye(size, dtype=weight.dtype, device=weight.device)
    precision = (weight @ outer)[:, place].reshape(weight.shape[0], size, size) + eye
    projection = (weight * residual) @ loadings
    factor = torch.linalg.cholesky_ex(precision)[0]
    diagonal = factor.detach().diagonal(dim1=1, dim2=2)
    lost = ~(diagonal.amax(1, keepdim=True) < LARGEST**0.5 * diagonal.amin(1, keepdim=True))
    return torch.cholesky_solve(projection[..., None], factor)[..., 0].masked_fill(lost, torch.nan)
