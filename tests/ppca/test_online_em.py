"""One look at all stars, an M-step after every chunk."""

from __future__ import annotations

import numpy as np
import reference
import torch
from ppca_problems import any_parameters, as_parameters, blocks_of, close

import rsca_torch.ppca.extrapolation
import rsca_torch.ppca.initialisation
import rsca_torch.ppca.m_step
from rsca_torch.ppca.extrapolation import run_em
from rsca_torch.ppca.initialisation import first_guess
from rsca_torch.ppca.m_step import moments_of
from rsca_torch.ppca.online_em import _Sums, online_em
from rsca_torch.spectra.blocks import bin_sums


class TestOnline:
    """One look at all stars, an M-step after every chunk."""

    def test_with_one_chunk_it_is_an_em_step(self, small_scattered, tolerance):
        data = small_scattered(6)
        loadings, mean, variance = any_parameters(6, 8, "isotropic")
        after = online_em(blocks_of(data, "isotropic"), as_parameters((loadings, mean, variance)))
        weight = np.ones_like(data.flux)
        expected = reference.em_step(data.flux, data.valid, weight, loadings, mean, float(variance), True, False)
        for got, by_oracle in zip(after, expected, strict=True):
            close(got, by_oracle, **tolerance[torch.float64])

    def test_sums_can_be_taken_from_another_mean(self, small_scattered, tolerance):
        data = small_scattered(7)
        theta = as_parameters(any_parameters(7, 8, "isotropic"))
        moments = moments_of(blocks_of(data, "isotropic"), theta)
        elsewhere = theta.mean + 3
        got = _Sums.of(moments, elsewhere)
        zbar, covariance = reference.ppca_posterior(
            data.flux, data.valid, np.full(data.flux.shape, theta.scatter), theta.loadings.numpy(), theta.mean.numpy()
        )
        first = np.column_stack([zbar, np.ones(len(zbar))])
        second = first[:, :, None] * first[:, None]
        second[:, :-1, :-1] += covariance
        residual = np.where(data.valid, data.flux - elsewhere.numpy(), 0)
        stars = len(zbar)
        normal = moments.symmetric.unpack(got.normal)
        close(normal, np.einsum("np,nij->pij", data.valid, second) / stars, **tolerance[torch.float64])
        close(got.right, residual.T @ first / stars, **tolerance[torch.float64])
        close(got.squares, np.square(residual).sum() / stars, **tolerance[torch.float64])
        close(got.n_valid, data.valid.sum() / stars, **tolerance[torch.float64])

    def test_many_chunks_climb_higher_in_one_look(self, small_scattered, monkeypatch):
        """Than one step of all stars; what older chunks said is neither lost nor kept for ever."""
        blocks = blocks_of(small_scattered(8, n_stars=4000, n_bins=20), "isotropic")
        blocks.rows = 100
        sums = bin_sums(blocks)
        theta = first_guess(blocks.sample(200), sums, 2, 1e-9, None)
        monkeypatch.setattr("rsca_torch.ppca.online_em.LEAST_CHUNK", 400)
        step, _ = moments_of(blocks, theta).maximise()
        best = run_em(blocks, theta, 1e-12, 1000).history[-1]
        short = {name: best - moments_of(blocks, at).log_likelihood for name, at in (("step", step), ("start", theta))}
        reached = best - moments_of(blocks, online_em(blocks, theta)).log_likelihood
        assert 0 < reached < 0.9 * short["step"] < short["start"]

    def test_where_stars_are_many_the_start_has_looked_at_all(self, small_scattered, monkeypatch):
        blocks = blocks_of(small_scattered(9, n_stars=300), "isotropic")
        monkeypatch.setattr(rsca_torch.ppca.initialisation, "ONLINE_STARS", 300)
        seen = []
        monkeypatch.setattr(
            rsca_torch.ppca.initialisation,
            "online_em",
            lambda given, theta: seen.append(given) or online_em(given, theta),
        )
        first_guess(blocks, bin_sums(blocks), 2, 1e-9, None)
        assert seen == [blocks]
        first_guess(blocks, bin_sums(blocks), 2, 1e-9, 6.0)  # outliers: not by this
        first_guess(blocks.sample(100), bin_sums(blocks), 2, 1e-9, None)
        assert seen == [blocks]
