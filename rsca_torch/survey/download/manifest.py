"""What is known of the files of a tree: one line a fact, only ever added, so that a kill at any moment costs one."""

from __future__ import annotations

import csv
import logging
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TextIO

from rsca_torch.files.checked import rows_of

__all__ = ["MANIFEST", "Manifest"]

log = logging.getLogger(__name__)

MANIFEST = "download_manifest.csv"
#: Stands at the end of each line: one without it was cut off by a kill.
END = "."
WHOLE, PART, ABSENT, LISTED, LIST = "whole", "part", "absent", "sha1", "list"


class Whole(NamedTuple):
    """A file that was found right.

    Attributes:
        size: bytes.
        changed: nanoseconds, as the system says; a file of another size or time is looked at again.
        how: it was found right.
    """

    size: int
    changed: int
    how: str


class Manifest:
    """The file ``download_manifest.csv`` in a tree, as a context; of several lines about one thing the last counts.

    Args:
        root: of the tree; paths are relative to it.
        reading: nothing will be added.

    Attributes:
        whole: path -> what was found, of files that are right.
        parts: path -> ETag or time of the version of which ``path.part`` is the beginning.
        absent: paths that the archive has not.
        sha1: path -> sha1 of those that a list names.
        lists: paths of the lists that were read, or that the archive has not.
    """

    def __init__(self, root: Path, reading: bool = False) -> None:
        self.root, self.path, self.reading = root, root / MANIFEST, reading
        self.whole: dict[str, Whole] = {}
        self.parts: dict[str, str] = {}
        self.absent: set[str] = set()
        self.sha1: dict[str, str] = {}
        self.lists: set[str] = set()
        self._file: TextIO | None = None
        if self.path.is_file():
            self._read()

    def _read(self) -> None:
        """What stands in lines that are whole; of the others the files are looked at anew."""
        damaged = 0
        try:
            for row in rows_of(self.path):
                if len(row) == 6 and row[-1] == END:
                    try:
                        self._take(*row[:-1])
                    except ValueError:  # a size that is no number
                        damaged += 1
        except ValueError as error:
            log.warning("warning: %s is damaged (%s): what stands behind that is not known", self.path, error)
        if damaged:
            log.warning("warning: %s is damaged in %d lines: their files are looked at anew", self.path, damaged)

    def __enter__(self) -> Self:
        if not self.reading:
            torn = self.path.is_file() and not self.path.read_bytes().endswith(b"\n")
            self._file = self.path.open("a", newline="", encoding="utf-8", errors="surrogateescape")
            if torn:
                self._file.write("\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with nullcontext() if error is None else suppress(OSError):  # it has been said that the disk is full
                self._file.close()

    def is_whole(self, path: str) -> bool:
        """Whether the file is there as it was found right."""
        known = self.whole.get(path)
        if known is None:
            return False
        try:
            told = (self.root / path).stat()
        except OSError:
            return False
        return (told.st_size, told.st_mtime_ns) == known[:2]

    def found_right(self, path: str, how: str) -> None:
        """The file is there and right."""
        told = (self.root / path).stat()
        self._add(path, WHOLE, str(told.st_size), str(told.st_mtime_ns), how)

    def begins(self, path: str, validator: str) -> None:
        """``path.part`` will be the beginning of a version; '': of one that cannot be told from others."""
        self._add(path, PART, validator)

    def is_absent(self, path: str) -> None:
        """The archive has no such file."""
        self._add(path, ABSENT)

    def listed(self, path: str, sha1s: dict[str, str]) -> None:
        """A list was read; path -> sha1. Empty: the archive has no such list."""
        for file, sha1 in sha1s.items():
            self._add(file, LISTED, sha1)
        self._add(path, LIST)

    def _add(self, path: str, what: str, *told: str) -> None:
        row = (path, what, *told, *[""] * (3 - len(told)))
        if self._file is not None:
            csv.writer(self._file, lineterminator="\n").writerow((*row, END))
            self._file.flush()  # to the system, which keeps it when this process is killed
        self._take(*row)

    def _take(self, path: str, what: str, one: str, two: str, three: str) -> None:
        if what == WHOLE:
            self.whole[path] = Whole(int(one), int(two), three)
            self.absent.discard(path)
        elif what == PART:
            self.parts[path] = one
        elif what == ABSENT:
            self.absent.add(path)
        elif what == LISTED:
            self.sha1[path] = one
        elif what == LIST:
            self.lists.add(path)
