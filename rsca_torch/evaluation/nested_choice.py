"""Nested leave one cluster out: the cluster that judges took no part in choosing the number of components."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.doppelganger import doppelganger_rate
from rsca_torch.evaluation.leave_one_out import LOCOResult, leave_one_cluster_out
from rsca_torch.learners.learner import Labels, Learner
from rsca_torch.spectra.arrays import Array, as_tensor
from rsca_torch.training.fitting import fitted

__all__ = ["NestedResult", "best", "carried", "different_numbers", "nested_leave_one_cluster_out"]


@dataclass(frozen=True)
class NestedResult:
    """Rates of learners each of which chose its number of components without the cluster that it judges.

    Attributes:
        loco: every cluster judged with its own choice.
        chosen: of every cluster the candidate with the lowest rate over the other clusters.
        curve: of every candidate, rising, plain leave one cluster out.
    """

    loco: LOCOResult
    chosen: dict[str, int]
    curve: dict[int, LOCOResult]

    @property
    def best(self) -> int:
        """The choice over all clusters, for a model that is fitted on them all."""
        return best(self.curve)


def nested_leave_one_cluster_out(
    make_learner: Callable[[], Learner],
    candidates: Mapping[int, tuple[Array, Array]],
    clusters: Labels,
    allowed: Array | None = None,
    seed: int = 0,
    keep_distances: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> NestedResult:
    """Doppelganger rates of every cluster with the number of components that does best without it.

    For cluster c the candidates are ranked by leave-one-out among the other clusters: a learner fitted without c and
    d judges d. So neither the choice nor the learner that judges c depends on a member of c (Varma & Simon 2006).

    Args:
        make_learner: gives a fresh learner, once a fold.
        candidates: of each number of components K the latents of the field (F, K) and of the members (M, K).
        clusters: M labels. A cluster with one member is left out, with a warning.
        allowed: (M, F) bool, the pairs that may be compared. None: all.
        seed: of torch's random numbers while a learner is made and fitted, the same in every fold.
        keep_distances: as in `leave_one_cluster_out`.
        progress: called with (candidates done, candidates) after each candidate.

    Raises:
        InputError: as `carried` and `leave_one_cluster_out` do, and where too few clusters have an allowed pair.

    Warns:
        NumericalWarning: as `carried` and `leave_one_cluster_out` do.
    """
    labels = np.asarray(clusters, dtype=str)
    numbers = carried(list(candidates), min((len(field) for field, _ in candidates.values()), default=0), labels)
    curve: dict[int, LOCOResult] = {}
    without: dict[int, dict[str, dict[str, float]]] = {}
    for done, number in enumerate(numbers, start=1):
        field, members = (as_tensor(latents).double() for latents in candidates[number])
        curve[number] = leave_one_cluster_out(
            make_learner, field, members, labels, allowed, seed=seed, keep_distances=keep_distances
        )
        without[number] = _without_two(make_learner, field, members, labels, allowed, list(curve[number].members), seed)
        if progress is not None:
            progress(done, len(numbers))
    chosen = {
        cluster: best({number: replace(curve[number], cluster_rates=without[number][cluster]) for number in numbers})
        for cluster in curve[numbers[0]].members
    }
    loco = _each_with_its_own(chosen, curve)
    return NestedResult(loco, chosen, {number: replace(result, distances=None) for number, result in curve.items()})


def best(curve: Mapping[int, LOCOResult]) -> int:
    """The number of components with the lowest global rate; of equal ones the smallest.

    Raises:
        InputError: where no cluster has an allowed pair, so that there is no rate.
    """
    rates = {number: curve[number].rate for number in sorted(curve)}
    if not np.isfinite(list(rates.values())).all():
        raise InputError(
            "no cluster that may take part in the choice of n_components has an allowed pair: allow more pairs, "
            "give more clusters, or give one n_components"
        )
    return min(rates, key=rates.__getitem__)


def carried(candidates: Sequence[int], n_field: int, clusters: Labels) -> list[int]:
    """The candidates, rising, that the smallest training set of a nested fold can carry (docs/maths.md, section 3).

    Args:
        candidates: numbers of components.
        n_field: how many field stars there are.
        clusters: one label a member; the two largest clusters are those that the smallest set lacks.

    Raises:
        InputError: where the candidates are not different whole numbers of at least 1, or none is left.

    Warns:
        NumericalWarning: names the candidates that are left out.
    """
    if not different_numbers(candidates):
        raise InputError(
            "candidates for n_components must be whole numbers of at least 1, one or more, each once: "
            f"got {[*candidates]}"
        )
    _, sizes = np.unique(np.asarray(clusters, dtype=str), return_counts=True)
    limit = min(n_field - 1, int(np.sort(sizes - 1)[:-2].sum()))
    kept = sorted(number for number in candidates if number <= limit)
    beyond = ", ".join(str(number) for number in sorted(set(candidates) - set(kept)))
    why = f"{n_field} field stars and the members less two clusters, less one a cluster, can carry at most {limit}"
    if not kept:
        raise InputError(f"no candidate for n_components is left of {beyond}: {why}; give smaller ones or more members")
    if beyond:
        warnings.warn(f"candidates for n_components left out: {beyond} ({why})", NumericalWarning, stacklevel=2)
    return kept


def different_numbers(given: Sequence[object]) -> bool:
    """Whether these are whole numbers of at least 1, one or more, each once."""
    whole = all(isinstance(number, int) and not isinstance(number, bool) and number >= 1 for number in given)
    return whole and 0 < len(given) == len(set(given))


def _without_two(
    make_learner: Callable[[], Learner],
    field: Tensor,
    members: Tensor,
    labels: NDArray[np.str_],
    allowed: Array | None,
    judged: list[str],
    seed: int,
) -> dict[str, dict[str, float]]:
    """Of every cluster the rates of the others, each by a learner that saw neither; one learner serves both ways."""
    pairs = torch.ones(len(members), len(field), dtype=torch.bool) if allowed is None else as_tensor(allowed).bool()
    inside = {cluster: torch.from_numpy(labels == cluster) for cluster in judged}
    compared = {cluster: pairs[inside[cluster]].any(0).nonzero()[:, 0] for cluster in judged}
    close = {cluster: pairs[inside[cluster]].index_select(1, compared[cluster]) for cluster in judged}

    @torch.no_grad()
    def rate(learner: Learner, cluster: str) -> float:
        strangers = field.index_select(0, compared[cluster])
        return doppelganger_rate(learner(members[inside[cluster]]), learner(strangers), close[cluster])

    rates: dict[str, dict[str, float]] = {cluster: {} for cluster in judged}
    summary: dict[str, Any] = {}  # what the learner needs of the field alone, the same in every fold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)  # the curve said it
        for one, other in combinations(judged, 2):
            rest = np.isin(labels, judged) & (labels != one) & (labels != other)
            learner = fitted(make_learner, field, members[torch.from_numpy(rest)], labels[rest], seed, summary)
            rates[one][other] = rate(learner, other)
            rates[other][one] = rate(learner, one)
    return rates


def _each_with_its_own(chosen: Mapping[str, int], curve: Mapping[int, LOCOResult]) -> LOCOResult:
    """Of each cluster what the curve has at its choice; members and pairs are the same along the curve."""
    some = next(iter(curve.values()))
    differing = [
        name
        for name in ("cluster_rates", "median_sibling_distance", "distances")
        if getattr(some, name) is not None  # distances are kept only on demand
    ]
    own: dict[str, Any] = {
        name: {cluster: getattr(curve[number], name)[cluster] for cluster, number in chosen.items()}
        for name in differing
    }
    return replace(some, **own)
