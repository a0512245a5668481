"""Work that can run side by side: in this process, in several of this machine, or on a cluster that the user has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Literal, TypeVar

import joblib

from rsca_torch.errors import InputError

__all__ = ["Parallel"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Backend = Literal["processes", "dask", "ray"]
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
            task: a function of a module, or a `functools.partial` of one: it is sent to other processes.
            items: what it is given, sent likewise.
            pieces: how many items there are, where that is known: no more processes are started.

        Raises:
            InputError: the cluster's package is not installed, or its scheduler cannot be reached.
        """
        wanted = self.processes
        if self.backend == "processes":
            wanted = wanted or joblib.cpu_count()
            wanted = wanted if pieces is None else max(1, min(wanted, pieces))
            if wanted == 1:
                yield from map(task, items)
                return
        with ExitStack() as stack:
            if self.backend != "processes":
                self._connect(stack)
            run = joblib.Parallel(n_jobs=wanted or -1, batch_size=1, pre_dispatch="2*n_jobs", return_as="generator")
            call = joblib.delayed(partial(task))  # has a hash whatever the task is: joblib waits for ever on Dask else
            yield from run(call(item) for item in items)

    def _connect(self, stack: ExitStack) -> None:
        """Have joblib send its work to the cluster."""
        package = EXTRAS[self.backend]
        try:
            library = import_module(package)
            backend = import_module("ray.util.joblib") if self.backend == "ray" else None
        except ImportError as error:
            raise InputError(f"parallel={self.backend} needs the package {package}: pip install {package}") from error
        try:
            if backend is not None:
                library.init(address=self.address, ignore_reinit_error=True)
                stack.callback(library.shutdown)
                backend.register_ray()
                stack.enter_context(joblib.parallel_config(backend="ray"))
                return
            local = {} if self.address else {"n_workers": self.processes, "threads_per_worker": 1}
            client = stack.enter_context(library.Client(self.address, **local))
        except (OSError, ValueError) as error:
            raise InputError(f"parallel.address={self.address} cannot be reached: {error}; is it running?") from error
        stack.enter_context(joblib.parallel_config(backend="dask", client=client))
