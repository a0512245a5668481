"""The latents of step 1 as a graph without choices, which `torch.export` and `torch.jit.trace` can follow."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from rsca_torch.ppca.e_step import ROUNDS, Model, Parameters
from rsca_torch.spectra.blocks import Source

__all__ = ["graph_latents", "in_graph"]

IS_EXPORTING = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # the former since torch 2.7


def in_graph() -> bool:
    """Whether what is computed is being exported or traced, so that no choice can depend on numbers.

    >>> in_graph()
    False
    """
    return bool(IS_EXPORTING()) or torch._C._get_tracing_state() is not None


class Step1(Protocol):
    """What is asked of step 1, which is a `MaskedPPCA`."""

    loadings: Tensor
    mean: Tensor
    scatter: Tensor
    bin_variance: Tensor
    noise_variance: float | None
    clip: float | None


def graph_latents(ppca: Step1, source: Source) -> Tensor:
    """(N, K) float64, as `MaskedPPCA.latents`; all stars at once, and all of them in every round of setting bins aside.

    A graph cannot refuse: a valid bin that is not finite, or has no positive error, makes its star NaN.

    Args:
        ppca: step 1.
        source: N spectra of its bins, as `Arrays`.
    """
    flux, valid, sigma = source.read(slice(None))
    measured = ppca.noise_variance is None and sigma is not None
    known = ppca.mean.isfinite()
    variance = torch.where(known, ppca.scatter if measured else ppca.bin_variance, 1.0)
    model = Model(Parameters(ppca.loadings, ppca.mean.nan_to_num(), variance), ppca.loadings.double())
    if sigma is None or not measured:
        used = flux.isfinite() if valid is None else valid.bool()
        noise = model.scatter
    else:
        used = flux.isfinite() & sigma.isfinite() if valid is None else valid.bool()
        noise = torch.where(sigma > 0, sigma.double().square(), torch.nan) + model.scatter
    used = used & known
    residual = torch.where(used, flux.double() - model.mean, 0.0)
    weight = torch.where(used, noise.reciprocal(), 0.0)
    mean = _mean(model, weight, residual)
    if ppca.clip is not None:
        for _ in range(ROUNDS):
            aside = (residual - mean @ model.loadings.T).square() * weight > ppca.clip**2
            mean = _mean(model, weight.masked_fill(aside, 0.0), residual)
    return mean


def _mean(model: Model, weight: Tensor, residual: Tensor) -> Tensor:
    """(n, K) eq. 1.4."""
    precision = model.symmetric.unpack(weight @ model.outer) + torch.eye(model.loadings.shape[1]).to(weight)
    projection = (weight * residual) @ model.loadings
    return torch.cholesky_solve(projection[..., None], torch.linalg.cholesky_ex(precision)[0])[..., 0]
