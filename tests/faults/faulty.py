"""A command in a process of its own that ends, or fails, at one of the moments at which it changes files.

Python tells its audit hooks of every file that it opens, renames or removes, before it does so. So the n-th change is a
moment that can be chosen: killed there, a command has done n - 1 changes and not the n-th. Processes are forked: what
the command imports is there already.
"""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from rsca_torch.cli.main import main

#: What changes files, of https://docs.python.org/3/library/audit_events.html.
GROWING = {"open", "os.rename", "os.mkdir", "os.link", "os.symlink"}
CHANGES = {*GROWING, "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Moments:
    """Counts the changes of some kinds below a folder, and does something at one of them."""

    def __init__(self, folder: Path, at: int | None, then: Callable[[], None], kinds: set[str]) -> None:
        self.folder, self.at, self.then, self.kinds, self.count = str(folder), at, then, kinds, 0
        self.lock = threading.Lock()

    def __call__(self, event: str, arguments: tuple) -> None:
        if event not in self.kinds:
            return
        if event == "open":
            path, _, flags = arguments
            changes = isinstance(flags, int) and flags & WRITING
        else:
            changes, path = True, arguments[0] if arguments else None
        if not changes or not isinstance(path, str | bytes | os.PathLike):
            return
        if not os.path.abspath(os.fsdecode(path)).startswith(self.folder):  # noqa: PTH100  (no link is followed)
            return
        with self.lock:
            self.count += 1
            now = self.count == self.at
        if now:
            self.then()


def killed() -> None:
    """As by the system: nothing is tidied up."""
    os.kill(os.getpid(), signal.SIGKILL)


def fails(code: int) -> Callable[[], None]:
    """The change that is about to be made fails, as where the disk is full."""

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    return fail


def told_to_end(number: int) -> Callable[[], None]:
    """A signal comes."""
    return lambda: os.kill(os.getpid(), number)


def run(
    folder: Path,
    command: Sequence[str],
    at: int | None = None,
    then: Callable[[], None] = killed,
    kinds: set[str] = CHANGES,
) -> tuple[int, int]:
    """A command in a folder; at its change number `at` something happens.

    Returns:
        How it ended (negative: by which signal), and how many changes it made: 0 where it was killed.
    """
    tell, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(tell)
            os.chdir(folder)
            out = os.open(folder.parent / f"{folder.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1)
            os.dup2(out, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            warnings.resetwarnings()  # pytest's make errors of them
            moments = Moments(folder, at, then, kinds)
            sys.addaudithook(moments)
            code = main(list(command))
            sys.stdout.flush()
            sys.stderr.flush()
            os.write(told, str(moments.count).encode())
            os._exit(code)
        except BaseException:
            traceback.print_exc()
            os._exit(99)
    os.close(told)
    with os.fdopen(tell) as pipe:
        count = pipe.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), int(count or 0)


def said(folder: Path) -> str:
    """All that its commands printed."""
    return (folder.parent / f"{folder.name}.log").read_text(encoding="utf-8")


def content(folder: Path) -> dict[str, str]:
    """Path -> what is in the file; of all files, so that what was left behind is among them.

    Of checkpoints only that they are there: they keep how a run went.
    """
    return {
        str(path.relative_to(folder)): ("" if path.suffix == ".ckpt" else hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


DISK_FULL = errno.ENOSPC
