"""Runs that differ in nothing but their seed, each group compared with the baseline learner's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rsca_torch.comparison.finished_run import Setting
from rsca_torch.comparison.gathering import Gathered, Row
from rsca_torch.errors import InputError
from rsca_torch.evaluation.result import Difference, LOCOResult, paired_difference

__all__ = ["Group", "groups_of"]


@dataclass(frozen=True)
class Group:
    """The runs that differ in nothing but their seed.

    Attributes:
        representation: what the learner saw.
        learner: its name.
        held_out: whether it had not seen the clusters that it judged.
        settings: the options that differ between runs, in the order of `Gathered.varied`.
        rows: one a seed.
        difference: to the baseline; None for the baseline itself, and where there is nothing to pair.
        paired: how many seeds are in the difference.
    """

    representation: str
    learner: str
    held_out: bool
    settings: dict[str, Setting]
    rows: list[Row]
    difference: Difference | None = None
    paired: int = 0

    @property
    def rates(self) -> list[float]:
        """Global rates, one a seed."""
        return [row.loco.rate for row in self.rows]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(np.mean(self.rates))

    @property
    def spread(self) -> float:
        """Sample standard deviation over seeds; NaN of one."""
        return float(np.std(self.rates, ddof=1)) if len(self.rates) > 1 else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """68 % from a bootstrap over clusters, those of all seeds."""
        return _pooled([(row.store, row.loco) for row in self.rows]).interval()


def groups_of(gathered: Gathered, baseline: str) -> list[Group]:
    """The runs by settings, each compared with the baseline learner of otherwise equal settings.

    The same clusters are paired seed by seed. What the bootstrap draws is a cluster of a store with its rates of all
    seeds: seeds of learners alone see the same stars and are no further evidence of them.

    Raises:
        InputError: where no run has the baseline.
    """
    learners = sorted({row.learner for row in gathered.rows if row.held_out})
    if baseline not in learners:
        raise InputError(f"baseline={baseline} is none of the learners that were judged: {', '.join(learners)}")
    by_key: dict[tuple[str, str, bool, tuple[tuple[str, Setting], ...]], dict[int, Row]] = {}
    for row in gathered.rows:
        settings = tuple((name, row.settings.get(name, "")) for name in gathered.varied)
        key = (row.representation, row.learner, row.held_out, settings)
        by_key.setdefault(key, {}).setdefault(row.seed, row)
    plain = [
        Group(representation, learner, held_out, dict(settings), [rows[seed] for seed in sorted(rows)])
        for (representation, learner, held_out, settings), rows in by_key.items()
    ]
    names = list(dict.fromkeys(group.representation for group in plain))
    order = list(dict.fromkeys([baseline, *(group.learner for group in plain)]))
    plain.sort(key=lambda group: (names.index(group.representation), order.index(group.learner), not group.held_out))
    return [_compared(group, plain, baseline) for group in plain]


def _compared(group: Group, groups: Sequence[Group], baseline: str) -> Group:
    if not group.held_out:
        return group
    like = [
        other
        for other in groups
        if other.learner == baseline
        and other.held_out
        and other.representation == group.representation
        and _shared(other) == _shared(group)
    ]
    if len(like) != 1 or like[0] is group:  # several settings of the baseline: none of them is the one to compare with
        return group
    there = {row.seed: row for row in like[0].rows}
    pairs = [(row, there[row.seed]) for row in group.rows if row.seed in there and row.store == there[row.seed].store]
    try:
        difference = _paired(pairs)
    except InputError:  # no cluster in common
        return group
    return replace(group, difference=difference, paired=len(pairs))


def _shared(group: Group) -> dict[str, Setting]:
    """The settings that are not the learner's own."""
    return {name: value for name, value in group.settings.items() if not name.startswith("learner.")}


def _paired(pairs: Sequence[tuple[Row, Row]]) -> Difference:
    """`paired_difference`, pooled over seeds."""
    sides: tuple[list[tuple[str, LOCOResult]], list[tuple[str, LOCOResult]]] = ([], [])
    for both in pairs:
        one, other = (row.loco for row in both)
        common = [
            cluster
            for cluster, members in one.members.items()
            if members == other.members.get(cluster)
            and math.isfinite(one.cluster_rates[cluster])
            and math.isfinite(other.cluster_rates[cluster])
        ]
        for side, row in zip(sides, both, strict=True):
            side.append((row.store, _only(row.loco, common)))
    return paired_difference(_pooled(sides[0]), _pooled(sides[1]))


def _only(loco: LOCOResult, clusters: Sequence[str]) -> LOCOResult:
    dicts = (loco.cluster_rates, loco.members, loco.pairs, loco.median_sibling_distance)
    rates, members, pairs, medians = ({cluster: each[cluster] for cluster in clusters} for each in dicts)
    return LOCOResult(rates, members, pairs, medians, loco.held_out)  # type: ignore[arg-type]


def _pooled(results: Sequence[tuple[str, LOCOResult]]) -> LOCOResult:
    """One result of several (store, result): every cluster of a store once, with its mean rate.

    Its `members` are weights: the cluster's share of the members that were judged, added up over seeds. So every seed
    counts the same, and the rate is the mean over seeds.
    """
    sums: dict[str, tuple[float, float]] = {}
    for store, loco in results:
        judged = {cluster: rate for cluster, rate in loco.cluster_rates.items() if math.isfinite(rate)}
        total = sum(loco.members[cluster] for cluster in judged)
        for cluster, rate in judged.items():
            unit, share = f"{store} {cluster}", loco.members[cluster] / total
            rates, shares = sums.get(unit, (0.0, 0.0))
            sums[unit] = (rates + rate * share, shares + share)
    weights = {unit: shares for unit, (_, shares) in sums.items()}
    means = {unit: rates / shares for unit, (rates, shares) in sums.items()}
    none = dict.fromkeys(sums, 0)
    return LOCOResult(means, weights, none, dict.fromkeys(sums, math.nan))  # type: ignore[arg-type]
