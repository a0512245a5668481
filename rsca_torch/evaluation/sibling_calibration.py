"""What the ratios that siblings are ranked by are worth, for the file of a model (docs/maths.md, 16)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.calibration import Calibration, require_clusters
from rsca_torch.evaluation.folds import Task
from rsca_torch.learners.learner import Learner
from rsca_torch.learners.likelihood_ratio import FREEDOM, joint_log_ratio, joint_log_ratio_of_cluster
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.training.members import Members

__all__ = ["RankedByRatio", "SiblingScores", "sibling_calibration", "sibling_scores"]


class RankedByRatio(ScaledComponents):
    """RSCA whose score is the ratio that siblings are ranked by (eq. 16.1), to be judged as any learner is."""

    name = "rsca by joint ratio"
    gives_scores = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.gives_scores = True

    def score(self, members: Tensor, stars: Tensor) -> Tensor:  # type: ignore[override]  # tensors come
        """(m, K), (n, K) latents -> (m, n) float64 nats."""
        return joint_log_ratio(self(members), self(stars), self.sigma_r)


class SiblingScores(NamedTuple):
    """By cluster, siblings' ratios and strangers', by learners that did not see it."""

    of_pairs: dict[str, tuple[Tensor, Tensor]]
    of_clusters: dict[str, tuple[Tensor, Tensor]]  # of a star against all of a cluster's (other) members
    members: dict[str, int]
    compared: dict[str, Tensor]  # the field stars, their numbers


def sibling_calibration(
    make_learner: Callable[[], Learner], field: Tensor, members: Members, seed: int = 0
) -> dict[str, Any]:
    """Of pairs and of clusters: each cluster is scored by a learner that did not see it, all together make a line each.

    Args:
        make_learner: gives a fresh RSCA.
        field: (F, K) latents of the field stars.
        members: M, with the field stars that each may be compared with.
        seed: of torch's random numbers while a learner is fitted.

    Returns:
        What a model's file says: ``pairs`` and ``clusters``, each the slope, offset, clusters and strangers of a
        `Calibration`, and ``freedom`` of the ratio; or ``why`` there is none. ``clusters`` is not there where fewer
        than five clusters have three members.

    Examples:
        >>> from rsca_torch.testing import drawn_problem
        >>> stars = drawn_problem()
        >>> members = Members(stars.members, stars.clusters, np.ones((30, 300), dtype=bool))
        >>> told = sibling_calibration(ScaledComponents, stars.field, members)
        >>> sorted(told), told["pairs"]["clusters"], told["pairs"]["strangers"]
        (['clusters', 'freedom', 'pairs'], 5, 300)
        >>> sibling_calibration(ScaledComponents, stars.field, members[stars.clusters < "NGC 3"])
        {'why': '3 clusters have both sibling pairs and allowed strangers, 5 at least are expected: ...'}
    """
    try:
        scores = sibling_scores(make_learner, field, members, seed)
        told: dict[str, Any] = {"freedom": FREEDOM, "pairs": _fitted(scores.of_pairs, scores)}
    except InputError as error:
        return {"why": str(error)}
    with suppress(InputError):
        told["clusters"] = _fitted(scores.of_clusters, scores)
    return told


def sibling_scores(
    make_learner: Callable[[], Learner], field: Tensor, members: Members, seed: int = 0
) -> SiblingScores:
    """The ratios of each cluster by a learner that did not see it; arguments as of `sibling_calibration`.

    Raises:
        InputError: where learners cannot be fitted without a cluster.
    """
    task, names = Task(make_learner, field, members, seed=seed), members.judging_clusters()
    scores = SiblingScores({}, {}, {name: int((members.labels == name).sum()) for name in names}, {})
    for cluster in names:
        here = members.labels == cluster
        with warnings.catch_warnings(action="ignore", category=NumericalWarning):  # whoever judges it says it
            learner, _ = task.fitted(~here, cluster)
        compared, allowed = members[here].compared()
        own, strangers = learner(members.z[torch.from_numpy(here)]), learner(field[compared])
        n, spread = len(own), learner.sigma_r
        assert isinstance(spread, Tensor)
        one, other = torch.triu_indices(n, n, offset=1)
        pairs = joint_log_ratio(own, own, spread)[one, other]
        scores.of_pairs[cluster] = pairs, joint_log_ratio(own, strangers, spread)[allowed]
        scores.compared[cluster] = compared
        if n > 2:
            others = [torch.arange(n) != number for number in range(n)]
            left = [joint_log_ratio_of_cluster(own[rest], own[~rest], spread) for rest in others]
            scores.of_clusters[cluster] = torch.cat(left), joint_log_ratio_of_cluster(own, strangers, spread)
    return scores


def _fitted(some: Mapping[str, tuple[Tensor, Tensor]], scores: SiblingScores) -> dict[str, float]:
    """The numbers of a calibration."""
    able = require_clusters(some)
    strangers = np.unique(np.concatenate([scores.compared[cluster].numpy() for cluster in able]))
    return asdict(Calibration.fit({name: some[name] for name in able}, scores.members, len(strangers)))
