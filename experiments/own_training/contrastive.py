"""A loop of one's own beside RSCA: `python experiments/own_training/contrastive.py [--steps 300] [KEY=VALUE ...]`.

Simulates a survey, and judges, leaving one cluster out: spectra as they are, a linear map of them that a loop by hand
trains with a loss of pytorch-metric-learning (docs/own-training.md), the latents of step 1 as they are, the same loop
on these, and RSCA as `rsca compare` has it. Prints, as Markdown, each rate with its 68 % interval, and minus RSCA's.
"""

from __future__ import annotations

import argparse
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from pytorch_metric_learning.losses import SupConLoss

from rsca_torch.cli.main import CONFIG
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.errors import NumericalWarning
from rsca_torch.evaluation.leave_one_out import leave_one_cluster_out
from rsca_torch.evaluation.result import paired_difference
from rsca_torch.learners.learner import Identity, Learner
from rsca_torch.spectra.stars import Stars
from rsca_torch.survey.simulated.store import simulated_store
from rsca_torch.training.cluster_batches import ClusterBatches
from rsca_torch.training.data_module import SpectraDataset
from rsca_torch.training.pairs import Pairs


class Contrastive(Learner):
    """Standardised numbers, mapped linearly; trained by a loop by hand."""

    def __init__(self, steps: int, dimensions: int = 16) -> None:
        super().__init__()
        self.steps, self.dimensions = steps, dimensions

    def initialise(self, field: torch.Tensor, members: torch.Tensor, clusters: np.ndarray) -> None:
        """The loop: batches of eight clusters with four members each, and 32 field stars."""
        z = torch.cat([field, members]).float()
        labels = np.append(np.full(len(field), ""), clusters)
        pairs = Pairs(Stars.of({"id": np.arange(len(z)), "group": labels}))
        norm = torch.nn.BatchNorm1d(z.shape[1], affine=False)
        self.network = torch.nn.Sequential(norm, torch.nn.Linear(z.shape[1], self.dimensions))
        loss_of = SupConLoss()
        optimiser = torch.optim.AdamW(self.network.parameters(), 1e-3, weight_decay=0.01)
        for rows in ClusterBatches(labels, clusters=8, members=4, strangers=32, batches=self.steps):
            optimiser.zero_grad()
            loss_of(self.network(z[rows]), indices_tuple=pairs.among(rows)).backward()
            optimiser.step()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """(N, D) float32."""
        return self.network(z.float())


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--folder", type=Path, default=Path("runs/own_training"))
    parser.add_argument("overrides", nargs="*", help="of the survey and step 1")
    given = parser.parse_intermixed_args()
    warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing
    kept = [f"simulated={given.folder}/survey", f"checkpoints={given.folder}/step-1"]
    with initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = compose("compare", [*kept, *given.overrides])
    store = simulated_store(config)
    assembly = Assembly(config, store)
    on = assembly.spectra
    flux = [SpectraDataset(part).__getitems__(range(len(part)))["flux"] for part in (store.field, store.members)]
    latents = on.seen_by(Identity)
    judged = partial(
        leave_one_cluster_out, clusters=on.clusters, allowed=on.allowed(assembly.pairs), ids=on.member_stars.id
    )
    loop = partial(Contrastive, given.steps)
    results, seconds = {}, {}
    for name, run in {
        "RSCA": lambda: assembly.judged(on),
        "latents of step 1": lambda: judged(Identity, latents.field, latents.members),
        "contrastive, of latents": lambda: judged(loop, latents.field, latents.members),
        "spectra": lambda: judged(Identity, *flux),
        "contrastive, of spectra": lambda: judged(loop, *flux),
    }.items():
        began = time.perf_counter()
        results[name] = run()
        seconds[name] = time.perf_counter() - began
    print("| what | rate [%] | 68 % | minus RSCA's | seconds |\n|---|---|---|---|---|")
    for name, result in results.items():
        low, high = result.interval()
        cells = [f"{100 * result.rate:.2f}", f"{100 * low:.2f} to {100 * high:.2f}", ""]
        if name != "RSCA":
            difference = paired_difference(result, results["RSCA"])
            ends = (100 * each for each in (difference.low, difference.high))
            cells[-1] = f"{100 * difference.value:+.2f} ({', '.join(f'{end:+.2f}' for end in ends)})"
        print(f"| {name} | {' | '.join(cells)} | {seconds[name]:.0f} |")


if __name__ == "__main__":
    main()
