"""Leave one cluster out at survey size, ours and the definition as it is written, side by side in one run.

    python experiments/benchmarks/leave_one_cluster_out.py [--field 151145] [--members 185] [--clusters 22]
        [--components 30] [--repeats 3] [--threads 2] [--seed 0] [--floor none repeats noise] [--trim 2]

The definition (docs/maths.md, 2 to 5) is a plain loop in NumPy, as the authors' program has it: every fold computes the
field's covariance and maps all field stars anew, takes every member's distance to all of them and then asks which pairs
are allowed. Latents are drawn; velocities and extinctions are drawn like the survey's, so that one or two per cent of
the pairs are allowed. Seconds are the least of the repeats: other programs on the machine only ever add to them.
"ours" is the paper's learner (floor=none, no trim, MADs), whose rates the definition gives; the others have a floor
(--floor: of 2,000 stars observed twice, or of the members' errors), --trim and standard deviations. CPU is the
processor time of all threads.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.table import Table as Grid

from rsca_torch import NumericalWarning, ScaledComponents, allowed_pairs, leave_one_cluster_out
from rsca_torch.learners.floor import Repeats

Array = np.ndarray
Rates = dict[str, float]
ERROR = 0.4  # of an observation's latents, where the field's spread is 1


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


def makers(n_components: int, floors: list[str], trim: float) -> dict[str, tuple[Callable[[], ScaledComponents], bool]]:
    """Learners by name, and whether distances are kept; the floors are those of drawn repeats and errors."""

    def bounded(floor: str) -> ScaledComponents:
        learner = ScaledComponents(floor=floor, trim=trim, robust=False)
        learner.repeats = repeats
        return learner

    paper = partial(ScaledComponents, floor="none", trim=None, robust=True)
    rng = np.random.default_rng(1)
    stars = np.repeat(np.arange(2000), 2)
    latents = rng.normal(size=(2000, n_components))[stars] + ERROR * rng.normal(size=(len(stars), n_components))
    repeats = Repeats.of(latents, stars)
    told = {"ours": (paper, False), "ours, distances kept": (paper, True)}
    return told | {f"floor={floor}, trim={trim:g}": (partial(bounded, floor), False) for floor in floors}


def ours(problem: Problem, make: Callable[[], ScaledComponents], keep_distances: bool = False) -> Rates:
    """The same by the package."""
    k = problem.members.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)  # weights of 0, clusters without a pair
        return leave_one_cluster_out(
            make,
            problem.field,
            problem.members,
            problem.clusters,
            problem.allowed,
            keep_distances=keep_distances,
            noise=np.broadcast_to(ERROR**2 * np.eye(k), (len(problem.members), k, k)),
        ).cluster_rates


def timed(task: Callable[..., Rates], repeats: int, *given: object) -> tuple[float, float, Rates]:
    """The least seconds, the least processor seconds, and what it gives."""
    seconds, processor = [], []
    for _ in range(repeats):
        begin, used = time.perf_counter(), time.process_time()
        rates = task(*given)
        seconds.append(time.perf_counter() - begin)
        processor.append(time.process_time() - used)
    return min(seconds), min(processor), rates


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("field", 151_145), ("members", 185), ("clusters", 22), ("components", 30), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--floor", nargs="+", default=["repeats", "noise"])
    parser.add_argument("--trim", type=float, default=2.0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    problem = drawn(arguments.field, arguments.members, arguments.clusters, arguments.components, arguments.seed)
    everything = Problem(problem.field, problem.members, problem.clusters, np.ones_like(problem.allowed))
    learners = makers(arguments.components, arguments.floor, arguments.trim)
    grid = Grid("pairs compared", "program", "seconds", "ratio", "CPU, s", "largest difference of the rates")
    for pairs, given in ((f"{problem.allowed.mean():.1%} of all", problem), ("all", everything)):
        slow, processor, expected = timed(definition, arguments.repeats, given)
        grid.add_row(pairs, "the definition", f"{slow:.3f}", "1", f"{processor:.3f}", "")
        for name, (make, keep) in learners.items():
            seconds, processor, rates = timed(ours, arguments.repeats, given, make, keep)
            difference = np.nanmax([abs(rates[label] - rate) for label, rate in expected.items()])
            same = f"{difference:.1e}" if name.startswith("ours") else ""
            grid.add_row("", name, f"{seconds:.3f}", f"{slow / seconds:.1f}", f"{processor:.3f}", same)
    grid.title = (
        f"{arguments.members} members of {arguments.clusters} clusters, {arguments.field} field stars, "
        f"K = {arguments.components}, {arguments.threads} threads"
    )
    Console(width=110).print(grid)


if __name__ == "__main__":
    main()
