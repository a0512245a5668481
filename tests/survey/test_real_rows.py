"""Real rows of allStar as catalogues, with a spectrum drawn for each star that passes the cuts that ship."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hydra.utils import instantiate
from mini_archive import good_spectrum, write_spectrum
from test_configs import composed

from rsca_torch.survey.ingest import ingest
from rsca_torch.survey.survey import REPEATS, choose_stars
from rsca_torch.survey.visits import visits_of

#: How many rows each step keeps: the numbers of docs/data.md, section 1.
KEPT = {
    "apogee_dr14": [322, 298, 217, 100, 100, 54, 54, 54],
    "apogee_dr16": [360, 360, 307, 195, 195, 195, 195, 195],
    "apogee_dr17": [95, 95, 81, 75, 75, 75, 73, 73, 73, 73],
}


@pytest.fixture(params=KEPT)
def real(request, shared, tmp_path):
    """The survey of a release, its catalogue the real rows."""
    number, root = request.param[-2:], tmp_path / "sas"
    survey = composed(request.param, f"survey.root={root}", "survey.members=null")
    catalogue = root / survey.catalogue[0]
    catalogue.parent.mkdir(parents=True)
    shutil.copy(shared / f"data/real/allstar_dr{number}_rows.fits", catalogue)
    return request.param, instantiate(survey)


def test_real_rows_go_through_ingest(real, tmp_path, caplog):
    name, survey = real
    stars, _, flow, problems = choose_stars(survey)
    assert problems == []
    assert [step["kept"] for step in flow.steps if step["cut"] != REPEATS] == KEPT[name]
    for row, file in enumerate(stars["FILE"]):
        write_spectrum(survey.root / file, *good_spectrum(row))
    store = ingest(survey, tmp_path / "store")
    assert len(store) == len(stars)
    assert len(store) + len(store.removed) == KEPT[name][0]
    assert (store.stars["MEANFIB"] >= 1).all()
    assert "no fibre" not in caplog.text
    if name == "apogee_dr17":
        assert "VISITS" not in store.stars.colnames
    else:
        assert all(visits_of(visits) for visits in store.stars["VISITS"])
    assert np.isfinite(store.stars["FE_H"]).all()


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
