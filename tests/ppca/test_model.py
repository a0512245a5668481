"""The model against the exact Gaussians (reference.py): posterior, likelihood, reconstruction."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from ppca_problems import (
    EVERY_FIT,
    EVERY_NOISE,
    KINDS,
    TIGHT,
    arguments_of,
    close,
    same,
    variance_of,
)

import rsca_torch.spectra.blocks
from rsca_torch import InputError, fit_ppca
from rsca_torch.spectra.blocks import Arrays


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
def test_a_star_without_valid_bins_has_the_prior(make_spectra, measured):
    data = make_spectra(12, measured=measured)
    model = fit_ppca(data.flux, data.valid, 2, data.sigma)
    sigma = None if data.sigma is None else data.sigma[:1]
    mean, spread = model.posterior(data.flux[:1], np.zeros((1, 12), dtype=bool), sigma)
    assert torch.equal(mean, torch.zeros(1, 2, dtype=torch.float64))
    assert torch.equal(spread, torch.eye(2, dtype=torch.float64)[None])
    assert model.log_likelihood(data.flux[:1], np.zeros((1, 12), dtype=bool), sigma) == 0


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


@EVERY_FIT
def test_posterior_and_likelihood_of_every_kind_of_model(planted, noise, clip, tolerance):
    data = planted(46, noise)
    model = fit_ppca(*arguments_of(data, noise)[:2], 2, arguments_of(data, noise)[2], noise, clip=clip)
    plane = model.loadings.numpy(), model.mean.numpy()
    variance = variance_of(model, data, noise)
    aside = np.zeros_like(data.valid)
    if clip is not None:
        aside = reference.set_aside(data.flux, data.valid, variance, *plane, clip)
        assert aside.sum() >= 4  # of 5: among so few stars a component may take one
        np.testing.assert_array_equal(model.set_aside(*arguments_of(data, noise)), aside)
    else:
        assert not model.set_aside(*arguments_of(data, noise)).any()
    means, covariances = reference.ppca_posterior(data.flux, data.valid & ~aside, variance, *plane)
    got = model.posterior(*arguments_of(data, noise))
    close(got[0], means, **tolerance[torch.float64])
    close(got[1], covariances, **tolerance[torch.float64])
    likelihood = reference.clipped_log_likelihood(data.flux, data.valid, variance, *plane, clip or 0.0, aside)
    assert model.log_likelihood(*arguments_of(data, noise)) == pytest.approx(likelihood, rel=1e-9)


@EVERY_FIT
def test_without_errors_the_likelihood_is_that_of_the_bins_variances(planted, noise, clip):
    data = planted(47, noise)
    model = fit_ppca(*arguments_of(data, noise)[:2], 2, arguments_of(data, noise)[2], noise, clip=clip)
    variance = np.broadcast_to(model.bin_variance.numpy(), data.flux.shape)
    plane = model.loadings.numpy(), model.mean.numpy()
    aside = np.zeros_like(data.valid)
    if clip is not None:
        aside = reference.set_aside(data.flux, data.valid, variance, *plane, clip)
    likelihood = reference.clipped_log_likelihood(data.flux, data.valid, variance, *plane, clip or 0.0, aside)
    assert model.log_likelihood(data.flux, data.valid) == pytest.approx(likelihood, rel=1e-9)


@pytest.mark.filterwarnings("ignore:1 of 12 bins have fewer valid stars:rsca_torch.NumericalWarning")
@EVERY_NOISE
def test_a_first_bin_that_was_left_out_is_not_in_the_likelihood(scattered, noise):
    data = scattered(48)
    data.valid[:, 0] = False
    flux, valid, sigma = arguments_of(data, noise)
    model = fit_ppca(flux, valid, 2, sigma, noise, **TIGHT)
    less = fit_ppca(flux[:, 1:], valid[:, 1:], 2, None if sigma is None else sigma[:, 1:], noise, **TIGHT)
    expected = less.log_likelihood(flux[:, 1:], valid[:, 1:], None if sigma is None else sigma[:, 1:])
    assert model.log_likelihood(flux, valid, sigma) == pytest.approx(expected, rel=1e-9)


@EVERY_FIT
def test_a_star_without_valid_bins_has_the_prior_whatever_the_model(planted, noise, clip):
    data = planted(50, noise)
    flux, valid, sigma = arguments_of(data, noise)
    model = fit_ppca(flux, valid, 2, sigma, noise, clip=clip)
    valid[0] = False
    mean, spread = model.posterior(flux, valid, sigma)
    assert torch.equal(mean[0], torch.zeros(2, dtype=torch.float64))
    assert torch.equal(spread[0], torch.eye(2, dtype=torch.float64))
    assert not model.set_aside(flux, valid, sigma)[0].any()
    only = None if sigma is None else sigma[:1]
    assert model.log_likelihood(flux[:1], valid[:1], only) == 0


@EVERY_FIT
@pytest.mark.parametrize("elements", [4_000_000, 12 * 7])
def test_one_look_gives_latents_what_is_set_aside_and_covariances(planted, noise, clip, elements, monkeypatch):
    """Bit for bit what each gives alone, over several blocks too."""
    data = planted(51, noise)
    flux, valid, sigma = arguments_of(data, noise)
    model = fit_ppca(flux, valid, 2, sigma, noise, clip=clip)
    looks, posteriors = [], model.posteriors
    monkeypatch.setattr(rsca_torch.spectra.blocks, "BLOCK_ELEMENTS", elements)
    monkeypatch.setattr(model, "posteriors", lambda source: looks.append(1) or posteriors(source))
    found = model.embed(Arrays(flux, valid, sigma), covariances=True)
    assert len(looks) == 1
    assert model.embed(Arrays(flux, valid, sigma)).covariances is None
    mean, covariance = model.posterior(flux, valid, sigma)
    assert torch.equal(found.latents, model(flux, valid, sigma))
    assert torch.equal(found.latents, mean)
    assert torch.equal(found.covariances, covariance)
    one_by_one = [posterior.covariance() for posterior in posteriors(Arrays(flux, valid, sigma))]
    assert len(one_by_one) == (1 if elements > 12 * 7 else 12)
    assert torch.equal(found.covariances, torch.cat(one_by_one))
    weight = valid / variance_of(model, data, noise)
    weight[found.stars, found.bins] = 0
    loadings = model.loadings.numpy()
    expected = np.linalg.inv(np.eye(2) + np.einsum("np,pi,pj->nij", weight, loadings, loadings))
    np.testing.assert_allclose(found.covariances, expected, rtol=1e-9, atol=1e-12)
    assert (len(found.stars) > 0) == (clip is not None)


def test_no_stars_have_no_covariances(make_spectra):
    data = make_spectra(52)
    found = fit_ppca(data.flux, data.valid, 2).embed(Arrays(data.flux[:0]), covariances=True)
    assert found.latents.shape == (0, 2)
    assert found.covariances.shape == (0, 2, 2)


@EVERY_FIT
@pytest.mark.filterwarnings("ignore:PPCA has not converged:rsca_torch.NumericalWarning")
def test_it_says_what_it_is(planted, noise, clip):
    flux, valid, sigma = arguments_of(planted(53, noise), noise)
    ended = fit_ppca(flux, valid, 2, sigma, noise, 1e-4, clip=clip)
    stopped = fit_ppca(flux, valid, 2, sigma, noise, 0.0, 3, clip=clip)
    clipped = "" if clip is None else ", clip=8"
    assert ended.noise == stopped.noise == noise
    start = f"MaskedPPCA(K=2, P=12, noise={noise}{clipped}, "
    assert repr(ended) == f"{start}converged in {len(ended.history)} iterations)"
    assert repr(stopped) == f"{start}not converged in 3 iterations)"
