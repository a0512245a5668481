"""Leave one cluster out: every cluster is judged by a learner that never saw it (paper, section 4.2)."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.arrays import Array, all_finite, as_tensor
from rsca_torch.doppelganger import median_distance, sibling_distances, stranger_distances
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.learners.learner import Labels, Learner

__all__ = ["Difference", "LOCOResult", "fitted", "leave_one_cluster_out", "paired_difference"]

LEVEL = 0.68
RESAMPLES = 10_000
BLOCK = 2**16  # field stars mapped at a time


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
    allowed = np.broadcast_to(True, (len(members), len(field))) if allowed is None else _flags(allowed)
    has_siblings = np.isin(labels, judged)
    rates, sizes, pairs, medians = {}, {}, {}, {}
    distances: dict[str, tuple[Tensor, Tensor]] = {}
    notes: list[str] = []
    summary: dict[str, Any] = {}
    fit = partial(_noting, notes, make_learner, field, seed=seed, summary=summary)
    learner = None if held_out else fit(members[has_siblings], labels[has_siblings])
    for done, cluster in enumerate(judged, start=1):
        inside = labels == cluster
        others = has_siblings & ~inside
        judge = learner or fit(members[others], labels[others])
        siblings, strangers = _distances(judge, field, members[inside], allowed[inside])
        sizes[cluster], pairs[cluster], medians[cluster] = int(inside.sum()), len(strangers), median_distance(siblings)
        rates[cluster] = float((strangers <= medians[cluster]).double().mean())
        if keep_distances:
            distances[cluster] = siblings, strangers
        if progress is not None:
            progress(done, len(judged))
    if notes:
        _warn(f"in {len(notes)} of {len(judged) if held_out else 1} folds, first: {notes[0]}")
    _warn_named("with no allowed pair (rate NaN, left out of the mean)", [c for c in judged if pairs[c] == 0])
    return LOCOResult(rates, sizes, pairs, medians, held_out, distances if keep_distances else None)


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


def fitted(
    make_learner: Callable[[], Learner],
    field: Tensor,
    members: Tensor,
    clusters: Labels,
    seed: int,
    summary: dict[str, Any] | None = None,
) -> Learner:
    """A fresh learner fitted on field (F, K) and members (M, K) with their M labels, in eval mode.

    `summary`, empty at first, carries what the learner says of the field alone from one call to the next.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(
            seed
        )  # the one that is forked; torch.manual_seed takes a stack trace a fold
        learner = make_learner()
        learner.initialise(field, members, clusters, **_summary(learner, field, {} if summary is None else summary))
    return learner.eval()


def _summary(learner: Learner, field: Tensor, summary: dict[str, Any]) -> dict[str, Any]:
    """The further argument of `initialise`; none for a learner that does not ask for it."""
    if "summary" not in inspect.signature(learner.initialise).parameters:
        return {}
    if not summary:
        with torch.random.fork_rng(devices=[]):  # every fold draws the same numbers, the first one too
            summary["summary"] = learner.summarise(field)
    return summary


def _noting(notes: list[str], *given: Any, **options: Any) -> Learner:  # noqa: ANN401  (those of `fitted`)
    """As `fitted`; the first numerical warning joins the notes, so that 22 folds say once what they all say."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NumericalWarning)
        learner = fitted(*given, **options)
    notes += [str(warning.message) for warning in caught if issubclass(warning.category, NumericalWarning)][:1]
    for warning in caught:
        if not issubclass(warning.category, NumericalWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return learner


@torch.no_grad()
def _distances(learner: Learner, field: Tensor, members: Tensor, allowed: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """Of one cluster: siblings' distances and allowed strangers'; only field stars of an allowed pair are mapped."""
    embedded = _embedded(learner, members)
    compared = torch.from_numpy(np.flatnonzero(allowed.any(0)))
    strangers = [
        stranger_distances(embedded, _embedded(learner, field.index_select(0, block)), allowed[:, block.numpy()])
        for block in torch.split(compared, BLOCK)
    ]
    return sibling_distances(embedded), torch.cat(strangers)


def _embedded(learner: Learner, z: Tensor) -> Tensor:
    embedded: Tensor = learner(z)
    if not all_finite(embedded):
        raise InputError(
            f"{type(learner).__name__} gave {int((~embedded.isfinite()).sum())} of {embedded.numel()} values that are "
            "not finite: a distance to them means nothing"
        )
    return embedded


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
