"""A new command and a new figure of `rsca reproduce` cost one file and one YAML each: in a copy of the package."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

COMMAND = '''
"""`rsca brightest`: the stars of highest signal-to-noise ratio."""

import logging

from rsca_torch.errors import InputError
from rsca_torch.survey.store import Store

log = logging.getLogger(__name__)


def run(config):
    """The stars of a store with the highest signal-to-noise ratio.

    No part of the help.
    """
    if config.stars < 1:
        raise InputError(f"stars={config.stars}: at least 1 expected")
    stars = Store.open(config.store).stars
    log.info("brightest: %s", " ".join(stars.id[stars.snr.argsort()[-config.stars :]]))
'''
COMMAND_YAML = """
# rsca brightest: the stars of highest signal-to-noise ratio.
defaults:
  - terminal
  - _self_

store: ??? # DIR that rsca ingest wrote
stars: 3
"""
FIGURE = '''
"""Figure 12: whether the rate is low."""

from astropy.table import Table
from matplotlib.figure import Figure

from rsca_torch.report.reproduction import Reproduced, Value


def reproduce(assembly, threshold):
    """The rate, and whether it is below a threshold."""
    rate = assembly.judged(assembly.spectra).rate
    figure = Figure()
    figure.subplots().bar(["rate"], [rate])
    finding = f"The rate is {'below' if rate < threshold else 'above'} {threshold}."
    return Reproduced([Value("toy", "rate", rate)], finding, {"toy": Table({"rate": [rate]})}, {"toy": figure})
'''
FIGURE_YAML = """
title: "Figure 12: whether the rate is low"
threshold: 0.7
"""


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the package with one more command and one more figure, and no file of it changed."""
    root = tmp_path_factory.mktemp("copied")
    for name in ("rsca_torch", "conf", "experiments"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "rsca_torch" / "cli" / "brightest.py").write_text(COMMAND)
    (root / "conf" / "brightest.yaml").write_text(COMMAND_YAML)
    (root / "experiments" / "paper" / "toy.py").write_text(FIGURE)
    (root / "conf" / "experiment" / "toy.yaml").write_text(FIGURE_YAML)
    return root


SMALL = [
    *("simulation.n_field=60", "simulation.stars.clusters=6"),
    *("compressor.n_components=3", "compressor.max_iterations=3"),
]
COMMANDS = {
    "reproduce": ["reproduce", "toy", *SMALL, "experiments.toy.threshold=1", "out=done"],
    "no such figure": ["reproduce", "figure77"],
    "text for a number": ["reproduce", "toy", "experiments.toy.threshold=low"],
    "misspelt": ["reproduce", "toy", "experiments.toy.treshold=0.5"],
    "help": ["--help"],
    "help of the command": ["brightest", "--help"],
    "text for a whole number": ["brightest", "store=nowhere", "stars=many"],
    "refused": ["brightest", "store=nowhere", "stars=0"],
}
ALL = f"""
import contextlib, io, json
from rsca_torch.cli.main import main

said = {{}}
for name, arguments in {COMMANDS}.items():
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        try:
            code = main(arguments)
        except SystemExit as stop:  # of Hydra's help
            code = stop.code or 0
    said[name] = code, out.getvalue()
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def python(copied):
    """Runs Python on the copy, in a folder of its own."""
    folder = copied / "elsewhere"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(copied), "OMP_NUM_THREADS": "1"}
    return partial(
        subprocess.run, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="module")
def said(python):
    """The exit code of each command, and what it said: all by one process, as imports take seconds."""
    done = python([sys.executable, "-c", ALL])
    assert done.returncode == 0, done.stdout
    return json.loads(done.stdout.splitlines()[-1])


def test_the_figure_gives_its_finding(said, copied):
    code, text = said["reproduce"]
    assert code == 0, text
    done = copied / "elsewhere" / "done"
    assert {path.name for path in (done / "toy").iterdir()} == {"toy.csv", "toy.png", "toy.pdf", "item.json"}
    text = (done / "summary.md").read_text()
    assert "## Figure 12: whether the rate is low\n\nThe rate is below 1.\n\n![toy](toy/toy.png)" in text
    with (done / "summary.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["experiment"], row["item"]) == ("toy", "toy")
    assert 0 <= float(row["obtained"]) < 1


def test_the_figure_comes_last_and_its_options_are_looked_at(said):
    code, text = said["no such figure"]
    assert code == 2
    assert text.split("choose all or some of ")[1].startswith("figure2, table1, ")
    assert text.rstrip().endswith(", memberships, toy")
    code, text = said["text for a number"]
    assert code == 2
    assert "experiments.toy.threshold=low is text, expected a number like 0.7" in text
    code, text = said["misspelt"]
    assert code == 2
    assert "did you mean experiments.toy.threshold?" in text


def test_the_command_is_in_the_help_and_its_options_are_looked_at(said):
    code, text = said["help"]
    assert code == 0
    commands = [line.split()[0] for line in text.splitlines() if line.startswith("  ")]
    assert commands == (
        "compare simulate download doctor ingest why fit siblings explain embed evaluate export report reproduce "
        "learners cite brightest".split()
    )
    assert "  brightest The stars of a store with the highest signal-to-noise ratio.\n" in text
    assert "No part of the help" not in text
    code, text = said["help of the command"]
    assert code == 0
    assert "  stars=3" in text
    code, text = said["text for a whole number"]
    assert code == 2
    assert "stars=many is text, expected a whole number like 3" in text
    code, text = said["refused"]
    assert code == 2
    assert "error: stars=0: at least 1 expected" in text


@pytest.mark.usefixtures("said")  # the simulated survey
def test_the_command_runs(python):
    done = python([sys.executable, "-m", "rsca_torch", "brightest", "store=rsca_simulated/seed-0/store", "stars=2"])
    assert done.returncode == 0, done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("brightest: ")]
    assert len(line.split()) == 1 + 2
