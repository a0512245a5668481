"""Step 1 of a whole survey to convergence: time and peak memory.

    python experiments/benchmarks/full_size_store.py STORE            (151,330 stars x 7,514 bins, 9 GB)
    python experiments/benchmarks/full_size.py STORE [--noise isotropic measured+scatter] [--components 30]
        [--tolerance 1e-5] [--clip 5] [--products float32]

Every fit has a process of its own. "before" is what comes before the first pass over all stars: counting, the leading
axes, EM on some of the stars. Memory is the peak of anonymous memory; the mapped store is not in it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from measuring import Meter, in_own_process
from rich.console import Console
from rich.table import Table as Grid

from rsca_torch.ppca.fit import Products, fit_ppca
from rsca_torch.spectra.blocks import Noise
from rsca_torch.survey.store import Store


def fit(
    path: Path, k: int, noise: Noise, tolerance: float, clip: float | None, products: Products
) -> tuple[list[tuple[float, float]], float]:
    """((seconds, mean log-likelihood per valid bin) of every iteration over all stars, GB)."""
    history: list[tuple[float, float]] = []
    store = Store.open(path)
    begin = time.perf_counter()
    with Meter() as meter:
        fit_ppca(
            store.select(~store.is_member),
            n_components=k,
            noise=noise,
            tolerance=tolerance,
            products=products,
            clip=None if noise == "isotropic" else clip,
            progress=lambda _, reached: history.append((time.perf_counter() - begin, reached)),
        )
    return history, meter.memory


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--noise", nargs="+", default=["isotropic", "measured+scatter"])
    parser.add_argument("--components", type=int, default=30)
    parser.add_argument("--tolerance", type=float, default=1e-5)
    parser.add_argument("--clip", type=float, default=5.0)
    parser.add_argument("--products", default="float32")
    given = parser.parse_args()
    grid = Grid("noise", "iterations", "before, s", "total, s", "log-likelihood per valid bin", "last gain", "GB")
    for noise in given.noise:
        history, memory = in_own_process(
            fit, given.store, given.components, noise, given.tolerance, given.clip, given.products
        )
        (first, _), (total, reached) = history[0], history[-1]
        later = history[1][0] - first if len(history) > 1 else 0.0
        gain = reached - history[-2][1] if len(history) > 1 else float("nan")
        seconds = (f"{max(first - later, 0):.0f}", f"{total:.0f}")
        grid.add_row(noise, str(len(history)), *seconds, f"{reached:.6f}", f"{gain:.1e}", f"{memory:.2f}")
    Console().print(grid)


if __name__ == "__main__":
    main()
