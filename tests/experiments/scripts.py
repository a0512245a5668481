"""Experiments as their users run them: with arguments, and what they print."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import subprocess
import sys
from types import SimpleNamespace

import pytest

from rsca_torch.report.reproduction import EXPERIMENTS


def script(name):
    """What a script of the paper's items defines."""
    return SimpleNamespace(**runpy.run_path(str(EXPERIMENTS / "paper" / f"{name}.py")))


def printed_by(name, *arguments):
    """What a script prints; in this process, which has torch already."""
    path = EXPERIMENTS / name
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setenv("COLUMNS", "200")
        patch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        patch.setattr(sys, "path", [str(path.parent), *sys.path])
        runpy.run_path(str(path), run_name="__main__")
    return printed.getvalue()


def printed_alone(name, *arguments):
    """Likewise in a process of its own: for scripts that fork, which a process that used torch's threads cannot."""
    command = [sys.executable, str(EXPERIMENTS / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
