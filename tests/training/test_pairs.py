"""Batches of clusters, and the pairs of a batch: those that may be compared, and no star twice."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.losses import ContrastiveLoss

from rsca_torch import InputError, allowed_pairs
from rsca_torch.spectra.stars import Stars
from rsca_torch.training.cluster_batches import ClusterBatches
from rsca_torch.training.pairs import Pairs

LABELS = np.array([*["A"] * 7, *["B"] * 2, *["C"] * 5, "D", *[""] * 20])


@pytest.fixture(scope="module")
def stars():
    rng = np.random.default_rng(0)
    order = rng.permutation(len(LABELS))
    numbers = {"velocity": rng.uniform(-9, 9, len(LABELS)), "extinction": rng.uniform(0, 0.1, len(LABELS))}
    return Stars.of({"id": np.arange(len(LABELS)), "group": LABELS[order], **numbers})


@given(
    clusters=st.integers(1, 3), members=st.integers(2, 9), strangers=st.integers(0, 20), seed=st.integers(0, 99),
    batches=st.integers(1, 9),
)  # fmt: skip
def test_no_batch_has_a_star_twice_and_all_come_alike(clusters, members, strangers, seed, batches):
    sampler = ClusterBatches(LABELS, clusters, members, strangers, batches, seed)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == batches
    for rows in drawn:
        assert len({*rows}) == len(rows)
        counts = Counter(LABELS[rows].tolist())
        assert counts.pop("", 0) == strangers
        assert len(counts) == clusters
        assert counts == {name: min(members, int((name == LABELS).sum())) for name in counts}
    seen = Counter(name for rows in drawn for name in {*LABELS[rows].tolist()} - {""})
    assert max(seen.values()) - min(seen.get(name, 0) for name in "ABC") <= 1
    for name in ("A", "B", "C", ""):
        times = Counter(row for rows in drawn for row in rows if LABELS[row] == name)
        if times:
            assert max(times.values()) - min(times.get(row, 0) for row in np.flatnonzero(name == LABELS)) <= 1


def test_epochs_differ_and_seeds_repeat():
    sampler = ClusterBatches(LABELS, 2, 2, 3)
    assert len(sampler) == 4  # 14 members in batches of four
    first, second = list(sampler), list(sampler)
    assert first != second
    again = ClusterBatches(LABELS, 2, 2, 3)
    again.set_epoch(1)
    assert list(again) == second
    assert list(ClusterBatches(LABELS, 2, 2, 3, seed=1)) != first
    numbers = np.select([name == LABELS for name in "ABCD"], range(4), -1)
    assert list(ClusterBatches(torch.from_numpy(numbers), 2, 2, 3)) == first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clusters": 4}, "clusters=4 in a batch, but 3 clusters have two members"),
        ({"clusters": 2, "members": 1}, "at least 1 cluster with 2 members"),
        ({"clusters": 2, "strangers": 21}, "strangers=21 in a batch, but there are 20 field stars"),
    ],
    ids=["clusters", "members", "strangers"],
)
def test_batches_that_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        ClusterBatches(LABELS, **options)


@pytest.mark.parametrize(
    "rule", [None, allowed_pairs, partial(allowed_pairs, max_velocity=None)], ids=["all", "paper", "extinction"]
)
def test_pairs_are_those_of_a_brute_force_count(stars, rule):
    pairs, labels = Pairs(stars, rule), stars.group
    assert [pairs.names[number] if number >= 0 else "" for number in pairs.group] == labels.tolist()
    siblings = [(a, b) for a, b in combinations(range(len(labels)), 2) if labels[a] == labels[b] != ""]
    assert sorted(map(tuple, pairs.siblings.tolist())) == siblings

    def may(a, b):
        near = abs(stars.velocity[a] - stars.velocity[b]) < 5 or rule is not allowed_pairs
        return rule is None or (near and abs(stars.extinction[a] - stars.extinction[b]) < 0.05)

    every = [(a, b) for a in range(len(labels)) for b in range(len(labels)) if labels[a] != labels[b] and labels[a]]
    strangers = [(a, b) for a, b in every if not labels[b] and may(a, b)]
    assert sorted(map(tuple, pairs.strangers.tolist())) == strangers
    assert len(strangers) > 0
    rows = [30, 2, 17, 5, 9, 0, 21, 12]
    for apart in (True, False):
        anchor, positive, other, negative = Pairs(stars, rule, apart).among(rows)
        found = {(rows[a], rows[b]) for a, b in zip(anchor.tolist(), positive.tolist(), strict=True)}
        assert found == {(a, b) for a in rows for b in rows if (a, b) in siblings or (b, a) in siblings}
        found = {(rows[a], rows[b]) for a, b in zip(other.tolist(), negative.tolist(), strict=True)}
        assert found == {(a, b) for a, b in every if a in rows and b in rows and may(a, b) and (apart or not labels[b])}


def test_a_loss_of_pytorch_metric_learning_takes_them(stars):
    pairs, rows = Pairs(stars, allowed_pairs), next(iter(ClusterBatches(stars.group, 3, 4, 9)))
    z = torch.randn(len(rows), 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = ContrastiveLoss()(z, indices_tuple=pairs.among(rows))
    loss.backward()
    alone = torch.ones(len(rows), dtype=torch.bool)
    for places in pairs.among(rows):
        alone[places] = False
    assert (z.grad[alone] == 0).all()
    assert z.grad.abs().sum() > 0


def test_a_rule_needs_what_it_compares():
    bare = Stars.of({"id": [1, 2], "group": ["A", "A"]})
    with pytest.raises(InputError, match="no column of the star table plays the role velocity"):
        Pairs(bare, allowed_pairs)
    assert Pairs(bare).siblings.tolist() == [[0, 1]]
    assert Pairs(bare).strangers.shape == (0, 2)
