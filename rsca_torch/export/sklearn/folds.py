"""Folds of clusters for scikit-learn: some clusters are left out, and field stars always stay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import as_labels

__all__ = ["ClusterFolds"]


class ClusterFolds:
    """What scikit-learn takes as `cv=`: each fold trains without some clusters, and tests on their members alone.

    Field stars, which have no label, are in every training set: scikit-learn's own `GroupKFold` would take their
    missing label for one more group, and leave the field out as a whole. A cluster with one member is never left out,
    as it has no pair to be judged by.

    Args:
        n_splits: into so many parts the clusters are dealt, the largest first, each to the part with the fewest members
            so far. None: each cluster is a part: leave one cluster out.

    Examples:
        >>> labels = np.array(["A", "A", "", "B", "B", ""])
        >>> [(train.tolist(), test.tolist()) for train, test in ClusterFolds().split(labels, labels)]
        [([2, 3, 4, 5], [0, 1]), ([0, 1, 2, 5], [3, 4])]
    """

    def __init__(self, n_splits: int | None = None) -> None:
        self.n_splits = n_splits

    def __repr__(self) -> str:
        return f"ClusterFolds({'' if self.n_splits is None else self.n_splits})"

    def split(
        self,
        X: Any,  # noqa: ANN401
        y: Any = None,  # noqa: ANN401
        groups: Any = None,  # noqa: ANN401
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Row numbers of training and test for each fold.

        Args:
            X: N rows, which are not looked at.
            y: N labels, '' or -1 for field stars.
            groups: the same, where y is something else. None: y.

        Raises:
            InputError: for fewer than two parts that can be judged.
        """
        del X
        labels, parts = self._parts(y, groups)
        rows = np.arange(len(labels))
        for part in parts:
            out = np.isin(labels, part)
            yield rows[~out], rows[out]

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:  # noqa: ANN401
        """How many folds `split` gives."""
        del X
        return len(self._parts(y, groups)[1])

    def _parts(self, y: Any, groups: Any) -> tuple[NDArray[np.str_], list[list[str]]]:  # noqa: ANN401
        given = y if groups is None else groups
        if given is None:
            raise InputError("folds of clusters need the labels: give y, or groups")
        labels = as_labels(given)
        names, sizes = np.unique(labels[labels != ""], return_counts=True)
        several = [(name, size) for name, size in zip(names.tolist(), sizes.tolist(), strict=True) if size > 1]
        wanted = len(several) if self.n_splits is None else self.n_splits
        if not 2 <= wanted <= len(several):
            raise InputError(
                f"n_splits from 2 to the number of clusters with two members expected, got {wanted} of {len(several)}"
            )
        if self.n_splits is None:
            return labels, [[name] for name, _ in several]
        parts: list[list[str]] = [[] for _ in range(wanted)]
        filled = [0] * wanted
        for name, size in sorted(several, key=lambda each: -each[1]):
            place = filled.index(min(filled))
            parts[place].append(name)
            filled[place] += size
        return labels, parts
