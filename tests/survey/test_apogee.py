from __future__ import annotations

import gzip
import sys
import tempfile

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from mini_archive import good_spectrum, mini_rows, star, write_catalogue, write_spectrum

from rsca_torch.errors import InputError
from rsca_torch.survey import fits_files
from rsca_torch.survey.apogee import CHIPS, ELEMENTS, read_spectrum
from rsca_torch.survey.apogee import wavelength as grid
from rsca_torch.survey.apogee_catalogue import find_catalogue, read_catalogue, spectrum_files
from rsca_torch.survey.fits_files import UnusableFileError, native, open_fits, require_whole, utf8
from rsca_torch.survey.visits import mean_fibres, visits_of


def test_grid_ends_are_the_published_wavelengths():
    assert grid()[[0, 246, 3273, 3585, 8334, 8574]] == pytest.approx(
        [15100.802, 15152.211, 15799.087, 15867.555, 16943.3, 16999.807], abs=0.25
    )
    assert sum(end - first for first, end in CHIPS.values()) == 7514


def test_native_finds_sentinels_in_both_precisions_and_strips_blanks_and_nul():
    for dtype in (">f4", ">f8"):
        values = native(np.array([-9999.99, -9999.0, -999.99, np.inf, 999999.0, -120.5], dtype=dtype))
        assert values.dtype == np.float64
        np.testing.assert_array_equal(values, [np.nan] * 5 + [-120.5])
    assert native(np.array([b" N7789 \0\0", b"060+00   ", b"M67 \0 "])).tolist() == ["N7789", "060+00", "M67"]


def test_native_keeps_the_width_of_flags():
    flags = native(np.array([-(2**31), 2**23], dtype=">i4"))
    assert flags.dtype == np.dtype(np.int32)
    assert flags.dtype.isnative


def test_catalogue_columns_and_element_order_from_the_file(tmp_path):
    path = tmp_path / "allStar.fits"
    write_catalogue(path, mini_rows())
    stars = read_catalogue(path, "dr13", ["APOGEE_ID", "X_H"], ["VISITS", "NOWHERE"], np.array([1, 2]))
    # dr13 would put Ce at 22 and Yb nowhere: HDU 3 of the file wins.
    assert stars.colnames[:3] == ["APOGEE_ID", "C_H", "CI_H"]
    np.testing.assert_allclose(stars["CE_H"], np.linspace(-0.5, 0.5, 26)[23] + np.array([0, 0.01]), atol=1e-6)
    assert np.isnan(stars["YB_H"]).all()
    assert stars.colnames[-1] == "VISITS"


def test_lite_catalogue_takes_the_order_of_the_release(tmp_path):
    path = tmp_path / "lite.fits"
    write_catalogue(path, [star(1)], symbols=False)
    assert np.isfinite(read_catalogue(path, "dr16", ["X_H"])["CE_H"]).all()
    assert np.isnan(read_catalogue(path, "dr13", ["X_H"])["RB_H"]).sum() == 0  # index 23 there
    with pytest.raises(InputError, match="has 26 values a star, expected 27"):
        read_catalogue(path, "dr17", ["X_H"])
    with pytest.raises(InputError, match=r"one of dr13.*got 'dr99'"):
        read_catalogue(path, "dr99", ["X_H"])


@pytest.mark.parametrize(
    ("column", "where"),
    [
        ("LOCATION_ID", "allStarLite has not"),
        ("ASPCAP_GRID", "dr17 has it"),
        ("TEF", "no release known"),
        ("RV", "no r"),
    ],
)
def test_missing_column_is_named_with_the_releases_that_have_it(tmp_path, column, where):
    path = tmp_path / "lite.fits"
    write_catalogue(path, [{k: v for k, v in star(1).items() if k != "LOCATION_ID"}])
    with pytest.raises(InputError, match=rf"lite.fits has no column {column} \(.*{where}"):
        read_catalogue(path, "dr16", [column])


def test_no_catalogue_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"looked for a/allStar.fits, a/allStarLite.fits"):
        find_catalogue(tmp_path, ["a/allStar.fits", "a/allStarLite.fits"])
    with pytest.raises(InputError, match="must be a folder that can be read, got: No such file"):
        find_catalogue(tmp_path / "nowhere", ["x"])
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="got: Not a directory"):
        find_catalogue(tmp_path / "file", ["x"])


def test_unusable_catalogues(tmp_path):
    path = tmp_path / "allStar.fits"
    path.write_text("<html><body>404 Not Found</body></html>")
    with pytest.raises(InputError, match="web page saved as FITS; fetch it again"):
        read_catalogue(path, "dr16", ["SNR"])
    write_catalogue(path, mini_rows())
    whole = path.read_bytes()
    for size in (len(whole) // 8, 12000, 3000):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"truncated file|unreadable file"):
            read_catalogue(path, "dr16", ["SNR"])
    write_spectrum(path, *good_spectrum(0))
    with pytest.raises(InputError, match="HDU 1 is no table"):
        read_catalogue(path, "dr16", ["SNR"])


def test_paths_of_every_release_and_telescope():
    rows = [star(1), star(2, TELESCOPE="apo1m", FIELD="calibration", LOCATION_ID=1), star(3, TELESCOPE="lco25m")]
    stars = {name: [row[name] for row in rows] for name in ("TELESCOPE", "FIELD", "LOCATION_ID", "APOGEE_ID")}
    stars = Table(stars)
    assert spectrum_files("x/{LOCATION_ID}/{APOGEE_ID}.fits", stars) == [
        "x/4600/2M00000001+0000000.fits",
        "x/calibration/2M00000002+0000000.fits",
        "x/4600/2M00000003+0000000.fits",
    ]
    assert spectrum_files("{TELESCOPE}/{FIELD}", stars)[2] == "lco25m/060+00"
    with pytest.raises(InputError, match=r"may name TELESCOPE, FIELD, .* in braces, got 'PLATE'"):
        spectrum_files("{PLATE}", stars)


@pytest.mark.parametrize("dtype", [">f4", ">f8"])
def test_spectrum_of_either_precision_with_an_illegal_card(tmp_path, dtype):
    path = tmp_path / "aspcapStar.fits"
    flux, error = good_spectrum(3)
    error[5000] = 1e39 if dtype == ">f8" else 1e10
    write_spectrum(path, flux, error, dtype=dtype)
    assert b"NAN" in path.read_bytes()
    got_flux, got_error = read_spectrum(path)
    assert got_flux.dtype == np.dtype("f4")
    assert got_flux.dtype.isnative
    np.testing.assert_array_equal(got_flux, flux.astype(np.float32))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(got_error, error.astype(np.float32))


def _cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def _wrong_grid(path):
    write_spectrum(path, np.ones(7214), np.ones(7214))


def _wrong_start(path):
    path.write_bytes(path.read_bytes().replace(b"4.179", b"4.180"))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "missing file"),
        (lambda path: path.write_text("\n<!DOCTYPE html>"), "web page saved as FITS"),
        (lambda path: path.write_bytes(b"PK\3\4"), "not a FITS file"),
        (lambda path: path.write_bytes(b""), "empty file"),
        (lambda path: _cut(path, 1000), "unreadable file|truncated file"),
        (lambda path: _cut(path, 4000), "truncated file"),
        (lambda path: _cut(path, 20000), "truncated file"),
        (lambda path: _cut(path, 41000), "truncated file"),
        (lambda path: _cut(path, 60000), "truncated file"),
        (lambda path: _cut(path, 5760 + 20 * 1440), "truncated file"),
        (_wrong_grid, r"wrong grid \(flux of shape \(7214,\)"),
        (_wrong_start, "wrong grid .*4.18"),
        (lambda path: fits.PrimaryHDU(np.zeros(8575)).writeto(path, overwrite=True), r"no HDU 1 \(flux\)"),
        (lambda path: _cut(path, 40320), r"no HDU 2 \(error\)"),
        (lambda path: write_catalogue(path, [star(1)]), "not an aspcapStar file but a catalogue of stars"),
    ],
)
def test_unusable_spectrum_has_a_reason(tmp_path, spoil, reason):
    path = tmp_path / "aspcapStar.fits"
    write_spectrum(path, *good_spectrum(0))
    spoil(path)
    with pytest.raises(UnusableFileError, match=reason):
        read_spectrum(path)


def test_real_spectra_chips_gaps_and_valid_shares(shared):
    """DATA-FORMATS, section 2."""
    files = sorted((shared / "data/aspcapStar_dr13").iterdir())
    assert len(files) == 25
    on_chip = np.zeros(8575, dtype=bool)
    for first, end in CHIPS.values():
        on_chip[first:end] = True
    bad = 0
    for path in files:
        flux, error = read_spectrum(path)
        assert not flux[~on_chip].any()
        assert not error[~on_chip].any()
        np.testing.assert_array_equal((flux == 0) & on_chip, (error == 10) & on_chip)
        bad += ((flux == 0) & on_chip).sum()
        assert 0.124 <= round(float((flux == 0).mean()), 3) <= 0.279
        assert error[on_chip].min() >= np.float32(0.005)
        assert flux.max() < 1.1
        with open_fits(path) as hdus:
            snr = float(hdus[4].data["SNR"][0])
        masked = float((error > 0.05)[on_chip].mean())
        low, high = (0.11, 0.265) if snr > 100 else (0.13, 0.215) if snr > 60 else (0.255, 1.0)
        assert low <= round(masked, 3) <= high, (path.name, snr)
    assert bad == 7286


def test_element_tables_have_the_published_places():
    assert [ELEMENTS["dr16"].index(e) for e in ("Fe", "Ce")] == [17, 23]
    assert ELEMENTS["dr13"][22] == "Ce"
    assert [len(elements) for elements in ELEMENTS.values()] == [26, 26, 26, 27]


def test_compressed_files_are_read_as_the_whole_ones(tmp_path):
    path = tmp_path / "aspcapStar-r12-x.fits"
    flux, error = good_spectrum(0)
    write_spectrum(path, flux, error, row=star(0))
    whole = path.read_bytes()
    path.unlink()
    for suffix, packed in ((".gz", gzip.compress(whole)), (".gz", gzip.compress(whole)[:-9]), (".gz", b"\x1f\x8bno")):
        path.with_name(path.name + suffix).write_bytes(packed)
        if packed == gzip.compress(whole):
            np.testing.assert_array_equal(read_spectrum(path), np.array([flux, error], dtype=np.float32))
            np.testing.assert_array_equal(read_spectrum(path.with_name(path.name + suffix))[0], flux.astype(np.float32))
        else:
            with pytest.raises(UnusableFileError, match=r"truncated file|unreadable file"):
                read_spectrum(path)
    path.with_name(path.name + ".gz").unlink()
    images = [fits.CompImageHDU(v.astype("f4"), compression_type="GZIP_1", quantize_level=0) for v in (flux, error)]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path.with_name(path.name + ".fz"))
    np.testing.assert_array_equal(read_spectrum(path), np.array([flux, error], dtype=np.float32))
    packed = path.with_name(path.name + ".fz").read_bytes()
    path.with_name(path.name + ".fz").write_bytes(packed[: -2880 * 3])
    with pytest.raises(UnusableFileError, match=r"truncated file|unreadable file"):
        read_spectrum(path)


def test_a_compressed_file_of_many_stars_is_unpacked_once_and_leaves_no_file(tmp_path, monkeypatch):
    """Whatever ends the process: the copy has no name."""
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    path, unpacked = tmp_path / "many.fits.gz", []
    opener = fits_files.OPENERS[b"\x1f\x8b"]
    monkeypatch.setitem(fits_files.OPENERS, b"\x1f\x8b", lambda path: unpacked.append(path) or opener(path))
    for value in (1, 2):
        table = fits.BinTableHDU(Table({"x": np.full(3, value)}))
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)
        for row in range(3):
            with open_fits(path, memmap=True) as hdus:
                assert hdus[1].data["x"][row] == value, "another file under the same name is another file"
                assert sys.platform != "linux" or not list(copies.iterdir())
    assert unpacked == [path] * 2


def test_a_table_that_fpack_compressed_is_refused(tmp_path):
    table = fits.BinTableHDU(Table({"x": [1.0]}))
    table.header["ZTABLE"] = True
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "mwmStar.fits.fz")
    with open_fits(tmp_path / "mwmStar.fits") as hdus, pytest.raises(UnusableFileError, match=r"unpack .*\(funpack\)"):
        require_whole(hdus, 1, "table")


def test_a_compressed_catalogue_is_found_and_read(tmp_path):
    write_catalogue(tmp_path / "allStar.fits", mini_rows())
    whole = read_catalogue(tmp_path / "allStar.fits", "dr16", ["APOGEE_ID", "X_H"])
    (tmp_path / "allStar.fits.gz").write_bytes(gzip.compress((tmp_path / "allStar.fits").read_bytes()))
    (tmp_path / "allStar.fits").unlink()
    path = find_catalogue(tmp_path, ["allStar.fits"])
    assert path.name == "allStar.fits.gz"
    assert read_catalogue(path, "dr16", ["APOGEE_ID", "X_H"]).as_array().tobytes() == whole.as_array().tobytes()


@pytest.mark.parametrize("name", ["apStar-x.fits", "aspcapStar-r12-renamed.fits"])
def test_files_of_other_kinds_are_named(tmp_path, name):
    path = tmp_path / name
    flux = np.ones((2, 8575))
    for images, kind in (
        ([flux, flux], "apStar, visits combined but not"),
        ([np.ones((3, 4096))] * 2, "apVisit, one visit"),
    ):
        fits.HDUList([fits.PrimaryHDU(), *map(fits.ImageHDU, images)]).writeto(path, overwrite=True)
        with pytest.raises(UnusableFileError, match=f"not an aspcapStar file but {kind}"):
            read_spectrum(path)
    one_visit = fits.ImageHDU(flux[0])
    one_visit.header["BUNIT"] = "Flux (10^-17 erg/s/cm^2/Ang)"
    fits.HDUList([fits.PrimaryHDU(), one_visit, fits.ImageHDU(flux[0])]).writeto(path, overwrite=True)
    with pytest.raises(UnusableFileError, match="but apStar"):
        read_spectrum(path)
    Table({"sdss_id": [1], "flux": [flux[0]], "ivar": [flux[0]]}).write(path, overwrite=True)
    with pytest.raises(UnusableFileError, match="but mwmStar of SDSS-V"):
        read_spectrum(path)


def test_a_real_apstar_is_named(shared):
    with pytest.raises(UnusableFileError, match="not an aspcapStar file but apStar"):
        read_spectrum(shared / "data/real/apStar-dr17-2M19485057+5005279.fits")


def test_text_that_is_not_ascii_is_read_as_utf8_or_latin_1():
    assert native(np.array(["ω Cen".encode(), b"M 67"])).tolist() == ["ω Cen", "M 67"]
    assert native(np.array([b"Gr\xf6\xdfe"])).tolist() == ["Größe"]


def test_visits_by_the_names_of_their_files():
    text = "r12-9823-57914-034.fits ,asVisit-r12-9823-58115-040.fits.gz,r12-1-2-3"
    assert [visit.fibre for visit in visits_of(text, "lco25m")] == [34, 40, 3]
    assert visits_of("r12-57914-VESTA.fits ", "apo1m")[0].night == 57914


def test_the_catalogue_s_mean_fibre_counts_where_visits_say_nothing(caplog):
    told = Table({"MEANFIB": [7.0, 7.0, np.nan, 7.0, 0.0], "VISITS": ["r12-1-2-10", " ", " ", "?", " "]})
    np.testing.assert_array_equal(mean_fibres(told), [10, 7, np.nan, 7, np.nan])
    assert not caplog.text
    np.testing.assert_array_equal(mean_fibres(told["MEANFIB",]), [7, 7, np.nan, 7, np.nan])


def test_tables_with_text_that_is_not_ascii_can_be_written(tmp_path):
    utf8(Table({"CLUSTER": ["ω Cen", "M 67"], "N": [1, 2]}, meta={"STORE": "x"})).write(tmp_path / "t.fits")
    with open_fits(tmp_path / "t.fits") as hdus:
        assert native(hdus[1].data["CLUSTER"]).tolist() == ["ω Cen", "M 67"]
        assert hdus[1].header["STORE"] == "x"
