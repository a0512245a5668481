"""A sweep of many tiny jobs in one process: does anything grow with the number of jobs?

    python experiments/benchmarks/sweep_load.py OUT [--jobs 1000]

OUT gets `held.csv` (a sample every half second) and `sweep.png`. Printed is what the process holds after every tenth
of the jobs, and what is left in the folder for temporary files when all are done.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from astropy.table import Table
from rich.console import Console
from rich.table import Table as Grid
from watched import Held, Watch, draw, held_by, write

from rsca_torch import Spectra
from rsca_torch.cli.main import main as rsca
from rsca_torch.survey.described.arrays import store_of

FIELD, CLUSTERS, SIZE, BINS = 80, "ABC", 4, 24


def drawn() -> Spectra:
    """Spectra in which siblings are alike in two of four directions."""
    rng = np.random.default_rng(0)
    family = np.array([""] * FIELD + [name for name in CLUSTERS for _ in range(SIZE)])
    latents = rng.normal(size=(len(family), 4))
    for name in CLUSTERS:
        latents[family == name] = rng.normal(size=4) + rng.normal(size=(SIZE, 4)) * [0.05, 0.1, 0.9, 0.9]
    error = np.full((len(family), BINS), 0.01)
    flux = 1 + 0.03 * latents @ rng.normal(size=(4, BINS)) + error * rng.normal(size=error.shape)
    stars = Table({"star": np.arange(len(family)), "family": family})
    return Spectra(flux, sigma=error, wavelength=np.linspace(5000, 5115, BINS), stars=stars, id="star", group="family")


def main() -> None:
    """Run and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=1000)
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True)
    temporary = out / "temporary"
    temporary.mkdir()
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    store_of(drawn(), out / "store")
    command = ["compare", "-m", f"store={out / 'store'}", f"out={out / 'sweep'}", f"seed=range({given.jobs})"]
    tiny = ["compressor.n_components=3", "compressor.max_iterations=3", "calibration=null", "figures=false"]
    kept = ["checkpoints=null", "pairs=all", "~learner@baselines.raw", "~learner@baselines.scaled"]

    def finished() -> int:
        return sum(1 for _ in (out / "sweep").glob("*/results.json"))

    begin, process = time.perf_counter(), psutil.Process()
    with Watch(process, "compare -m", begin, finished) as watch:
        code = rsca([*command, *tiny, *kept])
    after = held_by(process, time.perf_counter() - begin, "after", finished())
    write([*watch.samples, after], out / "held.csv")
    draw(watch.samples, out / "sweep.png", f"a sweep of {given.jobs} jobs in one process", "done", "jobs done")
    grid = Grid(title=f"exit code {code}")
    for name in ("jobs done", "s", "MB", "descriptors", "processes", "threads", "/dev/shm"):
        grid.add_column(name, justify="right")
    for tenth in range(1, 11):
        there = [sample for sample in watch.samples if sample.done >= tenth * given.jobs // 10]
        _row(grid, there[0] if there else after)
    _row(grid, after)
    Console(width=120).print(grid)
    print(f"left in TMPDIR: {sorted(path.name for path in temporary.iterdir())}")


def _row(grid: Grid, held: Held) -> None:
    numbers = held.descriptors, held.processes, held.threads, held.shared
    grid.add_row(str(held.done), f"{held.seconds:.0f}", f"{held.memory * 1e3:.0f}", *map(str, numbers))


if __name__ == "__main__":
    main()
