"""Trees of SDSS DR19, and lists of members of every format, examined: what is said, and whether it matters."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from rsca_torch.cli.main import main
from rsca_torch.survey.doctor.spectra import Spectrum
from rsca_torch.survey.doctor.tree import examine_tree
from rsca_torch.survey.simulated import SimulatedSurvey

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra")
ASTRA = "dr19/spectro/astra/0.6.0"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("dr19") / "sas"
    SimulatedSurvey(n_field=6, release="dr19", further_files=["visits", "aspcap"]).write(root, seed=1)
    return root


@pytest.fixture
def tree(written, tmp_path):
    """A tree that may be changed: links, which are replaced and never written to."""
    shutil.copytree(written, tmp_path / "sas", copy_function=lambda a, b: Path(b).hardlink_to(a))
    return tmp_path / "sas"


def put(path, content):
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def changed(path, change):
    """An mwmStar with its HDUs changed, without checksums."""
    with fits.open(path) as hdus:
        mine = fits.HDUList([hdu.copy() for hdu in hdus])
    for hdu in mine:
        for card in ("CHECKSUM", "DATASUM"):
            hdu.header.pop(card, None)
    path.unlink()
    change(mine)
    mine.writeto(path)


def mwm_stars(tree):
    """Files with a row of APO's, by name."""
    files = sorted((tree / ASTRA / "spectra" / "star").rglob("mwmStar*.fits"))
    return [path for path in files if fits.getheader(path, 3)["NAXIS2"]]


def said(remarks):
    return {each.what: each for each in remarks}


def test_a_good_tree_of_dr19_is_examined_and_fit_for_use(tree, capfd):
    assert main(["doctor", str(tree)]) == 0
    told = capfd.readouterr().out
    assert "rows of dr19/spectro/astra/0.6.0/summary/astraAllStarASPCAP-0.6.0.fits without an id" in told
    assert "stars of the catalogue have no file here" in told
    assert "matters" not in told
    assert "mwmVisit" not in told, "visits are used too"


def test_what_is_wrong_with_an_mwmstar(tree):
    page, torn, renamed, other, bare, grid, column, empty = mwm_stars(tree)[:8]
    put(page, b"<html>404</html>")
    put(torn, torn.read_bytes()[:100_000])
    renamed.rename(renamed.with_name(renamed.name.replace("0.6.0", "0.8.1")))
    put(other, grid.read_bytes())
    changed(bare, lambda hdus: [hdus.pop(4), hdus.pop(3)])
    changed(grid, lambda hdus: hdus[3].header.update(CDELT=7e-6))
    changed(column, lambda hdus: hdus[3].columns.change_name("ivar", "variance"))
    changed(empty, lambda hdus: [hdus.__setitem__(n, empty_table(hdus[n])) for n in (3, 4)])
    visit = next((tree / ASTRA / "spectra" / "visit").rglob("mwmVisit*.fits"))
    put(visit, visit.read_bytes()[:100_000])
    told = examine_tree(tree)
    (of_visits,) = [each for each in told if visit.name in str(each)]
    assert (of_visits.what, of_visits.matters) == ("truncated file", True)
    remarks = said(each for each in told if each is not of_visits)
    examples = {what: [Path(file).name for file in each.examples] for what, each in remarks.items() if each.matters}
    assert examples == {
        "web page saved as FITS": [page.name],
        "truncated file": [torn.name],
        "its header names another version of Astra than its name": [renamed.name.replace("0.6.0", "0.8.1")],
        "file of another star (sdss_id N, not N)": [other.name],
        "no HDU APOGEE/APO and APOGEE/LCO, as mwmStar has it": [bare.name],
        "wrong grid (log wavelength from 4.179 in steps of 7e-06, not 4.179 and 6e-06)": [grid.name],
        "no column ivar in HDU 3 (APOGEE/APO)": [column.name],
        "spectra of Astra 0.8.1 beside those of Astra 0.6.0": [renamed.name.replace("0.6.0", "0.8.1")],
    }
    assert [Path(file).name for file in remarks["mwmStar without a spectrum of APOGEE"].examples] == [empty.name]


def empty_table(hdu):
    return fits.BinTableHDU(hdu.data[:0], header=hdu.header)


def test_files_of_stars_that_the_catalogue_has_not(tree):
    (path,) = (tree / ASTRA / "summary").glob("astraAll*")

    def of_others(hdus):
        hdus[2].data["sdss_id"] += 1

    changed(path, of_others)
    told = said(examine_tree(tree))["files of stars that are not in the catalogue"]
    assert told.matters
    assert told.number == told.total


@pytest.mark.parametrize(
    ("name", "release", "star", "is_mwm"),
    [
        ("aspcapStar-r6-l30e.2-2M00000000-0000000.fits", "dr13", "2M00000000-0000000", False),
        ("aspcapStar-r8-l31c.2-2M00000000+0000000.fits.gz", "dr14", "2M00000000+0000000", False),
        ("aspcapStar-r12-AP00425080+4117074.fits", "dr16", "AP00425080+4117074", False),
        ("aspcapStar-dr17-2M00000000-0000000.fits", "dr17", "2M00000000-0000000", False),
        ("mwmStar-0.6.0-103020000.fits", "Astra 0.6.0", "103020000", True),
    ],
)
def test_what_a_name_tells(name, release, star, is_mwm):
    assert Spectrum.of(f"a/b/{name}") == Spectrum(f"a/b/{name}", release, star, is_mwm)


# --- lists -------------------------------------------------------------------------------------------------


@pytest.fixture
def labels(tree):
    (path,) = (tree / ASTRA / "summary").glob("astraAll*")
    table = Table.read(path, hdu=2)
    return table[(table["gaia_dr3_source_id"] > 0) & (table["sdss_id"] > 0)][:20]


def lists(tree):
    """What is said of lists alone."""
    return [each for each in examine_tree(tree, sample=1) if any(file in str(each) for file in ("mine", "ReadMe"))]


WRITTEN = {
    "csv": lambda table, path: table.write(path, format="ascii.csv"),
    "csv.gz": lambda table, path: table.to_pandas().to_csv(path, index=False),
    "ecsv": lambda table, path: table.write(path),
    "vot": lambda table, path: table.write(path, format="votable"),
    "parquet": lambda table, path: table.to_pandas().to_parquet(path),
}


@pytest.mark.parametrize("ending", WRITTEN)
def test_a_list_of_every_format_is_matched(tree, labels, ending):
    good = Table({"source_id": np.asarray(labels["gaia_dr3_source_id"]), "Cluster": ["A", "B"] * 10})
    WRITTEN[ending](good, tree / f"mine.{ending}")
    assert not lists(tree)
    (tree / f"mine.{ending}").unlink()
    bad = good.copy()
    bad["source_id"][:19] += 1
    bad["source_id"][19] = 0
    WRITTEN[ending](bad, tree / f"mine.{ending}")
    empty, match = sorted(lists(tree), key=lambda each: each.what.startswith("stars on"))
    assert (empty.what, empty.number) == (f"rows of mine.{ending} without an id", 1)
    assert (match.matters, match.number, match.total) == (True, 19, 19)
    assert match.what.startswith(f"stars on mine.{ending} are not in astraAllStarASPCAP-0.6.0.fits by ")


def test_lists_that_are_none_or_wrong(tree, labels):
    ids = np.asarray(labels["gaia_dr3_source_id"])
    (tree / "mine.txt").write_text("no list, of anything\n")
    Table({"GaiaDR3": ids, "teff": ids * 0.0, "logg": ids * 0.0, "Name": ["A"] * 20}).write(tree / "mine_stars.csv")
    assert not lists(tree)
    (tree / "mine.dat").write_text("1 2 3\n")
    (tree / "mine.vot").write_text("<VOTABLE><RES")
    Table({"GaiaDR3": ids.astype(float), "Name": ["A"] * 20}).write(tree / "mine_floats.ecsv")
    Table({"GaiaDR3": [*ids[:10], *ids[:10]], "Name": ["A"] * 10 + ["B"] * 5 + ["A"] * 5}).write(tree / "mine_two.csv")
    told = {each.examples[0] if each.examples else "": each for each in lists(tree)}
    assert "no ReadMe beside a table of fixed width" in told["mine.dat"].what
    assert told["mine.vot"].matters
    assert "a number that passed through a float" in told["mine_floats.ecsv"].what
    assert told["mine_floats.ecsv"].matters
    several = told[str(ids[0])]
    assert (several.number, several.total) == (5, 10)


def test_a_list_of_gaia_dr2_beside_a_catalogue_without(archive):
    Table({"GaiaDR3": [4_611_686_018_427_387_905], "Name": ["A"]}).write(archive / "mine.csv")
    (told,) = lists(archive)
    assert told.what == "mine.csv has ids of the kind gaia_dr3, and allStar-r12-l33.fits has apogee"
    assert not told.matters
