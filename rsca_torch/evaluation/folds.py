"""Folds: clusters are judged by a learner that never saw them; in this process or in several."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from multiprocessing import get_context
from multiprocessing.reduction import ForkingPickler
from pickle import PicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.doppelganger import median_distance, rate_below
from rsca_torch.evaluation.figure_of_merit import FigureOfMerit
from rsca_torch.evaluation.fold_files import Fold, FoldFiles, LeftOut
from rsca_torch.learners.distances import distances_of_allowed, sibling_distances
from rsca_torch.learners.learner import Learner
from rsca_torch.spectra.arrays import all_finite
from rsca_torch.training.fitting import fitted
from rsca_torch.training.members import Members

__all__ = ["ALIKE", "Task", "folds_of"]

SOME = 64  # stars that tell whether an embedding is constant
BLOCK = 2**16  # field stars mapped at a time
ALIKE = "_alike"  # ends the name of a figure among alike pairs alone


@dataclass
class Task:
    """All that a fold needs but the clusters that are left out.

    Attributes:
        make_learner: gives a fresh learner.
        field: (F, K) float64 latents of the field stars.
        members: of clusters with two members or more, with the pairs that may be compared.
        held_out: False: one learner fitted on all clusters judges them all.
        seed: of torch's random numbers while a learner is made and fitted.
        keep_distances: of the clusters that are left out alone.
        keep_inner: of those that are left out with another one too, which a calibration takes.
        logger: gives a Lightning logger, from the names of the clusters left out.
        strict: as in `doppelganger_rate`.
        merits: further figures of merit, by name.
        alike: (M, F) bool, pairs among which rate and merits are told once more, as `ALIKE`; M as in `members.flags`.
        summary: what the learner says of the field alone, from one fold to the next.
    """

    make_learner: Callable[[], Learner]
    field: Tensor
    members: Members
    held_out: bool = True
    seed: int = 0
    keep_distances: bool = False
    logger: Callable[[str], Any] | None = None
    strict: bool = False
    merits: Mapping[str, FigureOfMerit] = dataclass_field(default_factory=dict)
    summary: dict[str, Any] = dataclass_field(default_factory=dict)
    keep_inner: bool = False
    alike: NDArray[np.bool_] | None = None
    _of_all: tuple[Learner, str] | None = dataclass_field(default=None, init=False)
    _compared: dict[str, tuple[Tensor, Tensor]] = dataclass_field(default_factory=dict, init=False)

    def __call__(self, left_out: LeftOut) -> list[Fold]:
        """Fit without these clusters, and judge each of them."""
        if self.held_out:
            seen = np.logical_and.reduce([self.members.labels != cluster for cluster in left_out])
            learner, note = self.fitted(seen, " and ".join(left_out))
        else:
            self._of_all = self._of_all or self.fitted(np.ones(len(self.members.labels), dtype=bool), "all")
            learner, note = self._of_all
        return [self._judged(learner, cluster, note, len(left_out) == 1) for cluster in left_out]

    def _judged(self, learner: Learner, cluster: str, note: str, alone: bool) -> Fold:
        members = self.members[self.members.labels == cluster]
        compared = self._compared.get(cluster) or members.compared()
        if not alone:  # then it is judged many times
            self._compared[cluster] = compared
        judged_by = _minus_scores if getattr(learner, "gives_scores", False) else _distances
        siblings, strangers, at_one_point = judged_by(learner, self.field, members.z, *compared)
        if at_one_point:
            alike = "pair the same score" if judged_by is _minus_scores else "star the same embedding"
            note = (
                f"{type(learner).__name__} gives every {alike}, so that all distances are the same and the rate is 1; "
                "leave it out, or where it is trained, train it for less or from another start"
            )
        median = median_distance(siblings)
        rate = rate_below(strangers, median, self.strict)
        merits = self._merits(members, siblings, strangers, *compared) if alone else {}
        kept = (siblings, strangers) if self.keeps(alone) else (siblings[:0], strangers[:0])
        trained = getattr(learner, "trained", None)
        return Fold(rate, len(members.z), len(strangers), median, *kept, note, trained, merits)

    def keeps(self, alone: bool) -> bool:
        """Whether the distances of clusters that are left out alone, or with others, are kept."""
        return self.keep_distances if alone else self.keep_inner

    def merit_names(self, alone: bool) -> set[str]:
        """What is told of such clusters beside the rate, which alone makes a choice."""
        names = {*self.merits} if alone else set()
        return names | {name + ALIKE for name in (*names, "rate")} if alone and self.alike is not None else names

    def _merits(
        self, members: Members, siblings: Tensor, strangers: Tensor, compared: Tensor, allowed: Tensor
    ) -> dict[str, float]:
        merits = {name: _value(merit, siblings, strangers) for name, merit in self.merits.items()}
        if self.alike is None:
            return merits
        rows = np.arange(len(members.z)) if members.rows is None else members.rows
        alike = torch.from_numpy(self.alike[np.ix_(rows, compared.numpy())])
        near = strangers[_in_order(alike, allowed)]
        rate = rate_below(near, median_distance(siblings), self.strict)
        told = {"rate": rate, **{name: _value(merit, siblings, near) for name, merit in self.merits.items()}}
        return merits | {name + ALIKE: value for name, value in told.items()}

    def fitted(self, chosen: NDArray[np.bool_], name: str) -> tuple[Learner, str]:
        """A learner fitted on some members, and its first numerical warning: 22 folds say once what they all say."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", NumericalWarning)
            members = self.members[chosen]
            logger = None if self.logger is None else self.logger(name)
            learner = fitted(self.make_learner, self.field, members, members.labels, self.seed, self.summary, logger)
        notes = [str(warning.message) for warning in caught if issubclass(warning.category, NumericalWarning)]
        for warning in caught:
            if not issubclass(warning.category, NumericalWarning):
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        return learner, notes[0] if notes else ""


def _in_order(alike: Tensor, allowed: Tensor) -> Tensor:
    """(pairs,) of the allowed pairs (n, C), in the order of their distances: by block of field stars, then member."""
    blocks = zip(torch.split(alike, BLOCK, dim=1), torch.split(allowed, BLOCK, dim=1), strict=True)
    return torch.cat([block[pairs] for block, pairs in blocks])


def _value(merit: FigureOfMerit, siblings: Tensor, strangers: Tensor) -> float:
    """NaN where no pair is allowed, as the rate."""
    return float(merit(siblings, strangers)) if len(strangers) else math.nan


def folds_of(
    task: Task, jobs: Sequence[LeftOut], kept: FoldFiles | None, processes: int
) -> Iterator[dict[LeftOut, Fold]]:
    """Of each job its folds, one a cluster: those that are kept, then the others as they finish, each kept at once."""
    missing = []
    for left_out in jobs:
        known = {} if kept is None else {key: kept.get(key) for key in _each_first(left_out)}
        alone = len(left_out) == 1
        folds = {
            key: fold
            for key, fold in known.items()
            if fold and fold.merits.keys() == task.merit_names(alone) and (len(fold.siblings) or not task.keeps(alone))
        }
        if len(folds) == len(left_out):
            yield folds
        else:
            missing.append(left_out)
    done = _in_processes(task, missing, processes) if processes > 1 else ((job, task(job)) for job in missing)
    for left_out, judged in done:
        folds = dict(zip(_each_first(left_out), judged, strict=True))
        if kept is not None:
            for key, fold in folds.items():
                kept.put(key, fold)
        yield folds


def _each_first(left_out: LeftOut) -> list[LeftOut]:
    return [(cluster, *(other for other in left_out if other != cluster)) for cluster in left_out]


def _in_processes(task: Task, jobs: Sequence[LeftOut], processes: int) -> Iterator[tuple[LeftOut, list[Fold]]]:
    """Side by side; every process is given the task once."""
    try:
        ForkingPickler.dumps((task.make_learner, task.logger))
    except (PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"processes={processes} sends make_learner to other processes, which takes a class, a function of a module "
            f"or a functools.partial of one: {error}; give one of these, or processes=1"
        ) from error
    threads = max(1, torch.get_num_threads() // processes)
    with ProcessPoolExecutor(
        min(processes, max(1, len(jobs))), get_context("spawn"), _start_worker, (task, threads)
    ) as pool:
        running = {pool.submit(_work, left_out): left_out for left_out in jobs}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)


_worker: Task | None = None  # of this process


def _start_worker(task: Task, threads: int) -> None:
    global _worker
    torch.set_num_threads(threads)
    _worker = task


def _work(left_out: LeftOut) -> list[Fold]:
    assert _worker is not None
    return _worker(left_out)


@torch.no_grad()
def _distances(
    learner: Learner, field: Tensor, members: Tensor, compared: Tensor, allowed: Tensor
) -> tuple[Tensor, Tensor, bool]:
    """Of one cluster: siblings' distances and allowed strangers', and whether all of these stars are at one point.

    Only field stars of an allowed pair are mapped.
    """
    embedded = _embedded(learner, members)
    strangers, at_one_point = [], len(compared) > 1
    for block, pairs in zip(torch.split(compared, BLOCK), torch.split(allowed, BLOCK, dim=1), strict=True):
        near = _embedded(learner, field.index_select(0, block))
        at_one_point = at_one_point and bool((near[:SOME] == embedded[0]).all())
        strangers.append(distances_of_allowed(embedded.double(), near.double(), pairs))
    return sibling_distances(embedded), torch.cat(strangers), at_one_point


@torch.no_grad()
def _minus_scores(
    learner: Learner, field: Tensor, members: Tensor, compared: Tensor, allowed: Tensor
) -> tuple[Tensor, Tensor, bool]:
    """As `_distances`, of a learner that gives a score, higher for more alike."""
    own = _scored(learner, members, members)
    strangers = [
        _scored(learner, members, field.index_select(0, block))[pairs]  # member by member, as distances
        for block, pairs in zip(torch.split(compared, BLOCK), torch.split(allowed, BLOCK, dim=1), strict=True)
    ]
    siblings = own[tuple(torch.triu_indices(len(members), len(members), offset=1))]
    every = torch.cat([siblings, *strangers])
    return -siblings, -every[len(siblings) :], len(compared) > 1 and bool((every == every[0]).all())


def _scored(learner: Learner, members: Tensor, stars: Tensor) -> Tensor:
    scores: Tensor = learner.score(members, stars)
    of = f"{type(learner).__name__}.score"
    if scores.shape != (len(members), len(stars)) or not scores.is_floating_point():
        raise InputError(
            f"{of} must give ({len(members)}, {len(stars)}) numbers for {len(members)} members and {len(stars)} stars, "
            f"got {str(scores.dtype).removeprefix('torch.')} of shape {tuple(scores.shape)}"
        )
    if not all_finite(scores):
        raise InputError(
            f"{of} gave {int((~scores.isfinite()).sum())} of {scores.numel()} values that are not finite: they rank "
            "no pair"
        )
    return scores.double()


def _embedded(learner: Learner, z: Tensor) -> Tensor:
    embedded: Tensor = learner(z)
    if embedded.ndim != 2 or len(embedded) != len(z) or not embedded.is_floating_point():
        raise InputError(
            f"{type(learner).__name__} must map ({', '.join(map(str, z.shape))}) to ({len(z)}, D) numbers, got "
            f"{str(embedded.dtype).removeprefix('torch.')} of shape {tuple(embedded.shape)}"
        )
    if not all_finite(embedded):
        raise InputError(
            f"{type(learner).__name__} gave {int((~embedded.isfinite()).sum())} of {embedded.numel()} values that are "
            "not finite: a distance to them means nothing"
        )
    return embedded
