"""The scores that a model is calibrated by: of every cluster by a learner that did not see it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rsca_torch import ScaledComponents, leave_one_cluster_out
from rsca_torch.evaluation.sibling_calibration import RankedByRatio, sibling_calibration, sibling_scores
from rsca_torch.learners.likelihood_ratio import joint_log_ratio, joint_log_ratio_of_cluster
from rsca_torch.testing import drawn_problem
from rsca_torch.training.members import Members


@pytest.fixture(scope="module")
def problem():
    return drawn_problem()


@pytest.fixture(scope="module")
def members(problem):
    flags = np.random.default_rng(0).random((30, 300)) < 0.3
    return Members(problem.members, problem.clusters, flags)


def test_scores_are_those_of_a_learner_without_the_cluster(problem, members):
    scores = sibling_scores(ScaledComponents, problem.field, members)
    assert set(scores.of_pairs) == set(scores.of_clusters) == set(problem.clusters)
    for cluster in np.unique(problem.clusters):
        here = problem.clusters == cluster
        learner = ScaledComponents()
        learner.initialise(problem.field, problem.members[~here], problem.clusters[~here])
        own, field = learner(problem.members[here]), learner(problem.field)
        n, spread = len(own), learner.sigma_r
        pairs = [
            joint_log_ratio(own[i : i + 1], own[j : j + 1], spread)[0, 0] for i in range(n) for j in range(i + 1, n)
        ]
        torch.testing.assert_close(scores.of_pairs[cluster][0], torch.stack(pairs))
        allowed = members.flags[here]
        strangers = [joint_log_ratio(own[i : i + 1], field[allowed[i]], spread)[0] for i in range(n)]
        torch.testing.assert_close(scores.of_pairs[cluster][1], torch.cat(strangers))
        rest = [np.delete(np.arange(n), i) for i in range(n)]  # a member against the others
        left = [joint_log_ratio_of_cluster(own[rest[i]], own[i : i + 1], spread)[0] for i in range(n)]
        torch.testing.assert_close(scores.of_clusters[cluster][0], torch.stack(left))
        others = joint_log_ratio_of_cluster(own, field[allowed.any(0)], spread)
        torch.testing.assert_close(scores.of_clusters[cluster][1], others)


def test_of_pairs_it_is_what_leaving_one_cluster_out_finds(problem, members):
    told = sibling_calibration(ScaledComponents, problem.field, members)
    given = problem.field, problem.members, problem.clusters, members.flags
    judged = leave_one_cluster_out(lambda: RankedByRatio(robust=True), *given, calibrate=True).calibrated.of_all
    assert told["pairs"]["slope"] == pytest.approx(judged.slope, rel=1e-6)
    assert told["pairs"]["offset"] == pytest.approx(judged.offset, rel=1e-6)
    assert (told["pairs"]["clusters"], told["pairs"]["strangers"]) == (judged.clusters, judged.strangers)


def test_clusters_of_two_can_calibrate_pairs_alone(problem):
    some = np.concatenate([np.flatnonzero(problem.clusters == name)[:2] for name in np.unique(problem.clusters)])
    few = Members(problem.members[some], problem.clusters[some], np.ones((10, 300), dtype=bool))
    told = sibling_calibration(lambda: ScaledComponents(floor=torch.eye(6) * 0.01), problem.field, few)
    assert set(told) == {"freedom", "pairs"}
