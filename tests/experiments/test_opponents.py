"""Programs of today beside ours: what stands in the tables, with none of them at hand."""

from __future__ import annotations

import re
import runpy
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from astropy.table import Table
from scipy.stats import multivariate_normal
from scripts import printed_by

from rsca_torch import leave_one_cluster_out
from rsca_torch.comparison.representation import Representation
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.report.reproduction import EXPERIMENTS
from rsca_torch.spectra.blocks import Arrays
from rsca_torch.spectra.stars import Stars
from rsca_torch.testing import drawn_problem

pytestmark = [
    pytest.mark.filterwarnings("default::rsca_torch.NumericalWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]


@pytest.fixture
def of(monkeypatch):
    """What a script defines."""
    monkeypatch.setattr(sys, "path", [str(EXPERIMENTS / "benchmarks"), *sys.path])
    return lambda name: SimpleNamespace(**runpy.run_path(str(EXPERIMENTS / "benchmarks" / f"{name}.py")))


def test_both_steps_and_a_program_that_fails(surveys, tmp_path):
    (tmp_path / "others" / "ppca-rs" / "bin").mkdir(parents=True)
    (tmp_path / "others" / "ppca-rs" / "bin" / "python").symlink_to(sys.executable)  # where there is no ppca-rs
    small = ["simulation.n_field=100", "simulation.repeats=60", f"simulated={surveys}/again-${{seed}}"]
    options = ["--seeds", 1, "--components", 4, "--every", 20, "--folder", tmp_path, "--others", tmp_path / "others"]
    printed = printed_by("benchmarks/opponents.py", *options, *small)
    number = r"-?\d+(?:\.\d+)?"
    row = rf"^\| ours, [a-z+, 5]+ \(\d+ iterations\)(?: \| {number}){{6}} \|$"
    assert len(re.findall(row, printed, re.MULTILINE)) == 2
    assert "| ppca-rs | ModuleNotFoundError: No module named 'ppca_rs' |" in printed
    rates = dict(re.findall(r"^\| ([^|]+) \| ([\d.]+) \(", printed, re.MULTILINE))
    learners = ["rsca, floor=none", "rsca, floor=repeats sd, trim=2", "scikit-learn LDA, OAS", "scikit-learn NCA"]
    assert list(rates) == [f"{name}, K = 4" for name in learners]


@pytest.mark.parametrize("noise", ["isotropic", "measured"])
def test_hidden_bins_are_told_by_the_exact_model(of, noise):
    opponents = of("opponents")
    random = np.random.default_rng(0)
    loadings, sigma = random.normal(size=(6, 2)), np.full((3, 6), 0.5)
    found = {"loadings": loadings, "mean": np.ones(6)} | (
        {"variance": np.float64(0.25)} if noise == "isotropic" else {}
    )
    flux = torch.from_numpy(random.normal(size=(3, 6)))
    hidden = torch.zeros(3, 6, dtype=torch.bool)
    hidden[1, 2] = True
    seen = {
        "flux": flux,
        "sigma": torch.from_numpy(sigma),
        "valid": torch.ones(3, 6, dtype=torch.bool),
        "hidden": hidden,
    }
    problem = opponents.Problem(**seen, members=Arrays(flux[:0]), clusters=np.array([]), allowed=torch.zeros(0, 3))
    model = opponents.model_of(found)
    embedding = model.embed(Arrays(flux, ~hidden, torch.from_numpy(sigma)), covariances=True)
    covariance, others = loadings @ loadings.T + 0.25 * np.eye(6), np.arange(6) != 2
    joint = multivariate_normal(np.ones(6), covariance).logpdf(flux[1])
    rest = multivariate_normal(np.ones(5), covariance[others][:, others]).logpdf(flux[1, others])
    got = problem._of_hidden(model, embedding.latents, embedding.covariances)
    assert got == pytest.approx(joint - rest, rel=1e-6)


def test_a_map_is_taken_that_was_found_without_the_judged_cluster(of):
    learners, stars = of("opponents_learners"), drawn_problem()
    names = np.unique(stars.clusters)
    seen = np.stack([np.eye(6) * (place + 1) for place in range(len(names))])
    kept = learners.Kept({"names": names, "maps": seen})
    rest = np.asarray(stars.clusters) != names[3]
    kept.initialise(stars.field, stars.members[torch.from_numpy(rest)], np.asarray(stars.clusters)[rest])
    assert torch.equal(kept(stars.members), 4 * stars.members)
    result = leave_one_cluster_out(lambda: kept, stars.field, stars.members, stars.clusters)
    assert set(result.cluster_rates) == set(names.tolist())


@pytest.mark.parametrize("name", ["Theirs", "Kept"])
def test_other_packages_are_given_the_latents_that_rsca_is_given(of, name):
    """And not those in units of flux, of which a map that was found of latents is a wrong one."""
    stars = Stars.of(Table({"id": ["a"], "group": ["M 67"]}), id="id", group="group")
    latents = torch.tensor([[3.0, 1.0]]).double()
    model = MaskedPPCA(torch.tensor([[5.0, 0], [0, 7.0]]), torch.ones(2), torch.ones(2), 1.0)
    on = Representation("spectra", latents, latents, stars, stars, (model,))
    learner = getattr(of("opponents_learners"), name)(None)
    assert torch.equal(on.seen_by(lambda: learner).members, latents)
