"""Stars of groups besides clusters teach every learner, and judge none."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from test_rsca_repeats import N_BINS, QUICK, observed

from rsca_torch import (
    NCA,
    RSCA,
    InputError,
    Learner,
    Recipe,
    Removal,
    ScaledComponents,
    Spectra,
    allowed_pairs,
    leave_one_cluster_out,
)
from rsca_torch.comparison.comparison import compare
from rsca_torch.comparison.representation import represent
from rsca_torch.comparison.several_models import side_by_side
from rsca_torch.comparison.suspects import suspects
from rsca_torch.removal import without
from rsca_torch.training.fitting import fitted
from rsca_torch.training.members import Members

EVERY_PAIR = partial(allowed_pairs, max_velocity=None, max_extinction=None)


@pytest.fixture(scope="module")
def survey():
    """Field, members of 4 clusters, and 20 pairs with their names."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(N_BINS, 3)) * [0.3, 0.2, 0.15]

    def siblings(groups, size):
        return np.repeat(rng.normal(size=(groups, 3)), size, axis=0) + rng.normal(size=(groups * size, 3)) * 0.05

    def named(letter, number):
        return np.array([f"{letter}{star}" for star in range(number)])

    return (
        observed(rng, rng.normal(size=(120, 3)), loadings, id=named("F", 120)),
        observed(rng, siblings(4, 5), loadings, id=named("M", 20), group=np.repeat(["A", "B", "C", "D"], 5)),
        observed(rng, siblings(20, 2), loadings, id=named("P", 40), group=np.repeat(named("pairs: ", 20), 2)),
    )


@pytest.fixture(scope="module")
def model(survey):
    return RSCA.fit(*survey[:2], n_components=3, groups=survey[2], **QUICK)


def represented(model, survey, **options):
    return represent(*survey[:2], lambda *_: model.ppca, groups=survey[2], **options)


def by_hand(model, survey, without="", **options):
    field, *teachers = (model.ppca.embed(part, covariances=True) for part in survey)
    labels = np.concatenate([part.stars.group for part in survey[1:]])
    here = torch.from_numpy(labels != without)
    learner = ScaledComponents(**options)
    latents, noise = (torch.cat([getattr(part, name) for part in teachers])[here] for name in ("latents", "noise"))
    learner.initialise(field.latents, latents, labels[here.numpy()], noise=noise)
    return learner


@pytest.mark.parametrize("floor", [None, "noise"], ids=str)
def test_a_layer_is_fitted_on_members_and_groups(survey, floor):
    fit = partial(RSCA.fit, *survey[:2], n_components=3, floor=floor, **QUICK)
    model = fit(groups=survey[2])
    learner = by_hand(model, survey, floor=floor)
    np.testing.assert_allclose(model.sigma_r, learner.sigma_r, rtol=1e-10)
    assert not torch.allclose(model.sigma_r, fit().sigma_r, rtol=0.01)
    assert model.clusters == ("A", "B", "C", "D")
    on = represented(model, survey)
    np.testing.assert_array_equal(
        fitted(on.seen_by(partial(ScaledComponents, floor=floor)).make_learner, on.field,
               Members(on.members, on.clusters, noise=on.noise), on.clusters, 0).weight, learner.weight)  # fmt: skip


@pytest.mark.parametrize("floor", [None, "noise"], ids=str)
def test_every_fold_is_taught_by_all_groups(model, survey, floor):
    on = represented(model, survey)
    make = partial(ScaledComponents, floor=floor)
    seen = on.seen_by(make)
    judged = leave_one_cluster_out(seen.make_learner, seen.field, seen.members, on.clusters, noise=seen.noise)
    assert sorted(judged.cluster_rates) == ["A", "B", "C", "D"]
    for cluster, distance in judged.median_sibling_distance.items():
        learner = by_hand(model, survey, without=cluster, floor=floor)
        siblings = torch.pdist(learner(on.members[torch.from_numpy(on.clusters == cluster)]))
        assert distance == pytest.approx(float(np.median(siblings.numpy())), rel=1e-9)
    alone = compare([replace(on, groups=None)], [make], EVERY_PAIR).results[0].loco
    assert alone.median_sibling_distance != judged.median_sibling_distance


def test_no_bit_of_a_fold_s_learner_depends_on_the_judged_cluster(model, survey):
    on = represented(model, survey)
    poisoned = on.members.clone()
    poisoned[torch.from_numpy(on.clusters == "B")] *= 1e9
    rows = torch.from_numpy(on.clusters != "B")
    make = on.seen_by(partial(ScaledComponents, floor="noise", trim=2.0)).make_learner
    weights = []
    for members in (on.members, poisoned):
        some = Members(members[rows], on.clusters[rows.numpy()], noise=on.noise[rows])
        weights.append(fitted(make, on.field, some, some.labels, 0).weight)
    assert torch.equal(*weights)


class Recorder(Learner):
    """Keeps what it is given."""

    given: tuple = ()

    def initialise(self, field, members, clusters):
        self.given = (field, members, clusters)

    def forward(self, z):
        return z


def test_a_learner_that_depends_on_units_is_taught_in_units_of_flux(model, survey):
    on = represented(model, survey)
    seen = on.seen_by(Recorder)
    learner = fitted(seen.make_learner, seen.field, seen.members, on.clusters, 0)
    torch.testing.assert_close(learner.given[1][20:], model.ppca.latents(survey[2]) * model.ppca.scales)
    assert learner.given[2][20:].tolist() == survey[2].stars.group.tolist()


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
def test_a_loss_sees_groups_and_inner_clusters_are_clusters(model, survey):
    on = represented(model, survey)
    labels = set()

    class Seeing(NCA):
        def loss(self, z, clusters):
            labels.update(np.asarray(clusters).tolist())
            return super().loss(z, clusters)

    make = partial(Seeing, recipe=Recipe(epochs=1, inner=None))
    seen = on.seen_by(make)
    flags = np.ones((20, 120), dtype=bool)
    learner = fitted(seen.make_learner, seen.field, Members(seen.members, on.clusters, flags), on.clusters, 0)
    assert {"A", "pairs: 0", "pairs: 19"} <= labels
    assert sorted(learner.trained.best) == ["A", "B", "C", "D"]


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
def test_several_models_have_groups_each_in_its_own_latents(model, survey):
    other = RSCA.fit(*survey[:2], n_components=2, **QUICK)
    on = side_by_side([represented(each, survey) for each in (model, other)])
    assert on.groups.z.shape == (40, 5)
    assert on.groups.noise.shape == (40, 5, 5)
    learner = fitted(on.seen_by(ScaledComponents).make_learner, on.field, on.members, on.clusters, 0)
    np.testing.assert_array_equal(learner.parts[1].weight, by_hand(other, survey).weight)


def test_suspects_are_listed_members(model, survey):
    on = represented(model, survey)
    make = partial(ScaledComponents, floor="noise", trim=1.0)
    seen = on.seen_by(make)
    learner = fitted(seen.make_learner, on.field, Members(on.members, on.clusters, noise=on.noise), on.clusters, 0)
    assert len(learner.kept) > len(on.members)  # stars of groups too
    found = suspects(on, make, EVERY_PAIR, calibrate=False)
    assert sorted(found["id"]) == sorted(on.member_stars.id[~learner.kept.numpy()[: len(on.members)]])


def test_repeats_of_groups_stars_count(model, survey):
    of = survey[2].take(np.arange(30))
    flux = of.flux + 0.05 * torch.from_numpy(np.random.default_rng(3).normal(size=of.flux.shape))
    stars = {"id": np.char.add(of.stars.id, "#2"), "repeat_of": of.stars.id}
    again = Spectra(flux, None, of.sigma, of.wavelength, stars)
    on = represented(model, survey, repeats=again)
    assert (on.repeats[0].stars, on.repeats[0].freedom) == (30, 30)


def test_more_members_carry_more_dimensions(survey):
    field, members, groups = survey
    few = members.take([0, 1, 5, 6])
    with pytest.raises(InputError, match="at most 2"):
        RSCA.fit(field, few, n_components=3, floor=None, **QUICK)
    assert RSCA.fit(field, few, n_components=3, groups=groups, floor=None, **QUICK).weight.shape == (3, N_BINS)


@pytest.mark.parametrize(("part", "which"), [(0, "F1"), (1, "M1")], ids=["field", "members"])
def test_a_star_has_one_place(model, survey, part, which):
    groups = survey[2].take(np.arange(40))
    groups.stars["id"] = np.where(groups.stars.id == "P3", which, groups.stars.id)
    del part
    said = rf"1 of 40 stars of groups are in the field or among the members too \(first: {which}\)"
    with pytest.raises(InputError, match=said):
        RSCA.fit(*survey[:2], n_components=3, groups=groups, **QUICK)
    with pytest.raises(InputError, match=said):
        represent(*survey[:2], lambda *_: model.ppca, groups=groups)


def test_a_star_of_no_group_is_refused(survey):
    field, members, groups = survey
    with pytest.raises(InputError, match="no column of the groups' star table plays the role group"):
        RSCA.fit(field.take(np.arange(60)), members, n_components=3, groups=field.take(np.arange(60, 120)), **QUICK)
    groups = groups.take(np.arange(40))
    groups.stars["group"][4] = ""
    with pytest.raises(InputError, match=r"1 of 40 stars of groups are in no group \(first: P4\)"):
        RSCA.fit(field, members, n_components=3, groups=groups, **QUICK)


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
def test_what_is_removed_is_removed_from_groups_too(survey):
    step_1 = RSCA.fit(*survey[:2], n_components=3, **QUICK).ppca
    reading, zeros = torch.eye(3).double()[:1], torch.zeros(3).double()
    removal = Removal(step_1, step_1.loadings[:, :1], reading, zeros, torch.tensor([0.5]).double())
    made = RSCA.fit(*survey[:2], n_components=3, groups=survey[2], removal=removal, **QUICK)
    field, members, others = (without(part, removal) for part in survey)
    by_hand = RSCA.fit(field, members, n_components=3, groups=others, **QUICK)
    for name in ("sigma_r", "rotation", "centre"):
        torch.testing.assert_close(getattr(made, name), getattr(by_hand, name))


def test_more_dimensions_than_members_carry_are_refused_before_step_1(survey, monkeypatch):
    monkeypatch.setattr("rsca_torch.layers.rsca.compress", None)
    with pytest.raises(InputError, match="17 dimensions, but 120 field stars and 20 members of 4 clusters can carry"):
        RSCA.fit(*survey[:2], n_components=17, **QUICK | {"floor": None})
