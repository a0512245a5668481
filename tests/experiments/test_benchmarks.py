"""Every benchmark runs, at toy size."""

from __future__ import annotations

import re

import pytest
from scripts import printed_alone, printed_by

from rsca_torch.survey.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmarks") / "store"
    printed_by("benchmarks/full_size_store.py", path, "--stars", 300, "--bins", 100)
    Store.open(path).verify()
    return path


class TestBenchmarks:
    """Each with one command, at toy size; their figures are in docs/performance.md."""

    def test_step_1_to_convergence(self, store):
        printed = printed_alone("benchmarks/full_size.py", store, "--components", 3)
        assert re.search(r"isotropic .*measured\+scatter ", printed, re.DOTALL)
        assert "ratio" in printed

    def test_an_iteration(self, store):
        assert "x its two products" in printed_by("benchmarks/iteration.py", store, "--components", 3)

    def test_side_by_side(self, store):
        sizes = ("--stars", 300, "--components", 3, "--tolerance", 1e-4)
        printed = printed_alone("benchmarks/ppca.py", "--store", store, *sizes)
        assert all(name in printed for name in ("fit_ppca", "pyppca", "scikit-learn"))

    def test_scaling(self, store):
        small = ("--stars", 200, "--components", 3, "--noise", "isotropic")
        assert "isotropic" in printed_alone("benchmarks/scaling.py", store, *small)

    def test_acceleration(self, store):
        small = ("--stars", 200, "--components", 3, "--limit", 60)
        rows = re.findall(
            r"│ (isotropic|measured) +│ +(\d+) +│", printed_by("benchmarks/acceleration.py", store, *small)
        )
        assert [noise for noise, _ in rows] == ["isotropic", "measured"]
        assert all(int(passes) >= 3 for _, passes in rows)

    def test_inference(self):
        small = ("--stars", 200, "--bins", 100, "--components", 4, "--gigabytes", 0.01)
        assert "RSCA(flux, valid, sigma)" in printed_by("benchmarks/inference.py", *small)

    def test_leave_one_cluster_out(self):
        small = ("--field", 500, "--members", 40, "--clusters", 5, "--components", 4, "--repeats", 1, "--threads", 1)
        printed = printed_by("benchmarks/leave_one_cluster_out.py", *small).lower()
        assert re.search(r"largest.*\b0\b", printed, re.DOTALL)
        assert "floor=repeats, trim=2" in printed
        assert "floor=noise, trim=2" in printed

    def test_gpu(self):
        small = ("--device", "cpu", "--stars", 200, "--bins", 100, "--components", 4, "--members", 32, "--steps", 3)
        printed = printed_by("benchmarks/gpu.py", *small, "--searched", 500, "--asked", 8)
        assert printed.endswith("all agree\n")
        for task in ("EM, an iteration of 1 blocks", "RSCA(flux)", "RSCA(flux, valid, sigma)", "a fold", "search"):
            assert task in printed

    def test_gpu_says_what_differs(self, monkeypatch):
        """Here every search but the program's own finds other stars."""
        small = ("--device", "cpu", "--stars", 50, "--bins", 60, "--components", 4, "--members", 32, "--steps", 2)
        monkeypatch.setattr(
            "rsca_torch.learners.likelihood_ratio.joint_log_ratio", lambda asked, stars, _: -asked @ stars.T
        )
        with pytest.raises(SystemExit, match="differs by more than it may: search: 20 best of 500 for 8 stars"):
            printed_by("benchmarks/gpu.py", *small, "--searched", 500, "--asked", 8)
