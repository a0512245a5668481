"""What leave one cluster out found: the rates of the clusters, their mean, its interval, and how two results differ."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.training.members import Trained

__all__ = ["Difference", "LOCOResult", "paired_difference"]

LEVEL = 0.68
RESAMPLES = 10_000


@dataclass(frozen=True)
class LOCOResult:
    """Doppelganger rates, one a cluster; every dict has the same labels in the same order.

    Attributes:
        cluster_rates: rate of each cluster; NaN where no pair is allowed.
        members: how many members each has.
        pairs: how many allowed (member, field star) pairs each has.
        median_sibling_distance: the threshold of each, in units of its own fold's embedding.
        held_out: whether the judging learner had not seen the cluster.
        distances: of each cluster its sibling pairs' and its allowed stranger pairs' distances; None unless kept.
        trained: how each fold's training went, of learners that are trained.
        merits: of each figure of merit its value for every cluster; NaN where no pair is allowed.
    """

    cluster_rates: dict[str, float]
    members: dict[str, int]
    pairs: dict[str, int]
    median_sibling_distance: dict[str, float]
    held_out: bool = True
    distances: dict[str, tuple[Tensor, Tensor]] | None = dataclass_field(default=None, repr=False)
    trained: dict[str, Trained] = dataclass_field(default_factory=dict, repr=False)
    merits: dict[str, dict[str, float]] = dataclass_field(default_factory=dict, repr=False)

    @property
    def rate(self) -> float:
        """The global rate: mean over clusters weighted by members; clusters without allowed pairs left out."""
        rates, weights = self._counted(list(self.cluster_rates))
        return float(rates @ weights / weights.sum()) if len(rates) else float("nan")

    def interval(self, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
        """Percentile interval of the global rate from a bootstrap over clusters.

        Which clusters happened to be observed is the largest uncertainty by far (22 of them in DR16).
        """
        return _percentiles(self._resampled(resamples, seed), level)

    def spread(self, resamples: int = RESAMPLES, seed: int = 0) -> float:
        """Standard deviation of the global rate in that bootstrap."""
        return float(self._resampled(resamples, seed).std(ddof=1))

    def _resampled(self, resamples: int, seed: int) -> NDArray[np.float64]:
        return _resampled_means(*self._counted(list(self.cluster_rates)), resamples, seed)

    def _counted(self, labels: list[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        labels = [label for label in labels if np.isfinite(self.cluster_rates[label])]
        rates = np.array([self.cluster_rates[label] for label in labels], dtype=np.float64)
        return rates, np.array([self.members[label] for label in labels], dtype=np.float64)


@dataclass(frozen=True)
class Difference:
    """Global rate of one learner less that of another, and the percentile interval of the paired bootstrap."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly on one side of zero."""
        return self.low > 0 or self.high < 0


def paired_difference(
    a: LOCOResult, b: LOCOResult, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """The global rate of `a` less that of `b`, over the clusters whose same members both judged, resampled alike.

    Raises:
        InputError: where there is no such cluster.
    """
    common = [
        cluster
        for cluster, members in a.members.items()
        if members == b.members.get(cluster) and np.isfinite([a.cluster_rates[cluster], b.cluster_rates[cluster]]).all()
    ]
    if not common:
        raise InputError("two results can be paired only if they judge some clusters with the same members")
    (rates_a, weights), (rates_b, _) = a._counted(common), b._counted(common)
    difference = rates_a - rates_b
    low, high = _percentiles(_resampled_means(difference, weights, resamples, seed), level)
    return Difference(float(difference @ weights / weights.sum()), low, high)


def _resampled_means(
    values: NDArray[np.float64], weights: NDArray[np.float64], resamples: int, seed: int
) -> NDArray[np.float64]:
    """(resamples,) weighted means over clusters drawn with replacement."""
    if not len(values):
        return np.full(resamples, np.nan)
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    return np.asarray((values * weights)[drawn].sum(1) / weights[drawn].sum(1))


def _percentiles(sample: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(sample, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
