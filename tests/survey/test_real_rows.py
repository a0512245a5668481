"""Real rows of allStar as catalogues, with spectra drawn at the labels of the stars that pass the cuts that ship."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
from astropy.table import Table
from drawn_rows import draw_spectra
from hydra.utils import instantiate
from omegaconf import OmegaConf
from test_configs import composed

from rsca_torch.cli.main import CONFIG, main
from rsca_torch.comparison.abundances import abundances
from rsca_torch.survey.chosen_stars import REPEATS, choose_stars
from rsca_torch.survey.store import Store
from rsca_torch.survey.visits import visits_of

#: How many rows each step keeps: the numbers of docs/data.md, section 1.
KEPT = {
    "apogee_dr14": [322, 298, 217, 100, 100, 54, 54, 54],
    "apogee_dr16": [360, 360, 307, 195, 195, 195, 195, 195],
    "apogee_dr17": [95, 95, 81, 75, 75, 75, 73, 73, 73, 73],
}


#: The one part of the blue chip that is left in, so that a fit takes a second.
FEW_BINS = "survey.censoring.interstellar_pixels=[[246,2750],[3585,8335]]"


@pytest.mark.parametrize(
    ("name", "members"),
    [("apogee_dr14", "occam_member-DR16.fits"), ("apogee_dr14_occam", "real/occam_member-DR14.fits")],
)
def test_members_among_the_real_rows_of_dr14(shared, tmp_path, caplog, name, members):
    path = (shared / "data" / members).resolve()
    survey = instantiate(composed(name, f"survey.root={tmp_path}", f"survey.members={path}", "survey.most_missing=1"))
    catalogue = tmp_path / survey.reader.catalogue[0]
    catalogue.parent.mkdir(parents=True)
    shutil.copy(shared / "data/real/allstar_dr14_rows.fits", catalogue)
    with caplog.at_level("INFO"):
        stars, *_ = choose_stars(survey)
    assert set(stars.group.tolist()) == {"", "NGC 188"}  # one of the seven passes the cuts
    assert "7 of " in caplog.text
    assert " listed ids are in allStar-l31c.2.fits, first missing 2M" in caplog.text


def siblings_of(name, stars, catalogue):
    """(N,) a group of each star, '' for none: what stands for clusters, of which the rows hold too few.

    DR16: five of the chemically tagged groups that the rows come with. DR14 and DR17 have none (one member of a listed
    cluster passes the cuts of DR14): stars of fields that were observed in the same nights, and stars of like iron,
    stand for siblings.
    """
    if name == "apogee_dr16":
        rows = Table.read(catalogue, hdu=1)
        ids = np.char.strip(np.asarray(rows["APOGEE_ID"], dtype=str))
        tagged = dict(zip(ids.tolist(), rows["CLUSTER_ID"].tolist(), strict=True))
        return [f"tagged {tagged[star]}" if tagged[star] in (151, 230, 574, 899, 1811) else "" for star in stars.id]
    if name == "apogee_dr14":
        fields = [{"N188", "030+60"}, {"020+06", "030+00"}, {"094+00", "210+08"}]
        return [next((f"fields {n}" for n, of in enumerate(fields) if field in of), "") for field in stars["FIELD"]]
    place = np.argsort(np.argsort(stars["FE_H"]))
    return [f"iron {number // 4}" if number < 24 else "" for number in place]


@pytest.fixture(params=KEPT, scope="module")
def drawn(request, shared, tmp_path_factory):
    """(release, store): the real rows with spectra drawn at their labels, and siblings."""
    name, root = request.param, tmp_path_factory.mktemp(request.param)
    catalogue = root / composed(name, f"survey.root={root}").catalogue[0]
    catalogue.parent.mkdir(parents=True)
    shutil.copy(shared / f"data/real/allstar_{name[-4:]}_rows.fits", catalogue)
    stars, *_ = choose_stars(instantiate(composed(name, f"survey.root={root}", "survey.members=null")))
    draw_spectra(root, stars, name[-4:])
    groups = siblings_of(name, stars, catalogue)
    rows = [f"{star},{group}" for star, group in zip(stars.id, groups, strict=True) if group]
    (root / "members.csv").write_text("\n".join(["APOGEE_ID,CLUSTER", *rows]), encoding="utf-8")
    given = [f"survey={name}", f"survey.root={root}", "survey.members=members.csv", f"store={root / 'store'}", FEW_BINS]
    assert main(["ingest", *given]) == 0
    return name, root / "store"


def test_real_rows_go_through_ingest(drawn):
    name, folder = drawn
    store = Store.open(folder)
    flow = json.loads((folder / "selection.json").read_text())
    steps = [step["kept"] for step in flow if step["cut"] != REPEATS]
    assert steps[: len(KEPT[name])] == KEPT[name]
    assert len(store) == KEPT[name][-1]  # no spectrum was lost
    assert len(store) + len(store.removed) == KEPT[name][0]
    assert np.isfinite(store.stars["MEANFIB"]).all()  # VISITS and MEANFIB were understood
    if name == "apogee_dr17":
        assert "VISITS" not in store.stars.colnames
    else:
        assert all(visits_of(visits) for visits in store.stars["VISITS"])
    assert np.isfinite(store.stars["FE_H"]).all()


SMALL = ["compressor.n_components=4", "compressor.tolerance=1e-3"]


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")  # so few stars drop dimensions and clusters
@pytest.mark.parametrize("remove", ["null", "fibre"])
def test_real_rows_are_compared(drawn, tmp_path, monkeypatch, remove):
    _, store = drawn
    monkeypatch.chdir(tmp_path)
    few = [*SMALL, "figures=false", "checkpoints=null", "out=run", f"compressor.remove={remove}"]
    assert main(["compare", f"store={store}", *few]) == 0
    results = json.loads((tmp_path / "run/results.json").read_text())["results"]
    judged = {(result["representation"], result["learner"]): result["doppelganger_rate"] for result in results}
    for representation in ("spectra", "abundances", "abundance_subset"):
        for learner in ("rsca", "raw", "scaled"):
            assert 0 <= judged[representation, learner] < 1


def test_elements_that_a_release_defines_for_no_star_are_left_out_of_the_shipped_list(drawn):
    name, store = drawn
    stars, options = Store.open(store).stars, OmegaConf.load(CONFIG / "abundances/paper.yaml")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for representation, given in options.items():
            field, members = stars[stars.group == ""], stars[stars.group != ""]
            assert len(abundances(representation, field, members, **given).field) == len(field)
    undefined = {
        "apogee_dr14": ["of 54 stars too many lack Cu (54), Ce (54)"],
        "apogee_dr17": ["of 73 stars too many lack Cu (73)"],
    }
    assert [str(each.message).split(": ")[1] for each in said] == undefined.get(name, [])


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
def test_leaks_and_nights_of_real_rows(drawn, tmp_path, monkeypatch):
    name, store = drawn
    monkeypatch.chdir(tmp_path)
    given = [f"store={store}", *SMALL, "experiments.figure8.fewest=3", "experiments.figure8.permutations=50"]
    assert main(["reproduce", "what=[leaks,figure8]", *given]) == 0
    summary = (tmp_path / "runs/reproduce/summary.md").read_text(encoding="utf-8")
    assert "of the variance of FE_H, ALPHA_M" in summary
    if name == "apogee_dr17":  # its allStar does not say when a star was observed
        assert "Skipped: the star table has no column VISITS" in summary
    else:
        assert "Siblings observed apart are farther from each other" in summary
