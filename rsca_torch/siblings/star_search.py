"""One piece of a search: the best for some stars; light enough to be sent to other processes and machines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rsca_torch.siblings.measure import Measure
from rsca_torch.siblings.pairs_within import PairsWithin
from rsca_torch.siblings.search import nearest

__all__ = ["MANY", "Best", "StarSearch"]

MANY = 1000  # stars asked about from which on those that are searched are sorted, so that most blocks have no pair
SOME = 64


class Best(NamedTuple):
    """The n best of m stars: their rows, -1 where there are fewer; their ratios; with how many each was compared."""

    rows: NDArray[np.int64]  # (m, n)
    ratio: NDArray[np.float64]  # (m, n) nats
    compared: NDArray[np.int64]  # (m,)


@dataclass(frozen=True)
class StarSearch:
    """The n best for some stars by likelihood ratio, each without the star itself.

    Attributes:
        features: (N, D), or the file that has them.
        pairs: which may be compared.
        measure: of the ratio.
        candidates: (N,) who is searched.
        n: of how many.
    """

    features: NDArray[np.float64] | Path
    pairs: PairsWithin
    measure: Measure
    candidates: NDArray[np.bool_]
    n: int

    def __call__(self, rows: NDArray[np.int64]) -> Best:
        """Of the stars in these rows."""
        features = self.features
        if isinstance(features, Path):
            features = np.load(features, mmap_mode="r", allow_pickle=False)
        pairs = self.pairs
        allowed = None if pairs.takes_all else lambda number, others: pairs(rows[number], others)
        order = pairs.order if allowed is not None and len(rows) >= MANY else None
        queries = torch.from_numpy(np.asarray(features[rows]))
        best = nearest(queries, features, self.n + 1, self.measure, allowed, self.candidates, order)
        found = best.rows.numpy()
        is_own = found == rows[:, None]
        # The star itself goes; where it is not among the n + 1, the last does.
        goes = np.where(is_own.any(1), is_own.argmax(1), self.n)
        kept = np.arange(self.n + 1) != goes[:, None]
        shape = len(rows), self.n
        ratio = self.measure.log_ratio(best.values[torch.from_numpy(kept)]).numpy().reshape(shape)
        compared = best.compared.numpy() - (self.candidates[rows] & self._compared_with_itself(rows))
        return Best(found[kept].reshape(shape), ratio, compared)

    def _compared_with_itself(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(m,) whether the rule of pairs lets a star be compared with itself: not one of an unknown velocity."""
        if self.pairs.takes_all:
            return np.ones(len(rows), dtype=bool)
        parts = [rows[first : first + SOME] for first in range(0, len(rows), SOME)]
        return np.concatenate([self.pairs(part, part).diagonal().numpy() for part in parts])
