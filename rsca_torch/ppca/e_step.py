"""The E-step on a block of stars: the latents given the valid bins, and which bins the model cannot explain."""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from rsca_torch.ppca.ill_conditioned import (
    Bins,
    from_bins,
    ill_conditioned,
    lost_by_subtraction,
    lost_in_difference,
    without,
)
from rsca_torch.ppca.products import product
from rsca_torch.ppca.set_aside import MARGIN, Candidates, SetAside
from rsca_torch.ppca.weights import DenseWeights, ZeroOneWeights
from rsca_torch.spectra.blocks import Block

__all__ = [
    "LEAST_SCATTER",
    "ROUNDS",
    "Model",
    "Parameters",
    "Posterior",
    "Symmetric",
]

ROUNDS = 10  # of setting bins aside and looking again
LEAST_SCATTER = 1e-12  # of a bin's whole variance: nothing, but positive


class Parameters(NamedTuple):
    """What EM estimates, float64; the noise variance of star n in bin p is sigma_np^2 + scatter_p (eq. 1.1).

    >>> theta = Parameters(torch.ones(2, 1), torch.zeros(2), torch.tensor(0.5))
    >>> theta.at(2 * theta.vector()).scatter
    tensor(1.)
    """

    loadings: Tensor  # (P, K)
    mean: Tensor  # (P,)
    scatter: Tensor  # () the variance of isotropic noise; (P,) a scatter of each bin; () 0: measured noise alone

    def vector(self) -> Tensor:
        """All of them in one; of the scatter what is estimated."""
        return torch.cat([self.loadings.flatten(), self.mean, self.scatter.flatten()[: self._free()]])

    def at(self, vector: Tensor) -> Parameters:
        """The parameters of the same shapes that `vector` holds."""
        loadings, mean, scatter = torch.split(vector, [self.loadings.numel(), self.mean.numel(), self._free()])
        known = scatter.view_as(self.scatter) if self._free() else self.scatter
        return Parameters(loadings.view_as(self.loadings), mean, known.maximum(LEAST_SCATTER * self.scatter.max()))

    def to(self, device: torch.device | str) -> Parameters:
        """The same on a device."""
        return Parameters(*(tensor.to(device) for tensor in self))

    def _free(self) -> int:
        return self.scatter.numel() if self.scatter.ndim or self.scatter.any() else 0


class Model:
    """Parameters in the dtype and on the device of the blocks, with the products that all blocks share.

    >>> Model(Parameters(torch.tensor([[3.0], [4.0]]), torch.zeros(2), torch.tensor(1.0)), torch.empty(0)).outer
    tensor([[ 9.],
            [16.]])
    """

    def __init__(self, theta: Parameters, like: Tensor) -> None:
        self.loadings, self.mean, self.scatter = (tensor.to(like).contiguous() for tensor in theta)
        self.symmetric = Symmetric(self.loadings.shape[1], like.device)
        self.unsettled = 0  # stars of all blocks whose bins set aside still changed in the last of the rounds

    @cached_property
    def outer(self) -> Tensor:
        """(P, K (K + 1) / 2) packed w_p w_p^T."""
        return self.loadings[:, self.symmetric.row] * self.loadings[:, self.symmetric.column]


class Posterior:
    """The latents of a block of stars given their valid bins: eqs. 1.2 to 1.5.

    Args:
        block: n stars.
        model: the parameters.
        clip: bins farther than so many standard deviations from the model are set aside (1.12). None: none are.

    Example:
        >>> block = Block(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2, dtype=torch.bool), None, n_valid=2)
        >>> theta = Parameters(torch.tensor([[3.0], [4.0]]), torch.zeros(2), torch.tensor(1.0))
        >>> Posterior(block, Model(theta, block.flux)).mean  # 25 / (25 + 1)
        tensor([[0.9615]], dtype=torch.float64)
    """

    def __init__(self, block: Block, model: Model, clip: float | None = None) -> None:
        self.block, self.model, self.clip = block, model, clip
        self.residual = block.flux - model.mean  # (n, P)
        if block.nearly_complete is not None and clip is None and model.scatter.ndim == 0:
            self._weigh_alike(block, block.nearly_complete)
        else:
            self._weigh(block)
        self.set_aside, solved = SetAside.none(self.residual), None
        if clip is not None:
            self.set_aside, solved = self._set_aside(clip)
        self.each_squares = torch.linalg.vecdot(self.weighted, self.residual).double()
        self.squares = self.scale * self.each_squares.sum()
        if solved is None or self.precision.requires_grad or self.projection.requires_grad:
            solved = self._solve(self.precision, self.projection)
        self.cholesky, self.mean = solved

    def _weigh(self, block: Block) -> None:
        """Every bin of every star by itself."""
        model = self.model
        if block.noise is None:
            self.weight = torch.where(block.unused, 0, model.scatter.reciprocal())  # (n, P)
        else:
            self.weight = (block.noise + model.scatter).reciprocal_()
        self.scale = 1.0
        self.weights: DenseWeights | ZeroOneWeights = DenseWeights(self.weight)
        self.weighted = self.weight * self.residual
        self.log_weight = _log_weight(block, model, self.weight)
        self.precision = product(self.weight, model.outer)  # packed, the prior's not in it
        self.projection = product(self.weighted, model.loadings)  # (n, K)

    def _weigh_alike(self, block: Block, nearly_complete: Tensor) -> None:
        """All valid bins alike: weights of 1, and 1 / s^2 as the scale of the sums."""
        self.scale = float(self.model.scatter.double().reciprocal())
        self.weights = ZeroOneWeights(block.unused, nearly_complete, self.residual.dtype)
        self.residual = self.weighted = torch.where(block.unused, 0, self.residual)
        self.log_weight = -block.n_valid * self.model.scatter.double().log()
        self.precision = self.scale * self.weights.over_bins(self.model.outer)
        self.projection = self.scale * product(self.weighted, self.model.loadings)

    def _solve(
        self, precision: Tensor, projection: Tensor, rows: Tensor | None = None, aside: Bins | None = None
    ) -> tuple[Tensor, Tensor]:
        """(Cholesky factor of the whole precision, mean of the latents), float64; of these rows without these bins."""
        full = self.model.symmetric.unpack(precision.double())
        full.diagonal(dim1=1, dim2=2).add_(1)
        cholesky, failed = torch.linalg.cholesky_ex(full)
        cholesky[failed > 0] = torch.nan  # of an extrapolation out of all bounds: its likelihood is not a number
        mean = torch.cholesky_solve(projection.double()[..., None], cholesky)[..., 0]
        ill = ill_conditioned(cholesky, self.residual.dtype) & full.detach().sum((1, 2)).isfinite()
        if ill.any():
            some = ill.nonzero()[:, 0] if rows is None else rows[ill]
            root, exact = from_bins(self._weights_of(some, aside), self.residual[some], self.model.loadings)
            cholesky, mean = cholesky.index_put((ill,), root), mean.index_put((ill,), exact)
        return cholesky, mean

    def _weights_of(self, rows: Tensor, aside: Bins | None = None) -> Tensor:
        """(m, P) of some stars, 0 where a bin is not used or set aside."""
        if isinstance(self.weights, ZeroOneWeights):
            return self.block.unused[rows].logical_not().to(self.residual) * self.scale
        return self.weight[rows] if aside is None else without(self.weight, rows, aside)

    def _sum_anew(self, rows: Tensor, aside: Bins) -> None:
        """The sums of those stars from which more was subtracted than their digits bear."""
        kept = self.precision[rows][:, self.model.symmetric.position.diagonal()].sum(1)
        weight, residual, loadings = (each.detach() for each in (self.weight, self.residual, self.model.loadings))
        lost = rows[lost_by_subtraction(weight, residual, loadings, kept.detach(), rows, aside)]
        if len(lost):
            weight = self._weights_of(lost, aside)
            self.precision[lost] = product(weight, self.model.outer)
            weighted = torch.where(weight > 0, weight * self.residual[lost], 0)
            self.projection[lost] = product(weighted, self.model.loadings)

    def _set_aside(self, clip: float) -> tuple[SetAside, tuple[Tensor, Tensor]]:
        """Take what is far from the model out of the sums, and look again, until nothing changes.

        Returns:
            what is set aside, and what `_solve` gives of the sums without it, but for the gradient.
        """
        precision, projection, model = self.precision.clone(), self.projection.clone(), self.model
        with torch.no_grad():  # which bins are set aside has no gradient
            root, mean = self._solve(precision, projection)
            some, seen = Candidates(self.weight, self.residual, model.loadings, clip), mean.clone()
            some.look(mean)
            cholesky = root.clone()
        for _ in range(ROUNDS):
            with torch.no_grad():
                rows = some.decide(mean)
            if not len(rows):
                break
            star, place = some.of(rows)
            self.precision[rows], self.projection[rows] = precision[rows], projection[rows]
            self.precision.index_add_(0, star, self.weight[star, place, None] * model.outer[place], alpha=-1)
            self.projection.index_add_(0, star, self.weighted[star, place, None] * model.loadings[place], alpha=-1)
            self._sum_anew(rows, (star, place))
            with torch.no_grad():
                part = self.precision[rows], self.projection[rows]
                cholesky[rows], mean[rows] = self._solve(*part, rows, (star, place))
                # As a w w^T <= P, no bin comes nearer or goes farther, in standard deviations, than |root^T change|.
                moved = (root[rows].mT @ (mean - seen)[rows, :, None]).norm(dim=(1, 2))
                far = rows[moved > MARGIN]
                if len(far):
                    some.look(mean, far)
                    seen[far] = mean[far]
        else:
            model.unsettled += len(rows)
        star, place = some.stars[some.aside], some.bins[some.aside]
        weight = self.weight[star, place]
        if self.weighted.requires_grad:  # autograd needs what the sums were made of
            self.weight, self.weighted = self.weight.clone(), self.weighted.clone()
        self.weight[star, place] = self.weighted[star, place] = 0
        return SetAside(star, place, weight), (cholesky, mean)

    def deviations(self) -> Tensor:
        """(m,) float64: how far the bins that are set aside lie from the model, in standard deviations."""
        star, place, weight = self.set_aside
        explained = (self.mean[star] * self.model.loadings[place]).sum(1)
        deviations: Tensor = (self.residual[star, place] - explained) * weight.sqrt()
        return deviations.double()

    def covariance(self) -> Tensor:
        """(n, K, K) float64."""
        return torch.cholesky_inverse(self.cholesky)

    def log_likelihood(self) -> Tensor:
        """Of the valid bins of these stars together, nats, eqs. 1.5 and 1.12."""
        log_det = 2 * self.cholesky.diagonal(dim1=1, dim2=2).log().sum()
        aside = 0.0 if self.clip is None else self.clip**2 * len(self.set_aside.stars)
        constant = math.log(2 * math.pi) * self.block.n_valid - self.log_weight
        total: Tensor = constant + aside + log_det + self._left()
        return -0.5 * total

    def _left(self) -> Tensor:
        """The squares that the latents do not explain, of all stars together, in units of the noise."""
        each = self.scale * self.each_squares
        ill = ill_conditioned(self.cholesky, self.residual.dtype) | lost_in_difference(each, self.residual)
        if not ill.any():
            left: Tensor = self.squares - (self.projection * self.mean).sum()
            return left
        each = each - (self.projection * self.mean).sum(1)
        rows, mean = ill.nonzero()[:, 0], self.mean[ill]
        weight, model = self._weights_of(rows).double(), self.model.loadings.double()
        misfit = (weight * (self.residual[rows].double() - mean @ model.T).square()).sum(1) + mean.square().sum(1)
        total: Tensor = each.index_put((ill,), misfit).sum()
        return total


def _log_weight(block: Block, model: Model, weight: Tensor) -> Tensor:
    """Sum over the valid bins."""
    if block.noise is not None or model.scatter.ndim:
        return weight.log().nan_to_num_(math.nan, math.nan, 0).sum(1).double().sum()
    return -block.n_valid * model.scatter.double().log()


class Symmetric:
    """Symmetric K x K matrices as their K (K + 1) / 2 upper entries, so that sums of them are one matrix product.

    >>> symmetric = Symmetric(2)
    >>> symmetric.pack(torch.tensor([[1, 2], [2, 3]])), symmetric.unpack(torch.tensor([1, 2, 3]))
    (tensor([1, 2, 3]), tensor([[1, 2],
            [2, 3]]))
    """

    def __init__(self, size: int, device: torch.device | str = "cpu") -> None:
        self.row, self.column = torch.triu_indices(size, size, device=device)
        self.position = torch.empty(size, size, dtype=torch.long, device=device)
        self.position[self.row, self.column] = torch.arange(len(self.row), device=device)
        self.position[self.column, self.row] = self.position[self.row, self.column]

    def pack(self, matrices: Tensor) -> Tensor:
        """(..., K, K) -> (..., K (K + 1) / 2)."""
        return matrices[..., self.row, self.column]

    def unpack(self, packed: Tensor) -> Tensor:
        """(..., K (K + 1) / 2) -> (..., K, K)."""
        return packed[..., self.position]
