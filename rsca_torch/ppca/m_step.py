"""One EM iteration of masked PPCA: sums over the stars, and the M-step from them (docs/maths.md, eqs. 1.6 to 1.11)."""

from __future__ import annotations

import torch
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.ppca.e_step import LEAST_SCATTER, Model, Parameters, Posterior, Symmetric
from rsca_torch.ppca.weights import DenseWeights, ZeroOneWeights
from rsca_torch.spectra.blocks import Blocks, Noise

__all__ = ["Moments", "moments_of", "require_noise", "solutions"]

STARS_A_SUM = 4096  # that products of float32 are summed over before they join a sum of float64
BINS_AT_ONCE = 512  # whose (K + 1) x (K + 1) matrices are unpacked: of all they would be 450 MB at K = 60


class _Sum:
    """A sum of products over blocks of stars: in their own dtype at first, every few thousand stars in float64."""

    def __init__(self, *shape: int, device: torch.device) -> None:
        self.total = torch.zeros(shape, dtype=torch.float64, device=device)
        self._part: Tensor | None = None
        self._stars = 0

    def add(self, weights: DenseWeights | ZeroOneWeights, rows: Tensor) -> None:
        """Add the weighted sum of (n, m) rows of n stars."""
        if self._part is None:
            self._part = self.total if rows.dtype == torch.float64 else torch.zeros_like(self.total, dtype=rows.dtype)
        weights.over_stars(rows, self._part)
        self._stars += len(rows)
        if self._stars >= STARS_A_SUM:
            self.collect()

    def collect(self) -> Tensor:
        """The sum so far, float64."""
        if self._part is not None and self._part is not self.total:
            self.total += self._part
            self._part.zero_()
        self._stars = 0
        return self.total


class Moments:
    """The sums over stars that the M-step needs (eqs. 1.6 and 1.11), float64; they add up over blocks and machines.

    Args:
        theta: the parameters that the posteriors are of.
        noise: as in `fit_ppca`.

    Example:
        >>> from rsca_torch.spectra.blocks import Arrays
        >>> theta = Parameters(torch.ones(9, 1).double(), torch.zeros(9).double(), torch.tensor(1.0).double())
        >>> moments = Moments(theta, "isotropic")
        >>> for block in Blocks(Arrays(torch.eye(20, 9)), "isotropic"):
        ...     moments.add(Posterior(block, Model(theta, block.flux)))
        >>> moments.maximise()[0].loadings.shape
        torch.Size([9, 1])
    """

    def __init__(self, theta: Parameters, noise: Noise) -> None:
        n_bins, n_components = theta.loadings.shape
        self.theta, self.noise = theta, noise
        self.symmetric = Symmetric(n_components + 1, theta.mean.device)

        shape, device = (n_bins, len(self.symmetric.row)), theta.mean.device
        zeros = theta.mean.new_zeros
        self.normal = _Sum(*shape, device=device)  # packed sum of weight E[y y^T], y = (z, 1)
        self.right = _Sum(n_bins, n_components + 1, device=device)  # sum of weight residual E[y]
        self.latent = zeros(n_components + 1, n_components + 1)  # sum of E[y y^T]
        self.squares, self.log_likelihood_sum, self.n_valid, self.n_set_aside = zeros(4)
        self.for_scatter = None if noise != "measured+scatter" else _ScatterSums(*shape, n_components, device)

    def tensors(self) -> list[Tensor]:
        """All sums, for adding up over processes in place."""
        scalars = [self.squares, self.log_likelihood_sum, self.n_valid, self.n_set_aside]
        more = [] if self.for_scatter is None else self.for_scatter.tensors()
        return [self.normal.collect(), self.right.collect(), self.latent, *scalars, *more]

    def add(self, posterior: Posterior) -> None:
        """Add the stars of a block."""
        y = torch.nn.functional.pad(posterior.mean, (0, 1), value=1.0)
        second = torch.nn.functional.pad(posterior.covariance(), (0, 1, 0, 1)) + y[:, :, None] * y[:, None, :]
        packed, first = (
            (posterior.scale * moment).to(posterior.residual) for moment in (self.symmetric.pack(second), y)
        )
        self.normal.add(posterior.weights, packed)
        self.right.add(DenseWeights(posterior.weighted), first)
        self.latent += second.sum(0)
        self.squares += posterior.squares
        self.log_likelihood_sum += posterior.log_likelihood()
        self.n_valid += posterior.block.n_valid
        self.n_set_aside += len(posterior.set_aside.stars)
        if self.for_scatter is not None:
            self.for_scatter.add(posterior, packed, first)

    @property
    def log_likelihood(self) -> float:
        """Mean per valid bin of the parameters that the posteriors were of, nats."""
        return float(self.log_likelihood_sum / self.n_valid)

    @property
    def share_set_aside(self) -> float:
        """Share of the valid bins that were set aside."""
        return float(self.n_set_aside / self.n_valid)

    def maximise(self) -> tuple[Parameters, Parameters | None]:
        """The M-step, eqs. 1.6 and 1.7, then the expanded latents' mean and covariance folded in, eq. 1.8.

        With a scatter of each bin twice: with its fast step (1.10), and with its slow one (1.11), which cannot fall.
        """
        solution = solutions(self.symmetric, self.normal.collect(), self.right.collect())
        moments = self.latent / self.latent[-1, -1]
        centre = moments[:-1, -1]
        spread = torch.linalg.cholesky(moments[:-1, :-1] - torch.outer(centre, centre))
        loadings = solution[:, :-1]
        loadings, mean = loadings @ spread, self.theta.mean + solution[:, -1] + loadings @ centre
        if self.for_scatter is None:
            return Parameters(loadings, mean, self._variance(solution)), None
        fast, slow = self.for_scatter.scatters(solution, self.theta.scatter, self.symmetric)
        return Parameters(loadings, mean, fast), Parameters(loadings, mean, slow)

    def _variance(self, solution: Tensor) -> Tensor:
        """The scatter of isotropic noise; none of measured noise."""
        if self.noise != "isotropic":
            return self.theta.scatter
        left = float(self.squares - (solution * self.right.collect()).sum())
        require_noise(left, float(self.squares))
        return self.theta.scatter * (left / float(self.n_valid))


class _ScatterSums:
    """The sums with the squares of the weights that the scatter's steps need (eqs. 1.10 and 1.11)."""

    def __init__(self, n_bins: int, n_packed: int, n_components: int, device: torch.device) -> None:
        self.normal = _Sum(n_bins, n_packed, device=device)
        self.right = _Sum(n_bins, n_components + 1, device=device)
        self.squares, self.valid, self.valid_square = torch.zeros(3, n_bins, dtype=torch.float64, device=device)

    def tensors(self) -> list[Tensor]:
        """normal, right, squares (P,); weight and weight^2 (P,) of all valid bins, those set aside too."""
        return [self.normal.collect(), self.right.collect(), self.squares, self.valid, self.valid_square]

    def add(self, posterior: Posterior, packed: Tensor, first: Tensor) -> None:
        """Add the stars of a block."""
        square = posterior.weight.square()
        self.normal.add(DenseWeights(square), packed)
        self.right.add(DenseWeights(posterior.weighted * posterior.weight), first)
        self.squares += posterior.weighted.square().sum(0)
        self.valid += posterior.weight.sum(0)
        self.valid_square += square.sum(0)
        weights = posterior.set_aside.weights.double()
        self.valid.index_add_(0, posterior.set_aside.bins, weights)
        self.valid_square.index_add_(0, posterior.set_aside.bins, weights.square())

    def scatters(self, solution: Tensor, scatter: Tensor, symmetric: Symmetric) -> tuple[Tensor, Tensor]:
        """(P,) by eq. 1.10 and by eq. 1.11."""
        normal, right, squares, valid, valid_square = self.tensors()
        parts = zip(torch.split(normal, BINS_AT_ONCE), torch.split(solution, BINS_AT_ONCE), strict=True)
        quadratic = torch.cat([torch.einsum("pi,pij,pj->p", s, symmetric.unpack(some), s) for some, s in parts])
        misfit = (squares - 2 * (solution * right).sum(1) + quadratic).clamp(min=0)
        seen = valid > 0
        fast = torch.where(seen, scatter + (misfit - valid) / valid_square, scatter)
        slow = scatter * torch.where(seen, misfit / valid, 1).sqrt()
        least = LEAST_SCATTER * (valid / valid_square)[seen].max()  # of a bin's whole variance
        return fast.maximum(least), slow.maximum(least)


def solutions(symmetric: Symmetric, normal: Tensor, right: Tensor) -> Tensor:
    """(P, K + 1) loadings and change of the mean: what solves eq. 1.6 of every bin.

    Args:
        symmetric: packs matrices of size K + 1.
        normal: (P, (K + 1) (K + 2) / 2) packed matrices of the equations.
        right: (P, K + 1) right-hand sides.

    Raises:
        InputError: where a bin's equations are singular in this precision.

    Example:
        >>> solutions(Symmetric(2), torch.tensor([[2.0, 0.0, 2.0]]), torch.ones(1, 2))
        tensor([[0.5000, 0.5000]])
    """
    parts = zip(torch.split(normal, BINS_AT_ONCE), torch.split(right, BINS_AT_ONCE), strict=True)
    solved, failed = zip(*(_solved(symmetric.unpack(some), rows) for some, rows in parts), strict=True)
    if any(failed):
        raise InputError(
            f"the equations of {sum(failed)} bins have no solution in this precision: "
            "give products='float64', or more stars that have those bins"
        )
    return torch.cat(solved)


def _solved(normal: Tensor, right: Tensor) -> tuple[Tensor, int]:
    """(p, K + 1), and in how many bins that failed."""
    normal[normal[:, -1, -1] == 0] = torch.eye(normal.shape[-1]).to(normal)  # unused bins: solution 0
    cholesky, failed = torch.linalg.cholesky_ex(normal)
    return torch.cholesky_solve(right[..., None], cholesky)[..., 0], int((failed > 0).sum())


def require_noise(variance: float, total: float) -> None:
    """Refuse noise that is nothing beside the whole.

    Raises:
        InputError: where it is less than 1e-12 of it.

    Example:
        >>> require_noise(variance=0.1, total=1.0)
    """
    if total == 0:
        raise InputError("the spectra are the same, or nearly so that squares are 0: components fit them without noise")
    if not variance > 1e-12 * total:
        raise InputError(
            f"the components fit the spectra without noise (variance {variance:.2g} of {total:.2g}): "
            "give more stars or bins that differ, or fewer n_components"
        )


def moments_of(blocks: Blocks, theta: Parameters, clip: float | None = None, numbers: range | None = None) -> Moments:
    """The E-step of one EM iteration: what the spectra say of theta, and the sums for its M-step.

    Args:
        blocks: the spectra.
        theta: the parameters.
        clip: as in `Posterior`.
        numbers: of the blocks that are looked at. None: all.

    Example:
        >>> from rsca_torch.spectra.blocks import Arrays
        >>> theta = Parameters(torch.ones(9, 1).double(), torch.zeros(9).double(), torch.tensor(1.0).double())
        >>> moments = moments_of(Blocks(Arrays(torch.eye(20, 9)), "isotropic"), theta)
        >>> after, _ = moments.maximise()
        >>> moments_of(Blocks(Arrays(torch.eye(20, 9)), "isotropic"), after).log_likelihood > moments.log_likelihood
        True
    """
    moments = Moments(theta, blocks.noise)
    model: Model | None = None
    for block in blocks if numbers is None else (blocks[number] for number in numbers):
        model = model or Model(theta, block.flux)
        moments.add(Posterior(block, model, clip))
    return moments
