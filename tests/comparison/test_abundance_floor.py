"""What siblings' abundances cannot scatter less than: the catalogue's errors, or repeated observations."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from rsca_torch import NumericalWarning, ScaledComponents, allowed_pairs, repeat_scatter
from rsca_torch.comparison.abundances import abundances
from rsca_torch.comparison.comparison import compare
from rsca_torch.spectra.stars import Stars

ELEMENTS = ("Fe", "Mg", "Ni")
EVERY_PAIR = partial(allowed_pairs, max_velocity=None, max_extinction=None)


def table(rng, truth, errors=True, **columns):
    sigma = rng.uniform(0.02, 0.06, size=truth.shape)
    given = dict(columns)
    for element, values, each in zip(ELEMENTS, (truth + sigma * rng.normal(size=truth.shape)).T, sigma.T, strict=True):
        given[f"{element.upper()}_H"] = values
        if errors:
            given[f"{element.upper()}_H_ERR"] = each
    return Stars.of(given)


def stars(errors=True):
    """Field, members, pairs, and repeats of 30 field stars, 4 stars of pairs and 10 of members."""
    rng = np.random.default_rng(1)
    field, births = rng.normal(0, 0.2, size=(80, 3)), rng.normal(0, 0.2, size=(5, 3))
    members, pairs = np.repeat(births, 4, axis=0), np.repeat(rng.normal(0, 0.2, size=(10, 3)), 2, axis=0)
    names = [[f"{letter}{star}" for star in range(number)] for letter, number in (("F", 80), ("M", 20), ("P", 20))]
    of = [*names[0][:30], *names[2][:4], *names[1][:10]]
    again = np.concatenate([field[:30], pairs[:4], members[:10]])
    clusters, groups = np.repeat(list("ABCDE"), 4), np.repeat([f"pairs: {pair}" for pair in range(10)], 2)
    return (
        table(rng, field, errors, id=names[0]),
        table(rng, members, errors, id=names[1], group=clusters),
        table(rng, pairs, errors, id=names[2], group=groups),
        table(rng, again, errors, id=[f"{name}#2" for name in of], repeat_of=of),
    )


def of(name="abundances", relative=False, parts=None, **apart):
    field, members, *_ = parts or stars()
    return abundances(name, field, members, ELEMENTS, relative, **apart)


@pytest.mark.parametrize("relative", [False, True], ids=["X/H", "X/Fe"])
def test_the_noise_is_that_of_the_catalogue_s_errors(relative):
    members = stars()[1]
    errors = np.stack([members[f"{element.upper()}_H_ERR"] for element in ELEMENTS], axis=1)
    expected = np.stack([np.diag(row**2) for row in errors])
    if relative:  # [Fe/H], and two that share its error
        rng = np.random.default_rng(0)
        drawn = rng.normal(size=(200_000, 3)) * errors[0]
        drawn[:, 1:] -= drawn[:, :1]
        np.testing.assert_allclose(of(relative=True).noise[0], np.cov(drawn.T), atol=3e-5)
    else:
        np.testing.assert_allclose(of().noise, expected)
    on = of(relative=relative)
    result = compare([on], [partial(ScaledComponents, floor="noise")], EVERY_PAIR).results[0].loco
    assert result.floor == "noise"
    rows = torch.from_numpy(on.clusters != "A")
    learner = ScaledComponents(floor=on.noise[rows].mean(0))
    learner.initialise(on.field, on.members[rows], on.clusters[rows.numpy()])
    siblings = torch.pdist(learner(on.members[~rows]))
    assert result.median_sibling_distance["A"] == pytest.approx(float(np.median(siblings.numpy())))


def test_an_unknown_error_is_the_field_s_and_said():
    field, members, *others = stars()
    members["MG_H_ERR"][:3], members["FE_H_ERR"][5] = [np.nan, 0.0, -1.0], np.inf
    with pytest.warns(NumericalWarning, match="4 of 60 errors of abundances are not known: taken for the field's mean"):
        on = of(parts=(field, members, *others))
    usual = (np.asarray(field["MG_H_ERR"]) ** 2).mean()
    np.testing.assert_allclose(on.noise[:3, 1, 1], usual)
    assert on.noise[3, 1, 1] == pytest.approx(members["MG_H_ERR"][3] ** 2)


def test_repeats_of_field_and_groups_bound_abundances_and_those_of_members_do_not():
    field, _, pairs, again = stars()
    on = of(repeats=again, groups=pairs)
    first = np.concatenate([on.field[:30], on.groups.z[:4]])
    second = np.stack([again[f"{element.upper()}_H"][:34] for element in ELEMENTS], axis=1)
    names = np.concatenate([field["id"][:30], pairs["id"][:4]])
    expected = repeat_scatter(np.concatenate([first, second]), np.concatenate([names, names]))
    torch.testing.assert_close(on.repeats[0].scatter, expected)
    assert on.groups.labels.tolist() == pairs.group.tolist()
    assert on.groups.noise.shape == (20, 3, 3)
    result = compare([on], [partial(ScaledComponents, floor="auto")], EVERY_PAIR).results[0].loco
    assert result.floor == "repeats"
    for element in ELEMENTS:
        again[f"{element.upper()}_H"][34:] = 1e6  # of members
    assert torch.equal(of(repeats=again, groups=pairs).repeats[0].scatter, expected)


def test_auto_takes_the_errors_where_repeats_are_few():
    _, _, pairs, again = stars()
    on = of(repeats=again[:4], groups=pairs)
    assert compare([on], [partial(ScaledComponents, floor="auto")], EVERY_PAIR).results[0].loco.floor == "noise"


def test_where_neither_is_known_it_is_said_why_there_is_no_floor():
    parts = stars(errors=False)
    on = of(parts=parts)
    said = r"rsca on abundances: no floor under the scatter of siblings: the star table has no errors of abundances "
    said += r"\(FE_H_ERR, MG_H_ERR, NI_H_ERR\), and no star was observed again"
    with pytest.warns(NumericalWarning, match=said):
        result = compare([on], [partial(ScaledComponents, floor="auto")], EVERY_PAIR).results[0].loco
    assert result.floor == "none"
    few = of(parts=parts, repeats=parts[3][:4])
    with pytest.warns(NumericalWarning, match="and repeats have 4 degrees of freedom for 3 elements"):
        compare([few], [partial(ScaledComponents, floor="auto")], EVERY_PAIR)


@pytest.mark.parametrize("floor", ["noise", "repeats"])
def test_a_floor_that_cannot_be_had_leaves_abundances_out_with_the_reason(floor):
    known, on = of(repeats=stars()[3]), of(parts=stars(errors=False))
    with pytest.warns(NumericalWarning, match=rf"left out: floor={floor} needs .*the star table has no errors of"):
        results = compare([known, on], [partial(ScaledComponents, floor=floor)], EVERY_PAIR).results
    assert len(results) == 2  # held out and in-sample, of what is known


@pytest.mark.filterwarnings("error::rsca_torch.NumericalWarning")
def test_nobody_is_told_of_a_floor_that_nobody_asked_for():
    on = of(parts=stars(errors=False))
    assert compare([on], [ScaledComponents], EVERY_PAIR).results[0].loco.floor == "none"
