"""Processor time of one EM iteration with measured noise and a scatter, and of its two matrix products in the same run.

    python experiments/benchmarks/iteration.py STORE [--stars 4256] [--components 30] [--clip 5] [--threads 1]

On one thread, so that it says something where other programs run too: what they take is not in a process's own time.
The products are (n x P) @ (P x K (K + 1) / 2) and its transpose, in float32 by torch's `@`. The least of three.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from rsca_torch.ppca.initialisation import first_guess
from rsca_torch.ppca.m_step import moments_of
from rsca_torch.spectra.blocks import Blocks, bin_sums
from rsca_torch.survey.store import Store

TIMED_STARS = 512  # of the products alone


def least(task: Callable[[], object]) -> float:
    """Processor seconds, once it is warm."""
    task()
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        task()
        seconds.append(time.process_time() - begin)
    return min(seconds)


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--stars", type=int, default=4256)
    parser.add_argument("--components", type=int, default=30)
    parser.add_argument("--clip", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    store, k = Store.open(given.store), given.components
    blocks = Blocks(store.field, "measured+scatter", torch.float32, stars=range(min(given.stars, len(store.field))))
    theta = first_guess(blocks, bin_sums(blocks), k, tolerance=1e-2, clip=given.clip)
    moments = moments_of(blocks, theta, given.clip)
    iteration = least(lambda: moments_of(blocks, theta, given.clip))
    weight, outer = torch.rand(TIMED_STARS, blocks.n_bins), torch.rand(blocks.n_bins, k * (k + 1) // 2)
    second = torch.rand(TIMED_STARS, (k + 1) * (k + 2) // 2)
    products = least(lambda: (weight @ outer, weight.T @ second)) / TIMED_STARS * blocks.n_stars
    print(
        f"{blocks.n_stars:,} stars x {blocks.n_bins:,} bins, K = {k}: an iteration takes {iteration / products:.2f} x "
        f"its two products, {iteration:.3g} s and {products:.3g} s of processor time; log-likelihood a valid bin "
        f"{moments.log_likelihood:.8f}"
    )


if __name__ == "__main__":
    main()
