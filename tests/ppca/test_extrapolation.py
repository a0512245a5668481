"""EM to its end: what it keeps, what it throws away."""

from __future__ import annotations

import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ppca_problems import NOISES, as_parameters, blocks_of

import rsca_torch.ppca.extrapolation
import rsca_torch.ppca.initialisation
import rsca_torch.ppca.m_step
from rsca_torch import InputError
from rsca_torch.ppca.e_step import Parameters
from rsca_torch.ppca.extrapolation import Ascent, run_em
from rsca_torch.ppca.initialisation import first_guess
from rsca_torch.ppca.m_step import moments_of
from rsca_torch.spectra.blocks import bin_sums


class TestAscent:
    """Where EM looks next."""

    @pytest.fixture(params=[(noise, clip) for noise in NOISES for clip in (None, 4.0)], ids=str)
    def problem(self, small_scattered, request):
        noise, clip = request.param
        data = small_scattered(7, n_components=2, missing=0.4)
        data.flux[3, 4] += 30
        blocks = blocks_of(data, noise)
        return blocks, first_guess(blocks, bin_sums(blocks), 2, 1e-9, clip), clip

    def test_a_state_goes_on_as_if_nothing_had_been(self, problem):
        blocks, theta, clip = problem
        whole, states = Ascent(theta, 1e-9, 40), []
        while not whole.done:
            file = io.BytesIO()
            torch.save(whole.state_dict(), file)
            states.append(file)
            whole.advance(moments_of(blocks, whole.trial, clip))
        assert len(states) > 4
        for file in states[:8]:
            file.seek(0)
            later = Ascent(as_parameters((0, 0, 0)), 1e-9, 40)
            later.load_state_dict(torch.load(file, weights_only=True))
            while not later.done:
                later.advance(moments_of(blocks, later.trial, clip))
            assert later.history == whole.history
            assert (later.converged, later.share_set_aside) == (whole.converged, whole.share_set_aside)
            assert all(torch.equal(*pair) for pair in zip(later.reached, whole.reached, strict=True))

    def test_a_state_is_not_changed_by_what_follows(self, problem):
        blocks, theta, clip = problem
        ascent = Ascent(theta, 1e-9, 40)
        ascent.advance(moments_of(blocks, ascent.trial, clip))
        state = ascent.state_dict()
        path, history = len(state["path"]), list(state["history"])
        ascent.advance(moments_of(blocks, ascent.trial, clip))
        assert (len(state["path"]), state["history"]) == (path, history)

    def test_a_leap_that_falls_is_thrown_away(self, problem, monkeypatch):
        """A leap to where nothing fits costs an E-step a cycle and changes nothing: what is left is plain EM."""
        blocks, theta, clip = problem
        monkeypatch.setattr(
            rsca_torch.ppca.extrapolation, "_extrapolate", lambda _, __, end: end._replace(mean=end.mean + 100)
        )
        ascent, trials = Ascent(theta, 0.0, 7), []
        while not ascent.done:
            trials.append(ascent.advance(moments_of(blocks, ascent.trial, clip)))
        assert trials == [True, True, False, True, True, True, False, True, True]
        plain = []
        for _ in range(7):
            moments = moments_of(blocks, theta, clip)
            plain.append(moments.log_likelihood)
            theta, _ = moments.maximise()
        assert ascent.history == plain

    def test_progress_and_limit(self, problem):
        blocks, theta, clip = problem
        seen = []
        ascent = run_em(blocks, theta, 0.0, 4, clip, lambda *entry: seen.append(entry))
        assert seen == list(enumerate(ascent.history, start=1))
        assert (len(ascent.history), ascent.done, ascent.converged) == (4, True, False)

    def test_a_likelihood_that_is_no_number_is_said(self, problem):
        blocks, theta, clip = problem
        with pytest.raises(InputError, match="not a finite number"):
            run_em(blocks, theta._replace(mean=theta.mean * math.nan), 1e-9, 10, clip)


def test_an_extrapolation_leaves_no_scatter_negative():
    """Eq. 1.9 may lead below zero: not further than a scatter that is nothing."""
    ones = torch.ones(3, 1, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    steps = [Parameters(*ones, torch.tensor([1.0, 1.0, s], dtype=torch.float64)) for s in (0.5, 0.2, 0.01)]
    leap = rsca_torch.ppca.extrapolation._extrapolate(*steps)
    assert leap.scatter[2] == 1e-12
    assert torch.equal(leap.scatter[:2], steps[0].scatter[:2])


@given(start=st.integers(-20, 20), first=st.integers(-20, 20), second=st.integers(-20, 20))
def test_an_extrapolation_is_the_equation(start, first, second):
    """Eq. 1.9 of a mean alone."""
    steps = [as_parameters(([[1.0]], [value], 0.0)) for value in (start, first, second)]
    r, v = first - start, second - 2 * first + start
    c = max(1.0, abs(r) / abs(v)) if v else None
    leap = rsca_torch.ppca.extrapolation._extrapolate(*steps)
    if c is not None:
        assert float(leap.mean) == pytest.approx(start + 2 * c * r + c**2 * v, abs=1e-9)
    assert leap.scatter == 0
    assert leap.loadings == 1


def test_the_parameters_of_an_ascent_that_fell_are_those_it_kept(small_scattered):
    """What is set aside anew may lower the likelihood: then the last that was kept is the result."""
    data = small_scattered(8, n_stars=200)
    blocks = blocks_of(data, "measured+scatter")
    theta = first_guess(blocks, bin_sums(blocks), 2, 1e-9, None)
    ascent = run_em(blocks, theta, 1e-12, 3)
    kept = ascent.kept
    lower = moments_of(blocks, theta)
    ascent.slow, ascent.extrapolated, ascent.done = None, False, False
    assert not ascent.advance(lower)
    assert ascent.done
    assert ascent.reached is kept
    assert moments_of(blocks, ascent.reached).log_likelihood == pytest.approx(ascent.history[-1], rel=1e-12)
