"""SDSS DR19's files: each trap of docs/dr19.md, on a simulated tree and on arrays."""

from __future__ import annotations

import csv
import gzip
import logging
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.utils.exceptions import AstropyUserWarning
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from rsca_torch.cli.options import require_kinds
from rsca_torch.errors import InputError
from rsca_torch.survey.apogee import CHIPS, N_PIXELS
from rsca_torch.survey.fits_files import UnusableFileError
from rsca_torch.survey.ingest import ingest
from rsca_torch.survey.mwm.catalogue import read_labels
from rsca_torch.survey.mwm.spectrum import BAD_BITS, measured
from rsca_torch.survey.repeats import RepeatRule
from rsca_torch.survey.simulated import SimulatedSurvey

CONF = Path(__file__).parents[2] / "conf"
SUMMARY = "dr19/spectro/astra/0.6.0/summary/astraAllStarASPCAP-0.6.0.fits"
BAD = sum(1 << bit for bit in BAD_BITS)
MANY = SimulatedSurvey(n_field=60, repeats=30, release="dr19", further_files=["visits", "aspcap"])


def survey(root, *overrides, name="sdss_dr19"):
    with initialize_config_dir(str(CONF), version_base=None):
        return instantiate(compose(overrides=[f"+survey={name}", f"survey.root={root}", *overrides]).survey)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("dr19") / "sas"
    MANY.write(root, seed=1)
    return root


@pytest.fixture(scope="module")
def store(root, tmp_path_factory):
    return ingest(survey(root), tmp_path_factory.mktemp("dr19") / "store")


@pytest.fixture(scope="module")
def labels(root):
    return Table.read(root / SUMMARY, hdu=2)


@pytest.fixture
def copied(root, tmp_path):
    """The tree with a catalogue of its own, and links to all else."""
    shutil.copytree(root, tmp_path / "sas", copy_function=lambda a, b: Path(b).hardlink_to(a))
    path = tmp_path / "sas" / SUMMARY
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return tmp_path / "sas"


def problems(store):
    with (store.path / "problems.csv").open(encoding="utf-8") as file:
        return [each["problem"] for each in csv.DictReader(file)]


def a_star(reader, number=0):
    """The described row of the first star of the listing that passed no cut yet."""
    listed = reader.list_stars(["sdss_id"]).stars
    listed = listed[np.asarray(listed["sdss_id"]) > 0]
    return reader.describe(listed[number : number + 1], np.array([number]), [])[0]


def test_the_files_that_stars_need(root):
    """What `rsca download` fetches: without the HDU and the row that FILE names."""
    reader, aspcap = survey(root).reader, survey(root, "survey.continuum=aspcap").reader
    star = a_star(reader)
    stars = Table(rows=[star, star], names=star.colnames)
    stars["FILE"] = [str(star["FILE"]), f"{str(star['FILE']).replace('mwmStar', 'mwmVisit')}[5]"]
    one, other = reader.files(stars)
    assert (root / one).is_file()
    assert other == one.replace("mwmStar", "mwmVisit")
    with_aspcap = aspcap.files(stars)
    assert with_aspcap[:2] == [one, other]
    assert with_aspcap[2].endswith(f"astraStarASPCAP-0.6.0-{star['sdss_id']}.fits")


# --- one spectrum: pixels -----------------------------------------------------------------------------------


def pixels(**changed):
    """Flux 2 and S/N 100 of a continuum of 4, with values changed at pixels: name=(pixel, value)."""
    arrays = {
        "flux": np.full(N_PIXELS, 2.0), "ivar": np.full(N_PIXELS, 1e4 / 16), "pixel_flags": np.zeros(N_PIXELS)
    }  # fmt: skip
    for name, (pixel, value) in changed.items():
        arrays[name][pixel] = value
    return arrays


def test_flux_and_error_are_shares_of_the_continuum():
    read = measured(pixels(), np.full(N_PIXELS, 4.0), BAD, 0.005)
    assert (read.flux == 0.5).all()
    assert read.valid.all()
    np.testing.assert_allclose(read.error, 0.01, rtol=1e-6)


@pytest.mark.parametrize("bit", range(15))
def test_bad_bits_and_sky_lines_are_masked_and_persistence_tellurics_and_ghosts_are_not(bit):
    read = measured(pixels(pixel_flags=(7, np.float32(1 << bit))), np.full(N_PIXELS, 4.0), BAD, 0.0)
    assert read.valid[7] == (bit in (8, 9, 10, 11, 13))
    assert read.valid.sum() >= N_PIXELS - 1


@pytest.mark.parametrize("value", [0.0, np.nan, -1.0])
def test_there_is_no_spectrum_where_there_is_no_continuum(value):
    continuum = np.full(N_PIXELS, 4.0)
    continuum[100] = value
    read = measured(pixels(), continuum, BAD, 0.0)
    assert not read.valid[100]
    assert read.flux[100] == 0
    assert np.isfinite(read.flux).all()


@pytest.mark.parametrize(
    ("name", "value"), [("flux", np.nan), ("flux", np.inf), ("ivar", 0.0), ("pixel_flags", np.nan)]
)
def test_what_is_not_finite_is_masked(name, value):
    assert not measured(pixels(**{name: (3, value)}), np.full(N_PIXELS, 4.0), BAD, 0.0).valid[3]


def test_an_ivar_of_1e_20_is_an_error_that_no_censoring_trusts():
    read = measured(pixels(ivar=(3, 1e-20)), np.full(N_PIXELS, 4.0), BAD, 0.005)
    assert read.error[3] > 1e9


def test_errors_have_the_floor_that_is_asked_for():
    bright = pixels(ivar=(slice(None), 1e12))
    assert measured(bright, np.full(N_PIXELS, 4.0), BAD, 0.005).error.max() == np.float32(0.005)
    assert measured(bright, np.full(N_PIXELS, 4.0), BAD, 0.0).error.max() < 1e-6


# --- the tree as the archive has it -------------------------------------------------------------------------


def test_paths_have_the_last_four_digits_and_sums_prove_the_files(root):
    files = sorted((root / "dr19/spectro/astra/0.6.0/spectra/star").rglob("*.fits"))
    assert len(files) > 200
    for path in files[:5]:
        sdss_id = int(path.stem.split("-")[-1])
        assert path.parent.parts[-2:] == (f"{sdss_id % 10000:04d}"[:2], f"{sdss_id % 10000:04d}"[2:])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with fits.open(path, checksum=True) as hdus:
                assert [hdu.name for hdu in hdus[1:]] == ["BOSS/APO", "BOSS/LCO", "APOGEE/APO", "APOGEE/LCO"]
                assert sum(len(hdu.data) for hdu in hdus[1:]) >= 1
                assert all("DATASUM" in hdu.header for hdu in hdus[1:])
                filled = next(hdu for hdu in hdus[3:] if len(hdu.data))
                assert filled.columns["pixel_flags"].format == "8575E"
                assert np.nanmedian(filled.data["flux"]) > 2  # not normalised


def test_a_damaged_file_does_not_add_up(root, tmp_path):
    content = bytearray((root / SUMMARY).read_bytes())
    content[-2000] ^= 1
    (tmp_path / "damaged.fits").write_bytes(content)
    with pytest.warns(AstropyUserWarning) as told, fits.open(tmp_path / "damaged.fits", checksum=True) as hdus:
        assert hdus[2].data is not None
    assert any("Datasum verification failed" in str(each.message) for each in told)


# --- what is read of it -------------------------------------------------------------------------------------


def test_the_store_has_the_stars_with_abundances_extinction_and_members(store, labels):
    stars = store.field.stars
    assert len(store.members.stars) > 150
    row = {int(label["sdss_id"]): label for label in labels if label["flag_bad"] == 0}[int(stars.id[0])]
    assert stars["TIII_H"][0] == pytest.approx(row["ti_2_h"])
    assert stars["CI_H_ERR"][0] == pytest.approx(row["e_c_1_h"])
    assert stars.extinction[0] == pytest.approx(0.352 * row["ebv_rjce_allwise"])
    assert stars["gaia_dr3_source_id"].dtype == np.int64
    assert int(stars["gaia_dr3_source_id"][0]) == 4_123_456_789_000_000_001 + 2 * int(stars.id[0])
    assert np.isfinite(stars["MEANFIB"]).all()
    assert {"-1"}.isdisjoint(stars.id.tolist())


def test_labels_belong_to_the_co_add_that_mwmstar_holds(store, labels):
    """A DR17 row of better S/N does not win over SDSS-V's; its labels are listed, not used."""
    superseded = [star for star, cut, _ in store.removed if cut == "label of another co-add"]
    assert len(superseded) == store.selection[1]["removed"] > 10
    assert {*superseded} <= {*map(str, labels["sdss_id"])}
    assert len(problems(store)) < 10  # these are no bad files
    assert store.selection[1]["cut"] == "label of another co-add"
    both = [i for i in set(labels["sdss_id"]) if len({*labels["release"][labels["sdss_id"] == i]}) == 2 and i > 0]
    for star in set(map(str, both)) & {*store.field.stars.id.tolist()}:
        row = store.field.stars[store.field.stars.id == star]
        dr17 = labels[(labels["sdss_id"] == int(star)) & (labels["release"] == "dr17")]
        if str(row["telescope"][0]) in set(dr17["telescope"]) and len(dr17) == 1:
            assert row["release"][0] == "sdss5"
            assert dr17["snr"][0] != pytest.approx(row.snr[0])


def test_a_file_with_another_co_add_than_its_labels_is_a_problem_and_so_is_a_missing_one(store):
    told = problems(store)
    other = [problem for problem in told if problem.startswith("label of another co-add: dr17")]
    assert len(other) == 1
    assert "the file holds sdss5" in other[0]
    assert told.count("missing file") == 1


def test_the_other_observatory_s_co_add_is_a_repeat(store):
    repeats = store.repeats.stars
    assert len(repeats) > 0
    everyone = {**dict(zip(store.field.stars.id, store.field.stars["telescope"], strict=True)),
                **dict(zip(store.members.stars.id, store.members.stars["telescope"], strict=True))}  # fmt: skip
    for star, telescope in zip(repeats.repeat_of, repeats["telescope"], strict=True):
        assert str(telescope)[:3] != str(everyone[star])[:3]


def test_visits_are_repeats_whose_mean_is_the_co_add(root, tmp_path):
    told = survey(root, "survey.repeats.observations=visits", "survey.repeats.columns=[spectrum_flags]",
                  "survey.error_floor=0", "+survey.cuts.few={column: snr, above: 400}")  # fmt: skip
    store = ingest(told, tmp_path / "store")
    field = store.field
    star = field.stars.id[0]
    rows = np.flatnonzero(store.repeats.stars.repeat_of == star)
    assert len(rows) == field.stars["n_visits"][0]
    assert store.repeats.stars.are_parts
    assert store.repeats.stars.id[rows[0]].startswith(f"{star}#")
    flux, valid, sigma = field.read(np.array([0]))
    seen, seen_valid, seen_sigma = store.repeats.read(rows.astype(np.int64))
    good = valid[0].numpy() & seen_valid.numpy().all(axis=0)
    assert good.sum() > 3000
    np.testing.assert_allclose(seen.numpy().mean(axis=0)[good], flux[0].numpy()[good], atol=2e-6)
    np.testing.assert_allclose(seen_sigma[0].numpy()[good], sigma[0].numpy()[good] * np.sqrt(len(rows)), rtol=1e-4)
    with pytest.raises(InputError, match=r"none of \d+ stars has a visit"):
        ingest(survey(root, "survey.repeats.observations=visits", "survey.visit=nowhere"), tmp_path / "none")


def test_survey_repeats_says_which_in_one_word(root):
    assert survey(root, "survey.repeats=visits").repeats.observations == "visits"
    with pytest.raises(InputError, match="coadds or visits"):
        RepeatRule.of("nights")


def test_aspcap_s_continuum_is_another_way_to_the_same_spectrum(root):
    nmf, aspcap = survey(root).reader, survey(root, "survey.continuum=aspcap").reader
    star = next(a_star(nmf, n) for n in range(20) if a_star(nmf, n)["release"] == "sdss5")
    one, other = nmf.read(star), aspcap.read(star)
    both = one.valid & other.valid
    np.testing.assert_allclose(one.flux[both], other.flux[both], rtol=1e-6)
    chips = np.zeros(N_PIXELS, dtype=bool)
    for chip in CHIPS.values():
        chips[slice(*chip)] = True
    assert not (other.valid & ~chips).any()
    assert not one.valid[3266:3274].any()  # on the blue chip, without a continuum of NMF's


def test_a_catalogue_compressed_is_read_as_it_is_with_advice(copied, root, caplog):
    plain = survey(root).reader.list_stars(["sdss_id", "teff", "X_H"]).stars
    (copied / f"{SUMMARY}.gz").write_bytes(gzip.compress((copied / SUMMARY).read_bytes(), 1))
    (copied / SUMMARY).unlink()
    with caplog.at_level(logging.WARNING):
        zipped = survey(copied).reader.list_stars(["sdss_id", "teff", "X_H"]).stars
    assert (zipped["sdss_id"] == plain["sdss_id"]).all()
    np.testing.assert_array_equal(zipped["FE_H"], plain["FE_H"])
    assert "gunzip it" in caplog.text


def test_dr20_is_the_same_tree_below_another_folder(root, tmp_path):
    (tmp_path / "dr20").symlink_to(root / "dr19")
    listed = survey(tmp_path, name="sdss_dr20").reader.list_stars(["sdss_id"])
    assert len(listed.stars) == len(survey(root).reader.list_stars(["sdss_id"]).stars)


def test_the_mixture_of_extinctions_is_used_only_where_it_is_asked_for_and_warned_of(root, caplog):
    reader = survey(root, "survey.reddening=ebv_sfd", "survey.a_k_per_ebv=0.3").reader
    listed = reader.list_stars(["A_K", "ebv_sfd"]).stars
    np.testing.assert_allclose(listed["A_K"], 0.3 * listed["ebv_sfd"])
    assert "mixes" not in caplog.text
    survey(root, "survey.reddening=ebv")
    assert "mixes several scales" in caplog.text


def test_abundances_that_astra_calls_bad_can_be_left_out(root, tmp_path):
    table = Table.read(root / SUMMARY, hdu=2)
    table["fe_h_flags"][0] = 1 << 7
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(), fits.BinTableHDU(table.as_array())]).writeto(
        tmp_path / "a.fits"
    )
    assert np.isfinite(read_labels(tmp_path / "a.fits", ["X_H"])["FE_H"][0])
    assert np.isnan(read_labels(tmp_path / "a.fits", ["X_H"], bad_bits=[5, 6, 7, 8])["FE_H"][0])


# --- what goes wrong ----------------------------------------------------------------------------------------


def test_names_in_another_case_and_an_excerpt_with_its_table_in_hdu_1_are_read(root, tmp_path):
    table = Table.read(root / SUMMARY, hdu=2)[:9]
    table.rename_columns(table.colnames, [name.upper() for name in table.colnames])
    table.write(tmp_path / "excerpt.fits")
    assert len(read_labels(tmp_path / "excerpt.fits", ["sdss_id", "flag_bad", "X_H", "X_H_ERR"])) == 9


def test_a_table_of_the_archive_that_lacks_a_column_says_which_has_it(root, tmp_path):
    table = Table.read(root / SUMMARY, hdu=2)[:9]
    table.remove_column("flag_bad")
    table.write(tmp_path / "lite.fits")
    with pytest.raises(InputError, match=r"no column flag_bad; astraAllStarASPCAP has it, in the folder summary"):
        read_labels(tmp_path / "lite.fits", ["flag_bad"])
    Table({"apogee_id": ["2M"]}).write(tmp_path / "allStar.fits")
    with pytest.raises(InputError, match=r"got HDU 1 of 1 rows; is it astraAllStarASPCAP"):
        read_labels(tmp_path / "allStar.fits", ["sdss_id"])


def test_a_file_of_another_star_or_grid_or_without_a_spectrum_there_is_told(root, tmp_path):
    reader = survey(root).reader
    star = a_star(reader)
    path = root / str(star["FILE"]).split("[")[0]

    def changed(change):
        with fits.open(path) as hdus:
            change(next(hdu for hdu in hdus[3:] if len(hdu.data)))
            hdus.writeto(tmp_path / "changed.fits", overwrite=True)
        other = survey(tmp_path, "survey.spectrum=changed.fits").reader
        star["FILE"] = "changed.fits[3]"
        return other.read(star)

    with pytest.raises(UnusableFileError, match="file of another star"):
        changed(lambda hdu: hdu.data["sdss_id"].fill(7))
    with pytest.raises(UnusableFileError, match="wrong grid"):
        changed(lambda hdu: hdu.data["wavelength"].__iadd__(0.1))
    with pytest.raises(UnusableFileError, match=r"wrong grid \(log wavelength from 4\.2"):
        changed(lambda hdu: hdu.header.set("CRVAL", 4.2))
    with pytest.raises(UnusableFileError, match=r"no continuum \(nmf\)"):
        changed(lambda hdu: hdu.data["continuum"].fill(0))
    star["telescope"] = "lco25m" if str(star["telescope"]).startswith("apo") else "apo25m"
    with pytest.raises(UnusableFileError, match="no spectrum of"):
        changed(lambda hdu: hdu)


def test_a_continuum_that_failed_is_a_problem_unless_it_is_asked_for(copied):
    reader = survey(copied).reader
    stars = reader.describe(listed := reader.list_stars([]).stars[:3], np.arange(3), [])
    del listed
    star = stars[0]
    path = copied / str(star["FILE"]).partition("[")[0]
    with fits.open(path) as hdus:
        for hdu in hdus[3:5]:
            if hdu.data is not None and len(hdu.data):
                hdu.data["nmf_flags"] = 4
        hdus.writeto(path, overwrite=True)
    with pytest.raises(UnusableFileError, match=r"its NMF continuum failed \(nmf_flags=4; survey.failed_continuum=use"):
        reader.read(star)
    assert survey(copied, "survey.failed_continuum=use").reader.read(star).valid.any()
    assert survey(copied, "survey.continuum=aspcap").reader.read(star).valid.any()
    with pytest.raises(InstantiationException, match=r"survey\.failed_continuum must be leave_out or use, got 'keep'"):
        survey(copied, "survey.failed_continuum=keep")


def test_the_command_takes_survey_repeats_as_one_word():
    usual = OmegaConf.create({"survey": {"repeats": {"columns": ["snr"]}}})
    require_kinds(OmegaConf.create({"survey": {"repeats": "visits"}}), usual)
