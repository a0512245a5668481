"""Leave one cluster out: every cluster is judged by a learner that never saw it (paper, section 4.2)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.calibration import calibrated, require_clusters
from rsca_torch.evaluation.cllr import cllr
from rsca_torch.evaluation.figure_of_merit import FigureOfMerit
from rsca_torch.evaluation.fold_files import Fold, FoldFiles, LeftOut
from rsca_torch.evaluation.folds import Task, folds_of
from rsca_torch.evaluation.result import LOCOResult
from rsca_torch.learners.learner import Labels, Learner
from rsca_torch.parallel import Parallel
from rsca_torch.spectra.arrays import Array, as_tensor
from rsca_torch.spectra.labels import as_labels
from rsca_torch.training.members import Members

__all__ = ["as_alike", "as_flags", "as_stars", "ids_of", "leave_one_cluster_out", "result_of", "warn_of", "with_cllr"]


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
    kept: FoldFiles | None = None,
    processes: int = 1,
    parallel: Parallel | None = None,
    logger: Callable[[str], Any] | None = None,
    strict: bool = False,
    merits: Mapping[str, FigureOfMerit] | None = None,
    ids: Labels | None = None,
    noise: Array | None = None,
    alike: Array | None = None,
    calibrate: bool = False,
) -> LOCOResult:
    """Doppelganger rates of every cluster, each by a learner fitted on the other clusters.

    What a learner needs of the field alone is computed once (`Learner.summarise`), only allowed pairs are visited, and
    nothing of size M x F x K is made.

    Args:
        make_learner: gives a fresh learner, once a fold.
        field: (F, K) latents of the field stars.
        members: (M, K) latents of the cluster members.
        clusters: M labels. A cluster with one member has no sibling pair: it is left out, with a warning; so is a
            member without a label (masked, missing, NaN, None, "", the word nan, a negative number).
        allowed: (M, F) bool, the pairs that may be compared (`allowed_pairs`). None: all.
        held_out: False: one learner fitted on all clusters judges them all (no cross-validation).
        seed: of torch's random numbers while a learner is made and fitted, the same in every fold.
        keep_distances: keep every sibling's and every allowed stranger's distance, for histograms.
        progress: called with (folds done, folds) after each fold.
        roots: (M, K, K) as in `Members`, for learners whose recipe draws noise.
        kept: where finished folds are looked for first and kept. None: nowhere.
        processes: of this machine that fit folds side by side; of use to learners that are trained.
        parallel: where folds are fitted, in place of `processes`, on a cluster say.
        logger: gives a Lightning logger for the training without a cluster. None: no log.
        strict: as in `doppelganger_rate`.
        merits: further figures of merit of every cluster, by name, from the distances that the rate is counted from.
        ids: M names of the members, by which `paired_difference` knows them. None: their places among those
            that have a sibling.
        noise: (M, K, K) as in `Members`, for learners whose `initialise` asks for it (floor="noise").
        alike: (M, F) bool, e.g. the pairs of like [Fe/H]: the rate and the merits are told among those of the allowed
            pairs too, as the merits "rate_alike", "overlap_alike" and so on.
        calibrate: fit learners without every two clusters too, so that each cluster is judged by a likelihood ratio
            that is calibrated without it: the merit "cllr" and `LOCOResult.calibrated`. A learner that gives scores
            has "cllr_uncalibrated" too.

    Raises:
        InputError: for fewer than two clusters with two members, shapes that disagree, or a calibration of clusters
            that are not held out.

    Warns:
        NumericalWarning: for clusters left out and clusters with no allowed pair (rate NaN), named, and for too few
            clusters to calibrate.

    Examples:
        >>> from rsca_torch import ScaledComponents
        >>> from rsca_torch.testing import drawn_problem
        >>> problem = drawn_problem()
        >>> leave_one_cluster_out(ScaledComponents, problem.field, problem.members, problem.clusters)
        LOCOResult(5 clusters, rate 0.001, 68% interval 0.0003333 to 0.001667)
    """
    field, given = as_stars(field, members, clusters, allowed, roots, noise)
    if calibrate and not held_out:
        raise InputError("clusters that are not held out would calibrate themselves: held_out=True, or calibrate=False")
    task = Task(make_learner, field, given, held_out, seed, keep_distances or calibrate, logger, strict, merits or {})
    task.keep_inner, task.alike = calibrate, as_alike(alike, given)
    judged = given.clusters()
    pairs = [*combinations(judged, 2)] if calibrate else []
    folds: dict[LeftOut, Fold] = {}

    def fit(jobs: Sequence[LeftOut], before: int = 0) -> None:
        where = parallel or Parallel(processes=processes)
        for done, each in enumerate(folds_of(task, jobs, kept, where), start=before + 1):
            folds.update(each)
            if progress is not None:
                progress(done, len(judged) + len(pairs))

    def inner() -> Callable[[str, str], Fold]:
        fit(pairs, before=len(judged))
        return lambda cluster, other: folds[other, cluster]

    fit([(cluster,) for cluster in judged])
    alone = {cluster: folds[cluster,] for cluster in judged}
    warn_of(alone, held_out)
    result = result_of(alone, held_out, keep_distances, ids_of(ids, clusters))
    return with_cllr(result, task, alone, inner) if calibrate else result


def with_cllr(
    result: LOCOResult, task: Task, alone: Mapping[str, Fold], fit: Callable[[], Callable[[str, str], Fold]]
) -> LOCOResult:
    """The result with what its scores are worth as likelihood ratios, calibrated without the cluster that is judged.

    Args:
        result: of the folds.
        task: whose folds they are.
        alone: the fold of each cluster, with its distances.
        fit: gives (cluster, other) -> the fold in which the other is judged without either, with its distances.

    Warns:
        NumericalWarning: where there are too few clusters to calibrate, or to fit without two of them.
    """
    merits, scores = dict(result.merits), {cluster: _scores(fold) for cluster, fold in alone.items()}
    if getattr(task.make_learner(), "gives_scores", False):
        merits["cllr_uncalibrated"] = {cluster: cllr(*pairs) for cluster, pairs in scores.items()}
    compared = {cluster: task.members[task.members.labels == cluster].compared()[0] for cluster in scores}
    try:
        require_clusters(scores)
        inner = fit()
        others = {
            cluster: {other: _scores(inner(cluster, other)) for other in scores if other != cluster}
            for cluster in scores
        }
    except InputError as error:
        _warn(f"likelihood ratios stay uncalibrated: {error}")
        return replace(result, merits=merits)
    told = calibrated(scores, others, result.members, compared)
    merits["cllr"] = dict.fromkeys(scores, math.nan) | told.cllr()
    return replace(result, merits=merits, calibrated=told)


def _scores(fold: Fold) -> tuple[Tensor, Tensor]:
    return -fold.siblings, -fold.strangers


def as_alike(alike: Array | None, given: Members) -> NDArray[np.bool_] | None:
    """As NumPy, a row for each of the members' flags.

    Raises:
        InputError: for another shape than theirs.
    """
    if alike is None:
        return None
    flags = as_flags(alike)
    if given.flags is None or flags.shape != given.flags.shape:
        raise InputError(f"alike must have the shape of allowed, (M, F), got {flags.shape}")
    return flags


def as_stars(
    field: Array,
    members: Array,
    clusters: Labels,
    allowed: Array | None,
    roots: Array | None,
    noise: Array | None = None,
) -> tuple[Tensor, Members]:
    """The field and the members that have a sibling, as folds take them; arguments as in `leave_one_cluster_out`.

    Raises:
        InputError: for fewer than two clusters with two members, or shapes that disagree.

    Warns:
        NumericalWarning: names the clusters with one member.
    """
    labels = as_labels(clusters)
    if len(labels) != len(members) or (allowed is not None and tuple(allowed.shape) != (len(members), len(field))):
        raise InputError(
            f"one label a member and allowed (M, F) expected, got {len(members)} members, {len(labels)} labels, "
            f"{len(field)} field stars, allowed {None if allowed is None else tuple(allowed.shape)}"
        )
    if not (labels != "").all():
        _warn(f"{int((labels == '').sum())} of {len(labels)} members have no label: left out")
    names, sizes = np.unique(labels[labels != ""], return_counts=True)
    several = names[sizes > 1]
    if len(several) < 2:
        raise InputError(
            f"at least two clusters with two members are needed, got {len(several)} "
            f"(of {len(names)} clusters): give more members"
        )
    _warn_named("with one member (left out: no sibling pair)", names[sizes == 1])
    flags = np.broadcast_to(True, (len(members), len(field))) if allowed is None else as_flags(allowed)
    roots, noise = (None if known is None else as_tensor(known).double() for known in (roots, noise))
    given = Members(as_tensor(members).double(), labels, flags, roots, noise)
    return as_tensor(field).double(), given[np.isin(labels, several)]


def as_flags(allowed: Array) -> NDArray[np.bool_]:
    """As NumPy, which finds the few True of a long row ten times faster; an array of bool as it is."""
    if type(allowed) in (np.ndarray, np.memmap):
        return np.asarray(allowed, dtype=bool)
    return as_tensor(allowed).cpu().numpy().astype(bool)  # what is under a mask is not allowed


def warn_of(folds: Mapping[str, Fold], held_out: bool) -> None:
    """Of a fold for each cluster.

    Warns:
        NumericalWarning: what the first fit said, and names clusters with no allowed pair.
    """
    notes = [fold.note for fold in folds.values() if fold.note][: None if held_out else 1]
    if notes:
        _warn(f"in {len(notes)} of {len(folds) if held_out else 1} folds, first: {notes[0]}")
    unpaired = [cluster for cluster, fold in folds.items() if fold.pairs == 0]
    _warn_named("with no allowed pair (rate NaN, left out of the mean)", unpaired)


def ids_of(ids: Labels | None, clusters: Labels) -> dict[str, tuple[str, ...]]:
    """The members of each cluster, ids in order; arguments as in `leave_one_cluster_out`.

    Raises:
        InputError: where there is not one id a member.
    """
    labels = as_labels(clusters)
    _, cluster, size = np.unique(labels, return_inverse=True, return_counts=True)
    names = np.asarray(np.cumsum(size[cluster] > 1) - 1 if ids is None else ids).astype(str)
    if names.shape != labels.shape:
        raise InputError(f"one id a member expected, got {len(names)} for {len(labels)} members")
    return {cluster: tuple(np.sort(names[labels == cluster]).tolist()) for cluster in np.unique(labels).tolist()}


def result_of(
    folds: Mapping[str, Fold], held_out: bool, keep_distances: bool, stars: Mapping[str, tuple[str, ...]]
) -> LOCOResult:
    """Of a fold for each cluster, and the members of each."""
    names = next(iter(folds.values())).merits
    return LOCOResult(
        {cluster: fold.rate for cluster, fold in folds.items()},
        {cluster: fold.members for cluster, fold in folds.items()},
        {cluster: fold.pairs for cluster, fold in folds.items()},
        {cluster: fold.median_sibling_distance for cluster, fold in folds.items()},
        held_out,
        {cluster: (fold.siblings, fold.strangers) for cluster, fold in folds.items()} if keep_distances else None,
        {cluster: fold.trained for cluster, fold in folds.items() if fold.trained is not None},
        {name: {cluster: fold.merits[name] for cluster, fold in folds.items()} for name in names},
        {cluster: stars[cluster] for cluster in folds},
        floor=next(iter(folds.values())).floor,
    )


def _warn_named(what: str, clusters: Sequence[str] | NDArray[np.str_]) -> None:
    if len(clusters):
        _warn(f"{len(clusters)} clusters {what}: {', '.join(clusters)}")


def _warn(message: str) -> None:
    warnings.warn(message, NumericalWarning, stacklevel=3)
