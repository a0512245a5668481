"""GALAH-like and LAMOST-like data through `rsca ingest`, `compare`, `fit` and `embed`."""

from __future__ import annotations

import json

import numpy as np
import pytest
from astropy.table import Table
from other_surveys import NUMBER, write_galah, write_lamost

from rsca_torch.cli.main import main
from rsca_torch.survey.store import Store

pytestmark = [
    pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning"),  # a small survey drops dimensions
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]

SMALL = ["compressor.n_components=3", "learner.robust=false", "learner.floor=none"]
GALAH = [
    "survey=galah_dr3",
    "survey.root=galah",
    "survey.description.stars.path=catalogue.fits",
    "survey.description.grid.resample={start: 4850, step: 1.0e-5, n: 20300, log: true}",
    "survey.description.arms.1.range=[4852, 4876]",
    "survey.description.arms.2.range=[5882, 5905]",
    "survey.description.arms.3.range=[6553, 6577]",
    "survey.description.arms.4.range=[7713, 7730]",
    "survey.roles.group=family",
    "survey.roles.snr=null",
    "survey.cuts=null",
]
LAMOST = [
    "survey=lamost_lrs",
    "survey.root=lamost",
    "survey.description.arms.all.range=[6210, 7050]",
    "survey.description.grid.resample={start: 6200, step: 2.0e-4, n: 280, log: true}",
    "survey.roles.group=family",
    "survey.roles.snr=null",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("surveys")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        yield path


@pytest.fixture(scope="module")
def galah(folder):
    stars = write_galah(folder / "galah")
    assert main(["ingest", *GALAH, "store=galah_store"]) == 0
    return stars, Store.open(folder / "galah_store")


def test_a_galah_like_survey_comes_in(galah):
    stars, store = galah
    assert store.stars.id.tolist() == [str(NUMBER + row) for row in range(len(stars))], "int64, to the last digit"
    assert store.stars.group.tolist() == stars["family"].tolist()
    assert list(store.segments) == ["1", "2", "3", "4"]
    spectra = store.spectra()
    assert float(spectra.valid.double().mean()) > 0.9
    core, beside = (abs(store.wavelength - at).argmin() for at in (6564.61, 6570.0))
    sigma = np.nanmedian(np.where(spectra.valid, spectra.sigma, np.nan), axis=0)
    assert sigma[core] == pytest.approx(sigma[beside], rel=0.15), "the file's error is relative to the flux"


def test_a_line_of_air_and_another_frame_is_where_it_is_in_vacuum_at_rest(galah):
    _, store = galah
    spectra = store.spectra()
    flux = np.where(spectra.valid, spectra.flux, np.nan)
    wavelength = np.asarray(spectra.wavelength)
    for line in (4862.68, 6564.61):
        near = abs(wavelength - line) < 1.2
        depth = np.nanmean(1 - flux[:, near], axis=0)
        half = np.abs(wavelength[near] - line) < 1.2
        centre = (wavelength[near][half] * depth[half]).sum() / depth[half].sum()
        assert abs(centre - line) < 0.05, "the weak lines beside pull it"


def test_galah_s_ratios_to_iron_become_abundances_where_neither_has_a_flag(galah):
    stars, store = galah
    good = (stars["flag_Mg_fe"] == 0) & (stars["flag_fe_h"] == 0)
    assert 0 < good.sum() < len(stars)
    np.testing.assert_allclose(store.stars["MG_H"][good], (stars["Mg_fe"] + stars["fe_h"])[good])
    assert np.isnan(store.stars["MG_H"][~good]).all()
    np.testing.assert_allclose(store.stars["TI2_H_ERR"], np.hypot(0.04, 0.05))
    assert np.isnan(store.stars["FE_H"][stars["flag_fe_h"] == 1]).all()
    assert "fe_h" not in store.stars.colnames, "FITS has no case"


@pytest.mark.usefixtures("galah")
def test_how_many_stars_lack_a_camera_is_said(folder, caplog):
    few = Table.read(folder / "galah" / "catalogue.fits")[:8]
    few.write(folder / "galah" / "few.fits")
    for star in few["sobject_id"][:2]:
        (folder / "galah" / f"{star}4.fits").rename(folder / "galah" / f"{star}4.away")
    given = [*GALAH, "survey.description.stars.path=few.fits", "survey.roles.group=null"]
    assert main(["ingest", *given, "store=lacking"]) == 0
    assert "2 of 8 spectra have no valid bin in 4: a missing or bad arm" in caplog.text
    assert len(Store.open(folder / "lacking")) == 8
    assert "valid bin in 3" not in caplog.text
    for star in few["sobject_id"][:2]:
        (folder / "galah" / f"{star}4.away").rename(folder / "galah" / f"{star}4.fits")
    assert main(["ingest", *given, "survey.description.missing_arms=refuse", "store=whole"]) == 0


def rates(folder):
    results = json.loads((folder / "results.json").read_text())["results"]
    return {one["learner"]: one["doppelganger_rate"] for one in results if one["held_out"]}


@pytest.mark.usefixtures("galah")
def test_galah_like_stars_are_compared_fitted_and_embedded(folder, caplog):
    assert main(["compare", "store=galah_store", "out=galah_run", "figures=false", *SMALL]) == 0
    said = caplog.text
    assert said.count("no column plays the role extinction: pairs are compared whatever theirs") == 1
    assert "abundances left out" in said
    found = rates(folder / "galah_run")
    assert found["rsca"] < found["raw"] / 2
    assert main(["fit", "store=galah_store", "out=galah.safetensors", *SMALL]) == 0
    assert main(["embed", "store=galah_store", "model=galah.safetensors", "out=galah.fits"]) == 0
    assert len(Table.read(folder / "galah.fits")) == 150


@pytest.fixture(scope="module")
def lamost(folder):
    write_lamost(folder / "lamost")
    return folder


def test_lamost_like_stars_are_compared_fitted_and_embedded(lamost):
    folder = lamost
    assert main(["ingest", *LAMOST, "store=lamost_store"]) == 0
    store = Store.open(folder / "lamost_store")
    spectra = store.spectra()
    assert 0.95 < float(np.nanmedian(np.where(spectra.valid, spectra.flux, np.nan))) < 1.01
    assert main(["compare", "store=lamost_store", "out=lamost_run", "figures=false", *SMALL]) == 0
    found = rates(folder / "lamost_run")
    assert found["rsca"] < found["raw"]
    assert main(["fit", "store=lamost_store", "out=lamost.safetensors", *SMALL]) == 0
    assert main(["embed", "store=lamost_store", "model=lamost.safetensors", "out=lamost.fits"]) == 0
    assert len(Table.read(folder / "lamost.fits")) == 150


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["survey.description.arms.all.flux=FLUKS"],
            "none of 16 spectra that were looked at can be used; the first is spec-56000-GAC1_sp03-000.fits: no",
        ),
        (["survey.description.continuum=null"], "normalised=false: name a normaliser, as continuum: {method: running"),
        (
            ["survey.description.continuum=null", "survey.description.normalised=true"],
            "divided by their continua it would be about 1",
        ),
        (["+survey.description.colour=red"], "description has no key colour; there are layout, spectrum, arms"),
        (["survey.roles.id=rv"], "ids in rv are floating point or missing: whole numbers (int64) or text expected"),
    ],
    ids=["column", "normaliser", "level", "key", "id"],
)
def test_bad_descriptions_end_in_one_sentence(lamost, capfd, options, message):
    assert main(["ingest", *LAMOST, "store=bad", *options]) == 2
    assert message in " ".join(capfd.readouterr().err.split())
    assert not (lamost / "bad").exists()


@pytest.mark.usefixtures("galah")
def test_another_medium_than_said_is_told_by_the_lines(caplog):
    options = [option for option in GALAH if option != "survey.cuts=null"]
    options += ["survey.cuts.flag_sp.column=sobject_id", f"survey.cuts.flag_sp.below={NUMBER + 20}"]  # some stars do
    assert main(["ingest", *options, "store=wrong", "survey.description.wavelength.medium=vacuum"]) == 0
    said = caplog.text
    assert "as where air is taken for vacuum: is wavelength.medium=air?" in said
