"""A survey of one's own costs one file and one YAML: another grid, groups and velocities in the file, no extinction."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from rsca_torch import InputError, Spectra
from rsca_torch.cli.main import main
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.grid import Grid
from rsca_torch.survey.ingest import ingest as ingest_survey
from rsca_torch.survey.reader import Listing, Measured, Reader
from rsca_torch.survey.store import Store
from rsca_torch.survey.survey import Survey

pytestmark = [
    pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning"),  # a small survey drops dimensions
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]

PAGE = (Path(__file__).parents[2] / "docs" / "surveys.md").read_text(encoding="utf-8")
SOURCES = dict(re.findall(r"`([\w./]+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL))

NUMBER = 4_611_686_018_427_387_904  # 2^62: a float of it would be another number for most stars


def write_toy(path):
    """300 field stars, 24 members of four families; a hot star; latents in three directions, families alike in two."""
    rng = np.random.default_rng(0)
    family = np.array([""] * 301 + [name for name in "ABCD" for _ in range(6)])
    latents = rng.normal(size=(len(family), 3))
    for name in "ABCD":
        rows = family == name
        latents[rows] = rng.normal(size=3) + rng.normal(size=(6, 3)) * [0.05, 0.1, 1.0]
    error = rng.uniform(0.01, 0.02, size=(len(family), 40))
    flux = 0.9 + 0.03 * latents @ rng.normal(size=(3, 40)) + error * rng.normal(size=error.shape)
    mask = rng.random(flux.shape) < 0.05
    flux[mask], error[mask] = 0.5, np.where(rng.random(mask.sum()) < 0.5, 0.01, np.nan)
    teff = np.full(len(family), 4500.0)
    teff[7] = 7000.0
    np.savez(
        path, wavelength=np.linspace(5000, 5195, 40), flux=flux, error=error, mask=mask, family=family,
        number=NUMBER + np.arange(len(family)), speed=rng.uniform(-4, 4, len(family)), teff=teff,
    )  # fmt: skip


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A folder with the reader, its YAML, the data, and the store that `rsca ingest` made of them."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "conf" / "survey").mkdir(parents=True)
    for name in ("toy_reader.py", "conf/survey/toy.yaml"):
        (folder / name).write_text(SOURCES[name], encoding="utf-8")
    write_toy(folder / "toy.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.chdir(folder)
        assert ingest("store=store") == 0
        yield folder


def ingest(*options):
    return main(["ingest", "--config-dir", "conf", "survey=toy", "survey.root=.", *options])


def test_the_store_has_the_survey_s_own_grid_columns_and_roles(toy):
    store, arrays = Store.open(toy / "store"), np.load(toy / "toy.npz")
    kept = np.delete(np.arange(325), 7)
    assert [(step["cut"], step["removed"]) for step in store.selection][:2] == [("catalogue", 0), ("cool", 1)]
    assert store.stars.id.tolist() == [str(NUMBER + row) for row in kept]
    assert store.stars.group.tolist() == arrays["family"][kept].tolist()
    np.testing.assert_array_equal(store.stars.velocity, arrays["speed"][kept])
    assert not store.stars.has("extinction")
    pixels = np.delete(np.arange(40), [20, 21])
    np.testing.assert_array_equal(store.bins, pixels)
    np.testing.assert_array_equal(store.wavelength, arrays["wavelength"][pixels])
    assert store.segments == {"short": (5000.0, 5095.0), "long": (5110.0, 5195.0)}
    spectra = store.spectra()
    np.testing.assert_array_equal(spectra.valid, ~arrays["mask"][np.ix_(kept, pixels)])
    np.testing.assert_array_equal(
        spectra.flux[spectra.valid], arrays["flux"][np.ix_(kept, pixels)][spectra.valid].astype(np.float32)
    )
    assert np.isinf(np.load(toy / "store" / "error.npy")[~spectra.valid.numpy()]).all()
    assert (store.path / "errors.csv").read_text() == "file,zero,negative,not_finite\n"  # a mask is no fault
    share = 100 * float(spectra.valid.double().mean())
    assert f"300 field stars and 24 members of 4 clusters, 38 bins from 5000.00 to 5195.00 Angstrom, {share:.1f} %" in (
        repr(store)
    )


SMALL = ["compressor.n_components=3", "learner.robust=false"]


def test_compare_leaves_out_what_the_survey_does_not_know_and_says_so(toy, caplog):
    assert main(["fit", "store=store", "out=rsca.safetensors", *SMALL]) == 0
    caplog.clear()
    assert main(["compare", "store=store", "out=run", *SMALL]) == 0
    told = [record.getMessage() for record in caplog.records if "plays the role" in record.getMessage()]
    assert told == [
        "warning: no column plays the role extinction: pairs are compared whatever theirs (pairs.max_extinction=null; "
        "survey.roles.ROLE=COLUMN at ingest names one)"
    ]
    results = json.loads((toy / "run" / "results.json").read_text())["results"]
    rates = {result["learner"]: result["doppelganger_rate"] for result in results if result["held_out"]}
    assert rates["rsca"] < rates["raw"] / 2
    velocity = Store.open(toy / "store").stars.velocity
    members, field = velocity[300:], velocity[:300]
    pairs = int((abs(members[:6, None] - field) < 5).sum())
    assert results[0]["clusters"][0]["pairs"] == pairs < 6 * 300
    assert main(["compare", "store=store", "out=all", "pairs=all", *SMALL]) == 0
    results = json.loads((toy / "all" / "results.json").read_text())["results"]
    assert {cluster["pairs"] for cluster in results[0]["clusters"]} == {6 * 300}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["survey.roles.velocity=SPEED"],
            "role velocity=SPEED: the star table has no such column, but number, family",
        ),
        (
            ["+survey.roles.colour=teff"],
            "roles are id, group, velocity, extinction, snr, repeat_of, got colour",
        ),
        (["survey.roles.id=null"], "survey.roles.id=null: the column that names a star expected"),
        (["+survey.fil=x.npz"], "unexpected keyword argument 'fil'; its reader takes file besides root"),
        (["censoring=authors"], "an interstellar range is [first, end) between 0 and 40, got [720, 910]"),
    ],
)
@pytest.mark.usefixtures("toy")
def test_bad_input(capfd, options, message):
    assert ingest("store=other", *options) == 2
    assert message in " ".join(capfd.readouterr().err.split())


class Labelled(Reader):
    """Eight stars whose group is in the reader's own table."""

    roles = MappingProxyType({"id": "star", "group": "family"})
    grid = Grid(np.linspace(5000.0, 5010.0, 4), {"only": (0, 4)})

    def __init__(self, root, family):
        super().__init__(root)
        self.family = family

    def list_stars(self, _):
        names = [f"s{n}" for n in range(8)]
        return Listing(Table({"star": names, "family": self.family, "FILE": names}))

    def read(self, _):
        return Measured(np.ones(4), np.full(4, 0.01))


NAMELESS = {
    "minus 1": [3, 3, 4, 4, -1, -1, -1, -1],
    "NaN": [3.0, 3.0, 4.0, 4.0, *[np.nan] * 4],
    "masked numbers": MaskedColumn([3, 3, 4, 4, 9, 9, 9, 9], mask=[0, 0, 0, 0, 1, 1, 1, 1]),
    "words": ["3", "3 ", "4", "4", "nan", "None", "", " "],
    "masked words": MaskedColumn(["3", "3", "4", "4", "a", "a", "a", "a"], mask=[0, 0, 0, 0, 1, 1, 1, 1]),
    "other numbers": ["3", "3", "4", "4", "-2", "-9999", "-9999.99", "-1.0"],
}


@pytest.mark.parametrize("family", NAMELESS.values(), ids=NAMELESS)
def test_stars_without_a_name_in_the_reader_s_own_groups_are_of_the_field(tmp_path, caplog, family):
    survey = Survey(tmp_path, Labelled, family=family, censoring=Censoring(interstellar_pixels=()))
    with caplog.at_level("INFO"):
        store = Store.open(ingest_survey(survey, tmp_path / "store").path)
    labels = np.asarray(store.stars["family"], dtype=str)  # what the file says, not how it is read
    assert [name.removesuffix(".0") for name in labels] == ["3", "3", "4", "4", "", "", "", ""]
    assert len(store.select(store.is_member)) == 4


def test_a_survey_without_a_role_that_it_has(toy):
    assert ingest("store=without", "survey.roles.group=null", "survey.roles.velocity=null") == 0
    store = Store.open(toy / "without")
    assert store.stars.roles == {"id": "number"}
    assert not store.is_member.any()
    with pytest.raises(InputError, match=r"plays the role velocity, which is needed by .*remove=velocity; there are"):
        _ = store.stars.velocity
    spectra = store.spectra(slice(5))
    again = Spectra(spectra.flux, spectra.valid, stars=spectra.stars, group="family")
    assert again.stars.roles == {"id": "number", "group": "family"}
