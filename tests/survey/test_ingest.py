from __future__ import annotations

import csv
import errno
import json
import logging
import os
import shutil

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from mini_archive import (
    BASE,
    SPECTRUM,
    good_spectrum,
    mini_rows,
    star,
    star_id,
    survey,
    table,
    write_catalogue,
    write_spectrum,
)

import rsca_torch.survey.apogee as apogee_module
from rsca_torch.errors import InputError
from rsca_torch.parallel import Parallel
from rsca_torch.report.ingest_summary import print_summary
from rsca_torch.survey.apogee_catalogue import ApogeeCatalogue
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.cuts import Cut
from rsca_torch.survey.ingest import ingest
from rsca_torch.survey.store import FILES, Store

APOGEE_ROLES = {"id": "APOGEE_ID", "group": "CLUSTER", "velocity": "VHELIO_AVG", "extinction": "AK_TARG", "snr": "SNR"}


def steps(store):
    return [(step["cut"], step["removed"], step["kept"]) for step in store.selection]


def content(path):
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def test_mini_archive_becomes_a_store(mini_survey, tmp_path, capsys):
    store = ingest(mini_survey, tmp_path / "store")
    assert capsys.readouterr() == ("", "")
    print_summary(store)
    assert steps(store) == [
        ("catalogue", 0, 20),
        ("extinction known", 1, 19),
        ("effective temperature", 1, 18),
        ("not STAR_BAD", 1, 17),
        ("21 abundances", 1, 16),
        ("not on the list", 1, 15),
        ("in two clusters", 1, 14),
        ("duplicate observations", 0, 14),
        ("kept apart as repeats", 2, 12),
        ("spectrum missing or unreadable", 0, 12),
        ("no valid bin", 0, 12),
    ]
    assert store.stars["APOGEE_ID"].tolist() == [star_id(n) for n in range(12)]
    assert store.stars["CLUSTER"].tolist() == ["NGC 1111"] * 3 + ["NGC 2222"] * 2 + [""] * 7
    np.testing.assert_array_equal(store.is_member, [True] * 5 + [False] * 7)
    assert store.stars["FILE"][8] == f"{BASE}/lco25m/293-37-C/aspcapStar-r12-{star_id(8)}.fits"
    assert store.stars["FIELD"][0] == "060+00"  # the main row, not the duplicate that comes first
    assert np.isnan(store.stars["VHELIO_AVG"]).tolist() == [n == 7 for n in range(12)]
    assert store.stars["VISITS"][3] == "r12-5583-56257-003"
    assert store.stars["MEANFIB"].tolist() == [float(n) for n in range(12)]
    assert store.stars.roles == APOGEE_ROLES
    np.testing.assert_array_equal(store.stars.velocity, store.stars["VHELIO_AVG"])
    assert store.stars["LOCATION_ID"].tolist() == [4600] * 12
    np.testing.assert_allclose(store.stars["FE_H"], np.linspace(-0.5, 0.5, 26)[17] + np.arange(12) / 100, atol=1e-6)
    assert np.isnan(store.stars["YB_H"]).all()
    assert store.problems == []
    assert (store.path / "problems.csv").read_text() == "file,problem\n"
    assert (store.path / "errors.csv").read_text() == "file,zero,negative,not_finite\n"
    out = " ".join(capsys.readouterr().out.split())
    assert "7 field stars, 5 members in 2 clusters, 6,759 bins kept" in out
    assert "one member each (the star stays in the field): Lone 1" in out
    assert "not STAR_BAD 1 17" in out


def test_the_mean_fibre_of_visits_that_cannot_be_read_is_not_known(archive, tmp_path, caplog):
    rows = mini_rows()
    for row, visits in zip(rows[2:5], ("nonsense", "r12-1-2-10,r12-1-3-21", " "), strict=True):
        row["VISITS"] = visits
    write_catalogue(archive / BASE / "allStar-r12-l33.fits", rows)
    store = ingest(survey(archive), tmp_path / "store")
    np.testing.assert_array_equal(store.stars["MEANFIB"][:5], [0, np.nan, 15.5, np.nan, 4])
    assert "1 stars have no fibre; the first: VISITS of a star of apo25m holds 'nonsense'" in caplog.text


def test_repr_of_a_store(mini_survey, tmp_path):
    store = ingest(mini_survey, tmp_path / "store")
    valid = store.spectra().valid.double().mean()
    assert repr(store) == (
        "Store: 7 field stars and 5 members of 2 clusters, 2 repeats, 6,759 bins from 15152.21 to 16943.53 Angstrom, "
        f"{100 * valid:.1f} % valid, in {store.path}"
    )


def test_spectra_of_the_store(mini_survey, tmp_path):
    store = ingest(mini_survey, tmp_path / "store", block=5)
    assert len(store.bins) == 6774 - 15  # the sky line and the bad run are valid in no star
    assert not np.isin(store.bins, [*range(300, 310), *range(320, 325)]).any()
    assert 330 in store.bins  # an error of exactly 0.05
    assert 340 in store.bins  # valid in the first block only
    spectra = store.spectra([3, 1])
    assert spectra.star_id.tolist() == [star_id(3), star_id(1)]
    for row, number in enumerate((3, 1)):
        flux, error = good_spectrum(number)
        valid = store.bins != 340
        np.testing.assert_array_equal(spectra.valid[row], valid)
        np.testing.assert_array_equal(spectra.flux[row][valid], flux[store.bins[valid]].astype(np.float32))
        np.testing.assert_array_equal(spectra.sigma[row][valid], error[store.bins[valid]].astype(np.float32))
    np.testing.assert_allclose(spectra.wavelength.numpy(), 10 ** (4.179 + 6e-6 * store.bins), rtol=1e-14)
    assert store.spectra(store.is_member).star_id.tolist() == [star_id(n) for n in range(5)]
    assert len(store.spectra()) == len(store) == 12
    assert len(store.spectra(slice(2, 4))) == 2
    store.verify()


def test_duplicates_of_members_may_stay_as_the_authors_had_them(archive, tmp_path):
    leave = ingest(survey(archive), tmp_path / "leave")
    stay = ingest(survey(archive, member_duplicates="stay"), tmp_path / "stay")
    assert set(stay.stars["APOGEE_ID"]) - set(leave.stars["APOGEE_ID"]) == {f"{star_id(0)}#2"}
    extra = stay.stars[stay.stars["APOGEE_ID"] == f"{star_id(0)}#2"][0]
    assert extra["CLUSTER"] == ""
    assert "/other/" in extra["FILE"]
    assert stay.stars.values("repeat_of")[stay.stars["APOGEE_ID"] == f"{star_id(0)}#2"].tolist() == [star_id(0)]
    assert (stay.stars.values("repeat_of") == "").sum() == len(stay) - 1
    assert not leave.stars.has("repeat_of")
    assert stay.is_member.sum() == leave.is_member.sum()


def test_bad_files_are_listed_and_left_out(archive, tmp_path):
    spoilt = {
        1: (lambda path: path.unlink(), "missing file"),
        3: (lambda path: path.write_text("<html>"), "web page saved as FITS"),
        6: (lambda path: path.write_bytes(path.read_bytes()[:30000]), "truncated file"),
        9: (lambda path: write_spectrum(path, np.zeros(8575), np.zeros(8575)), "no valid bin"),
        10: (lambda path: write_spectrum(path, np.ones(8575), np.full(8575, 0.06)), "no valid bin"),
        11: (lambda path: write_spectrum(path, np.full(8575, 1e-4), np.full(8575, 1e10)), "no valid bin"),
    }
    for number, (spoil, _) in spoilt.items():
        spoil(archive / SPECTRUM.format(**star(number)))
    store = ingest(survey(archive), tmp_path / "store", block=4)
    with (store.path / "problems.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["file", "problem"]
    assert rows[1:] == [[SPECTRUM.format(**star(number)), problem] for number, (_, problem) in spoilt.items()]
    assert steps(store)[-2:] == [("spectrum missing or unreadable", 3, 9), ("no valid bin", 3, 6)]
    assert store.stars["APOGEE_ID"].tolist() == [star_id(n) for n in (0, 2, 4, 5, 7, 8)]
    # star 4 was left alone in its cluster by the missing file of star 3
    assert store.manifest["lone_members"] == ["Lone 1", "NGC 2222"]
    assert store.stars["CLUSTER"].tolist() == ["NGC 1111"] * 2 + [""] * 4
    expected = np.where(store.bins == 340, np.nan, good_spectrum(5)[0][store.bins]).astype(np.float32)
    np.testing.assert_array_equal(store.spectra().flux[3], expected)


def write_faulty(root):
    """Give four stars faulty errors, the last nothing else; the rows that errors.csv must have of them."""
    faulty = {
        1: [0, 0, 0, -0.01, -10, np.nan, np.inf, -np.inf, np.nan],
        5: [-1],
        9: [0] * 8175,
        11: [np.nan] * 8175,
    }
    for number, errors in faulty.items():
        flux, error = good_spectrum(number)
        error[400 : 400 + len(errors)] = errors
        error[320:325] = [0, -1, np.nan, np.inf, -np.inf]  # without a flux
        error[800:805] = error[100:105] = error[320:325]  # in an interstellar range, off the chips
        if number == 11:
            error[246:320] = error[325:400] = np.nan
        write_spectrum(root / SPECTRUM.format(**star(number)), flux, error)
    # 6,774 trusted bins, 154 of them before pixel 400, 5 without a flux
    counts = {1: (3, 2, 4), 5: (0, 1, 0), 9: (6620, 0, 0), 11: (0, 0, 6769)}
    return [[SPECTRUM.format(**star(number)), *map(str, kinds)] for number, kinds in counts.items()]


def test_faulty_errors_are_counted_and_invalid(archive, tmp_path, caplog):
    expected = write_faulty(archive)
    with caplog.at_level(logging.WARNING):
        store = ingest(survey(archive), tmp_path / "store", block=4)
    with (store.path / "errors.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["file", "zero", "negative", "not_finite"], *expected]
    assert store.problems == [(expected[3][0], "no valid bin")]
    assert (
        "4 spectra have 13399 errors that are zero, negative or not finite in bins with a flux: "
        "treated as invalid (errors.csv)"
    ) in caplog.text
    valid = store.spectra(store.stars["APOGEE_ID"] == star_id(1)).valid[0].numpy()
    assert not valid[np.isin(store.bins, range(400, 409))].any()
    assert valid[np.isin(store.bins, range(409, 500))].all()
    store.verify()


def test_good_files_give_no_warning_of_errors(mini_survey, tmp_path, caplog):
    ingest(mini_survey, tmp_path / "store")
    assert "errors" not in caplog.text


@pytest.mark.parametrize(
    ("after_flux", "problem"),
    [
        ([], "no HDU 2 (error)"),
        ([table([star(7)])], "wrong grid (error of shape table, not (8575,))"),
        ([fits.ImageHDU()], "wrong grid (error of shape (), not (8575,))"),
        ([fits.ImageHDU(good_spectrum(7)[0])], "no valid bin"),  # the best fit in its place: HDUs have no names
    ],
)
def test_a_file_without_errors_is_listed_and_left_out(archive, tmp_path, after_flux, problem):
    path = archive / SPECTRUM.format(**star(7))
    flux = fits.ImageHDU(good_spectrum(7)[0])
    fits.HDUList([fits.PrimaryHDU(), flux, *after_flux]).writeto(path, overwrite=True)
    store = ingest(survey(archive), tmp_path / "store")
    assert store.problems == [(SPECTRUM.format(**star(7)), problem)]
    assert len(store) == 11
    assert (store.path / "errors.csv").read_text() == "file,zero,negative,not_finite\n"


@pytest.mark.parametrize("stop_at", [0, 3, 4, 7, 13])
def test_an_interrupted_run_goes_on_and_ends_the_same(mini_survey, tmp_path, monkeypatch, stop_at):
    write_faulty(mini_survey.root)
    (mini_survey.root / SPECTRUM.format(**star(2))).unlink()
    whole = ingest(mini_survey, tmp_path / "whole" / "store", block=4)
    read, original = [], apogee_module.read_spectrum

    def stops(path):
        if len(read) == stop_at:
            raise KeyboardInterrupt
        read.append(path)
        return original(path)

    store = tmp_path / "again" / "store"
    monkeypatch.setattr(apogee_module, "read_spectrum", stops)
    with pytest.raises(KeyboardInterrupt):
        ingest(mini_survey, store, block=4)
    assert not store.exists()
    with pytest.raises(InputError, match=r"not finished: only store.partial is there"):
        Store.open(store)
    for raw in store.with_name("store.partial").glob("*.raw"):  # a block whose journal was not written any more
        with raw.open("ab") as file:
            file.write(b"half a block")
    finished, read = read[: stop_at // 4 * 4], []
    monkeypatch.setattr(apogee_module, "read_spectrum", lambda path: read.append(path) or original(path))
    ingest(mini_survey, store, block=4)
    assert len(read) == 14 - len(finished)
    assert not set(read) & set(finished)
    assert content(store) == content(whole.path)
    assert not store.with_name("store.partial").exists()


def test_interrupted_in_the_last_step(mini_survey, tmp_path, monkeypatch):
    whole = ingest(mini_survey, tmp_path / "whole")
    monkeypatch.setattr("rsca_torch.survey.store_writer.write_stars", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ingest(mini_survey, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    monkeypatch.undo()
    monkeypatch.setattr(apogee_module, "read_spectrum", lambda _: 1 / 0)  # nothing is read again
    assert content(ingest(mini_survey, tmp_path / "store").path) == content(whole.path)


def test_block_size_does_not_matter(mini_survey, tmp_path):
    stores = [ingest(mini_survey, tmp_path / f"{block}", block=block) for block in (1, 5, 100)]
    assert len({json.dumps(content(store.path), default=bytes.hex) for store in stores}) == 1


def test_partial_of_another_run_is_refused(archive, mini_survey, tmp_path, monkeypatch):
    monkeypatch.setattr(apogee_module, "read_spectrum", lambda _: (np.ones(8575), np.ones(8575) / 100))
    monkeypatch.setattr("rsca_torch.survey.store_writer.Partial.finish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ingest(mini_survey, tmp_path / "store")
    with pytest.raises(InputError, match="begun with other settings or another catalogue"):
        ingest(survey(archive, cuts=()), tmp_path / "store")
    rows = mini_rows()
    rows[4]["TEFF"] = 4501.0
    write_catalogue(archive / BASE / "allStar-r12-l33.fits", rows)
    with pytest.raises(InputError, match="begun with other settings or another catalogue"):
        ingest(mini_survey, tmp_path / "store")
    journal = tmp_path / "store.partial" / "journal.json"
    older = {name: value for name, value in json.loads(journal.read_text()).items() if name != "blocks"}
    write_catalogue(archive / BASE / "allStar-r12-l33.fits", mini_rows())
    journal.write_text(json.dumps(older))
    with pytest.raises(InputError, match=r"or by an older program; remove it"):
        ingest(mini_survey, tmp_path / "store")


def test_nothing_is_overwritten(mini_survey, tmp_path):
    (tmp_path / "store").mkdir()
    ingest(mini_survey, tmp_path / "store")  # an empty folder is free
    with pytest.raises(InputError, match="exists already; choose another, or remove it"):
        ingest(mini_survey, tmp_path / "store")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="exists already"):
        ingest(mini_survey, tmp_path / "file")
    with pytest.raises(InputError, match=r"cannot be written: Not a directory; choose another place"):
        ingest(mini_survey, tmp_path / "file" / "store")


def test_no_usable_spectrum_then_a_second_try(archive, tmp_path):
    spectra = archive / BASE / "apo25m"
    spectra.rename(archive / "away")
    only = survey(archive, cuts=[*survey(archive).cuts, {"name": "n", "column": "TELESCOPE", "none_of": ["lco25m"]}])
    with pytest.raises(InputError, match=r"none of the 11 spectra can be used; the first: .*fits: missing file"):
        ingest(only, tmp_path / "store")
    (archive / "away").rename(spectra)
    assert len(ingest(only, tmp_path / "store")) == 11


def test_members_options(archive, tmp_path, caplog):
    store = ingest(survey(archive, members=None), tmp_path / "field")
    assert not store.is_member.any()
    assert "in two clusters" not in [step[0] for step in steps(store)]
    own = tmp_path / "own.csv"
    own.write_text(f"APOGEE_ID,CLUSTER\n{star_id(8)},Mine\n{star_id(9)},Mine\n")
    store = ingest(survey(archive, members=str(own)), tmp_path / "own")
    assert store.stars["APOGEE_ID"][store.is_member].tolist() == [star_id(8), star_id(9)]
    own.write_text("APOGEE_ID,CLUSTER\nHD 1,Mine\n")
    with pytest.raises(InputError, match=r"none of the 1 members in .*own.csv is in allStar-r12-l33.fits"):
        ingest(survey(archive, members=str(own)), tmp_path / "none")
    own.write_text(f"APOGEE_ID,CLUSTER\n{star_id(31)},Mine\n")
    ingest(survey(archive, members=str(own)), tmp_path / "cut")
    assert "no cluster member passes the cuts" in caplog.text


def test_a_star_in_two_clusters_is_named(mini_survey, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        ingest(mini_survey, tmp_path / "store")
    assert f"{star_id(20)} is left out: in NGC 1111 and in NGC 2222" in caplog.text


def test_lite_catalogue_serves_where_allstar_is_absent(archive, tmp_path):
    (archive / BASE / "allStar-r12-l33.fits").unlink()
    rows = [{k: v for k, v in row.items() if k not in ("LOCATION_ID", "VISITS")} for row in mini_rows()]
    write_catalogue(archive / BASE / "allStarLite-r12-l33.fits", rows, symbols=False)
    store = ingest(survey(archive), tmp_path / "store")
    assert len(store) == 12
    assert "VISITS" not in store.stars.colnames
    assert set(store.stars["LOCATION_ID"]) == {-1}
    with pytest.raises(InputError, match=r"no column LOCATION_ID \(the full allStar"):
        ingest(survey(archive, spectrum="{LOCATION_ID}/{APOGEE_ID}.fits"), tmp_path / "other")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cuts": [{"name": "hot", "column": "TEFF", "above": 9000}]}, "no star is left after 'hot'"),
        ({"cuts": [{"name": "x", "column": "TEF", "above": 9000}]}, "no column TEF .no release"),
        ({"cuts": [{"name": "x", "column": "X_H", "defined": ["Cl"]}]}, "no column CL_H"),
        ({"catalogue": "x.fits"}, "looked for x.fits"),
        ({"release": None}, "survey.release must be"),
        ({"member_duplicates": "go"}, "leave or stay, got 'go'"),
        ({"membership": {"column": "CG_PROB", "abov": 1}}, "got abov in"),
        ({"members": "nowhere.fits"}, "missing file"),
    ],
)
def test_options_that_cannot_be_used(archive, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        ingest(survey(archive, **options), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_root_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="must be a folder that can be read"):
        ingest(survey(tmp_path / "nowhere", members=None), tmp_path / "store")


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_store_says_so(mini_survey, tmp_path, name):
    store = ingest(mini_survey, tmp_path / "store")
    file = store.path / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(InputError, match=rf"{name} has {len(whole) - 1} bytes, expected {len(whole)}"):
        Store.open(store.path)
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=rf"{name} changed since it was written"):
        store.verify()
    file.unlink()
    with pytest.raises(InputError, match=rf"not complete: {name} is missing"):
        Store.open(store.path)


def test_other_things_that_are_no_store(mini_survey, tmp_path):
    with pytest.raises(InputError, match=r"is not a store: it has no manifest.json"):
        Store.open(tmp_path / "nothing")
    store = ingest(mini_survey, tmp_path / "store")
    manifest = store.path / "manifest.json"
    content = json.loads(manifest.read_text())
    for schema, cure in ((3, "ingest the survey again"), (5, "update rsca_torch")):
        manifest.write_text(json.dumps(content | {"schema": schema}))
        with pytest.raises(InputError, match=f"has schema {schema}, this program reads 4: {cure}$"):
            Store.open(store.path)
    manifest.write_text("{")
    with pytest.raises(InputError, match=r"is damaged .*; remove it and ingest again"):
        Store.open(store.path)
    content["censoring"]["max_error"] = 0.1
    manifest.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"manifest.json changed since it was written"):
        Store.open(store.path).verify()


def test_checksum_tells_data_and_censoring_but_not_the_place(archive, mini_survey, tmp_path):
    store = ingest(mini_survey, tmp_path / "a")
    archive.rename(tmp_path / "moved")
    assert ingest(survey(tmp_path / "moved"), tmp_path / "b").checksum == store.checksum
    (tmp_path / "moved").rename(archive)
    assert ingest(survey(archive, members=None), tmp_path / "c").checksum != store.checksum


def test_stars_file_is_plain_fits(mini_survey, tmp_path):
    store = ingest(mini_survey, tmp_path / "store")
    stars = Table.read(store.path / "stars.fits", mask_invalid=False)
    assert stars.colnames == store.stars.colnames
    for name in ("APOGEE_ID", "CLUSTER", "VHELIO_AVG", "AK_TARG", "SNR"):
        assert name in stars.colnames
        assert store.stars[name].dtype.isnative


def test_real_members_survive_the_join(archive, shared, tmp_path):
    """Two rows get the ids of real members of NGC 6791: the two files pad their ids differently."""
    rows = mini_rows()
    occam = Table.read(shared / "data/occam_member-DR16.fits")
    in_cluster = (occam["CG_PROB"] > 0.8) & (np.char.strip(np.asarray(occam["CLUSTER"], dtype=str)) == "NGC 6791")
    real = {str(row["APOGEE_ID"]).strip() for row in occam[in_cluster]}
    ids = sorted(real)[:2]
    for row, real_id in zip(rows[7:], ids, strict=False):
        row["APOGEE_ID"] = real_id
        write_spectrum(archive / SPECTRUM.format(**row), *good_spectrum(1))
    write_catalogue(archive / BASE / "allStar-r12-l33.fits", rows)
    members = str((shared / "data/occam_member-DR16.fits").resolve())
    store = ingest(survey(archive, members=members, most_missing=1), tmp_path / "store")
    assert set(store.stars["CLUSTER"][store.is_member]) == {"NGC 6791"}
    assert store.is_member.sum() == len(ids)


def test_dr17_flavour(tmp_path):
    """NaN for missing, 64-bit flags with bits above 31, 27 elements, no ASPCAP_CLASS, float64 images."""
    rows = []
    for number, flag in enumerate((0, 2**40, 2**23, 2**40 + 2**23)):
        row = star(number, ASPCAPFLAG=flag)
        x_h = np.append(np.where(row["X_H"] < -900, np.nan, row["X_H"]), 0.5).astype(np.float32)
        rows.append(row | {"X_H": x_h, "ALPHA_M": np.nan})
        path = tmp_path / f"apo25m/060+00/aspcapStar-dr17-{star_id(number)}.fits"
        write_spectrum(path, *good_spectrum(number), dtype=">f8")
    write_catalogue(tmp_path / "allStar.fits", rows, symbols=False, formats={"X_H": "27E", "ASPCAPFLAG": "K"})
    dr17 = {
        "release": "dr17",
        "catalogue": ["allStar.fits"],
        "members": None,
        "spectrum": "{TELESCOPE}/{FIELD}/aspcapStar-dr17-{APOGEE_ID}.fits",
    }
    store = ingest(survey(tmp_path, **dr17), tmp_path / "store")
    assert store.stars["APOGEE_ID"].tolist() == [star_id(0), star_id(1)]
    assert store.stars["C13_H"].tolist() == [0.5, 0.5]
    assert np.isnan(store.stars["ALPHA_M"]).all()
    assert store.spectra().flux.numpy().dtype == np.float32
    with pytest.raises(InputError, match=r"no column ASPCAP_CLASS \(dr13, dr14 and dr16 have it\)"):
        ingest(survey(tmp_path, **dr17, cuts=[Cut("g", "ASPCAP_CLASS", none_of=["x"])]), tmp_path / "other")


def test_a_cut_that_removes_everybody_says_of_what_and_for_which_release(archive, tmp_path):
    cuts = [{"name": "all", "column": "X_H", "defined": ["C", "Yb", "Ge"]}]
    message = (
        r"removed the last 20: Yb Ge are known of none of them \(the cuts are meant for survey=mine, release dr16\)"
    )
    with pytest.raises(InputError, match=message):
        ingest(survey(archive, cuts=cuts, name="mine"), tmp_path / "store")


@pytest.mark.parametrize("column", ["Größe", "SHAPED"])
def test_a_column_that_cannot_be_written_is_refused_before_a_spectrum_is_read(archive, tmp_path, monkeypatch, column):
    class Strange(ApogeeCatalogue):
        def describe(self, *given):
            stars = super().describe(*given)
            stars[column] = np.ones((len(stars), 1 + (column == "SHAPED")))[:, slice(None) if column == "SHAPED" else 0]
            return stars

    monkeypatch.setattr(apogee_module, "read_spectrum", lambda _: 1 / 0)
    with pytest.raises(InputError, match=f"{column}.*(rename it|one number or text a star)"):
        ingest(survey(archive, reader=Strange), tmp_path / "store")


def test_columns_of_every_kind_come_back(archive, tmp_path):
    big = 2**63 - 7

    class Rich(ApogeeCatalogue):
        def describe(self, *given):
            stars = super().describe(*given)
            stars["LARGE"] = np.full(len(stars), big, dtype=np.uint64)
            stars["YES"] = np.arange(len(stars)) % 2 == 0
            stars["GONE"] = np.ma.masked_equal(np.arange(len(stars)), 3)
            stars["OBJECT"] = np.array([None, "ω", *["x"] * (len(stars) - 2)], dtype=object)
            return stars

    store = ingest(survey(archive, reader=Rich), tmp_path / "store")
    assert set(store.stars["LARGE"].tolist()) == {big}
    assert store.stars["YES"].tolist()[:3] == [False, True, False]  # the first row is a repeat and left out
    assert np.isnan(store.stars["GONE"]).sum() == 1
    assert store.stars["OBJECT"].tolist()[:2] == ["ω", "x"]


def test_commands_in_messages_can_be_pasted_into_a_shell(tmp_path):
    with pytest.raises(InputError, match=r"make one with rsca ingest 'store=.*/store \(1\)'$"):
        Store.open(tmp_path / "store (1)")
    with pytest.raises(InputError, match=r"make one with rsca ingest store=\S+/store$"):
        Store.open(tmp_path / "store")


@pytest.mark.parametrize("where", ["processes-1", "processes-2", "dask-2"])
def test_any_number_of_processes_makes_the_same_store(mini_survey, tmp_path, monkeypatch, where):
    backend, number = where.split("-")
    if backend == "dask":
        pytest.importorskip("distributed")
    mini_survey = mini_survey.with_censoring(Censoring(interstellar_pixels=[[720, 910]]))  # lists, as a YAML gives
    monkeypatch.setattr("rsca_torch.survey.ingest.BLOCKS_A_PROCESS", 1)
    ingest(mini_survey, tmp_path / "plain")
    seen = []
    told = lambda *done: seen.append(done)  # noqa: E731
    ingest(mini_survey, tmp_path / "other", block=3, progress=told, parallel=Parallel(backend, int(number)))
    assert content(tmp_path / "other") == content(tmp_path / "plain")
    assert seen == [(3, 14), (6, 14), (9, 14), (12, 14), (14, 14)]


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOTCONN], ids=errno.errorcode.get)
def test_a_file_server_that_fails_stops_the_ingest_which_goes_on_later(mini_survey, tmp_path, monkeypatch, code):
    ingest(mini_survey, tmp_path / "plain")
    real, opened = fits.open, []

    def fail(name, *args, **kwargs):
        if "aspcapStar" in str(name):
            opened.append(name)
            if len(opened) > 5:
                raise OSError(code, os.strerror(code), str(name))
        return real(name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(fits, "open", fail)
        with pytest.raises(InputError, match=rf"cannot be read now: {os.strerror(code)}; .* goes on"):
            ingest(mini_survey, tmp_path / "store", block=2)
    assert not (tmp_path / "store").exists()
    ingest(mini_survey, tmp_path / "store", block=2)
    assert content(tmp_path / "store") == content(tmp_path / "plain")


def test_a_disk_without_room_is_said_before_anything_is_read(mini_survey, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
        patch.setattr(type(mini_survey.reader), "read", None)
        with pytest.raises(InputError, match=r"takes up to 0.0 GB more .*0.0 GB are free there: make room"):
            ingest(mini_survey, tmp_path / "store")
    assert len(ingest(mini_survey, tmp_path / "store")) == 12
