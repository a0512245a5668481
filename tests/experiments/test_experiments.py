"""Every experiment that is no item of `rsca reproduce` runs, at toy size."""

from __future__ import annotations

import re

import pytest
from scripts import printed_by

pytestmark = [
    pytest.mark.filterwarnings("default::rsca_torch.NumericalWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),  # numpy.matlib, which pyppca imports
]


@pytest.fixture(scope="module")
def small(surveys):
    return ["simulation.n_field=100", f"simulated={surveys}/of-100-${{seed}}"]


def test_judge(shared, tmp_path):
    printed = printed_by("simulation/judge.py", shared, "--stars", 150, "--picture", tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert re.search(r"mean spectrum.*0\.9\d", " ".join(printed.split()))


def test_rates(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = printed_by("simulation/rates.py", 0, 1, *small, "compressor.n_components=4", "compressor.tolerance=1e-3")
    rows = re.findall(r"^\| ([a-z ]+) \| ([a-z -]+) \| ([\d.]+) \(([\d.]+)-([\d.]+)\)", printed, re.MULTILINE)
    assert len(rows) == 10
    assert all(float(low) <= float(mean) <= float(high) for _, _, mean, low, high in rows)


def test_what_the_noise_is_worth(small, tmp_path):
    baseline = "isotropic, K = 4"
    options = ("--seeds", 1, "--components", 3, 4, "--folder", tmp_path, "--baseline", baseline)
    printed = printed_by("noise/rates.py", *small, *options)
    rates = dict(re.findall(r"^\| ([^|]+) \| ([\d.]+) ", printed, re.MULTILINE))
    assert {"authors' program (pyppca), K = 4", "measured+scatter, clip 5, K = 4", "K = auto"} <= set(rates)
    assert re.findall(r"^\| ([^|]+) \| [^|]+ \| 1.00 \([^)]+\) \|  \|", printed, re.MULTILINE) == [baseline]


def test_all_learners_side_by_side(small, tmp_path):
    names = ["rsca", "nca, random start", "spectral"]
    options = ("--seeds", 1, "--folder", tmp_path, "--learners", *names, "--recipe", "epochs=2", "inner=0")
    printed = printed_by("learners/compare.py", *small, "compressor.n_components=3", *options)
    rates = dict(re.findall(r"^\| ([^|]+) \| ([\d.]+) ", printed, re.MULTILINE))
    assert list(rates) == names
    assert (tmp_path / "learners.png").stat().st_size > 1000


def test_what_groups_are_worth(surveys, tmp_path):
    small = ["simulation.n_field=100", "simulation.repeats=60", f"simulated={surveys}/grouped-${{seed}}"]
    small += ["simulation.groups.pairs=20", "simulation.groups.moving_groups=3", "compressor.tolerance=1e-3"]
    options = ["--seeds", 1, "--components", 4, "--clusters", 6, "--folder", tmp_path]
    printed = printed_by("repeats/groups.py", *options, *small)
    rates = dict(re.findall(r"^\| ([^|]+) \| ([\d.]+) ", printed, re.MULTILINE))
    kinds = ("clusters", "clusters, binaries", "clusters, moving groups", "all")
    assert {*rates} >= {f"{kind}; floor=repeats sd, trim=2, K = 4" for kind in kinds}
    assert len({rates[f"{kind}; floor=none, K = 4"] for kind in kinds}) > 1
    assert "All clusters judge" in printed
    assert "6 clusters judge" in printed


def test_what_repeats_are_worth(surveys, tmp_path):
    small = ["simulation.n_field=100", "simulation.repeats=60", f"simulated={surveys}/again-${{seed}}"]
    options = ["--seeds", 1, "--components", 4, "--wrong", 0.1, "--repeats", 0, 40, "--clusters", 6]
    printed = printed_by("repeats/rates.py", *options, "--folder", tmp_path, *small, "compressor.tolerance=1e-3")
    rates = dict(re.findall(r"^\| ([^|]+) \| ([\d.]+) ", printed, re.MULTILINE))
    assert {"floor=none, K = 4", "floor=repeats sd, trim=2, K = 4", "floor=auto, 40 repeats, K = 4"} <= set(rates)
    assert "floor=noise sd, 6 clusters, K = 4" in rates
    assert printed.count("of the training members wrong") == 2


def test_a_loop_of_ones_own(small, tmp_path):
    options = ("--steps", 2, "--folder", tmp_path)
    small = [option.replace("${seed}", "0") for option in small]
    printed = printed_by("own_training/contrastive.py", *options, *small, "compressor.n_components=4")
    rates = dict(re.findall(r"^\| ([^|]+) \| ([\d.]+) ", printed, re.MULTILINE))
    assert [*rates] == ["RSCA", "latents of step 1", "contrastive, of latents", "spectra", "contrastive, of spectra"]
    assert 0 < float(rates["RSCA"]) < float(rates["latents of step 1"]) < 100
