"""Folds: clusters are judged by a learner that never saw them; in this process or in several."""

from __future__ import annotations

import math
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from multiprocessing import active_children, get_context
from multiprocessing.reduction import ForkingPickler
from types import ModuleType
from typing import Any, Protocol, cast, runtime_checkable

import cloudpickle
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
    task: Task, jobs: Sequence[LeftOut], kept: FoldFiles | None, processes: int
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
    # Stars are shared as they are; what a script or a notebook defines goes as code, as no process runs these again.
    own: dict[str, Any] = {name: getattr(task, name) for name in ("make_learner", "logger", "merits")}
    without: dict[str, Any] = dict.fromkeys(own)
    try:
        code = cloudpickle.dumps(own)
    except Exception as error:  # whatever somebody's class raises
        raise InputError(
            f"processes={processes} sends make_learner, logger and merits to other processes, which these cannot be: "
            f"{type(error).__name__}: {error}; let them hold no open file, lock or generator, or give processes=1"
        ) from error
    stars = replace(task, **without)
    threads = max(1, torch.get_num_threads() // processes)
    others = set(active_children())
    with ProcessPoolExecutor(
        min(processes, max(1, len(jobs))), get_context("spawn"), _start_worker, (stars, code, threads)
    ) as pool:
        try:
            with _nothing_to_run_again(), _interrupts_held():
                running = {pool.submit(_work, left_out): left_out for left_out in jobs}
            for done in as_completed(running):
                yield running[done], done.result()
        except BrokenProcessPool as error:
            raise InputError(
                f"one of processes={processes} was ended from outside, for want of memory as a rule: give fewer; "
                "finished folds are not lost where they are kept"
            ) from error
        except BaseException:  # nobody waits for the folds that are under way
            for process in set(active_children()) - others:
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _nothing_to_run_again() -> Iterator[None]:
    """While processes start: each would run the script that is running, and start processes in turn without a guard."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes that start here leave Ctrl-C to the one that starts them, which hears of it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_worker: Task | None = None  # of this process


def _start_worker(stars: Task, code: bytes, threads: int) -> None:
    global _worker
    torch.set_num_threads(threads)
    _worker = replace(stars, **cloudpickle.loads(code))


def _work(left_out: LeftOut) -> list[Fold]:
    assert _worker is not None, "the process was started with a task"
    try:
        return _worker(left_out)
    except Exception as error:
        try:
            ForkingPickler.loads(ForkingPickler.dumps(error))
        except Exception:  # then the process that waits would be told that this one came to a sudden end
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        raise
