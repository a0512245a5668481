"""Faults at random moments of every command, drawn anew for each seed.

    python tests/faults/campaign.py kills=400 seed=1
    python tests/faults/campaign.py kills=0 full=100 signals=100 workers=6 two=20 clock=20 memory=20 seed=1

Every fault befalls a command in a small chain; the same command is run again, and must come to its end with a result
that is the same bit for bit (but for what differs by nature: the seconds that it took, the date in a PDF), and leave
nothing: no hidden folder, no file in TMPDIR or /dev/shm, no process. One line is printed for what goes wrong, at the
end a table.

    kills    SIGKILL at a random time or at a random change of a file, up to three times in a row
    full     the disk is full from the n-th write on (`shim.c`, which a C compiler makes a library of)
    signals  SIGINT or SIGTERM at a random time, to the process or to all of its processes
    workers  SIGKILL for one of the processes that processes=2 starts
    two      two of the same at once
    clock    a clock that goes backwards
    memory   so and so many MB of addresses, beyond those that the loaded program has, are all there are

stages=NAME,NAME chooses some of the commands; out=FILE keeps a line for each fault.
"""

from __future__ import annotations

import csv
import ctypes
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(place) for place in (HERE.parents[1], HERE, HERE.parent, HERE.parent / "survey")]

import faulty  # noqa: E402
import joblib  # noqa: E402, F401  (loaded once, for all that is forked)
import lightning  # noqa: E402, F401
import matplotlib.pyplot as plt  # noqa: E402, F401
from chain import Chain, Stage, archive, stages  # noqa: E402

FAULTS = ("kills", "full", "signals", "workers", "two", "clock", "memory")
SHIM = "RSCA_FAULTS_SHIM"
#: Seconds in which a command that was told to end has to be gone.
SOON = 5.0
SLOW = {"export torch": 0.3, "export onnx": 0.3, "compare 2": 0.3}  # of the others' share
ONE_LINE = re.compile(r"(interrupted|terminated)(;.*)?")
TAKEN = ("is in use", "holds another run", "exists already", "holds something already", "finished already")


class Campaign:
    """Faults that befall the stages of a chain.

    Args:
        chain: that was made unharmed.
        seed: of all that is drawn.
        folder: new.
    """

    def __init__(self, chain: Chain, seed: int, folder: Path) -> None:
        self.chain, self.random, self.folder = chain, random.Random(seed), folder
        self.number = 0

    def one(self, fault: str, stage: Stage) -> tuple[str, list[str]]:
        """A fault befalls a stage: what it was, and what is wrong afterwards."""
        self.number += 1
        place = self.chain.before(stage, self.folder / f"{self.number}_{stage.name.replace(' ', '_')}")
        told, wrong = getattr(self, fault)(stage, place)
        wrong += self.chain.harm(stage, place)
        if not wrong:
            for left in (place, faulty.temporary_of(place)):
                shutil.rmtree(left, ignore_errors=True)
        return told, wrong

    def kills(self, stage: Stage, place: Path) -> tuple[str, list[str]]:
        """Up to three in a row."""
        told, wrong = [], []
        unharmed = self.chain.ended[stage.name]
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            if self.random.random() < 0.5:
                moment = self.random.randint(1, unharmed.changes)
                ended = faulty.run(place, stage.command, at=moment)
                told.append(f"change {moment}")
            else:
                moment = self.random.uniform(0.02, unharmed.seconds)
                ended = faulty.told_at(place, stage.command, moment, signal.SIGKILL)
                told.append(f"{moment:.2f} s")
            wrong += [f"left behind: {process}" for process in (*ended.left, *ended.memory)]
            if ended.code != -signal.SIGKILL:
                told.append(f"ended {ended.code}")
                break
        return ", ".join(told), wrong

    def full(self, stage: Stage, place: Path) -> tuple[str, list[str]]:
        """From some write on."""
        moment = int(math.exp(self.random.uniform(0, math.log(200))))
        ended = faulty.run(place, stage.command, before=lambda: _armed(place, moment, faulty.DISK_FULL))
        said = faulty.said(place)
        wrong = []
        if ended.code == 0:
            return f"write {moment}: not reached, or of no account", wrong
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        if ended.code != 2 or len(errors) != 1 or "bug of the program" in said:
            wrong.append(f"exit {ended.code}, {len(errors)} errors: {said[-400:]}")
        elif str(place) not in errors[0] and "a file" in errors[0]:
            wrong.append(f"names no place: {errors[0]}")
        return f"write {moment}", wrong

    def signals(self, stage: Stage, place: Path) -> tuple[str, list[str]]:
        """INT or TERM."""
        number, of_all = self.random.choice((signal.SIGINT, signal.SIGTERM)), self.random.random() < 0.5
        moment = self.random.uniform(0.1, self.chain.ended[stage.name].seconds)
        ended = faulty.told_at(place, stage.command, moment, number, of_all)
        lines = [line for line in faulty.said(place).splitlines() if ONE_LINE.fullmatch(line.strip())]
        wrong = []
        told = f"{number.name}{' to all' if of_all else ''} after {moment:.2f} s"
        if not ended.after or (ended.code == 0 and not lines):
            return f"{told}: ended before", []
        if ended.code != 128 + number or len(lines) != 1:
            wrong.append(f"exit {ended.code}, {len(lines)} lines: {faulty.said(place)[-400:]}")
        if ended.after > SOON:
            wrong.append(f"took {ended.after:.1f} s to end")
        left = [*ended.left, *ended.memory, *faulty.left_temporary(place)]
        wrong += [f"left behind: {process}" for process in left]
        return f"{told}, gone in {ended.after:.2f} s", wrong

    def workers(self, stage: Stage, place: Path) -> tuple[str, list[str]]:
        """One of the processes of processes=2 ends."""
        going, killed = faulty.start(place, stage.command), ""
        until = time.monotonic() + self.random.uniform(0.3, 0.9) * self.chain.ended[stage.name].seconds
        while not killed and os.waitid(os.P_PID, going.child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            there = [each for each in faulty.processes_of(going.child) if "loky.backend.popen" in each]
            if there and time.monotonic() > until:
                killed = self.random.choice(there)
                os.kill(int(killed.split()[0]), signal.SIGKILL)
            time.sleep(0.05)
        ended, said = going.end(), faulty.said(place)
        wrong = []
        if killed and ended.code and (ended.code != 2 or "was ended from outside" not in said):
            wrong.append(f"exit {ended.code}: {said[-400:]}")
        left = [*ended.left, *ended.memory, *faulty.left_temporary(place)]
        return f"worker killed, exit {ended.code}", wrong + [f"left behind: {each}" for each in left]

    def two(self, stage: Stage, place: Path) -> tuple[str, list[str]]:
        """The same at once: one makes the result, the other waits or is refused."""
        first, second = faulty.start(place, stage.command), faulty.start(place, stage.command)
        codes = sorted(each.end().code for each in (first, second))
        said = faulty.said(place)
        wrong = []
        if codes not in ([0, 2], [0, 0]) or (codes == [0, 2] and not any(each in said for each in TAKEN)):
            wrong.append(f"exits {codes}: {said[-400:]}")
        return f"exits {codes}", wrong

    def clock(self, stage: Stage, place: Path) -> tuple[str, list[str]]:
        """Killed once, and run again with a clock that goes backwards by an hour at each look."""
        unharmed = self.chain.ended[stage.name]
        faulty.run(place, stage.command, at=self.random.randint(1, unharmed.changes))
        ended = faulty.run(place, stage.command, before=faulty.backwards)
        said = faulty.said(place)
        there = ended.code == 2 and any(each in said for each in TAKEN)
        return "backwards", [] if ended.code == 0 or there else [f"exit {ended.code}: {said[-400:]}"]

    def memory(self, stage: Stage, place: Path) -> tuple[str, list[str]]:
        """Too little of it."""
        megabytes = int(math.exp(self.random.uniform(math.log(4), math.log(800))))
        ended = faulty.run(place, stage.command, before=faulty.with_memory(megabytes))
        said = faulty.said(place)
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        wrong = []
        if ended.code and (ended.code != 2 or len(errors) != 1 or "memory" not in said):
            wrong.append(f"{megabytes} MB: exit {ended.code}: {said[-600:]}")
        return f"{megabytes} MB: exit {ended.code}", wrong


def _armed(place: Path, moment: int, what: int) -> None:
    """The shim acts at that write below a folder."""
    ctypes.CDLL(None).shim_arm(f"{place}/".encode(), ctypes.c_long(moment), what)


def with_shim() -> None:
    """Start this program anew with the shim in front of the system's library."""
    if SHIM in os.environ:
        return
    place = Path(tempfile.mkdtemp(prefix="rsca-shim-")) / "shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", place, HERE / "shim.c", "-ldl"], check=True)
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "LD_PRELOAD": str(place), SHIM: str(place)})


def chosen_of(fault: str, all_stages: list[Stage]) -> list[Stage]:
    """The stages that a fault can befall."""
    if fault == "workers":
        return [stage for stage in all_stages if "processes=2" in " ".join(stage.command)]
    if fault == "two":
        return [stage for stage in all_stages if stage.name != "sweep"]
    return all_stages


def main(options: dict[str, str], say: Callable[[str], None] = lambda text: print(text, flush=True)) -> int:
    """Make the campaign; the exit code says whether all was well."""
    counts = {fault: int(options.get(fault, "0")) for fault in FAULTS}
    if counts["full"]:
        with_shim()
    seed, names = int(options.get("seed", "1")), [each for each in options.get("stages", "").split(",") if each]
    rows, began = [], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rsca-faults-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary).resolve()
        with archive(folder / "sas") as address:
            wanted = [stage for stage in stages(address) if not names or stage.name in names]
            chain = Chain(folder / "chain", wanted)
            say(f"{len(wanted)} stages unharmed in {time.monotonic() - began:.0f} s")
            campaign = Campaign(chain, seed, folder / "faults")
            (folder / "faults").mkdir()
            for fault, count in counts.items():
                able = chosen_of(fault, wanted)
                for number in range(count if able else 0):
                    stage = able[number % len(able)]
                    if campaign.random.random() > SLOW.get(stage.name, 1.0):
                        stage = campaign.random.choice(able)
                    told, wrong = campaign.one(fault, stage)
                    rows.append((fault, stage.name, told, "; ".join(wrong)))
                    if wrong:
                        say(f"{fault}: {stage.name}: {told}: {'; '.join(wrong)}")
                    if "out" in options:
                        with Path(options["out"]).open("a", newline="", encoding="utf-8") as file:
                            csv.writer(file).writerow(rows[-1])
    table: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    for fault, stage, _, wrong in rows:
        for key in ((fault, stage), (fault, "all")):
            for place, holds in enumerate((True, not wrong, "stuck" in wrong, "differing" in wrong, "left" in wrong)):
                table[key][place] += holds
    say(f"{'fault':8} {'command':18} tried   well  stuck  other  left")
    for (fault, stage), (tried, well, stuck, other, left) in sorted(table.items()):
        say(f"{fault:8} {stage:18} {tried:5} {well:6} {stuck:6} {other:6} {left:5}")
    say(f"seed={seed}, {time.monotonic() - began:.0f} s")
    return int(any(wrong for *_, wrong in rows))


if __name__ == "__main__":
    sys.exit(main(dict(argument.partition("=")[::2] for argument in sys.argv[1:])))
