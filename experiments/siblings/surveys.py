"""Simulated surveys in the latents of step 1 with the posterior covariance of every star, for `found.py`.

`python experiments/siblings/surveys.py [--seeds 4]` makes them, some minutes each, and keeps them in the folder as
files of their own, so that what is asked of them may change: remove these where step 1 or the simulation changes.
"""

from __future__ import annotations

import argparse
import json
import runpy
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from rsca_torch.errors import NumericalWarning
from rsca_torch.learners.floor import Repeats

KINDS = {
    "giants": ["simulation.repeats=250"],
    "hard": ["simulation=hard", "simulation.stars.interlopers=0"],  # 600 repeats, right lists
}


@dataclass
class Latents:
    """What learners and scores see of one survey: F field stars and M members in K latents.

    Attributes:
        field: (F, K) float64.
        members: (M, K) float64.
        field_covariance: (F, K, K) float32, the posterior's.
        member_covariance: (M, K, K) float64.
        allowed: (M, F) bool, pairs=paper.
        clusters: (M,) labels.
        field_snr: (F,).
        member_snr: (M,).
        repeats: what further observations of field stars say.
    """

    field: Tensor
    members: Tensor
    field_covariance: Tensor
    member_covariance: Tensor
    allowed: Tensor
    clusters: NDArray[np.str_]
    field_snr: Tensor
    member_snr: Tensor
    repeats: Repeats


def latents(kind: str, seed: int, folder: Path, components: int = 60, overrides: list[str] | None = None) -> Latents:
    """Read from the folder, or made first."""
    file = folder / f"{kind}-{seed}-{components}.safetensors"
    if not file.exists():
        _make(file, kind, seed, folder, components, overrides or [])
    with safe_open(file, framework="pt") as kept:
        told = json.loads(kept.metadata()["told"])
        tensors = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118  (no mapping)
    repeats = Repeats(tensors.pop("scatter"), **told["repeats"])
    return Latents(**tensors, clusters=np.array(told["clusters"]), repeats=repeats)


def _make(file: Path, kind: str, seed: int, folder: Path, components: int, overrides: list[str]) -> None:
    survey_of = runpy.run_path(str(Path(__file__).parents[1] / "repeats" / "rates.py"))["Survey"]
    survey = survey_of(seed, folder / kind, [components], [*KINDS[kind], *overrides])
    on = survey.on[components]
    found = on.ppca.embed(survey.assembly.field, covariances=True)
    tensors = {
        "field": on.field,
        "members": on.members,
        "field_covariance": found.covariances.float(),
        "member_covariance": on.roots @ on.roots.mT,
        "allowed": torch.tensor(survey.allowed),
        "field_snr": torch.tensor(on.field_stars.snr),
        "member_snr": torch.tensor(on.member_stars.snr),
        "scatter": on.repeats[0].scatter,
    }
    repeats = {name: getattr(on.repeats[0], name) for name in ("stars", "freedom", "weighed_down")}
    told = {"clusters": on.clusters.tolist(), "repeats": repeats}
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(whole, file, metadata={"told": json.dumps(told)})


def main() -> None:
    """Make them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS], default=[*KINDS])
    parser.add_argument("--folder", type=Path, default=Path("runs/siblings"))
    given = parser.parse_args()
    warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing
    for seed in range(given.seeds):
        for kind in given.kinds:
            began = time.perf_counter()
            latents(kind, seed, given.folder)
            print(f"{kind}, seed {seed}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
