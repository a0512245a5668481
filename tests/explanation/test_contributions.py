"""What bins add adds up: to features, to distances, to variances; exactly, censored or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rsca_torch import RSCA, Spectra
from rsca_torch.explanation.contributions import of_field, of_stars
from rsca_torch.removal import Removal, without


@pytest.fixture(scope="module", params=["as they are", "something removed"])
def seen(asked, request):
    """A model and members' spectra as it sees them; a removal of a direction in step 1's own latents."""
    model, spectra = asked.model, asked.store.members
    if request.param == "something removed":
        ppca = model.ppca
        reading = torch.eye(4, dtype=torch.float64)[:1]
        removal = Removal(ppca, ppca.loadings[:, :1], reading, torch.zeros(4).double(), torch.ones(1).double())
        model = RSCA(ppca, model.rotation, model.centre, model.sigma_r, model.wavelength, removal)
    return model, without(spectra.on(model.wavelength), model.removal)


def test_bins_add_up_to_features_and_distances(seen, asked):
    model, spectra = seen
    found = of_stars(model, spectra.take(slice(0, 2)))
    features = model.embed(asked.store.members.take(slice(0, 2))).double()
    torch.testing.assert_close(found.features, features, rtol=1e-5, atol=1e-5)  # which are float32, as the store is
    constant = found.features - found.parts.sum(2)
    torch.testing.assert_close(constant[0], constant[1], rtol=1e-9, atol=1e-9)
    square = (found.features[0] - found.features[1]).square().sum()
    torch.testing.assert_close(found.distance_parts.sum(), square, rtol=1e-10, atol=0)


def test_a_censored_bin_adds_nothing(seen):
    model, spectra = seen
    found = of_stars(model, spectra)
    _, valid, _ = spectra.read(slice(None))
    assert not valid.all()
    assert torch.equal(found.valid, valid)
    censored = ~valid[:, None, :].expand_as(found.parts)
    assert (found.parts[censored] == 0).all()
    assert (found.parts[~censored] != 0).all()


def test_a_bin_that_is_set_aside_is_not_used():
    model = fitted_without_errors(clip=5.0)
    flux = model.ppca.mean.repeat(2, 1)
    flux[1, 3] += 9.0
    found = of_stars(model, Spectra(flux, wavelength=model.wavelength))
    assert found.valid.sum(1).tolist() == [len(model.wavelength), len(model.wavelength) - 1]
    assert (found.parts[1, :, 3] == 0).all()


def fitted_without_errors(clip=None):
    rng = np.random.default_rng(3)
    flux = 1 + rng.normal(size=(80, 2)) @ rng.normal(size=(2, 12)) / 5 + rng.normal(size=(80, 12)) / 50
    labels = np.repeat(["", "A", "B", "C"], [56, 8, 8, 8])
    flux[56:] = np.repeat(flux[[56, 64, 72]], 8, axis=0) + rng.normal(size=(24, 12)) / 50
    spectra = Spectra(flux, wavelength=15000.0 + np.arange(12), stars={"id": np.arange(80), "group": labels})
    field, members = spectra.take(labels == ""), spectra.take(labels != "")
    return RSCA.fit(field, members, n_components=2, noise="isotropic", clip=clip, robust=False, floor=None)


def test_of_complete_stars_it_is_the_linear_map():
    """Eq. 17.3: (x_a - x_b) g, g = weight^T (y_a - y_b)."""
    model = fitted_without_errors()
    flux = torch.from_numpy(1 + np.random.default_rng(1).normal(size=(2, 12)) / 10)
    found = of_stars(model, Spectra(flux, wavelength=model.wavelength))
    apart = model(flux)[0] - model(flux)[1]
    torch.testing.assert_close(found.distance_parts, (flux[0] - flux[1]) * (model.weight.T @ apart))


def test_shares_of_a_feature_s_variance(seen):
    """Eq. 17.4, against the covariance of what a bin adds with the feature."""
    model, spectra = seen
    found, shared = of_stars(model, spectra), of_field(model, spectra, [0, 2])
    for feature, of in zip((0, 2), shared, strict=True):
        y, parts = found.features[:, feature].numpy(), found.parts[:, feature].numpy()
        expected = [np.cov(parts[:, p], y)[0, 1] / y.var(ddof=1) for p in range(parts.shape[1])]
        np.testing.assert_allclose(of.share, expected, rtol=1e-8, atol=1e-10)
        assert float(of.share.sum()) == pytest.approx(1, abs=1e-10)
        np.testing.assert_allclose(of.mean, parts.mean(0), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(of.valid, found.valid.double().mean(0))


def test_many_blocks_are_one(seen, monkeypatch):
    model, spectra = seen
    (whole,) = of_field(model, spectra, [1])
    monkeypatch.setattr("rsca_torch.spectra.blocks.BLOCK_STARS", 5)
    (parts,) = of_field(model, spectra, [1])
    torch.testing.assert_close(whole.share, parts.share, rtol=1e-9, atol=1e-10)
