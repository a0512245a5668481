"""Leave one cluster out: every cluster is judged by a learner that never saw it (paper, section 4.2)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.arrays import Array, as_tensor
from rsca_torch.doppelganger import median_distance, sibling_distances, stranger_distances
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.learners.learner import Labels, Learner

__all__ = ["Difference", "LOCOResult", "fitted", "leave_one_cluster_out", "paired_difference"]

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
    """

    cluster_rates: dict[str, float]
    members: dict[str, int]
    pairs: dict[str, int]
    median_sibling_distance: dict[str, float]
    held_out: bool = True
    distances: dict[str, tuple[Tensor, Tensor]] | None = field(default=None, repr=False)

    @property
    def rate(self) -> float:
        """The global rate: mean over clusters weighted by members; clusters without allowed pairs left out."""
        rates, weights = self._counted(list(self.cluster_rates))
        return float(rates @ weights / weights.sum()) if len(rates) else float("nan")

    def interval(self, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
        """Percentile interval of the global rate from a bootstrap over clusters.

        Which clusters happened to be observed is the largest uncertainty by far (22 of them in DR16).
        """
        rates, weights = self._counted(list(self.cluster_rates))
        return _percentiles(_resampled_means(rates, weights, resamples, seed), level)

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
) -> LOCOResult:
    """Doppelganger rates of every cluster, each by a learner fitted on the other clusters.

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
    allowed = torch.ones(len(members), len(field), dtype=torch.bool) if allowed is None else as_tensor(allowed).bool()
    has_siblings = torch.from_numpy(np.isin(labels, judged))
    members, labels, allowed = members[has_siblings], labels[has_siblings.numpy()], allowed[has_siblings]
    sizes = {cluster: int((labels == cluster).sum()) for cluster in judged}
    distances: dict[str, tuple[Tensor, Tensor]] = {}
    notes: list[str] = []
    learner = None if held_out else _noting(notes, make_learner, field, members, labels, seed)
    for done, cluster in enumerate(judged, start=1):
        inside = torch.from_numpy(labels == cluster)
        others = labels[labels != cluster]
        judge = learner or _noting(notes, make_learner, field, members[~inside], others, seed)
        distances[cluster] = _distances(judge, field, members[inside], allowed[inside])
        if progress is not None:
            progress(done, len(judged))
    if notes:
        _warn(f"in {len(notes)} of {len(judged) if held_out else 1} folds, first: {notes[0]}")
    pairs = {cluster: len(strangers) for cluster, (_, strangers) in distances.items()}
    _warn_named("with no allowed pair (rate NaN, left out of the mean)", [c for c in judged if pairs[c] == 0])
    medians = {cluster: median_distance(siblings) for cluster, (siblings, _) in distances.items()}
    rates = {
        cluster: float((strangers <= medians[cluster]).double().mean()) for cluster, (_, strangers) in distances.items()
    }
    return LOCOResult(rates, sizes, pairs, medians, held_out, distances if keep_distances else None)


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


def fitted(make_learner: Callable[[], Learner], field: Tensor, members: Tensor, clusters: Labels, seed: int) -> Learner:
    """A fresh learner fitted on field (F, K) and members (M, K) with their M labels, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner = make_learner()
        learner.initialise(field, members, clusters)
    return learner.eval()


def _noting(
    notes: list[str], make_learner: Callable[[], Learner], field: Tensor, members: Tensor, clusters: Labels, seed: int
) -> Learner:
    """As `fitted`; the first numerical warning joins the notes, so that 22 folds say once what they all say."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NumericalWarning)
        learner = fitted(make_learner, field, members, clusters, seed)
    notes += [str(warning.message) for warning in caught if issubclass(warning.category, NumericalWarning)][:1]
    for warning in caught:
        if not issubclass(warning.category, NumericalWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return learner


@torch.no_grad()
def _distances(learner: Learner, field: Tensor, members: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Of one cluster: siblings' distances and allowed strangers'; only field stars of an allowed pair are mapped."""
    compared = allowed.any(0)
    embedded, strangers = learner(members), learner(field[compared])
    for part in (embedded, strangers):
        if not part.isfinite().all():
            raise InputError(
                f"{type(learner).__name__} gave {int((~part.isfinite()).sum())} of {part.numel()} values that are not "
                "finite: a distance to them means nothing"
            )
    return sibling_distances(embedded), stranger_distances(embedded, strangers, allowed[:, compared])


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
