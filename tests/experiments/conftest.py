"""Simulated surveys that several tests of experiments look at, made once for all of them."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def surveys(tmp_path_factory):
    """The folder in which they lie, the same for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "surveys"
