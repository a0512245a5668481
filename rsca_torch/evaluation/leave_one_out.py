"""Leave one cluster out: every cluster is judged by a learner that never saw it (paper, section 4.2)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.folds import Fold, KeptFolds, Task, folds_of
from rsca_torch.learners.learner import Labels, Learner
from rsca_torch.spectra.arrays import Array, as_tensor
from rsca_torch.training.members import Members, Trained

__all__ = ["Difference", "LOCOResult", "leave_one_cluster_out", "paired_difference"]

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
    """

    cluster_rates: dict[str, float]
    members: dict[str, int]
    pairs: dict[str, int]
    median_sibling_distance: dict[str, float]
    held_out: bool = True
    distances: dict[str, tuple[Tensor, Tensor]] | None = dataclass_field(default=None, repr=False)
    trained: dict[str, Trained] = dataclass_field(default_factory=dict, repr=False)

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


def leave_one_cluster_out(
    make_learner: Callable[[], Learner],
    field: Array,
    members: Array,
    clusters: Labels,
    allowed: Array | None = None,
    held_out: bool = True,
    seed: int = 0,
    keep_distances: bool = False,
    progress: Callable[[int, int], None] | None = None,
    *,
    roots: Array | None = None,
    kept: KeptFolds | None = None,
    processes: int = 1,
    logger: Callable[[str], Any] | None = None,
    strict: bool = False,
) -> LOCOResult:
    """Doppelganger rates of every cluster, each by a learner fitted on the other clusters.

    What a learner needs of the field alone is computed once (`Learner.summarise`), only allowed pairs are visited, and
    nothing of size M x F x K is made.

    Args:
        make_learner: gives a fresh learner, once a fold.
        field: (F, K) latents of the field stars.
        members: (M, K) latents of the cluster members.
        clusters: M labels. A cluster with one member has no sibling pair: it is left out, with a warning.
        allowed: (M, F) bool, the pairs that may be compared. None: all.
        held_out: False: one learner fitted on all clusters judges them all (no cross-validation).
        seed: of torch's random numbers while a learner is made and fitted, the same in every fold.
        keep_distances: keep every sibling's and every allowed stranger's distance, for histograms.
        progress: called with (folds done, folds) after each fold.
        roots: (M, K, K) as in `learning.Members`, for learners whose recipe draws noise.
        kept: where finished folds are looked for first and kept. None: nowhere.
        processes: that fit folds side by side; of use to learners that are trained.
        logger: gives a Lightning logger for the training without a cluster. None: no log.
        strict: as in `doppelganger_rate`.

    Raises:
        InputError: for fewer than two clusters with two members, or shapes that disagree.

    Warns:
        NumericalWarning: for clusters left out and clusters with no allowed pair (rate NaN), named.
    """
    field, members = as_tensor(field).double(), as_tensor(members).double()
    labels = np.asarray(clusters, dtype=str)
    if len(labels) != len(members) or (allowed is not None and tuple(allowed.shape) != (len(members), len(field))):
        raise InputError(
            f"one label a member and allowed (M, F) expected, got {len(members)} members, {len(labels)} labels, "
            f"{len(field)} field stars, allowed {None if allowed is None else tuple(allowed.shape)}"
        )
    judged = _judged_clusters(labels)
    flags = np.broadcast_to(True, (len(members), len(field))) if allowed is None else _flags(allowed)
    given = Members(members, labels, flags, None if roots is None else as_tensor(roots).double())
    has_siblings = np.isin(labels, judged)
    task = Task(make_learner, field, given, has_siblings, held_out, seed, keep_distances, logger, strict=strict)
    folds: dict[str, Fold] = {}
    for cluster, fold in folds_of(task, judged, kept, processes):
        folds[cluster] = fold
        if progress is not None:
            progress(len(folds), len(judged))
    folds = {cluster: folds[cluster] for cluster in judged}
    notes = [fold.note for fold in folds.values() if fold.note][: None if held_out else 1]
    if notes:
        _warn(f"in {len(notes)} of {len(judged) if held_out else 1} folds, first: {notes[0]}")
    _warn_named("with no allowed pair (rate NaN, left out of the mean)", [c for c in judged if folds[c].pairs == 0])
    return LOCOResult(
        {cluster: fold.rate for cluster, fold in folds.items()},
        {cluster: fold.members for cluster, fold in folds.items()},
        {cluster: fold.pairs for cluster, fold in folds.items()},
        {cluster: fold.median_sibling_distance for cluster, fold in folds.items()},
        held_out,
        {cluster: (fold.siblings, fold.strangers) for cluster, fold in folds.items()} if keep_distances else None,
        {cluster: fold.trained for cluster, fold in folds.items() if fold.trained is not None},
    )


def _flags(allowed: Array) -> NDArray[np.bool_]:
    """As NumPy, which finds the few True of a long row ten times faster."""
    return as_tensor(allowed).bool().cpu().numpy()


def _judged_clusters(labels: NDArray[np.str_]) -> list[str]:
    names, sizes = np.unique(labels, return_counts=True)
    judged = [str(name) for name in names[sizes > 1]]
    if len(judged) < 2:
        raise InputError(
            f"at least two clusters with two members are needed, got {len(judged)} "
            f"(of {len(names)} clusters): give more members"
        )
    _warn_named("with one member (left out: no sibling pair)", [str(name) for name in names[sizes == 1]])
    return judged


def _warn_named(what: str, clusters: list[str]) -> None:
    if clusters:
        _warn(f"{len(clusters)} clusters {what}: {', '.join(clusters)}")


def _warn(message: str) -> None:
    warnings.warn(message, NumericalWarning, stacklevel=3)


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
