"""Every experiment runs, at toy size."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


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
