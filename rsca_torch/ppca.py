"""Step 1, masked probabilistic PCA: exact EM with every invalid bin marginalised (docs/maths.md, section 1)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from rsca_torch.arrays import Array, as_tensor
from rsca_torch.errors import InputError, NumericalWarning

__all__ = ["MaskedPPCA", "Noise", "fit_ppca"]

Noise = Literal["isotropic", "measured"]

BLOCK_ELEMENTS = 4_000_000  # stars x bins worked on at once: 32 MB an array in float64
KEPT_ELEMENTS = 40_000_000  # spectra of no more stars x bins stay in memory in float64 between passes: 640 MB
OVERSAMPLING = 10  # of the range finder that gives the start
START_PASSES = 4


class MaskedPPCA(nn.Module):
    """x_n = mean + loadings z_n + noise, z_n ~ N(0, I): spectra in, posterior means of the latents out.

    Made by `fit_ppca`. The columns of the loadings are orthogonal, ordered by the variance that they explain, the
    largest entry of each positive. A bin that no star of the fit had has loading 0 and mean NaN and is never used.

    Attributes:
        loadings: (P, K) float64, flux per unit latent.
        mean: (P,) float64.
        bin_variance: (P,) float64, the noise of a bin where a star's own is not given: the fitted variance
            (isotropic) or the harmonic mean of the stars' sigma^2 (measured).
        noise_variance: the fitted variance of every bin (isotropic), None (measured).
        history: mean log-likelihood per valid bin (nats), one an iteration, never falling.
        converged: whether the last iterations gained less than the tolerance.
    """

    loadings: Tensor
    mean: Tensor
    bin_variance: Tensor

    def __init__(
        self,
        loadings: Tensor,
        mean: Tensor,
        bin_variance: Tensor,
        noise_variance: float | None,
        history: list[float] | None = None,
        converged: bool = True,
    ) -> None:
        super().__init__()
        self.register_buffer("loadings", loadings.contiguous())
        self.register_buffer("mean", mean)
        self.register_buffer("bin_variance", bin_variance)
        self.noise_variance = noise_variance
        self.history = history or []
        self.converged = converged

    @property
    def n_components(self) -> int:
        """K."""
        return self.loadings.shape[1]

    @property
    def scales(self) -> Tensor:
        """(K,) lengths of the loadings' columns: |scales * (z - z')| is the distance of two stars' model spectra."""
        lengths: Tensor = self.loadings.norm(dim=0)
        return lengths

    def forward(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> Tensor:
        """(N, K) float64 posterior mean of the latents, eq. 1.4; 0, the prior's, for a star with no valid bin.

        Args:
            flux: (N, P); what stands in an invalid bin never matters.
            valid: (N, P) bool, True = use. None: every finite flux.
            sigma: (N, P) standard errors, used where the model was fitted with measured noise. None: bin_variance.

        Raises:
            InputError: where shapes disagree, or a valid bin is not finite or has no positive error.
        """
        none = self.loadings.new_zeros(0, self.n_components, dtype=torch.float64)
        return torch.cat([none, *(posterior.mean for posterior in self._posteriors(flux, valid, sigma))])

    def posterior(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> tuple[Tensor, Tensor]:
        """((N, K) mean, (N, K, K) covariance) of the latents given the valid bins, eqs. 1.3 and 1.4."""
        none = self.loadings.new_zeros(0, self.n_components, dtype=torch.float64)
        posteriors = list(self._posteriors(flux, valid, sigma))
        means, covariances = ([p.mean for p in posteriors], [p.covariance() for p in posteriors])
        return torch.cat([none, *means]), torch.cat([none[:, :, None] * none[:, None], *covariances])

    def log_likelihood(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> float:
        """Log-likelihood of all valid bins of all stars together, nats, eq. 1.5."""
        return math.fsum(posterior.log_likelihood() for posterior in self._posteriors(flux, valid, sigma))

    def reconstruct(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> Tensor:
        """(N, P) loadings zbar + mean: the model's flux in every bin (NaN where no star of the fit had the bin)."""
        latents: Tensor = self(flux, valid, sigma)
        return latents @ self.loadings.double().T + self.mean.double()

    def linear_map(self) -> Tensor:
        """(K, P) A with zbar = A (x - mean) for a star whose bins are all valid and have the noise bin_variance."""
        scaled = self.loadings / self.bin_variance[:, None]
        precision = torch.eye(self.n_components).to(scaled) + scaled.T @ self.loadings
        return torch.cholesky_solve(scaled.T, torch.linalg.cholesky(precision))

    def _posteriors(self, flux: Array, valid: Array | None, sigma: Array | None) -> Iterator[_Posterior]:
        if flux.ndim != 2 or flux.shape[1] != len(self.mean):
            raise InputError(f"the model has {len(self.mean)} bins, flux has shape {tuple(flux.shape)}: bring it there")
        measured = self.noise_variance is None and sigma is not None
        blocks = _Blocks(flux, valid, sigma if measured else None, "measured" if measured else "isotropic")
        known = self.mean.isfinite()
        parameters = _Parameters(self.loadings.double(), self.mean.double().nan_to_num(), 1.0)
        for block in blocks:
            weight = block.weight * known
            yield _Posterior(_Block(block.flux, weight if measured else weight / self.bin_variance), parameters)


def fit_ppca(
    flux: Array,
    valid: Array | None = None,
    n_components: int = 30,
    sigma: Array | None = None,
    noise: Noise | None = None,
    tolerance: float = 1e-7,
    max_iterations: int = 1000,
    progress: Callable[[int, float], None] | None = None,
) -> MaskedPPCA:
    """Maximum-likelihood PPCA of spectra with invalid bins (docs/maths.md, section 1).

    Exact EM with parameter expansion and accelerated by extrapolation, from a deterministic start. Spectra are
    read in blocks, so `flux` may be memory-mapped; nothing of size stars x bins x components is made.

    Args:
        flux: (N, P) floating point; what stands in an invalid bin never matters, NaN and inf included.
        valid: (N, P) bool, True = use. None: every finite flux (and error, where given).
        n_components: K, less than N - 1 and P.
        sigma: (N, P) standard errors of the flux: the noise of every bin is known.
        noise: "isotropic" (one unknown variance) or "measured" (sigma^2). None: measured where sigma is given.
        tolerance: stop when an iteration gains less than this in mean log-likelihood per valid bin (nats).
        max_iterations: at most so many EM iterations, each a pass over the spectra.
        progress: called with (iteration, mean log-likelihood per valid bin) after each iteration.

    Raises:
        InputError: for shapes that disagree, valid bins that are not finite, K beyond what the data can carry,
            or spectra that K components fit without any noise.

    Warns:
        NumericalWarning: where bins without a valid star are left out, or EM has not converged.
    """
    noise = noise or ("isotropic" if sigma is None else "measured")
    if not isinstance(n_components, int):
        raise InputError(f"n_components must be a whole number, got {n_components!r}")
    if max_iterations < 1 or not tolerance >= 0:
        raise InputError(f"max_iterations >= 1 and tolerance >= 0 expected, got {max_iterations} and {tolerance}")
    blocks = _Blocks(flux, valid, sigma, noise)
    limit = min(blocks.n_stars - 1, blocks.n_bins) - 1
    if not 1 <= n_components <= limit:
        raise InputError(
            f"n_components={n_components}, but {blocks.n_stars} stars with {blocks.n_bins} bins "
            f"can carry between 1 and {max(limit, 0)}"
        )
    blocks.keep()
    sums = _bin_sums(blocks)
    if not sums.count.any():
        raise InputError(f"none of the {blocks.n_stars} x {blocks.n_bins} bins is valid: there is nothing to fit")
    unseen = int((sums.count == 0).sum())
    if unseen:
        _warn(f"{unseen} of {blocks.n_bins} bins have no valid star: left out (loading 0, mean NaN)")
    theta = _start(blocks, sums, n_components)
    theta, history, converged = _maximise(blocks, sums, theta, tolerance, max_iterations, progress)
    if not converged:
        _warn(f"PPCA has not converged in {len(history)} iterations (tolerance {tolerance:g}): raise max_iterations")
    seen = sums.count > 0
    bin_variance = torch.where(seen, theta.variance * sums.count / sums.weight, 1.0)
    return MaskedPPCA(
        _principal_axes(theta.loadings),
        torch.where(seen, theta.mean, torch.nan),
        bin_variance,
        theta.variance if noise == "isotropic" else None,
        history,
        converged,
    )


def _warn(message: str) -> None:
    warnings.warn(message, NumericalWarning, stacklevel=3)


@dataclass(frozen=True)
class _Parameters:
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

    def at(self, vector: Tensor) -> _Parameters:
        """The parameters of the same shapes that `vector` holds."""
        n_bins = len(self.mean)
        return _Parameters(
            vector[: -n_bins - 1].view_as(self.loadings), vector[-n_bins - 1 : -1], math.exp(float(vector[-1]))
        )


@dataclass(frozen=True)
class _Block:
    """Some stars, float64: flux (n, P), 0 where invalid; weight (n, P), 0 where invalid, else 1 or 1 / sigma^2."""

    flux: Tensor
    weight: Tensor

    def log_weight(self) -> float:
        """Sum over the valid bins."""
        return float(torch.where(self.weight > 0, self.weight, 1).log().sum())

    def n_valid(self) -> int:
        """How many valid bins."""
        return int(torch.count_nonzero(self.weight))


class _Blocks:
    """The spectra as blocks of stars, read anew on every pass unless they are few."""

    def __init__(self, flux: Array, valid: Array | None, sigma: Array | None, noise: Noise) -> None:
        if flux.ndim != 2:
            raise InputError(f"flux must have shape (stars, bins), got {tuple(flux.shape)}")
        for name, given in (("valid", valid), ("sigma", sigma)):
            if given is not None and tuple(given.shape) != tuple(flux.shape):
                raise InputError(f"{name} must have the shape of flux {tuple(flux.shape)}, got {tuple(given.shape)}")
        if noise not in ("isotropic", "measured"):
            raise InputError(f"noise must be isotropic or measured, got {noise!r}")
        if noise == "measured" and sigma is None:
            raise InputError("measured noise needs sigma, the (N, P) errors of the flux: give it, or noise='isotropic'")
        self.flux, self.valid, self.sigma = flux, valid, sigma
        self.measured = noise == "measured"
        self.n_stars: int = flux.shape[0]
        self.n_bins: int = flux.shape[1]
        self.rows = max(1, BLOCK_ELEMENTS // max(1, self.n_bins))
        self.kept: list[_Block] = []

    def keep(self) -> None:
        """Hold the blocks in memory where that is little."""
        if self.n_stars * self.n_bins <= KEPT_ELEMENTS:
            self.kept = list(self)

    def __iter__(self) -> Iterator[_Block]:
        if self.kept:
            yield from self.kept
            return
        for first in range(0, self.n_stars, self.rows):
            yield self._block(slice(first, first + self.rows))

    def _block(self, rows: slice) -> _Block:
        flux = as_tensor(self.flux[rows])
        sigma = as_tensor(self.sigma[rows]) if self.measured and self.sigma is not None else None
        if self.valid is None:
            valid = flux.isfinite() if sigma is None else flux.isfinite() & sigma.isfinite()
        else:
            valid = as_tensor(self.valid[rows]).bool()
        flux = torch.where(valid, flux, 0).double()
        weight = valid.double()
        if sigma is not None:
            sigma = torch.where(valid, sigma, 1).double()
            weight /= sigma.square()
            if not (sigma.min() > 0 and sigma.max() < torch.inf):  # false for NaN too
                raise InputError("some valid bins have an error that is not positive and finite: mark them invalid")
        if not flux.sum().isfinite():
            raise InputError("some valid bins have a flux that is not finite: mark them invalid")
        return _Block(flux, weight)


@dataclass(frozen=True)
class _BinSums:
    """What EM never changes: sums over the stars that have a bin valid, and over all valid bins."""

    count: Tensor  # (P,) how many stars
    weight: Tensor  # (P,)
    flux: Tensor  # (P,)
    log_weight: float


def _bin_sums(blocks: _Blocks) -> _BinSums:
    count = weight = flux = torch.zeros(blocks.n_bins, dtype=torch.float64)
    log_weight = 0.0
    for block in blocks:
        count = count + (block.weight > 0).sum(0)
        weight = weight + block.weight.sum(0)
        flux = flux + block.flux.sum(0)
        log_weight += block.log_weight() if blocks.measured else 0.0
    return _BinSums(count, weight, flux, log_weight)


def _start(blocks: _Blocks, sums: _BinSums, n_components: int) -> _Parameters:
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
    return _Parameters(basis * scale, mean, 1.0 if blocks.measured else noise)


def _refuse_noiseless(variance: float, total: float) -> None:
    if not variance > 1e-12 * total:
        raise InputError(
            f"the components fit the spectra without noise (variance {variance:.2g} of {total:.2g}): "
            "give more stars or bins that differ, or fewer n_components"
        )


class _Posterior:
    """The latents of a block of stars given their valid bins: eqs. 1.3 to 1.5."""

    def __init__(self, block: _Block, theta: _Parameters) -> None:
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

    def add(self, posterior: _Posterior) -> None:
        z = torch.nn.functional.pad(posterior.mean, (0, 1), value=1.0)
        second = torch.nn.functional.pad(posterior.covariance(), (0, 1, 0, 1)) + z[:, :, None] * z[:, None, :]
        self.normal += posterior.block.weight.T @ self.symmetric.pack(second)
        self.right += posterior.weighted.T @ z
        self.latent += second.sum(0)
        self.squares += float(posterior.squares)
        self.log_density += posterior.log_density()

    def maximise(self, mean: Tensor, n_valid: float, measured: bool) -> _Parameters:
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
        return _Parameters(loadings @ spread, mean + solution[:, -1] + loadings @ centre, variance)


def _em_step(blocks: _Blocks, sums: _BinSums, theta: _Parameters) -> tuple[float, _Parameters]:
    """(mean log-likelihood per valid bin of theta, the parameters after one EM iteration): one pass."""
    moments = _Moments(*theta.loadings.shape)
    for block in blocks:
        moments.add(_Posterior(block, theta))
    n_valid = float(sums.count.sum())
    constant = n_valid * math.log(2 * math.pi * theta.variance) - sums.log_weight
    log_likelihood = (moments.log_density - 0.5 * constant) / n_valid
    return log_likelihood, moments.maximise(theta.mean, n_valid, blocks.measured)


def _maximise(
    blocks: _Blocks,
    sums: _BinSums,
    theta: _Parameters,
    tolerance: float,
    max_iterations: int,
    progress: Callable[[int, float], None] | None,
) -> tuple[_Parameters, list[float], bool]:
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
            log_likelihood, after = _em_step(blocks, sums, path[-1])
            if history and not log_likelihood >= history[-1]:
                return path[-1], history, True  # rounding is all that is left
            record(log_likelihood)
            path.append(after)
        theta = path[-1]
        if len(history) < max_iterations:
            log_likelihood, after = _leap(blocks, sums, path)
            if not log_likelihood >= history[-1]:
                log_likelihood, after = _em_step(blocks, sums, theta)
            if not log_likelihood >= history[-1]:
                return theta, history, True
            record(log_likelihood)
            theta = after
            if log_likelihood - reached < 3 * tolerance:
                return theta, history, True
    return theta, history, False


def _leap(blocks: _Blocks, sums: _BinSums, path: Sequence[_Parameters]) -> tuple[float, _Parameters]:
    """An EM step from the extrapolation of the path; minus infinity where that leads out of all bounds."""
    try:
        return _em_step(blocks, sums, _extrapolate(*path))
    except (torch.linalg.LinAlgError, ArithmeticError, ValueError):  # type: ignore[attr-defined]  # torch's stubs
        return -math.inf, path[-1]


def _extrapolate(theta: _Parameters, first: _Parameters, second: _Parameters) -> _Parameters:
    """SQUAREM's scheme 3: along the step and its change, as far as the ratio of their lengths says; eq. 1.9."""
    start, one, two = theta.vector(), first.vector(), second.vector()
    step, change = one - start, two - 2 * one + start
    length = max(1.0, float(step.norm() / change.norm().clamp(min=torch.finfo(change.dtype).tiny)))
    return theta.at(start + 2 * length * step + length**2 * change)


def _principal_axes(loadings: Tensor) -> Tensor:
    """The same W W^T with orthogonal columns, the longest first, the largest entry of each positive."""
    left, lengths, _ = torch.linalg.svd(loadings, full_matrices=False)
    axes: Tensor = left * lengths
    return axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
