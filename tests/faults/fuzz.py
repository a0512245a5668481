"""Files that are changed at random, read as the program reads them: what became of each, and what is a defect.

    python tests/faults/fuzz.py seed=1 files=100000      # every case; a line for each defect, a table at the end
    python tests/faults/fuzz.py seed=1 case=4711         # that one again, with its traceback; its file is kept

A case is made of the seed and its number alone. It is used, listed with a reason, or refused by InputError. Defects are
another exception, other values where a checksum stands, a crash, more than 5 s of processor, more than 1 GB of memory.
Cases run in processes of their own, a few hundred each: one that dies or hangs costs its case.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from fuzz_kinds import Kind, Listed, fingerprint, kinds_in

from rsca_torch.errors import InputError
from rsca_torch.survey.fits_files import UnusableFileError

SECONDS, BYTES = 5, 10**9
WALL = 90  # seconds without a sign of life, on a machine that others use too
AT_ONCE = 500  # cases of one process


class SlowError(BaseException):
    """A case took too much of the processor."""


@dataclass
class Verdicts:
    """What became of the cases.

    Attributes:
        counts: (kind, what became of it) -> how many.
        defects: number of the case -> (kind, what).
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    defects: dict[int, tuple[str, str]] = field(default_factory=dict)

    def add(self, number: int, kind: str, what: str, more: str = "") -> None:
        self.counts[kind, what] += 1
        if what == "defect":
            self.defects[number] = kind, more

    def total(self, what: str) -> int:
        return self.sums()[what]

    def sums(self) -> Counter[str]:
        """What became of the cases, of all kinds."""
        total: Counter[str] = Counter()
        for (_, what), count in self.counts.items():
            total[what] += count
        return total


class Fuzz:
    """The good files, and the cases that are made of them.

    Args:
        folder: where all files lie.
        seed: of the cases.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        with warnings.catch_warnings(action="ignore"):
            self.kinds = kinds_in(folder / "good")
            self.names = [name for name, kind in sorted(self.kinds.items()) for _ in range(kind.often)]
            self.good = {name: self._read_good(kind) for name, kind in self.kinds.items()}

    def _read_good(self, kind: Kind) -> str:
        return fingerprint(kind.read(self._placed(kind, None)))

    def _placed(self, kind: Kind, content: bytes | None) -> Path:
        """The file in a folder of its own."""
        place = self.folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        if kind.folder is None:
            path = place / Path(kind.file).name
            path.write_bytes(Path(kind.file).read_bytes() if content is None else content)
            return path
        shutil.copytree(kind.folder, place / kind.folder.name)
        path = place / kind.folder.name / kind.file
        if content is not None:
            path.write_bytes(content)
        return path

    def name(self, number: int) -> str:
        """The kind of a case."""
        return self.names[int(np.random.default_rng([self.seed, number]).integers(len(self.names)))]

    def case(self, number: int) -> tuple[str, Path]:
        """The kind of a case, and its file, made."""
        rng = np.random.default_rng([self.seed, number])
        name = self.names[int(rng.integers(len(self.names)))]
        kind = self.kinds[name]
        content = (Path(kind.file) if kind.folder is None else kind.folder / kind.file).read_bytes()
        for _ in range(1 if rng.random() < 0.8 else 2):
            try:
                content = kind.change(rng, content)
            except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError, RecursionError):
                break  # what was changed once is nothing that could be changed so again
            except Exception as error:  # of yaml, zipfile and the like
                del error
                break
        return name, self._placed(kind, content)

    def judged(self, number: int) -> tuple[str, str, str]:
        """(kind, verdict, what) of a case, in this process."""
        name, path = self.case(number)
        kind = self.kinds[name]
        try:
            with limited():
                value = kind.read(path)
        except (InputError, UnusableFileError, Listed) as error:
            if seen := _memory_in(error):
                return name, "defect", f"more than 1 GB was asked for: {seen}"
            what = "refused" if isinstance(error, InputError) else "listed"
            return name, what, str(error)
        except SlowError:
            return name, "defect", f"more than {SECONDS} s"
        except BaseException as error:
            return name, "defect", "".join(traceback.format_exception(error)[-4:])
        if value is None:
            return name, "listed", "made anew"
        try:
            same = fingerprint(value) == self.good[name]
        except Exception as error:
            return name, "defect", f"what was read is none: {error!r}"
        if kind.checked and not same:
            return name, "defect", "other values were used, where a checksum stands"
        return name, "used", "same" if same else "other"

    def run(self, numbers: range, told: Callable[[int, str, str], None] = lambda *_: None) -> Verdicts:
        """All cases, in processes."""
        verdicts, first = Verdicts(), numbers.start
        while first < numbers.stop:
            last = min(first + AT_ONCE, numbers.stop)
            done = first
            for number, name, what, more in self._in_a_process(first, last):
                verdicts.add(number, name, what, more)
                done = number + 1
                if what == "defect":
                    told(number, name, more)
            first = done
            if first % 5000 == 0:
                print(f"{first} cases so far: {dict(verdicts.sums())}", file=sys.stderr, flush=True)
        return verdicts

    def _in_a_process(self, first: int, last: int) -> Iterator[tuple[int, str, str, str]]:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _quiet()
            for number in range(first, last):
                name, what, more = self.judged(number)
                os.write(writing, json.dumps((number, name, what, more[:3000])).encode() + b"\n")
            os._exit(0)
        os.close(writing)
        number = first
        with os.fdopen(reading, "rb") as pipe:
            signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
            signal.alarm(WALL)
            for line in pipe:
                signal.alarm(WALL)
                told = json.loads(line)
                number = told[0] + 1
                yield tuple(told)
            signal.alarm(0)
        _, status = os.waitpid(child, 0)
        if number < last:
            name = self.name(number)
            yield number, name, "defect", f"the process ended: {os.waitstatus_to_exitcode(status)}"


class limited:  # noqa: N801  (a context)
    """At most so many seconds of processor and bytes of memory more than now."""

    def __enter__(self) -> None:
        used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        self.before = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (used + BYTES, self.before[1]))
        signal.signal(signal.SIGPROF, _slow)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_DATA, self.before)


def _slow(*_: object) -> None:
    raise SlowError


def _memory_in(error: BaseException | None) -> str:
    while error is not None:
        if isinstance(error, MemoryError) or "MemoryError" in str(error) or "Unable to allocate" in str(error):
            return repr(error)[:300]
        error = error.__cause__ or error.__context__
    return ""


def _quiet() -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def main(given: dict[str, int], folder: Path) -> int:
    fuzz = Fuzz(folder, given.get("seed", 0))
    if "case" in given:
        name, path = fuzz.case(given["case"])
        print(f"{name}: {path}")
        print(*fuzz.judged(given["case"]), sep="\n")
        return 0
    start, first = time.process_time(), given.get("first", 0)
    verdicts = fuzz.run(range(first, first + given.get("files", 3000)), lambda *told: print(*told, flush=True))
    used = time.process_time() - start + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    for name in sorted(fuzz.kinds):
        row = {what: verdicts.counts[name, what] for what in ("used", "listed", "refused", "defect")}
        print(f"{name:28}", *(f"{what} {count:5}" for what, count in row.items()))
    total = {what: verdicts.total(what) for what in ("used", "listed", "refused", "defect")}
    print(f"seed={fuzz.seed}: {sum(total.values())} files in {used:.0f} s of processor:", total)
    return 1 if verdicts.defects else 0


if __name__ == "__main__":
    options = {name: int(value) for name, _, value in (each.partition("=") for each in sys.argv[1:])}
    place = Path(tempfile.mkdtemp(prefix="rsca-fuzz-"))
    code = main(options, place)
    if "case" not in options:
        shutil.rmtree(place)
    sys.exit(code)
