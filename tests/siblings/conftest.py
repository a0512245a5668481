"""A small survey: five clusters and a field, spectra of 30 bins, and a model of them that is calibrated."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from rsca_torch import RSCA, ScaledComponents, Spectra
from rsca_torch.evaluation.sibling_calibration import sibling_calibration
from rsca_torch.training.members import Members

AXES = np.random.default_rng(7).normal(size=(4, 30)) * 0.1
CLUSTERS = 6


def spectra(latents, first=0, noise=0.01, seed=0, **stars):
    flux = 1 + latents @ AXES + np.random.default_rng(seed).normal(size=(len(latents), 30)) * noise
    stars = {"id": [f"2M{first + number:04d}" for number in range(len(latents))], **stars}
    stars = {"velocity": np.zeros(len(latents)), "extinction": np.full(len(latents), 0.1), **stars}
    return Spectra(flux, sigma=np.full(flux.shape, noise), stars=stars)


@pytest.fixture(scope="session")
def survey():
    """(field of 120, members of 6 clusters of 5, all of them together)."""
    random = np.random.default_rng(3)
    centres = np.repeat(random.normal(size=(CLUSTERS, 4)), 5, axis=0)
    names = np.repeat([f"NGC {number}" for number in range(CLUSTERS)], 5)
    velocity = np.concatenate([random.normal(0, 3, 120), np.zeros(30)])
    latents = np.concatenate([random.normal(size=(120, 4)), centres + random.normal(size=centres.shape) * 0.05])
    group, snr = np.concatenate([np.full(120, ""), names]), random.uniform(50, 200, 150)
    every = spectra(latents, group=group, snr=snr, velocity=velocity, FE_H=latents[:, 0])
    return every.take(np.arange(120)), every.take(np.arange(120, 150)), every


@pytest.fixture(scope="session")
def model(survey):
    field, members, _ = survey
    fitted = RSCA.fit(field, members, n_components=4, floor="noise")
    of_field, of_members = fitted.ppca.embed(field), fitted.ppca.embed(members, covariances=True)
    given = Members(of_members.latents, members.stars.group, np.ones((30, 120), dtype=bool), None, of_members.noise)
    make = partial(ScaledComponents, robust=False, floor="noise", trim=2.0)
    fitted.calibration = sibling_calibration(make, of_field.latents, given)
    fitted.calibration["pairs_within"] = {"max_velocity": 5.0, "max_extinction": 0.05}
    assert torch.isfinite(fitted.sigma_r).all()
    return fitted
