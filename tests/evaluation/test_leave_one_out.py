"""Leave one cluster out and the bootstrap against plain loops (reference.py); leaks are looked for by poison."""

from __future__ import annotations

import math
import re

import hydra
import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from rsca_torch import (
    Identity,
    InputError,
    Learner,
    LOCOResult,
    NumericalWarning,
    Scaled,
    ScaledComponents,
    leave_one_cluster_out,
    paired_difference,
)
from rsca_torch.cli.main import CONFIG
from rsca_torch.evaluation import judged_pairs
from rsca_torch.evaluation.fold_files import FoldFiles
from rsca_torch.learners import distances as distances_module
from rsca_torch.learners.distances import sibling_overlap

LEARNERS = {
    "raw": (Identity, lambda field, *_: np.eye(field.shape[1])),
    "scaled": (Scaled, lambda *problem: reference.scaled(*problem)[0]),
    "rsca": (ScaledComponents, lambda *problem: reference.scaled_components(*problem)[0]),
}


def judge(make_learner, problem, **options):
    return leave_one_cluster_out(make_learner, problem.field, problem.members, problem.clusters, **options)


@pytest.mark.parametrize("held_out", [True, False], ids=["held out", "not held out"])
@pytest.mark.parametrize("restricted", [False, True], ids=["all pairs", "allowed pairs"])
@pytest.mark.parametrize("name", LEARNERS)
def test_against_the_oracle(small, name, restricted, held_out):
    make_learner, weight_of = LEARNERS[name]
    allowed = small.allowed if restricted else None
    result = judge(make_learner, small, allowed=allowed, held_out=held_out, keep_distances=True)
    rates, sizes, medians = reference.leave_one_cluster_out(
        weight_of, small.field, small.members, small.clusters, allowed, held_out
    )
    assert 0 < reference.global_rate(rates, sizes) < 1
    assert result.cluster_rates == pytest.approx(rates, abs=1e-12)
    assert result.members == sizes
    assert result.median_sibling_distance == pytest.approx(medians, rel=1e-9)
    assert result.rate == pytest.approx(reference.global_rate(rates, sizes), rel=1e-12)
    assert result.held_out is held_out
    for label, (siblings, strangers) in result.distances.items():
        inside = small.clusters == label
        assert len(siblings) == sizes[label] * (sizes[label] - 1) / 2
        assert (
            len(strangers) == result.pairs[label] == (small.allowed[inside].sum() if restricted else 150 * inside.sum())
        )
        assert np.median(siblings) == pytest.approx(medians[label], rel=1e-9)
        assert (strangers <= np.median(siblings)).double().mean() == pytest.approx(rates[label], abs=1e-12)


def test_held_out_and_not_differ(small):
    """Else the tests above could not tell them apart."""
    assert judge(ScaledComponents, small).rate != judge(ScaledComponents, small, held_out=False).rate


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")  # poisoned folds have no dimension that tells
@pytest.mark.filterwarnings(r"ignore:.*dimensions spread as much:rsca_torch.NumericalWarning")
@pytest.mark.parametrize("held_out", [True, False], ids=["held out", "not held out"])
@pytest.mark.parametrize("make_learner", [Scaled, ScaledComponents], ids=lambda kind: kind.__name__)
def test_poison(small, make_learner, held_out):
    """What the held-out members are does not touch their fold's learner by one bit; without holding out it does."""

    def learners(members):
        made = []

        def make():
            made.append(make_learner())
            return made[-1]

        leave_one_cluster_out(make, small.field, members, small.clusters, held_out=held_out)
        return made if held_out else made * len(np.unique(small.clusters))

    clean = learners(small.members)
    assert len(clean) == 5
    for fold, label in enumerate(np.unique(small.clusters)):
        inside = small.clusters == label
        poisoned = small.members.copy()
        poisoned[inside] = 1e6 * np.random.default_rng(fold).normal(size=(inside.sum(), 4))
        dirty = learners(poisoned)
        untouched = [
            all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers(), strict=True))
            for one, other in zip(clean, dirty, strict=True)
        ]
        assert untouched == [held_out and other == fold for other in range(5)]


def test_one_learner_a_fold_fitted_on_the_other_clusters(small):
    calls = []

    class Recorder(Learner):
        def initialise(self, field, members, clusters):
            calls.append((field, members, list(clusters)))

        def forward(self, z):
            assert not self.training
            assert not z.requires_grad
            return z

    done = []
    judge(Recorder, small, progress=lambda *entry: done.append(entry))
    assert done == [(n, 5) for n in range(1, 6)]
    for label, (field, members, clusters) in zip(np.unique(small.clusters), calls, strict=True):
        others = small.clusters != label
        np.testing.assert_array_equal(field, small.field)
        np.testing.assert_array_equal(members, small.members[others])
        assert clusters == small.clusters[others].tolist()
    calls.clear()
    judge(Recorder, small, held_out=False)
    assert len(calls) == 1


@pytest.mark.parametrize("held_out", [True, False], ids=["held out", "not held out"])
@pytest.mark.parametrize("kind", [Scaled, ScaledComponents], ids=lambda kind: kind.__name__)
def test_the_field_is_summarised_once_before_any_label_is_seen(small, kind, held_out):
    said, given, made = [], [], []

    class Watched(kind):
        def summarise(self, field):
            assert self.weight.numel() == 0  # not fitted: no label has been here
            np.testing.assert_array_equal(field, small.field)
            said.append(super().summarise(field))
            return said[-1]

        def initialise(self, field, members, clusters, summary=None):
            given.append(summary)
            super().initialise(field, members, clusters, summary)
            made.append((self.weight, members, clusters))

    result = judge(Watched, small, allowed=small.allowed, held_out=held_out)
    assert len(said) == 1
    assert len(given) == (5 if held_out else 1)
    assert all(summary is said[0] for summary in given)
    for weight, members, clusters in made:
        alone = kind()
        alone.initialise(small.field, members, clusters)
        assert torch.equal(alone.weight, weight)
    assert result == judge(kind, small, allowed=small.allowed, held_out=held_out)


def test_a_learner_that_knows_no_summary_is_fitted_as_before(small):
    """One that is no Learner, and one that inherits `summarise` and fits on a field of its own."""

    class Plain(torch.nn.Module):
        def initialise(self, field, members, clusters):
            self.fitted = ScaledComponents()
            self.fitted.initialise(field, members, clusters)

        def forward(self, z):
            return self.fitted(z)

        def loss(self, z, clusters):  # noqa: ARG002  (the interface's)
            return None

    class Half(ScaledComponents):
        def initialise(self, field, members, clusters):
            super().initialise(field[::2], members, clusters)

    assert judge(Plain, small) == judge(ScaledComponents, small)
    rates, *_ = reference.leave_one_cluster_out(
        lambda field, *members: reference.scaled_components(field[::2], *members)[0],
        small.field,
        small.members,
        small.clusters,
    )
    assert judge(Half, small).cluster_rates == pytest.approx(rates, abs=1e-12)
    assert judge(Half, small).cluster_rates != judge(ScaledComponents, small).cluster_rates


def test_a_summary_made_by_chance_leaves_every_fold_the_same_numbers(small):
    drawn = []

    class Chance(Learner):
        def summarise(self, field):
            return field[torch.randperm(len(field))[:9]]

        def initialise(self, field, members, clusters, summary=None):  # noqa: ARG002  (the interface's)
            drawn.append(torch.randn(3).tolist())

        def forward(self, z):
            return z

    judge(Chance, small)
    assert len(drawn) == 5
    assert drawn == drawn[:1] * 5


class Sizes(TorchDispatchMode):
    """The numbers in the largest tensor that any operation gives."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple | list) else [result]:
            if isinstance(part, torch.Tensor):
                self.largest = max(self.largest, part.numel())
        return result


@pytest.mark.parametrize("restricted", [False, True], ids=["all pairs", "allowed pairs"])
def test_pairs_come_in_chunks(small, monkeypatch, restricted):
    """Whatever their size, the result is the same to the bit, and no tensor grows with members x field x components."""
    allowed = small.allowed if restricted else None
    expected = judge(ScaledComponents, small, allowed=allowed, keep_distances=True)
    lengths, chunks = distances_module._lengths, []
    monkeypatch.setattr(distances_module, "_lengths", lambda given: chunks.append(given.numel()) or lengths(given))
    siblings_of = judged_pairs.sibling_distances
    monkeypatch.setattr(  # siblings come in one chunk: not counted
        judged_pairs, "sibling_distances", lambda given: (siblings_of(given), chunks.pop())[0]
    )
    for chunk in (4, 40, 2**20):
        monkeypatch.setattr(distances_module, "CHUNK", chunk)
        chunks.clear()
        with Sizes() as sizes:
            got = judge(ScaledComponents, small, allowed=allowed, keep_distances=True)
        assert max(chunks) <= chunk  # strangers, one member's at a time
        assert sizes.largest <= small.allowed.size  # what is allowed is as large itself; K times that would be too much
        assert got.cluster_rates == expected.cluster_rates
        for label, (siblings, strangers) in got.distances.items():
            assert torch.equal(siblings, expected.distances[label][0])
            assert torch.equal(strangers, expected.distances[label][1])


def test_the_field_is_mapped_in_blocks(small, monkeypatch):
    """And of it only the stars of an allowed pair."""
    allowed = small.allowed & (np.arange(150) % 3 == 0)
    expected = judge(ScaledComponents, small, allowed=allowed)
    mapped = []

    class Watched(ScaledComponents):
        def forward(self, z):
            mapped.append(len(z))
            return super().forward(z)

    monkeypatch.setattr(judged_pairs, "BLOCK", 7)
    got = judge(Watched, small, allowed=allowed)
    compared = sum(allowed[small.clusters == label].any(0).sum() for label in np.unique(small.clusters))
    assert max(mapped) == 7
    assert sum(mapped) == len(small.members) + compared
    assert got.cluster_rates == pytest.approx(expected.cluster_rates, abs=1e-12)
    assert got.pairs == expected.pairs


class Random(Learner):
    def initialise(self, field, members, clusters):  # noqa: ARG002  (the interface's)
        self.weight = torch.randn(field.shape[1], 2, dtype=torch.float64)

    def forward(self, z):
        return z @ self.weight


def test_the_seed_fixes_random_learners_and_nothing_else(small):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = judge(Random, small, seed=0)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(6)
    assert judge(Random, small, seed=0) == first
    assert judge(Random, small, seed=1).median_sibling_distance != first.median_sibling_distance


def test_a_cluster_of_one_is_named_and_left_out(small):
    clusters = small.clusters.copy()
    clusters[np.flatnonzero(clusters == "NGC 1")[0]] = "Loner"
    clusters[np.flatnonzero(clusters == "NGC 1")[0]] = "NGC 3"
    fitted_on = set()

    class Watched(ScaledComponents):
        def initialise(self, field, members, clusters, summary=None):
            fitted_on.update(clusters)
            super().initialise(field, members, clusters, summary)

    with pytest.warns(NumericalWarning, match=r"1 clusters with one member \(left out.*: Loner$"):
        result = leave_one_cluster_out(Watched, small.field, small.members, clusters)
    assert fitted_on == {"NGC 0", "NGC 2", "NGC 3", "NGC 4"}
    assert list(result.cluster_rates) == ["NGC 0", "NGC 2", "NGC 3", "NGC 4"]
    rates, sizes, _ = reference.leave_one_cluster_out(LEARNERS["rsca"][1], small.field, small.members, clusters)
    assert result.cluster_rates == pytest.approx(rates, abs=1e-12)
    assert result.members == sizes


def test_a_cluster_without_allowed_pairs_is_named_nan_and_out_of_the_mean(small):
    allowed = small.allowed & (small.clusters != "NGC 2")[:, None]
    with pytest.warns(NumericalWarning, match=r"1 clusters with no allowed pair \(rate NaN.*: NGC 2$"):
        result = judge(ScaledComponents, small, allowed=allowed)
    rates, sizes, _ = reference.leave_one_cluster_out(
        LEARNERS["rsca"][1], small.field, small.members, small.clusters, allowed
    )
    assert math.isnan(result.cluster_rates["NGC 2"])
    assert result.pairs["NGC 2"] == 0
    assert result.members["NGC 2"] == 5
    assert result.cluster_rates == pytest.approx(rates, abs=1e-12, nan_ok=True)
    assert result.rate == pytest.approx(reference.global_rate(rates, sizes), rel=1e-12)
    known = [label for label in rates if label != "NGC 2"]
    expected = reference.bootstrap([rates[c] for c in known], [sizes[c] for c in known], resamples=500)
    assert result.interval(resamples=500) == pytest.approx(expected, rel=1e-12)


def test_what_the_folds_drop_is_said_once(make_clusters):
    problem = make_clusters(1, spreads=(0.1, 5.0, 0.4, 8.0))
    with pytest.warns(NumericalWarning) as record:
        judge(ScaledComponents, problem)
    assert len(record) == 1
    assert re.search(r"in 5 of 5 folds.*\d of 4 dimensions spread as much", str(record[0].message))


def test_no_allowed_pair_at_all(small):
    with pytest.warns(NumericalWarning, match=r"5 clusters with no allowed pair.*: NGC 0, NGC 1, NGC 2, NGC 3, NGC 4"):
        result = judge(Identity, small, allowed=np.zeros_like(small.allowed))
    assert math.isnan(result.rate)
    assert all(math.isnan(bound) for bound in result.interval(resamples=10))


@pytest.mark.parametrize("lonely", [[], ["b"], ["b", "c", "d"]])
def test_fewer_than_two_clusters(lonely):
    labels = ["a", "a", "a", *lonely]
    members = np.random.default_rng(0).normal(size=(len(labels), 2))
    message = rf"at least two clusters with two members are needed, got 1 \(of {1 + len(lonely)} clusters\)"
    with pytest.raises(InputError, match=message):
        leave_one_cluster_out(Identity, members, members, labels)


def test_shapes_are_checked(small):
    with pytest.raises(InputError, match="got 20 members, 19 labels, 150 field stars"):
        leave_one_cluster_out(Identity, small.field, small.members, small.clusters[1:])
    with pytest.raises(InputError, match=r"150 field stars, allowed \(150, 20\)"):
        judge(Identity, small, allowed=small.allowed.T)


@given(order=st.permutations(range(20)), field_order=st.randoms(use_true_random=False))
def test_neither_the_order_of_stars_nor_of_labels_matters(small, order, field_order):
    rows = list(range(150))
    field_order.shuffle(rows)
    renamed = {"NGC 0": "e", "NGC 1": "c", "NGC 2": "d", "NGC 3": "a", "NGC 4": "b"}
    clusters = [renamed[label] for label in small.clusters[order]]
    expected = judge(ScaledComponents, small, allowed=small.allowed)
    got = leave_one_cluster_out(
        ScaledComponents,
        small.field[rows],
        small.members[order],
        clusters,
        small.allowed[np.ix_(order, rows)],
    )
    assert list(got.cluster_rates) == sorted(renamed.values())
    assert got.cluster_rates == pytest.approx({renamed[c]: r for c, r in expected.cluster_rates.items()}, abs=1e-12)
    assert got.rate == pytest.approx(expected.rate, rel=1e-12)


class TestMerits:
    """Figures of merit beside the rate."""

    @pytest.mark.parametrize("held_out", [True, False], ids=["held out", "not held out"])
    def test_they_are_of_the_distances_that_the_rate_is_counted_from(self, small, held_out):
        allowed = small.allowed & (small.clusters != "NGC 2")[:, None]
        seen = []

        def nearest(siblings, strangers):
            seen.append((siblings, strangers))
            return strangers.min() / siblings.median()

        with pytest.warns(NumericalWarning, match="no allowed pair"):
            got = judge(
                ScaledComponents,
                small,
                allowed=allowed,
                held_out=held_out,
                keep_distances=True,
                merits={"overlap": sibling_overlap, "nearest": nearest},
            )
        assert list(got.merits) == ["overlap", "nearest"]
        expected = {
            label: np.mean([[far <= near for far in strangers] for near in siblings]) if len(strangers) else math.nan
            for label, (siblings, strangers) in ((c, pair) for c, pair in got.distances.items())
        }
        assert got.merits["overlap"] == pytest.approx(expected, rel=1e-12, nan_ok=True)
        assert len(seen) == 4
        assert math.isnan(got.merits["nearest"]["NGC 2"])
        known = [label for label in expected if label != "NGC 2"]
        weights = [got.members[label] for label in known]
        for name, values in got.merits.items():
            values = [values[label] for label in known]
            assert got.merit(name) == pytest.approx(np.average(values, weights=weights), rel=1e-12)
            interval = reference.bootstrap(values, weights, resamples=500)
            assert got.interval(resamples=500, merit=name) == pytest.approx(interval, rel=1e-12)

    def test_without_any_there_are_none(self, small):
        got = judge(Identity, small)
        assert got.merits == {}
        with pytest.raises(InputError, match="no figure of merit overlap was asked for, there is none"):
            got.merit("overlap")

    def test_the_configured_one(self):
        with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
            merit = hydra.utils.instantiate(hydra.compose("figure_of_merit/overlap").figure_of_merit)
        near, far = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 3.0, 4.0, 5.0])
        assert merit(near, far) == 0.25

    def test_kept_folds_that_lack_one_are_fitted_anew(self, small, tmp_path):
        fits = []

        class Counted(ScaledComponents):
            def initialise(self, *given, **options):
                fits.append(None)
                super().initialise(*given, **options)

        kept = FoldFiles(tmp_path)
        first = judge(Counted, small, kept=kept)
        for merits, fitted in (({}, 0), ({"overlap": sibling_overlap}, 5), ({"overlap": sibling_overlap}, 0)):
            fits.clear()
            got = judge(Counted, small, kept=kept, merits=merits)
            assert len(fits) == fitted
            assert got.cluster_rates == first.cluster_rates
            assert got.merits == judge(ScaledComponents, small, merits=merits).merits


def test_a_result_says_in_a_line_what_was_found():
    low, high = result(RATES_A, MEMBERS).interval()
    told = repr(result(RATES_A, MEMBERS))
    assert told == f"LOCOResult(5 clusters, rate 0.3833, 68% interval {low:.4g} to {high:.4g})"


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor, lambda flags: torch.as_tensor(flags).byte()])
def test_allowed_pairs_come_as_they_come(small, convert):
    got = judge(ScaledComponents, small, allowed=convert(small.allowed))
    assert got == judge(ScaledComponents, small, allowed=small.allowed)


def result(rates, members):
    labels = [f"c{j}" for j in range(len(rates))]
    return LOCOResult(
        dict(zip(labels, rates, strict=True)),
        dict(zip(labels, members, strict=True)),
        dict.fromkeys(labels, 10),
        dict.fromkeys(labels, 1.0),
    )


RATES_A, RATES_B, MEMBERS = [0.1, 0.4, 0.0, 0.25, 0.6], [0.05, 0.5, 0.1, 0.2, 0.1], [2, 7, 4, 3, 11]


def test_the_global_rate_is_weighted_by_members():
    got = result(RATES_A, MEMBERS).rate
    assert got == pytest.approx((0.1 * 2 + 0.4 * 7 + 0.25 * 3 + 0.6 * 11) / 27, rel=1e-14)
    assert result([math.nan, 0.2, 0.4], [100, 1, 3]).rate == pytest.approx(0.35, rel=1e-14)


@pytest.mark.parametrize("options", [{}, {"level": 0.9, "seed": 3, "resamples": 2000}], ids=str)
def test_interval_against_the_oracle(options):
    expected = reference.bootstrap(RATES_A, MEMBERS, **options)
    assert result(RATES_A, MEMBERS).interval(**options) == pytest.approx(expected, rel=1e-12)


def test_the_interval_is_that_of_all_draws():
    """Three clusters have 27 equally likely draws: the exact distribution, no random numbers of anyone's."""
    rates, members = [0.0, 0.3, 1.0], [3, 1, 2]
    triples = [(i, j, k) for i in range(3) for j in range(3) for k in range(3)]
    exact = sorted(sum(rates[c] * members[c] for c in t) / sum(members[c] for c in t) for t in triples)
    low, high = result(rates, members).interval(level=0.68)
    assert low == pytest.approx(exact[math.floor(0.16 * 27)], abs=1e-12)  # steps lie 0.012 of 1 away, 3 standard
    assert high == pytest.approx(exact[math.floor(0.84 * 27)], abs=1e-12)  # deviations of 10,000 draws or more


@pytest.mark.parametrize("options", [{}, {"level": 0.9, "seed": 3, "resamples": 2000}], ids=str)
def test_paired_difference_against_the_oracle(options):
    got = paired_difference(result(RATES_A, MEMBERS), result(RATES_B, MEMBERS), **options)
    differences = [a - b for a, b in zip(RATES_A, RATES_B, strict=True)]
    labels = range(5)
    expected = reference.global_rate(
        dict(zip(labels, differences, strict=True)), dict(zip(labels, MEMBERS, strict=True))
    )
    assert got.value == pytest.approx(expected, rel=1e-12)
    assert (got.low, got.high) == pytest.approx(reference.bootstrap(differences, MEMBERS, **options), rel=1e-12)
    mirrored = paired_difference(result(RATES_B, MEMBERS), result(RATES_A, MEMBERS), **options)
    assert mirrored.value == -got.value


def test_a_learner_does_not_differ_from_itself():
    one = result(RATES_A, MEMBERS)
    got = paired_difference(one, one)
    assert (got.value, got.low, got.high) == (0, 0, 0)
    assert not got.excludes_zero


def test_whether_the_interval_excludes_zero():
    better = result([rate - 0.05 for rate in RATES_A], MEMBERS)
    assert paired_difference(result(RATES_A, MEMBERS), better).excludes_zero
    assert paired_difference(better, result(RATES_A, MEMBERS)).excludes_zero


def test_only_clusters_judged_by_both_are_paired():
    a = result([0.1, math.nan, 0.5, 0.3], [2, 3, 4, 5])
    b = result([0.2, 0.4, math.nan], [2, 3, 4])
    assert paired_difference(a, b).value == pytest.approx(-0.1, rel=1e-12)
    with pytest.raises(InputError, match="some clusters with the same members"):
        paired_difference(a, result([0.2], [3]))
    with pytest.raises(InputError, match="some clusters with the same members"):
        paired_difference(a, result([math.nan], [2]))


def test_as_many_members_are_not_the_same_members(small):
    """Two samples that lack another star of every cluster: as many members each, and no cluster in common."""
    ids = np.array([f"star {number}" for number in range(len(small.clusters))])
    large = [label for label in np.unique(small.clusters) if (small.clusters == label).sum() > 2]
    assert len(large) > 1
    first, last = np.isin(small.clusters, large), np.isin(small.clusters, large)
    for label in large:
        place = np.flatnonzero(small.clusters == label)
        first[place[0]], last[place[-1]] = False, False
    a, b = (
        leave_one_cluster_out(Identity, small.field, small.members[kept], small.clusters[kept], ids=ids[kept])
        for kept in (first, last)
    )
    assert a.members == b.members
    with pytest.raises(InputError, match="some clusters with the same members; members are told apart by the `ids`"):
        paired_difference(a, b)
    order = np.flatnonzero(first)[::-1]  # the same stars in another order
    again = leave_one_cluster_out(Identity, small.field, small.members[order], small.clusters[order], ids=ids[order])
    assert paired_difference(again, a).value == pytest.approx(0, abs=1e-15)
    with pytest.raises(InputError, match="one id a member expected, got 3 for"):
        judge(Identity, small, ids=["a", "b", "c"])


def test_without_ids_members_are_known_by_their_place(small):
    a = judge(Identity, small)
    assert sorted(place for cluster in a.stars.values() for place in cluster) == sorted(
        str(place) for place in range(len(small.clusters))
    )
    assert paired_difference(judge(Scaled, small), a).value == pytest.approx(judge(Scaled, small).rate - a.rate)
