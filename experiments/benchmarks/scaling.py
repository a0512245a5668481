"""Time and peak memory of PPCA's fit against the number of stars, the number of components and the kind of noise.

    python experiments/benchmarks/scaling.py STORE [--stars 1000 10000 151330] [--components 10 30] [--iterations 5]
        [--noise isotropic measured measured+scatter] [--products float32] [--picture scaling.png]

The first stars of a store (full_size_store.py makes one). Every fit has a process of its own and makes a few EM
iterations; "start" is what comes before the first of them is done. Memory is the peak of anonymous memory,
libraries included; the mapped store is not in it.
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from measuring import Meter, in_own_process
from rich.console import Console
from rich.table import Table as Grid

from rsca_torch import NumericalWarning
from rsca_torch.drawing.style import in_style
from rsca_torch.ppca.fit import Products, fit_ppca
from rsca_torch.spectra.blocks import Noise
from rsca_torch.survey.store import Store


@dataclass(frozen=True)
class Cost:
    """Of one fit: seconds until the first iteration is done, seconds of one more, GB."""

    stars: int
    components: int
    noise: Noise
    start: float
    iteration: float
    memory: float


def fit(store: Store, n: int, k: int, noise: Noise, products: Products, iterations: int) -> list[float]:
    """Seconds after which each iteration was done."""
    done: list[float] = []
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)  # not converged: not meant to
        fit_ppca(
            store.select(slice(n)),
            n_components=k,
            noise=noise,
            max_iterations=iterations,
            products=products,
            progress=lambda *_: done.append(time.perf_counter() - begin),
        )
    return done


def cost(path: Path, n: int, k: int, noise: Noise, products: Products, iterations: int) -> Cost:
    """One fit under the meter."""
    store = Store.open(path)
    with Meter() as meter:
        done = fit(store, n, k, noise, products, iterations)
    return Cost(n, k, noise, done[0], float(np.median(np.diff(done))), meter.memory)


def tabulate(costs: list[Cost]) -> Grid:
    """One row a fit."""
    grid = Grid(title="PPCA from a store")
    for name in ("stars", "K", "noise", "start, s", "iteration, s", "stars / s", "peak memory, GB"):
        grid.add_column(name, justify="right")
    for of in costs:
        seconds = f"{of.start:.3g}", f"{of.iteration:.3g}", f"{of.stars / of.iteration:,.0f}"
        grid.add_row(f"{of.stars:,}", str(of.components), of.noise, *seconds, f"{of.memory:.2f}")
    return grid


@in_style()
def draw(path: Path, costs: list[Cost]) -> None:
    """Seconds an iteration and memory against stars, one line for each K and noise."""
    figure, (seconds, memory) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for (k, noise), of in itertools.groupby(costs, lambda c: (c.components, c.noise)):
        line = list(of)
        stars = [c.stars for c in line]
        seconds.loglog(stars, [c.iteration for c in line], "o-", label=f"K = {k}, {noise}")
        memory.semilogx(stars, [c.memory for c in line], "o-")
    seconds.set(xlabel="stars", ylabel="seconds an iteration")
    seconds.legend()
    memory.set(xlabel="stars", ylabel="peak memory, GB", ylim=(0, None))
    figure.savefig(path)


def main() -> None:
    """Every combination, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--stars", type=int, nargs="+", default=[1_000, 10_000, 151_330])
    parser.add_argument("--components", type=int, nargs="+", default=[10, 30])
    parser.add_argument("--noise", nargs="+", default=["isotropic", "measured", "measured+scatter"])
    parser.add_argument("--products", default="float32", help="of fit_ppca: float32 or float64")
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    costs = [
        in_own_process(cost, given.store, n, k, noise, given.products, given.iterations)
        for k, noise, n in itertools.product(given.components, given.noise, given.stars)
    ]
    Console().print(tabulate(costs))
    if given.picture:
        draw(given.picture, costs)


if __name__ == "__main__":
    main()
