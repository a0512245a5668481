"""EM for masked PPCA: exact, parameter-expanded, accelerated (docs/maths.md, eqs. 1.2 to 1.9)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rsca_torch.blocks import BinSums, Block, Blocks
from rsca_torch.errors import InputError

__all__ = ["Parameters", "Posterior", "em_step", "maximise", "start"]

OVERSAMPLING = 10  # of the range finder that gives the start
START_PASSES = 4


@dataclass(frozen=True)
class Parameters:
    """What EM estimates; the noise variance of a bin is `variance` / weight (1 / weight for measured noise)."""

    loadings: Tensor  # (P, K)
    mean: Tensor  # (P,)
    variance: float

    @cached_property
    def outer(self) -> Tensor:
        """(P, K (K + 1) / 2) packed w_p w_p^T / variance, the same for every block of a pass."""
        symmetric = _Symmetric(self.loadings.shape[1])
        return self.loadings[:, symmetric.row] * (self.loadings[:, symmetric.column] / self.variance)

    def vector(self) -> Tensor:
        """All of them in one (P K + P + 1,) vector, the variance as its logarithm."""
        return torch.cat([self.loadings.flatten(), self.mean, self.mean.new_tensor([math.log(self.variance)])])

    def at(self, vector: Tensor) -> Parameters:
        """The parameters of the same shapes that `vector` holds."""
        n_bins = len(self.mean)
        return Parameters(
            vector[: -n_bins - 1].view_as(self.loadings), vector[-n_bins - 1 : -1], math.exp(float(vector[-1]))
        )


def start(blocks: Blocks, sums: BinSums, n_components: int) -> Parameters:
    """The leading axes of the spectra with the bin's mean where invalid, by a randomised range finder of fixed seed."""
    mean = sums.flux / sums.count.clamp(min=1)
    size = min(n_components + OVERSAMPLING, blocks.n_bins)
    generator = torch.Generator().manual_seed(0)
    axes = torch.randn(blocks.n_bins, size, generator=generator, dtype=torch.float64).to(mean.device)
    squares = 0.0
    for _ in range(START_PASSES):
        axes, _ = torch.linalg.qr(axes)
        product, squares = torch.zeros_like(axes), 0.0
        for block in blocks:
            residual = torch.where(block.weight > 0, block.flux - mean, 0)
            product += residual.T @ (residual @ axes)
            squares += float(residual.square().sum())
        axes, scatter = product, axes.T @ product
    eigenvalues, rotation = torch.linalg.eigh(scatter / blocks.n_stars)
    leading = slice(-n_components, None)
    noise = (squares / blocks.n_stars - float(eigenvalues[leading].sum())) / (blocks.n_bins - n_components)
    _refuse_noiseless(noise, squares / float(sums.count.sum()))
    basis, _ = torch.linalg.qr(axes @ rotation.flip(1)[:, :n_components])
    scale = (eigenvalues[leading].flip(0) - noise).clamp(min=noise).sqrt()
    return Parameters(basis * scale, mean, 1.0 if blocks.measured else noise)


def _refuse_noiseless(variance: float, total: float) -> None:
    if not variance > 1e-12 * total:
        raise InputError(
            f"the components fit the spectra without noise (variance {variance:.2g} of {total:.2g}): "
            "give more stars or bins that differ, or fewer n_components"
        )


class Posterior:
    """The latents of a block of stars given their valid bins: eqs. 1.3 to 1.5."""

    def __init__(self, block: Block, theta: Parameters) -> None:
        self.block, self.theta = block, theta
        residual = block.flux - theta.mean
        self.weighted = block.weight * residual  # (n, P)
        self.squares = torch.dot(self.weighted.flatten(), residual.flatten())
        precision = _Symmetric(theta.loadings.shape[1]).unpack(block.weight @ theta.outer)
        precision.diagonal(dim1=1, dim2=2).add_(1)
        self.cholesky = torch.linalg.cholesky(precision)
        self.projection = self.weighted @ theta.loadings / theta.variance  # (n, K)
        self.mean = torch.cholesky_solve(self.projection[..., None], self.cholesky)[..., 0]

    def covariance(self) -> Tensor:
        """(n, K, K)."""
        return torch.cholesky_inverse(self.cholesky)

    def log_likelihood(self) -> float:
        """Of the valid bins of these stars together, nats, eq. 1.5."""
        return self.log_density() - 0.5 * (
            math.log(2 * math.pi * self.theta.variance) * self.block.n_valid() - self.block.log_weight()
        )

    def log_density(self) -> float:
        """The part of it that depends on the latents: all but sum_p log(2 pi s^2 / a_np)."""
        log_det = 2 * self.cholesky.diagonal(dim1=1, dim2=2).log().sum()
        misfit = self.squares / self.theta.variance - (self.projection * self.mean).sum()
        return -0.5 * float(log_det + misfit)


class _Symmetric:
    """Symmetric K x K matrices as their K (K + 1) / 2 upper entries, so that sums of them are one matrix product."""

    def __init__(self, size: int) -> None:
        self.row, self.column = torch.triu_indices(size, size)
        self.position = torch.empty(size, size, dtype=torch.long)
        self.position[self.row, self.column] = self.position[self.column, self.row] = torch.arange(len(self.row))

    def pack(self, matrices: Tensor) -> Tensor:
        """(..., K, K) -> (..., K (K + 1) / 2)."""
        return matrices[..., self.row, self.column]

    def unpack(self, packed: Tensor) -> Tensor:
        """(..., K (K + 1) / 2) -> (..., K, K)."""
        return packed[..., self.position]


class _Moments:
    """The sums over stars that the M-step needs (eq. 1.6); they add up over blocks."""

    def __init__(self, n_bins: int, n_components: int) -> None:
        self.symmetric = _Symmetric(n_components + 1)
        zeros = torch.zeros
        self.normal = zeros(n_bins, len(self.symmetric.row), dtype=torch.float64)  # packed sum w E[(z,1)(z,1)^T]
        self.right = zeros(n_bins, n_components + 1, dtype=torch.float64)  # sum w (x - mean) E[(z,1)]
        self.latent = zeros(n_components + 1, n_components + 1, dtype=torch.float64)  # sum E[(z,1)(z,1)^T]
        self.squares = self.log_density = 0.0

    def add(self, posterior: Posterior) -> None:
        z = torch.nn.functional.pad(posterior.mean, (0, 1), value=1.0)
        second = torch.nn.functional.pad(posterior.covariance(), (0, 1, 0, 1)) + z[:, :, None] * z[:, None, :]
        self.normal += posterior.block.weight.T @ self.symmetric.pack(second)
        self.right += posterior.weighted.T @ z
        self.latent += second.sum(0)
        self.squares += float(posterior.squares)
        self.log_density += posterior.log_density()

    def maximise(self, mean: Tensor, n_valid: float, measured: bool) -> Parameters:
        """The M-step, eqs. 1.6 and 1.7, then the expanded latents' mean and covariance folded in, eq. 1.8."""
        normal = self.symmetric.unpack(self.normal)
        normal[self.normal[:, -1] == 0] = torch.eye(normal.shape[-1], dtype=torch.float64)  # unseen bins: solution 0
        solution = torch.cholesky_solve(self.right[..., None], torch.linalg.cholesky(normal))[..., 0]
        variance = 1.0 if measured else (self.squares - float((solution * self.right).sum())) / n_valid
        _refuse_noiseless(variance, 1.0 if measured else self.squares / n_valid)
        moments = self.latent / self.latent[-1, -1]
        centre = moments[:-1, -1]
        spread = torch.linalg.cholesky(moments[:-1, :-1] - torch.outer(centre, centre))
        loadings = solution[:, :-1]
        return Parameters(loadings @ spread, mean + solution[:, -1] + loadings @ centre, variance)


def em_step(blocks: Blocks, sums: BinSums, theta: Parameters) -> tuple[float, Parameters]:
    """(mean log-likelihood per valid bin of theta, the parameters after one EM iteration): one pass."""
    moments = _Moments(*theta.loadings.shape)
    for block in blocks:
        moments.add(Posterior(block, theta))
    n_valid = float(sums.count.sum())
    constant = n_valid * math.log(2 * math.pi * theta.variance) - sums.log_weight
    log_likelihood = (moments.log_density - 0.5 * constant) / n_valid
    return log_likelihood, moments.maximise(theta.mean, n_valid, blocks.measured)


def maximise(
    blocks: Blocks,
    sums: BinSums,
    theta: Parameters,
    tolerance: float,
    max_iterations: int,
    progress: Callable[[int, float], None] | None,
) -> tuple[Parameters, list[float], bool]:
    """EM in cycles of two steps and an extrapolation of them (Varadhan & Roland 2008), kept only where it climbs."""
    history: list[float] = []

    def record(log_likelihood: float) -> None:
        history.append(log_likelihood)
        if progress is not None:
            progress(len(history), log_likelihood)

    while len(history) < max_iterations:
        reached = history[-1] if history else -math.inf
        path = [theta]
        for _ in range(min(2, max_iterations - len(history))):
            log_likelihood, after = em_step(blocks, sums, path[-1])
            if history and not log_likelihood >= history[-1]:
                return path[-1], history, True  # rounding is all that is left
            record(log_likelihood)
            path.append(after)
        theta = path[-1]
        if len(history) < max_iterations:
            log_likelihood, after = _leap(blocks, sums, path)
            if not log_likelihood >= history[-1]:
                log_likelihood, after = em_step(blocks, sums, theta)
            if not log_likelihood >= history[-1]:
                return theta, history, True
            record(log_likelihood)
            theta = after
            if log_likelihood - reached < 3 * tolerance:
                return theta, history, True
    return theta, history, False


def _leap(blocks: Blocks, sums: BinSums, path: Sequence[Parameters]) -> tuple[float, Parameters]:
    """An EM step from the extrapolation of the path; minus infinity where that leads out of all bounds."""
    try:
        return em_step(blocks, sums, _extrapolate(*path))
    except (torch.linalg.LinAlgError, ArithmeticError, ValueError):  # type: ignore[attr-defined]  # torch's stubs
        return -math.inf, path[-1]


def _extrapolate(theta: Parameters, first: Parameters, second: Parameters) -> Parameters:
    """SQUAREM's scheme 3: along the step and its change, as far as the ratio of their lengths says; eq. 1.9."""
    start, one, two = theta.vector(), first.vector(), second.vector()
    step, change = one - start, two - 2 * one + start
    length = max(1.0, float(step.norm() / change.norm().clamp(min=torch.finfo(change.dtype).tiny)))
    return theta.at(start + 2 * length * step + length**2 * change)
