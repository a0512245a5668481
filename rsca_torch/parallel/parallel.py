"""Work that can run side by side: in this process, in several of this machine, or on a cluster that the user has."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from time import monotonic
from typing import Any, Literal, NamedTuple, TypeVar

import joblib
import torch

from rsca_torch.errors import InputError
from rsca_torch.parallel.sent import Sent, call
from rsca_torch.parallel.workers import ends_told_here, shared_folder, workers

__all__ = ["Parallel"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Backend = Literal["processes", "dask", "ray"]
SOON = 10.0  # seconds: after work that took less, its processes stay for the next


@dataclass(frozen=True)
class Parallel:
    """Where pieces of work run; what they give does not depend on it.

    Args:
        backend: "processes" of this machine, or a cluster of "dask" or "ray".
        processes: how many pieces run at once; 1: in this process. None: as many as there are processors, or as the
            cluster has.
        address: of the cluster's scheduler, as its own client takes it. None: one that is started on this machine.

    Raises:
        InputError: an option has a value that it cannot have.

    Example:
        >>> list(Parallel(processes=1).each(abs, [-1, -2]))
        [1, 2]
    """

    backend: Backend = "processes"
    processes: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.backend not in ("processes", "dask", "ray"):
            raise InputError(f"parallel.backend must be processes, dask or ray, got {self.backend!r}")
        if self.processes is not None and self.processes < 1:
            raise InputError(f"parallel.processes={self.processes}: at least 1 expected, or null for all there are")
        if self.address is not None and self.backend == "processes":
            raise InputError(f"parallel.address={self.address}: only parallel=dask and parallel=ray have a scheduler")

    def each(
        self, task: Callable[[Item], Result], items: Iterable[Item], pieces: int | None = None
    ) -> Iterator[Result]:
        """What `task` makes of each item, in their order.

        Args:
            task: any function, also of a script or a notebook. It is sent to every other process once, as it is now;
                processes of this machine share its arrays and CPU tensors.
            items: what it is given, sent likewise, each when its turn comes.
            pieces: how many items there are, where that is known: no more processes are started.

        Raises:
            InputError: the cluster's package is not installed, its scheduler cannot be reached, the task cannot be
                sent, or a process was ended from outside.
        """
        return self._run(task, items, pieces, ordered=True)

    def as_done(
        self, task: Callable[[Item], Result], items: Iterable[Item], pieces: int | None = None
    ) -> Iterator[Result]:
        """As `each`, but in the order in which they are done: what is waited for holds nothing else up."""
        return self._run(task, items, pieces, ordered=False)

    def _run(
        self, task: Callable[[Item], Result], items: Iterable[Item], pieces: int | None, ordered: bool
    ) -> Iterator[Result]:
        wanted = self.processes
        if self.backend == "processes":
            wanted = wanted or joblib.cpu_count()
            wanted = wanted if pieces is None else max(1, min(wanted, pieces))
            if wanted == 1:
                yield from map(task, items)
                return
        start = {"processes": _processes, "dask": self._dask, "ray": self._ray}[self.backend]
        with ExitStack() as stack:
            place = start(stack, task, wanted or 1)
            waiting = iter(items)
            running = [place.submit(item) for item in islice(waiting, 2 * place.number)]
            while running:  # no more is begun than is taken: results of a hundred workers would fill the memory
                done = running[0] if ordered else place.first(running)
                running.remove(done)
                try:
                    result = place.result(done)
                except place.killed as error:
                    raise InputError(
                        f"one of processes={wanted} was ended from outside, usually for lack of memory: give fewer; "
                        "finished work is not lost where it is kept"
                        if self.backend == "processes"
                        else f"workers of the cluster were ended from outside: {' '.join(str(error).split())}"
                    ) from error
                running += [place.submit(item) for item in islice(waiting, 1)]
                yield result

    def _dask(self, stack: ExitStack, task: Callable[[Any], Any], _: int) -> _Place:
        dask = _package("distributed", "dask")
        logging.getLogger("distributed").setLevel(logging.WARNING)  # of every start and end it tells else
        local = {} if self.address else {"n_workers": self.processes, "threads_per_worker": 1}
        try:
            with ends_told_here():
                client = stack.enter_context(dask.Client(self.address, **local))
            client.wait_for_workers(1, timeout=60)
        except (OSError, ValueError) as error:
            raise InputError(f"parallel.address={self.address} cannot be reached: {error}; is it running?") from error
        held = client.scatter(Sent(task), hash=False, broadcast=True)
        return _Place(
            sum(client.ncores().values()),
            lambda item: client.submit(call, held, item, pure=False),
            lambda running: next(iter(dask.wait(running, return_when="FIRST_COMPLETED").done)),
            lambda done: done.result(),
            (dask.scheduler.KilledWorker,),
        )

    def _ray(self, stack: ExitStack, task: Callable[[Any], Any], _: int) -> _Place:
        ray = _package("ray", "ray")
        try:
            if not ray.is_initialized():
                with ends_told_here():
                    ray.init(self.address, num_cpus=None if self.address else self.processes)
                stack.callback(ray.shutdown)
        except (OSError, ValueError) as error:
            raise InputError(f"parallel.address={self.address} cannot be reached: {error}; is it running?") from error
        held, remote = ray.put(Sent(task)), ray.remote(call)

        def result(done: object) -> Any:  # noqa: ANN401  (whatever the task gives)
            try:
                return ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error

        return _Place(
            int(ray.cluster_resources().get("CPU", 1)),
            lambda item: remote.remote(held, item),
            lambda running: ray.wait(running)[0][0],
            result,
            (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError),
        )


class _Place(NamedTuple):
    """Where pieces of work run."""

    number: int  # at once
    submit: Callable[[Any], Any]  # an item -> what stands for its result
    first: Callable[[list[Any]], Any]  # of several such, one whose result is there
    result: Callable[[Any], Any]
    killed: tuple[type[Exception], ...]  # what is raised where a worker came to a sudden end


def _processes(stack: ExitStack, task: Callable[[Any], Any], number: int) -> _Place:
    folder = stack.enter_context(shared_folder())
    threads = max(1, torch.get_num_threads() // number)
    sent, began = Sent(task, folder, threads), monotonic()
    executor = workers(number, threads)

    def end(kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # nobody waits for what is under way
            executor.shutdown(wait=True, kill_workers=True)
        elif monotonic() - began > SOON:  # their memory is worth more than the seconds in which others start
            executor.shutdown(wait=True)

    stack.push(end)
    return _Place(
        number,
        lambda item: executor.submit(call, sent, item),
        lambda running: next(iter(wait(running, return_when=FIRST_COMPLETED).done)),
        lambda done: done.result(),
        (BrokenProcessPool,),
    )


def _package(name: str, backend: str) -> Any:  # noqa: ANN401  (a module)
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f"parallel={backend} needs the package {name}: pip install {name}") from error
