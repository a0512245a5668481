"""The log likelihood ratio against Gaussian densities written out, and as the score of RSCA."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, multivariate_t

from rsca_torch import InputError, ScaledComponents, leave_one_cluster_out
from rsca_torch.learners import Averaged
from rsca_torch.learners.likelihood_ratio import FREEDOM, log_likelihood_ratio, log_likelihood_ratio_of_cluster

WITHIN = np.array([0.2, 0.5, 0.8])  # s of eq. 14.1, standard deviations of siblings about their centre
SIGMA_R = 1 / np.sqrt(1 / WITHIN**2 - 1)


def density(stars, siblings):
    """ln p of (n, D) stars in sphered axes: of one cluster all, or each of its own."""
    n, d = stars.shape
    shared = np.kron(np.ones((n, n)) if siblings else np.eye(n), np.diag(1 - WITHIN**2))
    return multivariate_normal(np.zeros(n * d), shared + np.kron(np.eye(n), np.diag(WITHIN**2))).logpdf(stars.ravel())


@pytest.fixture
def axes():
    return np.random.default_rng(3).normal(size=(7, 3)) * [1, 1, 2]


def test_the_ratio_is_that_of_the_joint_densities(axes):
    got = log_likelihood_ratio(axes[:3] / SIGMA_R, axes[3:] / SIGMA_R, SIGMA_R, math.inf)
    expected = [[density(pair, True) - density(pair, False) for pair in _pairs(one, axes[3:])] for one in axes[:3]]
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-11)
    assert got.dtype == torch.float64


def _pairs(one, others):
    return [np.stack([one, other]) for other in others]


@pytest.mark.parametrize("known", [1, 2, 5])
def test_the_ratio_to_a_cluster_is_that_of_the_joint_densities(axes, known):
    siblings, stars = axes[:known], axes[known:]
    got = log_likelihood_ratio_of_cluster(siblings / SIGMA_R, stars / SIGMA_R, SIGMA_R, math.inf)
    alone = density(siblings, True)
    expected = [density(np.vstack([siblings, star]), True) - alone - density(star[None], False) for star in stars]
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-11)
    if known == 1:
        pair = log_likelihood_ratio(siblings / SIGMA_R, stars / SIGMA_R, SIGMA_R, math.inf)
        np.testing.assert_allclose(got, pair[0], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("freedom", [FREEDOM, 3.0])
def test_what_siblings_differ_by_is_student_s_t(axes, freedom):
    got = log_likelihood_ratio(axes[:3] / SIGMA_R, axes[3:] / SIGMA_R, SIGMA_R, freedom)
    t = multivariate_t(np.zeros(3), np.diag(2 * WITHIN**2), df=freedom)
    sums, strangers = (multivariate_normal(np.zeros(3), np.diag(var)) for var in (2 * (2 - WITHIN**2), 2 * np.ones(3)))
    expected = [
        [t.logpdf(x - y) + sums.logpdf(x + y) - strangers.logpdf(x - y) - strangers.logpdf(x + y) for y in axes[3:]]
        for x in axes[:3]
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-11)
    n, q = 3, 1 / WITHIN**2 - 1
    centre, var = n * q / (n * q + 1) * axes[:3].mean(0), WITHIN**2 * (1 + q / (n * q + 1))
    alone = multivariate_normal(np.zeros(3), np.eye(3))
    of_cluster = multivariate_t(centre, np.diag(var), df=freedom).logpdf(axes[3:]) - alone.logpdf(axes[3:])
    got = log_likelihood_ratio_of_cluster(axes[:3] / SIGMA_R, axes[3:] / SIGMA_R, SIGMA_R, freedom)
    np.testing.assert_allclose(got, of_cluster, rtol=1e-11, atol=1e-11)


def test_a_dimension_of_no_weight_tells_nothing(axes):
    embedded = np.hstack([axes / SIGMA_R, np.zeros((7, 1))])
    more = log_likelihood_ratio(embedded, embedded, np.append(SIGMA_R, np.inf))
    torch.testing.assert_close(more, log_likelihood_ratio(axes / SIGMA_R, axes / SIGMA_R, SIGMA_R), rtol=0, atol=0)
    nothing = log_likelihood_ratio(embedded[:, 3:], embedded[:, 3:], np.array([np.inf]))
    assert (nothing == 0).all()
    little = log_likelihood_ratio(axes[:, :1] / 1e6, axes[:, :1] / 1e6, np.array([1e6]), math.inf)
    assert (little.abs() < 1e-5).all()


def test_it_is_symmetric_to_the_bit_and_near_twins_keep_their_digits(axes):
    embedded = axes / SIGMA_R
    got = log_likelihood_ratio(embedded, embedded, SIGMA_R)
    assert torch.equal(got, got.T)
    tight = np.array([1e-3])
    at, apart = np.array([[4e3]]), 1e-4
    same, near = (log_likelihood_ratio(at - by, at + by, tight, math.inf).item() for by in (0.0, apart / 2))
    assert abs((near - same) - (-(apart**2) / 4)) < 1e-11  # x + y is the same


@pytest.mark.parametrize("of_cluster", [False, True])
def test_what_cannot_be_meant_is_refused(axes, of_cluster):
    ratio = log_likelihood_ratio_of_cluster if of_cluster else log_likelihood_ratio
    with pytest.raises(InputError, match=r"sigma_r \(D,\) expected, got \(7, 3\), \(7, 2\), \(3,\)"):
        ratio(axes, axes[:, :2], SIGMA_R)
    with pytest.raises(InputError, match="sigma_r must be positive, infinite where a dimension tells nothing"):
        ratio(axes, axes, SIGMA_R * [1, 0, 1])
    with pytest.raises(InputError, match="freedom must be positive, infinite for a Gaussian, got 0"):
        ratio(axes, axes, SIGMA_R, 0)
    if of_cluster:
        with pytest.raises(InputError, match="give one sibling at least"):
            ratio(axes[:0], axes, SIGMA_R)


def fitted(problem, mapping=None, **options):
    field, members = (z if mapping is None else z @ mapping.T + 1 for z in (problem.field, problem.members))
    learner = ScaledComponents(score="likelihood", **options)
    learner.initialise(field, members, problem.clusters)
    return learner, learner.score(members, field)


def test_no_invertible_map_of_the_latents_matters(small):
    rng = np.random.default_rng(5)
    mapping = rng.normal(size=(4, 4)) + 2 * np.eye(4)
    floor = np.cov(rng.normal(size=(4, 50))) / 20
    for plain, mapped in (({}, {}), ({"floor": floor}, {"floor": mapping @ floor @ mapping.T})):
        _, expected = fitted(small, **plain)
        _, got = fitted(small, mapping, **mapped)
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)


def test_rsca_scores_by_distance_or_by_likelihood(small):
    learner, ratios = fitted(small)
    assert ratios.shape == (len(small.members), len(small.field))
    by_distance = ScaledComponents()
    by_distance.initialise(small.field, small.members, small.clusters)
    embedded = [by_distance(z) for z in (small.members, small.field)]
    torch.testing.assert_close(by_distance.score(small.members, small.field), -torch.cdist(*embedded))
    torch.testing.assert_close(learner(small.members), embedded[0], rtol=0, atol=0)  # the embedding is what it was
    with pytest.raises(InputError, match='score must be "distance" or "likelihood", got \'ratio\''):
        ScaledComponents(score="ratio")


def test_folds_are_judged_by_the_score(small):
    """To the number, against rates counted by hand from the scores of a learner that did not see the cluster."""
    result = leave_one_cluster_out(
        lambda: ScaledComponents(score="likelihood"),
        small.field, small.members, small.clusters, small.allowed, keep_distances=True,
    )  # fmt: skip
    for cluster, rate in result.cluster_rates.items():
        inside = small.clusters == cluster
        learner = ScaledComponents(score="likelihood")
        learner.initialise(small.field, small.members[~inside], small.clusters[~inside])
        own = learner.score(small.members[inside], small.members[inside])
        siblings = -own[tuple(np.triu_indices(int(inside.sum()), 1))]
        strangers = -learner.score(small.members[inside], small.field)[torch.from_numpy(small.allowed[inside])]
        assert rate == float((strangers <= np.median(siblings)).double().mean())
        kept_siblings, kept_strangers = result.distances[cluster]
        torch.testing.assert_close(kept_siblings, siblings)
        torch.testing.assert_close(kept_strangers.sort().values, strangers.sort().values)
        assert result.median_sibling_distance[cluster] == pytest.approx(float(np.median(siblings)))
    by_distance = leave_one_cluster_out(ScaledComponents, small.field, small.members, small.clusters, small.allowed)
    assert by_distance.cluster_rates != result.cluster_rates


def test_the_average_of_several_models_is_of_their_scores(small):
    learner = Averaged([2, 2], lambda: ScaledComponents(score="likelihood"))
    learner.initialise(small.field, small.members, small.clusters)
    assert learner.gives_scores
    parts = []
    for columns in (slice(0, 2), slice(2, 4)):
        part = ScaledComponents(score="likelihood")
        part.initialise(small.field[:, columns], small.members[:, columns], small.clusters)
        parts.append(part.score(small.members[:, columns], small.field[:, columns]))
    torch.testing.assert_close(learner.score(small.members, small.field), (parts[0] + parts[1]) / 2)
    plain = Averaged([2, 2])
    assert not plain.gives_scores


class Scoring(ScaledComponents):
    """Gives scores that folds cannot use."""

    bad = None

    def score(self, members, stars):
        scores = super().score(members, stars)
        return {"shape": scores[0], "nan": scores * torch.nan, "constant": scores * 0, "whole": scores.long()}[self.bad]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("shape", r"Scoring.score must give \(\d+, \d+\) numbers for \d+ members and \d+ stars, got float64 of shape"),
        ("whole", r"Scoring.score must give \(\d+, \d+\) numbers for \d+ members and \d+ stars, got int64 of shape"),
        ("nan", r"Scoring.score gave \d+ of \d+ values that are not finite"),
    ],
    ids=["shape", "whole", "nan"],
)
def test_scores_that_mean_nothing_are_refused(small, monkeypatch, bad, said):
    monkeypatch.setattr(Scoring, "bad", bad)
    problem = (small.field, small.members, small.clusters, small.allowed)
    with pytest.raises(InputError, match=said):
        leave_one_cluster_out(lambda: Scoring(score="likelihood"), *problem)


def test_the_same_score_for_every_pair_is_said(small, monkeypatch):
    monkeypatch.setattr(Scoring, "bad", "constant")
    problem = (small.field, small.members, small.clusters, small.allowed)
    with pytest.warns(UserWarning, match="Scoring gives every pair the same score"):
        assert leave_one_cluster_out(lambda: Scoring(score="likelihood"), *problem).rate == 1
