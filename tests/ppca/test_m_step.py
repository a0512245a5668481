"""The M-step of a scatter of each bin against the oracle, and what follows where it falls."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from ppca_problems import any_parameters, as_parameters, blocks_of, close, variances

import rsca_torch.ppca.extrapolation
import rsca_torch.ppca.initialisation
import rsca_torch.ppca.m_step
from rsca_torch.ppca.extrapolation import Ascent, run_em
from rsca_torch.ppca.initialisation import first_guess
from rsca_torch.ppca.m_step import moments_of
from rsca_torch.spectra.blocks import bin_sums


class TestScatter:
    """Eqs. 1.10 and 1.11."""

    @given(seed=st.integers(0, 2**16))
    def test_an_iteration_is_the_oracles_and_its_slow_step_climbs(self, small_scattered, tolerance, seed):
        data = small_scattered(seed, n_stars=12, n_bins=6, missing=0.3)
        data.valid[:2] = True  # every bin has a star
        loadings, mean, scatter = any_parameters(seed, 6, "measured+scatter")
        moments = moments_of(blocks_of(data, "measured+scatter"), as_parameters((loadings, mean, scatter)))
        fast, slow = moments.maximise()
        expected = reference.scatter_step(data.flux, data.valid, data.sigma, loadings, mean, scatter)
        for got, by_oracle in ((fast, expected[2]), (slow, expected[3])):
            close(got.loadings @ got.loadings.T, expected[0] @ expected[0].T, **tolerance[torch.float64])
            close(got.mean, expected[1], **tolerance[torch.float64])
            close(got.scatter, by_oracle, **tolerance[torch.float64])
        before = reference.ppca_log_likelihood(
            data.flux, data.valid, variances(data, "measured", scatter), loadings, mean
        )
        assert moments.log_likelihood == pytest.approx(before / data.valid.sum(), rel=1e-9)
        after = reference.ppca_log_likelihood(
            data.flux,
            data.valid,
            variances(data, "measured", slow.scatter.numpy()),
            slow.loadings.numpy(),
            slow.mean.numpy(),
        )
        assert after >= before

    def test_errors_that_explain_everything_end_on_the_floor(self, small_scattered):
        """(1.10) goes below zero at once: not further than a scatter that is nothing."""
        data = small_scattered(2, scatter=0.0)
        loadings, mean, scatter = any_parameters(2, 8, "measured+scatter")
        data.sigma = data.sigma * 1e3
        fast, _ = moments_of(blocks_of(data, "measured+scatter"), as_parameters((loadings, mean, scatter))).maximise()
        weight = data.valid / (data.sigma**2 + scatter)
        whole = weight.sum(0) / (weight**2).sum(0)
        close(fast.scatter, np.full(8, 1e-12 * whole.max()), rtol=1e-9, atol=0)

    def test_a_fast_step_that_falls_is_replaced_by_the_slow_one(self, small_scattered, monkeypatch, tolerance):
        blocks = blocks_of(small_scattered(5, n_stars=200, n_bins=12, without=0), "measured+scatter")
        theta = first_guess(blocks, bin_sums(blocks), 2, 1e-9, None)
        expected = run_em(blocks, theta, 1e-13, 2000)
        scatters = rsca_torch.ppca.m_step._ScatterSums.scatters
        monkeypatch.setattr(
            rsca_torch.ppca.m_step._ScatterSums,
            "scatters",
            lambda *arguments: (1e3 + arguments[2], scatters(*arguments)[1]),
        )
        slow = run_em(blocks, theta, 1e-13, 2000)
        assert expected.converged
        assert slow.converged
        assert (np.diff(slow.history) >= 0).all()
        assert len(slow.history) > len(expected.history)
        close(slow.slow.scatter, expected.reached.scatter, **tolerance["fit"])  # `reached` is the next bad one
        close(slow.slow.mean, expected.reached.mean, **tolerance["fit"])

    def test_a_falling_step_is_taken_back_to_where_it_came_from(self, small_scattered):
        """After the fall the trial is (1.11)'s of the same iteration, and no entry of the history is of the fall."""
        blocks = blocks_of(small_scattered(4), "measured+scatter")
        ascent = Ascent(first_guess(blocks, bin_sums(blocks), 2, 1e-9, None), 1e-9, 100)
        assert ascent.advance(moments_of(blocks, ascent.trial))
        slow = ascent.slow
        ascent.trial = ascent.trial._replace(mean=ascent.trial.mean + 100)
        assert not ascent.advance(moments_of(blocks, ascent.trial))
        assert ascent.trial is slow
        assert ascent.path[-1] is slow
        assert ascent.slow is None
        assert len(ascent.history) == 1
        assert ascent.advance(moments_of(blocks, ascent.trial))
        assert ascent.history[1] > ascent.history[0]
