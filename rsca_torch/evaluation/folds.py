"""Folds: clusters are judged by a learner that never saw them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import partial
from threading import Lock
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.doppelganger import median_distance, rate_below
from rsca_torch.evaluation.figure_of_merit import FigureOfMerit
from rsca_torch.evaluation.fold_files import Fold, FoldFiles, LeftOut
from rsca_torch.evaluation.judged_pairs import distances_of, in_order
from rsca_torch.learners.learner import Labels, Learner
from rsca_torch.parallel import Parallel
from rsca_torch.training.fitting import fitted
from rsca_torch.training.members import Members

__all__ = ["ALIKE", "WITHOUT_SUSPECTS", "Task", "folds_of"]

ALIKE = "_alike"  # ends the name of a figure among alike pairs alone
WITHOUT_SUSPECTS = "rate_without_suspects"  # of members that the learner takes for none


@runtime_checkable
class SetsApart(Protocol):
    """A learner that says who is no sibling of the others, where it knows a limit."""

    limit: Tensor | None

    def set_apart(self, members: Tensor, clusters: Labels, /) -> tuple[Tensor, Tensor]:
        """Of (M, K) members: (M,) squared distances, (M,) bool who is kept."""


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
        siblings, strangers, at_one_point = distances_of(learner, self.field, members.z, *compared)
        note = at_one_point or note
        median = median_distance(siblings)
        rate = rate_below(strangers, median, self.strict)
        merits = self._merits(members, siblings, strangers, *compared) if alone else {}
        if alone and isinstance(learner, SetsApart) and learner.limit is not None:
            merits[WITHOUT_SUSPECTS] = self._rate_without_suspects(learner, members, rate)
        kept = (siblings, strangers) if self.keeps(alone) else (siblings[:0], strangers[:0])
        trained = getattr(learner, "trained", None)
        floor = getattr(learner, "bounded_by", "none")
        return Fold(rate, len(members.z), len(strangers), median, *kept, note, trained, merits, floor)

    def keeps(self, alone: bool) -> bool:
        """Whether the distances of clusters that are left out alone, or with others, are kept."""
        return self.keep_distances if alone else self.keep_inner

    def merit_names(self, alone: bool) -> set[str]:
        """What is told of such clusters beside the rate, which alone makes a choice."""
        if not alone:
            return set()
        names = {*self.merits}
        if self.alike is not None:
            names |= {name + ALIKE for name in (*names, "rate")}
        return names

    def _rate_without_suspects(self, learner: SetsApart, members: Members, rate: float) -> float:
        """Of the cluster minus those that the learner, which never saw it, finds too far from it."""
        _, kept = learner.set_apart(members.z, members.labels)
        if kept.all() or kept.sum() < 2:
            return rate
        some = members[kept.cpu().numpy()]
        siblings, strangers, _ = distances_of(cast("Learner", learner), self.field, some.z, *some.compared())
        return rate_below(strangers, median_distance(siblings), self.strict)

    def _merits(
        self, members: Members, siblings: Tensor, strangers: Tensor, compared: Tensor, allowed: Tensor
    ) -> dict[str, float]:
        merits = {name: _value(name, merit, siblings, strangers) for name, merit in self.merits.items()}
        if self.alike is None:
            return merits
        rows = np.arange(len(members.z)) if members.rows is None else members.rows
        alike = torch.from_numpy(self.alike[np.ix_(rows, compared.numpy())])
        near = strangers[in_order(alike, allowed)]
        rate = rate_below(near, median_distance(siblings), self.strict)
        told = {"rate": rate, **{name: _value(name, merit, siblings, near) for name, merit in self.merits.items()}}
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


def _value(name: str, merit: FigureOfMerit, siblings: Tensor, strangers: Tensor) -> float:
    """NaN where no pair is allowed, as the rate."""
    if not len(strangers):
        return math.nan
    value: Any = merit(siblings, strangers)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"the figure of merit {name} must give one number a cluster, got {value!r}") from error


def folds_of(
    task: Task, jobs: Sequence[LeftOut], kept: FoldFiles | None, parallel: Parallel
) -> Iterator[dict[LeftOut, Fold]]:
    """Of each job its folds, one a cluster: those that are kept, then the others as they finish, each kept at once."""
    missing = []
    for left_out in jobs:
        known = {} if kept is None else {key: kept.get(key) for key in _each_first(left_out)}
        alone = len(left_out) == 1
        names = task.merit_names(alone)
        folds = {
            key: fold
            for key, fold in known.items()
            if fold
            and fold.merits.keys() - {WITHOUT_SUSPECTS} == names
            and (len(fold.siblings) or not task.keeps(alone))
        }
        if len(folds) == len(left_out):
            yield folds
        else:
            missing.append(left_out)
    for left_out, judged in parallel.as_done(partial(_done, task), missing, len(missing)):
        folds = dict(zip(_each_first(left_out), judged, strict=True))
        if kept is not None:
            for key, fold in folds.items():
                kept.put(key, fold)
        yield folds


def _done(task: Task, left_out: LeftOut) -> tuple[LeftOut, list[Fold]]:
    with _one_at_a_time:
        return left_out, task(left_out)


_one_at_a_time = Lock()  # torch's random numbers are one sequence of all threads that a worker of Dask may have


def _each_first(left_out: LeftOut) -> list[LeftOut]:
    return [(cluster, *(other for other in left_out if other != cluster)) for cluster in left_out]
