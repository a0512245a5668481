"""The search finds what a comparison of all pairs finds, in the same order."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rsca_torch import InputError
from rsca_torch.learners.likelihood_ratio import joint_log_ratio
from rsca_torch.siblings import search
from rsca_torch.siblings.measure import Measure
from rsca_torch.siblings.search import nearest

TWIN = 2.0**-23  # 1.2e-7: coordinates are multiples of it, so that squares of differences are exact in float64


def oracle(queries, stars, n, allowed=None):
    """Every pair, in whole numbers: rows, best first and equals by row; -1 where there are fewer."""
    q, y = (np.rint(np.asarray(each, dtype=float) / TWIN).astype(np.int64) for each in (queries, stars))
    value = ((q[:, None] - y[None]) ** 2).sum(-1)
    found = np.full((len(q), n), -1)
    for number in range(len(q)):
        may = np.arange(len(y)) if allowed is None else np.flatnonzero(allowed[number])
        order = may[np.argsort(value[number, may], kind="stable")][:n]
        found[number, : len(order)] = order
    return found


@st.composite
def crowds(draw):
    """Stars of a few places far apart, many of them duplicates or twins 1e-7 apart, and queries among them."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    places = random.integers(-2, 3, size=(draw(st.integers(1, 12)), draw(st.integers(1, 5)))) * 0.25
    stars = places[random.integers(len(places), size=draw(st.integers(1, 120)))]
    stars = stars + random.integers(-1, 2, size=stars.shape) * TWIN * (random.random(len(stars)) < 0.5)[:, None]
    queries = stars[random.integers(len(stars), size=draw(st.integers(1, 7)))]
    return queries, stars, draw(st.integers(1, 30)), random


@pytest.fixture(params=[(256, 8192, 512), (3, 16, 5)], ids=["large blocks", "small blocks"])
def _blocks(request, monkeypatch):
    for name, size in zip(("QUERIES", "STARS", "FIRST"), request.param, strict=True):
        monkeypatch.setattr(search, name, size)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_search_equals_brute_force_with_duplicates_and_twins(dtype):
    @given(crowds())
    def check(drawn):
        queries, stars, n, random = drawn
        if dtype is np.float32:  # the twins of a star far from 0 are not to be told apart in it
            queries, stars = (each.astype(dtype) for each in (queries, stars))
        allowed = random.random((len(queries), len(stars))) < 0.5
        one = nearest(queries, stars, n)
        assert one.rows.tolist() == oracle(queries, stars, n).tolist()
        assert (one.compared == len(stars)).all()
        kept = random.random(len(stars)) < 0.7
        among = nearest(queries, stars, n, some=kept)
        assert among.rows.tolist() == oracle(queries, stars, n, np.broadcast_to(kept, allowed.shape)).tolist()
        flags = torch.from_numpy(allowed)
        some = nearest(queries, stars, n, allowed=lambda query, star: flags[query][:, star])
        assert some.rows.tolist() == oracle(queries, stars, n, allowed).tolist()
        assert some.compared.tolist() == allowed.sum(1).tolist()
        assert (some.values.isinf() == (some.rows < 0)).all()

    check()


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("freedom", [3.0, 30.0])
def test_the_best_by_likelihood_ratio_are_those_of_all_pairs(freedom):
    """Some stars twice, some a hair apart, some far out, where the distance alone would not find them."""
    random = np.random.default_rng(5)
    sigma_r = np.array([0.1, 0.3, 1.0, 3.0, np.inf])
    stars = random.standard_t(3, size=(90, 5)) / np.append(sigma_r[:4], 1)
    stars = stars[random.integers(90, size=200)]  # in any order, many of them twice or three times
    stars[150:, 0] += 1e-7
    found = nearest(stars[:9], stars, 12, Measure.ratio(sigma_r, freedom))
    ratio = joint_log_ratio(stars[:9], stars, sigma_r, freedom)
    assert torch.allclose(Measure.ratio(sigma_r, freedom).log_ratio(found.values), ratio.gather(1, found.rows), 1e-9)
    assert torch.allclose(ratio.sort(1, descending=True).values[:, :12], ratio.gather(1, found.rows), 1e-12, 1e-12)
    for rows in found.rows:  # of equal stars the first row first
        for one, other in pairwise(rows):
            assert one < other or (stars[one] != stars[other]).any()
    by_distance = nearest(stars[:9], stars, 12).rows
    assert by_distance.tolist() != found.rows.tolist()


def test_products_alone_would_not_do():
    """Of stars far from 0, whose distances are rounding in float32: what comes out is exact all the same."""
    random = np.random.default_rng(0)
    stars = 100 + random.integers(-40, 41, size=(500, 6)) * TWIN * 64
    queries = stars[:20]
    assert nearest(queries, stars, 10).rows.tolist() == oracle(queries, stars, 10).tolist()
    right = torch.from_numpy(stars).float()
    rounded = torch.cdist(right[:20], right, compute_mode="use_mm_for_euclid_dist").argsort(dim=1, stable=True)[:, :10]
    assert rounded.tolist() != oracle(queries, stars, 10).tolist()


def test_what_torch_may_do_to_float32_does_not_matter():
    stars = np.random.default_rng(1).normal(size=(300, 8))
    expected = nearest(stars, stars, 5)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        found = nearest(stars, stars, 5)
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(found.rows, expected.rows)


def test_stars_may_lie_in_a_file(tmp_path):
    stars = np.random.default_rng(2).normal(size=(70, 3))
    np.save(tmp_path / "stars.npy", stars)
    told = []
    found = nearest(
        stars[:4], np.load(tmp_path / "stars.npy", mmap_mode="r"), 6, progress=lambda *how: told.append(how)
    )
    assert torch.equal(found.rows, nearest(stars[:4], stars, 6).rows)
    assert told == [(70, 70)]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_the_stars_does_not_matter(seed):
    order = np.random.default_rng(seed).permutation(50)
    stars = np.random.default_rng(4).normal(size=(50, 4))  # no two pairs are alike
    there, here = nearest(stars[:5], stars[order], 7), nearest(stars[:5], stars, 7)
    assert order[there.rows.numpy()].tolist() == here.rows.tolist()
    assert torch.equal(there.values, here.values)
    looked_at = nearest(stars[:5], stars, 7, order=order)
    assert torch.equal(looked_at.rows, here.rows)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"queries": np.zeros((2, 3))}, r"queries \(m, D\) and stars \(N, D\) expected, got \(2, 3\), \(4, 2\)"),
        ({"n": 0}, "n=0: at least 1"),
        ({"some": np.ones(3, dtype=bool)}, r"a flag for each of the 4 stars expected, got shape \(3,\)"),
        ({"queries": np.full((1, 2), np.nan)}, "must be finite"),
        ({"stars": np.full((4, 2), np.inf)}, "must be finite"),
    ],
    ids=["shape", "none", "flags", "nan query", "inf star"],
)
def test_what_cannot_be_searched_is_refused(options, said):
    with pytest.raises(InputError, match=said):
        nearest(**{"queries": np.zeros((2, 2)), "stars": np.zeros((4, 2)), "n": 2, **options})
