"""Where EM starts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ppca_problems import NOISES, blocks_of, close

import rsca_torch.ppca.extrapolation
import rsca_torch.ppca.initialisation
import rsca_torch.ppca.m_step
from rsca_torch import fit_ppca
from rsca_torch.ppca.extrapolation import run_em
from rsca_torch.ppca.initialisation import first_guess
from rsca_torch.spectra.blocks import Blocks, bin_sums


def test_of_the_guess_and_the_end_of_a_small_fit(small_scattered):
    """The guess is no maximum: tests that start from it have something to gain."""
    for noise in NOISES:
        blocks = blocks_of(small_scattered(1), noise)
        theta = first_guess(blocks, bin_sums(blocks), 2, 1e-9, None)
        ascent = run_em(blocks, theta, 1e-9, 1000)
        assert ascent.converged
        assert ascent.history[-1] > ascent.history[0] + 1e-3


def test_the_start_on_some_stars_is_another_way_to_the_same_maximum(small_scattered, monkeypatch, tolerance):
    data = small_scattered(8, n_stars=400)
    for noise in NOISES:
        monkeypatch.undo()
        blocks = blocks_of(data, noise)
        direct = run_em(blocks, first_guess(blocks, bin_sums(blocks), 2, 1e-9, None), 1e-13, 20_000)
        monkeypatch.setattr(rsca_torch.ppca.initialisation, "START_STARS", 50)
        monkeypatch.setattr(rsca_torch.ppca.initialisation, "START_LEVELS", {noise: ((40, 5), (90, 2), (300, 1))})
        sizes, sample = [], Blocks.sample
        monkeypatch.setattr(Blocks, "sample", lambda self, size: sizes.append(size) or sample(self, size))  # noqa: B023
        theta = first_guess(blocks, bin_sums(blocks), 2, 1e-9, None)
        assert sizes == [50, 512, 40, 90]  # 300 of 400 are too many to be worth it
        ascent = run_em(blocks, theta, 1e-13, 20_000)
        assert ascent.converged
        assert direct.converged
        products = [reached.loadings @ reached.loadings.T for reached in (ascent.reached, direct.reached)]
        close(*products, **tolerance["fit"])
        close(ascent.reached.mean, direct.reached.mean, **tolerance["fit"])
        close(ascent.reached.scatter, direct.reached.scatter, **tolerance["fit"])


def test_a_sample_is_spread_over_all_stars(make_spectra):
    data = make_spectra(9, n_stars=100)
    sample = blocks_of(data, "isotropic").sample(30)
    assert list(sample.stars) == list(range(0, 100, 3))
    close(next(iter(sample)).flux, np.where(data.valid, data.flux, 0)[::3], rtol=0, atol=0)
    assert list(itertools.islice(sample, 1))


@pytest.mark.parametrize(("stars", "value"), [(5, 100.0), (20, 30.0), (1, 1000.0)])
@pytest.mark.parametrize("noise", ["measured", "measured+scatter"])
def test_gross_outliers_make_no_axis(stars, value, noise):
    """Mean and spread of a bin would follow them, and then a component: the start takes medians."""
    rng = np.random.default_rng(0)
    loadings, sigma = 0.1 * rng.normal(size=(30, 2)), np.full((3000, 30), 0.02)
    flux = 1 + rng.normal(size=(3000, 2)) @ loadings.T + sigma * rng.normal(size=sigma.shape)
    flux[:stars, 7] = value
    model = fit_ppca(flux, None, 3, sigma, noise, 1e-6, clip=5.0)
    aside = model.set_aside(flux, None, sigma)
    assert aside[:stars, 7].all()
    assert aside.sum() < stars + 5
    assert float(model.mean[7]) == pytest.approx(1, abs=0.01)
    assert float(model.loadings[7].norm()) == pytest.approx(np.linalg.norm(loadings[7]), rel=0.1)
