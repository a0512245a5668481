"""The doppelganger rate as a metric of torchmetrics, for pairs that come in batches and from several processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from rsca_torch.errors import InputError
from rsca_torch.evaluation.doppelganger import median_distance
from rsca_torch.learners.distances import sibling_distances, stranger_distances
from rsca_torch.spectra.arrays import Array

__all__ = ["DoppelgangerRate"]


class DoppelgangerRate(Metric):
    """The global rate: the mean of the clusters' rates weighted by members (paper, section 4.2).

    `update(embedded_members, embedded_field, allowed, cluster)` adds the pairs of one cluster with some field stars;
    the field may come in batches and from several processes. A cluster without allowed pairs is left out of the mean.

    Args:
        n_clusters: how many clusters, numbered from 0.
        kwargs: of `torchmetrics.Metric`.

    Examples:
        >>> metric = DoppelgangerRate(n_clusters=2)
        >>> field = torch.tensor([[0.5], [4.0], [9.0]])
        >>> metric.update(torch.tensor([[0.0], [1.0], [2.0]]), field, cluster=0)
        >>> metric.update(torch.tensor([[8.0], [9.5]]), field, cluster=1)
        >>> metric.compute()
        tensor(0.2667, dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    close: Tensor
    pairs: Tensor
    members: Tensor

    def __init__(self, n_clusters: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for state, reduce in (("close", "sum"), ("pairs", "sum"), ("members", "max")):
            self.add_state(state, torch.zeros(n_clusters, dtype=torch.int64), dist_reduce_fx=reduce)

    def update(
        self, embedded_members: Array, embedded_field: Array, allowed: Array | None = None, cluster: int = 0
    ) -> None:
        """Add all members of a cluster against field stars.

        Args:
            embedded_members: (n, D) all members of the cluster, n >= 2.
            embedded_field: (F, D) some field stars.
            allowed: (n, F) bool, the pairs that may be compared. None: all.
            cluster: its number.

        Raises:
            InputError: as `doppelganger_rate` does, and for a number that is none of the clusters'.
        """
        if not 0 <= cluster < len(self.members):
            raise InputError(f"clusters are numbered 0 to {len(self.members) - 1}, got {cluster}")
        distances = stranger_distances(embedded_members, embedded_field, allowed)
        self.close[cluster] += (distances <= median_distance(sibling_distances(embedded_members))).sum()
        self.pairs[cluster] += len(distances)
        self.members[cluster] = len(embedded_members)

    def compute(self) -> Tensor:
        """The global rate, a float64 scalar; NaN where no cluster has an allowed pair."""
        counted = self.pairs > 0
        rates = self.close[counted].double() / self.pairs[counted]
        weights = self.members[counted].double()
        return (rates * weights).sum() / weights.sum()
