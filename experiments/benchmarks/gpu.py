"""The same numbers on a GPU, and how fast: EM on drawn blocks, inference, and steps of a learner's training.

    python experiments/benchmarks/gpu.py [--stars 4096] [--bins 7514] [--components 30]

At most five minutes on one GPU. Without one it times the CPU alone and says so. Search is not timed here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from inference import model, spectra
from rich.console import Console
from rich.table import Table as Grid
from torch import Tensor

from rsca_torch.learners import NCA
from rsca_torch.ppca.e_step import Model, Parameters, Posterior
from rsca_torch.spectra.blocks import Block


def timed(task: Callable[[], Tensor], device: str, repeats: int = 3) -> tuple[float, Tensor]:
    """(seconds, result): the least of a few, after one to warm up, the device's queue emptied each time."""
    result, times = task(), []
    for _ in range(repeats):
        if device != "cpu":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        result = task()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return min(times), result.detach().double().cpu()


def main() -> None:
    """Time and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"stars": 4_096, "bins": 7_514, "components": 30}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    torch.manual_seed(0)
    rsca = model(given.bins, given.components)
    flux, valid, sigma = spectra(rsca, given.stars)
    latents, labels = torch.randn(256, given.components).double(), [str(n // 4) for n in range(256)]

    def tasks(device: str) -> dict[str, Callable[[], Tensor]]:
        layer = model(given.bins, given.components)
        layer.load_state_dict(rsca.state_dict())
        layer.to(device)
        on = [each.to(device) for each in (flux, valid, sigma)]
        ppca, learner, z = layer.ppca, NCA(), latents.to(device)
        theta = Parameters(ppca.loadings, ppca.mean, ppca.scatter)
        noise = on[2].square().masked_fill(~on[1], torch.inf)
        block = Block(torch.where(on[1], on[0], 0), ~on[1], noise, int(on[1].sum()))

        def e_step() -> Tensor:
            return Posterior(block, Model(theta, block.flux), 5.0).mean

        def gradient() -> Tensor:
            learner.initialise(z, z, labels)
            learner.to(device).requires_grad_(True)
            loss = learner.loss(z, labels)
            assert loss is not None
            loss.backward()
            return loss

        return {
            "E-step of one block, float32": e_step,
            "RSCA(flux)": lambda: layer(on[0]),
            "RSCA(flux, valid, sigma)": lambda: layer(*on),
            "gradient of NCA, 256 members": gradient,
        }

    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    name = torch.cuda.get_device_name() if len(devices) > 1 else "no card could be had"
    grid = Grid("task", title=f"{given.stars:,} stars x {given.bins:,} bins, K = {given.components}; {name}")
    for column in ("CPU, s", "GPU, s", "largest difference"):
        grid.add_column(column, justify="right")
    found = {device: {what: timed(task, device) for what, task in tasks(device).items()} for device in devices}
    for what, (seconds, result) in found["cpu"].items():
        row = ["-", "-"]
        if len(devices) > 1:
            other, theirs = found["cuda"][what]
            row = [f"{other:.3g}", f"{float((result - theirs).abs().max()):.1e}"]
        grid.add_row(what, f"{seconds:.3g}", *row)
    Console().print(grid)


if __name__ == "__main__":
    main()
