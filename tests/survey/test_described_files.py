"""Each shipped description reads a tiny file in its survey's real layout; bad input is refused with what is there."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from rsca_torch import InputError
from rsca_torch.survey.described.description import Description
from rsca_torch.survey.described.preparation import is_good
from rsca_torch.survey.described.reader import DescribedReader
from rsca_torch.survey.ingest import ingest

CONF = Path(__file__).parents[2] / "conf"
IDS = 4_611_686_018_427_387_904 + np.arange(3)  # 2^62: a float of it would be another number


def made(root, name, *overrides):
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose(overrides=[f"+survey={name}", f"survey.root={root}", *overrides]).survey
    return ingest(instantiate(config), root / "store")


def table(**columns):
    return fits.BinTableHDU(Table(columns))


def test_galah_dr4(tmp_path):
    wave = 6560 + 0.05 * np.arange(200)  # air, at rest
    for number in range(3):
        used = np.arange(200) != 50
        pixels = table(wave=wave + 0.01 * number, sob=np.ones(200), uob=np.full(200, 0.02), mob=used)
        fits.HDUList([fits.PrimaryHDU(), pixels]).writeto(tmp_path / f"{number}_allstar_fit_spectrum.fits")
    stars = {
        "sobject_id": np.arange(3),
        "gaiadr3_source_id": IDS,
        "rv_comp_1": [1.0, 2.0, 3.0],
        "a_ks": [0.1, np.nan, -9999.0],
        **{name: [0.0] * 3 for name in ("fe_h", "e_fe_h", "flag_fe_h", "o_fe", "e_o_fe", "flag_o_fe")},
    }
    Table({**stars, "snr_px_ccd2": [50.0] * 3, "flag_sp": [0, 0, 1]}).write(tmp_path / "galah_dr4_allstar_240705.fits")
    store = made(tmp_path, "galah_dr4", "survey.roles.group=null")
    assert store.stars.id.tolist() == [str(star) for star in IDS[:2]], "flag_sp is cut"
    assert store.wavelength[0] == pytest.approx(6561.85, abs=0.2)
    assert store.wavelength[-1] == pytest.approx(6571.7, abs=0.2)
    bad = ~store.spectra(slice(1)).valid[0].numpy()
    assert 1 <= bad.sum() <= 6
    assert abs(store.wavelength[bad] - 6564.31).min() < 0.1, "the pixel that mob left out"
    assert store.manifest["survey"]["description"]["wavelength"]["medium"] == "air"


def test_desi_mws(tmp_path):
    folder = tmp_path / "healpix" / "main" / "bright" / "12" / "1234"
    folder.mkdir(parents=True)
    arms = {"B": 4000.0, "R": 5760.0, "Z": 7520.0}
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU(Table({"TARGETID": IDS[::-1]}), name="FIBERMAP")]
    for name, start in arms.items():
        level = np.array([[30.0], [20.0], [10.0]])  # of the last star, the second, the first
        mask = np.zeros((3, 2000), dtype=np.int32)
        mask[2, 1000] = 1 << 8
        hdus.append(fits.ImageHDU(start + 0.8 * np.arange(2000), name=f"{name}_WAVELENGTH"))
        hdus.append(fits.ImageHDU((level + np.zeros((3, 2000))).astype("f4"), name=f"{name}_FLUX"))
        hdus.append(fits.ImageHDU(np.full((3, 2000), 4.0, "f4"), name=f"{name}_IVAR"))
        hdus.append(fits.CompImageHDU(mask, name=f"{name}_MASK"))
    fits.HDUList(hdus).writeto(folder / "coadd-main-bright-1234.fits")
    rvtab = {"TARGETID": IDS, "VRAD": [0.0, 10.0, -10.0], "RVS_WARN": [0, 0, 0], "RR_SPECTYPE": ["STAR"] * 3}
    rvtab |= {"SURVEY": ["main"] * 3, "PROGRAM": ["bright"] * 3, "HEALPIX": [1234] * 3, "SN_R": [20.0] * 3}
    rvtab |= {"FEH": [-1.0, 0.5, np.nan], "ALPHAFE": [0.3, 0.0, 0.1], "FEH_ERR": [0.03] * 3, "ALPHAFE_ERR": [0.04] * 3}
    names = ("SPTAB", "FIBERMAP", "SCORES", "GAIA")
    tables = [fits.BinTableHDU(Table(rvtab), name="RVTAB")]
    tables += [fits.BinTableHDU(Table({"SOURCE_ID": IDS + 7}), name=name) for name in names]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(tmp_path / "mwsall-pix-iron.fits")
    store = made(tmp_path, "desi_mws", "survey.roles.group=null")
    assert store.stars.id.tolist() == [str(star) for star in IDS]
    assert store.stars["SOURCE_ID"].tolist() == (IDS + 7).tolist()
    np.testing.assert_allclose(store.stars["ALPHA_H"], [-0.7, 0.5, np.nan])
    np.testing.assert_allclose(store.stars["ALPHA_H_ERR"], 0.05)
    flux, valid, sigma = store.read(np.arange(3))
    alone = (store.wavelength > 4100) & (store.wavelength < 5500)
    assert np.nanmedian(flux) == pytest.approx(1.0, abs=1e-4)
    errors = [float(np.nanmedian(sigma[row][alone & valid[row].numpy()])) for row in range(3)]
    assert errors[0] / errors[2] == pytest.approx(3.0, rel=0.1), "the row of the star, not of the table"
    assert not valid[0, abs(store.wavelength - 4800).argmin()]
    assert valid[1, abs(store.wavelength - 4799.8).argmin()]
    assert list(store.segments) == ["b", "r", "z"]


@pytest.mark.parametrize("brackets", ["[]", "()"])
def test_gaia_rvs(tmp_path, brackets):
    texts = []
    for level in (1.0, 0.9, 1.1):
        values = ["NaN", "null", *([f"{level:.2f}"] * 2399)]
        texts.append(brackets[0] + ", ".join(values) + brackets[1])
    errors = [text.replace("1.00", "0.02").replace("0.90", "0.02").replace("1.10", "0.02") for text in texts]
    content = Table({"source_id": IDS, "combined_transits": [9, 8, 7], "flux": texts, "flux_error": errors})
    text = io.StringIO()
    content.write(text, format="ascii.csv")
    (tmp_path / "RvsMeanSpectrum_0-1.csv.gz").write_bytes(
        gzip.compress(b"# of the archive\n" + text.getvalue().encode())
    )
    Table({"source_id": IDS[[2, 0]], "family": ["A", ""]}).write(tmp_path / "labels.ecsv")
    label = "survey.description.stars={path: labels.ecsv, ids: [source_id]}"
    store = made(tmp_path, "gaia_rvs", label, "survey.roles.group=family")
    assert store.stars.id.tolist() == [str(IDS[0]), str(IDS[2])], "those that have labels"
    assert store.wavelength[0] == pytest.approx(8470.0, abs=0.11)
    flux, _, _ = store.read(np.arange(2))
    np.testing.assert_allclose(flux[:, 5], [1.0, 1.1], rtol=1e-6)


def test_multimodal_universe(tmp_path):
    for pixel, rows in ((1, slice(0, 2)), (2, slice(2, 3))):
        folder = tmp_path / "apogee" / f"healpix={pixel}"
        folder.mkdir(parents=True)
        ids = np.array([b"2M00000000+0000000", b"2M00000000+0000001", b"2M00000000+0000002"])[rows]
        with h5py.File(folder / "001-of-001.hdf5", "w") as file:
            n = len(ids)
            file["object_id"], file["radial_velocity"], file["snr"] = ids, np.zeros(n), np.full(n, 99.0)
            file["spectrum_lambda"] = np.tile(15150 + 0.2 * np.arange(30), (n, 1))
            file["spectrum_pseudo_continuum_flux"] = np.ones((n, 30))
            ivar = np.full((n, 30), 1e4)
            ivar[:, 3] = 1e-20
            file["spectrum_pseudo_continuum_ivar"] = ivar
    store = made(tmp_path, "multimodal_universe", "survey.roles.group=null")
    assert store.stars.id.tolist() == ["2M00000000+0000000", "2M00000000+0000001", "2M00000000+0000002"]
    assert len(store.wavelength) == 29, "an ivar of 1e-20 is none"
    np.testing.assert_allclose(store.spectra().sigma, 0.01)


GOOD = {
    "layout": "file_per_star",
    "spectrum": "{name}.fits",
    "stars": {"path": "stars.ecsv"},
    "arms": {"all": {"flux": "flux", "wavelength": "wave", "error": "error"}},
}


def reader_of(tmp_path, names=("a",), **changes):
    pixels = table(wave=5000 + np.arange(9.0), flux=np.ones(9), error=np.full(9, 0.01))
    fits.HDUList([fits.PrimaryHDU(), pixels]).writeto(tmp_path / "a.fits", overwrite=True)
    Table({"name": list(names)}).write(tmp_path / "stars.ecsv", overwrite=True)
    return DescribedReader(tmp_path, {**GOOD, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": "file_a_star"}, "layout: file_per_star, row_per_star, file_per_arm or file_of_many expected"),
        ({"wavelength": {"frame": "barycentric"}}, "frame=barycentric needs velocity=COLUMN"),
        ({"wavelength": {"unit": "Anstrom"}}, "a unit of length expected, got 'Anstrom'"),
        ({"wavelength": {"medium": "water"}}, "wavelength.medium: vacuum or air expected, got 'water'"),
        ({"error": "noise"}, "error.kind: sigma, ivar, variance or relative expected"),
        ({"mask": {"bits": [1]}}, r"bits_clear: \[BITS\] expected"),
        ({"normalised": False}, "normalised=false: name a normaliser"),
        ({"grid": "own"}, "grid: common, or resample"),
        ({"grid": {"resample": {"start": 1, "n": 3}}}, "grid.resample: missing 1 required positional argument: 'step'"),
        ({"arms": {"all": {"flux": "flux", "fluks": "x"}}}, "arms.all has no key fluks; there are flux, wavelength"),
        ({"colour": 1}, "description has no key colour; there are layout, spectrum"),
        ({"stars": None}, "layout=file_per_star needs a table of stars"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_description_says_what_it_could_hold(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        reader_of(tmp_path, **changes)


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"flux": {"hdu": "COADD", "column": "flux"}}, "no HDU COADD; there are 0 PRIMARY, 1"),
        ({"flux": "fluks"}, "no column fluks in HDU 1; there are wave, flux, error"),
        ({"flux": {"hdu": 1}}, "HDU 1 is a table: name a column of wave, flux, error"),
        ({"wavelength": {"header": ["CRVAL1", "CDELT1", "CRPIX1"]}}, "no CRVAL1 and CDELT1 in the header of HDU 1"),
        ({"wavelength": {"formula": {"kind": "linear", "start": 5000, "step": 1, "n": 8}}}, "flux has 9 pixels, the w"),
        ({"range": [7000, 8000]}, "no pixel with a finite flux"),
    ],
    ids=["HDU", "column", "table", "header", "length", "range"],
)
def test_what_the_files_lack_is_told_with_what_they_have(tmp_path, arm, message):
    reader = reader_of(tmp_path, arms={"all": {**GOOD["arms"]["all"], **arm}})
    with pytest.raises(InputError, match=f"none of the spectra .*{message}"):
        _ = reader.grid


def test_ids_with_holes_are_text_and_floating_point_is_refused(tmp_path):
    (tmp_path / "stars.csv").write_text(f"name,gaia\na,{IDS[0] + 1}\nb,\n")
    reader_of(tmp_path)
    stars = {"path": "stars.csv", "ids": ["GAIA"]}
    listed = DescribedReader(tmp_path, {**GOOD, "stars": stars}).list_stars(["name", "gaia"]).stars
    assert listed["gaia"].tolist() == [str(IDS[0] + 1), ""]
    Table({"name": ["a"], "gaia": [float(IDS[0])]}).write(tmp_path / "floats.ecsv")
    with pytest.raises(InputError, match="ids in gaia are floating point"):
        DescribedReader(tmp_path, {**GOOD, "stars": {**stars, "path": "floats.ecsv"}}).list_stars(["name", "gaia"])


def test_columns_are_found_in_any_case(tmp_path):
    reader = reader_of(
        tmp_path, spectrum="{NAME}.fits", arms={"all": {"flux": "FLUX", "wavelength": "Wave", "error": "ERROR"}}
    )
    assert len(reader.grid) == 9


def test_a_name_that_climbs_out_of_the_root_is_refused(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    reader = reader_of(inside, names=["../a", "a"])
    (tmp_path / "a.fits").write_bytes((inside / "a.fits").read_bytes())
    with pytest.raises(Exception, match=r"leads out of the survey's root"):
        reader.read(reader.list_stars(["name"]).stars[0])
    assert len(reader.grid) == 9


def test_a_spectrum_that_is_listed_twice_is_read_once(tmp_path):
    listing = reader_of(tmp_path, names=["a", "a"]).list_stars(["name"])
    assert len(listing.stars) == 1
    assert list(listing.problems) == [("a.fits", "listed before")]


def test_a_description_is_a_file_too(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "layout: file_per_star\nspectrum: '{name}.fits'\nstars: {path: stars.ecsv}\n"
        "arms: {all: {flux: flux, wavelength: wave, error: error}}\ngrid: {resample: {start: 5000, step: 1e-4, n: 9}}\n"
    )
    assert Description.of(file).grid.step == 1e-4
    with pytest.raises(InputError, match="a file of YAML expected, got: No such file"):
        Description.of(tmp_path / "other.yaml")


def test_flags_that_are_kept_as_floating_point_are_whole_numbers():
    mask = np.array([0.0, 1.0, 2.0**23, 2.0**9, np.nan])
    assert is_good(mask, (0, 23), 5).tolist() == [True, False, False, True, False]
    assert is_good(np.array([True, False]), "true_is_good", 2).tolist() == [True, False]
    assert is_good(np.array([0, 4]), "zero", 2).tolist() == [True, False]
