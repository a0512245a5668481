"""The simulated survey is what the archive holds, byte for byte where it matters, and behaves like giants."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from rsca_torch.errors import InputError
from rsca_torch.survey.apogee import CHIPS, ELEMENTS, GRID, read_spectrum, wavelength
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.simulated import Detector, Population, SimulatedSurvey, Synthesis
from rsca_torch.survey.simulated.fits_bytes import card
from rsca_torch.survey.simulated.release import RELEASES
from rsca_torch.survey.simulated.spectra import LIGHT
from rsca_torch.survey.simulated.tables import CLUSTERS, LINES, SKY_LINES, SPECIES

CONF = Path(__file__).parents[2] / "conf"
DR16 = RELEASES["dr16"]
OCCAM = "dr16/apogee/vac/apogee-occam/occam_{}-DR16.fits"
IN_CHIP = np.r_[tuple(slice(*chip) for chip in CHIPS.values())]
SMALL = SimulatedSurvey(n_field=40, repeats=0)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("simulated") / "sas"
    SMALL.write(root, seed=1)
    return root


@pytest.fixture(scope="module")
def truth(root):
    return read_truth(root)


@pytest.fixture(scope="module")
def catalogue(root):
    with fits.open(root / DR16.catalogue, character_as_bytes=True) as hdus:
        yield hdus


def read_truth(root):
    return Table.read(root / "truth.fits").filled("")


def path_of(root, star, release=DR16):
    return root / release.spectrum.format(**{name: str(star[name]).strip() for name in star.colnames if name.isupper()})


def observation(n=60, **labels):
    """n equal stars, changed where labels say so: the rest of what a Synthesis and a Detector ask for."""
    stars = SMALL.stars.draw(40, np.random.default_rng(0))
    stars = stars[stars["ROLE"] == "field"][np.zeros(n, dtype=int)]
    stars["BC"] = 0.0
    for name, values in labels.items():
        stars[name] = values
    return stars


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# --- configuration -------------------------------------------------------------------------------------------------


def test_the_configuration_says_what_the_constructors_default_to():
    with initialize_config_dir(str(CONF), version_base=None):
        survey = instantiate(compose(overrides=["+simulation=giants"]).simulation)

    def listed(value):
        return [listed(item) for item in value] if isinstance(value, list | tuple) else value

    default = SimulatedSurvey()
    for part in ("stars", "again", "companions", "pipeline", "synthesis", "faint_lines", "detector"):
        ours, yaml = vars(getattr(default, part)), vars(getattr(survey, part))
        assert {name: listed(value) for name, value in ours.items()} == yaml
    for name in ("n_field", "release", "faults", "repeats"):
        assert getattr(survey, name) == getattr(default, name)


def test_the_tables_hold_the_paper_s_clusters_and_the_release_s_species():
    assert len(CLUSTERS) == 22
    assert CLUSTERS["members"].sum() == 185
    assert list(SPECIES["element"]) == ELEMENTS["dr16"]
    assert set(LINES["species"]) <= set(SPECIES["element"])


def test_the_line_table_carries_the_measured_figures():
    shared = Path(__file__).parents[2].parent / "shared" / "data" / "giant_lines.csv"
    if not shared.exists():
        pytest.skip("needs the shared folder with giant_lines.csv beside the repository")
    measured = Table.read(shared, format="ascii.csv", comment="#")
    for name in ("wavelength", "depth", "d_teff_100k", "d_logg", "d_m_h", "d_alpha_m"):
        np.testing.assert_array_equal(LINES[name], measured[name])
    named = np.array([str(name) not in {"", "--"} for name in measured["element"]])
    ours = named & (LINES["in_window"] == 1)
    assert ours.sum() >= named.sum() - 10  # a few windows' neighbours are given to a catalogued line instead
    assert (LINES["species"][ours] == measured["element"][ours]).all()


@pytest.mark.parametrize(
    ("arguments", "message"), [({"release": "dr8"}, "dr16, dr17.*'dr8'"), ({"n_field": 2}, "at least 6, got 2")]
)
def test_impossible_surveys_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        SimulatedSurvey(**arguments)


# --- writing -------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes(root, tmp_path):
    SMALL.write(tmp_path / "again", seed=1)
    SMALL.write(tmp_path / "other", seed=2)
    first = digest(root)
    assert first == digest(tmp_path / "again")
    other = digest(tmp_path / "other")
    same = [name for name, content in first.items() if other.get(name) == content]
    assert same == [OCCAM.format("cluster")]  # published figures


def test_a_place_that_holds_something_is_refused(root, tmp_path):
    with pytest.raises(InputError, match="holds something already"):
        SMALL.write(root, seed=1)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="holds something already"):
        SMALL.write(tmp_path / "file", seed=1)
    with pytest.raises(InputError, match=r"cannot be written \(.*\); choose another place"):
        SMALL.write(tmp_path / "file" / "sas", seed=1)


def test_an_interrupted_survey_does_not_look_complete(tmp_path, monkeypatch):
    class StopError(Exception):
        pass

    def stop(*_):
        raise StopError

    monkeypatch.setattr(Detector, "expose", stop)
    with pytest.raises(StopError):
        SMALL.write(tmp_path / "sas", seed=1)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    SMALL.write(tmp_path / "sas", seed=1)
    assert (tmp_path / "sas" / "truth.fits").exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "sas"]


# --- spectra as files ----------------------------------------------------------------------------------------------


def test_a_spectrum_has_the_archive_s_layout(root, truth):
    path = path_of(root, truth[truth["ROLE"] == "member"][0])
    raw = path.read_bytes()
    assert len(raw) == 135_360
    assert [raw[start : start + 8] for start in (0, 2880, 40_320, 77_760, 115_200)] == [b"SIMPLE  ", *[b"XTENSION"] * 4]
    with fits.open(path) as hdus:
        assert [hdu.header["BITPIX"] for hdu in hdus] == [16, -32, -32, -32, 8]
        for hdu in hdus[1:4]:
            assert hdu.data.dtype == ">f4"
            assert hdu.shape == (8575,)
            assert "EXTNAME" not in hdu.header
            steps = [hdu.header[name] for name in ("CRVAL1", "CDELT1", "CRPIX1", "CTYPE1", "DC-FLAG")]
            assert steps == [4.179, 6e-6, 1, "LOG-LINEAR", 1]
        assert len(hdus[4].data) == 1
        assert "DATE" not in hdus[0].header


def test_gaps_hold_zero_and_bad_bins_zero_and_ten(root, truth):
    gap = np.ones(8575, dtype=bool)
    gap[IN_CHIP] = False
    for star in truth[truth["ROLE"] == "member"][:40]:
        with fits.open(path_of(root, star)) as hdus:
            flux, error, fit = (hdu.data for hdu in hdus[1:4])
        assert not flux[gap].any()
        assert not error[gap].any()
        assert not fit[gap].any()
        np.testing.assert_array_equal(flux[IN_CHIP] == 0, error[IN_CHIP] == 10)
        assert error[IN_CHIP].min() >= np.float32(0.005)
        assert flux[IN_CHIP][flux[IN_CHIP] > 0].min() >= 0.001
        assert 0.003 < (error[IN_CHIP] == 10).mean() < 0.04


def assert_no_faulty_error(root):
    censoring = Censoring()
    trusted = censoring.trusted_bins(GRID)
    files = list(root.rglob("aspcapStar*.fits"))
    assert files
    for file in files:
        flux, error = read_spectrum(file)
        assert censoring.faulty_errors(flux[trusted], error[trusted]) == (0, 0, 0)


def test_no_error_is_faulty_where_there_is_a_flux(root):
    assert_no_faulty_error(root)


def test_some_headers_hold_the_illegal_card(root, truth):
    assert card("AKTARG", float("nan"), "Targeting extinction") == (
        "AKTARG  =                  NAN / Targeting extinction".ljust(80)
    )
    raw = [path_of(root, star).read_bytes()[:2880] for star in truth[truth["ROLE"] == "no_extinction"]]
    assert all(b"AKTARG  =                  NAN" in header for header in raw)


def test_string_widths_differ_between_files(root, truth):
    widths = set()
    for star in truth[truth["ROLE"] == "field"][:30]:
        with fits.open(path_of(root, star)) as hdus:
            widths.add(hdus[4].columns["VISITS"].format)
    assert len(widths) > 1


def test_only_stars_without_a_result_have_no_file(root, truth):
    missing = [str(star["ROLE"]) for star in truth if not path_of(root, star).exists()]
    assert missing == ["failed"] * SMALL.stars.traps


# --- catalogue -----------------------------------------------------------------------------------------------------


def test_all_star_has_its_four_hdus_and_the_index_of_right_ascension(catalogue):
    stars = catalogue[1].data
    assert [type(hdu).__name__ for hdu in catalogue] == ["PrimaryHDU", "BinTableHDU", "ImageHDU", "BinTableHDU"]
    assert (np.diff(stars["RA"]) >= 0).all()
    assert catalogue[2].data.dtype == ">i4"
    np.testing.assert_array_equal(catalogue[2].data, np.searchsorted(stars["RA"], np.arange(360)))
    symbols = catalogue[3].data["ELEM_SYMBOL"][0]
    assert [bytes(symbol).decode().strip() for symbol in symbols.ravel()] == ELEMENTS["dr16"]
    assert stars["PARAM_COV"].shape[1:] == (9, 9)
    assert stars["FPARAM_CLASS"].shape[1:] == (23, 9)


def test_text_is_padded_with_blanks_and_flags_wear_their_sign(root, catalogue):
    stars = catalogue[1].data
    assert catalogue[1].columns["FIELD"].format == "16A"
    start = catalogue[1].fileinfo()["datLoc"]
    raw = (root / DR16.catalogue).read_bytes()[start : start + 64]
    assert raw.startswith(b"apogee.")
    assert raw.endswith(b" ")
    assert b"\0" not in raw
    assert stars["ASPCAPFLAG"].dtype == ">i4"
    negative = stars["ASPCAPFLAG"] < 0
    assert negative.sum() == 2 * SMALL.stars.traps
    assert ((stars["ASPCAPFLAG"][negative] & (1 << 23)) != 0).all()


def test_missing_values_are_the_release_s_sentinels(catalogue, truth):
    stars = catalogue[1].data
    failed, fast = truth["ROLE"] == "failed", truth["VHELIO"] > 120
    assert (stars["TEFF"][failed] == np.float32(-9999.99)).all()
    assert (stars["AK_TARG"][truth["ROLE"] == "no_extinction"] == np.float32(-9999.99)).all()
    cerium = stars["X_H"][:, ELEMENTS["dr16"].index("Ce")]
    assert (cerium[fast] == np.float32(-9999.99)).all()
    assert (cerium[~fast & (truth["ROLE"] == "field")] > -900).all()
    assert (stars["X_H"][:, ELEMENTS["dr16"].index("Ge")] == np.float32(-9999.99)).all()


def test_duplicates_are_marked_and_share_the_id(catalogue, truth):
    again = truth["ROLE"] == "duplicate"
    np.testing.assert_array_equal((catalogue[1].data["EXTRATARG"] & 16) != 0, again)
    for star in truth[again]:
        first = truth[(truth["APOGEE_ID"] == star["APOGEE_ID"]) & ~again]
        assert len(first) == 1
        assert first["FIELD"][0] != star["FIELD"]
    assert set(truth["CLUSTER"][again]) > {""}  # of field stars and of members


def test_visits_name_plate_night_and_fibre(catalogue, truth):
    visits = np.char.strip(np.asarray(catalogue[1].data["VISITS"]).astype(str))
    members = (truth["CLUSTER"] == "NGC 6791") & (truth["ROLE"] == "member")
    nights = {tuple(visit.split("-")[2] for visit in text.split(",")) for text in visits[members]}
    assert len(nights) == 1  # stars of a cluster share their nights
    assert all(text.startswith("r12-") for text in visits)
    one_metre = truth["ROLE"] == "one_metre"
    assert (catalogue[1].data["LOCATION_ID"][one_metre] == 1).all()
    assert all(text.split(",")[0].split("-")[2].startswith("2M") for text in visits[one_metre])


def test_further_plates_of_a_cluster_change_its_nights_and_nothing_else():
    one, two = (Population(cluster_plates=number).draw(40, np.random.default_rng(1)) for number in (1, 2))
    assert {name for name in one.colnames if not np.array_equal(one[name], two[name])} == {
        "PLATE",
        "MJD",
        "BC",
        "NIGHT",
    }
    plates = {}
    for star in two[two["ROLE"] == "member"]:
        plates.setdefault(star["CLUSTER"], set()).add((star["PLATE"][0], star["FIELD"], *star["NIGHT"]))
    assert {len(plates[cluster]) for cluster in ("NGC 188", "NGC 6791", "NGC 6819")} == {2}
    assert len({night for cluster in plates.values() for plate in cluster for night in plate[2:]}) == 3 * sum(
        len(cluster) for cluster in plates.values()
    )
    rest = one["ROLE"] == "field"
    assert all((one[name][rest] == two[name][rest]).all() for name in ("PLATE", "MJD", "BC", "NIGHT"))
    with pytest.raises(InputError, match="cluster_plates must be at least 1, got 0"):
        Population(cluster_plates=0)


def test_the_short_catalogue_lacks_the_wide_columns(root, catalogue):
    with fits.open(root / DR16.folder / "allStarLite-r12-l33.fits") as hdus:
        assert len(hdus) == 2
        short = set(hdus[1].columns.names)
    assert not {"VISITS", "PARAM", "LOCATION_ID", "FILE"} & short
    assert {"X_H", "ASPCAPFLAG", "AK_TARG"} <= short < set(catalogue[1].columns.names)


# --- memberships ---------------------------------------------------------------------------------------------------


def test_memberships_are_padded_with_nul_and_come_in_steps(root, truth):
    with fits.open(root / OCCAM.format("member")) as hdus:
        header, members, start = hdus[1].header, Table(hdus[1].data), hdus[1].fileinfo()["datLoc"]
    assert header["NAXIS1"] == 151
    raw = (root / OCCAM.format("member")).read_bytes()[start : start + 13]
    assert raw.endswith(b"\0")
    assert b" \0" not in raw
    probability = members["CG_PROB"]
    np.testing.assert_allclose(probability[probability > -1] * 10 % 1, 0, atol=1e-9)
    assert {-9999.99, 0.4, 0.8} <= set(probability)
    sure = members[probability > 0.8]
    assert len(sure) == 185 + 3  # the lone member, the dwarf and the one the authors took out
    assert (members["CLUSTER"] == "IC 166").sum() == 1
    ids, counts = np.unique(members["APOGEE_ID"], return_counts=True)
    assert (counts == 2).sum() == SMALL.stars.traps
    assert "2M19203303+3755558" in set(truth["APOGEE_ID"]) & set(ids)


def test_the_cluster_file_writes_underscores(root):
    with fits.open(root / OCCAM.format("cluster")) as hdus:
        assert hdus[1].header["NAXIS1"] == 461
        names = set(hdus[1].data["NAME"])
        assert np.isnan(hdus[1].data["PMRA"]).all()
    assert names == {name.replace(" ", "_") for name in CLUSTERS["cluster"]}


# --- physics -------------------------------------------------------------------------------------------------------


def test_members_share_their_birth_but_not_their_surface(truth):
    members = truth[truth["ROLE"] == "member"]
    assert len(members) == 185
    iron, carbon = (ELEMENTS["dr16"].index(name) for name in ("Fe", "C"))
    inside = np.concatenate(
        [
            members["BIRTH_X_H"][members["CLUSTER"] == name]
            - members["BIRTH_X_H"][members["CLUSTER"] == name].mean(axis=0)
            for name in CLUSTERS["cluster"]
        ]
    )
    assert 0.01 < inside[:, iron].std() < 0.03
    assert members["BIRTH_X_H"][:, iron].std() > 0.15
    big = members[members["CLUSTER"] == "NGC 2243"]
    assert np.ptp(big["LOGG"]) > 0.1  # evolution differs inside a cluster
    changed = truth["PRESENT_X_H"] - truth["BIRTH_X_H"]
    assert (changed[:, carbon] < 0).all()
    assert (changed[:, ELEMENTS["dr16"].index("N")] > 0).all()
    np.testing.assert_array_equal(changed[:, iron], 0)


@pytest.mark.parametrize(
    ("sn", "low", "high"), [(30, 0.30, 0.43), (70, 0.13, 0.21), (100, 0.12, 0.17), (200, 0.09, 0.17)]
)
def test_the_censored_share_falls_with_signal_to_noise(sn, low, high):
    stars = observation(SNR=float(sn))
    flux = np.ones((len(stars), 8575), dtype=np.float32)
    _, error = Detector().expose(flux, stars, DR16, np.random.default_rng(0))
    assert low < (error[:, IN_CHIP] > 0.05).mean() < high


def test_the_floor_is_quoted_but_not_felt():
    stars = observation(SNR=1000.0)
    quiet = Detector(sky_fade=50.0, bad_runs=0.0, cosmic_rays=0.0)
    flux, error = quiet.expose(np.ones((60, 8575), dtype=np.float32), stars, DR16, np.random.default_rng(0))
    blue = np.s_[:, 300:3000]
    clean = error[blue] == np.float32(0.005)
    assert clean.mean() > 0.5
    assert flux[blue][clean].std() == pytest.approx(0.00093, rel=0.05)


def test_the_censored_pattern_moves_with_the_star():
    patterns = []
    for velocity in (0.0, 100.0):
        stars = observation(SNR=150.0, VHELIO=velocity)
        _, error = Detector(bad_runs=0.0).expose(np.ones((60, 8575), np.float32), stars, DR16, np.random.default_rng(0))
        patterns.append((error > 0.05).mean(axis=0))
    still, moving = patterns
    shifts = np.arange(-40, 41)
    best = shifts[np.argmax([np.sum(still[500:3000] * moving[500 + s : 3000 + s]) for s in shifts])]
    assert best == round(-np.log10(1 + 100 / LIGHT) / 6e-6)  # to the blue by 24 pixels
    line = SKY_LINES["wavelength"][np.argmin(abs(SKY_LINES["wavelength"] - 15334))]
    assert still[round((np.log10(line) - 4.179) / 6e-6)] > 0.9


def test_the_interstellar_band_grows_with_extinction_and_sits_in_the_gas():
    a_k = np.array([0.0, 0.11, 0.22])
    stars = observation(3, SNR=1e9, AK=a_k, VHELIO=60.0, V_GAS=-20.0)
    quiet = Synthesis(continuum=0.0, night=0.0, persistence=0.0, telluric=0.0)
    rng = np.random.default_rng(0)
    factor = quiet.systematic(stars, np.zeros((stars["NIGHT"].max() + 1, 19)), quiet.draw_own(3, rng), rng)
    near = np.s_[700:950]
    step = np.gradient(wavelength())[near]
    width = ((1 - factor[:, near]) * step).sum(axis=1)
    np.testing.assert_allclose(width, 0.1 * a_k / 0.11, atol=2e-3)
    assert wavelength()[near][np.argmin(factor[2, near])] == pytest.approx(15272.42 * (1 - 80 / LIGHT), abs=0.15)


def test_an_element_deepens_its_own_lines_and_no_others():
    stars = observation(2)
    stars["PRESENT_X_H"][1, ELEMENTS["dr16"].index("Al")] += 0.2
    quiet = Synthesis(turbulence=0.0, broadening=0.0)
    plain = quiet.stellar(stars, quiet.draw_own(2, np.random.default_rng(0)))
    change = plain[1] - plain[0]
    near = np.min(abs(wavelength()[:, None] - LINES["wavelength"][LINES["species"] == "Al"]), axis=1) < 2.5
    assert change[near].min() < -0.01
    np.testing.assert_allclose(change[~near], 0, atol=1e-6)


# --- another release, and damage -----------------------------------------------------------------------------------


def test_dr17_has_its_own_dtypes_sentinels_and_paths(tmp_path):
    dr17 = RELEASES["dr17"]
    replace(SMALL, release="dr17").write(tmp_path / "sas", seed=1)
    assert_no_faulty_error(tmp_path / "sas")
    truth = read_truth(tmp_path / "sas")
    with fits.open(tmp_path / "sas" / dr17.catalogue) as hdus:
        names, stars = hdus[1].columns.names, hdus[1].data
        assert stars["ASPCAPFLAG"].dtype == ">i8"
        assert stars["ASPCAPFLAG"].min() >= 0
        assert stars["X_H"].shape[1] == 27
        assert np.isnan(stars["TEFF"][truth["ROLE"] == "failed"]).all()
    assert "VISITS" not in names
    assert {"ASPCAP_GRID", "VISIT_PK"} <= set(names)
    with fits.open(path_of(tmp_path / "sas", truth[truth["ROLE"] == "member"][0], dr17)) as hdus:
        assert hdus[0].header["VERSION"] == "dr17"
        assert "SNR" not in hdus[0].header
        assert hdus[1].data.dtype == ">f8"
        bad = hdus[2].data > 1e6
        assert bad.sum() > 10
        np.testing.assert_allclose(hdus[1].data[bad], 1e-4, rtol=1e-6)
        assert not (hdus[2].data == 10).any()


def test_faults_damage_six_files_in_six_ways(tmp_path):
    replace(SMALL, faults=True).write(tmp_path / "sas", seed=1)
    truth = read_truth(tmp_path / "sas")
    path = {str(star["FAULT"]): path_of(tmp_path / "sas", star) for star in truth if star["FAULT"]}
    assert set(path) == {"truncated", "web_page", "missing", "all_zero", "wrong_grid", "long_id"}
    assert path["truncated"].stat().st_size == 135_360 // 3
    assert path["web_page"].read_bytes().startswith(b"<!DOCTYPE html>")
    assert not path["missing"].exists()
    assert not path["long_id"].exists()
    assert path["long_id"].with_name(f"{path['long_id'].stem}1.fits").exists()
    with fits.open(path["all_zero"]) as hdus:
        assert not hdus[1].data.any()
    with fits.open(path["wrong_grid"]) as hdus:
        assert hdus[1].header["CRVAL1"] == pytest.approx(4.18)
