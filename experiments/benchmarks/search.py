"""How long a search takes: `python experiments/benchmarks/search.py [--stars 1000000] [--all 150000] [--faiss]`.

Draws stars in features like a model's (60, of which 41 tell siblings apart; a star in a hundred in a group of ten; the
velocities of a survey), writes them to files, and searches these, memory-mapped: the 20 best of one star among all, and
of every one of `--all` stars. Beside each stands the same by torch alone: every ratio in float64, then `topk` (of all
against all for some stars, times how many there are). `--faiss` adds faiss' exact index by distance, which is another
order. Prints Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from rsca_torch import allowed_pairs
from rsca_torch.learners.likelihood_ratio import joint_log_ratio
from rsca_torch.parallel import Parallel
from rsca_torch.siblings.likely_siblings import AT_ONCE
from rsca_torch.siblings.measure import Measure
from rsca_torch.siblings.pairs_within import PairsWithin
from rsca_torch.siblings.search import nearest
from rsca_torch.siblings.star_search import StarSearch

N = 20
SIGMA_R = np.append(np.geomspace(0.15, 3, 41), np.full(19, np.inf))
EVERYBODY = partial(allowed_pairs, max_velocity=None, max_extinction=None)
SOME = 256  # stars of all that torch alone searches for


def drawn(file: Path, n: int) -> tuple[PairsWithin, PairsWithin]:
    """Features in a file; and which pairs may be compared: the paper's, and all."""
    random = np.random.default_rng(0)
    features = np.lib.format.open_memmap(file, "w+", np.float64, (n, len(SIGMA_R)))
    spread = np.where(np.isfinite(SIGMA_R), SIGMA_R, 1)
    within = np.where(np.isfinite(SIGMA_R), 1 / np.sqrt(1 + SIGMA_R**2), 0.0)  # of siblings about their centre
    for first in range(0, n, 10_000):
        some = features[first : first + 10_000]
        some[:] = random.normal(size=some.shape) / spread
        grouped = len(some) // 1000 * 10
        some[:grouped] = np.repeat(some[: grouped // 10], 10, 0) + random.normal(size=(grouped, 1)) * 0
        some[:grouped] += random.normal(size=(grouped, len(spread))) * within
    features.flush()
    velocity, extinction = random.normal(0, 50, n), random.lognormal(np.log(0.11), 0.85, n)
    return PairsWithin(allowed_pairs, velocity, extinction), PairsWithin(EVERYBODY, velocity, extinction)


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """Seconds on the wall, the least of three if it takes less than ten."""
    least, given = np.inf, None
    for _ in range(3):
        began = time.perf_counter()
        given = work()
        least = min(least, time.perf_counter() - began)
        if least > 10:
            break
    return least, given


def by_torch(queries: torch.Tensor, file: Path) -> torch.Tensor:
    """Every ratio, and the best."""
    stars = torch.from_numpy(np.load(file, mmap_mode="c"))
    return joint_log_ratio(queries, stars, SIGMA_R).topk(N + 1, 1).indices


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stars", type=int, default=1_000_000)
    parser.add_argument("--all", type=int, default=150_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--faiss", action="store_true")
    given = parser.parse_args()
    print("| search | pairs | s | by torch alone, s | ratio |\n|---|---|---|---|---|", flush=True)
    measure = Measure.ratio(SIGMA_R)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features.npy"
        rules = drawn(file, given.stars)
        features = np.load(file, mmap_mode="r")
        row = np.array([5])
        query = torch.from_numpy(features[row])
        alone, expected = timed(lambda: by_torch(query, file))
        for name, rule in zip(("paper", "all"), rules, strict=True):
            search = StarSearch(file, rule, measure, np.ones(given.stars, dtype=bool), N)
            seconds, found = timed(lambda search=search: search(row))
            if name == "all":
                assert found.rows[0].tolist() == [star for star in expected[0].tolist() if star != 5][:N]
            said = f"{alone:.2f} | {seconds / alone:.2f}" if name == "all" else " | "
            print(f"| 1 star among {given.stars:,} | {name} | {seconds:.2f} | {said} |", flush=True)
        del features
        rules = drawn(file, given.all)
        features = np.load(file, mmap_mode="r")
        some, expected = timed(lambda: by_torch(torch.from_numpy(np.array(features[:SOME])), file))
        alone = some * given.all / SOME
        for name, rule in zip(("paper", "all"), rules, strict=True):
            search = StarSearch(file, rule, measure, np.ones(given.all, dtype=bool), N)
            rows = np.argsort(rule.velocity)
            pieces = [rows[first : first + AT_ONCE] for first in range(0, given.all, AT_ONCE)]
            parallel = Parallel(processes=given.processes)
            began = time.perf_counter()
            found = list(parallel.each(search, pieces, pieces=len(pieces)))
            seconds = time.perf_counter() - began
            if name == "all":
                best = np.concatenate([part.rows for part in found])[np.argsort(rows)]
                for star in range(SOME):
                    others = [other for other in expected[star].tolist() if other != star][:N]
                    assert best[star].tolist() == others
            said = f"{alone:.0f} | {seconds / alone:.3f}" if name == "all" else " | "
            print(f"| all of {given.all:,} among themselves | {name} | {seconds:.1f} | {said} |", flush=True)
        if given.faiss:
            beside_faiss(features)


def beside_faiss(features: np.ndarray) -> None:
    """By distance: ours, which is exact in float64, and faiss' flat index, in float32."""
    import faiss

    stars, queries = np.ascontiguousarray(features, dtype=np.float32), features[:AT_ONCE]
    index = faiss.IndexFlatL2(stars.shape[1])
    index.add(stars)
    theirs, (_, rows) = timed(lambda: index.search(stars[:AT_ONCE], N))
    ours, found = timed(lambda: nearest(queries, features, N))
    other = int((found.rows.numpy() != rows).any(1).sum())
    print(
        f"\nBy distance, {len(queries):,} stars among {len(features):,}: {ours:.1f} s, faiss {theirs:.1f} s; "
        f"{other} stars have others among their {N} nearest, or in another order, by faiss"
    )


if __name__ == "__main__":
    main()
