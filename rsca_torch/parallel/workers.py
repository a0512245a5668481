"""Processes of this machine: they leave Ctrl-C to the one that starts them, and none outlives it, however it ended."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from joblib import register_parallel_backend
from joblib._parallel_backends import LokyBackend
from joblib.executor import MemmappingExecutor
from joblib.externals.loky import get_reusable_executor, process_executor, reusable_executor
from joblib.externals.loky.backend import resource_tracker as loky_tracker

from rsca_torch.files.whole import named_disk, part_of

__all__ = ["ends_told_here", "for_launchers", "shared_folder", "workers"]

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_LAST: dict[int, Any] = {}  # process -> the executor that it last had
LOOKED = 0.5  # seconds between two looks at whether the parent is there


def workers(number: int, threads: int) -> Any:  # noqa: ANN401  (loky has no types)
    """So many processes, which start now; each call with the same numbers gives the same ones.

    Args:
        number: of processes.
        threads: of each.
    """
    # No process ends while others work (timeout): loky takes that for a fault.
    options = {"timeout": None, "env": dict.fromkeys(THREADS, str(threads)), **_beginning()}
    executor = None
    try:
        with ends_told_here():
            executor = get_reusable_executor(number, **options)
            executor.submit(_started)
        if _LAST.get(os.getpid()) is not executor:
            # A process that multiprocessing started waits at its end for those that it started itself: these end first.
            Finalize(None, executor.shutdown, kwargs={"kill_workers": True}, exitpriority=100)
            _LAST[os.getpid()] = executor
    except BaseException:  # what was told meanwhile is heard here
        if executor is not None:
            executor.shutdown(kill_workers=True)
        raise
    return executor


def for_launchers() -> None:
    """Have the processes of joblib that others start, as Hydra's launcher does, be such too."""
    register_parallel_backend("loky", _Launched)


class _Launched(LokyBackend):  # type: ignore[misc]
    """joblib's, with processes as of `workers`."""

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:  # noqa: ANN401
        """Start them."""
        if (own := reusable_executor._executor) is not None and not isinstance(own, MemmappingExecutor):
            own.shutdown(kill_workers=True)  # of `workers`, which joblib would take for its own
        try:
            with ends_told_here():
                number: int = super().configure(n_jobs, parallel, **_beginning(), **options)
                self._workers.submit(_started)
        except BaseException:
            if getattr(self, "_workers", None) is not None:  # joblib falls back to no processes by an exception, too
                self._workers.terminate(kill_workers=True)
            raise
        return number


@contextmanager
def ends_told_here() -> Iterator[None]:
    """Processes that start inside leave INT and TERM to the one that starts them, which hears of both afterwards."""
    for tracker in (resource_tracker, loky_tracker):  # each would let both through when it starts
        tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A new folder in TMPDIR for what processes share; what runs that were killed left there goes."""
    place = Path(tempfile.gettempdir()).resolve()
    folder = part_of(place / "rsca_torch")
    try:
        with named_disk(place):
            folder.mkdir(mode=0o700)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _beginning() -> dict[str, Any]:
    return {"initializer": _begin, "initargs": (os.getpid(),)}


def _begin(parent: int) -> None:
    """In a process that starts: end with its parent, and do not have loky end it for having grown by 300 MB.

    That is what importing Lightning takes.
    """
    process_executor._USE_PSUTIL = False
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOKED)
    os.kill(os.getpid(), signal.SIGKILL)


def _started() -> None:
    """A first piece of work, with which all processes start."""
