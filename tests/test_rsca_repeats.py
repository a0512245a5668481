"""RSCA over a floor: of repeated observations, of noise, by any number of members."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from astropy.table import Table

from rsca_torch import (
    RSCA,
    InputError,
    Removal,
    ScaledComponents,
    Spectra,
    allowed_pairs,
    leave_one_cluster_out,
    repeat_scatter,
)
from rsca_torch.comparison.comparison import compare
from rsca_torch.comparison.representation import represent
from rsca_torch.removal import without

N_BINS, QUICK = 16, {"clip": None, "tolerance": 1e-5, "max_iterations": 300, "products": "float64"}
QUICK |= {"robust": True, "trim": None}  # by_hand is the paper's, over a floor


def observed(rng, latents, loadings, **columns):
    sigma = rng.uniform(0.02, 0.06, size=(len(latents), N_BINS))
    sky = rng.normal(size=(len(latents), 1)) * np.linspace(0, 0.1, N_BINS)
    flux = 1 + latents @ loadings.T + sky + sigma * rng.normal(size=sigma.shape)
    flux[rng.random(flux.shape) < 0.1] = np.nan
    roles = {name: name for name in columns}
    return Spectra(flux, None, sigma, 15100 + torch.arange(N_BINS), Table(columns), **roles)


@pytest.fixture(scope="module")
def survey():
    """Field, members and repeats, of 90 field stars and two each of five members."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(N_BINS, 3)) * [0.3, 0.2, 0.15]
    field = rng.normal(size=(150, 3))
    siblings = np.repeat(rng.normal(size=(4, 3)), 5, axis=0) + rng.normal(size=(20, 3)) * 0.05
    ids = np.array([f"F{number}" for number in range(150)])
    members = np.array([f"M{number}" for number in range(20)])
    again = np.concatenate([ids[:90], members[:5], members[:5]])
    names = [f"{name}#{2 + (row >= 95)}" for row, name in enumerate(again)]
    return (
        observed(rng, field, loadings, id=ids),
        observed(rng, siblings, loadings, id=members, group=np.repeat(["A", "B", "C", "D"], 5)),
        observed(rng, np.vstack([field[:90], siblings[:5], siblings[:5]]), loadings, id=names, repeat_of=again),
    )


def by_hand(model, survey, floor):
    field, members, _ = survey
    learner = ScaledComponents(floor=floor)
    learner.initialise(model.ppca.latents(field), model.ppca.latents(members), members.stars.group)
    return learner


def same_layer(model, learner):
    rows = torch.where(model.rotation * learner.weight >= 0, learner.weight, -learner.weight)
    np.testing.assert_allclose(model.rotation, rows, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(model.sigma_r, learner.sigma_r, rtol=1e-10)


def test_the_floor_is_of_the_field_stars_repeats(survey):
    field, _, repeats = survey
    model = RSCA.fit(*survey[:2], n_components=3, repeats=repeats, floor="repeats", **QUICK)
    latents = torch.cat([model.ppca.latents(field)[:90], model.ppca.latents(repeats)[:90]])
    names = np.concatenate([field.stars.id[:90], repeats.stars.repeat_of[:90]])
    same_layer(model, by_hand(model, survey, repeat_scatter(latents, names)))
    without = RSCA.fit(*survey[:2], n_components=3, floor=None, **QUICK)
    assert not torch.allclose(model.sigma_r, without.sigma_r, rtol=0.02)


def test_without_repeats_it_is_that_of_the_noise(survey):
    model = RSCA.fit(*survey[:2], n_components=3, floor="auto", **QUICK)
    members = survey[1]
    noise = []
    for star in range(len(members)):  # eq. 13.3, star by star
        _, covariance = model.ppca.posterior(members.flux[star : star + 1], None, members.sigma[star : star + 1])
        noise.append(covariance[0] - covariance[0] @ covariance[0])
    same_layer(model, by_hand(model, survey, torch.stack(noise).mean(0)))


def test_no_observation_of_a_member_has_a_part_in_the_floor(survey):
    field, members, repeats = survey
    flux = repeats.flux.clone()
    flux[90:] *= 5
    others = Spectra(
        flux, None, repeats.sigma, repeats.wavelength, repeats.stars.copy(), id="id", repeat_of="repeat_of"
    )
    fits = [
        RSCA.fit(field, members, n_components=3, repeats=one, floor="repeats", **QUICK) for one in (repeats, others)
    ]
    assert torch.equal(fits[0].weight, fits[1].weight)
    on = [represent(field, members, lambda *_: fits[0].ppca, one) for one in (repeats, others)]
    assert torch.equal(*[each.repeats[0].scatter for each in on])
    assert (on[0].repeats[0].stars, on[0].repeats[0].freedom) == (90, 90)


@pytest.mark.parametrize("floor", ["repeats", "noise"])
def test_folds_see_what_the_representation_knows(survey, floor):
    field, members, repeats = survey
    ppca = RSCA.fit(field, members, n_components=3, floor=None, **QUICK).ppca
    on = represent(field, members, lambda *_: ppca, repeats)
    seen = on.seen_by(lambda: ScaledComponents(floor=floor))
    judged = leave_one_cluster_out(seen.make_learner, seen.field, seen.members, on.clusters, noise=seen.noise)
    plain = leave_one_cluster_out(ScaledComponents, seen.field, seen.members, on.clusters)
    bound = on.repeats[0].scatter if floor == "repeats" else None
    for cluster in judged.cluster_rates:
        here = on.clusters != cluster
        given = bound if floor == "repeats" else on.noise[torch.from_numpy(here)].mean(0)
        learner = ScaledComponents(floor=given)
        learner.initialise(on.field, on.members[torch.from_numpy(here)], on.clusters[here])
        siblings = torch.pdist(learner(on.members[torch.from_numpy(~here)])).median()
        assert judged.median_sibling_distance[cluster] == pytest.approx(_median(learner, on, ~here), rel=1e-8)
        assert siblings > 0
        assert judged.median_sibling_distance[cluster] != pytest.approx(
            plain.median_sibling_distance[cluster], rel=1e-3
        )


def _median(learner, on, here):
    distances = np.sort(torch.pdist(learner(on.members[torch.from_numpy(here)])).numpy())
    return float(np.median(distances))


def test_three_clusters_of_two_carry_more_dimensions_than_members(survey):
    field, members, _ = survey
    few = members.take([0, 1, 5, 6, 10, 11])
    with pytest.raises(InputError, match="at most 3"):
        RSCA.fit(field, few, n_components=4, floor=None, **QUICK)
    assert RSCA.fit(field, few, n_components=4, floor="noise", **QUICK).weight.shape == (4, N_BINS)


def test_repeats_that_are_none(survey):
    field, members, repeats = survey
    for repeat_of, said in (
        (["nobody"] * len(repeats), "of stars that are not there"),
        (repeats.stars.id, "repeats of"),
    ):
        table = Table({"id": repeats.stars.id, "repeat_of": repeat_of})
        wrong = Spectra(repeats.flux, None, repeats.sigma, repeats.wavelength, table, id="id", repeat_of="repeat_of")
        with pytest.raises(InputError, match=said):
            RSCA.fit(field, members, n_components=3, repeats=wrong, floor="repeats", **QUICK)
    with pytest.raises(InputError, match="floor=repeats needs repeated observations"):
        RSCA.fit(field, members, n_components=3, floor="repeats", **QUICK)


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
def test_every_number_of_components_has_a_floor_of_its_own(survey):
    """Chosen among numbers that the members alone could not carry."""
    field, members, repeats = survey
    few = members.take([0, 1, 2, 5, 6, 7, 10, 11, 12])
    make = partial(ScaledComponents, floor="repeats")
    each = {}
    for number in (2, 5):
        ppca = RSCA.fit(field, members, n_components=number, repeats=repeats, floor="repeats", **QUICK).ppca
        each[number] = represent(field, few, lambda *_, ppca=ppca: ppca, repeats)
    pairs = partial(allowed_pairs, max_velocity=None, max_extinction=None)
    chosen = compare([each], [make], pairs).results[0]
    assert sorted(chosen.nested.curve) == [2, 5]
    assert chosen.loco.floor == "repeats"
    for number, on in each.items():
        alone = compare([on], [make], pairs).results[0].loco
        assert chosen.nested.curve[number].median_sibling_distance == alone.median_sibling_distance


def test_what_is_removed_is_removed_from_repeats_too(survey):
    step_1 = RSCA.fit(*survey[:2], n_components=3, **QUICK).ppca
    reading, zeros = torch.eye(3).double()[:1], torch.zeros(3).double()
    removal = Removal(step_1, step_1.loadings[:, :1], reading, zeros, torch.tensor([0.5]).double())
    fitted = RSCA.fit(*survey[:2], n_components=3, repeats=survey[2], removal=removal, **QUICK)
    field, members, others = (without(part, removal) for part in survey)
    by_hand = RSCA.fit(field, members, n_components=3, repeats=others, **QUICK)
    for name in ("sigma_r", "rotation", "centre"):
        torch.testing.assert_close(getattr(fitted, name), getattr(by_hand, name))
