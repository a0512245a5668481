"""The same numbers on a GPU, and how fast: EM, inference, a fold trained by gradient descent, and the search.

    python experiments/benchmarks/gpu.py [--device cuda] [--stars 4096] [--bins 7514] [--components 30]

At most five minutes on one GPU and sixteen cores. Spectra, blocks and stars are drawn. The column "differs by" is the
largest difference from the CPU's result, in units of the largest entry of that (of the search: the share of other
stars); "at most" is how much of it would do. Ends with exit code 1 where something differs by more. The program's own
search keeps to the CPU; beside it all ratios are computed and the best of them taken. With --device cpu the CPU is
compared with itself.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from inference import model, spectra
from rich.console import Console
from rich.table import Table as Grid
from torch import Tensor

from rsca_torch.learners import NCA
from rsca_torch.learners.likelihood_ratio import joint_log_ratio
from rsca_torch.ppca.e_step import Model, Parameters, Posterior
from rsca_torch.ppca.m_step import Moments
from rsca_torch.siblings.measure import Measure
from rsca_torch.siblings.search import nearest
from rsca_torch.spectra.blocks import Arrays, Blocks

CLIP, BEST = 5.0, 20


class Task(NamedTuple):
    """What is timed, and by how much its result may differ between devices."""

    run: Callable[[], Tensor]
    tolerance: float


def tasks(device: str, given: argparse.Namespace, blockwise: bool = False) -> dict[str, Task]:
    """All of them, on that device; what is drawn is drawn on the CPU, the same for all devices.

    Args:
        device: where.
        given: sizes.
        blockwise: the search is the program's own, which knows the CPU alone; else every ratio is computed.
    """
    torch.manual_seed(0)
    rsca = model(given.bins, given.components)
    drawn = spectra(rsca, given.stars)
    blocks = [block.to(device) for block in Blocks(Arrays(*drawn), "measured+scatter", torch.float32)]
    theta = Parameters(rsca.ppca.loadings, rsca.ppca.mean, rsca.ppca.scatter).to(device)
    rsca.to(device)
    flux, valid, sigma = (each.to(device) for each in drawn)
    members = torch.randn(given.members // 4, given.components).repeat_interleave(4, 0).double()
    members += torch.randn_like(members) / 2
    labels = [str(number // 4) for number in range(len(members))]
    field, sigma_r = torch.randn(given.searched, given.components).double(), torch.linspace(0.2, 2, given.components)
    searched, asked, spread = (each.to(device) for each in (field, field[: given.asked], sigma_r.double()))

    def em() -> Tensor:
        moments, of = Moments(theta, "measured+scatter"), Model(theta, blocks[0].flux)
        for block in blocks:
            moments.add(Posterior(block, of, CLIP))
        return torch.cat([(part / part.abs().max()).flatten() for part in moments.maximise()[0]])

    def fold() -> Tensor:
        learner = NCA(n_dimensions=min(8, given.components))
        learner.initialise(members, members, labels)
        learner.to(device).requires_grad_(True)
        optimizer, z = torch.optim.Adam(learner.parameters(), lr=1e-3), members.to(device)
        for _ in range(given.steps):
            optimizer.zero_grad()
            loss = learner.loss(z, labels)
            assert loss is not None
            loss.backward()
            optimizer.step()
        return torch.cat([each.detach().flatten() for each in learner.parameters()])

    def search() -> Tensor:
        if blockwise:
            return nearest(asked, searched, BEST, Measure.ratio(spread)).rows
        return joint_log_ratio(asked, searched, spread).topk(BEST, 1).indices

    return {
        f"EM, an iteration of {len(blocks)} blocks, products in float32": Task(em, 1e-3),
        "RSCA(flux)": Task(lambda: rsca(flux.double()), 1e-9),
        "RSCA(flux, valid, sigma)": Task(lambda: rsca(flux.double(), valid, sigma.double()), 1e-6),
        f"a fold: {given.steps} steps of NCA, {len(members)} members": Task(fold, 1e-6),
        f"search: {BEST} best of {given.searched:,} for {given.asked} stars": Task(search, 0.0),
    }


def timed(task: Callable[[], Tensor], device: str, repeats: int = 3) -> tuple[float, Tensor]:
    """(seconds, result): the least of a few, after one to warm up, the device's queue emptied each time."""
    result, times = task(), []
    for _ in range(repeats):
        _wait(device)
        begin = time.perf_counter()
        result = task()
        _wait(device)
        times.append(time.perf_counter() - begin)
    return min(times), result.detach().cpu()


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def differs_by(result: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest entry, infinite of NaN; of whole numbers the share that is another."""
    if not expected.is_floating_point():
        return float((result != expected).double().mean())
    found = float((result.double() - expected.double()).abs().max() / expected.abs().max())
    return found if found == found else float("inf")


def main() -> None:
    """Time, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    sizes = {"stars": 4_096, "bins": 7_514, "components": 30, "members": 512, "steps": 50, "searched": 100_000}
    for name, value in {**sizes, "asked": 256}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    name = "no card: the CPU beside itself" if given.device == "cpu" else torch.cuda.get_device_name(given.device)
    grid = Grid("task", title=f"{given.stars:,} stars x {given.bins:,} bins, K = {given.components}; {name}")
    for column in ("CPU, s", f"{given.device}, s", "times", "differs by", "at most"):
        grid.add_column(column, justify="right")
    others, wrong = tasks(given.device, given), []
    for what, task in tasks("cpu", given, blockwise=True).items():
        (usual, expected), (seconds, result) = timed(task.run, "cpu"), timed(others[what].run, given.device)
        off = differs_by(result, expected)
        wrong += [what] if off > task.tolerance else []
        cells = f"{usual:.3g}", f"{seconds:.3g}", f"{usual / seconds:.1f}", f"{off:.1e}", f"{task.tolerance:g}"
        grid.add_row(what, *cells)
    Console(width=140).print(grid)
    if wrong:
        sys.exit(f"differs by more than it may: {'; '.join(wrong)}")
    print("all agree")


if __name__ == "__main__":
    main()
