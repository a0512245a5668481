"""The fit against an independent optimiser's maximum, its invariances, and what it says."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import reference
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ppca_problems import (
    EVERY_FIT,
    EVERY_NOISE,
    FLUX,
    HOLED,
    KINDS,
    NOISES,
    TIGHT,
    arguments_of,
    close,
    covariance,
    same,
)

import rsca_torch.ppca.extrapolation
import rsca_torch.spectra.blocks
from rsca_torch import InputError, NumericalWarning, fit_ppca
from rsca_torch.ppca.e_step import Parameters
from rsca_torch.ppca.m_step import moments_of
from rsca_torch.spectra.blocks import Arrays, Blocks


@KINDS
class TestReference:
    """The maximum that an independent optimiser found (shared/README.md)."""

    @pytest.fixture
    def problem(self, shared, measured):
        data = np.load(shared / "reference" / "ppca_reference.npz")
        kind = "measured" if measured else "isotropic"
        found = {name: data[f"{kind}_{name}"] for name in ("x", "loglik", "cov", "mean", "reconstruction")}
        found["sigma"] = data["measured_err"] if measured else None
        found["variance"] = None if measured else float(data["isotropic_noise_variance"])
        found["valid"] = data["valid"]
        found["model"] = fit_ppca(found["x"], data["valid"], 3, found["sigma"])
        return found

    def test_log_likelihood(self, problem):
        got = problem["model"].log_likelihood(problem["x"], problem["valid"], problem["sigma"])
        assert got == pytest.approx(float(problem["loglik"]), rel=1e-6)

    def test_covariance(self, problem):
        scale = np.abs(problem["cov"]).max()
        close(covariance(problem["model"]) / scale, problem["cov"] / scale, rtol=0, atol=1e-3)

    def test_mean_and_noise(self, problem):
        model = problem["model"]
        close(model.mean, problem["mean"], rtol=0, atol=1e-3 * np.sqrt(np.abs(problem["cov"]).max()))
        assert model.noise_variance == (
            None if problem["variance"] is None else pytest.approx(problem["variance"], rel=1e-3)
        )

    def test_reconstruction(self, problem):
        got = problem["model"].reconstruct(problem["x"], problem["valid"], problem["sigma"])
        scale = np.abs(problem["reconstruction"]).max()
        close(got / scale, problem["reconstruction"] / scale, rtol=0, atol=1e-3)

    def test_valid_defaults_to_the_finite_bins(self, problem):
        assert same(problem["model"], fit_ppca(problem["x"], None, 3, problem["sigma"]))


@KINDS
@given(seed=st.integers(0, 2**16))
def test_an_em_step_is_the_oracles_and_cannot_lower_the_likelihood(make_spectra, measured, tolerance, seed):
    data = make_spectra(seed, n_stars=15, n_bins=6, missing=0.3, measured=measured)
    data.valid[:2] = True  # every bin has a star
    rng = np.random.default_rng(seed + 1)
    loadings, mean, noise = rng.normal(size=(6, 2)), rng.normal(size=6), 1.0 if measured else 0.7
    weight = 1 / data.variance if measured else np.ones_like(data.flux)
    blocks = Blocks(Arrays(data.flux, data.valid, data.sigma), "measured" if measured else "isotropic")
    scatter = torch.tensor(0.0 if measured else noise, dtype=torch.float64)
    moments = moments_of(blocks, Parameters(torch.from_numpy(loadings), torch.from_numpy(mean), scatter))
    before, after = moments.log_likelihood, moments.maximise()[0]
    new_loadings, new_mean, new_noise = reference.em_step(
        data.flux, data.valid, weight, loadings, mean, noise, estimate_noise=not measured, expand=True
    )
    close(after.loadings @ after.loadings.T, new_loadings @ new_loadings.T, **tolerance[torch.float64])
    close(after.mean, new_mean, **tolerance[torch.float64])
    assert float(after.scatter) == pytest.approx(0 if measured else new_noise, rel=1e-9)
    start = reference.ppca_log_likelihood(data.flux, data.valid, noise / weight, loadings, mean)
    assert before == pytest.approx(start / data.valid.sum(), rel=1e-9)
    climbed = reference.ppca_log_likelihood(
        data.flux, data.valid, new_noise / weight, after.loadings.numpy(), after.mean.numpy()
    )
    assert climbed >= start


@KINDS
def test_the_fit_is_a_fixed_point_of_plain_em(make_spectra, measured, tolerance):
    data = make_spectra(4, measured=measured)
    model = fit_ppca(data.flux, data.valid, 2, data.sigma, **TIGHT)
    weight = 1 / data.variance if measured else np.ones_like(data.flux)
    loadings, mean, noise = reference.em_step(
        data.flux,
        data.valid,
        weight,
        model.loadings.numpy(),
        model.mean.numpy(),
        model.noise_variance or 1.0,
        estimate_noise=not measured,
        expand=False,
    )
    close(covariance(model), loadings @ loadings.T, **tolerance["fit"])
    close(model.mean, mean, **tolerance["fit"])
    assert noise == pytest.approx(model.noise_variance or 1.0, rel=tolerance["fit"]["rtol"])


def test_without_missing_bins_it_is_the_eigendecomposition(make_spectra):
    flux = make_spectra(5, n_stars=200, n_bins=15, n_components=3, missing=0.0).flux
    model = fit_ppca(flux, n_components=3, tolerance=1e-15, max_iterations=20_000)
    values, vectors = np.linalg.eigh(np.cov(flux.T, ddof=0))
    angles = scipy.linalg.subspace_angles(model.loadings.numpy(), vectors[:, -3:])
    assert angles.max() < 1e-6
    assert model.noise_variance == pytest.approx(values[:-3].mean(), rel=1e-6)
    close(model.mean, flux.mean(0), rtol=1e-6, atol=1e-6)
    expected = (vectors[:, -3:] * (values[-3:] - values[:-3].mean())) @ vectors[:, -3:].T
    close(covariance(model), expected, rtol=1e-6, atol=1e-6)


@KINDS
def test_axes_are_orthogonal_ordered_and_signed(make_spectra, measured):
    data = make_spectra(6, n_components=3, measured=measured)
    loadings = fit_ppca(data.flux, data.valid, 3, data.sigma).loadings.numpy()
    gram = loadings.T @ loadings
    lengths = np.diag(gram)
    assert (np.diff(lengths) < 0).all()
    close(gram, np.diag(lengths), rtol=0, atol=1e-12 * lengths[0])
    assert (loadings[np.abs(loadings).argmax(0), range(3)] > 0).all()


@KINDS
@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf, 1e30])
def test_what_stands_in_an_invalid_bin_changes_nothing(make_spectra, measured, junk):
    data = make_spectra(7, measured=measured)
    clean = fit_ppca(data.flux, data.valid, 2, data.sigma)
    flux = np.where(data.valid, data.flux, junk)
    sigmas = [None] if not measured else [np.where(data.valid, data.sigma, bad) for bad in (junk, 0.0, -1.0)]
    for sigma in sigmas:
        dirty = fit_ppca(flux, data.valid, 2, sigma)
        assert same(clean, dirty)
        assert torch.equal(clean(data.flux, data.valid, data.sigma), dirty(flux, data.valid, sigma))
        expected = clean.log_likelihood(data.flux, data.valid, data.sigma)
        assert dirty.log_likelihood(flux, data.valid, sigma) == expected
        reconstructions = (
            clean.reconstruct(data.flux, data.valid, data.sigma),
            dirty.reconstruct(flux, data.valid, sigma),
        )
        assert torch.equal(*reconstructions)


@KINDS
def test_two_runs_are_identical(make_spectra, measured):
    data = make_spectra(8, measured=measured)
    torch.manual_seed(1)
    first = fit_ppca(data.flux, data.valid, 2, data.sigma)
    torch.manual_seed(2)
    assert same(first, fit_ppca(data.flux, data.valid, 2, data.sigma))


@KINDS
def test_history_never_falls_and_ends_at_the_likelihood(make_spectra, measured):
    data = make_spectra(9, n_components=3, missing=0.4, measured=measured)
    seen = []
    model = fit_ppca(data.flux, data.valid, 3, data.sigma, tolerance=1e-9, progress=lambda *entry: seen.append(entry))
    assert model.converged
    assert (np.diff(model.history) >= 0).all()
    assert seen == list(enumerate(model.history, start=1))
    per_bin = model.log_likelihood(data.flux, data.valid, data.sigma) / data.valid.sum()
    assert per_bin == pytest.approx(model.history[-1], abs=3e-9)  # 3 x tolerance: the stopping rule of section 1


@KINDS
def test_an_extrapolation_that_falls_is_thrown_away(make_spectra, measured, monkeypatch, tolerance):
    """Where (1.9) always leads back to the start, plain EM must still reach the maximum."""
    data = make_spectra(26, measured=measured)
    expected = fit_ppca(data.flux, data.valid, 2, data.sigma, **TIGHT)
    monkeypatch.setattr(rsca_torch.ppca.extrapolation, "_extrapolate", lambda start, *_: start)
    model = fit_ppca(data.flux, data.valid, 2, data.sigma, **TIGHT)
    assert model.converged
    assert len(model.history) > len(expected.history)
    close(model.loadings, expected.loadings, **tolerance["fit"])


def test_an_extrapolation_out_of_range_is_thrown_away():
    """Half of the bins missing, noise of 0.002 of the signal: (1.9) goes where a precision cannot be factorised."""
    rng = np.random.default_rng(30)
    (n_stars, n_bins), n_components = (rng.integers(30, 80), rng.integers(8, 20)), int(rng.integers(1, 3))
    noise = 10 ** rng.uniform(-3, 0)
    flux = rng.normal(size=(n_stars, n_components)) @ rng.normal(size=(n_components, n_bins))
    flux += noise * rng.normal(size=flux.shape)
    valid = rng.random(flux.shape) > rng.uniform(0, 0.5)
    model = fit_ppca(flux, valid, n_components)
    assert model.converged
    assert (np.diff(model.history) >= 0).all()


def test_equal_errors_are_isotropic_noise_of_that_variance(make_spectra, tolerance):
    data = make_spectra(10)
    isotropic = fit_ppca(data.flux, data.valid, 2, **TIGHT)
    sigma = np.full(data.flux.shape, np.sqrt(isotropic.noise_variance))
    measured = fit_ppca(data.flux, data.valid, 2, sigma, **TIGHT)
    assert measured.noise_variance is None
    close(measured.loadings, isotropic.loadings, **tolerance["fit"])
    close(measured.mean, isotropic.mean, **tolerance["fit"])
    close(measured.bin_variance, isotropic.bin_variance, **tolerance["fit"])
    expected = isotropic.log_likelihood(data.flux, data.valid)
    assert measured.log_likelihood(data.flux, data.valid, sigma) == pytest.approx(expected, rel=1e-9)


@KINDS
@pytest.mark.parametrize("factor", [1e-3, 7.0])
def test_the_unit_of_the_flux_does_not_matter(make_spectra, measured, factor, tolerance):
    data = make_spectra(11, measured=measured)
    scaled = None if data.sigma is None else factor * data.sigma
    model = fit_ppca(data.flux, data.valid, 2, data.sigma, **TIGHT)
    other = fit_ppca(factor * data.flux, data.valid, 2, scaled, **TIGHT)
    close(other.loadings / factor, model.loadings, **tolerance["fit"])
    latents = model(data.flux, data.valid, data.sigma)
    close(other(factor * data.flux, data.valid, scaled), latents, **tolerance["fit"])


@KINDS
def test_a_star_without_valid_bins_does_not_move_the_fit(make_spectra, measured, tolerance):
    data = make_spectra(13, measured=measured)
    data.valid[5] = False
    others = np.arange(60) != 5
    full = fit_ppca(data.flux, data.valid, 2, data.sigma, **TIGHT)
    less = fit_ppca(data.flux[others], data.valid[others], 2, None if not measured else data.sigma[others], **TIGHT)
    close(full.loadings, less.loadings, **tolerance["fit"])
    close(full.mean, less.mean, **tolerance["fit"])


@KINDS
@pytest.mark.parametrize("elements", [1, 12 * 7])
def test_the_split_into_blocks_changes_nothing(make_spectra, measured, elements, monkeypatch, tolerance):
    data = make_spectra(14, measured=measured)
    whole = fit_ppca(data.flux, data.valid, 2, data.sigma, **TIGHT)
    latents = whole(data.flux, data.valid, data.sigma)
    likelihood = whole.log_likelihood(data.flux, data.valid, data.sigma)
    monkeypatch.setattr(rsca_torch.spectra.blocks, "BLOCK_ELEMENTS", elements)
    split = fit_ppca(data.flux, data.valid, 2, data.sigma, **TIGHT)
    close(split.loadings, whole.loadings, **tolerance["fit"])
    close(whole(data.flux, data.valid, data.sigma), latents, **tolerance[torch.float64])
    assert whole.log_likelihood(data.flux, data.valid, data.sigma) == pytest.approx(likelihood, rel=1e-12)


@KINDS
@given(stars=st.permutations(range(20)), bins=st.permutations(range(6)))
def test_the_order_of_stars_and_bins_does_not_matter(make_spectra, measured, tolerance, stars, bins):
    data = make_spectra(15, n_stars=20, n_bins=6, n_components=1, missing=0.15, measured=measured)
    model = fit_ppca(data.flux, data.valid, 1, data.sigma, **TIGHT)
    grid = np.ix_(stars, bins)
    sigma = None if data.sigma is None else data.sigma[grid]
    other = fit_ppca(data.flux[grid], data.valid[grid], 1, sigma, **TIGHT)
    close(other.loadings, model.loadings[bins], **tolerance["fit"])
    close(other.mean, model.mean[bins], **tolerance["fit"])
    latents = model(data.flux, data.valid, data.sigma)[stars]
    close(other(data.flux[grid], data.valid[grid], sigma), latents, **tolerance["fit"])


@pytest.fixture
def warn_always():
    """torch warns of read-only arrays once in a process; here every time."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.mark.usefixtures("warn_always")
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_memory_mapped_flux(make_spectra, mode, tmp_path):
    data = make_spectra(17, measured=True)
    mapped = {}
    for name in ("flux", "sigma", "valid"):
        np.save(tmp_path / f"{name}.npy", getattr(data, name))
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode=mode)
    assert isinstance(mapped["flux"], np.memmap)
    assert same(
        fit_ppca(data.flux, data.valid, 2, data.sigma), fit_ppca(mapped["flux"], mapped["valid"], 2, mapped["sigma"])
    )


@KINDS
def test_a_bin_without_a_valid_star_is_left_out(make_spectra, measured, tolerance):
    data = make_spectra(18, measured=measured)
    data.valid[:, [3, 8]] = False
    kept = np.delete(np.arange(12), [3, 8])
    message = r"2 of 12 bins have fewer valid stars than components \+ 1 = 3: left out.*: bins 3, 8$"
    with pytest.warns(NumericalWarning, match=message):
        model = fit_ppca(data.flux, data.valid, 2, data.sigma, **TIGHT)
    sigma = None if data.sigma is None else data.sigma[:, kept]
    less = fit_ppca(data.flux[:, kept], data.valid[:, kept], 2, sigma, **TIGHT)
    assert (model.loadings[[3, 8]] == 0).all()
    assert model.mean[[3, 8]].isnan().all()
    close(model.loadings[kept], less.loadings, **tolerance["fit"])
    close(model.mean[kept], less.mean, **tolerance["fit"])
    close(model.bin_variance[kept], less.bin_variance, **tolerance["fit"])
    everything = np.ones_like(data.valid)
    everything[:, kept] = data.valid[:, kept]  # now the bins are there, but the model does not know them
    got = model(data.flux, everything, data.sigma)
    close(got, less(data.flux[:, kept], data.valid[:, kept], sigma), **tolerance["fit"])
    likelihood = less.log_likelihood(data.flux[:, kept], data.valid[:, kept], sigma)
    assert model.log_likelihood(data.flux, everything, data.sigma) == pytest.approx(likelihood, rel=1e-9)
    assert model.reconstruct(data.flux, everything, data.sigma)[:, [3, 8]].isnan().all()


def test_not_converged_is_said(make_spectra):
    data = make_spectra(19, missing=0.4)
    with pytest.warns(NumericalWarning, match="has not converged in 3 iterations.*raise max_iterations"):
        model = fit_ppca(data.flux, data.valid, 2, max_iterations=3, tolerance=1e-14)
    assert not model.converged
    assert len(model.history) == 3


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_no_more_than_max_iterations(make_spectra, limit):
    data = make_spectra(19, missing=0.4)
    with pytest.warns(NumericalWarning, match="has not converged"):
        model = fit_ppca(data.flux, data.valid, 2, max_iterations=limit, tolerance=1e-14)
    assert len(model.history) <= limit


@pytest.mark.parametrize(("shape", "limit"), [((8, 20), 6), ((20, 8), 7)])
def test_the_limit_of_components_is_said(shape, limit, make_spectra):
    data = make_spectra(20, n_stars=shape[0], n_bins=shape[1], missing=0.0)
    fit_ppca(data.flux, n_components=limit, tolerance=1e-3)
    for too_many in (0, limit + 1):
        with pytest.raises(InputError, match=f"n_components={too_many}, but .* between 1 and {limit}"):
            fit_ppca(data.flux, n_components=too_many)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"flux": FLUX[0]}, r"flux must have shape \(stars, bins\), got \(5,\)"),
        ({"flux": FLUX, "valid": FLUX[:, :4] > 0}, r"valid must have the shape of flux \(10, 5\), got \(10, 4\)"),
        ({"flux": FLUX, "sigma": np.ones(5)}, r"sigma must have the shape of flux \(10, 5\), got \(5,\)"),
        ({"flux": HOLED, "valid": np.ones((10, 5), dtype=bool)}, "flux that is not finite: mark them invalid"),
        ({"flux": FLUX, "sigma": np.zeros((10, 5))}, "error that is not positive"),
        ({"flux": FLUX, "sigma": np.full((10, 5), -1.0)}, "error that is not positive"),
        (
            {"flux": FLUX, "sigma": np.full((10, 5), np.inf), "valid": np.ones((10, 5), dtype=bool)},
            "error that is not positive and finite",
        ),
        ({"flux": FLUX, "noise": "measured"}, "measured noise needs sigma"),
        ({"flux": FLUX, "noise": "poisson"}, "noise must be isotropic, measured or measured.scatter, got 'poisson'"),
        ({"flux": np.ones((10, 5))}, "without noise"),
        ({"flux": np.outer(np.arange(10.0), np.arange(5.0))}, "without noise"),
    ],
)
def test_what_cannot_be_fitted(arguments, message):
    with pytest.raises(InputError, match=message):
        fit_ppca(n_components=1, **arguments)


@pytest.mark.filterwarnings("ignore:5 of 5 bins have fewer valid stars:rsca_torch.NumericalWarning")
def test_no_valid_bin_at_all():
    with pytest.raises(InputError, match="valid"):
        fit_ppca(FLUX, np.zeros((10, 5), dtype=bool), 1)


def test_big_endian_arrays_as_fits_files_hold_them(make_spectra):
    data = make_spectra(24)
    assert same(fit_ppca(data.flux.astype(">f8"), data.valid, 2), fit_ppca(data.flux, data.valid, 2))


def test_measured_or_isotropic_follows_from_sigma(make_spectra):
    data = make_spectra(23, measured=True)
    assert same(fit_ppca(data.flux, data.valid, 2, data.sigma, "isotropic"), fit_ppca(data.flux, data.valid, 2))
    assert fit_ppca(data.flux, data.valid, 2, data.sigma).noise_variance is None


def gradient_of_scatter(data, model, aside=None, clip=0.0, step=1e-5):
    """Central differences of the oracle's log-likelihood; where the scatter is on its floor from there up."""
    gradient = []
    for p in range(len(model.mean)):
        ends = []
        scatter = float(model.scatter[p])
        width = step if scatter > step else step / 2
        for sign in (-1, 1):
            changed = model.scatter.numpy().copy()
            changed[p] = scatter + sign * width if scatter > step else scatter + (1 + sign) * width
            variance, plane = data.variance + changed, (model.loadings.numpy(), model.mean.numpy())
            none = np.zeros_like(data.valid)
            ends.append(
                reference.clipped_log_likelihood(
                    data.flux, data.valid, variance, *plane, clip, none if aside is None else aside
                )
            )
        gradient.append((ends[1] - ends[0]) / (2 * width))
    return np.array(gradient)


class TestScatter:
    """noise="measured+scatter"."""

    def test_the_fit_is_a_maximum_over_the_scatter(self, scattered):
        data = scattered(40, without=4)
        model = fit_ppca(data.flux, data.valid, 2, data.sigma, "measured+scatter", **TIGHT)
        assert model.converged
        assert (np.diff(model.history) >= 0).all()
        gradient = gradient_of_scatter(data, model)
        on_floor = model.scatter.numpy() < 1e-9
        assert 0 < on_floor.sum() <= 4
        unit = (
            data.valid.sum(0) / 2 / (data.variance.mean(0) + model.scatter.numpy())
        )  # of a bin with 1 sigma of misfit
        assert np.abs(gradient / unit)[~on_floor].max() < 1e-4
        assert (gradient / unit)[on_floor].max() < 0

    def test_the_fit_is_a_maximum_over_the_scatter_with_bins_set_aside(self, planted):
        data = planted(41, noise="measured+scatter")
        model = fit_ppca(data.flux, data.valid, 2, data.sigma, "measured+scatter", clip=6.0, **TIGHT)
        aside = model.set_aside(data.flux, data.valid, data.sigma).numpy()
        assert aside.sum() >= 4  # of 5: among so few stars a component may take one
        gradient = gradient_of_scatter(data, model, aside, 6.0)
        unit = data.valid.sum(0) / 2 / (data.variance.mean(0) + model.scatter.numpy())
        assert np.abs(gradient / unit).max() < 1e-4

    def test_the_fit_is_a_fixed_point_of_the_oracles_slow_step(self, scattered, tolerance):
        data = scattered(42)
        model = fit_ppca(data.flux, data.valid, 2, data.sigma, "measured+scatter", **TIGHT)
        plane = model.loadings.numpy(), model.mean.numpy()
        loadings, mean, fast, slow = reference.scatter_step(
            data.flux, data.valid, data.sigma, *plane, model.scatter.numpy()
        )
        close(covariance(model), loadings @ loadings.T, **tolerance["fit"])
        close(model.mean, mean, **tolerance["fit"])
        close(model.scatter, fast, **tolerance["fit"])
        close(model.scatter, slow, **tolerance["fit"])

    def test_the_truth_is_found(self, scattered):
        """Within the errors that Fisher's information gives, 2 / sum of a^2: 1.6 % of v for 8,000 stars."""
        data = scattered(43, n_stars=8000, n_bins=15, without=5)
        model = fit_ppca(data.flux, data.valid, 2, data.sigma, "measured+scatter", tolerance=1e-9)
        weight = data.valid / (data.variance + data.scatter)
        error = np.sqrt(2 / (weight**2).sum(0))
        off = (model.scatter.numpy() - data.scatter) / error
        assert np.abs(off).max() < 4
        assert np.abs(off)[5:].max() > 0.1
        assert (error[5:] < 0.04 * data.scatter[5:]).all()
        assert model.scatter.numpy()[5:].sum() == pytest.approx(data.scatter[5:].sum(), rel=0.02)
        assert model.scatter.numpy()[:5].max() < 0.03 * data.scatter[5:].min()

    def test_the_bins_variance_is_the_scatter_and_the_harmonic_mean(self, scattered, tolerance):
        data = scattered(44)
        model = fit_ppca(data.flux, data.valid, 2, data.sigma, "measured+scatter")
        harmonic = [1 / np.mean(1 / data.variance[data.valid[:, p], p]) for p in range(12)]
        close(model.bin_variance, harmonic + model.scatter.numpy(), **tolerance[torch.float64])
        assert model.noise_variance is None

    def test_it_needs_errors(self, scattered):
        data = scattered(45)
        with pytest.raises(InputError, match=r"measured\+scatter noise needs sigma"):
            fit_ppca(data.flux, data.valid, 2, noise="measured+scatter")


@EVERY_FIT
@settings(max_examples=6)
@given(exponent=st.floats(-4, 4))
def test_the_unit_of_flux_and_errors_does_not_matter(planted, noise, clip, exponent, tolerance):
    data = planted(49, noise, n_stars=60)
    factor = 10**exponent
    flux, valid, sigma = arguments_of(data, noise)
    rescaled = factor * flux, valid, None if sigma is None else factor * sigma
    model = fit_ppca(flux, valid, 2, sigma, noise, clip=clip, **TIGHT)
    other = fit_ppca(*rescaled[:2], 2, rescaled[2], noise, clip=clip, **TIGHT)
    close(other.loadings / factor, model.loadings, **tolerance["fit"])
    close(other.scatter / factor**2, model.scatter, **tolerance["fit"])
    close(other(*rescaled), model(flux, valid, sigma), **tolerance["fit"])
    assert torch.equal(other.set_aside(*rescaled), model.set_aside(flux, valid, sigma))


def test_bins_that_are_left_out_are_named_by_wavelength(make_spectra):
    data = make_spectra(60)
    data.valid[:, [3, 8]] = False
    data.valid[:2, 3] = True
    wavelength = torch.linspace(15100, 15320, 12, dtype=torch.float64)
    message = "2 of 12 bins have fewer valid stars than .*: Angstrom 15160.00, 15260.00$"
    for grid in (wavelength, wavelength.numpy()):
        with pytest.warns(NumericalWarning, match=message):
            fit_ppca(data.flux, data.valid, 2, wavelength=grid)
    with pytest.warns(NumericalWarning) as called:
        fit_ppca(data.flux, data.valid, 2)
    assert called[0].filename == __file__


def test_spectra_have_their_own_valid_and_sigma(make_spectra):
    data, sigma = make_spectra(60), np.full((60, 12), 0.1)
    source = Arrays(data.flux, data.valid, sigma)
    expected = fit_ppca(data.flux, data.valid, 2, sigma)
    assert torch.equal(fit_ppca(source, n_components=2).loadings, expected.loadings)
    for own in ({"valid": data.valid}, {"sigma": sigma}):
        with pytest.raises(InputError, match="spectra have valid and sigma of their own"):
            fit_ppca(source, n_components=2, **own)


def test_no_more_than_twenty_bins_are_named(make_spectra):
    data = make_spectra(61, n_bins=30)
    data.valid[:, :25] = False
    with pytest.warns(NumericalWarning, match=r"25 of 30 bins .*: bins 0, 1, .*, 18, 19 and 5 more$"):
        fit_ppca(data.flux, data.valid, 2)


@pytest.mark.parametrize("enough", [False, True])
def test_a_bin_needs_a_star_more_than_components(make_spectra, enough):
    data = make_spectra(62, missing=0.0)
    data.valid[2 + enough :, 5] = False
    expected = nullcontext() if enough else pytest.warns(NumericalWarning, match="1 of 12 bins .*: bins 5$")
    with expected:
        model = fit_ppca(data.flux, data.valid, 2)
    assert bool(model.mean[5].isfinite()) == enough


def test_what_was_left_out_may_leave_too_little(make_spectra):
    data = make_spectra(63)
    data.valid[:, :10] = False
    with (
        pytest.warns(NumericalWarning, match="10 of 12 bins have fewer"),
        pytest.raises(InputError, match="n_components=2, but 60 stars with 2 bins can carry between 1 and 1"),
    ):
        fit_ppca(data.flux, data.valid, 2)


def test_not_converged_says_how_far(make_spectra):
    data = make_spectra(64, missing=0.4)
    with pytest.warns(NumericalWarning, match="not converged") as caught:
        model = fit_ppca(data.flux, data.valid, 2, max_iterations=3, tolerance=1e-14)
    gained = model.history[-1] - model.history[-2]
    assert f"in 3 iterations: the last gained {gained:.2g} nats a bin, the tolerance is 1e-14" in str(caught[0].message)


class TestStart:
    """start=: a model to start from."""

    @EVERY_NOISE
    @pytest.mark.parametrize("before", NOISES)
    @pytest.mark.parametrize("more", [0, 2])
    def test_it_ends_where_a_fit_from_nothing_does(self, scattered, before, noise, more, tolerance):
        data = scattered(65, n_stars=100, n_components=4)
        flux, valid = data.flux, data.valid
        larger = fit_ppca(flux, valid, 2 + more, data.sigma, before, tolerance=1e-8)
        model = fit_ppca(flux, valid, 2, data.sigma, noise, start=larger, **TIGHT)
        expected = fit_ppca(flux, valid, 2, data.sigma, noise, **TIGHT)
        close(model.loadings, expected.loadings, **tolerance["fit"])
        close(model.mean, expected.mean, **tolerance["fit"])
        close(model.scatter, expected.scatter, **tolerance["fit"])

    @EVERY_NOISE
    def test_it_starts_there(self, scattered, noise):
        data = scattered(66)
        model = fit_ppca(data.flux, data.valid, 2, data.sigma, noise, tolerance=1e-9)
        again = fit_ppca(data.flux, data.valid, 2, data.sigma, noise, start=model, tolerance=1e-9)
        assert again.history[0] >= model.history[-1] - 1e-12
        assert len(again.history) < len(model.history)

    def test_a_bin_that_the_start_did_not_know(self, scattered, tolerance):
        data = scattered(67)
        fewer = data.valid.copy()
        fewer[:, 4] = False
        with pytest.warns(NumericalWarning, match="left out"):
            start = fit_ppca(data.flux, fewer, 2, data.sigma, "measured+scatter")
        model = fit_ppca(data.flux, data.valid, 2, data.sigma, "measured+scatter", start=start, **TIGHT)
        expected = fit_ppca(data.flux, data.valid, 2, data.sigma, "measured+scatter", **TIGHT)
        close(model.loadings, expected.loadings, **tolerance["fit"])
        close(model.scatter, expected.scatter, **tolerance["fit"])

    @pytest.mark.parametrize(("bins", "components"), [(11, 2), (12, 1)])
    def test_one_that_does_not_fit(self, make_spectra, bins, components):
        data = make_spectra(68)
        start = fit_ppca(data.flux[:, :bins], data.valid[:, :bins], components)
        message = f"start must have 12 bins and at least 2 components, got {bins} and {components}"
        with pytest.raises(InputError, match=message):
            fit_ppca(data.flux, data.valid, 2, start=start)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": 1.9}, "clip must be at least 5 standard deviations, or None for none, got 1.9"),
        ({"clip": float("nan")}, "clip must be at least 5 .*got nan"),
        ({"products": "float16"}, "products must be float64 or float32, got 'float16'"),
        ({"n_components": 1.0}, "n_components must be a whole number, got 1.0"),
        ({"max_iterations": 0}, "max_iterations >= 1 and tolerance >= 0 expected, got 0 and"),
        ({"tolerance": -1.0}, "got 1000 and -1.0"),
        ({"tolerance": float("nan")}, "got 1000 and nan"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        fit_ppca(FLUX, **{"n_components": 1, **options})
