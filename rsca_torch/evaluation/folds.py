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
from typing import Any

import cloudpickle
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

__all__ = ["Task", "folds_of"]

SOME = 64  # stars that tell whether an embedding is constant
BLOCK = 2**16  # field stars mapped at a time


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
        logger: gives a Lightning logger, from the names of the clusters left out.
        strict: as in `doppelganger_rate`.
        merits: further figures of merit, by name.
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
        siblings, strangers, at_one_point = _distances(learner, self.field, members.z, *compared)
        if at_one_point:
            note = (
                f"{type(learner).__name__} gives every star the same embedding, so that all distances are 0 and the "
                "rate is 1; leave it out, or where it is trained, train it for less or from another start"
            )
        median = median_distance(siblings)
        rate = rate_below(strangers, median, self.strict)
        merits = {name: _value(name, merit, siblings, strangers) for name, merit in self.merits.items() if alone}
        kept = (siblings, strangers) if alone and self.keep_distances else (siblings[:0], strangers[:0])
        trained = getattr(learner, "trained", None)
        return Fold(rate, len(members.z), len(strangers), median, *kept, note, trained, merits)

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
        merits = task.merits.keys() if len(left_out) == 1 else set()  # a choice is made by the rate alone
        folds = {key: fold for key, fold in known.items() if fold and fold.merits.keys() == merits}
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


def _embedded(learner: Learner, z: Tensor) -> Tensor:
    embedded: Tensor = learner(z)
    if not isinstance(embedded, Tensor):
        raise InputError(f"{type(learner).__name__} must map to a torch.Tensor, got {type(embedded).__name__}")
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
