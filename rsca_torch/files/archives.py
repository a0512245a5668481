"""Zip archives (npz, checkpoints of torch) whose members claim more than they can hold: refused before room is made."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

__all__ = ["array_header", "require_honest_sizes"]

#: What DEFLATE can make of one byte, at most.
MOST = 1032


def require_honest_sizes(path: Path) -> None:
    """Refuse an archive in which a member claims a size that it cannot have.

    NumPy and torch make room for what is claimed, which may be terabytes, and only then read.

    Raises:
        ValueError: a member's size is not that of its bytes, or not that of the array that its header announces.
        zipfile.BadZipFile: it is no archive, or a damaged one.
        OSError: it cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/a.npz", flux=np.zeros((3, 4)))
    ...     require_honest_sizes(Path(folder, "a.npz"))
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            held = member.compress_size * (1 if member.compress_type == zipfile.ZIP_STORED else MOST)
            if member.compress_size > size or member.file_size > held:
                raise ValueError(f"{member.filename} claims {member.file_size} bytes, in a file of {size}")
            if member.filename.endswith(".npy"):
                _require_whole_array(archive, member)


def _require_whole_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    with archive.open(member) as file:
        shape, _, dtype = array_header(file)
        announced = file.tell() + math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and announced != member.file_size:
        name = member.filename.removesuffix(".npy")
        raise ValueError(f"{name} announces an array of {announced} bytes and holds {member.file_size}")


def array_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(Shape, whether it is in Fortran's order, dtype) of an npy file, of which the header is read and no more.

    Raises:
        ValueError: it is no npy file.
    """
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"npy of version {version[0]}.{version[1]}: 1.0 or 2.0 expected")
    header: tuple[tuple[int, ...], bool, np.dtype] = readers[version](file)
    return header
