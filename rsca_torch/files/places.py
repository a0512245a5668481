"""Where a result may be made: nothing is there yet, and one process has the place."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from rsca_torch.errors import InputError
from rsca_torch.files.whole import PART, finish_moves, remove_abandoned

__all__ = ["claimed", "is_free", "remove_left", "require_new_file", "require_new_folder"]

log = logging.getLogger(__name__)

LOCK = ".lock"
#: What may lie in a folder that counts as empty: what was left by a run that was killed, and by whoever made the disk.
NOTHING = {LOCK, ".partial", ".uncensored", ".uncensored.partial", "lost+found"}


def is_free(path: Path) -> bool:
    """Whether nothing is there, or an empty folder; a link to either is one too."""
    if not path.is_dir():
        return not path.exists()
    return all(entry.name in NOTHING or entry.name.startswith(PART) for entry in path.iterdir())


def require_new_folder(path: Path) -> None:
    """Raises InputError where something is there already, other than an empty folder."""
    if not is_free(path):
        remove_left(path)
        raise InputError(f"{path} holds another run: choose another with out=PATH, or remove it")


def require_new_file(path: Path) -> None:
    """Raises InputError where something is there already; makes the folders above it."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file to make, out=PATH")
    if path.exists():
        remove_left(path)
        raise InputError(f"{path} holds another run: choose another with out=PATH, or remove it")
    path.resolve().parent.mkdir(parents=True, exist_ok=True)


def remove_left(path: Path) -> None:
    """Remove what a run left beside a result that is whole, if it was killed after that: its lock and its parts."""
    real = path.resolve()
    with suppress(OSError, NotImplementedError):  # where nothing can be locked either
        finish_moves(real)
        remove_abandoned(real.parent, f".{real.name}.")
        if real.is_dir():
            remove_abandoned(real, PART)
        for file in _locks_of(real):
            if file.exists() and (lock := _acquired(file)) is not None:
                _unlock(lock)


@contextmanager
def claimed(path: Path, or_another: bool = False) -> Iterator[Path]:
    """The place of a result, for this process alone, from before the work until the result is there.

    It is tried whether one can write there. The lock of a process that ended, however it ended, holds nobody up.

    Args:
        path: a file or a folder to make, or a folder that is there.
        or_another: where it is not free, take the next name that is: PATH-2, PATH-3, ...

    Yields:
        The place.

    Raises:
        InputError: where another process has it.
        OSError: where nothing can be written.
    """
    others = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    for place in itertools.chain([path], others if or_another else ()):
        locks = _locked(place.resolve())
        if locks is None:
            continue
        try:
            finish_moves(place.resolve())
            if is_free(place) or not or_another:
                yield place
                return
        finally:
            _unlock(*locks)
    raise InputError(f"{path} is in use: another run writes there; wait for its end, or choose another place")


def _locked(real: Path) -> list[BaseFileLock] | None:
    """The locks of a place; None where another process has one.

    Beside it, also where it came to be a folder after another run had claimed it; and in it, where it is a folder: what
    is beside a disk of its own may not be ours to write.
    """
    real.parent.mkdir(parents=True, exist_ok=True)
    locks: list[BaseFileLock] = []
    for file in _locks_of(real):
        try:
            lock = _lock(file)
        except NotImplementedError as error:
            log.warning("warning: %s cannot be locked (%s): let one run at a time write there", real, error)
            return locks
        except OSError:
            if file.parent == real or not real.is_dir():
                _unlock(*locks)
                raise
            continue
        if lock is None:
            _unlock(*locks)
            return None
        locks.append(lock)
    return locks


def _lock(file: Path) -> BaseFileLock | None:
    while True:
        lock = _acquired(file)
        if lock is None or file.exists():  # else whoever had it removed the file in between
            return lock
        lock.release()


def _acquired(file: Path) -> BaseFileLock | None:
    lock = FileLock(file, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


def _locks_of(real: Path) -> list[Path]:
    """In the order in which every process takes them."""
    beside = real.with_name(f".{real.name}{LOCK}")
    return [beside, real / LOCK] if real.is_dir() else [beside]


def _unlock(*locks: BaseFileLock) -> None:
    for lock in locks:
        with suppress(OSError):  # a system that keeps open files, or a folder that is gone
            Path(lock.lock_file).unlink()
        lock.release()
