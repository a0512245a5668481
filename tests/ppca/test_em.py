"""One iteration of EM against the oracle, and EM to its end: what it keeps, what it throws away."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st

import rsca_torch.ppca.extrapolation
import rsca_torch.ppca.initialisation
import rsca_torch.ppca.m_step
from rsca_torch import InputError, fit_ppca
from rsca_torch.ppca.e_step import DenseWeights, Model, Parameters, Posterior, ZeroOneWeights
from rsca_torch.ppca.extrapolation import Ascent, run_em
from rsca_torch.ppca.initialisation import first_guess
from rsca_torch.ppca.m_step import moments_of
from rsca_torch.ppca.online_em import _Sums, online_em
from rsca_torch.spectra.blocks import Arrays, Blocks, bin_sums

NOISES = ("isotropic", "measured", "measured+scatter")
EVERY_NOISE = pytest.mark.parametrize("noise", NOISES)


def close(actual, expected, rtol, atol):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=atol)


def any_parameters(seed, n_bins, noise, n_components=2):
    """NumPy's, far from any maximum."""
    rng = np.random.default_rng(seed)
    scatter = {"isotropic": np.array(0.7), "measured": np.array(0.0), "measured+scatter": rng.uniform(0.01, 1, n_bins)}
    return rng.normal(size=(n_bins, n_components)), rng.normal(size=n_bins), scatter[noise]


def as_parameters(arrays):
    return Parameters(*(torch.as_tensor(array, dtype=torch.float64) for array in arrays))


def variances(data, noise, scatter):
    """(N, P)."""
    return np.where(data.valid, data.sigma, 1.0) ** 2 * (noise != "isotropic") + scatter


def blocks_of(data, noise, dtype=torch.float64):
    return Blocks(Arrays(data.flux, data.valid, data.sigma), noise, dtype)


@pytest.fixture(scope="session")
def scattered(make_spectra):
    """Measured errors and a true scatter of each bin, none in the first few; the truth in `scatter`."""

    def make(seed=0, n_stars=60, n_bins=8, scatter=0.2, without=3, **options):
        data = make_spectra(seed, n_stars=n_stars, n_bins=n_bins, measured=True, **options)
        rng = np.random.default_rng(seed + 1000)
        data.scatter = scatter * rng.uniform(0.5, 1.5, n_bins)
        data.scatter[:without] = 0
        data.flux = data.flux + np.sqrt(data.scatter) * rng.normal(size=data.flux.shape)
        return data

    return make


def test_of_the_guess_and_the_end_of_a_small_climb(scattered):
    """The guess is no maximum: tests that start from it have something to gain."""
    for noise in NOISES:
        blocks = blocks_of(scattered(1), noise)
        theta = first_guess(blocks, bin_sums(blocks), 2, 1e-9, None)
        ascent = run_em(blocks, theta, 1e-9, 1000)
        assert ascent.converged
        assert ascent.history[-1] > ascent.history[0] + 1e-3


class TestZeroOneWeights:
    """Bins that few stars lack are summed over all stars, less what is lacking: the same sums in another order."""

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
    def test_a_pass_is_the_oracles(self, scattered, tolerance, seed):
        data = scattered(seed, n_stars=15, n_bins=6, missing=0.2)
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

    def test_a_fit_looks_for_nearly_complete_bins_where_noise_is_isotropic(self, scattered, monkeypatch):
        seen = []
        monkeypatch.setattr(
            "rsca_torch.ppca.e_step.ZeroOneWeights", lambda *given: seen.append(given[1]) or ZeroOneWeights(*given)
        )
        data = scattered(3, missing=0.0)
        data.valid[:, 5] = np.arange(60) % 3 > 0
        fit_ppca(data.flux, data.valid, 2, noise="isotropic")
        assert (seen[0] == torch.tensor([True] * 5 + [False] + [True] * 2)).all()
        seen.clear()
        fit_ppca(data.flux, data.valid, 2, noise="isotropic", clip=6.0)
        fit_ppca(data.flux, data.valid, 2, data.sigma)
        assert not seen


class TestOnline:
    """One look at all stars, an M-step after every chunk."""

    def test_with_one_chunk_it_is_an_em_step(self, scattered, tolerance):
        data = scattered(6)
        loadings, mean, variance = any_parameters(6, 8, "isotropic")
        after = online_em(blocks_of(data, "isotropic"), as_parameters((loadings, mean, variance)))
        weight = np.ones_like(data.flux)
        expected = reference.em_step(data.flux, data.valid, weight, loadings, mean, float(variance), True, False)
        for got, by_oracle in zip(after, expected, strict=True):
            close(got, by_oracle, **tolerance[torch.float64])

    def test_sums_can_be_taken_from_another_mean(self, scattered, tolerance):
        data = scattered(7)
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

    def test_many_chunks_climb_higher_in_one_look(self, scattered, monkeypatch):
        """Than one step of all stars; what older chunks said is neither lost nor kept for ever."""
        blocks = blocks_of(scattered(8, n_stars=4000, n_bins=20), "isotropic")
        blocks.rows = 100
        sums = bin_sums(blocks)
        theta = first_guess(blocks.sample(200), sums, 2, 1e-9, None)
        monkeypatch.setattr("rsca_torch.ppca.online_em.LEAST_CHUNK", 400)
        step, _ = moments_of(blocks, theta).maximise()
        best = run_em(blocks, theta, 1e-12, 1000).history[-1]
        short = {name: best - moments_of(blocks, at).log_likelihood for name, at in (("step", step), ("start", theta))}
        reached = best - moments_of(blocks, online_em(blocks, theta)).log_likelihood
        assert 0 < reached < 0.9 * short["step"] < short["start"]

    def test_where_stars_are_many_the_start_has_looked_at_all(self, scattered, monkeypatch):
        blocks = blocks_of(scattered(9, n_stars=300), "isotropic")
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


class TestScatter:
    """Eqs. 1.10 and 1.11."""

    @given(seed=st.integers(0, 2**16))
    def test_a_pass_is_the_oracles_and_its_slow_step_climbs(self, scattered, tolerance, seed):
        data = scattered(seed, n_stars=12, n_bins=6, missing=0.3)
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

    def test_errors_that_explain_everything_end_on_the_floor(self, scattered):
        """(1.10) goes below zero at once: not further than a scatter that is nothing."""
        data = scattered(2, scatter=0.0)
        loadings, mean, scatter = any_parameters(2, 8, "measured+scatter")
        data.sigma = data.sigma * 1e3
        fast, _ = moments_of(blocks_of(data, "measured+scatter"), as_parameters((loadings, mean, scatter))).maximise()
        weight = data.valid / (data.sigma**2 + scatter)
        whole = weight.sum(0) / (weight**2).sum(0)
        close(fast.scatter, np.full(8, 1e-12 * whole.max()), rtol=1e-9, atol=0)

    def test_a_fast_step_that_falls_is_replaced_by_the_slow_one(self, scattered, monkeypatch, tolerance):
        blocks = blocks_of(scattered(5, n_stars=200, n_bins=12, without=0), "measured+scatter")
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

    def test_a_falling_step_is_taken_back_to_where_it_came_from(self, scattered):
        """After the fall the trial is (1.11)'s of the same iteration, and no entry of the history is of the fall."""
        blocks = blocks_of(scattered(4), "measured+scatter")
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


class TestClip:
    """Eq. 1.12, with dense linear algebra until nothing changes."""

    @EVERY_NOISE
    @given(seed=st.integers(0, 2**16), clip=st.sampled_from([2.0, 3.0, 6.0]))
    def test_a_pass_is_the_oracles(self, scattered, tolerance, noise, seed, clip):
        data = scattered(seed, n_stars=15, n_bins=6, missing=0.2)
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

    def test_the_problems_of_that_test_have_what_it_is_about(self, scattered):
        """Bins that are set aside, and stars for which one look is not enough."""
        data = scattered(0, n_stars=200, n_bins=6, missing=0.2)
        data.flux[np.random.default_rng(0).random(data.flux.shape) < 0.05] += 20
        loadings, mean, scatter = any_parameters(0, 6, "isotropic")
        arguments = (data.flux, data.valid, np.full(data.flux.shape, scatter), loadings / 2, 1 + mean / 5)
        aside = reference.set_aside(*arguments, 3.0)
        zbar, _ = reference.ppca_posterior(*arguments)
        once = data.valid & (np.abs(data.flux - arguments[4] - zbar @ arguments[3].T) > 3 * np.sqrt(scatter))
        assert aside.sum() > 20
        assert 0 < (aside != once).any(1).sum() < len(aside) / 2  # few are looked at again, row by row

    @EVERY_NOISE
    def test_products_in_float32(self, scattered, tolerance, noise):
        data = scattered(5, n_stars=100)
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

    def test_sums_of_float32_are_collected_in_float64(self, scattered, monkeypatch):
        """The pieces are summed in float64: an iteration in pieces of a star differs from a whole one."""
        data = scattered(6, n_stars=50)
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


class TestAscent:
    """Where EM looks next."""

    @pytest.fixture(params=[(noise, clip) for noise in NOISES for clip in (None, 4.0)], ids=str)
    def problem(self, scattered, request):
        noise, clip = request.param
        data = scattered(7, n_components=2, missing=0.4)
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


def test_the_start_on_some_stars_is_another_way_to_the_same_maximum(scattered, monkeypatch, tolerance):
    data = scattered(8, n_stars=400)
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


def test_the_parameters_of_an_ascent_that_fell_are_those_it_kept(scattered):
    """What is set aside anew may lower the likelihood: then the last that was kept is the result."""
    data = scattered(8, n_stars=200)
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
