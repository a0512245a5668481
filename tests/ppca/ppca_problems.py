"""What several tests of step 1 share: every kind of fit, and what is compared of two."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rsca_torch.ppca.e_step import Parameters
from rsca_torch.spectra.blocks import Arrays, Blocks

TIGHT = {"tolerance": 1e-13, "max_iterations": 20_000}
NOISES = ("isotropic", "measured", "measured+scatter")
EVERY_NOISE = pytest.mark.parametrize("noise", NOISES)
EVERY_FIT = pytest.mark.parametrize(("noise", "clip"), [(noise, clip) for noise in NOISES for clip in (None, 8.0)])
KINDS = pytest.mark.parametrize("measured", [False, True], ids=["isotropic", "measured"])
FLUX = np.random.default_rng(21).normal(size=(10, 5))
HOLED = np.where(np.eye(10, 5) == 1, np.nan, FLUX)


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


def arguments_of(data, noise):
    """(flux, valid, sigma): no sigma for isotropic noise."""
    return data.flux, data.valid, None if noise == "isotropic" else data.sigma


def variance_of(model, data, noise):
    """(N, P)."""
    return data.variance * (noise != "isotropic") + model.scatter.numpy()


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
