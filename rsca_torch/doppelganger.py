"""The doppelganger rate: how many strangers look as alike as siblings do (paper, section 4.2; docs/maths.md, 5)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from rsca_torch.errors import InputError
from rsca_torch.ppca import Array

__all__ = ["DoppelgangerRate", "allowed_pairs", "count_doppelgangers", "doppelganger_rate", "sibling_distances"]

PAIR_ELEMENTS = 8_000_000  # pairs x dimensions worked on at once


def allowed_pairs(
    member_velocity: Array,
    field_velocity: Array,
    member_extinction: Array,
    field_extinction: Array,
    max_velocity: float = 5.0,
    max_extinction: float = 0.05,
) -> Tensor:
    """(M, F) bool: the pairs so alike in velocity and extinction that neither can tell siblings from strangers.

    Args:
        member_velocity: (M,) VHELIO_AVG, km/s.
        field_velocity: (F,) likewise.
        member_extinction: (M,) AK_TARG, mag.
        field_extinction: (F,) likewise.
        max_velocity: allowed where the difference is less, km/s.
        max_extinction: allowed where the difference is less, mag.

    A pair with an unknown velocity or extinction (NaN) is not allowed.
    """

    def close(member: Array, field: Array, limit: float) -> Tensor:
        return (torch.as_tensor(member).double()[:, None] - torch.as_tensor(field).double()).abs() < limit

    return close(member_velocity, field_velocity, max_velocity) & close(
        member_extinction, field_extinction, max_extinction
    )


def sibling_distances(embedded_members: Array) -> Tensor:
    """(n (n - 1) / 2,) float64 distances between the n members (n, D) of one cluster."""
    return torch.nn.functional.pdist(torch.as_tensor(embedded_members).double())


def count_doppelgangers(
    embedded_members: Array, embedded_field: Array, threshold: float, allowed: Array | None = None
) -> tuple[int, int]:
    """(pairs no farther apart than the threshold, pairs in all) of the allowed (member, field star) pairs.

    Distances are direct differences in float64, never |a|^2 + |b|^2 - 2ab: near-identical stars are the point.
    Only allowed pairs are visited, some at a time.

    Args:
        embedded_members: (n, D).
        embedded_field: (F, D).
        threshold: in units of the embedding.
        allowed: (n, F) bool. None: every pair.
    """
    members, field = torch.as_tensor(embedded_members).double(), torch.as_tensor(embedded_field).double()
    if members.ndim != 2 or field.ndim != 2 or members.shape[1] != field.shape[1]:
        raise InputError(f"members (n, D) and field (F, D) expected, got {tuple(members.shape)}, {tuple(field.shape)}")
    if allowed is not None and tuple(allowed.shape) != (len(members), len(field)):
        raise InputError(f"allowed must have shape {(len(members), len(field))}, got {tuple(allowed.shape)}")
    close = pairs = 0
    step = max(1, PAIR_ELEMENTS // max(1, members.shape[1]))
    for row, member in enumerate(members):
        others = field if allowed is None else field[torch.as_tensor(allowed[row]).bool()]
        pairs += len(others)
        for first in range(0, len(others), step):
            distance = (others[first : first + step] - member).square().sum(1).sqrt()
            close += int((distance <= threshold).sum())
    return close, pairs


def doppelganger_rate(embedded_members: Array, embedded_field: Array, allowed: Array | None = None) -> float:
    """Share of a cluster's allowed (member, field star) pairs no farther apart than its median sibling pair.

    Args:
        embedded_members: (n, D) the members of one cluster, n >= 2.
        embedded_field: (F, D) field stars.
        allowed: (n, F) bool, the pairs that may be compared. None: all.

    Returns:
        The rate, in 0 to 1; NaN where no pair is allowed.

    Raises:
        InputError: for fewer than two members, or shapes that disagree.
    """
    close, pairs = count_doppelgangers(embedded_members, embedded_field, _threshold(embedded_members), allowed)
    return close / pairs if pairs else float("nan")


def _threshold(embedded_members: Array) -> float:
    if len(embedded_members) < 2:
        raise InputError(f"a cluster needs at least two members to have a sibling pair, got {len(embedded_members)}")
    return float(np.median(sibling_distances(embedded_members).cpu().numpy()))


class DoppelgangerRate(Metric):
    """The global rate: the mean of the clusters' rates weighted by members (paper, section 4.2).

    `update(embedded_members, embedded_field, allowed, cluster)` adds the pairs of one cluster with some field stars;
    the field may come in batches and from several processes. A cluster without allowed pairs is left out of the mean.

    Args:
        n_clusters: how many clusters, numbered from 0.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    close: Tensor
    pairs: Tensor
    members: Tensor

    def __init__(self, n_clusters: int = 1, **kwargs: Any) -> None:  # noqa: ANN401  (torchmetrics' own)
        super().__init__(**kwargs)
        for state, reduce in (("close", "sum"), ("pairs", "sum"), ("members", "max")):
            self.add_state(state, torch.zeros(n_clusters, dtype=torch.int64), dist_reduce_fx=reduce)

    def update(
        self, embedded_members: Tensor, embedded_field: Tensor, allowed: Tensor | None = None, cluster: int = 0
    ) -> None:
        """Add all members (n, D) of a cluster against field stars (F, D); shapes as in `doppelganger_rate`."""
        close, pairs = count_doppelgangers(embedded_members, embedded_field, _threshold(embedded_members), allowed)
        self.close[cluster] += close
        self.pairs[cluster] += pairs
        self.members[cluster] = len(embedded_members)

    def compute(self) -> Tensor:
        """The global rate, a float64 scalar; NaN where no cluster has an allowed pair."""
        counted = self.pairs > 0
        rates = self.close[counted].double() / self.pairs[counted]
        weights = self.members[counted].double()
        return (rates * weights).sum() / weights.sum()
