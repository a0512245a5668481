"""Shapes and sizes at the edge: the right number by an oracle, or a refusal that says what is wrong."""

from __future__ import annotations

import warnings

import mpmath  # comes with torch
import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from numbers_survey import BINS, SEEDS, drawn, examples, fitted, spectra

from rsca_torch import InputError, NumericalWarning, doppelganger_rate, fit_ppca
from rsca_torch.evaluation.calibration import Calibration
from rsca_torch.evaluation.cllr import minimum_cllr
from rsca_torch.learners import KISSME, LDA, RCA, PCAWhitening, Scaled, ScaledComponents
from rsca_torch.learners.floor import Repeats
from rsca_torch.learners.likelihood_ratio import (
    joint_log_ratio,
    joint_log_ratio_of_cluster,
    log_likelihood_ratio,
    log_likelihood_ratio_of_cluster,
)
from rsca_torch.ppca.graph import graph_latents
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.siblings.measure import Measure
from rsca_torch.siblings.search import nearest

AXES = np.random.default_rng(7).normal(size=(BINS, 3))
RATIOS = [log_likelihood_ratio, joint_log_ratio, log_likelihood_ratio_of_cluster, joint_log_ratio_of_cluster]


def model_of(axes=AXES, clip=None):
    noise = torch.full((len(axes),), 0.09).double()
    return MaskedPPCA(torch.tensor(axes), torch.ones(len(axes)).double(), noise, None, clip=clip)


def exactly(flux, sigma, axes):
    """(posterior mean, log-likelihood) of one star in 80 digits: its Gaussian built whole."""
    with mpmath.workdps(80):
        axes, flux, sigma = (mpmath.matrix(array.tolist()) for array in (axes, flux, sigma))
        covariance = axes * axes.T
        for number in range(len(flux)):
            covariance[number, number] += sigma[number] ** 2
        residual = flux - mpmath.ones(len(flux), 1)
        solved = mpmath.lu_solve(covariance, residual)
        total = len(flux) * mpmath.log(2 * mpmath.pi) + mpmath.log(mpmath.det(covariance)) + (residual.T * solved)[0]
        return [float(value) for value in axes.T * solved], float(-total / 2)


@examples(6)
@given(seed=SEEDS, decades=st.sampled_from([2, 4, 6]))
def test_errors_over_twelve_decades(seed, decades):
    """Sums over bins lose twice as many digits as errors are apart; what is computed does not."""
    rng = np.random.default_rng(seed)
    axes = AXES[:8]
    sigma = 10 ** rng.uniform(-decades, decades, size=(3, 8))
    flux = 1 + rng.normal(size=(3, 3)) @ axes.T + sigma * rng.normal(size=sigma.shape)
    model = model_of(axes)
    expected = [exactly(*star, axes) for star in zip(flux, sigma, strict=True)]
    # Errors of the flux itself, 1e-16, are 1e-10 of the smallest error: no more than that is asked for.
    np.testing.assert_allclose(model(flux, None, sigma), [mean for mean, _ in expected], rtol=1e-8, atol=1e-9)
    total = sum(value for _, value in expected)
    assert model.log_likelihood(flux, None, sigma) == pytest.approx(total, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("exponent", range(-12, 1))
def test_the_map_of_complete_spectra_with_one_error_far_below_the_others(exponent):
    rng = np.random.default_rng(0)
    sigma = np.full(BINS, 0.3)
    sigma[2] *= 10.0**exponent
    flux = 1 + rng.normal(size=3) @ AXES.T + sigma * rng.normal(size=BINS)
    model = MaskedPPCA(torch.tensor(AXES), torch.ones(BINS).double(), torch.as_tensor(sigma**2), None)
    expected, _ = exactly(flux, model.bin_variance.sqrt().double().numpy(), AXES)
    np.testing.assert_allclose(model.linear_map() @ torch.as_tensor(flux - 1), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("exponent", range(-12, 1))
def test_a_graph_gives_the_right_latents_or_none_of_a_star_with_one_error_far_below_the_others(exponent):
    rng = np.random.default_rng(0)
    sigma = np.full((3, BINS), 0.3)
    sigma[0, 2] *= 10.0**exponent
    flux = 1 + rng.normal(size=(3, 3)) @ AXES.T + sigma * rng.normal(size=sigma.shape)
    model = model_of()
    right = model(flux, None, sigma)
    rows = (torch.as_tensor(flux), torch.ones(flux.shape, dtype=torch.bool), torch.as_tensor(sigma))
    found = graph_latents(model, rows)
    assert found[0].isnan().all() == found[0].isnan().any() == (exponent < -6)
    known = found[:, 0].isfinite()
    torch.testing.assert_close(found[known], right[known], rtol=1e-5, atol=1e-5)


@examples(8)
@given(seed=SEEDS, exponent=st.one_of(st.floats(1, 30), st.floats(30, 300)), few=st.booleans())
def test_a_ray_of_any_height_is_set_aside_and_leaves_no_trace(seed, exponent, few):
    rng = np.random.default_rng(seed)
    flux, sigma = 1 + rng.normal(size=(4, 3)) @ AXES.T, np.full((4, BINS), 0.3)
    flux += sigma * rng.normal(size=flux.shape)
    flux[np.arange(4), rng.integers(BINS, size=4)] += 10.0**exponent
    if few:
        flux[:, 0] -= 10.0**exponent
    valid, model = np.ones(flux.shape, dtype=bool), model_of(clip=5.0)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a star whose bins are not settled in ten rounds; the oracle's neither
        aside = reference.set_aside(flux, valid, sigma**2, AXES, np.ones(BINS), 5.0)
        got, found = model(flux, valid, sigma), model.set_aside(flux, valid, sigma).numpy()
    np.testing.assert_array_equal(found, aside)
    expected, _ = reference.ppca_posterior(flux, valid & ~aside, sigma**2, AXES, np.ones(BINS))
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("height", [1e6, 1e12, 1e20])
def test_a_fit_with_a_ray_of_any_height_is_the_fit_without_that_bin(height, tolerance):
    """But for what a bin that is set aside counts: nothing, with measured noise."""
    part = drawn(2, missing=0).field
    spoiled = part.flux.copy()
    spoiled[5, 4] += height
    part.valid[5, 4] = False
    options = {"clip": 8.0, "tolerance": 1e-13, "max_iterations": 2000}
    expected = fit_ppca(part.flux, part.valid, 3, part.sigma, "measured", **options)
    found = fit_ppca(spoiled, None, 3, part.sigma, "measured", **options)
    np.testing.assert_allclose(found.loadings, expected.loadings, **tolerance["fit"])


class TestFewStarsAndBins:
    @pytest.mark.parametrize("noise", ["isotropic", "measured", "measured+scatter"])
    @pytest.mark.parametrize(("stars", "bins"), [(9, 5), (5, 9), (3, 3), (4, 3)])
    def test_the_most_components_fit_and_one_more_is_refused(self, stars, bins, noise):
        rng = np.random.default_rng(stars + bins)
        flux, most = rng.normal(size=(stars, bins)), min(stars - 1, bins) - 1
        sigma = None if noise == "isotropic" else np.full(flux.shape, 0.3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumericalWarning)
            models = [fit_ppca(flux, None, k, sigma, noise) for k in range(1, most + 1)]
        for model in models:
            assert model.loadings.isfinite().all()
            variance = np.broadcast_to(model.bin_variance.numpy(), flux.shape)
            of_oracle = reference.ppca_log_likelihood(
                flux, np.ones(flux.shape, dtype=bool), variance, model.loadings.numpy(), model.mean.numpy()
            )
            assert model.log_likelihood(flux) == pytest.approx(of_oracle)
        for too_many in (most + 1, bins, stars - 1, stars):
            if too_many > most:
                with pytest.raises(InputError, match=f"can carry between 1 and {most}"):
                    fit_ppca(flux, None, too_many, sigma, noise)

    @pytest.mark.parametrize(("stars", "bins"), [(1, 9), (9, 1), (1, 1), (2, 2), (0, 4), (4, 0)])
    def test_too_few_for_any(self, stars, bins):
        with pytest.raises(InputError, match="can carry between 1 and 0"):
            fit_ppca(np.ones((stars, bins)), None, 1)

    def test_one_star_alone_is_what_it_is_among_others_and_none_is_none(self):
        part = drawn(1).field
        model = model_of()
        every = model(part.flux, part.valid, part.sigma)
        for number in (0, 7):
            alone = model(*(array[number : number + 1] for array in (part.flux, part.valid, part.sigma)))
            np.testing.assert_allclose(alone[0], every[number], rtol=1e-12, atol=1e-13)
        assert model(part.flux[:0], part.valid[:0], part.sigma[:0]).shape == (0, 3)

    def test_no_star_of_some(self):
        part = spectra(drawn(1).field)
        assert len(part.take([])) == 0
        with pytest.raises(InputError, match="can carry"):
            fit_ppca(part.take([]), n_components=1)

    def test_a_constant_bin_says_nothing_of_stars_and_a_copied_one_says_it_twice(self):
        part = drawn(4, missing=0).field
        part.flux[:, 3] = 1.0
        part.flux[:, 5], part.sigma[:, 5] = 1 + 2 * (part.flux[:, 6] - 1), 2 * part.sigma[:, 6]
        model = fit_ppca(part.flux, None, 3, part.sigma, "measured", tolerance=1e-13)
        assert model.converged
        assert model.loadings[3].norm() < 0.02 * model.loadings.norm(dim=1).median()
        assert float(model.mean[3]) == pytest.approx(1, abs=1e-3)
        np.testing.assert_allclose(model.loadings[5], 2 * model.loadings[6], rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("noise", ["isotropic", "measured", "measured+scatter"])
    def test_spectra_that_are_all_the_same_are_refused(self, noise):
        with pytest.raises(InputError, match="are the same"):
            fit_ppca(np.ones((30, 6)), None, 2, np.full((30, 6), 0.1), noise)


class TestClusters:
    @pytest.mark.parametrize("learner", [ScaledComponents, Scaled])
    def test_five_thousand_clusters_of_two(self, learner, tolerance):
        """Of pairs the scatter is half of the squares of their differences; without a loop over clusters."""
        rng = np.random.default_rng(0)
        field, half = rng.normal(size=(200, 3)), rng.normal(size=(5000, 3))
        differences = 0.2 * rng.normal(size=(5000, 3)) * [1, 2, 3]
        members = np.concatenate([half, half + differences])
        model = learner(robust=False)
        model.initialise(field, members, [f"c{n}" for n in range(5000)] * 2)
        inside, of_field = differences.T @ differences / 2 / 5000, np.cov(field, rowvar=False)
        if learner is ScaledComponents:
            share = np.linalg.eigvals(np.linalg.solve(of_field, inside)).real
        else:
            share = np.diag(inside) / np.diag(of_field)
        expected = np.sort(1 / np.sqrt(1 / share - 1))
        np.testing.assert_allclose(model.sigma_r, expected, **tolerance[torch.float64])

    def test_clusters_of_two_and_one_cluster_of_two(self):
        survey = drawn(3, sizes=(2, 2, 2))
        assert fitted(survey, floor="noise", trim=None).sigma_r.isfinite().any()
        survey.labels[2:] = ""
        with pytest.warns(NumericalWarning) as said:
            assert fitted(survey, floor="noise", trim=None).sigma_r.isfinite().any()
        assert any("4 of 6 members have no label" in str(each.message) for each in said)
        with pytest.raises(InputError, match="at most 1"):
            fitted(drawn(3, sizes=(2,)), floor=None, trim=None)

    @pytest.mark.parametrize("kind", [ScaledComponents, Scaled, RCA, LDA, KISSME, PCAWhitening])
    @pytest.mark.parametrize("unit", [1e160, 1e-160])
    def test_latents_whose_squares_float64_does_not_hold_are_refused(self, small, kind, unit):
        with pytest.raises(InputError, match="another unit"):
            kind().initialise(small.field * unit, small.members * unit, small.clusters)

    @pytest.mark.parametrize("unit", [1e160, 1e-160])
    def test_likewise_members_of_an_ordinary_field(self, small, unit):
        with pytest.raises(InputError, match="siblings' difference"):
            ScaledComponents().initialise(small.field, small.members * unit, small.clusters)

    @pytest.mark.parametrize("unit", [1e160, 1e-160])
    def test_likewise_repeats(self, unit):
        with pytest.raises(InputError, match="another unit"):
            Repeats.of(np.random.default_rng(0).normal(size=(20, 2)) * unit, np.arange(20) // 2)


class TestUnits:
    @pytest.mark.parametrize("unit", [1e-320, 1e-200, 1e160, 1e290])
    def test_rates_of_any_unit(self, unit):
        members, field = np.array([[0.0, 0], [3, 4], [6, 8]]), np.array([[0.0, 1], [30, 40], [9, 12]])
        assert doppelganger_rate(unit * members, unit * field) == reference.doppelganger_rate(members, field)

    def test_siblings_too_far_apart_to_be_compared_are_refused(self):
        with pytest.raises(InputError, match="another unit"):
            doppelganger_rate(np.array([[-1e308], [1e308]]), np.zeros((3, 1)))

    @pytest.mark.parametrize("unit", [1e-30, 1e-21, 3e-21, 1e-19, 1e20, 1e30, 1e100])
    @pytest.mark.parametrize("axes", [2, 8, 30])
    def test_the_search_finds_in_any_unit_what_differences_say(self, unit, axes):
        """At 1e-21 squares are below what float32 holds in full, from 1e19 on beyond all that it holds."""
        for seed in range(4):
            stars = np.random.default_rng(seed).normal(size=(900, axes)) * unit
            far = ((stars[:5, None] - stars) ** 2).sum(-1)
            found = nearest(stars[:5], stars, 4)
            assert found.rows.tolist() == np.argsort(far, axis=1, kind="stable")[:, :4].tolist()

    @pytest.mark.parametrize(("dtype", "unit"), [("float64", 1e200), ("float32", 1e30)])
    def test_flux_whose_squares_are_no_numbers_is_refused(self, dtype, unit):
        part = drawn(0).field
        with pytest.raises(InputError, match=f"no numbers of {dtype}"):
            fit_ppca(part.flux * unit, part.valid, 2, products=dtype)


class TestRatios:
    @pytest.mark.parametrize("ratio", RATIOS)
    @pytest.mark.parametrize("bad", [np.nan, np.inf, 1e160])
    def test_what_is_no_embedding_is_refused(self, ratio, bad):
        with pytest.raises(InputError, match="must be finite"):
            ratio(np.array([[0.0, 1.0]]), np.array([[bad, 1.0]]), np.array([0.1, 0.2]))

    @pytest.mark.parametrize("ratio", RATIOS)
    @pytest.mark.parametrize("bad", [np.nan, 0.0, -1.0, 1e-160])
    def test_what_is_no_spread_is_refused(self, ratio, bad):
        for make in (lambda: ratio(np.ones((1, 2)), np.ones((1, 2)), np.array([0.1, bad])),):
            with pytest.raises(InputError, match="sigma_r must be positive"):
                make()
        with pytest.raises(InputError, match="sigma_r must be positive"):
            Measure.ratio(np.array([0.1, bad]))

    @pytest.mark.parametrize("ratio", RATIOS)
    @pytest.mark.parametrize("sigma", [1e-3, 1e-6, 1e-9, 1e-30])
    def test_a_spread_however_small(self, ratio, sigma):
        """1 - rho^2 with rho next to 1: by its logarithm in 80 digits, of two stars at the middle."""
        with mpmath.workdps(80):
            square = mpmath.mpf(sigma) ** 2
            expected = float(-mpmath.log(1 - (1 / (1 + square)) ** 2) / 2)
        found = ratio(np.zeros((1, 1)), np.zeros((1, 1)), np.array([sigma]), np.inf)
        assert float(found.flatten()[0]) == pytest.approx(expected, rel=1e-12)
        measure = Measure.ratio(np.array([sigma]))
        assert measure.constant == pytest.approx(expected, rel=1e-12)

    def test_scores_that_are_none_are_refused(self):
        scores = {f"c{n}": (torch.tensor([1.0, 2.0]), torch.tensor([-1.0, 0.5])) for n in range(6)}
        members = dict.fromkeys(scores, 2)
        for bad in (torch.nan, torch.inf):
            spoiled = {**scores, "c3": (torch.tensor([1.0, bad]), torch.tensor([0.0]))}
            with pytest.raises(InputError, match="leave those pairs out"):
                Calibration.fit(spoiled, members, 9)
        with pytest.raises(InputError, match="c3 are NaN"):
            minimum_cllr({**scores, "c3": (torch.tensor([torch.nan]), torch.tensor([0.0]))}, members)


def test_rounding_is_not_blamed_on_bins_that_were_set_aside():
    """A fit in float32 to a tolerance below its rounding: where nothing is set aside, nothing is said of it."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        flux = 1 + rng.normal(size=(60, 2)) @ rng.normal(size=(2, 12)) + 0.3 * rng.normal(size=(60, 12))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert fit_ppca(flux, None, 2, products="float32").converged
    sigma = 10 ** np.random.default_rng(0).uniform(-6, 6, size=flux.shape)
    flux = 1 + rng.normal(size=(60, 2)) @ rng.normal(size=(2, 12)) + sigma * rng.normal(size=sigma.shape)
    with pytest.warns(NumericalWarning, match=r"rounding moves the likelihood|in \d+ iterations"):
        assert not fit_ppca(flux, None, 2, sigma, products="float32").converged
