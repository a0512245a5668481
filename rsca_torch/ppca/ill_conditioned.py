"""Stars whose sums over bins have lost their digits: solved from the bins themselves (docs/maths.md, section 1).

A bin with an error a million times smaller than the others', or one that is set aside and lay 1e15 standard deviations
away, leaves nothing of the others in a sum of 16 digits.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Bins", "from_bins", "ill_conditioned", "lost_by_subtraction", "lost_in_difference", "without"]

Bins = tuple[Tensor, Tensor]  # (m,) rows of stars, (m,) bins of them

#: Condition of a star's precision, by dtype of the sums: beyond it they do not tell its latents to 8 digits (float32,
#: in which fits are made: not at all).
LARGEST = {torch.float64: 1e6, torch.float32: 1e8}
ELEMENTS = 2**23  # stars x bins x components at once: 64 MB
LEFT = {torch.float64: 1e6, torch.float32: 1e4}  # times what is kept: more than this cannot be subtracted


def ill_conditioned(cholesky: Tensor, dtype: torch.dtype) -> Tensor:
    """(n,) bool, of Cholesky factors (n, K, K) of precisions whose sums have this dtype; also where there is none.

    >>> ill_conditioned(torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1e6, 0.0], [0.0, 1.0]]]), torch.float32)
    tensor([False,  True])
    """
    diagonal = cholesky.detach().diagonal(dim1=1, dim2=2)
    ill: Tensor = ~(diagonal.amax(1) < LARGEST[dtype] ** 0.5 * diagonal.amin(1))
    return ill


def lost_by_subtraction(
    weight: Tensor, residual: Tensor, loadings: Tensor, kept: Tensor, rows: Tensor, aside: Bins
) -> Tensor:
    """(m,) bool, which stars' sums have too few digits left after their bins that are set aside were subtracted.

    Args:
        weight: (n, P) of a block of stars.
        residual: (n, P).
        loadings: (P, K).
        kept: (m,) what is left in the trace of the precision, the prior's not counted.
        rows: (m,) the stars.
        aside: what was subtracted.
    """
    star, place = aside
    heavy, length = weight[star, place].double(), loadings[place].double().norm(dim=1)
    removed, moved = torch.zeros(2, len(weight), dtype=torch.float64, device=weight.device)
    removed.index_add_(0, star, heavy * length.square())
    moved.index_add_(0, star, heavy * length * residual[star, place].double().abs())
    left = kept.double().clamp(min=0) + loadings.shape[1]
    limit = LEFT[residual.dtype] * left  # what the projection has to be known to is sqrt(left)
    lost: Tensor = ~((removed[rows] < limit) & (moved[rows] < limit / left.sqrt()))
    return lost


def lost_in_difference(squares: Tensor, residual: Tensor) -> Tensor:
    """(n,) bool, which stars' squares (n,), in units of the noise, have no digits left for what latents leave of them.

    Args:
        squares: of all bins of a star together.
        residual: (n, P) that they are of.
    """
    return squares.detach() > LEFT[residual.dtype] * residual.shape[1]


def without(weight: Tensor, rows: Tensor, aside: Bins) -> Tensor:
    """(m, P) weights of some of the stars, 0 in the bins that are set aside.

    >>> without(torch.ones(2, 2), torch.tensor([1]), (torch.tensor([0, 1]), torch.tensor([0, 1])))
    tensor([[1., 0.]])
    """
    star, place = aside
    number = torch.full((len(weight),), -1, device=weight.device)
    number[rows] = torch.arange(len(rows), device=weight.device)
    among = number[star] >= 0
    return weight[rows].index_put((number[star[among]], place[among]), weight.new_zeros(()))


def from_bins(weight: Tensor, residual: Tensor, loadings: Tensor) -> tuple[Tensor, Tensor]:
    """((n, K, K) Cholesky factor of the precision, (n, K) mean of the latents), float64, of eqs. 1.3 and 1.4.

    As least squares by QR of the bins, heaviest first, and of the prior: errors are as many digits apart as they are,
    not twice as many as in sums of their squares.

    Args:
        weight: (n, P), 0 where a bin is not used.
        residual: (n, P) flux minus the model's mean.
        loadings: (P, K).

    Example:
        >>> one = torch.ones(1, 2)
        >>> from_bins(one, torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0], [4.0]]))[1]  # 25 / (25 + 1)
        tensor([[0.9615]], dtype=torch.float64)
    """
    size = max(1, ELEMENTS // max(1, loadings.numel()))
    blocks = zip(torch.split(weight, size), torch.split(residual, size), strict=True)
    parts = [_solved(*block, loadings.double()) for block in blocks]
    cholesky, mean = zip(*parts, strict=True)
    return torch.cat(cholesky), torch.cat(mean)


def _solved(weight: Tensor, residual: Tensor, loadings: Tensor) -> tuple[Tensor, Tensor]:
    order = weight.argsort(dim=1, descending=True)
    root = weight.gather(1, order).double().sqrt()
    right = root * residual.gather(1, order).double().masked_fill(root == 0, 0)
    prior = torch.eye(loadings.shape[1]).to(loadings).expand(len(weight), -1, -1)
    whole = torch.cat([root[:, :, None] * loadings[order], prior], dim=1)
    whole = torch.cat([whole, torch.nn.functional.pad(right, (0, loadings.shape[1]))[:, :, None]], dim=2)
    _, upper = torch.linalg.qr(whole, mode="r")  # the last column becomes Q^T right
    size = loadings.shape[1]
    factor, projected = upper[:, :size, :size], upper[:, :size, size:]
    sign = torch.where(factor.diagonal(dim1=1, dim2=2) < 0, -1.0, 1.0)[:, :, None]
    factor, projected = sign * factor, sign * projected
    return factor.mT, torch.linalg.solve_triangular(factor, projected, upper=True)[..., 0]
