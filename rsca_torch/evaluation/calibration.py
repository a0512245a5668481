"""Scores into likelihood ratios that mean what they say, and how far they do (docs/maths.md, section 15)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.evaluation.cllr import Scores, able_of, cllr, minimum_cllr, pairs_of
from rsca_torch.spectra.arrays import Array, as_tensor

__all__ = ["FEWEST", "Calibrated", "Calibration", "Reliability", "calibrated", "require_clusters", "require_priors"]

FEWEST = 5  # clusters without which nothing is calibrated: two numbers from fewer are chance
LARGEST = 1e300  # of scores: a difference of two is a number
BINS = 10  # of probability, of equal width

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """ln r = slope x score + offset, with the two numbers that cost least on some clusters (eq. 15.2).

    Attributes:
        slope: far below 1, of scores that are log likelihood ratios: they were too sure.
        offset: in nats.
        clusters: how many it was fitted on.
        strangers: how many field stars were among their strangers.

    Examples:
        >>> siblings, strangers = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([-9.0, -6.0, -3.0, 1.5])
        >>> scores = {name: (siblings, strangers - shift) for shift, name in enumerate(["M 67", "M 92", "NGC 188"])}
        >>> calibration = Calibration.fit(scores, dict.fromkeys(scores, 3), strangers=12)
        >>> print(f"{calibration.slope:.2f}, {calibration.offset:.2f}")
        0.47, 0.22
        >>> calibration.probability(torch.tensor([4.0, 40.0, -20.0]), prior=0.5)  # of 12 strangers at most 12 in 13
        tensor([0.8920, 0.9286, 0.2000], dtype=torch.float64)
    """

    slope: float
    offset: float
    clusters: int
    strangers: int

    @classmethod
    def fit(cls, scores: Scores, members: Mapping[str, int], strangers: int, wrong: float = 0.0) -> Calibration:
        """A logistic regression at prior 1/2, in which each cluster weighs its members.

        Args:
            scores: by cluster.
            members: of each cluster how many.
            strangers: how many field stars were among those scored.
            wrong: the share of strangers among what is listed as siblings, of which nobody knows which they are.

        Raises:
            InputError: where no cluster has pairs of both kinds, or scores are not finite.
        """
        score, is_sibling, weight = pairs_of(scores, members)
        large = ~(np.abs(score.astype(np.float64)) < LARGEST)
        if large.any():
            raise InputError(
                f"{int(large.sum())} of {len(score)} scores are not finite, or beyond {LARGEST:g}: no line goes "
                "through them; leave those pairs out"
            )
        middle, spread = np.median(score), float(np.abs(score - np.median(score)).mean()) or 1.0
        x = (score - middle) / spread
        # Platt's targets (1999): where no stranger scores as high as a sibling the slope would have no end.
        counts = np.where(is_sibling, is_sibling.sum(), (~is_sibling).sum())
        target = np.where(is_sibling, counts + 1, 1) / (counts + 2)

        def listed(line: Floats) -> tuple[Floats, Floats]:
            """Log odds of being listed rather than not, and their slope in those of being a sibling (eq. 15.6)."""
            siblings = line[0] * x + line[1]
            if not wrong:
                return siblings, np.ones_like(siblings)
            siblings = siblings + math.log1p(-wrong)
            return np.logaddexp(siblings, math.log(wrong)), expit(siblings - math.log(wrong))

        def cost(line: Floats) -> tuple[float, Floats]:
            log_odds, share = listed(line)
            error = weight * (expit(log_odds) - target) * share
            return float(weight @ (np.logaddexp(0, log_odds) - target * log_odds)), np.array([error @ x, error.sum()])

        def curvature(line: Floats) -> Floats:
            log_odds, share = listed(line)
            odds = expit(log_odds)
            each = weight * (odds * (1 - odds) * share**2 + (odds - target) * share * (1 - share))
            return np.array([[each @ (x * x), each @ x], [each @ x, each.sum()]])

        start, method = np.array([1.0, 0.0]), "trust-exact"
        line = minimize(cost, start, jac=True, hess=curvature, method=method, options={"gtol": 1e-8}).x
        slope = float(line[0] / spread)
        return cls(slope, float(line[1] - slope * middle), len(able_of(scores)), strangers)

    def __call__(self, scores: Array) -> Tensor:
        """Scores -> natural log likelihood ratios, float64, of the same shape."""
        return self.slope * as_tensor(scores).double() + self.offset

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest log likelihood ratio that so many clusters and strangers can show (eq. 15.3)."""
        return -math.log(self.clusters + 1), math.log(self.strangers + 1)

    def probability(self, scores: Array, prior: float) -> Tensor:
        """P(sibling) of pairs, from their ratios within the `bounds` and a prior; print the prior beside it.

        Args:
            scores: of any shape.
            prior: the share of siblings among the pairs that are asked about.

        Returns:
            Float64, of the same shape.

        Raises:
            InputError: for a prior that does not lie between 0 and 1.
        """
        return torch.sigmoid(self(scores).clamp(*self.bounds) + _log_odds(prior))


def _log_odds(prior: float) -> float:
    if not 0 < prior < 1:
        raise InputError(
            f"prior={prior}: the share of siblings among the pairs asked about must lie between 0 and 1, both excluded"
        )
    return float(logit(prior))


class Reliability(NamedTuple):
    """Pairs that are given about the same probability: how many are siblings, if the prior is right.

    Attributes:
        weight: their share of all pairs at that prior.
        probability: the mean of what they are given.
        siblings: the share of siblings among them.
    """

    weight: float
    probability: float
    siblings: float


@dataclass(frozen=True)
class Calibrated:
    """What was scored by learners, and calibrated by clusters, that had no part in the cluster that is judged.

    Attributes:
        scores: of every judged cluster that has pairs.
        members: of each how many.
        by_cluster: for each the calibration that was fitted on the others.
        of_all: fitted on all of these scores, for new stars.

    Examples:
        How probable it is that two stars are siblings, if one pair of a hundred is:

        >>> from functools import partial
        >>> from rsca_torch import ScaledComponents, leave_one_cluster_out
        >>> from rsca_torch.testing import drawn_problem
        >>> stars, make_learner = drawn_problem(), partial(ScaledComponents, score="likelihood")
        >>> told = leave_one_cluster_out(
        ...     make_learner, stars.field, stars.members, stars.clusters, calibrate=True
        ... ).calibrated
        >>> print(f"Cllr {sum(told.cllr().values()) / 5:.3f}, at best {told.minimum():.3f}")
        Cllr 0.115, at best 0.071
        >>> learner = make_learner()
        >>> learner.initialise(stars.field, stars.members, stars.clusters)
        >>> siblings = stars.members[stars.clusters == "NGC 0"][:3]
        >>> told.of_all.probability(learner.score(siblings[:1], siblings[1:]), prior=0.01)
        tensor([[0.7525, 0.4704]], dtype=torch.float64)
    """

    scores: Scores
    members: Mapping[str, int]
    by_cluster: Mapping[str, Calibration]
    of_all: Calibration

    def cllr(self) -> dict[str, float]:
        """Of every cluster, after its calibration."""
        return {
            cluster: cllr(*(self.by_cluster[cluster](kind) for kind in pairs)) for cluster, pairs in self.scores.items()
        }

    def minimum(self) -> float:
        """`minimum_cllr` of the scores."""
        return minimum_cllr(self.scores, self.members)

    def reliability(self, prior: float, bins: int = BINS) -> list[Reliability]:
        """Of pairs by their probability at a prior, in so many bins of equal width, rising; empty ones left out.

        Raises:
            InputError: for a prior that does not lie between 0 and 1.
        """
        told = {
            cluster: tuple(self.by_cluster[cluster].probability(kind, prior) for kind in pairs)
            for cluster, pairs in self.scores.items()
        }
        probability, is_sibling, weight = pairs_of(told, self.members)  # type: ignore[arg-type]  # pairs, as they were
        weight = weight * np.where(is_sibling, prior, 1 - prior)
        number = np.minimum((probability * bins).astype(int), bins - 1)
        sums = [
            np.bincount(number, weight * each, bins) for each in (np.ones_like(probability), probability, is_sibling)
        ]
        return [
            Reliability(float(w), float(p / w), float(siblings / w))
            for w, p, siblings in zip(*sums, strict=True)
            if w > 0
        ]

    def expected_error(self, prior: float) -> float:
        """The expected calibration error: how far probability and share of siblings are apart, the mean over pairs.

        Raises:
            InputError: for a prior that does not lie between 0 and 1.
        """
        return sum(each.weight * abs(each.probability - each.siblings) for each in self.reliability(prior))


def calibrated(
    alone: Scores, inner: Mapping[str, Scores], members: Mapping[str, int], compared: Mapping[str, Tensor]
) -> Calibrated:
    """A calibration for each cluster that no bit of it took part in, and one for new stars.

    Args:
        alone: by cluster, its scores by a learner that did not see it.
        inner: for each cluster the scores of the others, by learners that saw neither it nor them.
        members: of each cluster how many.
        compared: the field stars that each was compared with, their numbers.

    Raises:
        InputError: for fewer than `FEWEST` clusters with pairs of both kinds.
    """
    able = require_clusters(alone)

    def fitted(scores: Scores) -> Calibration:
        clusters = able_of(scores)
        strangers = np.unique(np.concatenate([compared[cluster].numpy() for cluster in clusters]))
        return Calibration.fit(scores, members, len(strangers))

    by_cluster = {cluster: fitted(inner[cluster]) for cluster in able}
    return Calibrated({cluster: alone[cluster] for cluster in able}, members, by_cluster, fitted(alone))


def require_clusters(scores: Scores) -> list[str]:
    """The clusters with pairs of both kinds.

    Raises:
        InputError: where they are fewer than `FEWEST`.
    """
    able = able_of(scores)
    if len(able) < FEWEST:
        raise InputError(
            f"{len(able)} clusters have both sibling pairs and allowed strangers, {FEWEST} at least are expected: give "
            "more clusters, or allow more pairs"
        )
    return able


def require_priors(priors: Sequence[float]) -> None:
    """Raises InputError for a prior that does not lie between 0 and 1."""
    for prior in priors:
        _log_odds(prior)
