"""What must not matter does not: order, units, names, rotations, duplicates; of step 1 to the search.

The order of stars and bins in step 1, units of flux, linear maps of latents, and the order of stars and labels in folds
have their properties beside the code (tests/ppca, tests/learners, tests/evaluation).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numbers_survey import BINS, SEEDS, apart, drawn, examples, fitted

from rsca_torch import doppelganger_rate, leave_one_cluster_out
from rsca_torch.evaluation.calibration import Calibration
from rsca_torch.evaluation.cllr import cllr, minimum_cllr
from rsca_torch.learners import Identity, ScaledComponents
from rsca_torch.learners.floor import Repeats
from rsca_torch.learners.likelihood_ratio import (
    joint_log_ratio,
    joint_log_ratio_of_cluster,
    log_likelihood_ratio,
    log_likelihood_ratio_of_cluster,
)
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.siblings.measure import Measure
from rsca_torch.siblings.search import nearest

pytestmark = pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
NAMES = st.lists(
    st.text(st.characters(categories=["L", "N", "S"]), min_size=1).map(lambda text: f"c{text}"),
    min_size=3,
    max_size=3,
    unique=True,
)


def rotation(seed, size):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


class TestModels:
    """RSCA from spectra to features: distances of siblings stay."""

    @examples(4)
    @given(seed=SEEDS)
    def test_the_order_of_stars_members_and_bins(self, seed, tolerance):
        survey, rng = drawn(1), np.random.default_rng(seed)
        expected = apart(fitted(survey), survey.members)
        bins, rows, members = (rng.permutation(n) for n in (BINS, len(survey.field.flux), len(survey.labels)))
        for part, order in ((survey.field, rows), (survey.members, members)):
            part.flux, part.sigma, part.valid = (array[np.ix_(order, bins)] for array in vars(part).values())
        survey.labels = survey.labels[members]
        got = apart(fitted(survey), survey.members)
        np.testing.assert_allclose(got, expected[np.ix_(members, members)], **tolerance["fit"])

    @examples(4)
    @given(exponent=st.floats(-3, 3), shift=st.floats(-10, 10))
    def test_the_unit_of_flux_and_a_spectrum_that_all_share(self, exponent, shift, tolerance):
        survey, unit = drawn(2), 10**exponent
        expected = apart(fitted(survey), survey.members)
        for part in (survey.field, survey.members):
            part.flux, part.sigma = unit * (part.flux + shift * np.arange(BINS)), unit * part.sigma
        np.testing.assert_allclose(apart(fitted(survey), survey.members), expected, **tolerance["fit"])

    @examples(4)
    @given(names=NAMES)
    def test_the_names_of_clusters(self, names, tolerance):
        survey = drawn(3)
        model = fitted(survey)
        survey.labels = np.array([names[int(label[1:])] for label in survey.labels])
        np.testing.assert_allclose(fitted(survey).weight, model.weight, **tolerance[torch.float64])

    @examples(15)
    @given(seed=SEEDS, clip=st.sampled_from([None, 5.0]))
    def test_the_axes_of_the_latents(self, seed, clip, tolerance):
        survey = drawn(4).members
        axes, turn = np.random.default_rng(7).normal(size=(BINS, 3)), rotation(seed, 3)
        noise = torch.full((BINS,), 0.01).double()
        one, other = (
            MaskedPPCA(torch.tensor(loadings), torch.ones(BINS).double(), noise, None, scatter=noise, clip=clip)
            for loadings in (axes, axes @ turn)
        )
        asked = survey.flux, survey.valid, survey.sigma
        close = tolerance[torch.float64]
        np.testing.assert_allclose(one(*asked) @ torch.tensor(turn), other(*asked), **close)
        np.testing.assert_allclose(one.reconstruct(*asked), other.reconstruct(*asked), **close)
        np.testing.assert_allclose(one.log_likelihood(*asked), other.log_likelihood(*asked), **close)
        assert torch.equal(one.set_aside(*asked), other.set_aside(*asked))


class TestSteps2To4:
    @examples(20)
    @given(seed=SEEDS, trim=st.sampled_from([None, 2.0]), robust=st.booleans())
    def test_every_cluster_twice_under_two_names(self, small, seed, trim, robust, tolerance):
        """Twice as many members that say the same: the scatter of siblings is what it was."""
        del seed
        one, other = (ScaledComponents(trim=trim, robust=robust) for _ in range(2))
        one.initialise(small.field, small.members, small.clusters)
        twice = [*small.clusters, *(f"{name} again" for name in small.clusters)]
        other.initialise(small.field, np.concatenate([small.members, small.members]), twice)
        np.testing.assert_allclose(other.sigma_r, one.sigma_r, **tolerance[torch.float64])
        np.testing.assert_allclose(other.weight, one.weight, **tolerance[torch.float64])

    @examples(20)
    @given(seed=SEEDS)
    def test_the_order_and_the_names_of_repeats(self, seed, tolerance):
        rng = np.random.default_rng(seed)
        stars = np.repeat(np.arange(12), rng.integers(1, 4, 12))
        latents, order = rng.normal(size=(len(stars), 2)), rng.permutation(len(stars))
        one, other = Repeats.of(latents, stars), Repeats.of(latents[order], (99 - stars)[order])
        np.testing.assert_allclose(other.scatter, one.scatter, **tolerance[torch.float64])
        assert (one.stars, one.freedom, one.weighed_down) == (other.stars, other.freedom, other.weighed_down)


class TestRates:
    @examples(20)
    @given(seed=SEEDS, exponent=st.integers(-900, 900))
    def test_a_unit_of_any_size_and_any_axes(self, seed, exponent):
        rng = np.random.default_rng(seed)
        members, field = rng.normal(size=(5, 3)), rng.normal(size=(9, 3))
        allowed = rng.random((5, 9)) < 0.7
        expected = doppelganger_rate(members, field, allowed)
        unit = 2.0**exponent
        assert doppelganger_rate(unit * members, unit * field, allowed) == pytest.approx(expected, nan_ok=True)
        turn = rotation(seed, 3)
        assert doppelganger_rate(members @ turn, field @ turn, allowed) == pytest.approx(expected, nan_ok=True)

    @examples(20)
    @given(seed=SEEDS)
    def test_field_stars_twice(self, seed):
        rng = np.random.default_rng(seed)
        members, field, allowed = rng.normal(size=(5, 2)), rng.normal(size=(9, 2)), rng.random((5, 9)) < 0.7
        twice = doppelganger_rate(members, np.tile(field, (2, 1)), np.tile(allowed, (1, 2)))
        assert twice == pytest.approx(doppelganger_rate(members, field, allowed), nan_ok=True)

    @examples(10)
    @given(far=st.sampled_from([1e300, -1e300, 5e-324, 1e100]))
    def test_strangers_that_nobody_may_be_compared_with(self, small, far):
        allowed, field = small.allowed.copy(), small.field.copy()
        allowed[:, ::3] = False
        expected = leave_one_cluster_out(Identity, field, small.members, small.clusters, allowed)
        field[::3] = far
        found = leave_one_cluster_out(Identity, field, small.members, small.clusters, allowed)
        assert found.cluster_rates == expected.cluster_rates

    @examples(5)
    @given(seed=SEEDS)
    def test_a_linear_map_of_the_latents_changes_no_rate(self, small, seed):
        turn = rotation(seed, 4) * [0.1, 1, 3, 10]
        expected = leave_one_cluster_out(ScaledComponents, small.field, small.members, small.clusters, small.allowed)
        mapped = small.field @ turn + 5, small.members @ turn + 5
        found = leave_one_cluster_out(ScaledComponents, *mapped, small.clusters, small.allowed)
        assert found.cluster_rates == pytest.approx(expected.cluster_rates)


class TestRatios:
    @examples(25)
    @given(seed=SEEDS, freedom=st.sampled_from([3.0, 30.0, np.inf]))
    def test_axes_may_be_turned_round_and_reordered_and_stars_come_in_any_order(self, seed, freedom):
        rng = np.random.default_rng(seed)
        one, other, sigma_r = rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), 10 ** rng.uniform(-3, 1, 4)
        axes, sign, order = rng.permutation(4), rng.choice([-1, 1], 4), rng.permutation(3)
        turned = [(part * sign)[:, axes] for part in (one[order], other)]
        close = {"rtol": 1e-9, "atol": 1e-9}
        for ratio in (log_likelihood_ratio, joint_log_ratio):
            expected, found = ratio(one, other, sigma_r, freedom), ratio(*turned, sigma_r[axes], freedom)
            np.testing.assert_allclose(found, expected[torch.from_numpy(order)], **close)
        for ratio in (log_likelihood_ratio_of_cluster, joint_log_ratio_of_cluster):
            expected, found = ratio(one, other, sigma_r, freedom), ratio(*turned, sigma_r[axes], freedom)
            np.testing.assert_allclose(found, expected, **close)

    @examples(25)
    @given(seed=SEEDS, factor=st.floats(0.01, 100), shift=st.floats(-50, 50))
    def test_a_calibration_undoes_any_line(self, seed, factor, shift):
        rng = np.random.default_rng(seed)
        scores = {f"c{n}": (torch.tensor(rng.normal(1, 1, 6)), torch.tensor(rng.normal(-1, 1, 9))) for n in range(6)}
        members = {name: 4 + number for number, name in enumerate(scores)}
        expected = Calibration.fit(scores, members, 9)
        turned = {
            f"x{name}": tuple(factor * kind.flip(0) + shift for kind in scores[name]) for name in reversed(scores)
        }
        renamed = {f"x{name}": count for name, count in members.items()}
        found = Calibration.fit(turned, renamed, 9)
        asked = torch.linspace(-3, 3, 7).double()
        np.testing.assert_allclose(found(factor * asked + shift), expected(asked), rtol=1e-4, atol=1e-4)
        best = minimum_cllr(scores, members)
        assert minimum_cllr(turned, renamed) == pytest.approx(best)
        risen = {name: tuple(kind**3 for kind in scores[name]) for name in scores}
        assert minimum_cllr(risen, members) == pytest.approx(best)

    @examples(20)
    @given(seed=SEEDS)
    def test_the_cost_of_ratios_does_not_know_their_order_or_how_often_all_come(self, seed):
        rng = np.random.default_rng(seed)
        siblings, strangers = rng.normal(2, 3, 7), rng.normal(-2, 3, 11)
        expected = cllr(siblings, strangers)
        assert cllr(rng.permutation(siblings), rng.permutation(strangers)) == pytest.approx(expected)
        assert cllr(np.tile(siblings, 3), strangers) == pytest.approx(expected)
        assert cllr(-strangers, -siblings) == pytest.approx(expected)


class TestSearch:
    @examples(20)
    @given(seed=SEEDS, exponent=st.integers(-450, 450), some=st.integers(1, 8))
    def test_a_unit_of_any_size(self, seed, exponent, some):
        """Products of float32 rule pairs out, whose range ends at 1e38: beyond it the answer is the same."""
        rng = np.random.default_rng(seed)
        stars = rng.normal(size=(200, 3))
        expected, unit = nearest(stars[:5], stars, some), 2.0**exponent
        found = nearest(unit * stars[:5], unit * stars, some)
        assert found.rows.tolist() == expected.rows.tolist()
        np.testing.assert_array_equal(found.values, unit**2 * expected.values)

    @examples(20)
    @given(seed=SEEDS)
    def test_axes_and_origin(self, seed):
        rng = np.random.default_rng(seed)
        stars, turn = rng.normal(size=(60, 3)), rotation(seed, 3)
        expected = nearest(stars[:4], stars, 6)
        moved = stars @ turn + 3
        assert nearest(moved[:4], moved, 6).rows.tolist() == expected.rows.tolist()

    @examples(20)
    @given(seed=SEEDS)
    def test_stars_that_come_twice_come_together(self, seed):
        rng = np.random.default_rng(seed)
        stars, measure = rng.normal(size=(30, 3)), Measure.ratio(10 ** rng.uniform(-2, 1, 3))
        once = nearest(stars[:4], stars, 5, measure)
        twice = nearest(stars[:4], np.concatenate([stars, stars]), 10, measure)
        assert (twice.rows % 30)[:, ::2].tolist() == once.rows.tolist()
        np.testing.assert_array_equal(twice.values[:, ::2], once.values)
        np.testing.assert_array_equal(twice.values[:, 1::2], once.values)
