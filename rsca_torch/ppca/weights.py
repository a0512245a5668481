"""Sums weighted by what every bin of every star tells, over the bins and over the stars."""

from __future__ import annotations

import warnings
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Counted", "Dense", "Weights"]


class Weights(Protocol):
    """Of n stars and P bins."""

    def over_bins(self, rows: Tensor) -> Tensor:
        """(P, m) -> (n, m)."""

    def over_stars(self, rows: Tensor, total: Tensor) -> None:
        """(n, m), added to total (P, m)."""


class Dense:
    """(n, P) weights."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def over_bins(self, rows: Tensor) -> Tensor:
        """(P, m) -> (n, m)."""
        return self.weight @ rows

    def over_stars(self, rows: Tensor, total: Tensor) -> None:
        """(n, m), added to total (P, m)."""
        total.addmm_(self.weight.T, rows)


class Counted:
    """Weights of 1, and of 0 where unused: bins that few stars lack are summed whole, less what is lacking.

    Args:
        unused: (n, P) bool.
        rare: (P,) bool, the bins that few stars lack.
        dtype: of the sums.
    """

    def __init__(self, unused: Tensor, rare: Tensor, dtype: torch.dtype) -> None:
        self.whole = rare.to(dtype)
        self.often = (~rare).nonzero()[:, 0]
        self.weight = unused[:, self.often].logical_not_().to(dtype)
        star, place = (unused & rare).nonzero(as_tuple=True)
        self.lacking = _ones(star, place, unused.shape, dtype)
        place, order = place.int().sort(stable=True)
        self.lacked = _ones(place, star[order], unused.shape[::-1], dtype)

    def over_bins(self, rows: Tensor) -> Tensor:
        """(P, m) -> (n, m)."""
        total = torch.addmm(self.whole @ rows, self.weight, rows.index_select(0, self.often))
        return total.addmm_(self.lacking, rows, alpha=-1)

    def over_stars(self, rows: Tensor, total: Tensor) -> None:
        """(n, m), added to total (P, m)."""
        total.index_add_(0, self.often, self.weight.T @ rows)
        total.addr_(self.whole, rows.sum(0)).addmm_(self.lacked, rows, alpha=-1)


def _ones(row: Tensor, column: Tensor, shape: torch.Size | tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A sparse matrix of ones at places that are sorted by row."""
    first = torch.zeros(shape[0] + 1, dtype=torch.int32, device=row.device)
    torch.cumsum(torch.bincount(row, minlength=shape[0]), 0, out=first[1:])
    ones = torch.ones(len(row), dtype=dtype, device=row.device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse")  # torch: the layout is young
        return torch.sparse_csr_tensor(first, column.int(), ones, tuple(shape), check_invariants=False)
