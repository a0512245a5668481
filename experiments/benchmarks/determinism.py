"""What stays of a model's numbers when it is made again: bit for bit, or how far off.

    python experiments/benchmarks/determinism.py [--stars 1500] [--bins 800] [--components 10]

Off: the largest difference of any number, in units of the standard deviation of its kind (weights, features, the
neighbours' squared distances); 0 of rates means the same rates.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from measuring import in_own_process
from rich.console import Console
from rich.table import Table as Grid

import rsca_torch.spectra.blocks as blocks
from rsca_torch import RSCA, NumericalWarning, Spectra, leave_one_cluster_out
from rsca_torch.learners import ScaledComponents
from rsca_torch.siblings.search import nearest

CLUSTERS, SIZE = 12, 6


class Found(NamedTuple):
    """Of one way to make it."""

    weight: np.ndarray
    features: np.ndarray
    rates: np.ndarray
    neighbours: np.ndarray
    distances: np.ndarray


def drawn(n_stars: int, n_bins: int) -> tuple[Spectra, Spectra, np.ndarray]:
    """Field, members and their labels; float32, as a store holds them."""
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(8, n_bins)) * 0.02
    centres = np.repeat(rng.normal(size=(CLUSTERS, 8)), SIZE, axis=0)
    kinds = [rng.normal(size=(n_stars, 8)), centres + rng.normal(size=centres.shape) * np.linspace(0.1, 0.9, 8)]
    parts, first = [], 0
    for latents in kinds:
        sigma = rng.uniform(0.005, 0.02, size=(len(latents), n_bins)).astype(np.float32)
        flux = (1 + latents @ axes + sigma * rng.normal(size=sigma.shape)).astype(np.float32)
        ids = {"id": first + np.arange(len(flux))}
        parts.append(Spectra(flux, rng.random(flux.shape) > 0.05, sigma, None, ids))
        first += len(flux)
    return *parts, np.repeat([f"c{number}" for number in range(CLUSTERS)], SIZE)


def made(
    sizes: tuple[int, int, int], products: str = "float32", threads: int = 1, rows: int = 0, processes: int = 1
) -> Found:
    """As `RSCA.fit` does without other options, with so many threads, blocks of so many stars, so many processes."""
    warnings.simplefilter("ignore", NumericalWarning)
    torch.set_num_threads(threads)
    if rows:
        blocks.BLOCK_ELEMENTS = rows * sizes[1]
    field, members, labels = drawn(*sizes[:2])
    model = RSCA.fit(field, members, labels, sizes[2], products=products)
    features = [model.embed(part) for part in (field, members)]
    latents = [model.ppca.latents(part) for part in (field, members)]
    judged = leave_one_cluster_out(ScaledComponents, *latents, labels, processes=processes)
    found = nearest(features[1], features[0], 10)
    rates = np.array([judged.cluster_rates[name] for name in sorted(judged.cluster_rates)])
    return Found(model.weight.numpy(), torch.cat(features).numpy(), rates, found.rows.numpy(), found.values.numpy())


def off(one: np.ndarray, other: np.ndarray) -> str:
    """As the page has it."""
    if one.tobytes() == other.tobytes():
        return "bits"
    return f"{float(np.abs(one - other).max() / np.std(one)):.0e}"


def main() -> None:
    """Make it in every way and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"stars": 1500, "bins": 800, "components": 10}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    sizes = given.stars, given.bins, given.components

    def of(**options: object) -> Callable[[], Found]:
        return lambda: in_own_process(made_with, sizes, options)

    ways = {"another process": {}, "2 threads": {"threads": 2}, "2 processes": {"processes": 2}}
    ways |= {"blocks of 100 stars": {"rows": 100}, "blocks of 7 stars": {"rows": 7}}
    ways |= {"products in float64": {"products": "float64"}}
    grid = Grid("against the usual way", *Found._fields)
    usual = of()()
    for name, options in ways.items():
        grid.add_row(name, *(off(*pair) for pair in zip(usual, of(**options)(), strict=True)))
    exact = of(products="float64")()
    for name, options in {"2 threads": {"threads": 2}, "blocks of 7 stars": {"rows": 7}}.items():
        found = of(products="float64", **options)()
        grid.add_row(f"float64, {name}", *(off(*pair) for pair in zip(exact, found, strict=True)))
    Console(width=120).print(grid)


def made_with(sizes: tuple[int, int, int], options: dict[str, object]) -> Found:
    """For another process."""
    return made(sizes, **options)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
