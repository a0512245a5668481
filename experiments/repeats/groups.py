"""What each kind of groups is worth: `python experiments/repeats/groups.py [--seeds 4] [KEY=VALUE ...]`.

Compresses simulated surveys with wide binaries and moving groups, and judges RSCA, taught by clusters alone, by
clusters and each of the two, and by all, leaving one cluster out, the same pairs and folds for all. Prints, as
Markdown, the mean and range of the rate over surveys and the ratio to clusters alone with the fewest components, with
the 68 % interval of a bootstrap over the clusters of all surveys: of all clusters, and of a few chosen at random.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir

from rsca_torch.cli.main import CONFIG
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.representation import Representation
from rsca_torch.errors import NumericalWarning
from rsca_torch.evaluation.leave_one_out import leave_one_cluster_out
from rsca_torch.evaluation.result import LOCOResult
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.survey.grouped_stars import kind_of
from rsca_torch.survey.simulated.store import simulated_store

sys.path.insert(0, str(Path(__file__).parents[1] / "noise"))
from rates import print_table

KINDS = {
    "clusters": (),
    "clusters, binaries": ("binaries",),
    "clusters, moving groups": ("moving_groups",),
    "all": ("binaries", "moving_groups"),
}
#: name: options of RSCA; sd: standard deviations in place of MADs
FLOORS = {
    "none": {},
    "none sd, trim=2": {"robust": False, "trim": 2.0},
    "repeats sd, trim=2": {"floor": "repeats", "robust": False, "trim": 2.0},
}
DEFAULT = ["simulation.repeats=600", "simulation.groups.pairs=200", "simulation.groups.moving_groups=20"]


def taught_by(on: Representation, kinds: Sequence[str]) -> Representation:
    """By clusters and those kinds of groups alone."""
    assert on.groups is not None
    here = np.isin(kind_of(on.groups.labels), kinds)
    return replace(on, groups=on.groups[here] if here.any() else None)


def judged(assembly: Assembly, on: Representation, options: dict[str, object], clusters: Sequence[str]) -> LOCOResult:
    """By some clusters, of which each is left out in turn; the groups teach in every fold."""
    some = np.isin(on.clusters, clusters)
    here = torch.from_numpy(some)
    seen = on.seen_by(partial(ScaledComponents, **options))
    assert seen.noise is not None
    allowed = on.allowed(assembly.pairs)[some]
    make, members = seen.make_learner, seen.members[here]
    return leave_one_cluster_out(make, seen.field, members, on.clusters[some], allowed, noise=seen.noise[here])


def of_survey(seed: int, folder: Path, numbers: Sequence[int], few: Sequence[int], overrides: Sequence[str]) -> list:
    """Of all clusters, and of each number of a few: name -> rates."""
    kept = [f"simulated={folder}/surveys/seed-{seed}", f"checkpoints={folder}/step-1"]
    kept += ["survey.groups=[clusters,binaries,moving_groups]"]
    with initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = compose("compare", [f"seed={seed}", *kept, *overrides])
    assembly = Assembly(config, simulated_store(config))
    made = {number: assembly.compressed(number, among=numbers) for number in sorted(numbers, reverse=True)}
    names = np.unique(assembly.members.stars.group)
    chosen = np.random.default_rng(seed).permutation(names)
    tables = []
    for clusters in (len(names), *few):
        results = {}
        for number, on in sorted(made.items()):
            for floor, options in FLOORS.items():
                for kind, kinds in KINDS.items():
                    said = f"{kind}; floor={floor}, K = {number}"
                    given = (
                        options if "floor" in options or clusters == len(names) else {**options, "unspanned": "drop"}
                    )
                    results[said] = judged(assembly, taught_by(on, kinds), given, chosen[:clusters])
                    print(
                        f"seed {seed}, {clusters} clusters: {said}: {100 * results[said].rate:.3f} %", file=sys.stderr
                    )
        tables.append(results)
    return tables


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--components", type=int, nargs="+", default=[30, 60])
    parser.add_argument("--clusters", type=int, nargs="*", default=[3, 6])
    parser.add_argument("--folder", type=Path, default=Path("runs/groups"))
    parser.add_argument("overrides", nargs="*", help=f"of the survey and step 1; the default: {' '.join(DEFAULT)}")
    given = parser.parse_intermixed_args()
    warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing
    overrides = given.overrides or DEFAULT
    each = [of_survey(seed, given.folder, given.components, given.clusters, overrides) for seed in range(given.seeds)]
    first = f"clusters; floor=none, K = {min(given.components)}"
    for clusters, surveys in zip(("All", *given.clusters), zip(*each, strict=True), strict=True):
        print(f"\n{clusters} clusters judge\n")
        print_table("taught by", list(surveys), first, first)


if __name__ == "__main__":
    main()
