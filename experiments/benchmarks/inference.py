"""How fast stars go through a fitted model, against the products that it cannot do without, and a copy of memory.

    python experiments/benchmarks/inference.py [--stars 6000] [--bins 7514] [--components 30] [--threads 1] [--graph]

`RSCA(flux)` is one product of matrices; the posterior of censored spectra is two, and a K x K system a star. The same
products are timed beside them by torch's `@` in float64, in turns with them, and of float32 flux in float32 too, in
which a sum of so many bins loses digits. --graph times the graph that torch.export makes of the posterior too. Random
spectra of the model and random errors: few bins are set aside. A copy reads and writes: both are counted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table as Grid

from rsca_torch.export.program import INPUTS, program_of
from rsca_torch.layers.rsca import RSCA
from rsca_torch.ppca.model import MaskedPPCA

INVALID = 0.12


def seconds(*tasks: Callable[[], object], repeats: int = 5) -> list[float]:
    """Processor seconds, the least of a few of each, in turns, after one to warm up."""
    times: list[list[float]] = [[] for _ in tasks]
    for _ in range(repeats + 1):
        for task, own in zip(tasks, times, strict=True):
            begin = time.process_time()
            task()
            own.append(time.process_time() - begin)
    return [min(own[1:]) for own in times]


def model(n_bins: int, n_components: int, clip: float | None = 5.0) -> RSCA:
    """One of random loadings, with measured noise, a scatter of every bin, and bins set aside, as `rsca fit` makes."""
    loadings = 0.02 * torch.randn(n_bins, n_components, dtype=torch.float64)
    scatter = loadings.new_full((n_bins,), 1e-5)
    ppca = MaskedPPCA(loadings, loadings.new_ones(n_bins), scatter + 1e-4, None, scatter=scatter, clip=clip)
    eye = torch.eye(n_components, dtype=torch.float64)
    return RSCA(ppca, eye, eye[0], eye[0] + 1, torch.arange(n_bins, dtype=torch.float64))


def spectra(rsca: RSCA, n_stars: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """float32 flux of the model with its noise, valid and sigma."""
    ppca = rsca.ppca
    flux = torch.randn(n_stars, ppca.n_components) @ ppca.loadings.float().T
    flux += 1 + 0.01 * torch.randn_like(flux)
    return flux, torch.rand_like(flux) > INVALID, torch.full_like(flux, 0.01)


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"stars": 6_000, "bins": 7_514, "components": 30}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of the array that is copied")
    parser.add_argument("--threads", type=int, default=1, help="of more, processor seconds are those of all")
    parser.add_argument("--graph", action="store_true", help="what torch.export makes of it too")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    large = torch.ones(int(given.gigabytes * 1e9 / 4))
    copied = torch.empty_like(large)
    bandwidth = 2 * large.nbytes / seconds(lambda: copied.copy_(large))[0] / 1e9
    rsca = model(given.bins, given.components)
    isotropic = model(given.bins, given.components, clip=None)
    flux, valid, sigma = spectra(rsca, given.stars)
    wide, weights = flux.double(), torch.where(valid, 1e4, 0.0).double()
    loadings, bias = rsca.ppca.loadings, rsca.bias
    row, column = torch.triu_indices(given.components, given.components)
    outer = loadings[:, row] * loadings[:, column]
    map_, narrow = rsca.weight.T, rsca.weight.T.float()
    title = f"{given.stars:,} stars x {given.bins:,} bins, K = {given.components}, {torch.get_num_threads()} threads"
    grid = Grid("model", title=title)
    for name in ("seconds", "stars / s", "products, s", "ratio"):
        grid.add_column(name, justify="right")
    tasks: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "RSCA(flux), flux float32": (lambda: rsca(flux), lambda: wide @ map_ + bias),
        "RSCA(flux), product float32": (lambda: rsca(flux), lambda: flux @ narrow + bias.float()),
        "RSCA(flux), flux float64": (lambda: rsca(wide), lambda: wide @ map_ + bias),
        "RSCA(flux, valid)": (lambda: rsca(flux, valid), lambda: (weights @ outer, wide @ loadings)),
        "RSCA(flux, valid, sigma)": (
            lambda: rsca(flux, valid, sigma),
            lambda: (weights @ outer, wide @ loadings),
        ),
        "the same, nothing set aside": (
            lambda: isotropic(flux, valid, sigma),
            lambda: (weights @ outer, wide @ loadings),
        ),
    }
    if given.graph:
        graph = program_of(rsca, INPUTS, torch.float32).module()
        bound = tasks["RSCA(flux, valid, sigma)"][1]
        tasks["the posterior as a graph"] = (lambda: graph(flux=flux, valid=valid, sigma=sigma), bound)
    for name, (task, bound) in tasks.items():
        needed, least = seconds(task, bound)
        rate = given.stars / needed
        grid.add_row(name, f"{needed:.3g}", f"{rate:,.0f}", f"{least:.3g}", f"{needed / least:.2f}")
    Console().print(grid)
    print(f"copy of {given.gigabytes:g} GB: {bandwidth:.1f} GB/s read and written")


if __name__ == "__main__":
    main()
