"""Which numbers are the same bit for bit, and which to how many digits: the table of docs/reliability.md.

Runs, processes and the order in which Python sets come: bit for bit. Threads, the cut into blocks and float32: up to a
tolerance of the one table.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numbers_survey import BINS, apart, drawn, fitted, spectra

import rsca_torch.spectra.blocks
from rsca_torch import RSCA, leave_one_cluster_out
from rsca_torch.learners import ScaledComponents
from rsca_torch.siblings.search import nearest

pytestmark = pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
HERE = Path(__file__).parent
USUAL = {"products": "float32", "tolerance": 1e-4, "clip": "usual"}


def numbers(threads=1, **options):
    """A model, features, rates and neighbours."""
    survey = drawn(11, n_field=300)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = fitted(survey, **options)
        embedded = [model.embed(spectra(part)) for part in (survey.field, survey.members)]
        plain = [np.where(part.valid, part.flux, 1) for part in (survey.field, survey.members)]
        latents = [torch.tensor(part[:, :4]) for part in plain]
        result = leave_one_cluster_out(lambda: ScaledComponents(floor=np.eye(4) * 1e-3), *latents, survey.labels)
        found = nearest(embedded[1], embedded[0], 5)
    finally:
        torch.set_num_threads(before)
    rates = torch.tensor([result.cluster_rates[name] for name in sorted(result.cluster_rates)])
    return [model.weight, model.bias, model.sigma_r, *embedded, rates, found.rows, found.values]


def digest(tensors):
    return hashlib.sha256(b"".join(tensor.contiguous().numpy().tobytes() for tensor in tensors)).hexdigest()


@pytest.mark.parametrize("options", [{}, USUAL], ids=["float64", "float32"])
def test_two_runs_are_the_same_to_the_bit(options):
    assert digest(numbers(**options)) == digest(numbers(**options))


def test_another_process_with_another_order_of_sets_is_the_same_to_the_bit():
    paths = os.pathsep.join(map(str, (HERE, HERE.parents[1])))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    script = (
        "import warnings; warnings.simplefilter('ignore'); import torch; torch.set_num_threads(1)\n"
        "from test_numbers_deterministic import USUAL, digest, numbers; print(digest(numbers(**USUAL)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split()[-1:] == [digest(numbers(**USUAL))], done.stderr[-2000:]


def test_several_processes_judge_as_one_does(small):
    results = [
        leave_one_cluster_out(
            ScaledComponents, small.field, small.members, small.clusters, small.allowed, processes=processes
        )
        for processes in (1, 2)
    ]
    assert results[0].cluster_rates == results[1].cluster_rates


@pytest.mark.parametrize(("options", "kind"), [({}, torch.float64), (USUAL, torch.float32)], ids=["float64", "float32"])
def test_the_number_of_threads_up_to_rounding(options, kind, tolerance):
    for one, two in zip(numbers(1, **options), numbers(2, **options), strict=True):
        np.testing.assert_allclose(two.double(), one.double(), **tolerance[kind])


@pytest.mark.parametrize(("options", "kind"), [({}, "fit"), (USUAL, torch.float32)], ids=["float64", "float32"])
@pytest.mark.parametrize("rows", [1, 7])
def test_the_cut_into_blocks_up_to_rounding(options, kind, rows, tolerance, monkeypatch):
    expected = apart_of(**options)
    monkeypatch.setattr(rsca_torch.spectra.blocks, "BLOCK_ELEMENTS", rows * BINS)
    np.testing.assert_allclose(apart_of(**options), expected, **_ten_times(tolerance[kind]))


def apart_of(**options):
    survey = drawn(11)
    return apart(fitted(survey, **options), survey.members)


def _ten_times(close):
    """Of distances, which add up what features are off by."""
    return {name: 10 * value for name, value in close.items()}


def test_features_in_blocks_are_the_same_up_to_rounding(tolerance, monkeypatch):
    survey = drawn(11)
    model = fitted(survey)
    expected = model.embed(spectra(survey.field))
    monkeypatch.setattr(rsca_torch.spectra.blocks, "BLOCK_ELEMENTS", BINS)
    np.testing.assert_allclose(model.embed(spectra(survey.field)), expected, **tolerance[torch.float64])


class TestFloat32AndFloat64:
    def test_the_same_flux_in_less_precision(self, tolerance):
        survey = drawn(11)
        model, part = fitted(survey), survey.members
        low = [torch.tensor(array, dtype=torch.float32) for array in (part.flux, part.sigma)]
        features = model(low[0], part.valid, low[1])
        assert features.dtype == torch.float32
        exact = model(low[0].double(), part.valid, low[1].double())
        np.testing.assert_allclose(features.double(), exact, **tolerance[torch.float32])

    @pytest.mark.parametrize("noise", ["isotropic", "measured", "measured+scatter"])
    def test_a_fit_with_products_of_less_precision(self, noise, tolerance):
        """To the same end: what rounding leaves open of distances is a thousandth of them."""
        survey = drawn(11, n_field=300)
        one, other = (
            fitted(survey, noise=noise, products=products, tolerance=1e-8) for products in ("float64", "float32")
        )
        low, high = (apart(model, survey.members) for model in (other, one))
        np.testing.assert_allclose(low, high, rtol=1e-3, atol=1e-3 * float(np.median(high)))
        assert isinstance(one, RSCA)
        np.testing.assert_allclose(other.ppca.mean, one.ppca.mean, **_ten_times(tolerance[torch.float32]))
