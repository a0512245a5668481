"""A row of a table cannot say which files outside the survey's root are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from mini_archive import BASE, SPECTRUM, good_spectrum, mini_rows, survey, write_catalogue, write_spectrum

from rsca_torch.comparison.training_options import _logger
from rsca_torch.survey.below_root import below_root
from rsca_torch.survey.fits_files import UnusableFileError
from rsca_torch.survey.ingest import ingest

ROOT = Path("tree")


@pytest.mark.parametrize("value", ["../../x", "/etc/passwd", "a/b", "a\0b", "..", ".", "a\\b"])
def test_a_value_is_one_name(value):
    with pytest.raises(UnusableFileError, match=r"FIELD is .*no name of one file"):
        below_root(ROOT, "{TELESCOPE}/{FIELD}/x.fits", {"TELESCOPE": "apo25m", "FIELD": value})
    assert below_root(ROOT, "{TELESCOPE}.fits", {"TELESCOPE": "t", "FIELD": value}) == ROOT / "t.fits"  # not looked at


@pytest.mark.parametrize("path", ["../x.fits", "a/../../x.fits", "/x.fits", "a\0.fits"])
def test_a_whole_path_stays_below(path):
    with pytest.raises(UnusableFileError, match="leads out of the survey's root"):
        below_root(ROOT, path)


def test_what_the_archive_has_is_let_through():
    names = {"FIELD": "K14_080+08", "APOGEE_ID": "2M00005414+5522241", "N": 7}
    assert below_root(ROOT, "{FIELD}/{N:02d}/s-{APOGEE_ID}.fits", names) == (
        ROOT / "K14_080+08/07/s-2M00005414+5522241.fits"
    )
    assert below_root(ROOT, "a..b/{c}.fits") == ROOT / "a..b/{c}.fits"


@pytest.mark.parametrize("bad", [{"FIELD": "../../../../../../../out"}, {"FIELD": "sub/060+00"}, {"TELESCOPE": ".."}])
def test_rows_that_climb_are_listed_and_no_file_is_read(archive, tmp_path, bad):
    rows = mini_rows()
    rows[8] |= bad
    name = rows[8]["APOGEE_ID"]
    write_catalogue(archive / BASE / "allStar-r12-l33.fits", rows)
    target = archive / SPECTRUM.format(**rows[8])
    write_spectrum(target, *good_spectrum(8))  # it would be used if it were read
    store = ingest(survey(archive), tmp_path / "store")
    assert name not in store.stars.id
    (problem,) = [problem for file, problem in store.problems if name in file]
    assert "no name of one file or folder" in problem
    assert [row[0] for row in store.removed if row[1] == "spectrum missing or unreadable"] == [name]


@pytest.mark.parametrize("cluster", ["../../x", "/etc", "a\0b", "..", "x" * 300, ""])
def test_a_cluster_whose_name_is_none_of_a_folder_is_logged_below_the_others(tmp_path, cluster):
    def make(save_dir, name, version):
        return Path(save_dir, name, version)

    folder = _logger(make, tmp_path, "spectra", "nca", cluster)
    assert folder.parent == tmp_path / "training/spectra/nca"
    assert len(folder.name) < 255
    assert "\0" not in folder.name
    assert _logger(make, tmp_path, "spectra", "nca", "NGC 2682").name == "NGC_2682"
