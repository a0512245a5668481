"""What every bin of a block of stars tells, summed over stars or over bins: in full, or as ones and what is lacking."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from rsca_torch.ppca.products import add_product

__all__ = ["DenseWeights", "ZeroOneWeights"]


class DenseWeights:
    """(n, P) weights of what every bin of every star tells.

    >>> total = torch.zeros(2, 1)
    >>> DenseWeights(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).over_stars(torch.ones(2, 1), total)
    >>> total
    tensor([[4.],
            [6.]])
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def over_stars(self, rows: Tensor, total: Tensor) -> None:
        """(n, m), added to total (P, m)."""
        add_product(total, self.weight.T, rows)


class ZeroOneWeights:
    """Weights of 1, and of 0 where unused: nearly complete bins are summed over all stars, minus what is lacking.

    Args:
        unused: (n, P) bool.
        nearly_complete: (P,) bool, the bins that few stars lack.
        dtype: of the sums.

    Example:
        >>> unused = torch.tensor([[False, False], [False, True]])
        >>> ZeroOneWeights(unused, torch.tensor([True, False]), torch.float32).over_bins(torch.tensor([[1.0], [2.0]]))
        tensor([[3.],
                [1.]])
    """

    def __init__(self, unused: Tensor, nearly_complete: Tensor, dtype: torch.dtype) -> None:
        self.complete = nearly_complete.to(dtype)
        self.others = (~nearly_complete).nonzero()[:, 0]
        self.weight = unused[:, self.others].logical_not_().to(dtype)
        star, place = (unused & nearly_complete).nonzero(as_tuple=True)
        self.lacking = _ones(star, place, unused.shape, dtype)
        place, order = place.int().sort(stable=True)
        self.lacked = _ones(place, star[order], unused.shape[::-1], dtype)

    def over_bins(self, rows: Tensor) -> Tensor:
        """(P, m) -> (n, m)."""
        total = torch.addmm(self.complete @ rows, self.weight, rows.index_select(0, self.others))
        return total.addmm_(self.lacking, rows, alpha=-1)

    def over_stars(self, rows: Tensor, total: Tensor) -> None:
        """(n, m), added to total (P, m)."""
        total.index_add_(0, self.others, self.weight.T @ rows)
        total.addr_(self.complete, rows.sum(0)).addmm_(self.lacked, rows, alpha=-1)


def _ones(row: Tensor, column: Tensor, shape: torch.Size | tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A sparse matrix of ones at places that are sorted by row."""
    first = torch.zeros(shape[0] + 1, dtype=torch.int32, device=row.device)
    torch.cumsum(torch.bincount(row, minlength=shape[0]), 0, out=first[1:])
    ones = torch.ones(len(row), dtype=dtype, device=row.device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse")  # torch: the layout is young
        return torch.sparse_csr_tensor(first, column.int(), ones, tuple(shape), check_invariants=False)
