"""How probable it is that a listed member is none: its ratio against its cluster's others, calibrated.

docs/maths.md, section 15.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.evaluation.calibration import FEWEST, Calibration
from rsca_torch.evaluation.cllr import able_of
from rsca_torch.evaluation.folds import Task
from rsca_torch.learners.likelihood_ratio import log_likelihood_ratio_of_cluster
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.training.members import Members

__all__ = ["Membership", "membership", "require_share"]


@dataclass(frozen=True)
class Membership:
    """What M listed members look like beside the others of their cluster.

    Attributes:
        ratio: (M,) float64, natural log of p(star | sibling of the kept others) / p(star | field star), by a learner
            that did not see the cluster; NaN where no other is kept.
        wrong: (M,) float64, the probability of being no member; NaN likewise.
        prior: the share of wrong ones among the listed that was taken for granted.
        clusters: on how many the ratios were calibrated; 0: they were not, and are too sure.
    """

    ratio: Tensor
    wrong: Tensor
    prior: float
    clusters: int


def require_share(name: str, prior: float) -> None:
    """Raises InputError for a share of wrong members that does not lie between 0 and 1."""
    if not 0 < prior < 1:
        raise InputError(
            f"{name}={prior}: the share of wrong ones among the listed members must lie between 0 and 1, both excluded"
        )


def membership(
    make_learner: Callable[[], ScaledComponents],
    field: Tensor,
    members: Members,
    kept: NDArray[np.bool_],
    prior: float = 0.1,
    calibrate: bool = True,
    held_out: bool = True,
    seed: int = 0,
) -> Membership:
    """Of every listed member how probable it is that it is none.

    A cluster's own members have no part in the learner that compares them, and their ratios none in their line.

    Args:
        make_learner: gives a fresh learner.
        field: (F, K) latents of the field stars.
        members: M, with the field stars that each may be compared with.
        kept: (M,) bool, who counts as a known member.
        prior: the share of wrong ones among the listed.
        calibrate: False: ratios are taken as they come.
        held_out: False: one learner fitted on all clusters compares them all, and nothing is calibrated; for those
            of which none can be left out.
        seed: of torch's random numbers while a learner is made and fitted.

    Raises:
        InputError: for a prior that does not lie between 0 and 1, or learners that cannot be fitted.

    Examples:
        A star of another cluster among those of NGC 0:

        >>> from rsca_torch.testing import drawn_problem
        >>> problem = drawn_problem()
        >>> here, there = (np.flatnonzero(problem.clusters == name)[0] for name in ("NGC 0", "NGC 1"))
        >>> problem.members[here] = problem.members[there]
        >>> members = Members(problem.members, problem.clusters, np.ones((30, 300), dtype=bool))
        >>> found = membership(ScaledComponents, problem.field, members, np.arange(30) != here)
        >>> print(f"{found.wrong[here]:.2f} {found.wrong[problem.clusters == 'NGC 2'].max():.2f}")
        0.74 0.01
    """
    require_share("prior", prior)
    ratio = torch.full((len(members.z),), math.nan, dtype=torch.float64)
    task, scores, compared = Task(make_learner, field, members, seed=seed), {}, {}
    for cluster in members.clusters():
        here = members.labels == cluster
        learner, _ = task.fitted(~here if held_out else np.ones_like(here), cluster)
        assert isinstance(learner, ScaledComponents)
        with torch.no_grad():
            compared[cluster], _ = members[here].compared()
            of_members, of_field = learner(members.z[torch.from_numpy(here)]), learner(field[compared[cluster]])
        known = torch.from_numpy(kept[here])
        others = [known & (torch.arange(len(known)) != number) for number in range(len(known))]
        own = torch.full((len(known),), math.nan, dtype=torch.float64)
        for number, siblings in enumerate(others):
            if siblings.any():
                star = of_members[number : number + 1]
                own[number] = log_likelihood_ratio_of_cluster(of_members[siblings], star, learner.sigma_r)[0]
        ratio[torch.from_numpy(here)] = own
        if known.any():
            strangers = log_likelihood_ratio_of_cluster(of_members[known], of_field, learner.sigma_r)
            scores[cluster] = own[own.isfinite()], strangers
    able = able_of(scores)
    if not (calibrate and held_out) or len(able) < FEWEST:
        return Membership(ratio, torch.sigmoid(-ratio + logit(prior)), prior, 0)
    wrong = torch.full_like(ratio, math.nan)
    for cluster in members.clusters():
        training = {other: scores[other] for other in able if other != cluster}
        sizes = {other: len(scores[other][0]) for other in training}
        n_strangers = len(np.unique(np.concatenate([compared[other].numpy() for other in training])))
        told = Calibration.fit(training, sizes, n_strangers, wrong=prior)
        here = torch.from_numpy(members.labels == cluster)
        # Another member of these clusters is asked about, not another cluster: each listed star is a trial.
        bounded = told(ratio[here]).clamp(-math.log(sum(sizes.values()) + 1), math.log(n_strangers + 1))
        wrong[here] = torch.sigmoid(-bounded + logit(prior))
    return Membership(ratio, wrong, prior, len(able))
