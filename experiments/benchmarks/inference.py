"""How fast stars go through a fitted model, against how fast this machine copies memory.

    python experiments/benchmarks/inference.py [--stars 20000] [--bins 7514] [--components 30] [--gigabytes 1]

`RSCA.forward(flux)` is one linear layer; `MaskedPPCA(flux, valid, sigma)` solves a K x K system a star. Random spectra
and loadings: the numbers do not matter to the time. A copy reads and writes: both are counted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table as Grid

from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.rsca import RSCA

INVALID = 0.12


def seconds(task: Callable[[], object], repeats: int = 3) -> float:
    """The best of a few, after one to warm up."""
    task()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        task()
        times.append(time.perf_counter() - begin)
    return min(times)


def model(n_bins: int, n_components: int) -> RSCA:
    """One of random loadings, with measured noise."""
    loadings = 0.02 * torch.randn(n_bins, n_components, dtype=torch.float64)
    ppca = MaskedPPCA(loadings, loadings.new_ones(n_bins), loadings.new_full((n_bins,), 1e-4), None)
    eye = torch.eye(n_components, dtype=torch.float64)
    return RSCA(ppca, eye, eye[0], eye[0] + 1, torch.arange(n_bins, dtype=torch.float64))


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"stars": 20_000, "bins": 7_514, "components": 30}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of the array that is copied")
    given = parser.parse_args()
    torch.manual_seed(0)
    large = torch.ones(int(given.gigabytes * 1e9 / 4))
    copied = torch.empty_like(large)
    bandwidth = 2 * large.nbytes / seconds(lambda: copied.copy_(large)) / 1e9
    rsca = model(given.bins, given.components)
    flux = torch.rand(given.stars, given.bins)
    valid, sigma = flux > INVALID, torch.full_like(flux, 0.01)
    title = f"{given.stars:,} stars x {given.bins:,} bins, K = {given.components}, {torch.get_num_threads()} threads"
    grid = Grid("model", title=title)
    for name in ("seconds", "stars / s", "flux read, GB / s", "of the copy's bandwidth"):
        grid.add_column(name, justify="right")
    tasks: dict[str, Callable[[], object]] = {
        "RSCA(flux)": lambda: rsca(flux),
        "MaskedPPCA(flux, valid)": lambda: rsca.ppca(flux, valid),
        "MaskedPPCA(flux, valid, sigma)": lambda: rsca.ppca(flux, valid, sigma),
    }
    for name, task in tasks.items():
        needed = seconds(task)
        rate = flux.nbytes / needed / 1e9
        grid.add_row(name, f"{needed:.3g}", f"{given.stars / needed:,.0f}", f"{rate:.2f}", f"{rate / bandwidth:.0%}")
    Console().print(grid)
    print(f"copy of {given.gigabytes:g} GB: {bandwidth:.1f} GB/s read and written")


if __name__ == "__main__":
    main()
