"""Of tests and of the examples in docstrings: one thread, and a seed."""

from __future__ import annotations

import os
import sys

# The problems are tiny: threads that wait for each other made them ten times slower. Set before numpy and torch read
# it, and for all processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded(request):
    """An example prints the same numbers every time."""
    if isinstance(request.node, pytest.DoctestItem):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002


@pytest.fixture(autouse=True)
def _no_figure_outlives_its_test():
    """Pyplot keeps what `.plot()` makes, and warns of many."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
