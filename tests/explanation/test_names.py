"""Lines, windows and labels: which bins are whose, and what is left out is said."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from astropy import units
from astropy.table import Table
from scipy.stats import pearsonr, spearmanr
from small_store import small_store

from rsca_torch import InputError
from rsca_torch.explanation.asked import stars_of
from rsca_torch.explanation.labels import correlations
from rsca_torch.explanation.naming import BETWEEN, OUTSIDE, Names
from rsca_torch.learners.registry import CONFIG
from rsca_torch.survey.element_windows import inside, read_windows, windows_of
from rsca_torch.survey.line_list import LineList, apogee_lines, read_lines
from rsca_torch.survey.simulated.tables import LINES

FOLDER = CONFIG / "element_windows"


def test_shares_add_up_over_lines_and_over_windows_that_overlap():
    rng = np.random.default_rng(0)
    wavelength = 15000 + 0.3 * np.arange(50)
    lines = LineList(np.array([15001.0, 15001.5, 15009.0]), np.array(["Mg", "Fe", "Mg"]), np.array(["a", "b", "c"]))
    windows = {"Mg": ((15000.5, 15002.0), (15008.5, 15009.5)), "Fe": ((15001.2, 15003.0),), "Al": ((1.0, 2.0),)}
    names, shares = Names(wavelength, lines, windows, 0.8), rng.normal(size=50)
    for table, rest in ((names.by_line(shares), BETWEEN), (names.by_window(shares), OUTSIDE)):
        assert sum(table["SHARE"]) == pytest.approx(shares.sum())
        assert sum(table["ELEMENT"] == rest) == 1
        assert (np.diff(np.abs(table["SHARE"])) <= 0).all()
    both = inside(wavelength, windows["Mg"]) & inside(wavelength, windows["Fe"])
    assert both.any()
    bins = names.bins(shares)
    assert set(np.asarray(bins["WINDOWS"])[both]) == {"Mg Fe"}
    assert "Al" not in names.by_window(shares)["ELEMENT"]


def test_the_nearest_line_and_none():
    lines = apogee_lines()
    place = lines.nearest(np.array([15745.9, 15999.99, 1.0, 99999.0]), reach=0.8)
    assert (lines.element[place[0]], lines.wavelength[place[0]]) == ("Mg", 15746.18)
    assert place[2:].tolist() == [-1, -1]
    assert "guess" in lines.source[lines.element == "Cu"][0]
    assert "window" in lines.source[lines.element == "Mg"][0]


def test_a_list_of_one_s_own(tmp_path):
    file = tmp_path / "mine.ecsv"
    Table({"Element": ["Ba", "Y"], "wavelength": np.array([0.6143, 0.4884]) * units.micron}).write(file)
    lines = read_lines(file)
    np.testing.assert_allclose(lines.wavelength, [4884.0, 6143.0])
    assert (lines.element.tolist(), lines.source.tolist()) == (["Y", "Ba"], ["mine.ecsv"] * 2)
    file = tmp_path / "mine.csv"
    file.write_text("# by hand\nwavelength,element,source\n16378.2,NA,NIST\n15166.1,K,NIST\n")
    lines = read_lines(file)
    assert (lines.element.tolist(), lines.source.tolist()) == (["K", "NA"], ["NIST"] * 2)
    lines_to_parquet = tmp_path / "mine.parquet"
    Table({"wavelength": [1.0], "element": ["N"]}).to_pandas().to_parquet(lines_to_parquet)
    assert read_lines(lines_to_parquet).element.tolist() == ["N"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"wavelength": [1.0]}, "no column element"),
        ({"wavelength": ["a"], "element": ["Mg"]}, "must hold numbers"),
        ({"wavelength": [-1.0, 5.0], "element": ["Mg", "Al"]}, "1 of 2 wavelengths are no positive numbers"),
        (b"\x00\xff", "no table that astropy reads"),
        (None, "no such file"),
    ],
    ids=["no element", "text", "negative", "no table", "no file"],
)
def test_a_list_that_is_none(tmp_path, columns, said):
    if isinstance(columns, bytes):
        (tmp_path / "lines.csv").write_bytes(columns)
    elif columns is not None:
        Table(columns).write(tmp_path / "lines.csv")
    with pytest.raises(InputError, match=said):
        read_lines(tmp_path / "lines.csv")


def test_the_windows_are_those_of_the_line_list():
    """Two standard deviations on either side of the features that a window of DR12 names."""
    given = read_windows(FOLDER / "apogee.yaml")
    named = LINES["in_window"] == 1
    assert set(given) == set(LINES["species"][named].tolist())
    for element, ranges in given.items():
        own = LINES["wavelength"][named & (LINES["species"] == element)]
        assert (inside(own, ranges)).all()
        near = np.concatenate([own - 0.79, own + 0.79])
        assert inside(near, ranges).all()
        assert sum(last - first for first, last in ranges) <= 1.6 * len(own) + 1e-6


def test_windows_by_name_and_as_they_are():
    assert windows_of("Mg", FOLDER) == windows_of("mg", FOLDER)
    assert windows_of(["Mg", "Al"], FOLDER) == windows_of("Mg", FOLDER) + windows_of("Al", FOLDER)
    assert windows_of("aspcap.Mg", FOLDER)[0] == (15743.4, 15747.3)
    assert windows_of([[15000, 15001.5]], FOLDER) == ((15000.0, 15001.5),)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("Mgg", r"no such element \(did you mean Mg\?\), but C, N, O"),
        ("mine.Mg", "no list of windows has the name 'mine', there are apogee, aspcap"),
        ([[2, 1]], r"start < end, got \[2, 1\]"),
        ([[1, float("nan")]], "start < end"),
        ([1, 2], "start < end"),
        ([], "start < end"),
        (5, "start < end"),
    ],
    ids=["element", "list", "reversed", "nan", "flat", "empty", "number"],
)
def test_windows_that_are_none(asked, said):
    with pytest.raises(InputError, match=said):
        windows_of(asked, FOLDER)


def test_a_file_of_windows_that_is_none(tmp_path):
    (tmp_path / "w.yaml").write_text("- 1\n")
    with pytest.raises(InputError, match="expected ELEMENT"):
        read_windows(tmp_path / "w.yaml")
    (tmp_path / "w.yaml").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        read_windows(tmp_path / "v.yaml")
    assert yaml.safe_load((FOLDER / "aspcap.yaml").read_text()).keys() == {"Na", "Mg", "Al", "K"}


def test_correlations_count_the_stars_that_have_a_value(asked):
    stars = asked.store.stars
    feature = np.random.default_rng(1).normal(size=len(stars)) + np.asarray(stars["first"])
    found = correlations(feature, stars)
    rows = {row["COLUMN"]: row for row in found.table}
    for name in ("first", "some", "cost $5^2$"):
        values = np.asarray(stars.values(name))
        here = np.isfinite(values)
        assert rows[name]["STARS"] == here.sum()
        assert rows[name]["SPEARMAN"] == pytest.approx(spearmanr(feature[here], values[here])[0])
        assert rows[name]["PEARSON"] == pytest.approx(pearsonr(feature[here], values[here])[0])
    assert rows["some"]["STARS"] < len(stars)
    assert found.constant == ["same"]
    assert {"number", "note", "cluster"} <= set(found.texts)
    assert "1 columns have one value for all: same" in str(found)


def test_stars_by_whole_numbers_that_no_float_tells_apart(asked):
    first, second = asked.store.field.stars.id[3], asked.store.members.stars.id[2]
    found = stars_of(asked.store, [str(first), str(second)])
    assert [star.id for star in found] == [first, second]
    assert [star.said for star in found] == ["a field star", "a member of A"]
    assert [star.spectrum.stars.id.tolist() for star in found] == [[first], [second]]
    otherwise = stars_of(asked.store, [f" {first}", f"{second}.0"])  # as other programs write whole numbers
    assert [star.id for star in otherwise] == [first, second]


def test_an_unknown_star_is_offered_the_nearest(asked):
    with pytest.raises(InputError, match=r"not in the store .*the nearest: 46116860184273879"):
        stars_of(asked.store, ["46116860184273879"])


def test_repeats_are_observations_of_a_star(tmp_path):
    store = small_store(tmp_path / "store")
    first = store.repeats.stars
    star, said = str(first.id[0]), f"an observation of {first.repeat_of[0]}"
    (found,) = stars_of(store, [star])
    assert (found.id, found.said) == (star, said)
    assert len(found.spectrum) == 1
    assert found.spectrum.stars.id.tolist() == [star]
