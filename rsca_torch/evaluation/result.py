"""What leave one cluster out found: the rates of the clusters, their mean, its interval, and how two results differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.evaluation.calibration import Calibrated
from rsca_torch.evaluation.shown_result import ShownResult
from rsca_torch.training.members import Trained

__all__ = ["Difference", "LOCOResult", "exact_limits", "leeway", "paired_difference", "upper_limit", "widened"]

LEVEL = 0.68
RESAMPLES = 10_000


def upper_limit(pairs: float, level: float = LEVEL) -> float:
    """The largest rate that none close of so many pairs allows: Clopper & Pearson's, one-sided at (1 + level) / 2.

    Args:
        pairs: how many were looked at; of none the limit is 1.
        level: of the interval whose upper end it is, 0 to 1.

    Examples:
        >>> print(f"{upper_limit(30):.3f}, {upper_limit(30_000):.5f}")
        0.059, 0.00006
    """
    return -math.expm1(math.log((1 - level) / 2) / pairs) if pairs > 0 else 1.0


def exact_limits(rate: float, pairs: float, level: float = LEVEL) -> tuple[float, float] | None:
    """The rates that so many pairs allow where none of them is close, or all are; None of any other rate.

    Examples:
        >>> exact_limits(0.5, 30)
        >>> print("{:.3f} to {:.0f}".format(*exact_limits(1.0, 30)))
        0.941 to 1
    """
    limit = upper_limit(pairs, level)
    return (0.0, limit) if rate == 0 else (1 - limit, 1.0) if rate == 1 else None


@dataclass(frozen=True, repr=False)
class LOCOResult(ShownResult):
    """Doppelganger rates, one a cluster; every dict has the same labels in the same order.

    Attributes:
        cluster_rates: rate of each cluster, 0 to 1; NaN where no pair is allowed.
        members: how many members each has.
        pairs: how many allowed (member, field star) pairs each has.
        median_sibling_distance: the threshold of each, in units of its own fold's embedding.
        held_out: whether the judging learner had not seen the cluster.
        distances: of each cluster its sibling pairs' (S,) and its allowed stranger pairs' (T,) distances, float64;
            None unless kept.
        trained: how each fold's training went, of learners that are trained.
        merits: of each further figure of merit its value for every cluster; NaN where no pair is allowed.
        calibrated: its scores as calibrated likelihood ratios; None: not asked for, or of too few clusters.
        stars: which members each has, their ids in order; empty where they are not known.
        floor: what bounded the scatter of siblings: "repeats", "noise", "given" or "none".

    Examples:
        >>> LOCOResult({"M 67": 0.01, "NGC 188": 0.04}, {"M 67": 6, "NGC 188": 3}, {}, {}).rate
        0.02
    """

    cluster_rates: dict[str, float]
    members: dict[str, int]
    pairs: dict[str, int]
    median_sibling_distance: dict[str, float]
    held_out: bool = True
    distances: dict[str, tuple[Tensor, Tensor]] | None = None
    trained: dict[str, Trained] = dataclass_field(default_factory=dict)
    merits: dict[str, dict[str, float]] = dataclass_field(default_factory=dict)
    stars: dict[str, tuple[str, ...]] = dataclass_field(default_factory=dict)
    calibrated: Calibrated | None = None
    floor: str = "none"

    def __repr__(self) -> str:
        low, high = self.interval()
        rate = f"rate {self.rate:.4g}, {LEVEL:.0%} interval {low:.4g} to {high:.4g}"
        return f"LOCOResult({len(self.members)} clusters, {rate}{'' if self.held_out else ', not held out'})"

    @property
    def rate(self) -> float:
        """The global rate: mean over clusters weighted by members; clusters without allowed pairs left out."""
        return self._mean(self.cluster_rates)

    def merit(self, name: str) -> float:
        """A further figure of merit, averaged as the rate is.

        Raises:
            InputError: where `leave_one_cluster_out` was not asked for it.
        """
        return self._mean(self.values_of(name))

    def interval(
        self, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0, merit: str | None = None
    ) -> tuple[float, float]:
        """Percentile interval of the global rate from a bootstrap over clusters.

        Which clusters happened to be observed is the largest uncertainty by far (22 of them in DR16). A rate of 0 or 1
        has nothing to resample: its interval is what all its clusters' pairs allow (`exact_limits`). What pairs allow a
        further figure of merit to be is not known, since it may be any function: its interval is the bootstrap's alone,
        and has no width where all clusters have the same value.

        Args:
            level: share of the resampled rates inside, 0 to 1.
            resamples: how many.
            seed: of what is drawn.
            merit: the name of a further figure of merit, whose interval is meant. None: the rate's.

        Raises:
            InputError: where `leave_one_cluster_out` was not asked for that merit.

        Examples:
            >>> rates, members = {"M 67": 0.01, "NGC 188": 0.04, "M 92": 0.0}, {"M 67": 6, "NGC 188": 3, "M 92": 4}
            >>> low, high = LOCOResult(rates, members, {}, {}).interval()
            >>> print(f"{low:.3f} to {high:.3f}")
            0.007 to 0.024
        """
        limits = self.exact_limits(level) if merit is None else None
        return limits or self.bootstrapped(level, resamples, seed, merit)

    def bootstrapped(
        self, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0, merit: str | None = None
    ) -> tuple[float, float]:
        """`interval` as the bootstrap has it, of no width where all clusters have the same rate."""
        low, high = np.quantile(self._resampled(resamples, seed, merit), [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def spread(self, resamples: int = RESAMPLES, seed: int = 0) -> float:
        """Standard deviation of the global rate in that bootstrap; of a rate of 0 or 1 the width of its limits."""
        limits = self.exact_limits()
        return limits[1] - limits[0] if limits else float(self._resampled(resamples, seed, None).std(ddof=1))

    def exact_limits(self, level: float = LEVEL) -> tuple[float, float] | None:
        """The `exact_limits` of the pairs of all clusters, where the rate of every one is 0, or of all 1; else None.

        Examples:
            >>> members, pairs = {"M 67": 3, "M 92": 2}, {"M 67": 20, "M 92": 10}
            >>> result = LOCOResult({"M 67": 0.0, "M 92": 0.0}, members, pairs, {})
            >>> print("{:.0f} to {:.3f}".format(*result.exact_limits()))
            0 to 0.059
        """
        known = {cluster: rate for cluster, rate in self.cluster_rates.items() if np.isfinite(rate)}
        if len({*known.values()}) != 1:
            return None
        return exact_limits(next(iter(known.values())), sum(self.pairs.get(cluster, 0) for cluster in known), level)

    def limits_of(self, cluster: str) -> tuple[float, float]:
        """The `exact_limits` of one cluster; of a rate between 0 and 1, the rate itself twice."""
        rate = self.cluster_rates[cluster]
        return exact_limits(rate, self.pairs.get(cluster, 0)) or (rate, rate)

    def values_of(self, merit: str | None) -> Mapping[str, float]:
        """Of each cluster the figure of merit, None: the rate.

        Raises:
            InputError: where `leave_one_cluster_out` was not asked for it.
        """
        if merit is None:
            return self.cluster_rates
        if merit not in self.merits:
            raise InputError(f"no figure of merit {merit} was asked for, there is {', '.join(self.merits) or 'none'}")
        return self.merits[merit]

    def _resampled(self, resamples: int, seed: int, merit: str | None) -> NDArray[np.float64]:
        """(resamples,) means over clusters drawn with replacement."""
        values, weights = self._known(self.values_of(merit))
        if not len(values):
            return np.full(resamples, np.nan)
        drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
        return np.asarray((values * weights)[drawn].sum(1) / weights[drawn].sum(1))

    def _mean(self, values: Mapping[str, float]) -> float:
        known, weights = self._known(values)
        return float(known @ weights / weights.sum()) if len(known) else math.nan

    def _known(self, values: Mapping[str, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The values that are numbers, and the members of those clusters."""
        known = [(value, self.members[cluster]) for cluster, value in values.items() if np.isfinite(value)]
        numbers, weights = np.array(known, dtype=np.float64).reshape(-1, 2).T
        return numbers, weights


@dataclass(frozen=True)
class Difference:
    """Global rate of one learner minus that of another, and the percentile interval of the paired bootstrap."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly on one side of zero."""
        return self.low > 0 or self.high < 0


def paired_difference(
    a: LOCOResult,
    b: LOCOResult,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    merit: str | None = None,
) -> Difference:
    """The global rate of `a` minus that of `b`, over the clusters whose same members both judged, resampled alike.

    Where all rates of the one or of the other are 0, or 1, the interval is `widened` by what the pairs allow it to be.

    Members are the same where their ids are; of results that do not know them (made by hand) where there are as many.

    Args:
        a: the one.
        b: the other.
        level: share of the resampled differences inside the interval, 0 to 1.
        resamples: how many.
        seed: of what is drawn.
        merit: the name of a further figure of merit, whose difference is meant. None: the rate's.

    Raises:
        InputError: where there is no such cluster, or one of the two was not asked for that merit.

    Examples:
        >>> members = {"M 67": 6, "NGC 188": 3, "M 92": 4}
        >>> a = LOCOResult({"M 67": 0.01, "NGC 188": 0.04, "M 92": 0.02}, members, {}, {})
        >>> b = LOCOResult({"M 67": 0.03, "NGC 188": 0.05, "M 92": 0.03}, members, {}, {})
        >>> difference = paired_difference(a, b)
        >>> print(f"{difference.value:.4f}", difference.excludes_zero)
        -0.0146 True
    """
    differences = {
        cluster: a.values_of(merit)[cluster] - b.values_of(merit)[cluster]
        for cluster in a.members
        if _same_members(a, b, cluster)
    }
    both = replace(a, cluster_rates=differences)
    if math.isnan(both.rate):
        raise InputError(
            "two results can be paired only if they judge some clusters with the same members; members are told apart "
            "by the `ids` that leave_one_cluster_out was given, else by their place among the members"
        )
    if merit is not None:
        return Difference(both.rate, *both.bootstrapped(level, resamples, seed))
    judged = [cluster for cluster, difference in differences.items() if np.isfinite(difference)]
    one, other = (replace(each, cluster_rates={name: each.cluster_rates[name] for name in judged}) for each in (a, b))
    ends = both.bootstrapped(level, resamples, seed)
    return Difference(both.rate, *widened(both.rate, *ends, *leeway(one, other, level)))


def leeway(a: LOCOResult, b: LOCOResult, level: float = LEVEL) -> tuple[float, float]:
    """How far the rate of `a` minus that of `b` may lie above and below what it is, as one of them is 0 or 1.

    Examples:
        >>> zero, one = (LOCOResult({"M 67": rate}, {"M 67": 3}, {"M 67": 30}, {}) for rate in (0.0, 1.0))
        >>> print("{:.3f}, {:.3f}".format(*leeway(one, zero)))
        0.000, 0.084
    """
    (above_a, below_a), (above_b, below_b) = (
        (limits[1] - one.rate, one.rate - limits[0]) if (limits := one.exact_limits(level)) else (0.0, 0.0)
        for one in (a, b)
    )
    return math.hypot(above_a, below_b), math.hypot(below_a, above_b)


def widened(value: float, low: float, high: float, above: float, below: float) -> tuple[float, float]:
    """The interval of a difference of two rates one or both of which may be 0 or 1, their errors added in quadrature.

    Args:
        value: of the difference.
        low: end of its interval as the bootstrap has it.
        high: likewise.
        above: how far it may lie above its value for the `leeway` of the two; 0 where neither is 0 or 1.
        below: likewise below.

    Examples:
        >>> widened(0.0, 0.0, 0.0, above=0.02, below=0.01)
        (-0.01, 0.02)
    """
    if above:
        high = value + math.hypot(max(high - value, 0.0), above)
    if below:
        low = value - math.hypot(max(value - low, 0.0), below)
    return low, high


def _same_members(a: LOCOResult, b: LOCOResult, cluster: str) -> bool:
    if cluster in a.stars and cluster in b.stars:
        return a.stars[cluster] == b.stars[cluster]
    return a.members[cluster] == b.members.get(cluster)
