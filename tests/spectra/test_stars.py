"""Stars: which column of a table plays which role."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from astropy import units
from astropy.table import MaskedColumn, Table, vstack

from rsca_torch.errors import InputError
from rsca_torch.spectra.stars import ROLES, Stars


@pytest.fixture
def table():
    return Table({"sobject_id": [3, 1, 2], "field": ["M 67", "", "M 67"], "rv": [1.5, np.nan, -3.0], "snr": [9, 8, 7]})


def test_a_role_is_named_or_has_a_column_of_its_own_name(table):
    stars = Stars.of(table, id="sobject_id", group="field", velocity=None)
    assert stars.roles == {"id": "sobject_id", "group": "field", "snr": "snr"}
    assert stars.id.tolist() == ["3", "1", "2"]
    assert (
        stars.group.tolist() == stars.values("group").tolist() == stars.values("field").tolist() == ["M 67", "", "M 67"]
    )
    assert (stars.snr.tolist(), stars.snr.dtype) == ([9.0, 8.0, 7.0], np.float64)
    assert [stars.has(role) for role in ROLES] == [True, True, False, False, True, False]
    assert "roles" not in table.meta  # what was given is left alone
    more = Stars.of(stars, velocity="rv")
    assert more.roles == {**stars.roles, "velocity": "rv"}
    np.testing.assert_array_equal(more.velocity, [1.5, np.nan, -3.0])


@pytest.mark.parametrize(
    "moved",
    [
        lambda stars: stars[[2, 0]],
        lambda stars: stars[np.array([True, False, False])],
        lambda stars: stars[1:],
        copy.copy,
        copy.deepcopy,
        Stars.copy,
        lambda stars: vstack([stars, stars]),
        lambda stars: pickle.loads(pickle.dumps(stars)),
        lambda stars: stars["sobject_id", "field", "rv"],
    ],
)
def test_rows_and_copies_keep_the_roles(table, moved):
    other = moved(Stars.of(table, id="sobject_id", group="field"))
    assert isinstance(other, Stars)
    assert {role: other.roles.get(role) for role in ("id", "group")} == {"id": "sobject_id", "group": "field"}
    assert len(other.id) == len(other)


def test_a_column_that_is_gone_plays_no_role(table):
    stars = Stars.of(table, id="sobject_id", group="field")
    stars.remove_column("field")
    assert not stars.has("group")


@pytest.mark.parametrize(
    ("column", "text", "expected"),
    [
        (np.array([b"a", b"", b"\xc3\xa4"]), True, ["a", "", "ä"]),
        (np.array(["a", None, np.nan], dtype=object), True, ["a", "", ""]),
        (MaskedColumn(["a", "b", "c"], mask=[False, True, False]), True, ["a", "", "c"]),
        (MaskedColumn([1, 2, 3], mask=[False, True, False]), False, [1.0, np.nan, 3.0]),
        (MaskedColumn([1.0, 2.0, 3.0], mask=[True, False, False]), False, [np.nan, 2.0, 3.0]),
        (np.array([4, 5, 6], dtype=">i4"), False, [4.0, 5.0, 6.0]),
        (np.array([0.5, np.nan, np.inf], dtype=">f4"), False, [0.5, np.nan, np.inf]),
        ([1.0, 2.0, 3.0] * units.km / units.s, False, [1.0, 2.0, 3.0]),
        (np.array([True, False, True]), False, [1.0, 0.0, 1.0]),
    ],
)
def test_values_are_plain(column, text, expected):
    values = Stars.of({"id": ["x", "y", "z"], "column": column}).values("column")
    assert not isinstance(values, np.ma.MaskedArray)
    assert values.dtype.isnative
    assert (values.dtype.kind == "U") == text
    assert text or values.dtype == np.float64
    np.testing.assert_array_equal(values, expected)


def test_ids_of_nineteen_digits_stay_what_they_are():
    ids = np.array([4611686018427387905, 4611686018427387906, 4611686018427387907])
    masked = MaskedColumn(ids, mask=[False, False, True])
    assert Stars.of({"gaia": ids}, id="gaia").id.tolist() == [str(number) for number in ids]
    assert Stars.of({"gaia": masked, "id": ids}, group="gaia").group.tolist() == [*map(str, ids[:2]), ""]


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        (
            {"id": "sobject_id", "velocity": "v_rad"},
            r"role velocity=v_rad: the star table has no such column, but sobject_id, field, rv, snr; the role is "
            r"needed by the pairs that rsca compare allows .*remove=velocity; name another, or null to do without",
        ),
        ({"id": "ID"}, r"role id=ID: the star table has no such column.*it names a star; name another$"),
        ({}, r"no column plays the role id, which names a star; there are sobject_id, .*: give id=NAME"),
        (
            {"id": "sobject_id", "colour": "rv"},
            "there is no role 'colour' of a star table's column, only id, gro",
        ),
    ],
)
def test_roles_that_cannot_be_played(table, roles, message):
    with pytest.raises(InputError, match=message):
        Stars.of(table, **roles)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "extinction",
            r"no column .* plays the role extinction, which is needed by .*max_extinction.*=found",
        ),
        ("velocity", r"name one as survey.roles.velocity=COLUMN and ingest again, or as velocity=COLUMN of Spectra"),
        (
            "FE_H",
            r"the star table has no column FE_H: ingest a catalogue that has it, or choose among sobject_id",
        ),
    ],
)
def test_what_is_not_there(table, name, message):
    with pytest.raises(InputError, match=message):
        Stars.of(table, id="sobject_id").values(name)


def test_numbers_are_no_text(table):
    with pytest.raises(InputError, match="role velocity=field: a column of numbers expected, got <U4"):
        _ = Stars.of(table, id="sobject_id", velocity="field").velocity
