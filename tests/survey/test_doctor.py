"""Trees and stores with something wrong are examined: what is said, and whether they are fit for use."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from mini_archive import (
    BASE,
    MEMBERS,
    SPECTRUM,
    good_spectrum,
    mini_rows,
    star_id,
    survey,
    write_catalogue,
    write_spectrum,
)

from rsca_torch.cli.main import main
from rsca_torch.errors import InputError
from rsca_torch.survey.doctor.tree import examine_tree
from rsca_torch.survey.doctor.whole_store import examine_store
from rsca_torch.survey.ingest import ingest

FIELD = f"{BASE}/apo25m/060+00"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra")


def told(remarks):
    """(matters, number, total, what) of each."""
    return [(each.matters, each.number, each.total, each.what) for each in remarks]


def spectrum(number):
    return SPECTRUM.format(TELESCOPE="apo25m", FIELD="060+00", APOGEE_ID=star_id(number))


def test_a_good_tree_is_fit_for_use(archive):
    remarks = examine_tree(archive, [survey(archive)])
    assert not any(each.matters for each in remarks)
    assert told(remarks) == [
        (False, 20, 20, "no checksum, neither a list nor in the file: its structure alone was checked"),
        (False, 20, 20, "a header card is NaN, which FITS does not allow"),
        (False, 2, 9, f"stars in more than one cluster in {MEMBERS}"),
    ]


def test_each_spectrum_by_itself(archive):
    (archive / spectrum(0)).write_text("\n<html>404</html>")
    content = (archive / spectrum(1)).read_bytes()
    for number in (1, 2):
        (archive / spectrum(number)).write_bytes(content[: 40_000 * number])
    write_spectrum(archive / spectrum(3), *(array[:7000] for array in good_spectrum(3)))
    shutil.copy(archive / spectrum(4), archive / FIELD / "aspcapStar-r12-2M77777777+7777777.fits")
    shutil.copy(archive / spectrum(4), archive / FIELD / "aspcapStar-dr17-2M00000004+0000000.fits")
    (archive / FIELD / "aspcapStar-r12-2M1.fits.part").write_text("SIMPLE")
    shutil.copy(archive / spectrum(4), archive / FIELD / "apStar-r12-2M00000004+0000000.fits")
    (archive / FIELD / "r12_l33_apo25m_060+00.sha1sum").write_text(f"{'0' * 40}  {Path(spectrum(5)).name}\n")
    (archive / spectrum(6)).unlink()
    remarks = examine_tree(archive, [survey(archive)])
    said = {each.what: each for each in remarks}
    total = 20 + 2 - 1
    assert told([said["web page saved as FITS"]]) == [(True, 1, total, "web page saved as FITS")]
    assert told([said["truncated file"]]) == [(True, 2, total, "truncated file")]
    assert said["sha1 is not the archive's"].examples == [spectrum(5)]
    grids = next(each for what, each in said.items() if what.startswith("wrong grid"))
    assert (grids.matters, grids.examples) == (True, [spectrum(3)])
    assert said["spectra of dr17 beside those of dr16"].matters
    assert said["spectra lie in the folder of another release"].number == 1
    assert said["files of stars that are not in the catalogue"].number == 1
    assert not said["files of stars that are not in the catalogue"].matters
    assert said["unfinished downloads"].number == 1
    assert any(what.startswith("not aspcapStar but apStar") for what in said)
    needs = next(each for what, each in said.items() if what.endswith("needs spectra that are not there"))
    assert (needs.number, needs.examples, needs.matters) == (1, [spectrum(6)], False)


def test_lite_and_lists(archive):
    (archive / BASE / "allStar-r12-l33.fits").rename(archive / BASE / "allStarLite-r12-l33.fits")
    said = {each.what: each for each in examine_tree(archive, [survey(archive)])}
    assert not said["allStarLite in place of allStar"].matters
    by_location = f"{BASE}/{{LOCATION_ID}}/aspcapStar-r12-{{APOGEE_ID}}.fits"
    said = {each.what: each for each in examine_tree(archive, [survey(archive, spectrum=by_location)])}
    assert said["allStarLite in place of allStar"].matters
    rows = [{**row, "APOGEE_ID": f"X{row['APOGEE_ID'][1:]}"} for row in mini_rows()]
    write_catalogue(archive / BASE / "allStarLite-r12-l33.fits", rows)
    remarks = examine_tree(archive, [survey(archive)])
    (match,) = [each for each in remarks if each.what.startswith("stars on occam_member-DR16.fits are not in")]
    assert (match.matters, match.number) == (True, match.total)
    assert [each for each in remarks if "none of the" in each.what]  # so says the survey too
    (files,) = [each for each in remarks if each.what.startswith("files of stars that are not in")]
    assert files.matters
    (archive / MEMBERS).unlink()
    lacking = [each for each in examine_tree(archive, [survey(archive)]) if "no list of members" in each.what]
    assert lacking
    assert lacking[0].matters


def test_a_part_is_read_and_that_is_said(archive):
    seen = []
    remarks = examine_tree(archive, sample=5, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)
    assert [each.number for each in remarks if each.what == "spectra were not read"] == [15]


def test_nothing_to_examine(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        examine_tree(tmp_path / "none")
    with pytest.raises(InputError, match="no FITS file"):
        examine_tree(tmp_path)


def test_a_store(mini_survey, tmp_path):
    store = ingest(mini_survey, tmp_path / "store").path
    remarks = examine_store(store)
    assert not any(each.matters for each in remarks)
    flux = np.load(store / "flux.npy")
    flux[0, 0] = np.nan
    np.save(store / "flux.npy", flux)
    (broken,) = examine_store(store)
    assert broken.matters
    assert "flux.npy changed since it was written" in broken.what
    (store / "bins.npy").unlink()
    (broken,) = examine_store(store)
    assert "bins.npy is missing" in broken.what


def test_a_store_without_members(archive, tmp_path):
    path = ingest(survey(archive, members=None, roles={"group": None}), tmp_path / "store").path
    said = {each.what: each for each in examine_store(path)}
    few = [each for what, each in said.items() if "clusters have two members" in what]
    assert few
    assert few[0].matters


def test_the_command(archive, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(archive, tmp_path / "a tree=1")
    assert main(["doctor", "a tree=1"]) == 2  # a name with = is an option
    capfd.readouterr()
    assert main(["doctor", "root=a tree=1"]) == 0
    assert "the tree a tree=1 is fit for use" in capfd.readouterr().out
    assert main(["doctor", str(archive), "sample=3"]) == 0
    capfd.readouterr()
    (archive / spectrum(0)).write_text("<html>")
    assert main(["doctor", str(archive)]) == 1
    said = capfd.readouterr().out
    assert said.startswith(f"matters: 1 of 20: web page saved as FITS ({spectrum(0)}); fetch them again")
    assert "is not fit for use before that is done" in said
    assert main(["doctor"]) == 2
    assert "one of them expected, got none" in capfd.readouterr().err
    assert main(["doctor", "nowhere"]) == 2


@pytest.mark.parametrize("sample", [None, 12])
def test_the_real_spectra(shared, sample):
    remarks = examine_tree(shared / "data/aspcapStar_dr13", sample=sample)
    no_checksum = "no checksum, neither a list nor in the file: its structure alone was checked"
    illegal = "a header card is NaN, which FITS does not allow"
    if sample is None:  # DATA-FORMATS, trap 8: 11 of 25
        assert told(remarks) == [(False, 25, 25, no_checksum), (False, 11, 25, illegal)]
    assert not any(each.matters for each in remarks)


#: What the README and DATA-FORMATS.md beside the files say of them.
REAL = [
    (False, 1, 32, "not aspcapStar but apStar, visits combined but not continuum-normalised"),
    (False, 490, 9563, "stars in more than one cluster in occam_member-DR16.fits"),
    (False, 2, 0, "elements without any abundance in real/allstar_dr14_rows.fits"),
    (False, 25, 360, "entries of VISITS in real/allstar_dr16_rows.fits end in .fits"),
    (False, 1, 0, "elements without any abundance in real/allstar_dr17_rows.fits"),
    (False, 1, 0, "no CG_PROB, which surveys that ship look at"),
    (False, 9559, 9563, "stars on occam_member-DR16.fits are not in allstar_dr16_rows.fits"),
    (False, 1472, 1487, "stars on occam_member-DR14.fits are not in allstar_dr14_rows.fits"),
]


def test_the_real_rows_and_lists(shared):
    remarks = examine_tree(shared / "data")
    assert told(remarks)[2:] == REAL
    assert [each.examples for each in remarks if "elements" in each.what] == [["Cu", "Ce"], ["Cu"]]
