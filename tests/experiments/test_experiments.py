"""Every experiment runs, at toy size."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def run(monkeypatch, script, *arguments):
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    runpy.run_path(str(EXPERIMENTS / script), run_name="__main__")


def test_judge(shared, tmp_path, monkeypatch, capsys):
    run(monkeypatch, "simulation/judge.py", shared, "--stars", 150, "--picture", tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert re.search(r"mean spectrum.*0\.9\d", " ".join(capsys.readouterr().out.split()))


@pytest.mark.filterwarnings("default::rsca_torch.NumericalWarning")
def test_rates(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["simulation.n_field=100", "compressor.n_components=4", "compressor.tolerance=1e-3"]
    run(monkeypatch, "simulation/rates.py", 0, 1, *small)
    printed = capsys.readouterr().out
    rows = re.findall(r"^\| ([a-z ]+) \| ([a-z -]+) \| ([\d.]+) \(([\d.]+)-([\d.]+)\)", printed, re.MULTILINE)
    assert len(rows) == 10
    assert all(float(low) <= float(mean) <= float(high) for _, _, mean, low, high in rows)


def run_alone(script, *arguments):
    """In a process of its own: the benchmarks fork theirs, and set the number of threads."""
    command = [sys.executable, str(EXPERIMENTS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_what_the_noise_is_worth(tmp_path):
    baseline = ("--baseline", "isotropic, K = 4")
    small = ("simulation.n_field=100", "--seeds", 1, "--components", 3, 4, "--folder", tmp_path, *baseline)
    printed = run_alone("noise/rates.py", *small)
    rates = dict(re.findall(r"^\| ([^|]+) \| ([\d.]+) ", printed, re.MULTILINE))
    assert {"authors' program (pyppca), K = 4", "measured+scatter, clip 5, K = 4", "K = auto"} <= set(rates)
    assert re.findall(r"^\| ([^|]+) \| [^|]+ \| 1.00 \([^)]+\) \|  \|", printed, re.MULTILINE) == [baseline[1]]


def test_all_learners_side_by_side(tmp_path):
    small = ("simulation.n_field=100", "compressor.n_components=3", "--seeds", 1, "--folder", tmp_path)
    names = ["rsca", "nca, random start", "spectral"]
    learners = ("--learners", *names, "--recipe", "epochs=2", "inner=0")
    printed = run_alone("learners/compare.py", *small, *learners)
    rates = dict(re.findall(r"^\| ([^|]+) \| ([\d.]+) ", printed, re.MULTILINE))
    assert list(rates) == names
    assert (tmp_path / "learners.png").stat().st_size > 1000
