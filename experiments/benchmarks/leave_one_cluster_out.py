"""Leave one cluster out at survey size, ours and the definition as it is written, side by side in one run.

    python experiments/benchmarks/leave_one_cluster_out.py [--field 151145] [--members 185] [--clusters 22]
        [--components 30] [--repeats 3] [--threads 2] [--seed 0]

The definition (docs/maths.md, 2 to 5) is a plain loop in NumPy, as the authors' program has it: every fold computes the
field's covariance and maps all field stars anew, takes every member's distance to all of them and then asks which pairs
are allowed. Latents are drawn; velocities and extinctions are drawn like the survey's, so that one or two per cent of
the pairs are allowed. Seconds are the least of the repeats: other programs on the machine only ever add to them.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table as Grid

from rsca_torch import NumericalWarning, ScaledComponents, allowed_pairs, leave_one_cluster_out

Array = np.ndarray
Rates = dict[str, float]


@dataclass(frozen=True)
class Problem:
    """Latents (F, K) and (M, K), M labels, and which pairs (M, F) may be compared."""

    field: Array
    members: Array
    clusters: Array
    allowed: Array


def drawn(n_field: int, n_members: int, n_clusters: int, n_components: int, seed: int) -> Problem:
    """Clusters of two members or more, tight along some dimensions and as wide as the field along others."""
    rng = np.random.default_rng(seed)
    sizes = 2 + rng.multinomial(n_members - 2 * n_clusters, rng.dirichlet(np.ones(n_clusters)))
    cluster = np.repeat(np.arange(n_clusters), sizes)
    centres = rng.normal(size=(n_clusters, n_components))
    spread = np.linspace(0.5, 1.2, n_components)
    members = centres[cluster] + spread * rng.normal(size=(n_members, n_components))
    allowed = allowed_pairs(
        rng.normal(0, 40, n_clusters)[cluster] + rng.normal(0, 1, n_members),
        rng.normal(0, 50, n_field),
        rng.exponential(0.1, n_clusters)[cluster] + rng.normal(0, 0.01, n_members),
        rng.exponential(0.2, n_field),
    )
    field = rng.normal(size=(n_field, n_components))
    return Problem(field, members, np.array([f"NGC {n}" for n in cluster]), allowed.numpy())


def definition(problem: Problem) -> Rates:
    """(5.2) of every cluster, from nothing a fold."""
    rates = {}
    for label in np.unique(problem.clusters):
        inside = problem.clusters == label
        weight = fitted(problem.field, problem.members[~inside], problem.clusters[~inside])
        siblings, strangers = problem.members[inside] @ weight.T, problem.field @ weight.T
        i, j = np.triu_indices(len(siblings), 1)
        threshold = np.median(np.sqrt(np.square(siblings[i] - siblings[j]).sum(1)))
        distances = np.array([np.sqrt(np.square(strangers - member).sum(1)) for member in siblings])
        allowed = problem.allowed[inside]
        rates[str(label)] = float((distances[allowed] <= threshold).mean()) if allowed.any() else np.nan
    return rates


def fitted(field: Array, members: Array, clusters: Array) -> Array:
    """(K, K) the map of steps 2 to 4."""
    variance, axes = np.linalg.eigh(np.cov(field, rowvar=False))
    basis = (axes / np.sqrt(variance)).T
    centred = members @ basis.T
    groups = [clusters == label for label in np.unique(clusters)]
    for group in groups:
        centred[group] -= centred[group].mean(0)
    _, rotation = np.linalg.eigh(centred.T @ centred)
    centred, basis = centred @ rotation, rotation.T @ basis
    pooled = sum((group.sum() - 1) * np.square(mad(centred[group])) for group in groups)
    sigma_c = np.sqrt(pooled / (len(members) - len(groups)))
    return np.sqrt(np.maximum(1 / np.square(sigma_c) - 1, 0))[:, None] * basis


def mad(sample: Array) -> Array:
    """(D,) as an estimate of the standard deviation."""
    return 1.482602218505602 * np.median(np.abs(sample - np.median(sample, axis=0)), axis=0)


def ours(problem: Problem, keep_distances: bool = False) -> Rates:
    """The same by the package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)  # weights of 0, clusters without a pair
        return leave_one_cluster_out(
            ScaledComponents,
            problem.field,
            problem.members,
            problem.clusters,
            problem.allowed,
            keep_distances=keep_distances,
        ).cluster_rates


def timed(task: Callable[..., Rates], repeats: int, *given: object) -> tuple[float, Rates]:
    """The least seconds, and what it gives."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        rates = task(*given)
        seconds.append(time.perf_counter() - begin)
    return min(seconds), rates


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("field", 151_145), ("members", 185), ("clusters", 22), ("components", 30), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    problem = drawn(arguments.field, arguments.members, arguments.clusters, arguments.components, arguments.seed)
    everything = Problem(problem.field, problem.members, problem.clusters, np.ones_like(problem.allowed))
    grid = Grid("pairs compared", "program", "seconds", "ratio", "largest difference of the rates")
    for pairs, given in ((f"{problem.allowed.mean():.1%} of all", problem), ("all", everything)):
        slow, expected = timed(definition, arguments.repeats, given)
        grid.add_row(pairs, "the definition", f"{slow:.3f}", "1", "")
        for name, keep in (("ours", False), ("ours, distances kept", True)):
            seconds, rates = timed(ours, arguments.repeats, given, keep)
            difference = np.nanmax([abs(rates[label] - rate) for label, rate in expected.items()])
            grid.add_row("", name, f"{seconds:.3f}", f"{slow / seconds:.1f}", f"{difference:.1e}")
    grid.title = (
        f"{arguments.members} members of {arguments.clusters} clusters, {arguments.field} field stars, "
        f"K = {arguments.components}, {arguments.threads} threads"
    )
    Console(width=100).print(grid)


if __name__ == "__main__":
    main()
