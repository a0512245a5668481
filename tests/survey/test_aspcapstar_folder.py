from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from mini_archive import AUTHORS, good_spectrum, star, star_id, write_spectrum

from rsca_torch.errors import InputError
from rsca_torch.survey.apogee import CHIPS
from rsca_torch.survey.aspcapstar_folder import AspcapstarFolder, read_folder
from rsca_torch.survey.ingest import ingest
from rsca_torch.survey.store import Store
from rsca_torch.survey.survey import Survey

PATTERN = "aspcapStar-*.fits"


def write(path: Path, number: int, **values: object) -> None:
    write_spectrum(path, *good_spectrum(number), row=star(number, **values))


def test_real_files_through_ingest(shared, tmp_path):
    """DATA-FORMATS, section 2: chips, gaps, and the shares of trusted measurements."""
    store = ingest(
        Survey(shared / "data/aspcapStar_dr13", AspcapstarFolder, spectrum=PATTERN, censoring=AUTHORS),
        tmp_path / "store",
    )
    assert len(store) == 24
    assert (store.path / "errors.csv").read_text() == "file,zero,negative,not_finite\n"
    assert [problem for _, problem in store.problems] == ["no valid bin"]  # S/N 9.5: no error is below 0.05
    on_chip = np.any([(store.bins >= first) & (store.bins < end) for first, end in CHIPS.values()], axis=0)
    assert on_chip.all()
    assert not np.any((store.bins >= 2600) & (store.bins < 2750))
    spectra, snr = store.spectra(), np.asarray(store.stars["SNR"])
    share = spectra.valid.float().mean(dim=1).numpy()
    assert (share[snr > 100] > 0.7).all()
    assert ((share > 0.5) & (share < 0.9))[(snr > 20) & (snr <= 100)].all()
    assert (share[snr < 20] < 0.35).all()
    assert snr.min() > 9.5
    giant = store.stars[store.stars["APOGEE_ID"] == "2M17334253-1654573"][0]
    assert giant["TEFF"] == pytest.approx(3788.4, abs=0.1)
    assert giant["LOGG"] == pytest.approx(1.078, abs=1e-3)
    assert giant["M_H"] == pytest.approx(0.00458, abs=1e-5)
    assert giant["ALPHA_M"] == pytest.approx(0.157, abs=1e-3)
    assert np.isfinite(giant["FE_H"])
    assert np.isnan(store.stars["CE_H"]).all()  # always missing in DR13
    assert np.isfinite(store.stars["VHELIO_AVG"]).all()
    assert np.isnan(store.stars["AK_TARG"]).sum() > 0  # NaN in the files too


def test_folder_is_searched_in_order_and_keeps_the_first_of_two(tmp_path):
    write(tmp_path / "b/aspcapStar-r12-x.fits", 1)
    write(tmp_path / "a/deep/aspcapStar-r12-y.fits", 2, FIELD="f", SNR=7)
    write(tmp_path / "c/aspcapStar-r12-z.fits", 1, SNR=900)
    write(tmp_path / "c/other.fits", 3)
    write(tmp_path / "d/aspcapStar-r12-x.fits", 1, FIELD="g")  # another observation of it
    stars, problems = read_folder(tmp_path, PATTERN, None)
    assert stars["FILE"].tolist() == [
        f"{place}.fits" for place in ("a/deep/aspcapStar-r12-y", "b/aspcapStar-r12-x", "d/aspcapStar-r12-x")
    ]
    assert stars["APOGEE_ID"].tolist() == [star_id(2), star_id(1), star_id(1)]
    assert stars["FIELD"].tolist() == ["f", "060+00", "g"]
    assert stars["SNR"].tolist() == [7, 101, 101]
    assert stars["VISITS"][0].startswith("r12-")
    assert problems == [("c/aspcapStar-r12-z.fits", f"duplicate of star {star_id(1)}")]


def test_problems_of_a_folder(tmp_path):
    write(tmp_path / "aspcapStar-r12-1.fits", 1)
    write(tmp_path / "aspcapStar-r9-2.fits", 2)
    write(tmp_path / "aspcapStar-r12-3.fits", 3, APOGEE_ID=" ")
    write(tmp_path / "aspcapStar-dr17-4.fits", 4)
    write_spectrum(tmp_path / "aspcapStar-r12-5.fits", *good_spectrum(5))
    (tmp_path / "aspcapStar-r12-6.fits").write_text("<html>")
    (tmp_path / "aspcapStar-r12-7.fits").symlink_to(tmp_path / "gone")
    write(tmp_path / "aspcapStar-r12-8.fits", 8)
    whole = (tmp_path / "aspcapStar-r12-8.fits").read_bytes()
    (tmp_path / "aspcapStar-r12-8.fits").write_bytes(whole[:-2880])
    stars, problems = read_folder(tmp_path, PATTERN, None)
    assert len(stars) == 1
    assert problems == [
        ("aspcapStar-dr17-4.fits", "X_H has 26 values, not 27; survey.release may be another"),
        ("aspcapStar-r12-3.fits", "APOGEE_ID is empty in HDU 4 (star table)"),
        ("aspcapStar-r12-5.fits", "no HDU 4 (star table)"),
        ("aspcapStar-r12-6.fits", "web page saved as FITS"),
        ("aspcapStar-r12-7.fits", "missing file"),
        ("aspcapStar-r12-8.fits", "truncated file"),
        ("aspcapStar-r9-2.fits", "release not told by the file's name; set survey.release"),
    ]
    store = ingest(Survey(tmp_path, AspcapstarFolder, spectrum=PATTERN), tmp_path / "store")
    assert store.selection[:2] == [
        {"cut": "files", "removed": 0, "kept": 8},
        {"cut": "star table unusable or double", "removed": 7, "kept": 1},
    ]
    assert len(store.problems) == 7
    assert len(read_folder(tmp_path, PATTERN, "dr16")[0]) == 3


def test_members_of_a_folder(tmp_path):
    for number in range(4):
        write(tmp_path / f"aspcapStar-r12-{number}.fits", number)
    own = tmp_path / "own.csv"
    own.write_text(f"APOGEE_ID,CLUSTER\n{star_id(0)},Mine\n{star_id(3)},Mine\n")
    store = ingest(Survey(tmp_path, AspcapstarFolder, spectrum=PATTERN, members="own.csv"), tmp_path / "store")
    assert store.stars["CLUSTER"].tolist() == ["Mine", "", "", "Mine"]


def test_unusable_folders(tmp_path):
    with pytest.raises(InputError, match="there is no such folder"):
        read_folder(tmp_path / "nowhere", PATTERN, None)
    with pytest.raises(InputError, match=r"no file named aspcapStar-\*.fits"):
        read_folder(tmp_path, PATTERN, None)
    (tmp_path / "aspcapStar-r12-6.fits").write_text("<html>")
    with pytest.raises(InputError, match=r"none of the 1 files .* can be used; the first: .*web page"):
        read_folder(tmp_path, PATTERN, None)


def test_links_are_followed_and_each_file_is_read_once(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    write(root / "a/aspcapStar-r12-1.fits", 1)
    write(elsewhere / "deep/aspcapStar-r12-2.fits", 2)
    (root / "b").symlink_to(elsewhere)
    (root / "c").symlink_to(elsewhere / "deep")
    (root / "a/up").symlink_to(root)
    (root / "aspcapStar-r12-z.fits").symlink_to(root / "a/aspcapStar-r12-1.fits")
    stars, problems = read_folder(root, PATTERN, None)
    assert stars["APOGEE_ID"].tolist() == [star_id(1), star_id(2)]
    assert problems == []


def test_compressed_spectra_are_found(tmp_path):
    for number in (1, 2):
        write(tmp_path / f"aspcapStar-r12-{number}.fits", number)
    path = tmp_path / "aspcapStar-r12-1.fits"
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    store = ingest(Survey(tmp_path, AspcapstarFolder, spectrum=PATTERN), tmp_path / "store")
    assert store.stars["FILE"].tolist() == ["aspcapStar-r12-1.fits.gz", "aspcapStar-r12-2.fits"]
    for pattern in ("aspcapStar-*.fits.gz", "aspcapStar-*1.fits"):
        assert len(read_folder(tmp_path, pattern, None)[0]) == 1


def test_other_kinds_of_files_in_a_folder_are_named(tmp_path, shared):
    real = shared / "data/real/apStar-dr17-2M19485057+5005279.fits"
    (tmp_path / real.name).symlink_to(real)
    with pytest.raises(InputError, match=r"no file named .*; there are 1 of apStar, visits combined but not continuum"):
        read_folder(tmp_path, PATTERN, None)
    with pytest.raises(InputError, match=r"none of the 1 files .*not an aspcapStar file but apStar"):
        read_folder(tmp_path, "*.fits", None)


def test_names_that_are_not_ascii(tmp_path):
    """Of folders, files, fields and clusters; a name that is no UTF-8 at all too."""
    write(tmp_path / "données/aspcapStar-r12-é.fits", 1)
    write(tmp_path / "données/aspcapStar-r12-2.fits", 2)
    strange = os.fsdecode(b"aspcapStar-r12-\xff.fits")
    write(tmp_path / strange, 3)
    web_page = "aspcapStar-r12-\udcfe.fits"
    (tmp_path / web_page).write_text("<html>")
    (tmp_path / "own.csv").write_text(f"APOGEE_ID,CLUSTER\n{star_id(1)},ω Cen\n{star_id(2)},ω Cen\n", encoding="utf-8")
    survey = Survey(tmp_path, AspcapstarFolder, spectrum=PATTERN, members="own.csv")
    store = ingest(survey, tmp_path / "store")
    assert sorted(store.stars["CLUSTER"].tolist()) == ["", "ω Cen", "ω Cen"]
    assert strange in store.stars["FILE"].tolist()
    assert "données/aspcapStar-r12-é.fits" in store.stars["FILE"].tolist()
    assert store.problems == [(web_page, "web page saved as FITS")]
    assert store.removed[0][1:] == (
        "star table unusable or double",
        "aspcapStar-r12-\udcfe.fits: web page saved as FITS",
    )
    Store.open(store.path).verify()
