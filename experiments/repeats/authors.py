"""The authors' program, RSCA as the paper has it, and ours: `python experiments/repeats/authors.py [--seeds 4]`.

One table over kinds of simulated survey: the default one, the default with one thing that makes the sky harder, and the
hard survey. Each survey is compressed by pyppca (fitted on members too, as the authors do), by isotropic noise (the
paper's text) and by measured noise with 30 and 60 components; every learner is judged leaving one cluster out, with
the same pairs. Ratios have the 68 % interval of a bootstrap over the clusters of all surveys. What is there is not
computed again. Needs `pip install "rsca_torch[benchmarks]"`.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir

from rsca_torch.cli.main import CONFIG
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.errors import NumericalWarning
from rsca_torch.evaluation.leave_one_out import leave_one_cluster_out
from rsca_torch.evaluation.result import LOCOResult
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.survey.simulated.store import simulated_store

sys.path.insert(0, str(Path(__file__).parents[1] / "noise"))
from rates import AUTHORS, Compression, Survey, compressed, judged, ratio

REPEATS = "simulation.repeats=600"
KINDS = {  # overrides of the simulation
    "default survey": [REPEATS],
    "quoted errors wrong by 0.7 to 1.4": [REPEATS, "simulation.detector.misquoted=[0.7,1.4]"],
    "noise correlated between bins": [REPEATS, "simulation.detector.correlation=0.3"],
    "6,000 faint lines": [REPEATS, "simulation.faint_lines.number=6000"],
    "10 % binaries": [REPEATS, "simulation.companions.share=0.1"],
    "velocity zero-point wrong by 0.15 km/s": [REPEATS, "simulation.synthesis.velocity_error=0.15"],
    "10 % of listed members wrong": [REPEATS, "simulation.stars.interlopers=0.1"],
    "hard, lists right": ["simulation=hard", "simulation.stars.interlopers=0"],
    "hard": ["simulation=hard"],
}
PAPER, OURS, CLIP = 30, 60, 5.0
FLOOR = {"floor": "auto", "robust": False, "trim": 2.0}


def rates_of(kind: str, seed: int, folder: Path) -> dict[str, LOCOResult]:
    """Of one survey."""
    name = "".join(letter if letter.isalnum() else "-" for letter in kind)
    here = folder / name / f"seed-{seed}"
    given = [f"seed={seed}", f"simulated={here}/survey", f"checkpoints={folder}/step-1", "compressor=ppca"]
    with initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = compose("compare", [*given, f"compressor.n_components={PAPER}", *KINDS[kind]])
    store = simulated_store(config)
    survey, assembly, results = Survey.of(store), Assembly(config, store), {}
    ours = assembly.compressed(OURS)
    before = assembly.compressed(PAPER)
    for how, said in (
        (Compression(AUTHORS, PAPER, on_members=True), "authors' program"),
        (Compression("isotropic", PAPER), "as the paper has it"),
    ):
        latents, _ = compressed(survey, how, here / f"{how.noise.split()[0]}.pt", None, 1e-4)
        results[said] = judged(survey, [latents])
    for said, on, options in (("measured noise, K = 30", before, {}), ("ours, K = 60", ours, FLOOR)):
        seen = on.seen_by(partial(ScaledComponents, **options))
        results[said] = leave_one_cluster_out(
            seen.make_learner, seen.field, seen.members, on.clusters, on.allowed(assembly.pairs), noise=seen.noise
        )
    rates = ", ".join(f"{said}: {100 * result.rate:.3f} %" for said, result in results.items())
    print(f"{kind}, seed {seed}: {rates}", file=sys.stderr, flush=True)
    return results


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS], metavar="KIND")
    parser.add_argument("--folder", type=Path, default=Path("runs/authors"))
    given = parser.parse_args()
    warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing
    head = True
    for kind in given.kinds:
        surveys = [rates_of(kind, seed, given.folder) for seed in range(given.seeds)]
        first, *others = surveys[0]
        if head:
            print(f"| simulated survey | {first}, % | {' | '.join(f'{other}, % (ratio, 68 %)' for other in others)} |")
            print("|---" * (2 + len(others)) + "|", flush=True)
            head = False
        mean = {said: 100 * np.mean([survey[said].rate for survey in surveys]) for said in surveys[0]}
        cells = []
        for other in others:
            quotient, low, high = ratio([survey[other] for survey in surveys], [survey[first] for survey in surveys])
            cells.append(f"{mean[other]:.2f} ({quotient:.2f}, {low:.2f}-{high:.2f})")
        print(f"| {kind} | {mean[first]:.2f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
