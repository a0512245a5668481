"""Step 1 of a whole survey to convergence: time and peak memory.

    python experiments/benchmarks/full_size_store.py STORE            (151,330 stars x 7,514 bins, 9 GB)
    python experiments/benchmarks/full_size.py STORE [--noise isotropic measured+scatter] [--components 30]
        [--tolerance 1e-5] [--clip 5] [--products float32]

Every fit has a process of its own. "before" is what comes before the first pass over all stars: counting, the leading
axes, EM on some of the stars. Memory is the peak of anonymous memory; the mapped store is not in it. "Ratio" is the
time of a pass over that of its two matrix products as torch's `@` makes them (of 2,048 stars, before and after the fit:
the mean), so that it says something where other programs run too. "CPU" is the processor time of all threads.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from measuring import Meter, in_own_process, products
from rich.console import Console
from rich.table import Table as Grid

from rsca_torch.ppca.fit import Products, fit_ppca
from rsca_torch.spectra.blocks import Noise
from rsca_torch.survey.store import Store

TIMED_STARS = 2048  # of the products alone


@dataclass(frozen=True)
class Fitted:
    """What a fit needed: (seconds, mean log-likelihood per valid bin) of every pass, processor seconds, GB.

    Attributes:
        bare: seconds of a pass's two matrix products.
    """

    history: list[tuple[float, float]]
    processor: float
    memory: float
    bare: float


def fit(path: Path, k: int, noise: Noise, tolerance: float, clip: float | None, precision: Products) -> Fitted:
    """Every pass over all stars."""
    history: list[tuple[float, float]] = []
    store = Store.open(path)
    field = store.select(~store.is_member)
    size = min(len(field), TIMED_STARS), field.n_bins, k, getattr(torch, precision)
    before = products(*size)
    begin, used = time.perf_counter(), time.process_time()
    with Meter() as meter:
        fit_ppca(
            field,
            n_components=k,
            noise=noise,
            tolerance=tolerance,
            products=precision,
            clip=None if noise == "isotropic" else clip,
            progress=lambda _, reached: history.append((time.perf_counter() - begin, reached)),
        )
    used = time.process_time() - used
    return Fitted(history, used, meter.memory, (before + products(*size)) / 2 * len(field) / size[0])


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
    names = ("noise", "passes", "a pass, s", "ratio", "before, s", "total, s", "CPU, s")
    grid = Grid(*names, "nats a valid bin", "last gain", "GB")
    for noise in given.noise:
        of = in_own_process(fit, given.store, given.components, noise, given.tolerance, given.clip, given.products)
        history = of.history
        (first, _), (total, reached) = history[0], history[-1]
        later = history[1][0] - first if len(history) > 1 else 0.0
        gain = reached - history[-2][1] if len(history) > 1 else float("nan")
        seconds = (f"{later:.3g}", f"{later / of.bare:.2f}", f"{max(first - later, 0):.0f}", f"{total:.0f}")
        told = (f"{of.processor:.0f}", f"{reached:.6f}", f"{gain:.1e}", f"{of.memory:.2f}")
        grid.add_row(noise, str(len(history)), *seconds, *told)
    Console(width=130).print(grid)


if __name__ == "__main__":
    main()
