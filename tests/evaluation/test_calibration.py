"""Cllr, its minimum, calibration on inner clusters, probabilities and how reliable they are."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from rsca_torch import Identity, InputError, NumericalWarning, ScaledComponents, leave_one_cluster_out
from rsca_torch.evaluation.calibration import FEWEST, Calibrated, Calibration
from rsca_torch.evaluation.cllr import cllr, minimum_cllr
from rsca_torch.evaluation.figure_of_merit import rate_at_miss
from rsca_torch.evaluation.fold_files import FoldFiles
from rsca_torch.evaluation.nested_choice import nested_leave_one_cluster_out
from rsca_torch.evaluation.result import paired_difference
from rsca_torch.learners.distances import sibling_overlap

by_likelihood = partial(ScaledComponents, score="likelihood")


def drawn_ratios(seed=0, n_clusters=6, siblings=4000, strangers=8000, information=6.0):
    """By cluster, true log likelihood ratios: normal, of variance twice their mean, which is +-information / 2."""
    rng = np.random.default_rng(seed)
    return {
        f"NGC {number}": tuple(
            torch.from_numpy(rng.normal(sign * information / 2, math.sqrt(information), size=count))
            for sign, count in ((1, siblings), (-1, strangers))
        )
        for number in range(n_clusters)
    }


def sized(scores, size=4):
    return dict.fromkeys(scores, size)


def judged(make, problem, **options):
    return leave_one_cluster_out(make, problem.field, problem.members, problem.clusters, problem.allowed, **options)


class TestCllr:
    def test_against_its_formula(self):
        siblings, strangers = np.array([3.0, -1.0]), np.array([-2.0, 0.5, -7.0])
        expected = (np.log2(1 + np.exp(-siblings)).mean() + np.log2(1 + np.exp(strangers)).mean()) / 2
        assert cllr(siblings, strangers) == pytest.approx(expected, rel=1e-12)
        assert cllr(np.zeros(3), np.zeros(5)) == 1
        assert math.isnan(cllr(siblings, strangers[:0]))

    def test_its_minimum_is_that_of_no_other_rising_map(self):
        scores = {name: tuple(kind[:9] for kind in pairs) for name, pairs in drawn_ratios(n_clusters=2).items()}
        members = {"NGC 0": 3, "NGC 1": 5}
        least = minimum_cllr(scores, members)
        for slope in (0.1, 0.5, 1.0, 2.0):
            for offset in (-1.0, 0.0, 1.0):
                told = [cllr(*(slope * kind + offset for kind in pairs)) for pairs in scores.values()]
                assert least < np.average(told, weights=[*members.values()])
        cubed = {name: tuple(kind**3 + 2 for kind in pairs) for name, pairs in scores.items()}
        assert minimum_cllr(cubed, members) == pytest.approx(least, rel=1e-12)

    def test_its_minimum_at_both_ends(self):
        apart = {"M 67": (torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0, -5.0]))}
        assert minimum_cllr(apart, {"M 67": 2}) == 0
        tied = {"M 67": (torch.ones(2), torch.ones(3))}
        assert minimum_cllr(tied, {"M 67": 2}) == pytest.approx(1, rel=1e-12)


class TestCalibration:
    def test_ratios_that_are_true_are_found_again(self):
        ratios = drawn_ratios()
        scores = {name: tuple((kind - 3) / 0.2 for kind in pairs) for name, pairs in ratios.items()}
        found = Calibration.fit(scores, sized(scores), strangers=8000)
        assert found.slope == pytest.approx(0.2, rel=0.02)
        assert found.offset == pytest.approx(3, abs=0.05)
        torch.testing.assert_close(found(scores["NGC 0"][0]), ratios["NGC 0"][0], rtol=0.03, atol=0.1)

    def test_each_cluster_weighs_its_members_whatever_its_pairs(self):
        scores = drawn_ratios(n_clusters=3, siblings=40, strangers=80)
        scores["NGC 2"] = tuple(kind + 2 for kind in scores["NGC 2"])
        many = scores | {"NGC 2": tuple(kind.repeat(50) for kind in scores["NGC 2"])}
        plain, repeated = (Calibration.fit(each, sized(each), 9) for each in (scores, many))
        assert repeated.offset == pytest.approx(plain.offset, abs=0.1)
        heavy = Calibration.fit(scores, sized(scores) | {"NGC 2": 400}, 9)
        assert abs(heavy.offset - plain.offset) > 0.5

    def test_kinds_that_do_not_overlap_have_an_end_too(self):
        scores = {f"NGC {n}": (torch.tensor([5.0, 6.0]), torch.tensor([-1.0, -2.0, 0.0])) for n in range(5)}
        found = Calibration.fit(scores, sized(scores), 9)
        assert found.slope > 0
        assert 1 < float(found(torch.tensor(5.0))) < math.log(11 / 1) + 0.1  # 10 sibling pairs cannot show more
        same = {name: (torch.ones(2), torch.ones(4)) for name in scores}  # nothing to tell them by
        assert abs(float(Calibration.fit(same, sized(same), 9)(torch.ones(())))) < 0.2

    def test_probability_is_bounded_by_what_was_seen(self):
        told = Calibration(slope=1.0, offset=0.0, clusters=19, strangers=999)
        assert told.bounds == pytest.approx((-math.log(20), math.log(1000)))
        got = told.probability(np.array([0.0, 1e9, -1e9]), prior=0.5)
        np.testing.assert_allclose(got, [0.5, 1000 / 1001, 1 / 21], rtol=1e-12)
        odds = told.probability(torch.tensor([2.0]), prior=0.01)
        assert float(odds) == pytest.approx(1 / (1 + 99 * math.exp(-2)))

    @pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, math.nan], ids=["0", "1", "negative", "nan"])
    def test_a_prior_that_is_none_is_refused(self, prior):
        with pytest.raises(InputError, match=r"prior=.*must lie between 0 and 1, both excluded"):
            Calibration(1.0, 0.0, 5, 9).probability(torch.zeros(1), prior)

    def test_without_pairs_of_both_kinds_there_is_nothing_to_fit(self):
        with pytest.raises(InputError, match="no cluster has both sibling pairs and allowed strangers"):
            Calibration.fit({"M 67": (torch.ones(2), torch.ones(0))}, {"M 67": 2}, 0)


class TestReliability:
    def of(self, ratios, slope=1.0):
        own = Calibration(slope, 0.0, 10**6, 10**6)
        return Calibrated(ratios, sized(ratios), dict.fromkeys(ratios, own), own)

    def test_true_ratios_come_true_at_every_prior(self):
        told = self.of(drawn_ratios())
        for prior in (0.5, 0.01):
            assert told.expected_error(prior) < 0.005
            curve = told.reliability(prior)
            assert sum(each.weight for each in curve) == pytest.approx(1)
            assert all(one.probability < other.probability for one, other in pairwise(curve))
        assert told.minimum() <= np.mean([*told.cllr().values()])

    def test_ratios_that_are_too_sure_do_not(self):
        assert self.of(drawn_ratios(), slope=5.0).expected_error(0.5) > 0.03

    def test_against_a_count_by_hand(self):
        ratios = {"M 67": (torch.tensor([3.0, -0.5]), torch.tensor([-3.0, -4.0, 2.9, -0.6]))}
        curve = self.of(ratios).reliability(0.5, bins=2)
        p = torch.sigmoid(torch.tensor([-0.5, -3.0, -4.0, -0.6], dtype=torch.float64))
        low = (float(p[0]) / 4 + float(p[1:].sum()) / 8) / (1 / 4 + 3 / 8)
        assert curve[0] == pytest.approx((5 / 8, low, (1 / 4) / (5 / 8)))
        assert curve[1].siblings == pytest.approx((1 / 4) / (1 / 4 + 1 / 8))


class TestLeavingOneClusterOut:
    @pytest.mark.parametrize("make", [by_likelihood, ScaledComponents], ids=["likelihood", "distance"])
    def test_each_is_calibrated_by_learners_that_saw_neither_it_nor_what_they_judge(self, small, make):
        got = judged(make, small, calibrate=True, keep_distances=True)
        members = {name: int((small.clusters == name).sum()) for name in got.members}
        for cluster, found in got.calibrated.by_cluster.items():
            others = {}
            for other in members.keys() - {cluster}:
                seen = ~np.isin(small.clusters, [cluster, other])
                learner = make()
                learner.initialise(small.field, small.members[seen], small.clusters[seen])
                inside = small.clusters == other
                own = learner.score(small.members[inside], small.members[inside])
                siblings = own[tuple(np.triu_indices(len(own), 1))]
                strangers = learner.score(small.members[inside], small.field)
                others[other] = (siblings, strangers[torch.from_numpy(small.allowed[inside])])
            compared = small.allowed[np.isin(small.clusters, [*others])].any(0).sum()
            expected = Calibration.fit({name: others[name] for name in sorted(others)}, members, int(compared))
            assert found.slope == pytest.approx(expected.slope, rel=1e-6)
            assert found.offset == pytest.approx(expected.offset, rel=1e-6)
            assert (found.clusters, found.strangers) == (4, compared)
            told = cllr(*(found(-kind) for kind in got.distances[cluster]))
            assert got.merits["cllr"][cluster] == pytest.approx(told)
        low, high = got.interval(merit="cllr")
        assert low < got.merit("cllr") < high
        if make is by_likelihood:
            raw = {cluster: cllr(*(-kind for kind in kinds)) for cluster, kinds in got.distances.items()}
            assert got.merits["cllr_uncalibrated"] == pytest.approx(raw)
        else:  # minus a distance is no log ratio
            assert "cllr_uncalibrated" not in got.merits

    def test_rates_and_distances_are_those_without(self, small):
        plain, told = (judged(by_likelihood, small, calibrate=each, keep_distances=not each) for each in (False, True))
        assert told.cluster_rates == plain.cluster_rates
        assert told.distances is None
        assert plain.calibrated is None
        assert plain.merits == {}

    @pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")  # where the others are judged
    @pytest.mark.parametrize("make", [by_likelihood, ScaledComponents], ids=["likelihood", "distance"])
    def test_no_bit_of_a_cluster_is_in_its_own_calibration(self, small, make):
        clean = judged(make, small, calibrate=True)
        for cluster in clean.calibrated.by_cluster:
            members = small.members.copy()
            inside = small.clusters == cluster
            members[inside] = 1e12 * np.where(np.arange(inside.sum()) % 2, -1, 1)[:, None]
            with np.errstate(all="ignore"):
                poisoned = leave_one_cluster_out(
                    make, small.field, members, small.clusters, small.allowed, calibrate=True
                )
            assert poisoned.calibrated.by_cluster[cluster] == clean.calibrated.by_cluster[cluster]
            assert poisoned.merits["cllr"][cluster] != clean.merits["cllr"][cluster]
            others = clean.calibrated.by_cluster.keys() - {cluster}
            assert any(poisoned.calibrated.by_cluster[each] != clean.calibrated.by_cluster[each] for each in others)

    def test_too_few_clusters_stay_uncalibrated(self, small):
        few = small.clusters != "NGC 4"
        problem = (small.field, small.members[few], small.clusters[few], small.allowed[few])
        for make, merits in ((by_likelihood, {"cllr_uncalibrated"}), (ScaledComponents, set())):
            with pytest.warns(NumericalWarning, match=f"uncalibrated: 4 clusters have .*, {FEWEST} at least are"):
                got = leave_one_cluster_out(make, *problem, calibrate=True)
            assert got.calibrated is None
            assert got.merits.keys() == merits

    def test_where_no_learner_can_be_fitted_without_two_of_them_the_rates_stand(self, make_clusters):
        problem = make_clusters(sizes=(2, 2, 2, 2, 2))
        with pytest.warns(NumericalWarning, match="uncalibrated: 4 dimensions, but .* can carry at most 3"):
            got = judged(ScaledComponents, problem, calibrate=True)
        assert got.cluster_rates == judged(ScaledComponents, problem).cluster_rates
        assert got.calibrated is None

    def test_a_cluster_without_an_allowed_pair_takes_no_part(self, make_clusters):
        problem = make_clusters(sizes=(6, 3, 5, 3, 4, 4))
        problem.allowed[problem.clusters == "NGC 1"] = False
        with pytest.warns(NumericalWarning, match="with no allowed pair"):
            got = judged(by_likelihood, problem, calibrate=True)
        assert math.isnan(got.merits["cllr"]["NGC 1"])
        assert "NGC 1" not in got.calibrated.by_cluster
        assert {each.clusters for each in got.calibrated.by_cluster.values()} == {4}
        assert got.calibrated.of_all.clusters == 5

    def test_what_is_not_held_out_would_calibrate_itself(self, small):
        with pytest.raises(InputError, match="would calibrate themselves: held_out=True, or calibrate=False"):
            judged(Identity, small, calibrate=True, held_out=False)

    def test_kept_folds_without_distances_are_fitted_anew(self, small, tmp_path):
        expected, kept = judged(by_likelihood, small, calibrate=True), FoldFiles(tmp_path)
        judged(by_likelihood, small, kept=kept)
        for _ in range(2):
            assert judged(by_likelihood, small, calibrate=True, kept=kept).merits == expected.merits

    def test_a_choice_of_components_is_calibrated_with_what_was_chosen(self, small):
        problem = (small.clusters, small.allowed)
        one = {4: (small.field, small.members)}
        nested = nested_leave_one_cluster_out(by_likelihood, one, *problem, calibrate=True).loco
        plain = judged(by_likelihood, small, calibrate=True)
        assert nested.merits == plain.merits
        assert nested.calibrated.by_cluster == plain.calibrated.by_cluster
        two = {number: (small.field[:, :number], small.members[:, :number]) for number in (2, 4)}
        chosen = nested_leave_one_cluster_out(by_likelihood, two, *problem, calibrate=True)
        for cluster, number in chosen.chosen.items():
            own = leave_one_cluster_out(by_likelihood, *two[number], *problem, calibrate=True)
            assert chosen.loco.calibrated.by_cluster[cluster] == own.calibrated.by_cluster[cluster]


class TestAlikePairs:
    def test_they_are_told_as_if_no_others_were_allowed(self, small):
        alike = np.random.default_rng(1).random(small.allowed.shape) < 0.3
        merits = {"overlap": sibling_overlap, "far": rate_at_miss}
        got = judged(ScaledComponents, small, merits=merits, alike=alike)
        among = leave_one_cluster_out(
            ScaledComponents, small.field, small.members, small.clusters, small.allowed & alike, merits=merits
        )
        plain = judged(ScaledComponents, small, merits=merits)
        assert got.merits["rate_alike"] == among.cluster_rates
        assert got.merits["overlap_alike"] == among.merits["overlap"]
        assert got.merits["far_alike"] == among.merits["far"]
        assert got.merits["overlap"] == plain.merits["overlap"]
        assert got.cluster_rates == plain.cluster_rates
        scored = judged(by_likelihood, small, alike=alike)
        among = leave_one_cluster_out(by_likelihood, small.field, small.members, small.clusters, small.allowed & alike)
        assert scored.merits == {"rate_alike": among.cluster_rates}

    def test_a_cluster_without_one_has_no_such_figure(self, small):
        alike = np.broadcast_to((small.clusters != "NGC 0")[:, None], small.allowed.shape)
        got = judged(ScaledComponents, small, alike=alike)
        assert math.isnan(got.merits["rate_alike"]["NGC 0"])
        assert not math.isnan(got.rate)

    def test_another_shape_is_refused(self, small):
        with pytest.raises(InputError, match=r"alike must have the shape of allowed, \(M, F\), got \(2, 3\)"):
            judged(Identity, small, alike=np.ones((2, 3), dtype=bool))


def test_differences_of_merits_are_paired(small):
    merits = {"overlap": sibling_overlap}
    a, b = (judged(make, small, merits=merits) for make in (ScaledComponents, Identity))
    got = paired_difference(a, b, merit="overlap")
    assert got.value == pytest.approx(a.merit("overlap") - b.merit("overlap"))
    assert got.low < got.value < got.high
    rate = paired_difference(a, b)
    assert rate.value == pytest.approx(a.rate - b.rate)
    with pytest.raises(InputError, match="no figure of merit cllr was asked for"):
        paired_difference(a, b, merit="cllr")


@pytest.mark.parametrize("miss", [-0.1, 1.0], ids=["negative", "all"])
def test_a_miss_out_of_range_is_refused(miss):
    with pytest.raises(InputError, match="the share of sibling pairs that may be missed lies between 0 and 1"):
        rate_at_miss(torch.ones(2), torch.ones(3), miss)


def test_the_rate_at_a_miss_counts_strangers_up_to_that_sibling():
    siblings, strangers = torch.arange(1.0, 11.0), torch.tensor([0.5, 8.9, 9.0, 9.1, 10.0, 20.0])
    assert rate_at_miss(siblings, strangers) == 3 / 6
    assert rate_at_miss(siblings, strangers, miss=0.0) == 5 / 6
    assert math.isnan(rate_at_miss(siblings, strangers[:0]))
