"""Exact search for the most alike stars: products of float32 rule pairs out, direct differences in float64 decide.

What is sought are the n smallest values of a `Measure`. That a value is at most V is an inequality between a product of
two matrices, with V in one of them, and a number of the query's. The rounding error of such a product is known (Higham
2002, section 3.1): no more than a small share of the terms' lengths. So a pair beyond the n-th best by more than that
is none of the n, and every other is compared anew, by differences.
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
from rsca_torch.siblings.measure import Measure
from rsca_torch.spectra.arrays import Array, all_finite, as_tensor

__all__ = ["Neighbours", "nearest"]

QUERIES, STARS = 256, 8192  # of one block of products: 8 MB, which stay in the processor's cache
FIRST = 512  # stars of the first block, which only finds a first limit
FEW = 1024  # stars of a block by which a limit is found where there is none yet
CHUNK = 2**17  # differences held at a time
LARGEST = 1e15  # of what is multiplied in float32: products of two, and sums of some thousand, are far below 3e38
VANISHED = 2.0**-125  # twice what may be lost where a term of float32 is too small to be a number in full

#: (m,) numbers of queries and (b,) rows of stars -> (m, b) bool, the pairs that may be compared.
Allowed = Callable[[NDArray[np.int64], NDArray[np.int64]], Tensor]


class Neighbours(NamedTuple):
    """The n best of each query, best first; equals in the order of their rows.

    Attributes:
        rows: (m, n) int64 of the stars; -1 where there are fewer.
        values: (m, n) float64 of the measure; inf where there are fewer.
        compared: (m,) int64, with how many stars each query was compared.
    """

    rows: Tensor
    values: Tensor
    compared: Tensor


def nearest(
    queries: Array,
    stars: Array,
    n: int,
    measure: Measure | None = None,
    allowed: Allowed | None = None,
    some: NDArray[np.bool_] | None = None,
    order: NDArray[np.int64] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Neighbours:
    """The n stars nearest to each query, exactly: those that a comparison of all pairs in float64 would find.

    Nothing of size m x N is made; stars are read once, block by block, from memory or from a file (`np.memmap`).

    Args:
        queries: (m, D), finite.
        stars: (N, D), finite.
        n: how many.
        measure: what is smallest. None: the squared Euclidean distance.
        allowed: says of blocks of queries and stars which pairs may be compared. None: all.
        some: (N,) the stars that are sought among. None: all.
        order: (N,) rows in which stars are looked at, which changes the time alone: where those of a block are alike in
            what `allowed` looks at, most blocks have no pair. None: as they come.
        progress: called with (stars done, N) after each block.

    Raises:
        InputError: for shapes that disagree, values that are not finite, or n below 1.

    Examples:
        Duplicates come in the order of their rows:

        >>> stars = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0], [3.0, 4.0]])
        >>> found = nearest(torch.tensor([[3.0, 4.0]]), stars, 3)
        >>> found.rows, found.values
        (tensor([[1, 3, 2]]), tensor([[ 0.,  0., 20.]], dtype=torch.float64))
    """
    asked = as_tensor(queries).double()
    if asked.ndim != 2 or len(stars.shape) != 2 or asked.shape[1] != stars.shape[1]:
        raise InputError(f"queries (m, D) and stars (N, D) expected, got {tuple(asked.shape)}, {tuple(stars.shape)}")
    if n < 1:
        raise InputError(f"n={n}: at least 1 star expected")
    if some is not None and some.shape != stars.shape[:1]:
        raise InputError(f"a flag for each of the {len(stars)} stars expected, got shape {some.shape}")
    _require_finite(asked)
    best = _Best(asked, n, measure or Measure.distance(asked.shape[1]))
    first, size = 0, FIRST
    while first < len(stars):
        here = slice(first, first + size)
        rows = np.arange(first, min(first + size, len(stars))) if order is None else order[here]
        block = as_tensor(stars[here] if order is None else stars[rows]).double()
        if some is not None:
            kept = some[rows]
            block, rows = (block, rows) if kept.all() else (block[torch.from_numpy(kept)], rows[kept])
        if len(rows):
            _compare(best, block, rows, allowed)
        first, size = first + size, STARS
        if progress is not None:
            progress(min(first, len(stars)), len(stars))
    return Neighbours(best.rows, best.values, best.compared)


class _Best:
    """The best so far of all queries."""

    def __init__(self, queries: Tensor, n: int, measure: Measure) -> None:
        self.queries, self.n, self.measure = queries, n, measure
        self.rows = torch.full((len(queries), n), -1)
        self.values = torch.full((len(queries), n), torch.inf, dtype=torch.float64)
        self.compared = torch.zeros(len(queries), dtype=torch.int64)
        self.scaled = queries * measure.scale
        self.lengths = self.scaled.square().sum(1)
        self.above, self.below = measure.own(queries)
        self.share = (queries.shape[1] + 10) * 2.0**-23  # of what is added up: twice what float32's rounding can do

    def take(self, number: Tensor, rows: Tensor, values: Tensor) -> None:
        """Put stars beside the best of queries, whose numbers rise."""
        some, place = torch.unique_consecutive(number, return_inverse=True)
        of = torch.cat([torch.arange(len(some)).repeat_interleave(self.n), place]).numpy()
        row = torch.cat([self.rows[some].flatten(), rows]).numpy()
        value = torch.cat([self.values[some].flatten(), values]).numpy()
        order = np.lexsort((row, value, of))  # empty places are infinitely far
        starts = np.searchsorted(of[order], np.arange(len(some)))
        chosen = torch.from_numpy(order[starts[:, None] + np.arange(self.n)])
        self.rows[some], self.values[some] = torch.from_numpy(row)[chosen], torch.from_numpy(value)[chosen]


class _Block(NamedTuple):
    """Stars that every query is compared with."""

    stars: Tensor  # (b, D)
    rows: NDArray[np.int64]  # (b,)
    scaled: Tensor  # (b, D)
    lengths: Tensor  # (b,) their squares, and what follows, by a product: for bounds
    above: Tensor  # (b,) what a star adds to the numerator
    below: Tensor  # (b,) and to the denominator


def _compare(best: _Best, stars: Tensor, rows: NDArray[np.int64], allowed: Allowed | None) -> None:
    """Every query with a block of stars."""
    lengths, above, below = (stars.square() @ best.measure.sums).T
    _require_finite(lengths)  # as every coordinate is then
    block = _Block(stars, rows, stars * best.measure.scale, lengths, above, below)
    whole = block.lengths + block.above
    ones = whole * (1 - best.share), block.below * (1 + best.share)
    right = torch.cat([block.scaled, *(one[:, None] for one in ones)], 1)
    for start in range(0, len(best.queries), QUERIES):
        here = slice(start, start + QUERIES)
        many = len(best.queries[here])
        may = None if allowed is None else allowed(np.arange(start, start + many), rows)
        best.compared[here] += len(rows) if may is None else may.sum(1)
        if may is not None and not may.any():
            continue
        worst = _limits(best, here, block, may)
        near = torch.ones(many, len(rows), dtype=torch.bool) if may is None else may
        known = worst.isfinite()
        if known.any():
            limit = worst * (best.measure.below + best.below[here]) - best.measure.above - best.above[here]
            limit -= best.lengths[here] * (1 - best.share)
            value = torch.where(known, worst, 0)[:, None]
            left = torch.cat([-2 * best.scaled[here], torch.ones_like(value), -value], 1)
            limit = limit + VANISHED * left.shape[1]
            bound = product(*_rounded(left, right.T))
            low = bound <= (_above(limit) if bound.dtype == torch.float32 else limit)[:, None]
            near = near & (low if known.all() else low | ~known[:, None])
        number, place = near.nonzero(as_tuple=True)
        if len(number):
            values = _values(best, number + start, block, place)
            best.take(number + start, torch.from_numpy(rows)[place], values)


def _limits(best: _Best, here: slice, block: _Block, may: Tensor | None) -> Tensor:
    """(m,) values that the n-th best do not exceed: the worst so far, or a bound from above by some of the stars."""
    worst = best.values[here, -1]
    if worst.isfinite().all() or len(block.rows) <= best.n:
        return worst
    few = slice(max(FEW, best.n))
    lengths, block_above = block.lengths[few], block.above[few]
    apart = best.lengths[here, None] + lengths - 2 * best.scaled[here] @ block.scaled[few].T
    apart += best.share * (best.lengths[here, None] + lengths + block_above)
    above = best.measure.above + best.above[here, None] + block_above
    values = (apart + above) / (best.measure.below + best.below[here, None] + block.below[few])
    if may is not None:
        values = values.masked_fill(~may[:, few], torch.inf)
    return torch.minimum(worst, values.kthvalue(best.n, 1).values)


def _values(best: _Best, number: Tensor, block: _Block, place: Tensor) -> Tensor:
    """Of pairs, by direct differences, some at a time."""
    size = max(1, CHUNK // max(1, block.stars.shape[1]))
    parts = []
    for query, star in zip(torch.split(number, size), torch.split(place, size), strict=True):
        stars = block.stars[star]
        above, below = best.measure.own(stars)
        apart = ((stars - best.queries[query]) * best.measure.scale).square().sum(1)
        parts.append(best.measure.value(apart, best.above[query] + above, best.below[query] + below))
    return torch.cat(parts)


def _require_finite(coordinates: Tensor) -> None:
    if not all_finite(coordinates):
        raise InputError("coordinates must be finite: leave out stars that have none")


def _rounded(*matrices: Tensor) -> tuple[Tensor, ...]:
    """To float32; not where it does not hold their products, or torch was told that they may be made in less."""
    exact = torch.get_float32_matmul_precision() == "highest"
    if exact and all(float(matrix.abs().max()) < LARGEST for matrix in matrices):
        return tuple(matrix.float() for matrix in matrices)
    return matrices


def _above(limit: Tensor) -> Tensor:
    """Float32 that is not below."""
    return torch.nextafter(limit.float(), torch.tensor(torch.inf))
