"""Lists of members as people write them: ids in other forms, names that are none, columns that are two."""

from __future__ import annotations

import gzip
import logging

import numpy as np
import pytest
from astropy.io import fits
from mini_archive import MEMBERS, star_id, survey

from rsca_torch.errors import InputError
from rsca_torch.survey.cuts import Cut
from rsca_torch.survey.ingest import ingest
from rsca_torch.survey.member_ids import Wanted, found_in
from rsca_torch.survey.members import Memberships, read_memberships

GAIA = [4657193606465368704, 4657193606465368705]
CATALOGUE = np.array(["2M19203303+3755558", "2M00000001-0000000", "AP17411636-2903150", "HD 1", "hd 1", "7"])
HALF = Wanted("m.csv", "APOGEE_ID", "allStar.fits", 0.5)


def matched(ids, wanted=HALF, stars=CATALOGUE):
    return found_in(stars, Memberships(dict.fromkeys(ids, "A"), {}), wanted).cluster


def listed(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "written",
    [
        "2M19203303+3755558", "2m19203303+3755558", "19203303+3755558", "J19203303+3755558", " 2M 19203303 +3755558",
        "2MASS J19203303+3755558", "2MASS 19203303+3755558",
    ],
)  # fmt: skip
def test_an_id_is_found_however_it_is_written(tmp_path, written):
    path = listed(tmp_path / "m.csv", f"APOGEE_ID,CLUSTER\n{written},A\n")
    assert matched(read_memberships(path, None, "APOGEE_ID", 18).cluster) == {"2M19203303+3755558": "A"}


def test_only_where_exactly_one_star_is_written_so():
    with pytest.raises(InputError, match="none of the 1 members"):
        matched(["HD1"])
    assert matched(["HD 1"]) == {"HD 1": "A"}
    assert matched(["7.0"]) == {"7": "A"}


def test_two_lines_of_one_star_that_disagree_are_ambiguous():
    given = Memberships({"2M19203303+3755558": "A", "2m19203303+3755558": "B", "7": "C"}, {})
    found = found_in(CATALOGUE, given, HALF)
    assert found.cluster == {"7": "C"}
    assert found.ambiguous == {"2M19203303+3755558": ["A", "B"]}


def test_how_many_are_there_is_said(caplog):
    with caplog.at_level(logging.INFO):
        matched(["2m19203303+3755558", "7", "2M99999999+9999999"])
    assert (
        "2 of 3 listed ids are in allStar.fits, first missing 2M99999999+9999999 (a 2MASS designation)" in caplog.text
    )
    assert "1 of them are written otherwise there: 2m19203303+3755558 is 2M19203303+3755558" in caplog.text


def test_too_many_that_are_missing_are_refused():
    ids = ["7", *map(str, GAIA)]
    with pytest.raises(
        InputError, match=r"1 of 3 listed ids .* first missing 46\d+ \(a Gaia source id\).*of 0.67 .*=0.5"
    ):
        matched(ids)
    assert matched(ids, HALF._replace(most_missing=0.7)) == {"7": "A"}
    assert matched(["x"], HALF._replace(most_missing=1)) == {}


def test_a_gaia_release_counts_only_where_the_column_is_of_it():
    stars = np.array([str(star) for star in GAIA])
    dr3 = HALF._replace(column="gaia_dr3_source_id")
    assert matched([f"Gaia DR3 {GAIA[1]}"], dr3, stars) == {str(GAIA[1]): "A"}
    for other in (f"Gaia DR2 {GAIA[1]}", f"Gaia DR3 {GAIA[1]}0"):
        with pytest.raises(InputError, match=r"a Gaia source id|none of the 1"):
            matched([other], dr3, stars)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "fits", "fits.gz"])
def test_whole_numbers_of_19_digits_stay_exact(tmp_path, suffix):
    path = tmp_path / f"m.{suffix}"
    if "csv" in suffix:
        opener = gzip.open if suffix.endswith("gz") else open
        with opener(path, "wt") as file:
            file.write(f"SOURCE,CLUSTER\n{GAIA[0]},1\n{GAIA[1]},2\n")
    else:
        columns = [fits.Column("source", "K", array=GAIA), fits.Column("cluster", "J", array=[1, 2])]
        fits.BinTableHDU.from_columns(columns).writeto(path)
    assert read_memberships(path, None, "source").cluster == {str(GAIA[0]): "1", str(GAIA[1]): "2"}


def test_numbers_that_lost_their_digits_are_refused(tmp_path):
    for written in ("4.657193606465369e+18", "4657193606465368704.0"):
        path = listed(tmp_path / "m.csv", f"SOURCE,CLUSTER\n{written},1\n")
        with pytest.raises(InputError, match="passed through a float and lost its last digits"):
            read_memberships(path, None, "source")
    columns = [fits.Column("source", "D", array=GAIA), fits.Column("cluster", "J", array=[1, 2])]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "m.fits")
    with pytest.raises(InputError, match="passed through a float"):
        read_memberships(tmp_path / "m.fits", None, "source")


@pytest.mark.parametrize("nameless", ["-1", "-1.0", "NaN", "nan", "None", "", "--", "<NA>", "null", "-9999.99"])
def test_members_without_a_name_are_left_out_of_a_csv_list(tmp_path, caplog, nameless):
    rows = "".join(f"{star_id(n)},{name}\n" for n, name in enumerate(("M 67", nameless, "M 67", nameless)))
    path = listed(tmp_path / "m.csv", f"APOGEE_ID,CLUSTER\n{rows}")
    assert read_memberships(path, None, "APOGEE_ID").cluster == {star_id(0): "M 67", star_id(2): "M 67"}
    assert f"2 of 4 members on m.csv have no cluster's name (the first: {star_id(1)}): left out" in caplog.text


@pytest.mark.parametrize(
    ("code", "names", "options"),
    [
        ("D", [0, np.nan, 0, -1], {}),
        ("J", [0, -1, 0, -1], {}),
        ("J", [0, 99, 0, -1], {"null": 99}),
        ("4A", ["0", "", "0", "None"], {}),
    ],
)
def test_members_without_a_name_are_left_out_of_a_fits_list(tmp_path, caplog, code, names, options):
    columns = [
        fits.Column("APOGEE_ID", "18A", array=[star_id(n) for n in range(4)]),
        fits.Column("CLUSTER", code, array=np.array(names), **options),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "m.fits")
    assert read_memberships(tmp_path / "m.fits", None, "APOGEE_ID").cluster == {star_id(0): "0", star_id(2): "0"}
    assert "2 of 4 members on m.fits have no cluster's name" in caplog.text


def test_rows_without_an_id_are_told(tmp_path, caplog):
    path = listed(tmp_path / "m.csv", f"APOGEE_ID,CLUSTER\n{star_id(0)},A\n,A\nnan,A\n")
    assert len(read_memberships(path, None, "APOGEE_ID").cluster) == 1
    assert "2 of 3 members on m.csv have no APOGEE_ID: left out" in caplog.text


def test_columns_whose_names_differ_by_case_only_are_refused(tmp_path):
    path = listed(tmp_path / "m.csv", f"APOGEE_ID,CLUSTER,Cluster\n{star_id(0)},M 67,open\n")
    with pytest.raises(InputError, match="has columns CLUSTER and Cluster, which differ by case only"):
        read_memberships(path, None, "APOGEE_ID")


def test_a_probability_that_is_not_looked_at_is_said(tmp_path, caplog):
    path = listed(tmp_path / "m.csv", f"APOGEE_ID,CLUSTER,proba\n{star_id(0)},M 67,0.1\n")
    read_memberships(path, Cut("membership", "CG_PROB", above=0.8), "APOGEE_ID")
    assert "PROBA is ignored, since survey.membership looks at CG_PROB, which is not there: every row" in caplog.text
    caplog.clear()
    read_memberships(path, None, "APOGEE_ID")
    assert "PROBA is ignored, since survey.membership is null: every row counts" in caplog.text
    caplog.clear()
    with pytest.raises(InputError, match="no row"):
        read_memberships(path, Cut("membership", "PROBA", above=0.8), "APOGEE_ID")
    assert "ignored" not in caplog.text


def test_a_list_by_flags(tmp_path, shared):
    good = Cut("membership", "MEMBER_FLAG", any_of=["GM", "DM"])
    members = read_memberships(shared / "data/real/occam_member-DR14.fits", good, "APOGEE_ID", 18)
    assert len(members.cluster) + len(members.ambiguous) == 433
    path = listed(tmp_path / "m.csv", f"APOGEE_ID,CLUSTER,FLAG\n{star_id(0)},A,1\n{star_id(1)},A,0\n")
    assert list(read_memberships(path, Cut("m", "FLAG", any_of=["1"]), "APOGEE_ID").cluster) == [star_id(0)]


def test_a_list_that_names_every_star_is_refused(archive, tmp_path):
    rows = "".join(f"{star_id(n)},{'A' if n % 2 else 'B'}\n" for n in range(12))
    path = listed(tmp_path / "m.csv", f"APOGEE_ID,CLUSTER\n{rows}{star_id(20)},A\n")
    with pytest.raises(InputError, match=r"names all 13 stars that are left, so none is of the field"):
        ingest(survey(archive, members=str(path)), tmp_path / "store")


def test_ingest_matches_and_refuses(archive, tmp_path):
    rows = "".join(f"{star_id(n).lower()[n % 2 * 2 :]},A\n" for n in range(4))
    path = listed(tmp_path / "m.csv", f"APOGEE_ID,CLUSTER\n{rows}")
    store = ingest(survey(archive, members=str(path)), tmp_path / "store")
    assert store.stars.id[store.is_member].tolist() == [star_id(n) for n in range(4)]
    listed(path, f"APOGEE_ID,CLUSTER\n{rows}" + "".join(f"{GAIA[0] + n},A\n" for n in range(5)))
    with pytest.raises(InputError, match=r"4 of 9 listed ids are in allStar.*more than survey.most_missing=0.5"):
        ingest(survey(archive, members=str(path)), tmp_path / "other")
    with pytest.raises(InputError, match=r"most_missing must be a share, 0 to 1, got 50"):
        survey(archive, members=MEMBERS, most_missing=50)
