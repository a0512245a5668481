"""Leave one cluster out: every cluster is judged by a learner that never saw it (paper, section 4.2)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.figure_of_merit import FigureOfMerit
from rsca_torch.evaluation.fold_files import Fold, FoldFiles
from rsca_torch.evaluation.folds import Task, folds_of
from rsca_torch.evaluation.result import LOCOResult
from rsca_torch.learners.learner import Labels, Learner
from rsca_torch.spectra.arrays import Array, as_tensor
from rsca_torch.spectra.labels import as_labels
from rsca_torch.training.members import Members

__all__ = ["as_flags", "as_stars", "ids_of", "leave_one_cluster_out", "result_of", "warn_of"]


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
    logger: Callable[[str], Any] | None = None,
    strict: bool = False,
    merits: Mapping[str, FigureOfMerit] | None = None,
    ids: Labels | None = None,
    noise: Array | None = None,
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
        processes: that fit folds side by side; of use to learners that are trained.
        logger: gives a Lightning logger for the training without a cluster. None: no log.
        strict: as in `doppelganger_rate`.
        merits: further figures of merit of every cluster, by name, from the distances that the rate is counted from.
        ids: M names of the members, by which `paired_difference` knows them. None: their places among those
            that have a sibling.
        noise: (M, K, K) as in `Members`, for learners whose `initialise` asks for it (floor="noise").

    Raises:
        InputError: for fewer than two clusters with two members, or shapes that disagree.

    Warns:
        NumericalWarning: for clusters left out and clusters with no allowed pair (rate NaN), named.

    Examples:
        >>> from rsca_torch import ScaledComponents
        >>> from rsca_torch.testing import drawn_problem
        >>> problem = drawn_problem()
        >>> leave_one_cluster_out(ScaledComponents, problem.field, problem.members, problem.clusters)
        LOCOResult(5 clusters, rate 0.001, 68% interval 0.0003333 to 0.001667)
    """
    field, given = as_stars(field, members, clusters, allowed, roots, noise)
    task = Task(make_learner, field, given, held_out, seed, keep_distances, logger, strict, merits or {})
    judged = given.clusters()
    folds: dict[str, Fold] = {}
    for done in folds_of(task, [(cluster,) for cluster in judged], kept, processes):
        folds |= {cluster: fold for (cluster,), fold in done.items()}
        if progress is not None:
            progress(len(folds), len(judged))
    folds = {cluster: folds[cluster] for cluster in judged}
    warn_of(folds, held_out)
    return result_of(folds, held_out, keep_distances, ids_of(ids, clusters))


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
    )


def _warn_named(what: str, clusters: Sequence[str] | NDArray[np.str_]) -> None:
    if len(clusters):
        _warn(f"{len(clusters)} clusters {what}: {', '.join(clusters)}")


def _warn(message: str) -> None:
    warnings.warn(message, NumericalWarning, stacklevel=3)
