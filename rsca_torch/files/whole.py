"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
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

from rsca_torch.errors import InputError

__all__ = [
    "atomic_file",
    "atomic_folder",
    "beside",
    "file_name",
    "finish_moves",
    "is_refused",
    "move_into",
    "named_disk",
    "part_of",
    "remove_abandoned",
    "updated_folder",
    "write_json",
]

PART, WHOLE = ".part.", ".whole."  # how names begin of what is made, and of what is made and is to be moved
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE)
MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
SAID = (" written", "[Errno ")  # by NumPy and astropy, who leave the number out
A_DAY = 86_400.0  # seconds


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
    remove_abandoned(folder, start)
    return folder / _of_this_process(start)


def _of_this_process(start: str) -> str:
    return f"{start}{MACHINE}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def remove_abandoned(folder: Path, start: str) -> None:
    """Remove what processes that ended left in a folder under names of `part_of`.

    Args:
        folder: that may not be there.
        start: of the names.
    """
    for entry in _abandoned(folder, start):
        with suppress(OSError):  # somebody else removed it, or may
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()


def _abandoned(folder: Path, start: str) -> list[Path]:
    ours = re.compile(rf"{re.escape(start)}(?P<machine>[0-9a-f]{{8}})-(?P<process>\d+)-[0-9a-f]{{8}}")
    found = []
    for entry in [*folder.iterdir()] if folder.is_dir() else []:
        made = ours.fullmatch(entry.name)
        with suppress(OSError):
            if made and not _may_be_in_use(entry, made["machine"], int(made["process"])):
                found.append(entry)
    return found


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
    try:
        folder.mkdir()  # not tempfile's, which is its maker's alone
        with named_disk(path):
            yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        folder.replace(path)
    except OSError as error:
        if not folder.exists() and path.is_dir():  # a file server that did it and lost its answer
            return
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
    with _temporary(part_of(path), path) as folder:
        part = folder / path.name
        yield part
        part.replace(path)


@contextmanager
def _temporary(folder: Path, path: Path) -> Iterator[Path]:
    try:
        folder.mkdir()
        with named_disk(path):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def named_disk(path: Path) -> Iterator[None]:
    """Errors of writing say where, which the system leaves out where a file was open: else another disk is emptied.

    >>> try:
    ...     with named_disk(Path("/data/out")):
    ...         raise OSError(errno.ENOSPC, "No space left on device")
    ... except OSError as error:
    ...     print(error.filename)
    /data/out
    """
    try:
        yield
    except OSError as error:
        of_disk = error.errno in DISK or (error.errno is None and any(each in str(error) for each in SAID))
        if error.filename is None and of_disk:
            error.filename = str(path)
        raise


def is_refused(error: BaseException) -> bool:
    """Whether the system does not let a file be read now, which says nothing of what is in it.

    >>> is_refused(PermissionError(errno.EACCES, "Permission denied")), is_refused(OSError("not a FITS file"))
    (True, False)
    """
    return isinstance(error, OSError) and error.errno not in (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR)


@contextmanager
def updated_folder(path: Path, last: str = "results.json") -> Iterator[Path]:
    """A new folder in `path`; at the end its files move to `path`, where other files stay.

    If the end is not reached, nothing moves. A move that was cut off is made to its end by the next run that claims the
    place, or asks whether something is there (`finish_moves`).

    Args:
        path: the folder; made if it is not there.
        last: the file that says that all are there: it moves last.
    """
    path = path.resolve()
    path.mkdir(parents=True, exist_ok=True)
    with _temporary(part_of(path, inside=True), path) as part:
        yield part
        move_into(path, part, last)


def move_into(path: Path, part: Path, last: str) -> None:
    """Move the files of a folder that is whole to another one, on the same disk, where others stay.

    Args:
        path: the folder; it is there.
        part: that is whole; it is gone afterwards.
        last: the file that moves last.
    """
    whole = part.replace(path / _of_this_process(WHOLE))
    _move(whole, path, last)


def finish_moves(path: Path) -> None:
    """Make to their end the moves to a folder that were cut off; where there is none, do nothing."""
    for whole in _abandoned(path, WHOLE):
        with suppress(OSError):  # somebody else does
            _move(whole, path, "")


def _move(whole: Path, path: Path, last: str) -> None:
    files = [file for file in whole.rglob("*") if not file.is_dir()]
    for file in sorted(files, key=lambda file: file == whole / last):
        target = path / file.relative_to(whole)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
    shutil.rmtree(whole, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:  # noqa: ANN401  (whatever JSON can hold)
    """A file that every JSON reader takes: NaN and infinities, of which JSON has none, are null."""
    path.write_text(json.dumps(_without_nan(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _without_nan(value: Any) -> Any:  # noqa: ANN401  (any JSON)
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
