"""Bins that the model cannot explain, in the fit and in the model; products in float32."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ppca_problems import (
    EVERY_FIT,
    EVERY_NOISE,
    TIGHT,
    arguments_of,
    close,
    covariance,
    same,
)

import rsca_torch.ppca.e_step
import rsca_torch.ppca.extrapolation
import rsca_torch.spectra.blocks
from rsca_torch import NumericalWarning, fit_ppca
from rsca_torch.ppca.e_step import Model, Parameters, Posterior
from rsca_torch.ppca.extrapolation import run_em
from rsca_torch.spectra.blocks import Block


class TestClip:
    """Bins that the model cannot explain."""

    @EVERY_NOISE
    def test_planted_outliers_are_found_and_do_not_move_the_fit(self, planted, noise, tolerance):
        """With known noise what is set aside is as if it had been invalid: one maximum. An estimated variance has them
        in its number of bins (1.7, 1.10), which moves it by their share, here below 0.5 % (3 % in a bin of 90)."""
        data = planted(51, noise, n_stars=120)
        flux, valid, sigma = arguments_of(data, noise)
        model = fit_ppca(flux, valid, 2, sigma, noise, clip=8.0, **TIGHT)
        np.testing.assert_array_equal(model.set_aside(flux, valid, sigma), data.rays)
        clean = fit_ppca(data.clean, valid & ~data.rays, 2, sigma, noise, **TIGHT)
        moved = fit_ppca(flux, valid, 2, sigma, noise, **TIGHT)
        limit = tolerance["fit"] if noise == "measured" else {"rtol": 0, "atol": 0.02}
        close(covariance(model), covariance(clean), **limit)
        close(model.mean, clean.mean, **limit)
        close(model.scatter, clean.scatter, **limit)
        assert np.abs(covariance(moved) - covariance(clean)).max() > 0.1
        latents = clean(data.clean, valid & ~data.rays, sigma)
        close(
            model(flux, valid, sigma),
            latents,
            **(tolerance["fit"] if noise == "measured" else {"rtol": 0, "atol": 0.05}),
        )

    @EVERY_NOISE
    def test_history_never_falls_and_ends_at_the_likelihood(self, planted, noise):
        data = planted(52, noise)
        flux, valid, sigma = arguments_of(data, noise)
        model = fit_ppca(flux, valid, 2, sigma, noise, clip=5.0, tolerance=1e-10)
        assert model.converged
        assert (np.diff(model.history) >= 0).all()
        per_bin = model.log_likelihood(flux, valid, sigma) / valid.sum()
        assert per_bin == pytest.approx(model.history[-1], abs=1e-8)

    @EVERY_NOISE
    def test_the_rule_of_the_fit_is_that_of_the_model(self, planted, noise):
        data = planted(53, noise)
        flux, valid, sigma = arguments_of(data, noise)
        seen = []

        def em_loop(*arguments):
            seen.append(run_em(*arguments))
            return seen[-1]

        model = fit_ppca(flux, valid, 2, sigma, noise, clip=5.0, em_loop=em_loop, **TIGHT)
        aside = model.set_aside(flux, valid, sigma)
        assert aside.any()
        assert seen[0].share_set_aside == pytest.approx(int(aside.sum()) / int(valid.sum()), rel=1e-12)

    @EVERY_NOISE
    def test_a_threshold_that_nothing_reaches_changes_nothing(self, scattered, tolerance, noise):
        data = scattered(54)
        flux, valid, sigma = arguments_of(data, noise)
        without = fit_ppca(flux, valid, 2, sigma, noise)
        assert without.clip is None
        model = fit_ppca(flux, valid, 2, sigma, noise, clip=1e6)
        assert model.clip == 1e6
        if noise == "isotropic":  # the sums are made in another order there
            close(model.history, without.history, **tolerance[torch.float64])
            close(model.loadings, without.loadings, **tolerance["fit"])
        else:
            assert same(model, without)
            assert torch.equal(model(flux, valid, sigma), without(flux, valid, sigma))

    @EVERY_NOISE
    @pytest.mark.parametrize("junk", [np.nan, np.inf, 1e30])
    def test_an_invalid_bin_is_never_counted(self, planted, noise, junk):
        data = planted(55, noise)
        flux, valid, sigma = arguments_of(data, noise)
        model = fit_ppca(flux, valid, 2, sigma, noise, clip=8.0)
        aside = model.set_aside(np.where(valid, flux, junk), valid, sigma)
        np.testing.assert_array_equal(aside, data.rays)
        valid = valid & ~data.rays
        assert not model.set_aside(flux, valid, sigma).any()

    @EVERY_NOISE
    @pytest.mark.parametrize("elements", [1, 12 * 7])
    def test_the_split_into_blocks_changes_nothing(self, planted, noise, elements, monkeypatch, tolerance):
        data = planted(56, noise)
        flux, valid, sigma = arguments_of(data, noise)
        whole = fit_ppca(flux, valid, 2, sigma, noise, clip=8.0, **TIGHT)
        latents, aside = whole(flux, valid, sigma), whole.set_aside(flux, valid, sigma)
        monkeypatch.setattr(rsca_torch.spectra.blocks, "BLOCK_ELEMENTS", elements)
        split = fit_ppca(flux, valid, 2, sigma, noise, clip=8.0, **TIGHT)
        close(split.loadings, whole.loadings, **tolerance["fit"])
        close(split.scatter, whole.scatter, **tolerance["fit"])
        close(whole(flux, valid, sigma), latents, **tolerance[torch.float64])
        assert torch.equal(whole.set_aside(flux, valid, sigma), aside)
        assert aside.any()

    @EVERY_NOISE
    @settings(max_examples=6)
    @given(stars=st.permutations(range(40)))
    def test_the_order_of_stars_does_not_matter(self, planted, noise, stars, tolerance):
        data = planted(57, noise, n_stars=40, n_bins=18)
        flux, valid, sigma = arguments_of(data, noise)
        other_sigma = None if sigma is None else sigma[stars]
        options = {"clip": 8.0, "tolerance": 1e-12, "max_iterations": 2000}
        model = fit_ppca(flux, valid, 2, sigma, noise, **options)
        other = fit_ppca(flux[stars], valid[stars], 2, other_sigma, noise, **options)
        close(other.loadings, model.loadings, **tolerance["fit"])
        close(other.scatter, model.scatter, **tolerance["fit"])
        aside = model.set_aside(flux, valid, sigma)
        assert torch.equal(other.set_aside(flux[stars], valid[stars], other_sigma), aside[stars])

    @pytest.mark.parametrize("many", [20, 22])
    def test_more_than_one_in_a_hundred_set_aside_is_said(self, many, make_spectra):
        data = make_spectra(58, n_stars=100, n_bins=20, missing=0.0)
        data.flux[np.arange(many), np.arange(many) % 20] += 15
        message = r"^1.1% of the valid bins .* 8 standard .*set aside.*larger clip$"
        with pytest.warns(NumericalWarning, match=message) if many > 20 else nullcontext():
            model = fit_ppca(data.flux, n_components=2, clip=8.0)
        assert int(model.set_aside(data.flux).sum()) == many


def test_stars_whose_bins_are_not_settled_are_counted(planted, monkeypatch):
    data = planted(53, "measured")
    flux, valid, sigma = arguments_of(data, "measured")
    model = fit_ppca(flux, valid, 2, sigma, "measured", clip=5.0)
    settled = int(model.set_aside(flux, valid, sigma).any(1).sum())  # and says nothing
    monkeypatch.setattr(rsca_torch.ppca.e_step, "ROUNDS", 1)  # nobody is asked again
    monkeypatch.setattr(rsca_torch.spectra.blocks, "BLOCK_ELEMENTS", 12 * 7)  # once for all blocks
    with pytest.warns(NumericalWarning, match="bins set aside were not settled") as said:
        model(flux, valid, sigma)
    (message,) = (str(warning.message) for warning in said)
    counted = int(message.split()[0])
    assert 0 < counted < len(flux)
    assert counted >= settled // 2
    monkeypatch.undo()
    alone = [model(flux[[n]], valid[[n]], sigma[[n]]) for n in range(len(flux))]
    torch.testing.assert_close(torch.cat(alone), model(flux, valid, sigma), rtol=1e-9, atol=1e-12)


@EVERY_FIT
def test_products_of_float32_are_those_of_float64(planted, noise, clip):
    """From the same maximum; how far off a fit stops is another matter: where rounding outweighs what it gains."""
    data = planted(59, noise, n_stars=200)
    flux, valid, sigma = arguments_of(data, noise)
    double = fit_ppca(flux, valid, 2, sigma, noise, clip=clip, tolerance=1e-9)
    options = {"clip": clip, "tolerance": 1e-4, "start": double}
    single = fit_ppca(flux, valid, 2, sigma, noise, products="float32", **options)
    assert single.loadings.dtype == single.scatter.dtype == torch.float64
    scale = float(double.loadings.abs().max())
    close(single.loadings / scale, double.loadings / scale, rtol=0, atol=1e-4)
    close(single.scatter, double.scatter, rtol=0, atol=1e-4)
    close(single(flux, valid, sigma), double(flux, valid, sigma), rtol=0, atol=1e-3)
    assert single.history[-1] == pytest.approx(double.history[-1], rel=1e-5)
    assert not same(single, double)


def by_the_rule(weight, residual, loadings, clip):
    """(n, P) bool: all bins of all stars in every round of eq. 1.12; and whether more rounds would change nothing."""
    aside = np.zeros(weight.shape, dtype=bool)
    for _ in range(rsca_torch.ppca.e_step.ROUNDS):
        used = np.where(aside, 0, weight)
        precision = np.eye(loadings.shape[1]) + np.einsum("np,pi,pj->nij", used, loadings, loadings)
        mean = np.linalg.solve(precision, ((used * residual) @ loadings)[..., None])[..., 0]
        before, aside = aside, weight * (residual - mean @ loadings.T) ** 2 > clip**2
        if (before == aside).all():
            return aside, True
    return aside, False


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@given(seed=st.integers(0, 2**16), clip=st.sampled_from([3.0, 5.0, 8.0]))
def test_what_is_set_aside_is_found_without_looking_at_every_bin_again(dtype, seed, clip):
    """Rays of 10 to 1000 standard deviations, which move their stars' latents far."""
    rng = np.random.default_rng(seed)
    n, n_bins = 30, 20
    loadings, weight = rng.normal(size=(n_bins, 3)), rng.uniform(0.5, 2, size=(n, n_bins))
    residual = rng.normal(size=(n, 3)) @ loadings.T + rng.normal(size=(n, n_bins)) / np.sqrt(weight)
    rays = rng.random((n, n_bins)) < 0.1
    residual[rays] += 10 ** rng.uniform(1, 3, size=int(rays.sum()))
    expected, settled = by_the_rule(weight, residual, loadings, clip)
    theta = Parameters(*(torch.from_numpy(array) for array in (loadings, np.zeros(n_bins), np.zeros(n_bins))))
    block = Block(torch.from_numpy(residual), torch.zeros(n, n_bins, dtype=torch.bool), torch.from_numpy(1 / weight), 0)
    block = block._replace(flux=block.flux.to(dtype), noise=block.noise.to(dtype))
    model = Model(theta, block.flux)
    posterior = Posterior(block, model, clip)
    got = np.zeros_like(expected)
    got[posterior.set_aside.stars, posterior.set_aside.bins] = True
    np.testing.assert_array_equal(got, expected)
    assert (model.unsettled == 0) == settled
    order = posterior.set_aside.stars * n_bins + posterior.set_aside.bins
    assert torch.equal(order, order.sort().values)
