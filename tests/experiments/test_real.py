"""What is measured on real spectra and abundances, at toy size, and against what is known."""

from __future__ import annotations

import re
import runpy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from scripts import printed_by

from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.report.reproduction import EXPERIMENTS


@pytest.fixture
def giants_671():
    return SimpleNamespace(**runpy.run_path(str(EXPERIMENTS / "real" / "giants_671.py")))


@pytest.fixture
def drawn():
    """Spectra of three components, whose errors are what they say."""
    random = np.random.default_rng(0)
    sigma = random.uniform(0.005, 0.03, (200, 20))
    flux = 1 + random.normal(size=(200, 3)) @ random.normal(size=(3, 20)) * 0.03 + sigma * random.normal(size=(200, 20))
    return {"flux": flux, "err": sigma, "snr": 1 / sigma.mean(1)}


@pytest.mark.parametrize("noise", ["isotropic", "measured", "measured+scatter"])
def test_a_held_out_bin_is_predicted_as_the_joint_normal_distribution_has_it(giants_671, drawn, noise):
    flux, sigma = (torch.from_numpy(drawn[name]) for name in ("flux", "err"))
    random = torch.Generator().manual_seed(0)
    loadings, scatter = torch.randn(20, 3, generator=random).double() * 0.03, torch.full((20,), 1e-4).double()
    scatter = scatter if noise != "measured" else torch.zeros_like(scatter)
    model = MaskedPPCA(
        loadings, torch.ones(20).double(), scatter, 1e-4 if noise == "isotropic" else None, scatter=scatter
    )
    giants = giants_671.Giants(flux, sigma, torch.ones_like(flux, dtype=torch.bool), drawn["snr"])
    held_out = torch.zeros_like(giants.valid)
    held_out[7, 4] = True
    got = giants_671.predicted(model, giants, held_out)
    own = 0 if noise == "isotropic" else sigma[7].square()
    covariance = (loadings @ loadings.T + torch.diag(scatter + own)).numpy()
    others = np.arange(20) != 4
    joint, rest = (
        multivariate_normal(np.ones(20), covariance),
        multivariate_normal(np.ones(19), covariance[others][:, others]),
    )
    assert got.likelihood == pytest.approx(joint.logpdf(flux[7]) - rest.logpdf(flux[7, others]), rel=1e-9)
    assert got.star == [7]


def test_true_errors_are_found_honest(tmp_path, drawn):
    np.savez(tmp_path / "drawn.npz", **drawn)
    printed = printed_by("real/giants_671.py", tmp_path / "drawn.npz", "--splits", 3, "--components", 3)
    rows = {
        name: [float(number) for number in re.findall(r"(-?\d+\.\d+) ±", numbers)]
        for name, numbers in re.findall(r"^\| ([a-z][^|]+, K = 3) \| (\d+\.\d+ ±.*)", printed, re.MULTILINE)
    }
    assert len(rows) == 6
    assert rows["measured, K = 3"][0] > rows["isotropic, K = 3"][0] + 0.05
    assert rows["measured, K = 3"][-3:] == pytest.approx([68.3, 95.4, 99.7], abs=4)
    assert len(re.findall(r"^\| measured, K = 3 \| \d+ to \d+ \|", printed, re.MULTILINE)) == 3


def test_the_real_giants(shared):
    path = shared / "data" / "real" / "giants_671_stars_100_bins.npz"
    printed = printed_by("real/giants_671.py", path, "--splits", 2, "--components", 5)
    assert "671 stars x 100 bins, 67017 valid; 2 splits" in printed
    assert re.search(r"^\| measured\+scatter, K = 5 \| 3\.\d+ ± 0\.0\d+ \|", printed, re.MULTILINE)


@pytest.mark.filterwarnings("ignore")
def test_the_real_abundances(shared):
    real = shared / "data" / "real"
    errors = ["--errors", real / "allstar_dr14_rows.fits", "--factors", 2]
    printed = printed_by("real/abundances_dr13.py", real / "abundances_dr13_giants.csv", *errors)
    assert "5642 field stars, 22 members, 7 clusters" in printed
    rates = dict(re.findall(r"^\| ([^|]+) \| (\d+\.\d+) \| \d+\.\d+ to", printed, re.MULTILINE))
    floors = ["none", "errors of allstar_dr14_rows, 33 giants", "own scatter, 2 factors"]
    named = [f"rsca, floor={floor}{said}" for said in ("", " sd") for floor in floors]
    assert list(rates) == ["raw", "scaled", *named]
    assert float(rates[named[1]]) < float(rates["raw"]) < float(rates[named[0]])
