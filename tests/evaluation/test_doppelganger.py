"""The doppelganger rate against double loops (reference.py); function, metric and batches agree."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st

from rsca_torch import DoppelgangerRate, Identity, InputError, allowed_pairs, doppelganger_rate, leave_one_cluster_out
from rsca_torch.learners.distances import sibling_distances, stranger_distances


@given(
    seed=st.integers(0, 2**16),
    n_members=st.integers(2, 6),  # 1, 3, 6, 10, 15 pairs: odd and even
    n_field=st.integers(1, 12),
    restricted=st.booleans(),
)
def test_against_a_double_loop(seed, n_members, n_field, restricted):
    rng = np.random.default_rng(seed)
    members, field = rng.normal(size=(n_members, 3)), rng.normal(size=(n_field, 3))
    allowed = rng.random((n_members, n_field)) < 0.5 if restricted else None
    expected = reference.doppelganger_rate(members, field, allowed)
    assert doppelganger_rate(members, field, allowed) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(
    members=st.lists(st.integers(0, 6), min_size=2, max_size=6),
    field=st.lists(st.integers(0, 6), min_size=1, max_size=10),
)
def test_ties_count(members, field):
    """Integers on a line: distances are exact and often equal to the threshold."""
    members, field = np.array(members, dtype=float)[:, None], np.array(field, dtype=float)[:, None]
    assert doppelganger_rate(members, field) == reference.doppelganger_rate(members, field)


def test_a_stranger_at_the_threshold_is_a_doppelganger():
    members, field = torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [4.5]])
    assert doppelganger_rate(members, field) == 1 / 4
    metric = DoppelgangerRate()
    metric.update(members, field)
    assert metric.compute() == 1 / 4
    result = leave_one_cluster_out(Identity, field, torch.cat([members, members]), ["a", "a", "b", "b"])
    assert result.cluster_rates == {"a": 1 / 4, "b": 1 / 4}


def test_the_median_of_an_even_number_of_pairs_is_the_mean_of_the_middle_two():
    members = np.array([[0.0], [1.0], [3.0], [10.0]])  # pairs 1, 2, 3, 7, 9, 10: median 5
    assert doppelganger_rate(members, np.array([[15.0]])) == 1 / 4
    assert doppelganger_rate(members, np.array([[15.0 + 1e-9]])) == 0


def test_the_exact_copy_of_a_sibling_is_as_near_as_the_sibling():
    """Both distances must round alike, or a tie that is exact on paper is decided by the order of a sum."""
    problems = np.random.default_rng(0).normal(size=(300, 2, 30))
    # distances 0, d, d, 0 and the threshold d
    assert [doppelganger_rate(members, members.copy()) for members in problems] == [1.0] * 300


def test_near_identical_stars_are_told_apart():
    """Differences of 1e-9 on values of 1e3: |a|^2 + |b|^2 - 2ab loses them."""
    base = np.array([1000.0, -2000.0, 1500.0])
    step = np.array([1e-9, 0.0, 0.0])  # about 9,000 units in the last place of 1000
    members = np.array([base, base + 10 * step])
    field = np.array([base + k * step for k in (-12, -8, 3, 19, 22)])
    # threshold 10 steps; from the first 12, 8, 3, 19, 22 steps, from the second 22, 18, 7, 9, 12
    assert doppelganger_rate(members, field) == 4 / 10
    squares = (members**2).sum(1)[:, None] + (field**2).sum(1) - 2 * members @ field.T
    assert np.abs(squares).max() > (30e-9) ** 2  # the short cut is wrong by more than the largest of them


@given(order=st.permutations(range(6)), field_order=st.permutations(range(9)))
def test_the_order_of_stars_does_not_matter(order, field_order):
    rng = np.random.default_rng(3)
    members, field, allowed = rng.normal(size=(6, 2)), rng.normal(size=(9, 2)), rng.random((6, 9)) < 0.6
    expected = doppelganger_rate(members, field, allowed)
    assert 0 < expected < 1
    assert doppelganger_rate(members[order], field[field_order], allowed[np.ix_(order, field_order)]) == expected


def test_pairs_and_their_distances():
    rng = np.random.default_rng(4)
    members, field, allowed = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.random((4, 5)) < 0.5
    siblings = sorted(reference.distance(members[i], members[j]) for i in range(4) for j in range(i))
    np.testing.assert_allclose(sorted(sibling_distances(members).tolist()), siblings, rtol=1e-13)
    strangers = [reference.distance(members[i], field[f]) for i in range(4) for f in range(5) if allowed[i, f]]
    np.testing.assert_allclose(stranger_distances(members, field, allowed).tolist(), strangers, rtol=1e-13)


def test_float32_is_compared_in_float64():
    assert sibling_distances(torch.randn(3, 2)).dtype == torch.float64
    assert stranger_distances(torch.randn(3, 2), torch.randn(4, 2)).dtype == torch.float64


def test_no_allowed_pair_is_nan():
    assert math.isnan(doppelganger_rate(np.eye(2), np.eye(2), np.zeros((2, 2), dtype=bool)))
    assert math.isnan(doppelganger_rate(np.eye(2), np.empty((0, 2))))


def test_which_pairs_are_allowed():
    velocity, extinction = np.array([0.0, 5.0, -4.9, np.nan, 1.0, 1.0]), np.array([0.0, 0.0, 0.04, 0.0, np.nan, 0.05])
    got = allowed_pairs(np.zeros(1), velocity, np.zeros(1), extinction)
    assert got.tolist() == [[True, False, True, False, False, False]]
    wider = allowed_pairs(np.zeros(1), velocity, np.zeros(1), extinction, max_velocity=5.1, max_extinction=0.06)
    assert wider.tolist() == [[True, True, True, False, False, True]]
    assert not allowed_pairs(np.full(1, np.nan), velocity, np.zeros(1), extinction).any()
    nan = np.full(6, np.nan)
    of_velocity = allowed_pairs(np.zeros(1), velocity, np.full(1, np.nan), nan, max_extinction=None)
    assert of_velocity.tolist() == [[True, False, True, False, True, True]]
    of_extinction = allowed_pairs(np.full(1, np.nan), nan, np.zeros(1), extinction, max_velocity=None)
    assert of_extinction.tolist() == [[True, True, True, True, False, False]]
    every = allowed_pairs(np.zeros(2), nan, np.zeros(2), nan, max_velocity=None, max_extinction=None)
    assert every.tolist() == [[True] * 6] * 2


@given(seed=st.integers(0, 2**16))
def test_allowed_pairs_against_a_double_loop(seed):
    rng = np.random.default_rng(seed)
    mv, fv, ma, fa = rng.normal(0, 5, 4), rng.normal(0, 5, 7), rng.normal(0, 0.05, 4), rng.normal(0, 0.05, 7)
    loops = [[abs(mv[i] - fv[f]) < 5 and abs(ma[i] - fa[f]) < 0.05 for f in range(7)] for i in range(4)]
    assert allowed_pairs(mv, fv, ma, fa).tolist() == loops


def judge_a_part(rank, parts, folder):
    """One of two processes of `test_two_processes_add_up`."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    metric = DoppelgangerRate(len(parts))
    for cluster, (members, field, allowed) in enumerate(parts):
        rows = (slice(0, 70), slice(70, None))[rank] if cluster else (slice(None), slice(0))[rank]
        if len(field[rows]):
            metric.update(members, field[rows], allowed[:, rows], cluster)
    own = metric.pairs.sum()
    torch.save({"own": own, "rate": metric.compute()}, folder / f"{rank}.pt")
    torch.distributed.barrier()  # or one leaves while the other still asks it
    torch.distributed.destroy_process_group()


class TestMetric:
    @pytest.fixture
    def parts(self, small):
        """(members, field, allowed) of every cluster, the last without an allowed pair."""
        field = torch.from_numpy(small.field)
        rows = [torch.from_numpy(small.clusters == name) for name in np.unique(small.clusters)]
        allowed = torch.from_numpy(small.allowed)
        allowed = torch.where(rows[-1][:, None], torch.zeros_like(allowed), allowed)
        return [(torch.from_numpy(small.members)[row], field, allowed[row]) for row in rows]

    def expected(self, parts):
        rates = {c: reference.doppelganger_rate(*(part.tolist() for part in given)) for c, given in enumerate(parts)}
        assert math.isnan(rates[4])
        return reference.global_rate(rates, {c: len(given[0]) for c, given in enumerate(parts)})

    def filled(self, parts):
        metric = DoppelgangerRate(len(parts))
        for cluster, part in enumerate(parts):
            metric.update(*part, cluster=cluster)
        return metric

    def test_against_the_oracle_and_the_function(self, parts):
        got = self.filled(parts).compute()
        assert got.dtype == torch.float64
        assert got.item() == pytest.approx(self.expected(parts), rel=1e-12)
        one = DoppelgangerRate()
        one.update(*parts[0])
        assert one.compute().item() == doppelganger_rate(*parts[0])

    @pytest.mark.filterwarnings("ignore:1 clusters with no allowed pair:rsca_torch.NumericalWarning")
    def test_it_is_the_global_rate_of_leave_one_out(self, parts):
        members, allowed = torch.cat([p[0] for p in parts]), torch.cat([p[2] for p in parts])
        labels = [str(c) for c, p in enumerate(parts) for _ in p[0]]
        result = leave_one_cluster_out(Identity, parts[0][1], members, labels, allowed)
        assert result.rate == pytest.approx(self.filled(parts).compute().item(), rel=1e-12)

    def test_the_field_may_come_in_batches(self, parts):
        metric = DoppelgangerRate(len(parts))
        for cluster, (members, field, allowed) in enumerate(parts):
            edges = [0, *[40, 41, 90][:cluster], len(field)]  # one batch for the first cluster, two for the next, ...
            for rows in map(slice, edges[:-1], edges[1:]):
                metric.update(members, field[rows], allowed[:, rows], cluster)
        assert torch.equal(metric.compute(), self.filled(parts).compute())

    def test_two_processes_add_up(self, parts, tmp_path):
        """Each sees one part of the field, and the first judges the first cluster alone; both get the whole rate."""
        torch.multiprocessing.spawn(judge_a_part, (parts, tmp_path), nprocs=2)
        expected = self.filled(parts)
        for rank in range(2):
            got = torch.load(tmp_path / f"{rank}.pt")
            assert torch.equal(got["rate"], expected.compute())
            assert (got["own"] < expected.pairs.sum()).item()  # or nothing was shared out

    def test_clone_reset_and_state(self, parts):
        metric = self.filled(parts)
        value = metric.compute()
        copy = metric.clone()
        copy.reset()
        copy.update(*parts[0], cluster=0)
        assert copy.compute().item() == doppelganger_rate(*parts[0])
        assert torch.equal(metric.compute(), value)
        metric.reset()
        assert (metric.close.sum(), metric.pairs.sum(), metric.members.sum()) == (0, 0, 0)
        metric.persistent(True)
        full = self.filled(parts)
        full.persistent(True)
        metric.load_state_dict(full.state_dict())
        metric._update_count = 1
        assert torch.equal(metric.compute(), value)

    def test_without_pairs_it_is_nan(self):
        metric = DoppelgangerRate(2)
        metric.update(torch.eye(2), torch.eye(2), torch.zeros(2, 2, dtype=torch.bool), cluster=1)
        assert metric.compute().isnan()


@pytest.mark.parametrize(
    ("members", "field", "allowed", "message"),
    [
        (np.ones((1, 2)), np.ones((3, 2)), None, "at least two members to have a sibling pair, got 1"),
        (np.ones((2, 3)), np.ones((3, 2)), None, r"got \(2, 3\), \(3, 2\)"),
        (np.ones((2, 2)), np.ones(2), None, r"got \(2, 2\), \(2,\)"),
        (np.ones((2, 2)), np.ones((3, 2)), np.ones((3, 2), dtype=bool), r"must have shape \(2, 3\), got \(3, 2\)"),
    ],
)
def test_what_cannot_be_judged(members, field, allowed, message):
    with pytest.raises(InputError, match=message):
        doppelganger_rate(members, field, allowed)
    with pytest.raises(InputError, match=message):
        DoppelgangerRate().update(members, field, allowed)


def test_values_that_are_not_finite_are_refused_and_large_ones_are_not():
    members, field = torch.eye(2), torch.tensor([[1.0, torch.inf], [torch.nan, 0.0], [-torch.inf, 1.0]])
    with pytest.raises(InputError, match="3 embedded values are not finite"):
        doppelganger_rate(members, field)
    with pytest.raises(InputError, match="3 embedded values are not finite"):
        doppelganger_rate(field, members)
    assert doppelganger_rate(members, torch.full((2, 2), 1.7e308, dtype=torch.float64)) == 0  # though their sum is not
