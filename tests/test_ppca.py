"""Step 1 against the exact Gaussians (reference.py), an independent optimiser's maximum, and its invariances."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

import rsca_torch.blocks
import rsca_torch.em
from rsca_torch import InputError, NumericalWarning, fit_ppca
from rsca_torch.blocks import Blocks, bin_sums
from rsca_torch.em import Parameters, em_step

TIGHT = {"tolerance": 1e-13, "max_iterations": 20_000}
KINDS = pytest.mark.parametrize("measured", [False, True], ids=["isotropic", "measured"])


def close(actual, expected, rtol, atol):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=atol)


def covariance(model):
    return (model.loadings @ model.loadings.T).numpy()


def same(a, b):
    """Bit for bit."""
    return (
        all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("loadings", "mean", "bin_variance"))
        and a.history == b.history
        and a.noise_variance == b.noise_variance
    )


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
def test_posterior_likelihood_and_reconstruction_are_those_of_the_full_gaussian(make_spectra, measured, tolerance):
    data = make_spectra(1, measured=measured)
    data.valid[4] = False
    model = fit_ppca(data.flux, data.valid, 2, data.sigma)
    variance = data.variance if measured else np.full(data.flux.shape, model.noise_variance)
    arguments = (data.flux, data.valid, variance, model.loadings.numpy(), model.mean.numpy())
    means, covariances = reference.ppca_posterior(*arguments)
    got_mean, got_covariance = model.posterior(data.flux, data.valid, data.sigma)
    close(got_mean, means, **tolerance[torch.float64])
    close(got_covariance, covariances, **tolerance[torch.float64])
    close(model(data.flux, data.valid, data.sigma), means, **tolerance[torch.float64])
    reconstruction = means @ model.loadings.numpy().T + model.mean.numpy()
    close(model.reconstruct(data.flux, data.valid, data.sigma), reconstruction, **tolerance[torch.float64])
    got = model.log_likelihood(data.flux, data.valid, data.sigma)
    assert got == pytest.approx(reference.ppca_log_likelihood(*arguments), rel=1e-10)


def test_without_sigma_a_measured_model_uses_the_harmonic_mean(make_spectra, tolerance):
    data = make_spectra(2, measured=True)
    model = fit_ppca(data.flux, data.valid, 2, data.sigma)
    harmonic = [1 / np.mean(1 / data.variance[data.valid[:, p], p]) for p in range(data.flux.shape[1])]
    close(model.bin_variance, harmonic, **tolerance[torch.float64])
    variance = np.broadcast_to(harmonic, data.flux.shape)
    means, _ = reference.ppca_posterior(data.flux, data.valid, variance, model.loadings.numpy(), model.mean.numpy())
    close(model(data.flux, data.valid), means, **tolerance[torch.float64])


@KINDS
def test_the_linear_map_is_the_posterior_mean_of_a_complete_star(make_spectra, measured, tolerance):
    data = make_spectra(3, measured=measured)
    model = fit_ppca(data.flux, data.valid, 2, data.sigma)
    mapped = (torch.from_numpy(data.flux) - model.mean) @ model.linear_map().T
    close(mapped, model(data.flux), **tolerance[torch.float64])


@KINDS
@given(seed=st.integers(0, 2**16))
def test_an_em_step_is_the_oracles_and_cannot_lower_the_likelihood(make_spectra, measured, tolerance, seed):
    data = make_spectra(seed, n_stars=15, n_bins=6, missing=0.3, measured=measured)
    data.valid[:2] = True  # every bin has a star
    rng = np.random.default_rng(seed + 1)
    loadings, mean, noise = rng.normal(size=(6, 2)), rng.normal(size=6), 1.0 if measured else 0.7
    weight = 1 / data.variance if measured else np.ones_like(data.flux)
    blocks = Blocks(data.flux, data.valid, data.sigma, "measured" if measured else "isotropic")
    theta = Parameters(torch.from_numpy(loadings), torch.from_numpy(mean), noise)
    before, after = em_step(blocks, bin_sums(blocks), theta)
    new_loadings, new_mean, new_noise = reference.em_step(
        data.flux, data.valid, weight, loadings, mean, noise, estimate_noise=not measured, expand=True
    )
    close(after.loadings @ after.loadings.T, new_loadings @ new_loadings.T, **tolerance[torch.float64])
    close(after.mean, new_mean, **tolerance[torch.float64])
    assert after.variance == pytest.approx(new_noise, rel=1e-9)
    start = reference.ppca_log_likelihood(data.flux, data.valid, noise / weight, loadings, mean)
    assert before == pytest.approx(start / data.valid.sum(), rel=1e-9)
    climbed = reference.ppca_log_likelihood(
        data.flux, data.valid, after.variance / weight, after.loadings.numpy(), after.mean.numpy()
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
    monkeypatch.setattr(rsca_torch.em, "_extrapolate", lambda start, *_: start)
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
def test_a_star_without_valid_bins_has_the_prior(make_spectra, measured):
    data = make_spectra(12, measured=measured)
    model = fit_ppca(data.flux, data.valid, 2, data.sigma)
    sigma = None if data.sigma is None else data.sigma[:1]
    mean, spread = model.posterior(data.flux[:1], np.zeros((1, 12), dtype=bool), sigma)
    assert torch.equal(mean, torch.zeros(1, 2, dtype=torch.float64))
    assert torch.equal(spread, torch.eye(2, dtype=torch.float64)[None])
    assert model.log_likelihood(data.flux[:1], np.zeros((1, 12), dtype=bool), sigma) == 0


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
    monkeypatch.setattr(rsca_torch.blocks, "BLOCK_ELEMENTS", elements)
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


@KINDS
def test_float32_is_computed_in_float64(make_spectra, measured):
    data = make_spectra(16, measured=measured)
    single = data.flux.astype(np.float32)
    sigma = None if data.sigma is None else data.sigma.astype(np.float32)
    double = None if sigma is None else sigma.astype(np.float64)
    model = fit_ppca(single, data.valid, 2, sigma)
    assert model.loadings.dtype == torch.float64
    assert same(model, fit_ppca(torch.from_numpy(single.astype(np.float64)), data.valid, 2, double))
    assert model(single, data.valid, sigma).dtype == torch.float64


@pytest.fixture
def warn_always():
    """torch warns of read-only arrays once in a process; here every time."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.mark.usefixtures("warn_always")
@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(
            "r",
        ),
        "r+",
    ],
)
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
    with pytest.warns(NumericalWarning, match="2 of 12 bins have no valid star"):
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


FLUX = np.random.default_rng(21).normal(size=(10, 5))
HOLED = np.where(np.eye(10, 5) == 1, np.nan, FLUX)


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
        ({"flux": FLUX, "noise": "poisson"}, "noise must be isotropic or measured.*'poisson'"),
        ({"flux": np.ones((10, 5))}, "without noise"),
        ({"flux": np.outer(np.arange(10.0), np.arange(5.0))}, "without noise"),
    ],
)
def test_what_cannot_be_fitted(arguments, message):
    with pytest.raises(InputError, match=message):
        fit_ppca(n_components=1, **arguments)


@pytest.mark.filterwarnings("ignore:5 of 5 bins have no valid star:rsca_torch.NumericalWarning")
def test_no_valid_bin_at_all():
    with pytest.raises(InputError, match="valid"):
        fit_ppca(FLUX, np.zeros((10, 5), dtype=bool), 1)


def test_big_endian_arrays_as_fits_files_hold_them(make_spectra):
    data = make_spectra(24)
    assert same(fit_ppca(data.flux.astype(">f8"), data.valid, 2), fit_ppca(data.flux, data.valid, 2))


def test_no_stars_give_no_latents(make_spectra):
    data = make_spectra(25)
    model = fit_ppca(data.flux, data.valid, 2)
    assert model(data.flux[:0]).shape == (0, 2)
    assert model.reconstruct(data.flux[:0]).shape == (0, 12)
    assert model.posterior(data.flux[:0])[1].shape == (0, 2, 2)
    assert model.log_likelihood(data.flux[:0]) == 0


def test_what_cannot_be_compressed(make_spectra):
    data = make_spectra(22, measured=True)
    model = fit_ppca(data.flux, data.valid, 2, data.sigma)
    with pytest.raises(InputError, match=r"the model has 12 bins, flux has shape \(60, 11\)"):
        model(data.flux[:, :11])
    with pytest.raises(InputError, match=r"valid must have the shape of flux \(60, 12\), got \(59, 12\)"):
        model(data.flux, data.valid[:59])
    with pytest.raises(InputError, match="not finite"):
        model(np.full((1, 12), np.nan), np.ones((1, 12), dtype=bool))
    with pytest.raises(InputError, match="error that is not positive"):
        model(data.flux, data.valid, np.zeros((60, 12)))


def test_measured_or_isotropic_follows_from_sigma(make_spectra):
    data = make_spectra(23, measured=True)
    assert same(fit_ppca(data.flux, data.valid, 2, data.sigma, "isotropic"), fit_ppca(data.flux, data.valid, 2))
    assert fit_ppca(data.flux, data.valid, 2, data.sigma).noise_variance is None
