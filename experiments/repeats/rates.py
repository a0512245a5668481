"""What repeated observations are worth: `python experiments/repeats/rates.py [--seeds 8] [simulation=hard]`.

Compresses simulated surveys with several numbers of components K, and judges RSCA with every kind of floor, with and
without trimming, leaving one cluster out, the same pairs and folds for all. Prints, as Markdown, the mean and range of
the rate over surveys and the ratio to RSCA without a floor at K = 30, with the 68 % interval of a bootstrap over the
clusters of all surveys. Tables: all repeats and clusters, without and with `--wrong` of the training members replaced
by field stars; fewer repeats; fewer clusters. Step 1 is kept in the folder.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray

from rsca_torch.cli.main import CONFIG
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.representation import Representation
from rsca_torch.errors import NumericalWarning
from rsca_torch.evaluation.leave_one_out import leave_one_cluster_out
from rsca_torch.evaluation.result import LOCOResult
from rsca_torch.learners.floor import Repeats
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.survey.simulated.store import simulated_store

sys.path.insert(0, str(Path(__file__).parents[1] / "noise"))
from rates import print_table

#: name: options of RSCA; sd: standard deviations in place of MADs
FLOORS = {
    "none": {},
    "noise": {"floor": "noise"},
    "repeats": {"floor": "repeats"},
    "none sd": {"robust": False},
    "noise sd": {"floor": "noise", "robust": False},
    "repeats sd": {"floor": "repeats", "robust": False},
    "auto sd": {"floor": "auto", "robust": False},
}
PAPER = 30  # K that all are compared with


class Contaminated(ScaledComponents):
    """RSCA of training members of which a share are field stars: the judged cluster's are right ones."""

    def __init__(self, wrong: float, seed: int, **options: object) -> None:
        super().__init__(**options)
        self.wrong, self.seed = wrong, seed

    def initialise(self, field, members, clusters, summary=None, noise=None):  # noqa: D102
        rng = np.random.default_rng(self.seed)
        chosen = rng.random(len(members)) < self.wrong
        members = members.clone()
        members[torch.from_numpy(chosen)] = field[torch.from_numpy(rng.choice(len(field), int(chosen.sum()), False))]
        super().initialise(field, members, clusters, summary, noise)
        self.found = chosen, None if self.kept is None else ~self.kept.numpy()


class Survey:
    """A simulated survey in the latents of every K."""

    def __init__(self, seed: int, folder: Path, numbers: Sequence[int], overrides: Sequence[str]) -> None:
        kept = [f"simulated={folder}/surveys/seed-{seed}", f"checkpoints={folder}/step-1"]
        with initialize_config_dir(str(CONFIG), version_base="1.3"):
            config = compose("compare", [f"seed={seed}", *kept, *overrides])
        self.seed, self.assembly = seed, Assembly(config, simulated_store(config))
        self.on = {number: self.assembly.compressed(number) for number in sorted(numbers, reverse=True)}
        self.allowed = self.on[min(numbers)].allowed(self.assembly.pairs)

    def judged(
        self,
        on: Representation,
        make: Callable[..., ScaledComponents],
        clusters: Sequence[str] | None = None,
    ) -> LOCOResult:
        """Of some clusters; None: of all."""
        seen = on.seen_by(make)
        some: NDArray[np.bool_] = np.isin(on.clusters, on.clusters if clusters is None else clusters)
        here = torch.from_numpy(some)
        assert seen.noise is not None
        return leave_one_cluster_out(
            seen.make_learner,
            seen.field,
            seen.members[here],
            on.clusters[some],
            self.allowed[some],
            noise=seen.noise[here],
        )

    def with_repeats(self, number: int, stars: int) -> Representation:
        """As if so many repeats had been observed."""
        on, again = self.on[number], self.assembly.repeats
        chosen = np.random.default_rng(self.seed).permutation(len(again))[:stars]
        if not len(chosen) or on.ppca is None:
            return replace(on, repeats=())
        few = again.take(np.sort(chosen))
        found = Repeats.of_some(on.field, on.field_stars.id, on.ppca.latents(few), few.stars.repeat_of)
        return replace(on, repeats=() if found is None else (found,))


Rates = dict[str, LOCOResult]


def of_floors(survey: Survey, wrong: float, trims: Sequence[float | None]) -> Rates:
    """Every K, floor and trim."""
    results = {}
    for number, on in sorted(survey.on.items()):
        for name, options in FLOORS.items():
            if options.get("floor") == "repeats" and not on.repeats:
                continue
            for trim in trims:
                given = {**options, "trim": trim}
                make = partial(ScaledComponents, **given)
                if wrong:
                    make = partial(Contaminated, wrong, survey.seed, **given)
                said = f"floor={name}{'' if trim is None else f', trim={trim:g}'}, K = {number}"
                results[said] = survey.judged(on, make)
                print(f"seed {survey.seed}: {said}: {100 * results[said].rate:.3f} %", file=sys.stderr, flush=True)
    return results


def of_fewer_repeats(survey: Survey, numbers: Sequence[int], repeats: Sequence[int]) -> Rates:
    """What `auto` does with few."""
    paper = min(PAPER, max(survey.on))
    results = {f"floor=none, K = {paper}": survey.judged(survey.on[paper], ScaledComponents)}
    for number in numbers:
        for stars in repeats:
            on = survey.with_repeats(number, stars)
            for floor in ("repeats", "auto"):
                if floor == "auto" or (on.repeats and on.repeats[0].freedom >= number):
                    said = f"floor={floor}, {stars} repeats, K = {number}"
                    results[said] = survey.judged(on, partial(ScaledComponents, floor=floor, robust=False, trim=2.0))
    return results


def of_fewer_clusters(survey: Survey, numbers: Sequence[int], clusters: int) -> Rates:
    """By the clusters with the most members of a random choice."""
    names = np.random.default_rng(survey.seed).permutation(np.unique(survey.on[min(survey.on)].clusters))[:clusters]
    results = {}
    for number in numbers:
        for name, options in FLOORS.items():
            said = f"floor={name}, {clusters} clusters, K = {number}"
            unspanned = {} if "floor" in options else {"unspanned": "drop"}
            make = partial(ScaledComponents, **{"trim": 2.0, **options, **unspanned})
            results[said] = survey.judged(survey.on[number], make, names)
    return results


def table(title: str, surveys: list[Rates], first: str) -> None:
    """As Markdown; ratios are to `first`."""
    print(f"\n{title}\n")
    print_table("RSCA", surveys, first, first)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--components", type=int, nargs="+", default=[20, 30, 40, 60, 80])
    parser.add_argument("--trim", type=float, nargs="*", default=[2.0])
    parser.add_argument("--wrong", type=float, nargs="*", default=[0.1, 0.2])
    parser.add_argument("--repeats", type=int, nargs="*", default=[0, 20, 100, 600])
    parser.add_argument("--clusters", type=int, nargs="*", default=[3, 6, 11])
    parser.add_argument("--folder", type=Path, default=Path("runs/repeats"))
    parser.add_argument("overrides", nargs="*", help="of the survey and step 1; the default: simulation.repeats=600")
    given = parser.parse_intermixed_args()
    warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing
    overrides = given.overrides or ["simulation.repeats=600"]
    surveys = [Survey(seed, given.folder, [*given.components], overrides) for seed in range(given.seeds)]
    paper = f"floor=none, K = {min(PAPER, max(given.components))}"
    few = [number for number in given.components if number >= PAPER] or [max(given.components)]
    for wrong in (0.0, *given.wrong):
        of_all = [of_floors(survey, wrong, [None, *given.trim]) for survey in surveys]
        table(f"{wrong:.0%} of the training members wrong", of_all, paper)
    if given.repeats:
        table("Fewer repeats", [of_fewer_repeats(survey, few, given.repeats) for survey in surveys], paper)
    for clusters in given.clusters:
        of_some = [of_fewer_clusters(survey, few, clusters) for survey in surveys]
        table(f"{clusters} clusters", of_some, f"floor=none, {clusters} clusters, K = {few[0]}")


if __name__ == "__main__":
    main()
