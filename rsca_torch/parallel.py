"""Work that can run side by side: in this process, in several of this machine, or on a cluster that the user has."""

from __future__ import annotations

import logging
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, Generic, Literal, NamedTuple, TypeVar
from uuid import uuid4

import cloudpickle
import joblib
import numpy as np
import torch
from joblib.externals.loky import get_reusable_executor, process_executor
from numpy.typing import NDArray

from rsca_torch.errors import InputError

__all__ = ["Parallel"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Backend = Literal["processes", "dask", "ray"]
SHARED = 1_000_000  # bytes of an array from which on processes of this machine share it
SOON = 10.0  # seconds: after work that took less, its processes stay for the next
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


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
            with _interrupts_held():
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
                        f"one of processes={wanted} was ended from outside, for want of memory as a rule: give fewer; "
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
            client = stack.enter_context(dask.Client(self.address, **local))
            client.wait_for_workers(1, timeout=60)
        except (OSError, ValueError) as error:
            raise InputError(f"parallel.address={self.address} cannot be reached: {error}; is it running?") from error
        held = client.scatter(_Sent(task), hash=False, broadcast=True)
        return _Place(
            sum(client.ncores().values()),
            lambda item: client.submit(_call, held, item, pure=False),
            lambda running: next(iter(dask.wait(running, return_when="FIRST_COMPLETED").done)),
            lambda done: done.result(),
            (dask.scheduler.KilledWorker,),
        )

    def _ray(self, stack: ExitStack, task: Callable[[Any], Any], _: int) -> _Place:
        ray = _package("ray", "ray")
        try:
            if not ray.is_initialized():
                ray.init(self.address, num_cpus=None if self.address else self.processes)
                stack.callback(ray.shutdown)
        except (OSError, ValueError) as error:
            raise InputError(f"parallel.address={self.address} cannot be reached: {error}; is it running?") from error
        held, call = ray.put(_Sent(task)), ray.remote(_call)

        def result(done: object) -> Any:  # noqa: ANN401  (whatever the task gives)
            try:
                return ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error

        return _Place(
            int(ray.cluster_resources().get("CPU", 1)),
            lambda item: call.remote(held, item),
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
    folder = stack.enter_context(TemporaryDirectory(prefix="rsca_torch-"))
    threads = max(1, torch.get_num_threads() // number)
    sent = _Sent(task, Path(folder), threads)
    began, environment = monotonic(), dict.fromkeys(THREADS, str(threads))
    # No process ends while others work (timeout): loky takes that for a fault.
    executor = get_reusable_executor(number, timeout=None, env=environment, initializer=_may_grow)

    def end(kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # nobody waits for what is under way
            executor.shutdown(wait=True, kill_workers=True)
        elif monotonic() - began > SOON:  # their memory is worth more than the seconds in which others start
            executor.shutdown(wait=True)

    stack.push(end)
    executor.submit(_started).result()  # now, while Ctrl-C is held
    return _Place(
        number,
        lambda item: executor.submit(_call, sent, item),
        lambda running: next(iter(wait(running, return_when=FIRST_COMPLETED).done)),
        lambda done: done.result(),
        (BrokenProcessPool,),
    )


def _may_grow() -> None:
    """Let loky not end a process for having grown by 300 MB: that is what importing Lightning takes."""
    process_executor._USE_PSUTIL = False


def _started() -> None:
    """A first piece of work, with which all processes start."""


def _package(name: str, backend: str) -> Any:  # noqa: ANN401  (a module)
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f"parallel={backend} needs the package {name}: pip install {name}") from error


class _Sent(Generic[Item, Result]):
    """A task as it goes to other processes: made there once, however many items it is called with.

    Args:
        task: any function.
        folder: for large arrays, which processes of this machine map into memory. None: they are sent with the rest.
        threads: of torch, for the task. None: as they are.
    """

    def __init__(self, task: Callable[[Item], Result], folder: Path | None = None, threads: int | None = None) -> None:
        buffers: list[pickle.PickleBuffer] = []
        code = BytesIO()
        try:
            _Pickler(code, protocol=5, buffer_callback=buffers.append).dump(task)
        except Exception as error:  # whatever somebody's class raises
            raise InputError(
                "what runs side by side is sent to other processes, which this cannot be: "
                f"{type(error).__name__}: {error}; let learners, loggers and figures of merit hold no open file, lock "
                "or generator, or give processes=1"
            ) from error
        self.name, self.threads, self.code, self.path = uuid4().hex, threads, code.getvalue(), [*sys.path]
        self.arrays: list[NDArray[np.uint8] | Path] = [np.asarray(buffer.raw()) for buffer in buffers]
        for number, array in enumerate(self.arrays):
            if folder is not None and isinstance(array, np.ndarray) and array.nbytes >= SHARED:
                np.save(folder / f"{number}.npy", array, allow_pickle=False)
                self.arrays[number] = folder / f"{number}.npy"

    def task(self) -> Callable[[Item], Result]:
        """In the other process."""
        with _made:
            if self.name not in _tasks:
                _tasks.clear()
                sys.path.extend(folder for folder in self.path if folder not in sys.path)  # it was started before
                arrays = [np.load(array, mmap_mode="c") if isinstance(array, Path) else array for array in self.arrays]
                arrays = [array if array.flags.writeable else array.copy() for array in arrays]
                # As multiprocessing and Dask themselves send work: from one process of this run to another, no file.
                _tasks[self.name] = pickle.loads(self.code, buffers=arrays)
            task: Callable[[Item], Result] = _tasks[self.name]
            return task


_tasks: dict[str, Any] = {}  # of this process: the one that was called last
_made = threading.Lock()  # a worker of Dask has several threads


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Has arrays beside what it writes, and tensors as arrays."""

    def reducer_override(self, given: object) -> object:
        if type(given) is torch.Tensor:
            try:
                return torch.from_numpy, (given.numpy(),)
            except (TypeError, RuntimeError):  # on a device, with a gradient, of a type that NumPy has not
                pass
        return super().reducer_override(given)


def _call(sent: _Sent[Item, Result], item: Item) -> Result:
    """In the other process."""
    if sent.threads is not None:
        torch.set_num_threads(max(1, sent.threads))
    try:
        return sent.task()(item)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))  # whether it can be sent
        except Exception:  # then the process that waits would be told that this one came to a sudden end
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        raise


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes that start here leave Ctrl-C to the one that starts them, which hears of it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
