"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from rsca_torch.errors import InputError

__all__ = [
    "atomic_file",
    "atomic_folder",
    "beside",
    "claimed",
    "file_name",
    "is_free",
    "part_of",
    "remove_left",
    "require_new_file",
    "require_new_folder",
    "updated_folder",
    "write_json",
]


log = logging.getLogger(__name__)

LOCK = ".lock"
PART = ".part."
MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
A_DAY = 86_400.0  # seconds
#: What may lie in a folder that counts as empty: what was left by a run that was killed, and by whoever made the disk.
NOTHING = {LOCK, ".partial", ".uncensored", ".uncensored.partial", "lost+found"}


def is_free(path: Path) -> bool:
    """Whether nothing is there, or an empty folder; a link to either is one too."""
    if not path.is_dir():
        return not path.exists()
    return all(entry.name in NOTHING or entry.name.startswith(PART) for entry in path.iterdir())


def file_name(text: str, empty: str = "unnamed") -> str:
    """A text as the name of one file or folder: with a hash of it where it makes none, so that texts stay apart.

    Args:
        text: whatever, from a table maybe; its first 100 characters count.
        empty: what stands before the hash where no character is left.

    Example:
        >>> file_name("NGC_2682"), file_name("../../x")
        ('NGC_2682', '_.._x-9cdf6a50')
    """
    name = re.sub(r"[^\w.=,+-]", "_", text).lstrip(".")[:100] or empty
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def beside(path: Path, suffix: str) -> Path:
    """Where `path` grows until it is whole: beside it, or inside where it is a folder already.

    A folder that is there may be a disk of its own, whose neighbours are on another or may not be written.

    Args:
        path: of the result; of a link, what it points to counts.
        suffix: of the name, with a dot first.
    """
    path = path.resolve()
    return path / suffix if path.is_dir() else path.with_name(f"{path.name}{suffix}")


def part_of(path: Path, inside: bool = False) -> Path:
    """A name for what is to become `path`: new, and of this process.

    What processes that ended, however they ended, left under such names of the same `path` is removed. Of a process on
    another machine nobody knows whether it ended: what it left goes after a day.

    Args:
        path: of the result.
        inside: the name is in the folder `path`, else beside it.
    """
    folder, start = (path, PART) if inside else (path.parent, f".{path.name}.")
    _remove_abandoned(folder, start)
    return folder / f"{start}{MACHINE}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _remove_abandoned(folder: Path, start: str) -> None:
    ours = re.compile(rf"{re.escape(start)}(?P<machine>[0-9a-f]{{8}})-(?P<process>\d+)-[0-9a-f]{{8}}")
    for entry in [*folder.iterdir()] if folder.is_dir() else []:
        made = ours.fullmatch(entry.name)
        with suppress(OSError):  # somebody else removed it, or may
            if not made or _may_be_in_use(entry, made["machine"], int(made["process"])):
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()


def _may_be_in_use(entry: Path, machine: str, process: int) -> bool:
    if machine != MACHINE:
        return time.time() - entry.stat().st_mtime < A_DAY
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def remove_left(path: Path) -> None:
    """Remove what a run left beside a result that is whole, if it was killed after that: its lock and its parts."""
    real = path.resolve()
    with suppress(OSError):
        _remove_abandoned(real.parent, f".{real.name}.")
        if real.is_dir():
            _remove_abandoned(real, PART)
        for file in (real / LOCK, real.with_name(f".{real.name}{LOCK}")):  # of before and after there was a folder
            if file.exists() and (lock := _acquired(file)) is not None:
                _unlock(lock)


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
        lock = _locked(place)
        if lock is None:
            continue
        try:
            if is_free(place) or not or_another:
                yield place
                return
        finally:
            _unlock(lock)
    raise InputError(f"{path} is in use: another run writes there; wait for its end, or choose another place")


def _locked(path: Path) -> BaseFileLock | None:
    """The lock of a place; None where another process has it."""
    real = path.resolve()
    real.parent.mkdir(parents=True, exist_ok=True)
    file = _lock_of(real)
    while True:
        try:
            lock = _acquired(file)
        except NotImplementedError as error:
            log.warning("warning: %s cannot be locked (%s): let one run at a time write there", path, error)
            return FileLock(file)
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


def _lock_of(path: Path) -> Path:
    return path / LOCK if path.is_dir() else path.with_name(f".{path.name}{LOCK}")


def _unlock(lock: BaseFileLock) -> None:
    with suppress(OSError):  # a system that keeps open files, or a folder that is gone
        Path(lock.lock_file).unlink()
    lock.release()


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder that becomes `path` at the end, and vanishes if the end is not reached.

    It lies beside `path`. Where `path` is there already, it may be a link or a disk of its own: then it lies inside,
    and at the end what is in it moves to `path`.

    Args:
        path: nothing, or an empty folder (`require_new_folder`), `claimed`: what another run left beside it goes.

    Raises:
        InputError: where something else came to be there meanwhile; the result stays under another name, which is said.
    """
    path = path.resolve()
    if path.is_dir():
        with updated_folder(path) as part:
            yield part
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = part_of(path)
    folder.mkdir()  # not tempfile's, which is its maker's alone
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        folder.replace(path)
    except OSError as error:
        kept = folder.replace(folder.with_name(folder.name.removeprefix(".")))  # which no later run removes
        why = "came to be there meanwhile" if path.exists() else "cannot be given its name"
        raise InputError(f"{path} {why} ({error.strerror}): the result is in {kept}") from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A name in a new folder beside `path`; what is written there becomes `path` at the end.

    Args:
        path: of the file; one that is there is replaced.
    """
    path = path.resolve()  # of a link, the file that it points to
    with _temporary(part_of(path)) as folder:
        part = folder / path.name
        yield part
        part.replace(path)


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def updated_folder(path: Path, last: str = "results.json") -> Iterator[Path]:
    """A new folder in `path`; at the end its files move to `path`, where other files stay.

    If the end is not reached, nothing moves.

    Args:
        path: the folder; made if it is not there.
        last: the file that says that all are there: it moves last.
    """
    path = path.resolve()
    path.mkdir(parents=True, exist_ok=True)
    with _temporary(part_of(path, inside=True)) as part:
        yield part
        files = [file for file in part.rglob("*") if not file.is_dir()]
        for file in sorted(files, key=lambda file: file == part / last):
            target = path / file.relative_to(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)


def write_json(path: Path, content: Any) -> None:  # noqa: ANN401  (whatever JSON can hold)
    """A file that every JSON reader takes: NaN and infinities, of which JSON has none, are null."""
    path.write_text(json.dumps(_without_nan(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _without_nan(value: Any) -> Any:  # noqa: ANN401  (any JSON)
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
