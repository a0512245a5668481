"""Work that can run side by side: in this process, in several of this machine, or on a cluster that the user has."""

from __future__ import annotations

import logging
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from itertools import islice
from typing import Any, Generic, Literal, TypeVar
from uuid import uuid4

import cloudpickle
import joblib
import numpy as np
import torch

from rsca_torch.errors import InputError

__all__ = ["Parallel"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Backend = Literal["processes", "dask", "ray"]
KILLED = ("KilledWorker", "WorkerCrashedError", "OutOfMemoryError")  # Dask's and Ray's, which may not be there
SHARED = "1M"  # bytes of an array from which on processes of this machine share it
EXTRAS = {"dask": "distributed", "ray": "ray"}  # backend -> the package that it needs


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
        return self._run(task, items, pieces, "generator")

    def as_done(
        self, task: Callable[[Item], Result], items: Iterable[Item], pieces: int | None = None
    ) -> Iterator[Result]:
        """As `each`, but in the order in which they are done: what is waited for holds nothing else up."""
        return self._run(task, items, pieces, "generator_unordered")

    def _run(
        self, task: Callable[[Item], Result], items: Iterable[Item], pieces: int | None, order: str
    ) -> Iterator[Result]:
        wanted = self.processes
        if self.backend == "processes":
            wanted = wanted or joblib.cpu_count()
            wanted = wanted if pieces is None else max(1, min(wanted, pieces))
            if wanted == 1:
                yield from map(task, items)
                return
        with ExitStack() as stack:
            here = self.backend == "processes"
            sent = _Sent(task, torch.get_num_threads() // wanted if here and wanted else None)
            shared = {"mmap_mode": "c", "max_nbytes": SHARED} if here else {}
            with _interrupts_held():
                library = None if here else self._connected(stack, sent)
                if self.backend == "ray":
                    results = _on_ray(library, sent, iter(items), order == "generator")
                else:
                    run = joblib.Parallel(
                        wanted or -1, return_as=order, batch_size=1, pre_dispatch="2*n_jobs", **shared
                    )
                    results = run(joblib.delayed(_call)(sent, item) for item in items)
            stack.callback(_close, results)
            try:
                yield from results
            except BrokenProcessPool as error:
                raise InputError(
                    f"one of processes={wanted} was ended from outside, for want of memory as a rule: give fewer; "
                    "finished work is not lost where it is kept"
                ) from error
            except Exception as error:
                if type(error).__name__ in KILLED:
                    raise InputError(f"workers of the cluster were ended from outside: {error}") from error
                raise

    def _connected(self, stack: ExitStack, sent: object) -> Any:  # noqa: ANN401  (a module)
        """The cluster's package; joblib sends its work to Dask from here on, and what all of it needs once."""
        package = EXTRAS[self.backend]
        try:
            library = import_module(package)
        except ImportError as error:
            raise InputError(f"parallel={self.backend} needs the package {package}: pip install {package}") from error
        try:
            if self.backend == "ray":
                if not library.is_initialized():
                    library.init(self.address, num_cpus=None if self.address else self.processes)
                    stack.callback(library.shutdown)
                return library
            logging.getLogger("distributed").setLevel(logging.WARNING)  # of every start and end it tells else
            local = {} if self.address else {"n_workers": self.processes, "threads_per_worker": 1}
            client = stack.enter_context(library.Client(self.address, **local))
        except (OSError, ValueError) as error:
            raise InputError(f"parallel.address={self.address} cannot be reached: {error}; is it running?") from error
        stack.enter_context(joblib.parallel_config(backend="dask", client=client, scatter=[sent]))
        return library


def _on_ray(ray: Any, sent: object, items: Iterator[Any], ordered: bool) -> Generator[Any, None, None]:  # noqa: ANN401
    """By Ray's own functions: joblib's backend for it waits for all results."""
    held, call = ray.put(sent), ray.remote(_call)
    wanted = 2 * int(ray.cluster_resources().get("CPU", 1))
    running = [call.remote(held, item) for item in islice(items, wanted)]
    while running:
        done = running[0] if ordered else ray.wait(running)[0][0]
        running.remove(done)
        try:
            yield ray.get(done)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        running += [call.remote(held, item) for item in islice(items, 1)]


class _Sent(Generic[Item, Result]):
    """A task as it goes to other processes: made there once, however many items it is called with."""

    def __init__(self, task: Callable[[Item], Result], threads: int | None) -> None:
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
        self.arrays = [np.asarray(buffer.raw()) for buffer in buffers]  # no copy: joblib maps large ones into memory

    def task(self) -> Callable[[Item], Result]:
        """In the other process."""
        with _made:
            if self.name not in _tasks:
                _tasks.clear()
                sys.path.extend(folder for folder in self.path if folder not in sys.path)  # it was started before
                arrays = [array if array.flags.writeable else array.copy() for array in self.arrays]
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
            pickle.loads(pickle.dumps(error))
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


def _close(results: Generator[Any, None, None]) -> None:
    """End what nobody waits for; joblib warns of that."""
    with warnings.catch_warnings(action="ignore"):
        results.close()
