"""All learners on simulated surveys: `python experiments/learners/compare.py [--seeds 5] [--folder runs/learners]`.

Step 1 with the paper's 30 components, then every learner of conf/learner leaves one cluster out on the same latents,
folds and pairs; "rsca" is the paper's, so that all learn from the members alone. Those with a loss also start from a
random map (init=random), the siamese network also with a hidden layer. The learner of spectra sees the spectra
themselves and starts from the same step 1. Prints, as Markdown, the mean and range of the rate over surveys, and that
rate minus RSCA's: all surveys' clusters together, drawn with replacement in pairs, 68 % interval. Draws it as
learners.png. Step 1 and finished folds are kept in the folder, and are not computed again.
"""

from __future__ import annotations

import argparse
import hashlib
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import hydra
import numpy as np
from hydra import compose, initialize_config_dir
from matplotlib.figure import Figure

from rsca_torch.cli.main import CONFIG
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.drawing.style import COLOURS, in_style, stamp, titled
from rsca_torch.errors import NumericalWarning
from rsca_torch.evaluation.fold_files import FoldFiles, code_of
from rsca_torch.evaluation.result import Difference, LOCOResult, paired_difference
from rsca_torch.learners import Learner
from rsca_torch.report.figure_files import write_figure
from rsca_torch.survey.simulated.store import simulated_store

RANDOM, HIDDEN = ["learner.init=random"], ["learner.hidden=[64]"]
#: name in the table: what to compose
VARIANTS = {
    "rsca": ["learner=paper_text"],
    "rsca, floor and trimming": ["learner=rsca"],
    "raw": ["learner=raw"],
    "scaled": ["learner=scaled"],
    "pca_whitening": ["learner=pca_whitening"],
    "rca": ["learner=rca"],
    "lda": ["learner=lda"],
    "kissme": ["learner=kissme"],
    "nca": ["learner=nca"],
    "nca, random start": ["learner=nca", *RANDOM],
    "lmnn": ["learner=lmnn"],
    "lmnn, random start": ["learner=lmnn", *RANDOM],
    "siamese": ["learner=siamese"],
    "siamese, random start": ["learner=siamese", *RANDOM],
    "siamese, triplet": ["learner=siamese", "learner.criterion=triplet"],
    "siamese, supcon": ["learner=siamese", "learner.criterion=supcon"],
    "siamese, supcon, random start": ["learner=siamese", "learner.criterion=supcon", *RANDOM],
    "siamese, 64 hidden": ["learner=siamese", *HIDDEN],
    "siamese, 64 hidden, random start": ["learner=siamese", *HIDDEN, *RANDOM],
    "spectral": ["learner=spectral"],
    "spectral, random start": ["learner=spectral", *RANDOM],
}


def makers(names: Sequence[str], further: Sequence[str]) -> dict[str, Callable[[], Learner]]:
    """Of fresh learners; an override that a learner does not know is not for it."""
    made = {}
    for name in names:
        config = compose("compare", VARIANTS[name]).learner
        for override in further:
            key, _, value = override.partition("=")
            if "recipe" in config and key in config.recipe:
                config.recipe[key] = int(value)
        made[name] = partial(hydra.utils.instantiate, config)
    return made


def rates_of(
    seed: int, folder: Path, learners: Mapping[str, Callable[[], Learner]], further: Sequence[str]
) -> dict[str, LOCOResult]:
    """Of every learner on one survey."""
    kept = [f"simulated={folder}/surveys/seed-{seed}", f"checkpoints={folder}/checkpoints"]
    config = compose("compare", [f"seed={seed}", "compressor.n_components=30", *kept, *further])
    assembly = Assembly(config, simulated_store(config))
    results = {}
    for name, make in learners.items():
        content = f"{code_of(make())} {assembly.store.checksum} {make.args}"
        folds = FoldFiles(folder / f"seed-{seed}" / "folds" / hashlib.sha256(content.encode()).hexdigest()[:16])
        began = time.perf_counter()
        results[name] = assembly.judged(assembly.spectra, make, kept=folds)
        seconds = time.perf_counter() - began
        print(f"seed {seed}: {name}: {100 * results[name].rate:.3f} % ({seconds:.0f} s)", flush=True)
    return results


def pooled(results: Sequence[LOCOResult]) -> LOCOResult:
    """All surveys' clusters as if they were one survey's."""
    rates, members, pairs, stars = (
        {
            f"{seed} {cluster}": value
            for seed, one in enumerate(results)
            for cluster, value in getattr(one, what).items()
        }
        for what in ("cluster_rates", "members", "pairs", "stars")
    )
    return LOCOResult(rates, members, pairs, dict.fromkeys(rates, np.nan), stars=stars)


@in_style()
def drawing(rates: Mapping[str, np.ndarray]) -> Figure:
    """A row a learner, a point a survey, a bar at their mean."""
    figure, body = titled("All learners", 7.5, 0.7 + 0.34 * len(rates))
    axes = body.subplots()
    for place, values in enumerate(reversed(rates.values())):
        axes.plot(values, np.full(len(values), place), "o", color=COLOURS[1], alpha=0.6, markersize=5)
        axes.plot([values.mean()], [place], "|", color=COLOURS[0], markersize=16, markeredgewidth=2.5)
        axes.annotate(
            f"{values.mean():.2f}", (values.max(), place), xytext=(8, -3), textcoords="offset points", fontsize=9
        )
    axes.set_yticks(range(len(rates)), list(reversed(rates)))
    axes.set_xscale("log")
    axes.margins(x=0.1)  # room for the numbers
    axes.set_xlabel("doppelganger rate, % (points: simulated surveys; bar: their mean)")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="x")
    stamp(figure)
    return figure


def main() -> None:
    """Run, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("runs/learners"))
    parser.add_argument("--learners", nargs="+", default=list(VARIANTS), help="by their names in the table")
    parser.add_argument("--recipe", nargs="*", default=[], help="for all with a loss, e.g. epochs=5")
    parser.add_argument(
        "overrides",
        nargs="*",
        help="of rsca compare, e.g. compressor.n_components=20; another folder for other overrides",
    )
    given = parser.parse_args()
    warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing
    with initialize_config_dir(str(CONFIG), version_base="1.3"):
        learners = makers(given.learners, given.recipe)
        surveys = [rates_of(seed, given.folder, learners, given.overrides) for seed in range(given.seeds)]
    rates = {name: 100 * np.array([survey[name].rate for survey in surveys]) for name in learners}
    first = pooled([survey[given.learners[0]] for survey in surveys])
    print(f"| learner | rate, %: mean (range over surveys) | minus {given.learners[0]}, 68 % | surveys won |")
    print("|---|---|---|---|")
    for name, values in rates.items():
        row = f"| {name} | {values.mean():.2f} ({values.min():.2f}-{values.max():.2f}) "
        if name == given.learners[0]:
            print(f"{row}| | |")
            continue
        less: Difference = paired_difference(pooled([survey[name] for survey in surveys]), first)
        won = int((values < rates[given.learners[0]]).sum())
        print(
            f"{row}| {100 * less.value:+.2f} ({100 * less.low:+.2f} to {100 * less.high:+.2f}) "
            f"| {won} of {len(surveys)} |"
        )
    picture = given.folder / "learners.png"
    write_figure(drawing(rates), picture, metadata={"Software": None})
    print(f"\n{picture}")


if __name__ == "__main__":
    main()
