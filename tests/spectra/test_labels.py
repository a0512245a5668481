"""Labels as text; stars without one are in no cluster."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from astropy import units
from astropy.table import MaskedColumn, Table

from rsca_torch import NCA, RSCA, InputError, NumericalWarning, Recipe, Scaled, Spectra, leave_one_cluster_out
from rsca_torch.spectra.labels import as_labels
from rsca_torch.spectra.stars import Stars
from rsca_torch.testing import drawn_problem
from rsca_torch.training.fitting import fitted

NAMES = np.array(["M 67", "M 67", "x", "M 92", "M 92", "x"])
NUMBERS = np.array([0, 0, -1, 7, 7, -1])
LOST = NAMES == "x"
TEXT = {
    "empty": np.where(LOST, "", NAMES),
    "blank": np.where(LOST, "  ", NAMES),
    "nan": np.where(LOST, "nan", NAMES).tolist(),
    "NaN and None": ["M 67", "M 67", float("nan"), "M 92", "M 92", None],
    "None": np.where(LOST, None, NAMES.astype(object)),
    "words": np.array(["M 67", "M 67", "None", "M 92", "M 92", "N/A"]),
    "masked": np.ma.array(NAMES, mask=LOST),
    "column": MaskedColumn(NAMES, mask=LOST),
    "bytes": np.where(LOST, b"", NAMES.astype("S")),
    "bytes in a list": [None if name == "x" else name.encode() for name in NAMES],
    "pandas": pd.Series(NAMES).mask(LOST),
    "pandas string": pd.Series(NAMES, dtype="string").mask(LOST),
    "category": pd.Series(NAMES).mask(LOST).astype("category"),
}
OTHERS = {
    "numbers": NUMBERS,
    "tensor": torch.from_numpy(NUMBERS),
    "list": NUMBERS.tolist(),
    "text": NUMBERS.astype(str),
    "floats": np.where(LOST, np.nan, NUMBERS),
    "nullable": pd.Series(NUMBERS, dtype="Int64").mask(LOST),
    "masked numbers": np.ma.array(NUMBERS, mask=LOST),
}


@pytest.mark.parametrize("given", TEXT.values(), ids=TEXT)
def test_text(given):
    assert as_labels(given).tolist() == ["M 67", "M 67", "", "M 92", "M 92", ""]
    assert Stars.of({"id": range(6), "group": given}).group.tolist() == ["M 67", "M 67", "", "M 92", "M 92", ""]


@pytest.mark.parametrize("given", OTHERS.values(), ids=OTHERS)
def test_numbers(given):
    got = as_labels(given)
    assert (got == "").tolist() == LOST.tolist()
    assert [name.removesuffix(".0") for name in got[~LOST]] == ["0", "0", "7", "7"]


def test_a_pandas_table_is_a_star_table():
    table = pd.DataFrame({"name": [7, 9], "group": ["M 67", None], "velocity": [1.5, None]})
    stars = Spectra(np.ones((2, 3)), stars=table, id="name").stars
    assert (stars.id.tolist(), stars.group.tolist()) == (["7", "9"], ["M 67", ""])
    np.testing.assert_array_equal(stars.velocity, [1.5, np.nan])


def test_labels_stay_what_they_are():
    assert as_labels(["NGC -1", "Nan 3", " M 67", "0"]).tolist() == ["NGC -1", "Nan 3", " M 67", "0"]
    assert as_labels(np.array([4611686018427387905])).tolist() == ["4611686018427387905"]
    assert as_labels([]).tolist() == []


@pytest.fixture(scope="module")
def survey():
    rng = np.random.default_rng(0)
    loadings, centres = rng.normal(size=(2, 12)), np.repeat(rng.normal(size=(4, 2)), 6, axis=0)

    def drawn(latents, prefix, **columns):
        flux = 1 + latents @ loadings + rng.normal(size=(len(latents), 12)) / 10
        return Spectra(flux, stars=Table({"id": [f"{prefix}{n}" for n in range(len(flux))], **columns}))

    members = drawn(centres + rng.normal(size=centres.shape) / 5, "M", group=np.repeat(list("ABCD"), 6))
    return drawn(rng.normal(size=(80, 2)), "F"), members


@pytest.mark.parametrize("mark", [-1, np.nan, None, "", "nan"], ids=str)
def test_members_without_a_label_are_left_out(survey, mark):
    field, members = survey
    lost = np.arange(24) % 3 == 0
    right = RSCA.fit(field, members.take(~lost), n_components=2)
    numbers = np.unique(members.stars.group, return_inverse=True)[1].astype(object)
    for names in (numbers, members.stars.group.astype(object)):
        with pytest.warns(NumericalWarning, match="8 of 24 members have no label: left out"):
            got = RSCA.fit(field, members, np.where(lost, mark, names), n_components=2)
        assert torch.equal(got.weight, right.weight)
        assert len(got.clusters) == 4
    columns = Table({"id": members.stars.id, "group": np.where(lost, mark, members.stars.group.astype(object))})
    with pytest.warns(NumericalWarning, match="8 of 24 members have no label: left out"):
        got = RSCA.fit(field, Spectra(members.flux, stars=columns), n_components=2)
    assert torch.equal(got.weight, right.weight)


def test_all_stars_are_no_members(survey):
    field, members = survey
    table = Table({"id": [*field.stars.id, *members.stars.id], "group": [""] * 80 + members.stars.group.tolist()})
    every = Spectra(torch.cat([field.flux, members.flux]), stars=table)
    with pytest.raises(InputError, match=r"members are all 104 stars, of which 80 have no label and are the field's"):
        RSCA.fit(field, every, n_components=2)
    with pytest.raises(InputError, match="none of the 24 members has a label"):
        RSCA.fit(field, members, [None] * 24, n_components=2)


def test_leaving_clusters_out_leaves_out_what_has_no_label():
    stars = drawn_problem()
    lost = np.arange(len(stars.members)) % 4 == 0
    names = np.where(lost, None, np.asarray(stars.clusters, dtype=object))
    allowed = np.random.default_rng(0).random((len(stars.members), len(stars.field))) < 0.5
    with pytest.warns(NumericalWarning, match=f"{lost.sum()} of {len(lost)} members have no label: left out"):
        got = leave_one_cluster_out(Scaled, stars.field, stars.members, names, allowed)
    right = leave_one_cluster_out(Scaled, stars.field, stars.members[~lost], names[~lost], allowed[~lost])
    assert got.cluster_rates == right.cluster_rates


@pytest.mark.parametrize("learner", [Scaled, partial(NCA, recipe=Recipe(epochs=2, inner=0))])
def test_learners_leave_out_what_has_no_label(learner):
    stars = drawn_problem()
    lost = np.arange(len(stars.members)) % 4 == 0
    names = np.where(lost, "nan", np.asarray(stars.clusters))
    with pytest.warns(NumericalWarning, match=f"{lost.sum()} of {len(lost)} members have no label: left out"):
        got = fitted(learner, stars.field, stars.members, names, seed=0)
    right = fitted(learner, stars.field, stars.members[~lost], names[~lost], seed=0)
    assert torch.equal(got(stars.members), right(stars.members))
    by_itself = Scaled()
    with pytest.warns(NumericalWarning, match="members have no label: left out"):
        by_itself.initialise(stars.field, stars.members, names)
    assert "nan" not in by_itself.trained_on


def test_numbers_with_holes_and_units_play_their_roles():
    stars = Stars.of(
        {
            "id": ["a", "b"],
            "velocity": MaskedColumn([3000.0, 1.0], mask=[False, True], unit="m/s"),
            "extinction": np.array([0.5, None], dtype=object),
            "snr": pd.Series([7, None], dtype="Int64"),
            "repeat_of": [np.nan, 4.0],
        }
    )
    np.testing.assert_array_equal(stars.velocity, [3.0, np.nan])
    np.testing.assert_array_equal(stars.extinction, [0.5, np.nan])
    np.testing.assert_array_equal(stars.snr, [7.0, np.nan])
    assert stars.values("repeat_of").tolist() == ["", "4.0"]
    with pytest.raises(InputError, match="role velocity=velocity in km/s expected, got mag"):
        _ = Stars.of({"id": ["a"], "velocity": MaskedColumn([1.0], unit=units.mag)}).velocity
