"""Which wrong members are found: `python experiments/repeats/suspects.py [--seeds 4] [--kinds giants hard listed]`.

On simulated surveys of which 10 % and 20 % of the members, of all clusters, are replaced by field stars (giants, hard),
and on the hard survey as it comes, in whose lists 10 % are field stars of like velocity and extinction (listed). Fits
RSCA with the floor of repeats on all clusters, by 30 and 60 components and several limits of trimming, and prints, as
Markdown, which share of the wrong members are suspects, and which share of the suspects are right members: by limit,
and by a probability of being wrong of more than one half. Surveys and step 1 are kept in the folder.
"""

from __future__ import annotations

import argparse
import runpy
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from astropy.table import Table

from rsca_torch.comparison.representation import Representation
from rsca_torch.comparison.suspects import memberships
from rsca_torch.errors import NumericalWarning
from rsca_torch.learners.scaled_components import ScaledComponents

Survey = runpy.run_path(str(Path(__file__).with_name("rates.py")))["Survey"]

KINDS = {
    "giants": ["simulation.repeats=250"],
    "hard": ["simulation=hard", "simulation.stars.interlopers=0"],  # 600 repeats
    "listed": ["simulation=hard", "simulation.repeats=250"],
}
SAID = {"giants": "default survey", "hard": "hard survey", "listed": "hard survey as it comes"}
TRIM = 2.0  # of which the probabilities are told too


def replaced(on: Representation, share: float, seed: int) -> tuple[Representation, np.ndarray]:
    """Field stars in the places of a share of the members, and which these are."""
    rng = np.random.default_rng(seed)
    wrong = np.isin(np.arange(len(on.members)), rng.choice(len(on.members), round(share * len(on.members)), False))
    members = on.members.clone()
    members[torch.from_numpy(wrong)] = on.field[torch.from_numpy(rng.choice(len(on.field), int(wrong.sum()), False))]
    return replace(on, members=members), wrong


def interlopers(on: Representation, truth: Path) -> np.ndarray:
    """Which of the listed members are field stars in truth."""
    table = Table.read(truth)
    wrong = set(table["APOGEE_ID"][np.asarray(table["INTERLOPER"], dtype=bool)].astype(str))
    return np.array([star in wrong for star in on.member_stars.id])


def suspected(on: Representation, survey: Survey, trims: list[float], prior: float) -> Iterator[tuple[str, np.ndarray]]:
    """(by what, (M,) bool the suspects)."""
    for trim in trims:
        make = partial(ScaledComponents, floor="auto", trim=trim, robust=False)
        seen = on.seen_by(make)
        learner = seen.make_learner()
        learner.initialise(seen.field, seen.members, on.clusters, noise=seen.noise)
        yield f"trim={trim:g}", ~learner.kept.numpy()
        if trim == TRIM:
            told = memberships(on, make, learner.kept.numpy(), survey.assembly.pairs, prior)
            yield f"trim={trim:g}, P(wrong) > 1/2", told.wrong.numpy() > 0.5


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS], default=[*KINDS])
    parser.add_argument("--components", type=int, nargs="+", default=[30, 60])
    parser.add_argument("--trim", type=float, nargs="+", default=[1.5, TRIM, 2.5, 3.0])
    parser.add_argument("--wrong", type=float, nargs="+", default=[0.1, 0.2], help="shares that are replaced")
    parser.add_argument("--prior", type=float, default=0.1, help="share of wrong members that probabilities assume")
    parser.add_argument("--folder", type=Path, default=Path("runs/suspects"))
    parser.add_argument("overrides", nargs="*", help="of the surveys and step 1, e.g. simulation.n_field=400")
    given = parser.parse_intermixed_args()
    warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing
    counts: dict[tuple[str, int, str], np.ndarray] = defaultdict(lambda: np.zeros(4, dtype=int))
    for kind in given.kinds:
        for seed in range(given.seeds):
            survey = Survey(seed, given.folder / kind, given.components, [*KINDS[kind], *given.overrides])
            for number, on in sorted(survey.on.items()):
                if kind == "listed":
                    truth = given.folder / kind / "surveys" / f"seed-{seed}" / "archive" / "truth.fits"
                    problems = {SAID[kind]: (on, interlopers(on, truth))}
                else:
                    problems = {f"{SAID[kind]}, {s:.0%} wrong": replaced(on, s, seed) for s in (0.0, *given.wrong)}
                for said, (listed, wrong) in problems.items():
                    for by, found in suspected(listed, survey, given.trim, given.prior):
                        sums = [wrong.sum(), (found & wrong).sum(), (~wrong).sum(), (found & ~wrong).sum()]
                        counts[said, number, by] += sums
            print(f"{kind}, seed {seed} done", file=sys.stderr, flush=True)
    print("| members | K | suspects by | wrong ones found | right ones among the suspects | right ones suspected |")
    print("|---|---|---|---|---|---|")
    for (said, number, by), (wrong, found, right, accused) in sorted(counts.items()):
        cells = [share(found, wrong), share(accused, found + accused), share(accused, right)]
        print(f"| {said} | {number} | {by} | {' | '.join(cells)} |", flush=True)


def share(part: int, whole: int) -> str:
    """In %, with the numbers; nothing of none."""
    return f"{100 * part / whole:.0f} % ({part} of {whole})" if whole else ""


if __name__ == "__main__":
    main()
