"""Passes over the data that EM needs with extrapolation (docs/maths.md, 1.9) and without it, from the same start.

    python experiments/benchmarks/acceleration.py STORE [--stars 3000] [--components 30] [--tolerance 1e-5]
        [--limit 300] [--noise isotropic measured]

Of a store's field stars the first `--stars`. Passes that an extrapolation wasted count. Plain EM goes on until it has
the likelihood at which the extrapolated one converged, or for `--limit` passes.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table as Grid

from rsca_torch import NumericalWarning
from rsca_torch.ppca.e_step import Parameters
from rsca_torch.ppca.extrapolation import ROUNDING, Ascent
from rsca_torch.ppca.fit import fit_ppca
from rsca_torch.ppca.m_step import moments_of
from rsca_torch.spectra.blocks import Blocks
from rsca_torch.survey.store import Store


def extrapolated(
    blocks: Blocks, theta: Parameters, tolerance: float, most: int, clip: float | None
) -> tuple[Ascent, int]:
    """EM to its end, and its iterations, those thrown away too."""
    ascent, passes = Ascent(theta, tolerance, most, ROUNDING[blocks.dtype]), 0
    while not ascent.done:
        ascent.advance(moments_of(blocks, ascent.trial, clip))
        passes += 1
    return ascent, passes


def plain(blocks: Blocks, theta: Parameters, limit: int, clip: float | None, aim: float) -> list[float]:
    """Likelihoods of one EM step after the other, until `aim` is reached or so many are made."""
    history: list[float] = []
    while len(history) < limit and not (history and history[-1] >= aim):
        moments = moments_of(blocks, theta, clip)
        history.append(moments.log_likelihood)
        theta, _ = moments.maximise()
    return history


def both(
    limit: int,
    row: Callable[..., None],
    blocks: Blocks,
    theta: Parameters,
    tolerance: float,
    max_iterations: int,
    clip: float | None = None,
    progress: object = None,  # noqa: ARG001  (an EM loop is given one)
) -> Ascent:
    """An EM loop of `fit_ppca` that goes both ways and adds a row."""
    ascent, passes = extrapolated(blocks, theta, tolerance, max_iterations, clip)
    aim = ascent.history[-1]
    history = plain(blocks, theta, limit, clip, aim)
    gains = np.diff(history)
    stopped = int(np.argmax(gains < tolerance)) + 1 if (gains < tolerance).any() else len(history) - 1
    reached = f"{len(history)}" if history[-1] >= aim else f"more than {limit}"
    row(f"{passes}", f"{aim:.6f}", reached, f"{stopped + 1}", f"{aim - history[stopped]:.2g}")
    return ascent


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--stars", type=int, default=3000)
    parser.add_argument("--components", type=int, default=30)
    parser.add_argument("--tolerance", type=float, default=1e-5)
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--noise", nargs="+", default=["isotropic", "measured"])
    given = parser.parse_args()
    store = Store.open(given.store)
    field = store.select(np.flatnonzero(~store.is_member)[: given.stars])
    columns = ("noise", "passes", "nats a bin", "plain: to the same", "to the same tolerance", "nats short there")
    grid = Grid(*columns, title=f"{len(field):,} stars, K = {given.components}, tolerance {given.tolerance:g}")
    for noise in given.noise:
        em_loop = partial(both, given.limit, partial(grid.add_row, noise))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumericalWarning)  # bins left out
            options = {"tolerance": given.tolerance, "max_iterations": given.limit, "em_loop": em_loop}
            fit_ppca(field, n_components=given.components, noise=noise, **options)
    Console().print(grid)


if __name__ == "__main__":
    main()
