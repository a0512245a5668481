"""A small drawn survey, what is done with it, and how many examples a property is given (in the long run 100 times)."""

from __future__ import annotations

from types import SimpleNamespace

import hypothesis
import numpy as np
import torch
from hypothesis import strategies as st

from rsca_torch import RSCA, Spectra

BINS, FIELD, SIZES = 14, 40, (4, 3, 4)
#: Exact enough that two ways to one maximum agree, see the table of tolerances.
TIGHT = {"n_components": 3, "tolerance": 1e-13, "max_iterations": 2000, "products": "float64", "clip": None}
JUNK = st.sampled_from([np.nan, np.inf, -np.inf, 1e300, -1e300, 5e-324, 0.0, -1.0])
SEEDS = st.integers(0, 2**16)


def examples(few):
    """So many of a property that takes long; with `--hypothesis-profile=long` a hundred times as many."""
    return hypothesis.settings(max_examples=max(1, few * hypothesis.settings.default.max_examples // 20))


def drawn(seed=0, missing=0.15, sizes=SIZES, n_field=FIELD):
    """Flux, sigma, valid and labels of field and members: siblings are alike in two of three directions."""
    rng = np.random.default_rng(seed)
    axes = np.random.default_rng(7).normal(size=(3, BINS))
    centres = np.repeat(rng.normal(size=(len(sizes), 3)), sizes, axis=0)
    parts = [rng.normal(size=(n_field, 3)), centres + rng.normal(size=centres.shape) * [0.1, 0.2, 0.8]]
    labels = np.repeat([f"c{number}" for number in range(len(sizes))], sizes)
    found = []
    for latents in parts:
        sigma = rng.uniform(0.05, 0.2, size=(len(latents), BINS))
        flux = 1 + latents @ axes + sigma * rng.normal(size=sigma.shape)
        found.append(SimpleNamespace(flux=flux, sigma=sigma, valid=rng.random(flux.shape) >= missing))
    return SimpleNamespace(field=found[0], members=found[1], labels=labels)


def spectra(part, first=0, wavelength=None):
    """Of one of the parts."""
    ids = {"id": first + np.arange(len(part.flux))}
    return Spectra(part.flux, part.valid, part.sigma, wavelength, ids)


def fitted(survey, **options):
    """RSCA with three components."""
    parts = spectra(survey.field), spectra(survey.members, 1000)
    return RSCA.fit(*parts, survey.labels, **{**TIGHT, **options})


def apart(model, part):
    """(n, n) distances of embedded stars: what is left when signs and order of features are not told."""
    embedded = model.embed(spectra(part)).double()
    return torch.cdist(embedded, embedded, compute_mode="donot_use_mm_for_euclid_dist").numpy()
