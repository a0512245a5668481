"""How a command ends that went wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import rsca_torch
from rsca_torch.cli import main as module

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


def test_nobody_who_reads_is_no_error(tmp_path):
    script = (
        f"{sys.executable} -m rsca_torch.cli learners --help 2> {tmp_path / 'said'} | true; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=Path(module.__file__).parents[2])
    assert done.stdout.strip() in ("0", "141")
    assert (tmp_path / "said").read_text() == ""
