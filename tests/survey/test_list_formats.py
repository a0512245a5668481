"""Lists in the layouts that their archives have, ids of 19 digits and gaps among them, joined to a catalogue."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from mini_archive import BASE, MEMBERS, mini_rows, star_id, survey, write_archive, write_catalogue

from rsca_torch.errors import InputError
from rsca_torch.survey.cuts import Cut
from rsca_torch.survey.group_lists import GroupList
from rsca_torch.survey.ingest import ingest
from rsca_torch.survey.list_formats import read_columns
from rsca_torch.survey.members import ListedAs, read_memberships

FIRST = 4657193606465368704  # beyond 2^53, where floats are 512 apart
NAMES = ["NGC_2682", "NGC 2682", "Melotte_22", "NGC_2682", "NGC_2682", "Melotte_22"]
PROB = [1.0, 0.8, 0.9, 0.2, np.nan, 0.6]
IDS = [FIRST, FIRST + 1, FIRST + 2, FIRST + 3, FIRST + 4, 0]
FOUND = {str(FIRST): "NGC 2682", str(FIRST + 1): "NGC 2682", str(FIRST + 2): "Melotte 22"}
HUNT = ListedAs(id="GaiaDR3", kind="gaia_dr3", cluster="Name")
PROBABLE = Cut("membership", "Prob", above=0.5)
README = """J/A+A/640/A1   Portrait Galactic disc   (Cantat-Gaudin+, 2020)
================================================================================
Byte-by-byte Description of file: nodup.dat
--------------------------------------------------------------------------------
   Bytes Format Units   Label     Explanations
--------------------------------------------------------------------------------
   1- 21  F21.17 deg    RAdeg     Right ascension (ICRS) at Ep=2015.5
  23- 43  F21.17 deg    DEdeg     Declination (ICRS) at Ep=2015.5
  45- 63  I19    ---    GaiaDR2   Gaia DR2 source_id
 454-466  F13.10 mag    BP-RP     ?=-9.9 Colour
 468-474  F7.5   ---    proba     Membership probability
 476-492  A17    ---    Cluster   Cluster name
 494-507  F14.8  K      Teff50    ?="" Effective temperature
--------------------------------------------------------------------------------
"""


def hunt():
    return Table(
        {"Name": NAMES, "ID": np.arange(6), "GaiaDR3": IDS, "inrt": [1, 1, 1, 1, 1, 1], "Prob": PROB, "RV": PROB}
    )


def masked():
    table = Table(hunt(), masked=True)
    table["GaiaDR3"] = MaskedColumn(IDS, mask=[False] * 5 + [True])
    table["Prob"] = MaskedColumn(PROB, mask=np.isnan(PROB))
    return table


def write_csv(path):
    hunt().to_pandas().replace({"GaiaDR3": {0: None}}).astype({"GaiaDR3": object}).to_csv(path, index=False)


def write_tsv(path):
    """As VizieR gives it: comments, units, dashes, blanks for what is missing."""
    rows = [
        f"{n:<12}\t{i:4d}\t{g or '':>19}\t1\t{'' if np.isnan(p) else p}\t"
        for n, i, g, p in zip(NAMES, range(6), IDS, PROB, strict=True)
    ]
    head = ["#Table\tJ_A+A_673_A114_members:", "#Column\tName", "", "Name\tID\tGaiaDR3\tinrt\tProb\tRV"]
    head += [" \t \t \t \t \tkm/s", "------------\t----\t-------------------\t-\t----\t----"]
    path.write_text("\n".join([*head, *rows, "", ""]))


def write_parquet(path):
    table = hunt().to_pandas()
    table["GaiaDR3"] = pd.array([i or pd.NA for i in IDS], dtype="Int64")
    table.to_parquet(path)


def write_nodup(path):
    path.with_name("ReadMe").write_text(README)
    lines = []
    for n, (name, prob) in enumerate(zip(NAMES, PROB, strict=True)):
        line = f"{100.5:21.17f} {-10.5:21.17f} {IDS[n]:19d}".ljust(453)
        line += f"{-9.9:13.1f} " if n % 2 else f"{1.25:13.10f} "
        lines.append(line + f"{0 if np.isnan(prob) else prob:7.5f} {name:17s} " + " " * 14)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt") as file:
        file.write("\n".join(lines) + "\n")


WRITERS = {
    "members.csv": write_csv,
    "members.tsv": write_tsv,
    "asu.txt": write_tsv,
    "members.parquet": write_parquet,
    "members.vot": lambda path: masked().write(path, format="votable"),
    "binary.xml": lambda path: masked().write(path, format="votable", tabledata_format="binary2"),
    "members.ecsv": lambda path: masked().write(path, format="ascii.ecsv"),
    "members.fits": lambda path: hunt().write(path),
    "null.fits": lambda path: masked().write(path),
}


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_hunt_and_reffert_in_every_format(tmp_path, caplog, name):
    WRITERS[name](tmp_path / name)
    read = read_memberships(tmp_path / name, PROBABLE, "APOGEE_ID", 18, HUNT)
    assert read.cluster == FOUND
    assert not read.ambiguous
    assert (read.counts["rows"], read.counts["not Prob above 0.5"], read.counts["without GAIADR3"]) == (6, 2, 1)
    assert "1 of 4 members on" in caplog.text
    # and without a word about its columns, where the survey has such ids
    assert read_memberships(tmp_path / name, PROBABLE, "APOGEE_ID", 18, None, ["apogee", "gaia_dr3"]).cluster == FOUND


@pytest.mark.parametrize("name", ["nodup.dat", "nodup.dat.gz"])
def test_cantat_gaudin_in_columns_of_fixed_width(tmp_path, name):
    path = tmp_path / name
    write_nodup(path)
    listed = ListedAs(id="GaiaDR2", kind="gaia_dr2", cluster="Cluster")
    assert read_memberships(path, Cut("m", "proba", above=0.699), "APOGEE_ID", 18, listed).cluster == FOUND
    blank = read_columns(path, "members", lambda _: (["GAIADR2"], ["BP-RP", "TEFF50"]))
    assert np.isnan(blank["BP-RP"]).tolist() == [False, True] * 3
    assert np.isnan(blank["TEFF50"]).all()
    (tmp_path / "ReadMe").unlink()
    with pytest.raises(InputError, match=r"needs its ReadMe, and there is no .*fetch it too"):
        read_memberships(path, None, "APOGEE_ID", 18, listed)


def test_whole_numbers_of_parquet_stay_whole(tmp_path):
    """What cuts look at stays a number; what has gaps and more digits than a float is text."""
    columns = {"N": [1, 2, 3], "GAPS": pd.array([1, pd.NA, 3], dtype="Int64")}
    columns |= {"BIG": pd.array([IDS[0], pd.NA, IDS[1]], dtype="Int64"), "ID": pd.array([7, pd.NA, 9], dtype="Int64")}
    pd.DataFrame(columns).to_parquet(tmp_path / "m.parquet")
    read = read_columns(tmp_path / "m.parquet", "members", lambda _: (["ID"], ["N", "GAPS", "BIG"]))
    assert (read["N"].dtype, read["N"].tolist()) == (np.int64, [1, 2, 3])
    np.testing.assert_array_equal(read["GAPS"], [1.0, np.nan, 3.0])
    assert read["BIG"].tolist() == [str(IDS[0]), "", str(IDS[1])]
    assert read["ID"].tolist() == ["7", "", "9"]


@pytest.mark.parametrize("name", ["m.csv", "m.fits", "m.vot", "m.ecsv", "m.parquet"])
def test_ids_that_are_floats_are_refused_in_every_format(tmp_path, name):
    table = hunt()
    table["GaiaDR3"] = np.array(IDS, dtype=float)
    if "parquet" in name:
        table.to_pandas().to_parquet(tmp_path / name)
    else:
        table.write(tmp_path / name, **({"format": "votable"} if name == "m.vot" else {}))
    with pytest.raises(InputError, match="passed through a float and lost its last digits"):
        read_memberships(tmp_path / name, PROBABLE, "APOGEE_ID", 18, HUNT)


def test_columns_are_read_and_not_the_table(tmp_path, monkeypatch):
    hunt().write(tmp_path / "m.fits")
    read = []
    original = fits.FITS_rec.__getitem__
    monkeypatch.setattr(fits.FITS_rec, "__getitem__", lambda self, key: read.append(key) or original(self, key))
    table = read_columns(tmp_path / "m.fits", "members", lambda _: (["GAIADR3"], ["PROB"]))
    assert table.colnames == ["GAIADR3", "PROB"]
    assert [key for key in read if isinstance(key, str)] == ["GaiaDR3", "Prob"]


def test_a_format_that_is_none_and_a_file_of_another(tmp_path):
    write_csv(tmp_path / "m.csv")
    with pytest.raises(InputError, match="format must be one of csv, ecsv, votable, parquet, cds, fits, got 'xls'"):
        read_memberships(tmp_path / "m.csv", None, "APOGEE_ID", 18, ListedAs(format="xls"))
    (tmp_path / "m.csv").rename(tmp_path / "m.fits")
    with pytest.raises(InputError, match=r"expected a FITS list .*its format is told by the end of its name"):
        read_memberships(tmp_path / "m.fits", None, "APOGEE_ID", 18)
    assert read_memberships(tmp_path / "m.fits", PROBABLE, "x", 18, ListedAs("csv", id="GaiaDR3")).cluster == FOUND


# ---- joined to a catalogue

GAIA = {n: FIRST + n for n in range(12)}


def with_gaia(root: Path, column="GAIA_SOURCE_ID") -> Path:
    rows = [row | {column: GAIA.get(int(row["APOGEE_ID"][2:10]), 0)} for row in mini_rows()]
    write_catalogue(write_archive(root) / BASE / "allStar-r12-l33.fits", rows, formats={column: "K"})
    return root


def gaia_list(path, numbers=(0, 1, 2, 3), column="GaiaDR2"):
    rows = [f"NGC_{n // 2},{FIRST + n}" for n in numbers]
    path.write_text("\n".join([f"Cluster,{column}", *rows, "NGC_9,0", "NGC_9,", "NGC_9,-9999"]) + "\n")
    return str(path)


def surveyed(root, path, ids=None, **options):
    return survey(
        root, members=path, membership=None, ids=ids or {"apogee": "APOGEE_ID", "gaia_dr2": "GAIA_SOURCE_ID"}, **options
    )


def test_a_list_of_gaia_ids_is_found_by_the_survey_s_column_of_that_kind(tmp_path, caplog):
    root = with_gaia(tmp_path / "sas")
    with caplog.at_level(logging.INFO):
        store = ingest(surveyed(root, gaia_list(tmp_path / "m.csv")), tmp_path / "store")
    members = dict(zip(store.members.stars.id, store.members.stars.group, strict=True))
    assert members == {star_id(n): f"NGC {n // 2}" for n in range(4)}
    assert "4 of 4 listed ids are in allStar-r12-l33.fits" in caplog.text
    told = store.manifest["listed"]
    assert (told["rows"], told["without GAIADR2"], told["found in the survey by GAIA_SOURCE_ID"]) == (7, 3, 4)
    assert (told["not in the survey"], told["pass the cuts, in a cluster"]) == (0, 4)


@pytest.mark.parametrize(("column", "kind"), [("GaiaDR3", None), ("source_id", "gaia_dr3")])
def test_a_list_of_another_release_of_gaia_is_refused(tmp_path, column, kind):
    root = with_gaia(tmp_path / "sas")
    path = gaia_list(tmp_path / "m.csv", column=column)
    listed = {"id": column, "kind": kind}
    with pytest.raises(
        InputError, match=r"kind gaia_dr3, and the survey has .*gaia_dr2 \(GAIA_SOURCE_ID\); .*dr2_neigh"
    ):
        ingest(surveyed(root, path, listed=listed), tmp_path / "store")


def test_a_release_that_is_not_told_is_asked_for_where_the_survey_has_both(tmp_path):
    root = with_gaia(tmp_path / "sas")
    path = gaia_list(tmp_path / "m.csv", column="source_id")
    both = {"gaia_dr3": "OTHER", "gaia_dr2": "GAIA_SOURCE_ID"}
    with pytest.raises(InputError, match=r"which release is not told; .*survey.listed.kind=gaia_dr2 or gaia_dr3"):
        ingest(surveyed(root, path, both, listed={"id": "source_id"}), tmp_path / "store")


def test_hardly_any_match_says_which_kind_would(tmp_path):
    root = with_gaia(tmp_path / "sas")
    path = gaia_list(tmp_path / "m.csv", column="source_id")
    with pytest.raises(
        InputError, match=r"But 4 of 4 are in GAIA_SOURCE_ID: survey.listed.kind=gaia_dr2 takes them so"
    ):
        ingest(surveyed(root, path, listed={"id": "source_id", "kind": "apogee"}), tmp_path / "store")


def test_the_shipped_lists_compose_with_every_survey():
    conf = Path(__file__).parents[2] / "conf"
    with initialize_config_dir(str(conf), version_base=None):
        for path in sorted((conf / "members").glob("*.yaml")):
            made = compose("ingest", overrides=[f"members@survey={path.stem}", "survey.root=x", "store=y"]).survey
            assert instantiate(made).listed.id
        own = compose(
            "ingest", overrides=["survey.root=x", "members@survey=hunt_reffert_2023", "survey.members=mine.vot"]
        )
    assert (own.survey.members, own.survey.membership.column, own.survey.listed.kind) == (
        "mine.vot",
        "Prob",
        "gaia_dr3",
    )


def test_el_badry_s_pairs_by_a_cut_and_by_kind(tmp_path):
    table = Table(
        {
            "source_id1": IDS[:4],
            "source_id2": [i + 100 for i in IDS[:3]] + [IDS[0]],
            "R_chance_align": [0.01, 0.5, 0.09, 0.0],
        }
    )
    table.write(tmp_path / "w.fits")
    given = {"id": ["source_id1", "source_id2"], "group": None, "pairs": True, "kind": "gaia_dr3"}
    pairs = GroupList.of(
        "b", {"path": "w.fits", **given, "cuts": {"bound": {"column": "R_chance_align", "below": 0.1}}}
    )
    groups = pairs.read(tmp_path, "APOGEE_ID", 18)
    assert {*groups} == {str(i) for i in (FIRST, FIRST + 100, FIRST + 2, FIRST + 102, FIRST + 3)}
    assert groups[str(FIRST)] == groups[str(FIRST + 3)] == groups[str(FIRST + 100)] != groups[str(FIRST + 2)]


def test_the_real_lists_by_their_shipped_yaml(shared):
    conf = Path(__file__).parents[2] / "conf"
    with initialize_config_dir(str(conf), version_base=None):
        made = compose(
            "ingest",
            overrides=[
                "members@survey=occam_dr16",
                "survey.root=/",
                "store=y",
                f"survey.members={shared / 'data/occam_member-DR16.fits'}",
            ],
        ).survey
    assert len(instantiate(made).memberships().cluster) == 1444
    assert MEMBERS == "dr16/apogee/vac/apogee-occam/occam_member-DR16.fits"
