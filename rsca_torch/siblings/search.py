"""Exact search for the most alike stars: products of float32 rule pairs out, direct differences in float64 decide.

What is sought are the n smallest of |q - y|^2 - bonus_y over the stars y. A block of products has a rounding error that
is known (Higham 2002, section 3.1): no more than c (|q|^2 + |y|^2 + |bonus_y|). So whoever is beyond the n-th best by
more than that is no answer, and everybody else is compared anew, by differences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.ppca.products import product
from rsca_torch.spectra.arrays import Array, all_finite, as_tensor

__all__ = ["Neighbours", "nearest"]

QUERIES, STARS = 256, 8192  # of one block of products: 8 MB, which stay in the processor's cache
CHUNK = 2**17  # differences held at a time

#: (m,) numbers of queries and (b,) of stars -> (m, b) bool, the pairs that may be compared.
Allowed = Callable[[NDArray[np.int64], NDArray[np.int64]], Tensor]


class Neighbours(NamedTuple):
    """The n best of each query, best first; equals in the order of their rows.

    Attributes:
        rows: (m, n) int64 of the stars; -1 where there are fewer.
        squared: (m, n) float64, |q - y|^2 - bonus_y; inf where there are fewer.
        compared: (m,) int64, with how many stars each query was compared.
    """

    rows: Tensor
    squared: Tensor
    compared: Tensor


def nearest(
    queries: Array,
    stars: Array,
    n: int,
    bonus: Array | None = None,
    allowed: Allowed | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Neighbours:
    """The n stars nearest to each query, exactly: those that a comparison of all pairs in float64 would find.

    Nothing of size m x N is made; stars are read once, block by block, from memory or from a file (`np.memmap`).

    Args:
        queries: (m, D), finite.
        stars: (N, D), finite.
        n: how many.
        bonus: (N,) what is subtracted from the squared distance to each star. None: nothing.
        allowed: says of blocks of queries and stars which pairs may be compared. None: all.
        progress: called with (stars done, N) after each block.

    Raises:
        InputError: for shapes that disagree, values that are not finite, or n below 1.

    Examples:
        Duplicates come in the order of their rows:

        >>> stars = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0], [3.0, 4.0]])
        >>> found = nearest(torch.tensor([[3.0, 4.0]]), stars, 3)
        >>> found.rows, found.squared
        (tensor([[1, 3, 2]]), tensor([[ 0.,  0., 20.]], dtype=torch.float64))
    """
    asked = as_tensor(queries).double()
    if asked.ndim != 2 or len(stars.shape) != 2 or asked.shape[1] != stars.shape[1]:
        raise InputError(f"queries (m, D) and stars (N, D) expected, got {tuple(asked.shape)}, {tuple(stars.shape)}")
    if n < 1:
        raise InputError(f"n={n}: at least 1 star expected")
    given = None if bonus is None else as_tensor(bonus).double()
    if given is not None and given.shape != stars.shape[:1]:
        raise InputError(f"a bonus for each of the {len(stars)} stars expected, got shape {tuple(given.shape)}")
    if not (all_finite(asked) and (given is None or all_finite(given))):
        raise InputError("coordinates and bonuses must be finite: leave out stars that have none")
    best = _Best(asked, n)
    share = (asked.shape[1] + 8) * 2.0**-23  # of |q|^2 + |y|^2 + |bonus|: twice what float32's rounding can do
    for first in range(0, len(stars), STARS):
        block = as_tensor(stars[first : first + STARS]).double()
        if not all_finite(block):
            raise InputError("coordinates must be finite: leave out stars that have none")
        extra = block.new_zeros(len(block)) if given is None else given[first : first + STARS]
        _compare(best, block, extra, first, share, allowed)
        if progress is not None:
            progress(min(first + STARS, len(stars)), len(stars))
    return Neighbours(best.rows, best.squared, best.compared)


class _Best:
    """The best so far of all queries."""

    def __init__(self, queries: Tensor, n: int) -> None:
        self.queries, self.n = queries, n
        self.rows = torch.full((len(queries), n), -1)
        self.squared = torch.full((len(queries), n), torch.inf, dtype=torch.float64)
        self.compared = torch.zeros(len(queries), dtype=torch.int64)
        self.lengths = queries.square().sum(1)
        self.left = _rounded(torch.cat([-2 * queries, queries.new_ones(len(queries), 1)], 1))

    def take(self, number: Tensor, rows: Tensor, squared: Tensor) -> None:
        """Put stars beside the best of queries, whose numbers rise."""
        some, place = torch.unique_consecutive(number, return_inverse=True)
        of = torch.cat([torch.arange(len(some)).repeat_interleave(self.n), place]).numpy()
        row = torch.cat([self.rows[some].flatten(), rows]).numpy()
        value = torch.cat([self.squared[some].flatten(), squared]).numpy()
        # Those of an empty place are behind all others, whose rows are not negative.
        order = np.lexsort((np.where(row < 0, np.iinfo(np.int64).max, row), value, of))
        starts = np.searchsorted(of[order], np.arange(len(some)))
        chosen = torch.from_numpy(order[starts[:, None] + np.arange(self.n)])
        self.rows[some], self.squared[some] = torch.from_numpy(row)[chosen], torch.from_numpy(value)[chosen]


def _compare(best: _Best, block: Tensor, bonus: Tensor, first: int, share: float, allowed: Allowed | None) -> None:
    """Every query with a block of stars."""
    lengths = block.square().sum(1)
    error = share * (lengths + bonus.abs())
    right = _rounded(torch.cat([block, (lengths - bonus - error)[:, None]], 1))  # a bound from below of what is sought
    star = np.arange(first, first + len(block))
    widest = 2 * float(error.max())
    for start in range(0, len(best.queries), QUERIES):
        here = slice(start, start + QUERIES)
        bound, slack = product(best.left[here], right.T), share * best.lengths[here]
        if allowed is None:
            best.compared[here] += len(block)
        else:
            may = allowed(np.arange(start, start + len(bound)), star)
            best.compared[here] += may.sum(1)
            bound.masked_fill_(~may, torch.inf)
        limit = best.squared[here, -1] - best.lengths[here] + slack
        if not limit.isfinite().all() and len(block) > best.n:
            nth = bound.kthvalue(best.n, 1).values.double()
            limit = torch.minimum(limit, nth + 2 * slack + widest)
        near = bound <= (_above(limit) if bound.dtype == torch.float32 else limit)[:, None]
        if allowed is not None:
            near &= may
        number, place = near.nonzero(as_tuple=True)
        if len(number):
            squared = _squared(best.queries[here], number, block, place) - bonus[place]
            best.take(number + start, place + first, squared)


def _rounded(matrix: Tensor) -> Tensor:
    """To float32; not where torch was told that products of float32 may be made in less."""
    return matrix.float() if torch.get_float32_matmul_precision() == "highest" else matrix


def _above(limit: Tensor) -> Tensor:
    """Float32 that is not below."""
    return torch.nextafter(limit.float(), torch.tensor(torch.inf))


def _squared(queries: Tensor, number: Tensor, block: Tensor, place: Tensor) -> Tensor:
    """Direct differences, some at a time."""
    size = max(1, CHUNK // max(1, block.shape[1]))
    parts = zip(torch.split(number, size), torch.split(place, size), strict=True)
    return torch.cat([(block[one] - queries[other]).square().sum(1) for other, one in parts])
