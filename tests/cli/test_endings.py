"""How a command ends that went wrong."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import hydra
import numpy as np
import pytest
from astropy.table import Table

import rsca_torch
from rsca_torch import InputError, leave_one_cluster_out
from rsca_torch.cli import main as module
from rsca_torch.learners.registry import maker
from rsca_torch.testing import drawn_problem

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra")


def test_a_bug_is_said_in_one_sentence(monkeypatch, capfd, tmp_path):
    def run(_):
        raise ZeroDivisionError("half of nothing")

    monkeypatch.setattr(module, "_function", lambda _: run)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert module.main(["learners"]) == 1
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert "this is a bug of the program (ZeroDivisionError: half of nothing)" in said
    (written,) = tmp_path.iterdir()
    assert str(written) in said
    assert "in run" in written.read_text()


def test_the_version_is_told_in_python_too(capfd):
    assert module.main(["--version"]) == 0
    assert capfd.readouterr().out == f"rsca_torch {rsca_torch.__version__}\n"


ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(module.__file__).parents[2]), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("options", [["--help"], ["learners"], ["compare", "--help"]], ids=" ".join)
def test_nobody_who_reads_is_no_error(options):
    """As `rsca learners | true`: whoever should read has gone before the first line."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "rsca_torch", *options], stdout=write, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_no_home_and_no_docstrings_are_needed(tmp_path):
    """`python -OO -m rsca_torch` where there is no home folder, or none that can be written."""
    python = [sys.executable, "-OO", "-m", "rsca_torch"]
    told = partial(subprocess.run, capture_output=True, text=True, cwd=tmp_path, check=False)
    done = told([*python, "--help"], env=ENVIRONMENT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "compare   Doppelganger rates of the learners on spectra and abundances, as table" in done.stdout
    stars = Table({"APOGEE_ID": [f"s{n}" for n in range(12)], "CLUSTER": ["A", "A", "B", "B", "C", "C"] + [""] * 6})
    for number, element in enumerate(("FE", "MG", "SI")):
        stars[f"{element}_H"] = np.random.default_rng(number).normal(size=12)
    stars.write(tmp_path / "stars.csv")
    compare = [*python, "compare", "stars=stars.csv", "pairs=all", "learner=scaled", "~baselines.raw", "out=out"]
    done = told([*compare, "figures=true"], env={**ENVIRONMENT, "HOME": "/nonexistent"})
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    strange = [line for line in done.stderr.splitlines() if re.search("matplotlib|cache|HOME|writable", line)]
    assert strange == []
    assert (tmp_path / "out" / "rates.png").is_file()


MINE = """
import time
import torch
from rsca_torch import Identity
from rsca_torch.learners import Recipe

class Mine(Identity):
    def __init__(self, where):
        super().__init__()
        self.where, self.recipe = where, Recipe(epochs=1, inner=1) if where == "loss" else None
        self.factor = torch.nn.Parameter(torch.ones(()))
        self._fail_in("__init__")

    def _fail_in(self, where):
        if self.where == where:
            raise KeyError("no luck")

    def initialise(self, field, members, clusters):
        self._fail_in("initialise")
        if self.where == "memory":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
        if self.where == "a file":
            open("nowhere/at_all")

    def loss(self, z, clusters, allowed=None):
        self._fail_in("loss")

    def forward(self, z):
        self._fail_in("forward")
        return [] if self.where == "list" else z * self.factor

class Other:
    def initialise(self):
        pass

def merit(siblings, strangers):
    return {}["overlap"]

def text(siblings, strangers):
    return "good"
"""
JUDGED = ["compare", "learner._target_=mine_that_fails.Mine", "~baselines.raw", "~baselines.scaled"]


@pytest.fixture
def judged(monkeypatch, tmp_path):
    """`rsca compare` judges the learner of its options, a plugin's, on a drawn problem; gives the tracebacks."""
    (tmp_path / "mine_that_fails.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine_that_fails", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def run(config):
        problem = drawn_problem()
        merits = {str(name): hydra.utils.instantiate(each) for name, each in config.figures_of_merit.items()}
        make, processes = maker(config.learner), config.processes
        return leave_one_cluster_out(make, *problem, processes=processes, merits=merits).rate

    monkeypatch.setattr(module, "_function", lambda _: run)
    return lambda: sorted(tmp_path.glob("rsca-traceback-*.txt"))


FAILED = {
    "__init__": "learner mine_that_fails.Mine failed in __init__: KeyError: 'no luck'; traceback: ",
    "initialise": "learner mine_that_fails.Mine failed in initialise: KeyError: 'no luck'; traceback: ",
    "forward": "learner mine_that_fails.Mine failed in forward: KeyError: 'no luck'; traceback: ",
    "loss": "learner mine_that_fails.Mine failed in loss: KeyError: 'no luck'; traceback: ",
    "a file": "learner mine_that_fails.Mine failed in initialise: FileNotFoundError: [Errno 2] No such file",
    "list": "Mine must map to a torch.Tensor, got list",
    "memory": "memory ran out (RuntimeError: DefaultCPUAllocator: can't allocate memory",
}


@pytest.mark.parametrize("where", FAILED)
def test_what_a_plugin_raises_says_whose_it_is(where, judged, capfd):
    assert module.main([*JUDGED, f"+learner.where='{where}'"]) == 2
    said = capfd.readouterr().err
    assert FAILED[where] in said
    assert "Traceback" not in said
    if "traceback: " in FAILED[where]:
        (written,) = judged()
        assert said.rstrip().endswith(str(written))
        assert "in _fail_in" in written.read_text()


def test_what_a_plugin_raises_in_another_process_says_whose_it_is(judged, capfd):
    assert module.main([*JUDGED, "+learner.where=initialise", "processes=2"]) == 2
    said = capfd.readouterr().err
    assert FAILED["initialise"] in said
    assert "in _fail_in" in judged()[0].read_text()


OPTIONS = {
    "+figures_of_merit.mine={_target_: mine_that_fails.merit, _partial_: true}": "figures_of_merit.mine "
    "mine_that_fails.merit failed in merit: KeyError: 'overlap'; traceback: ",
    "+figures_of_merit.mine={_target_: mine_that_fails.text, _partial_: true}": "the figure of merit mine must give "
    "one number a cluster, got 'good'",
    "+figures_of_merit.mine={_target_: mine_that_fails.Other, _partial_: true}": "figures_of_merit.mine "
    "mine_that_fails.Other cannot be called as it is: Other() takes no arguments",
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.usefixtures("judged")
def test_every_plugin_is_told_by_its_option(option, capfd):
    assert module.main([*JUDGED, "+learner.where=nowhere", option]) == 2
    assert OPTIONS[option] in capfd.readouterr().err


def test_a_bug_below_a_plugin_is_ours(judged, monkeypatch, capfd):
    """The last line that ran decides: here one of the program's that a learner called."""
    monkeypatch.setattr("rsca_torch.evaluation.judged_pairs.sibling_distances", lambda _: 1 / 0)
    assert module.main([*JUDGED, "+learner.where=nowhere"]) == 1
    said = capfd.readouterr().err
    assert "this is a bug of the program (ZeroDivisionError" in said
    assert "Error executing job" not in said
    assert str(judged()[0]) in said


@pytest.mark.usefixtures("judged")
def test_what_lightning_refuses_is_no_bug(monkeypatch, capfd):
    def run(_):
        hydra.utils.get_object("lightning.Trainer")(accelerator="none such", logger=False)

    monkeypatch.setattr(module, "_function", lambda _: run)
    assert module.main(["compare"]) == 2
    said = capfd.readouterr().err
    assert "error: Lightning refuses what trainer or logger is given: You selected an invalid accelerator" in said


def test_each_job_of_a_sweep_ends_by_itself(judged, monkeypatch, capfd, tmp_path):
    run = module._function("compare")

    def seeds(config):
        if config.seed == 1:
            raise InputError("seed=1: bad luck")
        if config.seed == 2:
            return 1 / 0
        return run(config)

    monkeypatch.setattr(module, "_function", lambda _: seeds)
    sweep = [*JUDGED, "-m", f"out={tmp_path / 'sweep'}"]
    assert module.main([*sweep, "+learner.where=nowhere,forward", "seed=0,1"]) == 2
    said = capfd.readouterr().err
    assert "3 of 4 jobs" in said
    assert FAILED["forward"] in said
    assert module.main([*sweep, "+learner.where=nowhere", "seed=0,1,2"]) == 1
    said = capfd.readouterr().err
    assert "2 of 3 jobs of the sweep" in said
    assert "\n  seed=1: seed=1: bad luck\n" in said
    assert "\n  seed=2: this is a bug of the program (ZeroDivisionError: division by zero)" in said
    assert "Traceback" not in said
    assert len(judged()) == 2  # of forward, and of the bug


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x"), "No space left on device: x; .* make room there"),
        (OSError(errno.EACCES, "Permission denied", "x"), "Permission denied: x; choose a place where you may"),
        (OSError(errno.EMFILE, "Too many open files", "x"), "Too many open files: x; .*ulimit -n"),
        (MemoryError(), r"memory ran out \(MemoryError\): take fewer processes"),
    ],
    ids=["no room", "no permission", "too many files", "no memory"],
)
def test_what_the_machine_refuses_is_no_bug(error, message, monkeypatch, capfd):
    def run(_):
        raise error

    monkeypatch.setattr(module, "_function", lambda _: run)
    assert module.main(["learners"]) == 2
    assert re.search(message, capfd.readouterr().err)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["compare"], "goes on from the fits and folds that are finished in checkpoints=DIR"),
        (["compare", "-m", "seed=0,1", "out=sweep"], "skips finished jobs and goes on from the fits"),
        (["evaluate", "-m", "embedding=x", "store=a,b", "out=sweep"], "the same command judges anew, with the folds"),
        (["learners"], "the same command begins again"),
    ],
    ids=["one run", "a sweep", "a sweep of another command", "another command"],
)
def test_ctrl_c_says_how_to_go_on(options, message, monkeypatch, caplog, tmp_path):
    def run(_):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_function", lambda _: run)
    assert module.main(options) == 130
    assert message in caplog.text
