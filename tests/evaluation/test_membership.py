"""How probable it is that a listed member is none, against the definitions written out."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit

from rsca_torch import InputError, ScaledComponents
from rsca_torch.evaluation.calibration import Calibration
from rsca_torch.evaluation.membership import membership
from rsca_torch.learners.likelihood_ratio import log_likelihood_ratio_of_cluster
from rsca_torch.training.members import Members

make = partial(ScaledComponents, floor=0.01 * np.eye(4), trim=2.0)


@pytest.fixture
def listed(make_clusters):
    """(field, members, who is wrong): in each of seven clusters of six one is a field star."""
    problem = make_clusters(spreads=(0.1, 0.1, 0.12, 0.15), sizes=(6,) * 7, n_field=200)
    z, wrong = torch.from_numpy(problem.members), np.zeros(42, dtype=bool)
    for name in np.unique(problem.clusters):
        wrong[np.flatnonzero(problem.clusters == name)[0]] = True
    z[torch.from_numpy(wrong)] = torch.from_numpy(problem.field)[:7]
    return torch.from_numpy(problem.field), Members(z, problem.clusters, problem.allowed), wrong


def against_the_others(learner, members, kept, rows, cluster):
    """Each of these members against the kept others of a cluster."""
    found = []
    for row in rows:
        others = kept & (members.labels == cluster) & (np.arange(len(kept)) != row)
        embedded = learner(members.z[torch.from_numpy(others)])
        found.append(log_likelihood_ratio_of_cluster(embedded, learner(members.z[row : row + 1]), learner.sigma_r)[0])
    return torch.stack(found)


def test_against_the_definition(listed):
    field, members, wrong = listed
    kept, prior = ~wrong, 0.2
    got = membership(make, field, members, kept, prior)
    scores, compared = {}, {}
    for cluster in members.clusters():
        here = members.labels == cluster
        learner = make()
        learner.initialise(field, members.z[torch.from_numpy(~here)], members.labels[~here])
        rows = np.flatnonzero(here)
        own = against_the_others(learner, members, kept, rows, cluster)
        torch.testing.assert_close(got.ratio[rows], own)
        compared[cluster] = set(np.flatnonzero(members.flags[rows].any(axis=0)).tolist())
        known = learner(members.z[torch.from_numpy(here & kept)])
        strangers = log_likelihood_ratio_of_cluster(known, learner(field[sorted(compared[cluster])]), learner.sigma_r)
        scores[cluster] = own, strangers
    for cluster in members.clusters():
        others = {name: each for name, each in scores.items() if name != cluster}
        n_field = len(set().union(*(compared[name] for name in others)))
        line = Calibration.fit(others, dict.fromkeys(others, 6), n_field, wrong=prior)
        bounded = line(scores[cluster][0]).clamp(-math.log(36 + 1), math.log(n_field + 1))
        expected = 1 / (1 + (1 - prior) / prior * bounded.exp())
        torch.testing.assert_close(got.wrong[torch.from_numpy(members.labels == cluster)], expected)
    assert (got.prior, got.clusters) == (prior, 7)
    assert (got.wrong[torch.from_numpy(wrong)] > 0.5).all()
    assert (got.wrong[torch.from_numpy(~wrong)] < 0.5).all()


def test_strangers_among_what_is_listed_are_allowed_for():
    """The log odds of being listed are ln((1 - w) r + w): an optimiser without derivatives finds the same line."""
    rng = np.random.default_rng(3)
    right, strangers = rng.normal(3, math.sqrt(6), 900), rng.normal(-3, math.sqrt(6), 1000)
    listed = np.concatenate([right, rng.normal(-3, math.sqrt(6), 100)])
    scores = {"M 67": (torch.from_numpy(listed / 0.5), torch.from_numpy(strangers / 0.5))}
    found = Calibration.fit(scores, {"M 67": 2}, 1000, wrong=0.1)
    assert found.slope == pytest.approx(0.5, rel=0.1)
    assert found.offset == pytest.approx(0, abs=0.3)
    plain = Calibration.fit(scores, {"M 67": 2}, 1000)
    assert plain.slope < 0.8 * found.slope

    def cost(line):
        odds = 0.9 * np.exp(line[0] * np.concatenate([listed, strangers]) / 0.5 + line[1]) + 0.1
        target = np.where(np.arange(2000) < 1000, 1001 / 1002, 1 / 1002)
        return float(np.mean(np.log1p(odds) - target * np.log(odds)))

    best = minimize(cost, [0.3, 0.3], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-14}).x
    assert (found.slope, found.offset) == pytest.approx(tuple(best), abs=1e-5)


def test_uncalibrated_it_is_the_ratio_as_it_comes(listed):
    field, members, wrong = listed
    got = membership(make, field, members, ~wrong, 0.1, calibrate=False)
    assert got.clusters == 0
    np.testing.assert_allclose(got.wrong, expit(-got.ratio.numpy() + math.log(0.1 / 0.9)), rtol=1e-12)
    few = members[np.isin(members.labels, ["NGC 0", "NGC 1", "NGC 2", "NGC 3"])]
    assert membership(make, field, few, ~wrong[np.isin(members.labels, few.labels)]).clusters == 0
    in_sample = membership(make, field, few, np.ones(24, dtype=bool), held_out=False)
    learner = make()
    learner.initialise(field, few.z, few.labels)
    rows = np.flatnonzero(few.labels == "NGC 1")
    expected = against_the_others(learner, few, np.ones(24, dtype=bool), rows, "NGC 1")
    torch.testing.assert_close(in_sample.ratio[rows], expected)


def test_nobody_kept_is_not_known(listed):
    field, members, wrong = listed
    kept = ~wrong & (members.labels != "NGC 2")
    got = membership(make, field, members, kept)
    np.testing.assert_array_equal(got.wrong.isnan(), members.labels == "NGC 2")
    assert got.clusters == 6


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, math.nan], ids=["0", "1", "negative", "nan"])
def test_a_prior_that_is_none_is_refused(listed, prior):
    with pytest.raises(InputError, match=r"prior=.*the share of wrong ones among the listed members must lie between"):
        membership(make, listed[0], listed[1], ~listed[2], prior)
