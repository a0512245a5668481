"""Whether faint stars are ranked by luck: `python experiments/siblings/faint.py [--seeds 4]`, after `found.py`.

Members and strangers of the simulated surveys by the noise of their features (the posterior variance, over what
siblings differ by): the share of its siblings among the first ten of each member, and of strangers of that noise the
share that are as alike as the median sibling. Prints Markdown, all surveys together.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from rsca_torch.errors import NumericalWarning
from rsca_torch.learners.likelihood_ratio import joint_log_ratio
from rsca_torch.learners.moments import FieldMoments
from rsca_torch.learners.scaled_components import ScaledComponents

sys.path.insert(0, str(Path(__file__).parent))
from found import RSCA, TEN
from surveys import KINDS, Latents, latents

EDGES = (0.0, 0.3, 0.6, 1.0, 1.5, 3.0)

Rows = list[tuple[float, float]]  # noise, and what became of the star


def judged(survey: Latents) -> tuple[Rows, Rows]:
    """Of members the share of siblings that each finds; of allowed strangers whether each is as alike as a sibling."""
    summary = FieldMoments.of(survey.field)
    noise = survey.member_covariance - survey.member_covariance @ survey.member_covariance
    members: Rows = []
    strangers: Rows = []
    for cluster in np.unique(survey.clusters):
        here = torch.from_numpy(survey.clusters == cluster)
        n, rest = int(here.sum()), ~here
        if n < 2:
            continue
        learner = ScaledComponents(**RSCA)
        learner.repeats = survey.repeats
        labels = survey.clusters[rest.numpy()]
        learner.initialise(survey.field, survey.members[rest], labels, summary, noise=noise[rest])
        spread = learner.sigma_r
        tells = spread.isfinite()
        rows, siblings = learner.weight[tells], (1 / (1 + spread[tells].square())).sum()
        compared = survey.allowed[here].any(0)
        covariance = torch.cat([survey.member_covariance[here], survey.field_covariance[compared].double()])
        own = torch.einsum("ij,njk,ik->n", rows, covariance, rows) / siblings
        embedded = learner(torch.cat([survey.members[here], survey.field[compared]]))
        score, others = joint_log_ratio(embedded[:n], embedded, spread), ~torch.eye(n, dtype=torch.bool)
        allowed = survey.allowed[here][:, compared]
        may = torch.cat([others, allowed], 1)
        first = score.masked_fill(~may, -torch.inf).topk(min(TEN, score.shape[1]), 1).indices
        is_sibling = torch.cat([others, torch.zeros_like(allowed)], 1)
        found = is_sibling.gather(1, first).sum(1) / min(TEN, n - 1)
        members += zip(own[:n].tolist(), found.tolist(), strict=True)
        for member in range(n):
            as_alike = score[member, n:][allowed[member]] >= score[member, :n][others[member]].median()
            strangers += zip(own[n:][allowed[member]].tolist(), as_alike.double().tolist(), strict=True)
    return members, strangers


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=Path("runs/siblings"))
    given = parser.parse_args()
    warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing
    print(
        "| survey | noise | members | siblings found | stranger pairs | as alike as a sibling, % |\n" + "|---" * 6 + "|"
    )
    for kind in KINDS:
        each = [judged(latents(kind, seed, given.folder)) for seed in range(given.seeds)]
        members, strangers = (np.array([row for survey in each for row in survey[which]]) for which in (0, 1))
        for low, high in pairwise(EDGES):
            some = [rows[(rows[:, 0] >= low) & (rows[:, 0] < high), 1] for rows in (members, strangers)]
            shares = [
                f"{some[0].mean():.3f}" if len(some[0]) else "",
                f"{100 * some[1].mean():.2f}" if len(some[1]) else "",
            ]
            print(f"| {kind} | {low:g} to {high:g} | {len(some[0])} | {shares[0]} | {len(some[1]):,} | {shares[1]} |")


if __name__ == "__main__":
    main()
