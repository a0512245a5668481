from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from rsca_torch.errors import InputError
from rsca_torch.survey.cuts import Cut, CutFlow, cuts_of, main_rows, select

STARS = Table(
    {
        "APOGEE_ID": ["a", "b", "c", "d"],
        "TEFF": [4000.0, 4000.5, 5000.0, np.nan],
        "FLAG": np.array([0, 2**23, -(2**31), -(2**31) + 2**23], dtype=np.int32),
        "FE_H": [0.0, np.nan, 0.1, 0.2],
        "TIII_H": [0.0, 0.1, np.nan, 0.2],
        "PAIR": np.zeros((4, 2)),
    }
)


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ({"column": "TEFF", "above": 4000}, [False, True, True, False]),
        ({"column": "TEFF", "above": 4000, "below": 5000}, [False, True, False, False]),
        ({"column": "TEFF", "below": 5000}, [True, True, False, False]),
        ({"column": "FLAG", "without_bit": 23}, [True, False, True, False]),
        ({"column": "FLAG", "without_bit": 31}, [True, True, False, False]),
        ({"column": "X_H", "defined": ["Fe"]}, [True, False, True, True]),
        ({"column": "X_H", "defined": ["Fe", "TiII"]}, [True, False, False, True]),
        ({"column": "APOGEE_ID", "none_of": ["b", "z"]}, [True, False, True, True]),
    ],
)
def test_cuts(condition, kept):
    assert Cut(name="x", **condition).mask(STARS).tolist() == kept


def test_cut_takes_the_precision_of_the_column():
    for dtype in (np.float32, np.float64):
        column = Table({"P": np.array([0.8, 0.9], dtype=dtype)})
        assert Cut("p", "P", above=0.8).mask(column).tolist() == [False, True]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({"column": "TEF", "above": 1}, r"'x': there is no column TEF; there are APOGEE_ID, TEFF"),
        ({"column": "X_H", "defined": ["Cl"]}, "no column CL_H"),
        ({"column": "TEFF", "without_bit": 3}, "cannot be made on TEFF: float64"),
        ({"column": "APOGEE_ID", "above": 3}, "cannot be made on APOGEE_ID"),
        ({"column": "FLAG", "none_of": ["b"]}, "cannot be made on FLAG: int32"),
        ({"column": "PAIR", "above": 3}, "cannot be made on PAIR: float64 with 1 more axes"),
        ({"column": "FLAG", "without_bit": 40}, "bits 0 to 31, got without_bit=40"),
    ],
)
def test_cut_that_cannot_be_made(condition, message):
    with pytest.raises(InputError, match=message):
        Cut(name="x", **condition).mask(STARS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "x", "column": "TEFF"}, "needs one kind of condition"),
        ({"name": "x", "column": "TEFF", "above": 1, "without_bit": 2}, "needs one kind of condition"),
        ({"name": "x", "column": "TEFF", "over": 1}, "got over in"),
        ({"column": "TEFF", "above": 1}, "name not in"),
        ("teff", "a cut must be a mapping like"),
        ({"name": "x", "column": "TEFF", "above": "hot"}, "above must be a number, got 'hot'"),
        ({"name": "x", "column": "TEFF", "below": True}, "below must be a number"),
        ({"name": "x", "column": "FLAG", "without_bit": 2.5}, "without_bit must be a whole number"),
        ({"name": "x", "column": "APOGEE_ID", "none_of": "abc"}, r"none_of must be a list like \[abc\]"),
    ],
)
def test_malformed_cut(options, message):
    with pytest.raises(InputError, match=message):
        Cut.of(options)


def test_cuts_are_a_mapping_of_names_or_a_list():
    named = {"hot": {"column": "TEFF", "above": 4000}, "cool": None, "good": Cut("flag", "FLAG", without_bit=23)}
    cuts = (Cut("hot", "TEFF", above=4000), Cut("good", "FLAG", without_bit=23))
    assert cuts_of(named) == cuts  # in order
    assert cuts_of([{"name": "hot", "column": "TEFF", "above": 4000}, cuts[1]]) == cuts
    assert cuts_of(None) == cuts_of([]) == cuts_of({}) == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hot": {"below": 3}}, "there is no cut 'hot' that could be changed, and a new one needs a column"),
        ({"hot": {"column": "TEFF", "bellow": 3}}, "got bellow"),
        ({"hot": {"name": "warm", "column": "TEFF", "below": 3}}, "leave name=warm out"),
        ({"hot": 4000}, "survey.cuts.hot must be a mapping like .* or null for no such cut, got 4000"),
        ("hot", "a mapping of names to cuts, or a list of cuts, got 'hot'"),
        (5, "a mapping of names to cuts, or a list of cuts, got 5"),
        ([Cut("a", "TEFF", above=1), Cut("a", "TEFF", below=2)], "several cuts are called a"),
    ],
    ids=["no column", "misspelt", "two names", "a number", "text", "number", "one name twice"],
)
def test_what_is_no_cut(given, message):
    with pytest.raises(InputError, match=message):
        cuts_of(given)


def test_flow_adds_up_and_names_the_cut_that_leaves_nothing():
    flow = CutFlow("catalogue", 4)
    rows = select(STARS, [Cut("hot", "TEFF", above=4000), Cut("flag", "FLAG", without_bit=23)], flow)
    assert rows.tolist() == [2]
    assert flow.steps == [
        {"cut": "catalogue", "removed": 0, "kept": 4},
        {"cut": "hot", "removed": 2, "kept": 2},
        {"cut": "flag", "removed": 1, "kept": 1},
    ]
    with pytest.raises(InputError, match="no star is left after 'very hot', which removed the last 4"):
        select(STARS, [Cut("very hot", "TEFF", above=9000)], CutFlow("catalogue", 4))


def test_main_row_is_the_unmarked_then_the_one_of_highest_signal():
    ids = np.array(["a", "b", "a", "b", "c", "c", "d"])
    snr = np.array([200.0, 10.0, 100.0, 20.0, 5.0, 5.0, np.nan])
    is_repeat = np.array([True, False, False, False, False, False, True])
    assert np.flatnonzero(main_rows(ids, snr, is_repeat)).tolist() == [2, 3, 4, 6]


def test_a_column_of_true_and_false_is_cut_by_is():
    stars = Table({"flag_bad": [False, True, False], "n": [0, 1, 0]})
    assert Cut.of({"name": "bad", "column": "flag_bad", "is": False}).mask(stars).tolist() == [True, False, True]
    assert Cut.of({"name": "bad", "column": "flag_bad", "is": True}).mask(stars).tolist() == [False, True, False]
    with pytest.raises(InputError, match="is a column of true and false"):
        Cut("bad", "n", is_=False).mask(stars)
    with pytest.raises(InputError, match="is must be true or false, got 0"):
        Cut.of({"name": "bad", "column": "flag_bad", "is": 0})


def test_several_bits_must_all_be_unset():
    stars = Table({"flags": [0, 1 << 3, 1 << 18, 1 << 9]})
    assert Cut("flags", "flags", without_bit=[0, 3, 18]).mask(stars).tolist() == [True, False, False, True]
    with pytest.raises(InputError, match="or a list of such, got 'x'"):
        Cut("flags", "flags", without_bit="x")
    with pytest.raises(InputError, match="bits 0 to 63"):
        Cut("flags", "flags", without_bit=[0, 64]).mask(stars)
