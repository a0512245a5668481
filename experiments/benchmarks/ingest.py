"""Files a second and memory of an ingest, by number of processes.

    rsca simulate root=TREE simulation.n_field=20000
    python experiments/benchmarks/ingest.py TREE [--survey apogee_dr16] [--processes 1 2]

Every ingest is `rsca ingest` in a process of its own, into a folder that is removed; the first, which is not counted,
brings the files into the system's cache. Memory is the peak of the anonymous memory of the command and of the processes
that it started together. "Files" are the spectra that were read, those of repeats too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from rsca_torch.survey.store import Store


def memory_of(parent: int) -> float:
    """GB of anonymous memory of a process and all below it; one that has just ended counts nothing."""
    parents, anonymous = dict[int, int](), dict[int, int]()
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        number = int(lines["Pid"])
        parents[number] = int(lines["PPid"])
        anonymous[number] = int(lines.get("RssAnon", "0 kB").split()[0])
    total = 0
    for number, size in anonymous.items():
        above = number
        while above not in (0, parent):
            above = parents.get(above, 0)
        total += size if above == parent else 0
    return total * 1024 / 1e9


def ingested(root: Path, survey: str, processes: int) -> tuple[int, float, float]:
    """(Files, seconds, GB) of an ingest."""
    with tempfile.TemporaryDirectory(dir=root.parent) as folder:
        store = Path(folder) / "store"
        options = [f"survey={survey}", f"survey.root={root}", f"store={store}", f"parallel.processes={processes}"]
        begin, memory = time.perf_counter(), 0.0
        command = [sys.executable, "-m", "rsca_torch", "ingest", *options]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
            while running.poll() is None:
                memory = max(memory, memory_of(running.pid))
                time.sleep(0.1)
        seconds = time.perf_counter() - begin
        if running.returncode:
            raise SystemExit(running.returncode)
        made = Store.open(store)
        return len(made) + len(made.repeats) + len(made.groups), seconds, memory


def main() -> None:
    """Ingest and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--survey", default="apogee_dr16")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args()
    ingested(given.root, given.survey, given.processes[-1])
    grid = Grid("processes", "files", "seconds", "files a second", "GB")
    for processes in given.processes:
        files, seconds, memory = ingested(given.root, given.survey, processes)
        grid.add_row(str(processes), f"{files:,}", f"{seconds:.1f}", f"{files / seconds:.0f}", f"{memory:.2f}")
    Console(width=100).print(grid)


if __name__ == "__main__":
    main()
