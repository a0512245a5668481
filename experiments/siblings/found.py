"""How many siblings a search finds: `python experiments/siblings/found.py [--seeds 4]`.

For every member of every cluster of simulated surveys (default and hard): RSCA is fitted without its cluster, all that
it may be compared with are ranked, and the share of its siblings among the first ten (of those that could be there) is
counted, by the distance and by several likelihood ratios: (14.3) Gaussian, (14.6) Student's t of siblings' differences,
(16.1) Student's t of both hypotheses, which `rsca siblings` ranks by, and (16.1) with each star's own noise. Then what
(16.1) is worth as a probability, calibrated without the judged cluster: Cllr, expected calibration error at two priors,
and that of the first ten, as they would be printed, at the share of siblings that there is; and how many strangers are
as alike as a sibling, beside how many were expected by chance. Prints Markdown, means over
surveys and in brackets each. Surveys are made by `surveys.py` in the folder.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rsca_torch.errors import NumericalWarning
from rsca_torch.evaluation.calibration import Calibrated, Calibration
from rsca_torch.evaluation.cllr import able_of
from rsca_torch.evaluation.leave_one_out import leave_one_cluster_out
from rsca_torch.evaluation.sibling_calibration import RankedByRatio, SiblingScores, sibling_scores
from rsca_torch.learners.likelihood_ratio import FREEDOM, joint_log_ratio, log_likelihood_ratio
from rsca_torch.learners.moments import FieldMoments
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.training.members import Members

sys.path.insert(0, str(Path(__file__).parent))
from surveys import KINDS, Latents, latents

TEN = 10
RSCA = {"floor": "auto", "trim": 2.0, "robust": False}  # as conf/learner/rsca.yaml
PRIORS = (0.5, 0.01)
CHANCE = 400  # field stars that are compared with all others for what chance does


def noise_of(covariance: Tensor, rows: Tensor) -> Tensor:
    """(N, D) variance that the noise gives the latents (eq. 13.3), along rows (D, K)."""
    covariance = covariance.double()
    noise = covariance - covariance @ covariance
    return torch.einsum("ij,njk,ik->ni", rows, noise, rows)


def noise_aware(
    one: Tensor, other: Tensor, noise: tuple[Tensor, Tensor], usual: Tensor, sigma_r: Tensor, freedom: float = FREEDOM
) -> Tensor:
    """(16.1) in sphered latents, to which each star's own noise adds more or less than the usual; not less than s^2."""
    rho = 1 / (1 + sigma_r.square())
    spread = 1 - rho
    within = [(spread + (own - usual).clamp(min=0)) for own in noise]
    a, b = one[:, None], other[None]
    va, vb = rho + within[0][:, None], rho + within[1][None]
    determinant = va * vb - rho.square()
    together = ((vb * a * a - 2 * rho * a * b + va * b * b) / determinant).sum(-1)
    alone = (a * a / va + b * b / vb).sum(-1)
    constant = -(determinant / (va * vb)).log().sum(-1) / 2
    power = (freedom + 2 * len(rho)) / 2
    return constant - power * torch.log((freedom + together) / (freedom + alone))


Printed = dict[str, tuple[Tensor, Tensor, Tensor]]  # by cluster: (m, 10) ratios, siblings, (m, 1) share of siblings


def ranked(survey: Latents, everybody: bool) -> tuple[dict[str, list[float]], dict[str, list[float]], Printed]:
    """By score the share found for each member; of each sibling pair the strangers as alike; the first ten."""
    shares: dict[str, list[float]] = {}
    printed: Printed = {}
    alike: dict[str, list[float]] = {"found": [], "expected": []}
    summary = FieldMoments.of(survey.field)
    noise = survey.member_covariance - survey.member_covariance @ survey.member_covariance
    random = np.random.default_rng(0)
    for cluster in np.unique(survey.clusters):
        here = torch.from_numpy(survey.clusters == cluster)
        n = int(here.sum())
        if n < 2:
            continue
        learner = ScaledComponents(**RSCA)
        learner.repeats = survey.repeats
        rest = ~here
        learner.initialise(
            survey.field, survey.members[rest], survey.clusters[rest.numpy()], summary, noise=noise[rest]
        )
        allowed = torch.ones_like(survey.allowed[here]) if everybody else survey.allowed[here]
        compared = allowed.any(0)
        stars = torch.cat([survey.members[here], survey.field[compared]])
        embedded, spread = learner(stars), learner.sigma_r
        tells = spread.isfinite()
        rows = (spread[:, None] * learner.weight)[tells]
        sphered = (stars - learner.centre) @ rows.T
        own = torch.cat(
            [noise_of(survey.member_covariance[here], rows), noise_of(survey.field_covariance[compared], rows)]
        )
        usual = torch.einsum("ij,jk,ik->i", rows, noise[rest].mean(0), rows)
        scores = {
            "distance": -torch.cdist(embedded[:n], embedded, compute_mode="donot_use_mm_for_euclid_dist"),
            "(14.3)": log_likelihood_ratio(embedded[:n], embedded, spread, float("inf")),
            "(14.6)": log_likelihood_ratio(embedded[:n], embedded, spread),
            "(16.1)": joint_log_ratio(embedded[:n], embedded, spread),
        }
        if not everybody:
            scores["(16.1), noise of each"] = noise_aware(sphered[:n], sphered, (own[:n], own), usual, spread[tells])
        others = ~torch.eye(n, dtype=torch.bool)
        may = torch.cat([others, allowed[:, compared]], 1)
        is_sibling = torch.cat([others, torch.zeros_like(allowed[:, compared])], 1)
        for name, score in scores.items():
            first = score.masked_fill(~may, -torch.inf).topk(min(TEN, score.shape[1]), 1).indices
            found = is_sibling.gather(1, first).sum(1) / min(TEN, n - 1)
            shares.setdefault(name, []).extend(found.tolist())
            if name == "(16.1)":
                ratio = score.masked_fill(~may, -torch.inf).gather(1, first)
                printed[str(cluster)] = ratio, is_sibling.gather(1, first), (n - 1) / may.sum(1, keepdim=True).double()
        if everybody:
            continue
        # What chance does: among field stars, of which none is of this cluster.
        drawn = random.choice(len(survey.field), CHANCE, replace=False)
        field = learner(survey.field)
        by_chance = joint_log_ratio(field[drawn], field, spread)
        by_chance[torch.arange(CHANCE), torch.from_numpy(drawn)] = -torch.inf
        rising = by_chance.flatten().sort().values
        pairs, strangers = scores["(16.1)"][:, :n], scores["(16.1)"][:, n:]
        for member in range(n):
            own_strangers = strangers[member][allowed[member, compared]]
            for other in range(n):
                if other != member and len(own_strangers):
                    above = len(rising) - torch.searchsorted(rising, pairs[member, other])
                    alike["found"].append(float((own_strangers >= pairs[member, other]).sum()))
                    alike["expected"].append(float(len(own_strangers) * above / (CHANCE * (len(field) - 1))))
    return shares, alike, printed


def error_of_printed(printed: Printed, calibrations: dict[str, Calibration]) -> float:
    """How far what is printed and the share of siblings are apart, in ten bins."""
    probability, sibling = [], []
    for cluster, (ratio, is_sibling, share) in printed.items():
        if cluster in calibrations:
            there = ratio.isfinite()
            each = torch.cat(
                [calibrations[cluster].probability(row, float(of)) for row, of in zip(ratio, share, strict=True)]
            )
            probability.append(each.view_as(ratio)[there])
            sibling.append(is_sibling[there].double())
    p, is_one = torch.cat(probability).numpy(), torch.cat(sibling).numpy()
    number = np.minimum((10 * p).astype(int), 9)
    sums = [np.bincount(number, each, 10) for each in (p, is_one)]
    return float(np.abs(sums[0] - sums[1]).sum() / len(p))


def told(survey: Latents, printed: Printed) -> dict[str, float]:
    """What (16.1) is worth as a probability."""

    def make() -> RankedByRatio:
        learner = RankedByRatio(**RSCA)
        learner.repeats = survey.repeats
        return learner

    noise = survey.member_covariance - survey.member_covariance @ survey.member_covariance
    judged = partial(leave_one_cluster_out, make, survey.field, survey.members, survey.clusters, survey.allowed)
    result = judged(noise=noise, calibrate=True)
    calibrated = result.calibrated
    assert calibrated is not None
    figures = {"rate, %": 100 * result.rate, "Cllr, bits": result.merit("cllr"), "Cllr at best": calibrated.minimum()}
    for prior in PRIORS:
        figures[f"expected calibration error at {prior:g}"] = calibrated.expected_error(prior)
    figures["expected calibration error of the first ten"] = error_of_printed(printed, calibrated.by_cluster)
    members = Members(survey.members, survey.clusters, survey.allowed.numpy(), None, noise)
    of_clusters = of_whole_clusters(sibling_scores(make, survey.field, members))
    for prior in PRIORS:
        figures[f"of a star and a cluster, at {prior:g}"] = of_clusters.expected_error(prior)
    return figures | {"slope": calibrated.of_all.slope, "offset, nats": calibrated.of_all.offset}


def of_whole_clusters(scores: SiblingScores) -> Calibrated:
    """Ratios of a star and a cluster, each cluster's calibrated on the others'."""
    able = able_of(scores.of_clusters)

    def fitted(names: list[str]) -> Calibration:
        strangers = np.unique(np.concatenate([scores.compared[name].numpy() for name in names]))
        return Calibration.fit({name: scores.of_clusters[name] for name in names}, scores.members, len(strangers))

    by_cluster = {name: fitted([other for other in able if other != name]) for name in able}
    return Calibrated({name: scores.of_clusters[name] for name in able}, scores.members, by_cluster, fitted(able))


def figures_of(survey: Latents) -> dict[str, float]:
    """All of one survey."""
    figures, kept = {}, {}
    for everybody in (True, False):
        shares, alike, kept = ranked(survey, everybody)
        among = "all stars" if everybody else "allowed pairs"
        for name, each in shares.items():
            figures[f"found among {among}, by {name}"] = float(np.mean(each))
        if not everybody:
            figures |= {
                f"strangers as alike as a sibling, {what}": float(np.mean(each)) for what, each in alike.items()
            }
    return figures | told(survey, kept)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS], default=[*KINDS])
    parser.add_argument("--components", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=Path("runs/siblings"))
    parser.add_argument("overrides", nargs="*", help="of surveys that are made, e.g. simulation.n_field=400")
    given = parser.parse_intermixed_args()
    warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing
    given.folder.mkdir(parents=True, exist_ok=True)
    columns: dict[str, list[dict[str, float]]] = {kind: [] for kind in given.kinds}
    for seed in range(given.seeds):
        for kind in given.kinds:
            found = figures_of(latents(kind, seed, given.folder, given.components, given.overrides))
            columns[kind].append(found)
            print(f"{kind}, seed {seed}: {found}", file=sys.stderr, flush=True)
    print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name in next(iter(columns.values()))[0]:
        cells = []
        for surveys in columns.values():
            each = [found[name] for found in surveys]
            cells.append(f"{np.mean(each):.3f} ({', '.join(f'{value:.3f}' for value in each)})")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
