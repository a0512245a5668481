"""The whole chain over many simulated stars, each command a process of its own whose memory is sampled.

    python experiments/benchmarks/soak.py OUT [--stars 200000] [--bins 500] [--components 20] [--keep]

Stars are drawn and observed as the simulated survey's are (`full_size_store.py`), as many pixels of each as `--bins`
says are kept, and written as arrays; then come the commands as a user types them: ingest, fit, embed, siblings,
compare and report. OUT gets `held.csv` (a sample every half second), `soak.png` and what every command printed; stars
and results are removed at the end, but for `--keep`. "Growth" is how much more memory there is in the last quarter of
a command's time than in its second quarter, on average.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
from full_size_store import chosen_bins, observations, spectra, star_table
from rich.console import Console
from rich.table import Table as Grid
from watched import Held, Watch, draw, write

from rsca_torch.survey.apogee import GRID

ARRAYS = "survey=arrays survey.root=. survey.flux=flux.npy survey.error=error.npy survey.wavelength=wavelength.npy"
ROLES = "id=APOGEE_ID group=CLUSTER velocity=VHELIO_AVG extinction=AK_TARG snr=SNR".split()
ASKED = 20  # field stars whose siblings are looked for, besides those of a cluster


def simulate(folder: Path, n_stars: int, n_bins: int, seed: int) -> None:
    """flux.npy, error.npy, wavelength.npy and stars.fits, written block by block."""
    _, bins = chosen_bins(n_bins)
    drawing, measuring, observing = np.random.SeedSequence(seed).spawn(3)
    stars = observations(n_stars - 185, 185, 22, np.random.default_rng(drawing))
    table = star_table(stars, np.random.default_rng(measuring))
    table.write(folder / "stars.fits")
    np.save(folder / "wavelength.npy", GRID.wavelength[bins])
    shape = len(stars), len(bins)
    flux, error = (
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype="<f4", shape=shape)
        for name in ("flux", "error")
    )
    for rows, some_flux, some_error in spectra(stars, bins, observing):
        flux[rows], error[rows] = some_flux, some_error
    flux.flush()
    error.flush()
    field = np.asarray(table["APOGEE_ID"])[np.asarray(table["CLUSTER"]) == ""][:: max(1, n_stars // ASKED)]
    (folder / "ids.txt").write_text("\n".join(map(str, field)) + "\n", encoding="utf-8")


def commands(n_components: int, cluster: str) -> list[list[str]]:
    """As they are typed."""
    roles = [f"survey.roles.{role}" for role in ROLES]
    of_survey = [*ARRAYS.split(), "survey.stars=stars.fits", *roles, "survey.censoring.max_error=0.05"]
    model = ["model=rsca.safetensors", "store=store"]
    return [
        ["ingest", *of_survey, "store=store"],
        ["fit", "store=store", f"compressor.n_components={n_components}", "out=rsca.safetensors"],
        ["embed", *model, "out=features.fits"],
        ["siblings", *model, "ids=ids.txt", "out=siblings.csv"],
        ["siblings", *model, f"cluster={cluster}", "out=candidates.csv"],
        ["compare", "store=store", f"compressor.n_components={n_components}", "abundances=null", "out=run"],
        ["report", "sweep=run"],
    ]


def main() -> None:
    """Run the chain and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    for name, value in {"stars": 200_000, "bins": 500, "components": 20, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--draw", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    work = given.out.resolve() / "chain"
    if given.draw:
        simulate(work, given.stars, given.bins, given.seed)
        return
    work.mkdir(parents=True)
    own = [sys.executable, *sys.argv, "--draw"]
    begin, samples = time.perf_counter(), list[Held]()
    grid = Grid("step", "s", "peak, GB", "last quarter, GB", "growth, GB", "descriptors", "/dev/shm", "exit code")
    chain = [["simulate"], *commands(given.components, "NGC 6791")]
    for command in chain:
        label = " ".join(command[:1])
        started = time.perf_counter()
        log = (work.parent / f"{label}.log").open("a", encoding="utf-8")
        called = own if label == "simulate" else [sys.executable, "-m", "rsca_torch", *command]
        folder = Path.cwd() if label == "simulate" else work
        with (
            log,
            subprocess.Popen(called, cwd=folder, stdout=log, stderr=log) as process,
            Watch(psutil.Process(process.pid), label, begin) as watch,
        ):
            process.wait()
        seconds = time.perf_counter() - started
        samples += watch.samples
        write(samples, work.parent / "held.csv")
        grid.add_row(label, f"{seconds:.0f}", *_told(watch.samples), str(process.returncode))
        if process.returncode:
            break
    draw(samples, work.parent / "soak.png", f"the chain over {given.stars:,} stars of {given.bins} bins")
    Console(width=120).print(grid)
    size = sum(path.stat().st_size for path in work.rglob("*") if path.is_file()) / 1e9
    print(f"{size:.2f} GB were written; free memory is {psutil.virtual_memory().available / 1e9:.1f} GB")
    if not given.keep:
        shutil.rmtree(work)


def _told(samples: list[Held]) -> list[str]:
    memory = np.array([sample.memory for sample in samples if sample.processes])
    if not len(memory):
        return ["", "", "", "", ""]
    quarter = max(1, len(memory) // 4)
    second, last = memory[quarter : 2 * quarter], memory[-quarter:]
    growth = last.mean() - (second.mean() if len(second) else last.mean())
    held = [max(getattr(sample, name) for sample in samples) for name in ("descriptors", "shared")]
    return [f"{memory.max():.2f}", f"{last.mean():.2f}", f"{growth:+.2f}", *map(str, held)]


if __name__ == "__main__":
    main()
