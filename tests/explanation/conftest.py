"""A small survey of two elements and noise, in a store, and a model of it."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from rsca_torch import RSCA, NumericalWarning, Spectra
from rsca_torch.survey.described.arrays import store_of

FIRST = 4_611_686_018_427_387_904  # 2^62: as a float it would be the same for all stars
P, FIELD, SIBLINGS = 40, 90, 6
BLIND = 7  # row of a field star that has no valid bin among the first twenty


def drawn(seed=0):
    """Spectra with errors, censored bins and a table with all kinds of columns."""
    rng = np.random.default_rng(seed)
    n = FIELD + 4 * SIBLINGS
    group = np.repeat(["", "A", "B", "C", "D"], [FIELD, *[SIBLINGS] * 4])
    births = {name: rng.normal(size=3) for name in "ABCD"}
    latents = np.array([births[name] if name else rng.normal(size=3) for name in group])
    latents = latents + rng.normal(size=(n, 3)) * [0.2, 0.3, 0.5]
    axes = rng.normal(size=(3, P)) / 30
    sigma = rng.uniform(0.004, 0.012, size=(n, P))
    flux = 0.9 + latents @ axes + sigma * rng.normal(size=(n, P))
    valid = rng.random((n, P)) > 0.08
    valid[BLIND, :20] = False
    some = latents[:, 0].copy()
    some[::3] = np.nan
    stars = {
        "number": FIRST + np.arange(n),
        "cluster": group,
        "first": latents[:, 0],
        "some": some,
        "same": np.full(n, 2.0),
        "cost $5^2$": latents[:, 1],
        "note": [f"[red]{k}" for k in range(n)],
    }
    wavelength = 15000 + 0.4 * np.arange(P)
    return Spectra(flux, valid, sigma, wavelength, stars, id="number", group="cluster")


@pytest.fixture(scope="session")
def asked(tmp_path_factory):
    """spectra, store, its path, model, its path."""
    folder = tmp_path_factory.mktemp("explained")
    spectra = drawn()
    store = store_of(spectra, folder / "store")
    with warnings.catch_warnings(action="ignore", category=NumericalWarning):
        model = RSCA.fit(store.field, store.members, n_components=4, clip=None)
    model.save(folder / "model.safetensors")
    return SimpleNamespace(
        spectra=spectra, store=store, path=folder / "store", model=model, file=folder / "model.safetensors"
    )
