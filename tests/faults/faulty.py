"""A command in a process of its own that ends, or fails, at one of the moments at which it changes files, or at a time.

Python tells its audit hooks of every file that it opens, renames or removes, before it does so. So the n-th change is a
moment that can be chosen: killed there, a command has done n - 1 changes and not the n-th. Processes are forked: what
the command imports is there already. Each has a session, a TMPDIR and a place in memory (/dev/shm) that are looked at
afterwards.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path

from joblib.externals.loky import reusable_executor
from joblib.externals.loky.backend import resource_tracker as loky_tracker

from rsca_torch.cli.main import main

#: What changes files, of https://docs.python.org/3/library/audit_events.html.
GROWING = {"open", "os.rename", "os.mkdir", "os.link", "os.symlink"}
CHANGES = {*GROWING, "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
DISK_FULL = errno.ENOSPC
EVERY = 0  # moment
MEMORY = Path("/dev/shm")
#: Processes of a run that outlive it by so many seconds are left behind.
GRACE = 5.0


Command = Sequence[str] | Callable[[], int]


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
            now = self.at in (self.count, EVERY)
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


@dataclass
class Ended:
    """How a run ended.

    Attributes:
        code: its exit code; negative: by which signal.
        changes: how many it made; 0 where it was killed.
        seconds: it took.
        after: seconds from the signal to its end.
        left: processes that outlived it.
        memory: what it left in /dev/shm.
    """

    code: int
    changes: int = 0
    seconds: float = 0.0
    after: float = 0.0
    left: list[str] = field(default_factory=list)
    memory: list[str] = field(default_factory=list)


@dataclass
class Started:
    """A run that goes on."""

    folder: Path
    child: int
    told: int
    began: float
    memory: set[str]

    def tell(self, number: int, all_of_it: bool = False) -> None:
        """Send it a signal; to all of its processes as a terminal does."""
        (os.killpg if all_of_it else os.kill)(self.child, number)

    def end(self, signal_at: float | None = None) -> Ended:
        """Wait for it, and for what it left."""
        with os.fdopen(self.told) as pipe:
            _, status = os.waitpid(self.child, 0)
            os.set_blocking(pipe.fileno(), False)  # its workers have the other end too
            count = pipe.read()
        now = time.monotonic()
        left = processes_of(self.child)
        while left and time.monotonic() < now + GRACE:
            time.sleep(0.05)
            left = processes_of(self.child)
        for process in left:
            os.kill(int(process.split()[0]), signal.SIGKILL)
        memory = sorted(of_memory() - self.memory)
        return Ended(
            os.waitstatus_to_exitcode(status),
            int(count or 0),
            now - self.began,
            0.0 if signal_at is None else now - signal_at,
            left,
            [name for name in memory if _is_of(name, self.child)],
        )


def start(
    folder: Path,
    command: Command,
    at: int | None = None,
    then: Callable[[], None] = killed,
    kinds: set[str] = CHANGES,
    before: Callable[[], None] = lambda: None,
) -> Started:
    """A command in a folder, in a process of its own; at its change number `at` something happens.

    Args:
        folder: where it stands.
        command: what follows `rsca`; or a function that gives an exit code.
        at: number of a change, from 1; `EVERY`: at each; None: at none.
        then: what happens then.
        kinds: of changes that count.
        before: is called in the process first.
    """
    tell, told = os.pipe()
    memory = of_memory()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            os.close(tell)
            os.chdir(folder)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            out = os.open(folder.parent / f"{folder.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1)
            os.dup2(out, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            logging.root.handlers.clear()  # pytest's
            warnings.resetwarnings()  # pytest's make errors of them
            warnings.simplefilter("ignore", DeprecationWarning)
            for tracker in (
                resource_tracker,
                loky_tracker,
            ):  # what they track of ours goes when pytest ends, not before
                tracker._resource_tracker._fd = tracker._resource_tracker._pid = None
            reusable_executor._executor = None
            temporary = temporary_of(folder)
            temporary.mkdir(exist_ok=True)
            os.environ["TMPDIR"] = str(temporary)
            tempfile.tempdir = None
            moments = Moments(folder, at, then, kinds)
            before()
            sys.addaudithook(moments)
            code = command() if callable(command) else main(list(command))
            sys.stdout.flush()
            sys.stderr.flush()
            os.write(told, str(moments.count).encode())
            os._exit(code)
        except BaseException:
            traceback.print_exc()
            os._exit(99)
    os.close(told)
    return Started(folder, child, tell, time.monotonic(), memory)


def run(
    folder: Path,
    command: Command,
    at: int | None = None,
    then: Callable[[], None] = killed,
    kinds: set[str] = CHANGES,
    before: Callable[[], None] = lambda: None,
) -> Ended:
    """As `start`, to its end."""
    return start(folder, command, at, then, kinds, before).end()


def told_at(folder: Path, command: Command, seconds: float, number: int, all_of_it: bool = False) -> Ended:
    """As `run`; after so many seconds it gets a signal, if it has not ended."""
    going = start(folder, command)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if os.waitid(os.P_PID, going.child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return going.end()
        time.sleep(0.002)
    now = time.monotonic()
    going.tell(number, all_of_it)
    return going.end(now)


def with_memory(megabytes: int) -> Callable[[], None]:
    """No more than that is to be had, of addresses, beyond what is there."""

    def limit() -> None:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    return limit


def backwards() -> None:
    """Each look at the clock tells an hour less than the one before."""
    now = [time.time()]

    def earlier() -> float:
        now[0] -= 3600
        return now[0]

    time.time = earlier


def processes_of(session: int) -> list[str]:
    """ "NUMBER COMMAND" of the processes of a session that have not ended."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            told = place.read_text(encoding="utf-8", errors="replace")
            line = place.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        number, name, state, _, _, of = re.match(r"(\d+) \((.*)\) (\S) (\d+) (\d+) (\d+)", told, re.DOTALL).groups()
        if int(of) == session and state not in "ZX":
            found.append(f"{number} {line or name}")
    return found


def of_memory() -> set[str]:
    """What is in /dev/shm."""
    return {path.name for path in MEMORY.iterdir()} if MEMORY.is_dir() else set()


def _is_of(name: str, child: int) -> bool:
    return str(child) in name


def temporary_of(folder: Path) -> Path:
    """The TMPDIR of runs in a folder."""
    return folder.parent / f"{folder.name}.tmp"


def left_temporary(folder: Path) -> list[str]:
    """What they left there; torch has a cache there that all its programs share."""
    place = temporary_of(folder)
    names = [path.name for path in place.iterdir()] if place.is_dir() else []
    return sorted(name for name in names if not name.startswith("torchinductor_"))


def said(folder: Path) -> str:
    """All that its commands printed."""
    place = folder.parent / f"{folder.name}.log"
    return place.read_text(encoding="utf-8", errors="replace") if place.exists() else ""


#: What differs from run to run by its nature: how long it took, when it was.
BY_NATURE = (
    (re.compile(rb'"seconds": ?[-\d.e]+'), b""),
    (re.compile(rb'"launch": "\w+"'), b""),
    (re.compile(rb"/CreationDate \([^)]*\)"), b""),
    (re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC"), b""),
)


#: Files that tell times, or where the folder is, in ways of their own.
NOT_LOOKED_INTO = {"download_manifest.csv", "multirun.yaml"}


def content(folder: Path) -> dict[str, str]:
    """Path -> what is in the file; of all files, so that what was left behind is among them.

    Of checkpoints only that they are there: they keep how a run went. What differs by nature is left out, and where the
    folder is.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file():
            told = b"" if path.suffix == ".ckpt" or path.name in NOT_LOOKED_INTO else path.read_bytes()
            told = told.replace(os.fsencode(folder), b"")
            for what, instead in BY_NATURE:
                told = what.sub(instead, told)
            found[name] = hashlib.sha256(told).hexdigest() if told else ""
        elif path.name.startswith("."):
            found[name] = "a hidden folder"
    return found


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """What is in one alone, or is not the same in both."""
    return sorted(
        [f"-{name}" for name in one.keys() - other.keys()]
        + [f"+{name}" for name in other.keys() - one.keys()]
        + [f"!{name}" for name in one.keys() & other.keys() if one[name] != other[name]]
    )


def copied(before: Path, folder: Path) -> Path:
    """A folder as another is."""
    shutil.copytree(before, folder, symlinks=True)
    return folder
