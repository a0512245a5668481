"""Doppelganger rates over simulated surveys: `python experiments/simulation/rates.py [SEED ...] [KEY=VALUE ...]`.

Runs `rsca compare seed=SEED KEY=VALUE ...` for each seed (those that are there are not run again) and prints, as
Markdown, the mean and range over seeds of every rate, and that rate minus RSCA's on spectra: the clusters of all
surveys together, drawn with replacement, 68 % interval.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from rsca_torch.cli.main import main as rsca
from rsca_torch.evaluation.result import LOCOResult, paired_difference

Key = tuple[str, str, bool]


def run(seed: int, overrides: list[str]) -> dict[Key, dict[str, Any]]:
    """(representation, learner, held out) -> its entry in results.json."""
    name = "_".join(["seed", str(seed), *(re.sub(r"[^\w.-]", "-", override) for override in sorted(overrides))])
    out = Path("runs/rates") / name
    if not out.exists() and rsca(["compare", f"seed={seed}", f"out={out}", "figures=false", *overrides]):
        raise SystemExit(f"seed {seed} failed")
    results = json.loads((out / "results.json").read_text())["results"]
    return {(r["representation"], r["learner"], r["held_out"]): r for r in results}


def pooled(runs: list[dict[Key, dict[str, Any]]], key: Key) -> LOCOResult:
    """All surveys' clusters as if they were one survey's."""
    clusters = {f"{seed} {c['cluster']}": c for seed, run in enumerate(runs) for c in run[key]["clusters"]}
    rates = {name: np.nan if c["doppelganger_rate"] is None else c["doppelganger_rate"] for name, c in clusters.items()}
    members, pairs = ({name: c[what] for name, c in clusters.items()} for what in ("members", "pairs"))
    stars = {name: tuple(c["stars"]) for name, c in clusters.items()}
    return LOCOResult(rates, members, pairs, dict.fromkeys(clusters, np.nan), stars=stars)


def main() -> None:
    """Run and print."""
    overrides = [argument for argument in sys.argv[1:] if "=" in argument]
    seeds = [int(argument) for argument in sys.argv[1:] if "=" not in argument] or range(5)
    runs = [run(seed, overrides) for seed in seeds]
    judged = pooled(runs, ("spectra", "rsca", True))
    print("| representation | learner | rate, %: mean (range over seeds) | minus rsca on spectra, 68 % | surveys won |")
    print("|---|---|---|---|---|")
    for key in runs[0]:
        is_judged = key[:2] == ("spectra", "rsca")
        rates = 100 * np.array([run[key]["doppelganger_rate"] for run in runs])
        difference = paired_difference(pooled(runs, key), judged)
        won = sum(run["spectra", "rsca", True]["doppelganger_rate"] < run[key]["doppelganger_rate"] for run in runs)
        print(
            f"| {key[0].replace('_', ' ')} | {key[1]}{'' if key[2] else ' in-sample'} "
            f"| {rates.mean():.2f} ({rates.min():.2f}-{rates.max():.2f}) "
            f"| {100 * difference.value:+.2f} ({100 * difference.low:+.2f} to {100 * difference.high:+.2f}) "
            f"| {'' if is_judged else f'{won} of {len(runs)}'} |"
        )


if __name__ == "__main__":
    main()
