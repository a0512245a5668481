"""Spectra with errors and a scatter of each bin, without and with cosmic rays."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="session")
def scattered(make_spectra):
    """Measured errors and a scatter of 0.2 on average in all bins but the first `without`; the truth in `scatter`."""

    def make(seed=0, n_stars=80, n_bins=12, without=0, **options):
        data = make_spectra(seed, n_stars=n_stars, n_bins=n_bins, measured=True, **options)
        rng = np.random.default_rng(seed + 1000)
        data.scatter = np.where(np.arange(n_bins) < without, 0, rng.uniform(0.1, 0.3, n_bins))
        data.flux = data.flux + np.sqrt(data.scatter) * rng.normal(size=data.flux.shape)
        return data

    return make


@pytest.fixture(scope="session")
def planted(scattered):
    """Five bins of 50 standard deviations, which nobody flagged, in `rays`; a scatter unless the noise is measured."""

    def make(seed, noise, **options):
        data = scattered(seed, without=100 * (noise == "measured"), **options)
        data.clean = data.flux.copy()
        rng = np.random.default_rng(seed + 2000)
        data.rays = np.zeros(data.flux.shape, dtype=bool)
        data.rays[rng.choice(len(data.flux), 5, replace=False), rng.integers(data.flux.shape[1], size=5)] = True
        data.valid |= data.rays
        data.flux[data.rays] += (50 * np.sqrt(data.variance + data.scatter))[data.rays]
        return data

    return make


@pytest.fixture(scope="session")
def small_scattered(make_spectra):
    """Measured errors and a true scatter of each bin, none in the first few; the truth in `scatter`."""

    def make(seed=0, n_stars=60, n_bins=8, scatter=0.2, without=3, **options):
        data = make_spectra(seed, n_stars=n_stars, n_bins=n_bins, measured=True, **options)
        rng = np.random.default_rng(seed + 1000)
        data.scatter = scatter * rng.uniform(0.5, 1.5, n_bins)
        data.scatter[:without] = 0
        data.flux = data.flux + np.sqrt(data.scatter) * rng.normal(size=data.flux.shape)
        return data

    return make
