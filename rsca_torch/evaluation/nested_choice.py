"""Nested leave one cluster out: the cluster that judges took no part in choosing the number of components."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import combinations
from operator import or_
from typing import Any, NamedTuple

import numpy as np

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.figure_of_merit import FigureOfMerit
from rsca_torch.evaluation.fold_files import Fold, FoldFiles, LeftOut
from rsca_torch.evaluation.folds import Task, folds_of
from rsca_torch.evaluation.leave_one_out import as_alike, as_flags, as_stars, ids_of, result_of, warn_of, with_cllr
from rsca_torch.evaluation.result import LOCOResult
from rsca_torch.learners.learner import Labels, Learner
from rsca_torch.parallel import Parallel
from rsca_torch.spectra.arrays import Array
from rsca_torch.spectra.labels import as_labels

__all__ = ["Candidate", "NestedResult", "best", "carried", "different_numbers", "nested_leave_one_cluster_out"]


class Candidate(NamedTuple):
    """What one number of components K makes of the stars.

    Attributes:
        field: (F, K) latents of the field stars.
        members: (M, K) latents of the cluster members.
        roots: (M, K, K) as in `Members`, for learners whose recipe draws noise.
        kept: where finished folds are looked for first and kept. None: nowhere.
        noise: (M, K, K) as in `Members`, for learners whose `initialise` asks for it.
        make_learner: gives a learner for these latents, one that knows of repeats in them. None: as for the others.
    """

    field: Array
    members: Array
    roots: Array | None = None
    kept: FoldFiles | None = None
    noise: Array | None = None
    make_learner: Callable[[], Learner] | None = None


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
    candidates: Mapping[int, Candidate | tuple[Array, Array]],
    clusters: Labels,
    allowed: Array | None = None,
    seed: int = 0,
    keep_distances: bool = False,
    progress: Callable[[int, int], None] | None = None,
    *,
    processes: int = 1,
    parallel: Parallel | None = None,
    logger: Callable[[str], Any] | None = None,
    merits: Mapping[str, FigureOfMerit] | None = None,
    ids: Labels | None = None,
    alike: Array | None = None,
    calibrate: bool = False,
) -> NestedResult:
    """Doppelganger rates of every cluster with the number of components that does best without it.

    For cluster c the candidates are ranked by leave-one-out among the other clusters: a learner fitted without c and
    d judges d. So neither the choice nor the learner that judges c depends on a member of c (Varma & Simon 2006).

    Args:
        make_learner: gives a fresh learner, once a fold.
        candidates: what each number of components K makes of the stars.
        clusters: M labels. A cluster with one member is left out, with a warning.
        allowed: (M, F) bool, the pairs that may be compared. None: all.
        seed: of torch's random numbers while a learner is made and fitted, the same in every fold.
        keep_distances: as in `leave_one_cluster_out`.
        progress: called with (candidates done, candidates) after each candidate.
        processes: as in `leave_one_cluster_out`.
        parallel: as in `leave_one_cluster_out`.
        logger: gives a Lightning logger for a training, from a text that tells K and the clusters left out.
        merits: as in `leave_one_cluster_out`; the rate alone chooses.
        ids: as in `leave_one_cluster_out`.
        alike: as in `leave_one_cluster_out`.
        calibrate: as in `leave_one_cluster_out`, each cluster with the number of components that was chosen without it.

    Raises:
        InputError: as `carried` and `leave_one_cluster_out` do, and where too few clusters have an allowed pair.

    Warns:
        NumericalWarning: as `carried` and `leave_one_cluster_out` do.

    Examples:
        >>> from rsca_torch import ScaledComponents
        >>> from rsca_torch.testing import drawn_problem
        >>> stars = drawn_problem()
        >>> candidates = {number: Candidate(stars.field[:, :number], stars.members[:, :number]) for number in (2, 4, 6)}
        >>> nested = nested_leave_one_cluster_out(ScaledComponents, candidates, stars.clusters)
        >>> nested.chosen["NGC 0"], nested.best
        (6, 6)
    """
    labels, stars = as_labels(clusters), ids_of(ids, clusters)
    each = {number: Candidate(*candidate) for number, candidate in candidates.items()}
    n_field = min((len(candidate.field) for candidate in each.values()), default=0)
    bounded = getattr(make_learner(), "is_bounded", False)  # by a floor: then members carry any number
    numbers = sorted(each) if bounded else carried(list(each), n_field, labels)
    flags = None if allowed is None else as_flags(allowed)
    curve: dict[int, LOCOResult] = {}
    inner: dict[int, dict[LeftOut, Fold]] = {}
    for done, number in enumerate(numbers, start=1):
        field, members, roots, kept, noise, make_own = each[number]
        field, given = as_stars(field, members, labels, flags, roots, noise)
        log = None if logger is None else partial(_logger_of, logger, number)
        make = make_own or make_learner
        task = Task(make, field, given, True, seed, keep_distances or calibrate, log, merits=merits or {})
        task.keep_inner, task.alike = calibrate, as_alike(alike, given)
        judged = given.clusters()
        jobs = [*((cluster,) for cluster in judged), *combinations(judged, 2)]
        folds = reduce(or_, folds_of(task, jobs, kept, parallel or Parallel(processes=processes)))
        alone = {cluster: folds[cluster,] for cluster in judged}
        warn_of(alone, True)
        curve[number] = result_of(alone, True, keep_distances=False, stars=stars)
        inner[number] = folds
        if progress is not None:
            progress(done, len(numbers))

    def without(cluster: str) -> dict[int, LOCOResult]:
        """The curve as the other clusters have it, each judged by learners that did not see this one either."""
        return {
            number: replace(
                curve[number],
                cluster_rates={other: inner[number][other, cluster].rate for other in judged if other != cluster},
            )
            for number in numbers
        }

    chosen = {cluster: best(without(cluster)) for cluster in judged}
    own = {cluster: inner[number][cluster,] for cluster, number in chosen.items()}
    loco = result_of(own, True, keep_distances, stars)
    if calibrate:
        loco = with_cllr(loco, task, own, lambda: lambda cluster, other: inner[chosen[cluster]][other, cluster])
    return NestedResult(loco, chosen, curve)


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


def carried(candidates: Sequence[int], n_field: int, clusters: Labels | None) -> list[int]:
    """The candidates, rising, that the smallest training set of a nested fold can carry (docs/maths.md, section 3).

    Args:
        candidates: numbers of components.
        n_field: how many field stars there are.
        clusters: one label a member; the two largest clusters are those that the smallest set lacks. None: members do
            not limit the number, as with a floor; step 1 does, which needs two more stars than components.

    Raises:
        InputError: where the candidates are not different whole numbers of at least 1, or none is left.

    Warns:
        NumericalWarning: names the candidates that are left out.

    Examples:
        >>> carried([4, 2], 100, ["M 67"] * 5 + ["NGC 188"] * 6 + ["M 92"] * 7)
        [2, 4]
    """
    if not different_numbers(candidates):
        raise InputError(
            "candidates for n_components must be whole numbers of at least 1, one or more, each once: "
            f"got {[*candidates]}"
        )
    limit, stars = n_field - 2, f"{n_field} field stars"
    if clusters is not None:
        labels = as_labels(clusters)
        _, sizes = np.unique(labels[labels != ""], return_counts=True)
        limit = min(n_field - 1, int(np.sort(sizes - 1)[:-2].sum()))
        stars += " and the members minus two clusters, minus one a cluster,"
    kept = sorted(number for number in candidates if number <= limit)
    beyond = ", ".join(str(number) for number in sorted(set(candidates) - set(kept)))
    why = f"{stars} can carry at most {limit}"
    if not kept:
        more = "field stars" if clusters is None else "members"
        raise InputError(f"no candidate for n_components is left of {beyond}: {why}; give smaller ones or more {more}")
    if beyond:
        warnings.warn(f"candidates for n_components left out: {beyond} ({why})", NumericalWarning, stacklevel=2)
    return kept


def different_numbers(given: Sequence[object]) -> bool:
    """Whether these are whole numbers of at least 1, one or more, each once."""
    whole = all(isinstance(number, int) and not isinstance(number, bool) and number >= 1 for number in given)
    return whole and 0 < len(given) == len(set(given))


def _logger_of(logger: Callable[[str], Any], number: int, left_out: str) -> Any:  # noqa: ANN401  (Lightning's)
    return logger(f"{number} components without {left_out}")
