"""One E-step against the oracle: sums, and bins that are set aside."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from ppca_problems import EVERY_NOISE, any_parameters, as_parameters, blocks_of, close, variances

import rsca_torch.ppca.extrapolation
import rsca_torch.ppca.initialisation
import rsca_torch.ppca.m_step
from rsca_torch import fit_ppca
from rsca_torch.ppca.e_step import Model, Posterior
from rsca_torch.ppca.m_step import moments_of
from rsca_torch.ppca.weights import DenseWeights, ZeroOneWeights


class TestZeroOneWeights:
    """Bins that few stars lack are summed over all stars, minus what is lacking: the same sums in another order."""

    @given(
        seed=st.integers(0, 2**16), missing=st.sampled_from([0.0, 0.1, 0.6, 1.0]), complete=st.sampled_from([0, 0.5, 1])
    )
    def test_the_sums_are_those_of_the_products(self, tolerance, seed, missing, complete):
        rng = np.random.default_rng(seed)
        unused, complete = torch.from_numpy(rng.random((9, 7)) < missing), torch.from_numpy(rng.random(7) < complete)
        valid = (~unused).double().numpy()
        bins, stars = torch.from_numpy(rng.normal(size=(7, 4))), torch.from_numpy(rng.normal(size=(9, 4)))
        for dtype in (torch.float32, torch.float64):
            counted = ZeroOneWeights(unused, complete, dtype)
            close(counted.over_bins(bins.to(dtype)), valid @ bins.numpy(), **tolerance[dtype])
            for weights in (counted, DenseWeights((~unused).to(dtype))):
                total = torch.ones(7, 4, dtype=dtype)
                weights.over_stars(stars.to(dtype), total)
                close(total, 1 + valid.T @ stars.numpy(), **tolerance[dtype])

    @given(seed=st.integers(0, 2**16))
    def test_an_iteration_is_the_oracles(self, small_scattered, tolerance, seed):
        data = small_scattered(seed, n_stars=15, n_bins=6, missing=0.2)
        data.valid[:4] = True
        loadings, mean, variance = any_parameters(seed, 6, "isotropic")
        blocks = blocks_of(data, "isotropic")
        blocks.nearly_complete = torch.tensor([True, False, True, True, False, True])
        moments = moments_of(blocks, as_parameters((loadings, mean, variance)))
        expected = reference.em_step(
            data.flux, data.valid, np.ones_like(data.flux), loadings, mean, float(variance), True, True
        )
        after, slow = moments.maximise()
        assert slow is None
        close(after.loadings @ after.loadings.T, expected[0] @ expected[0].T, **tolerance[torch.float64])
        close(after.mean, expected[1], **tolerance[torch.float64])
        close(after.scatter, expected[2], **tolerance[torch.float64])
        likelihood = reference.ppca_log_likelihood(
            data.flux, data.valid, np.full(data.flux.shape, variance), loadings, mean
        )
        assert moments.log_likelihood == pytest.approx(likelihood / data.valid.sum(), rel=1e-9)

    def test_a_fit_looks_for_nearly_complete_bins_where_noise_is_isotropic(self, small_scattered, monkeypatch):
        seen = []
        monkeypatch.setattr(
            "rsca_torch.ppca.e_step.ZeroOneWeights", lambda *given: seen.append(given[1]) or ZeroOneWeights(*given)
        )
        data = small_scattered(3, missing=0.0)
        data.valid[:, 5] = np.arange(60) % 3 > 0
        fit_ppca(data.flux, data.valid, 2, noise="isotropic")
        assert (seen[0] == torch.tensor([True] * 5 + [False] + [True] * 2)).all()
        seen.clear()
        fit_ppca(data.flux, data.valid, 2, noise="isotropic", clip=6.0)
        fit_ppca(data.flux, data.valid, 2, data.sigma)
        assert not seen


class TestClip:
    """Eq. 1.12, with dense linear algebra until nothing changes."""

    @EVERY_NOISE
    @given(seed=st.integers(0, 2**16), clip=st.sampled_from([2.0, 3.0, 6.0]))
    def test_an_iteration_is_the_oracles(self, small_scattered, tolerance, noise, seed, clip):
        data = small_scattered(seed, n_stars=15, n_bins=6, missing=0.2)
        rng = np.random.default_rng(seed)
        data.flux[rng.random(data.flux.shape) < 0.05] += 20
        data.valid[:8] = True
        loadings, mean, scatter = any_parameters(seed, 6, noise)
        loadings, mean = loadings / 2, 1 + mean / 5  # most bins are near the model
        variance = variances(data, noise, scatter)
        aside = reference.set_aside(data.flux, data.valid, variance, loadings, mean, clip)
        if (data.valid & ~aside).sum(0).min() < 4:
            return  # a bin that the plane fits exactly has no misfit but rounding
        theta = as_parameters((loadings, mean, scatter))
        blocks = blocks_of(data, noise)
        posterior = Posterior(blocks[0], Model(theta, blocks[0].flux), clip)
        means, covariances = reference.ppca_posterior(data.flux, data.valid & ~aside, variance, loadings, mean)
        close(posterior.mean, means, **tolerance[torch.float64])
        close(posterior.covariance(), covariances, **tolerance[torch.float64])
        assert set(zip(posterior.set_aside.stars.tolist(), posterior.set_aside.bins.tolist(), strict=True)) == {
            (int(n), int(p)) for n, p in np.argwhere(aside)
        }
        moments = moments_of(blocks, theta, clip)
        likelihood = reference.clipped_log_likelihood(data.flux, data.valid, variance, loadings, mean, clip, aside)
        assert moments.log_likelihood == pytest.approx(likelihood / data.valid.sum(), rel=1e-9)
        assert moments.share_set_aside == pytest.approx(aside.sum() / data.valid.sum(), rel=1e-12)
        after, slow = moments.maximise()
        if noise == "measured+scatter":
            expected = reference.scatter_step(data.flux, data.valid, data.sigma, loadings, mean, scatter, aside)
            close(slow.scatter, expected[3], **tolerance[torch.float64])
        else:
            weight = 1 / data.variance if noise == "measured" else np.ones_like(data.flux)
            level = 1.0 if noise == "measured" else float(scatter)
            expected = reference.em_step(
                data.flux, data.valid, weight, loadings, mean, level, noise == "isotropic", True, aside
            )
            assert slow is None
        close(after.loadings @ after.loadings.T, expected[0] @ expected[0].T, **tolerance[torch.float64])
        close(after.mean, expected[1], **tolerance[torch.float64])
        if noise != "measured":
            close(after.scatter, expected[2], **tolerance[torch.float64])

    def test_the_problems_of_that_test_have_what_it_is_about(self, small_scattered):
        """Bins that are set aside, and stars for which one look is not enough."""
        data = small_scattered(0, n_stars=200, n_bins=6, missing=0.2)
        data.flux[np.random.default_rng(0).random(data.flux.shape) < 0.05] += 20
        loadings, mean, scatter = any_parameters(0, 6, "isotropic")
        arguments = (data.flux, data.valid, np.full(data.flux.shape, scatter), loadings / 2, 1 + mean / 5)
        aside = reference.set_aside(*arguments, 3.0)
        zbar, _ = reference.ppca_posterior(*arguments)
        once = data.valid & (np.abs(data.flux - arguments[4] - zbar @ arguments[3].T) > 3 * np.sqrt(scatter))
        assert aside.sum() > 20
        assert 0 < (aside != once).any(1).sum() < len(aside) / 2  # few are looked at again, row by row

    @EVERY_NOISE
    def test_products_in_float32(self, small_scattered, tolerance, noise):
        data = small_scattered(5, n_stars=100)
        data.flux[7, 2] += 50
        data.valid[7, 2] = True
        theta = as_parameters(any_parameters(5, 8, noise))
        theta = theta._replace(loadings=theta.loadings / 2, mean=torch.ones(8, dtype=torch.float64))
        single, double = (moments_of(blocks_of(data, noise, t), theta, 8.0) for t in (torch.float32, torch.float64))
        assert single.n_set_aside == double.n_set_aside > 0
        assert single.log_likelihood == pytest.approx(double.log_likelihood, rel=1e-4)
        for got, expected in zip(single.maximise()[0], double.maximise()[0], strict=True):
            assert got.dtype == torch.float64
            close(got, expected, **tolerance[torch.float32])

    def test_sums_of_float32_are_collected_in_float64(self, small_scattered, monkeypatch):
        """The pieces are summed in float64: an iteration in pieces of a star differs from a whole one."""
        data = small_scattered(6, n_stars=50)
        theta = as_parameters(any_parameters(6, 8, "measured"))
        sums = {}
        for stars in (1, 4096):
            monkeypatch.setattr(rsca_torch.ppca.m_step, "STARS_A_SUM", stars)
            monkeypatch.setattr(rsca_torch.spectra.blocks, "BLOCK_ELEMENTS", 8)
            sums[stars] = moments_of(blocks_of(data, "measured", torch.float32), theta).normal.collect()
        assert all(total.dtype == torch.float64 for total in sums.values())
        assert not torch.equal(*sums.values())
        exact = moments_of(blocks_of(data, "measured"), theta).normal.collect()
        errors = {stars: float((total - exact).norm()) for stars, total in sums.items()}
        assert errors[1] < errors[4096]
