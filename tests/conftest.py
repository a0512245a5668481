"""Tolerances, the shared folder, and seeded problems of a few stars."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import numpy as np
import pytest
import torch

hypothesis.settings.register_profile("deterministic", derandomize=True, deadline=None, max_examples=20, database=None)
# pytest --hypothesis-profile=long: a hundred times as many, other ones every time
hypothesis.settings.register_profile("long", deadline=None, max_examples=2000)
hypothesis.settings.load_profile("deterministic")

TOLERANCE = {
    torch.float64: {"rtol": 1e-9, "atol": 1e-11},  # a few hundred sums, conditions up to ~1e4
    torch.float32: {"rtol": 1e-4, "atol": 1e-5},
    # Two fits stopped on different paths with a gain below 1e-12 a bin: the likelihood is quadratic about its maximum,
    # so parameters agree to about the root of that.
    "fit": {"rtol": 1e-5, "atol": 1e-5},
}


@pytest.fixture(scope="session")
def tolerance():
    """One table for all tests: dtype, or "fit" -> rtol and atol."""
    return TOLERANCE


@pytest.fixture(scope="session")
def shared():
    folder = Path(__file__).parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the shared folder with reference results beside the repository")
    return folder


@pytest.fixture(scope="session")
def make_spectra():
    """(seed, stars, bins, components, missing, measured) -> flux, valid, sigma (None: isotropic), variance (N, P)."""

    def make(seed=0, n_stars=60, n_bins=12, n_components=2, missing=0.2, measured=False):
        rng = np.random.default_rng(seed)
        loadings = rng.normal(size=(n_bins, n_components)) * np.linspace(1.0, 0.5, n_components)
        sigma = rng.uniform(0.1, 0.6, size=(n_stars, n_bins)) if measured else np.full((n_stars, n_bins), 0.3)
        latents = rng.normal(size=(n_stars, n_components))
        flux = 1 + latents @ loadings.T + sigma * rng.normal(size=(n_stars, n_bins))
        valid = rng.random((n_stars, n_bins)) >= missing
        return SimpleNamespace(flux=flux, valid=valid, sigma=sigma if measured else None, variance=sigma**2)

    return make


@pytest.fixture(scope="session")
def make_clusters():
    """(seed, spreads inside clusters) -> field (F, K), members (M, K), clusters, allowed; dimensions well mixed."""

    def make(seed=0, spreads=(0.1, 0.25, 0.4, 0.5), sizes=(6, 2, 5, 3, 4), n_field=150):
        rng = np.random.default_rng(seed)
        mixing = rng.normal(size=(len(spreads), len(spreads))) + 2 * np.eye(len(spreads))
        clusters = np.repeat([f"NGC {j}" for j in range(len(sizes))], sizes)
        centres = np.repeat(rng.normal(size=(len(sizes), len(spreads))), sizes, axis=0)
        members = centres + rng.normal(size=centres.shape) * np.array(spreads)
        field = rng.normal(size=(n_field, len(spreads)))
        order = rng.permutation(len(members))
        return SimpleNamespace(
            field=field @ mixing.T + 3,
            members=members[order] @ mixing.T + 3,
            clusters=clusters[order],
            allowed=rng.random((len(members), n_field)) < 0.6,
        )

    return make


@pytest.fixture(scope="session")
def small(make_clusters):
    """A small problem in which every dimension tells something, in every fold."""
    return make_clusters()


@pytest.fixture(autouse=True)
def _no_handler_outlives_its_test():
    """Hydra's and ours write to a stream that pytest closes after the test."""
    before = [*logging.root.handlers]
    yield
    for handler in [*logging.root.handlers]:
        if handler not in before and not type(handler).__module__.startswith("_pytest"):
            logging.root.removeHandler(handler)
