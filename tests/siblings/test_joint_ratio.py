"""The ratio that siblings are ranked by, against densities of scipy's written out star by star."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import block_diag
from scipy.stats import multivariate_normal, multivariate_t

from rsca_torch import InputError
from rsca_torch.learners.likelihood_ratio import joint_log_ratio, joint_log_ratio_of_cluster
from rsca_torch.siblings.measure import Measure

SIGMA_R = np.array([0.3, 0.8, 2.0])


def drawn(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3)) / SIGMA_R


def log_density(sphered, siblings, freedom):
    """Of n + 1 stars (in sphered latents), the first `siblings` of which share a centre, all coordinates together."""
    rho = 1 / (1 + SIGMA_R**2)
    shapes = []
    for share in rho:
        together = share * np.ones((siblings, siblings)) + (1 - share) * np.eye(siblings)
        shapes.append(block_diag(together, np.eye(len(sphered) - siblings)))
    numbers, shape = sphered.T.ravel(), block_diag(*shapes)
    if math.isinf(freedom):
        return multivariate_normal(cov=shape).logpdf(numbers)
    return multivariate_t(shape=shape, df=freedom).logpdf(numbers)


@pytest.mark.parametrize("freedom", [3.0, 30.0, math.inf])
@pytest.mark.parametrize("known", [1, 2, 7])
def test_of_a_cluster_is_what_the_densities_say(freedom, known, tolerance):
    siblings, stars = drawn(known), drawn(4, seed=1)
    expected = []
    for star in stars:
        sphered = np.concatenate([siblings, star[None]]) * SIGMA_R
        expected.append(log_density(sphered, known + 1, freedom) - log_density(sphered, known, freedom))
    found = joint_log_ratio_of_cluster(siblings, stars, SIGMA_R, freedom)
    torch.testing.assert_close(found, torch.tensor(expected), **tolerance[torch.float64])


@pytest.mark.parametrize("freedom", [3.0, 30.0, math.inf])
def test_of_a_pair_is_that_of_a_cluster_of_one(freedom, tolerance):
    one, other = drawn(5), drawn(4, seed=1)
    pairs = joint_log_ratio(one, other, SIGMA_R, freedom)
    for number in range(5):
        alone = joint_log_ratio_of_cluster(one[number : number + 1], other, SIGMA_R, freedom)
        torch.testing.assert_close(pairs[number], alone, **tolerance[torch.float64])


def test_the_order_of_members_does_not_matter_and_one_more_in_the_middle_makes_it_surer():
    siblings, star = drawn(6) / 10, torch.zeros(1, 3).double()
    there = joint_log_ratio_of_cluster(siblings, star, SIGMA_R)
    assert torch.allclose(joint_log_ratio_of_cluster(siblings[::-1].copy(), star, SIGMA_R), there)
    assert there > joint_log_ratio_of_cluster(siblings[:2], star, SIGMA_R)


def test_a_dimension_that_tells_nothing_has_no_part():
    wide, sigma_r = np.append(drawn(5), np.arange(5.0)[:, None], 1), np.append(SIGMA_R, np.inf)
    assert torch.equal(joint_log_ratio(wide, wide, sigma_r), joint_log_ratio(wide[:, :3], wide[:, :3], SIGMA_R))
    one, other = Measure.ratio(sigma_r), Measure.ratio(SIGMA_R)
    assert one.constant == other.constant
    assert one.power == other.power


@pytest.mark.parametrize("freedom", [0.0, -1.0, math.nan])
def test_a_freedom_that_is_none_is_refused(freedom):
    for call in (joint_log_ratio, joint_log_ratio_of_cluster):
        with pytest.raises(InputError, match="freedom must be positive"):
            call(drawn(2), drawn(2), SIGMA_R, freedom)
    with pytest.raises(InputError, match="finite freedom must be positive"):
        Measure.ratio(SIGMA_R, freedom)


def test_a_model_that_tells_nothing_ranks_nothing():
    with pytest.raises(InputError, match="no feature of this model tells siblings apart"):
        Measure.ratio(np.full(3, np.inf))
