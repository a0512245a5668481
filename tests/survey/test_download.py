"""From an archive that misbehaves to a tree that is right, or that says what it lacks."""

from __future__ import annotations

import asyncio
import csv
import errno
import hashlib
import io
import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from archive_server import serving, write_lists
from astropy.io import fits
from astropy.table import Table
from mini_archive import BASE, MEMBERS, SPECTRUM, star_id, survey, write_archive

from rsca_torch.cli.main import main
from rsca_torch.errors import InputError
from rsca_torch.survey.download import download as download_module
from rsca_torch.survey.download.archive import Archive
from rsca_torch.survey.download.download import PROBLEMS, Download
from rsca_torch.survey.download.known_sums import KnownSums
from rsca_torch.survey.download.manifest import MANIFEST, Manifest
from rsca_torch.survey.download.manners import Manners
from rsca_torch.survey.download.needed import first_needed, spectra_needed
from rsca_torch.survey.download.right_files import CHECKSUMS, SHA1, STRUCTURE, require_right
from rsca_torch.survey.download.sdss_tree import tree_root
from rsca_torch.survey.fits_files import UnusableFileError
from rsca_torch.survey.grid import Grid
from rsca_torch.survey.reader import Listing, Reader
from rsca_torch.survey.survey import Survey

LIST = "r12_l33_{TELESCOPE}_{FIELD}.sha1sum"
LISTS = {name: f"r12_l33_{name}_{{FIELD}}.sha1sum" for name in ("apo25m", "lco25m")}
QUICK = Manners(first_wait=0.01, longest_wait=0.1, stall=0.3, slowest=5000)
CATALOGUE = f"{BASE}/allStar-r12-l33.fits"
N_SPECTRA = 14


def spectrum(number: int, field: str = "060+00", telescope: str = "apo25m") -> str:
    return SPECTRUM.format(TELESCOPE=telescope, FIELD=field, APOGEE_ID=star_id(number))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = write_archive(tmp_path_factory.mktemp("archive"))
    for file in root.glob(f"{BASE}/*.fits"):  # as the real ones have a sha1, these have checksums of their own
        with fits.open(file, mode="update") as hdus:
            for hdu in hdus:
                hdu.add_checksum()
    write_lists(root, f"{BASE}/*/*/*.fits", LIST)
    return root


@pytest.fixture
def sas(written):
    with serving(written) as server:
        yield server


def fetch(server, root: Path, manners: Manners = QUICK, **options) -> Download:
    """A run, as `rsca download` makes one."""
    root.mkdir(exist_ok=True)

    async def work(manifest):
        async with Archive(server.address, manners, manifest) as archive:
            download = Download(survey(root), archive, KnownSums(manifest, (), LISTS), **options)
            await download.first()
            await download.spectra()
            return download

    with Manifest(root) as manifest:
        download = asyncio.run(work(manifest))
    download.write_problems()
    return download


def require_no_wrong_file(root: Path, written: Path) -> int:
    """How many spectra are there; each is byte by byte what the archive has."""
    files = [path for path in root.rglob("*.fits") if path.is_file()]
    for path in files:
        assert path.read_bytes() == (written / path.relative_to(root)).read_bytes(), path
    return len([path for path in files if path.name.startswith("aspcapStar")])


def test_a_tree_is_fetched_checked_and_not_fetched_again(sas, written, tmp_path, monkeypatch):
    first = fetch(sas, tmp_path / "tree").outcome
    assert (first.needed, first.fetched, first.there, first.missing) == (N_SPECTRA + 2, N_SPECTRA + 2, 0, [])
    assert first.unsure == 1  # the list of members, which has no checksum
    assert require_no_wrong_file(tmp_path / "tree", written) == N_SPECTRA
    assert not list((tmp_path / "tree").rglob("*.part"))
    assert not (tmp_path / "tree" / PROBLEMS).exists()
    assert sas.agents == {next(iter(sas.agents))}
    assert next(iter(sas.agents)).startswith("rsca_torch/")
    assert 1 < sas.most <= 4
    asked = sum(sas.asked.values())
    monkeypatch.setattr(download_module, "require_right", None)  # no file is read again
    second = fetch(sas, tmp_path / "tree").outcome
    assert (second.fetched, second.there, second.missing) == (0, N_SPECTRA + 2, [])
    assert sum(sas.asked.values()) == asked


@pytest.mark.parametrize("connections", [1, 2, 4])
def test_whoever_asks_there_are_never_more_connections(sas, tmp_path, connections):
    """Though more files are asked for at once than there may be connections."""
    sas.delay = 0.05

    async def work(manifest):
        manners = Manners(connections=connections)
        async with Archive(sas.address, manners, manifest) as archive:
            return await asyncio.gather(*(archive.size(CATALOGUE) for _ in range(12)))

    with Manifest(tmp_path) as manifest:
        sizes = asyncio.run(work(manifest))
    assert len({*sizes}) == 1
    assert sas.most == connections


ONCE = ["reset", "hang", "drip", "long", "short", "corrupt", "429", "503", "500", "redirect", "page", "html"]


@pytest.mark.parametrize("fault", ONCE)
def test_a_fault_that_passes_costs_nothing(sas, written, tmp_path, fault):
    sas.faults = {spectrum(n): [fault] for n in (0, 3)} | {CATALOGUE: [fault]}
    outcome = fetch(sas, tmp_path / "tree").outcome
    assert outcome.missing == []
    assert require_no_wrong_file(tmp_path / "tree", written) == N_SPECTRA
    assert sas.most <= 4
    if fault in ("reset", "hang"):
        assert {spectrum(0), spectrum(3)} & {*sas.ranges}  # the rest of it was asked for


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("404", "not in the archive (HTTP 404"),
        ("login", "not in the archive (HTTP 404"),
        ("corrupt", "wrong 3 times: sha1 is not the archive's"),
        ("page", "wrong 3 times: web page saved as FITS"),
        ("html", "wrong 3 times: web page in place of the file"),
        ("short", "wrong 3 times: truncated file"),
        ("503", "HTTP 503 Service Unavailable, 6 times"),
        ("later", "asks to be left alone for 3600 s"),
        ("reset", "connection failed"),
        ("hang", "no answer in 0.3 s, 6 times"),
    ],
)
def test_a_fault_that_stays_is_named_and_leaves_no_file(sas, written, tmp_path, fault, reason):
    bad, root = spectrum(3), tmp_path / "tree"
    sas.faults = lambda path, _: fault if path == bad else ""
    if fault == "reset":  # a server that always breaks off after half of what is left is overcome; before any byte not
        sas.faults = lambda path, _: "gone" if path == bad else ""
    outcome = fetch(sas, root).outcome
    assert [path for path, _ in outcome.missing] == [bad]
    assert reason in outcome.missing[0][1]
    assert require_no_wrong_file(root, written) == N_SPECTRA - 1
    with (root / PROBLEMS).open(newline="") as file:
        assert [*csv.reader(file)] == [["file", "problem"], [bad, outcome.missing[0][1]]]
    sas.faults = {}
    asked = sas.asked[bad]
    second = fetch(sas, root)
    if fault in ("404", "login"):
        assert second.outcome.absent == [(bad, "not in the archive (HTTP 404 in an earlier run)")]
        assert sas.asked[bad] == asked
        second = fetch(sas, root, again=True)
    assert second.outcome.missing == []
    assert not (root / PROBLEMS).exists()


def test_a_list_that_lacks_a_file_or_is_not_there_or_comes_wrong(written, tmp_path):
    sas = shutil.copytree(written, tmp_path / "sas")
    field = f"{BASE}/apo25m/060+00"
    (sas / f"{BASE}/lco25m/293-37-C/r12_l33_lco25m_293-37-C.sha1sum").unlink()
    lines = (sas / field / "r12_l33_apo25m_060+00.sha1sum").read_text().splitlines(keepends=True)
    (sas / field / "r12_l33_apo25m_060+00.sha1sum").write_text(
        "".join(line for line in lines if star_id(3) not in line)
    )
    with serving(sas) as server:
        server.faults = {f"{BASE}/apo25m/other/r12_l33_apo25m_other.sha1sum": ["corrupt"]}
        outcome = fetch(server, tmp_path / "tree").outcome
        assert outcome.missing == []
        assert outcome.unsure == 1 + 2  # the members, the file that its list lacks, and that without a list
        assert require_no_wrong_file(tmp_path / "tree", sas) == N_SPECTRA
        asked = sum(server.asked.values())
        fetch(server, tmp_path / "tree")
        assert sum(server.asked.values()) == asked  # also lists that are not there


def test_a_list_that_came_wrong_is_read_again_before_a_file_is_given_up(sas, written, tmp_path):
    root, place = tmp_path / "tree", f"{BASE}/apo25m/060+00/r12_l33_apo25m_060+00.sha1sum"
    root.mkdir()
    with Manifest(root) as manifest:
        manifest.listed(place, {spectrum(3): "0" * 40})
    outcome = fetch(sas, root).outcome
    assert (outcome.missing, sas.asked[place]) == ([], 1)
    assert require_no_wrong_file(root, written) == N_SPECTRA


def test_a_part_of_another_version_is_not_glued(written, tmp_path):
    sas = shutil.copytree(written, tmp_path / "sas")
    changing, root = spectrum(3), tmp_path / "tree"
    once = Manners(first_wait=0.01, longest_wait=0.1, stall=0.3, tries=1)
    with serving(sas) as server:
        server.faults = {changing: ["reset"]}
        assert [path for path, _ in fetch(server, root, once).outcome.missing] == [changing]
        part = root / f"{changing}.part"
        assert 0 < part.stat().st_size < (sas / changing).stat().st_size
        shutil.copy(sas / spectrum(4), sas / changing)
        (sas / f"{BASE}/apo25m/060+00/r12_l33_apo25m_060+00.sha1sum").unlink()
        (root / MANIFEST).write_text("".join(
            line for line in (root / MANIFEST).read_text().splitlines(keepends=True) if ",sha1," not in line
        ))  # fmt: skip
        assert fetch(server, root, once).outcome.missing == []
    assert (root / changing).read_bytes() == (sas / spectrum(4)).read_bytes()
    assert changing in server.ranges


def test_files_that_are_there_are_used_or_put_aside(sas, written, tmp_path, caplog):
    root = shutil.copytree(written, tmp_path / "tree")
    (root / spectrum(3)).write_text("<html>404 Not Found</html>")
    content = (root / spectrum(4)).read_bytes()
    (root / spectrum(4)).write_bytes(content[:50_000])
    (root / spectrum(5)).write_bytes(content)  # another star's
    outcome = fetch(sas, root).outcome
    assert (outcome.fetched, outcome.missing) == (3, [])
    assert {path.name for path in root.rglob("*.wrong")} == {f"{Path(spectrum(n)).name}.wrong" for n in (3, 4, 5)}
    assert "web page saved as FITS" in caplog.text
    assert require_no_wrong_file(root, written) == len(list(written.glob(f"{BASE}/*/*/*.fits")))


def test_no_space_left_says_how_much_is_needed_and_goes_on(sas, written, tmp_path, monkeypatch):
    root, written_bytes = tmp_path / "tree", 0
    copy = Archive._copy

    async def full(self, answer, file):
        nonlocal written_bytes
        await copy(self, answer, file)
        written_bytes += file.tell()
        if written_bytes > 700_000:
            raise OSError(errno.ENOSPC, "No space left on device", file.name)

    monkeypatch.setattr(Archive, "_copy", full)
    with pytest.raises(InputError, match=r"no space left in .*: about .* MB more are needed for \d+ files, .* goes on"):
        fetch(sas, root)
    here = require_no_wrong_file(root, written)
    assert 0 < here < N_SPECTRA
    monkeypatch.undo()
    outcome = fetch(sas, root).outcome
    assert (outcome.missing, outcome.there) == ([], here + 2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    with pytest.raises(InputError, match=r"no room in .*: about 25.9 kB are needed, 1.0 kB are free"):
        fetch(sas, tmp_path / "another")


@pytest.mark.parametrize("bad", ["../../x", "/etc", "a\0b"])
def test_a_field_that_climbs_out_of_root_is_refused(tmp_path, bad):
    from mini_archive import mini_rows, write_catalogue, write_members

    rows = mini_rows()
    rows[1]["FIELD"] = bad
    write_catalogue(tmp_path / CATALOGUE, rows)
    write_members(tmp_path / MEMBERS)
    template = BASE + "/{TELESCOPE}/{FIELD}/aspcapStar-r12-{APOGEE_ID}.fits" if bad != "/etc" else "{FIELD}/{APOGEE_ID}"
    paths, elsewhere = spectra_needed(survey(tmp_path, spectrum=template))
    assert len(elsewhere) == 1
    assert bad in elsewhere[0][0]
    assert "leads out of root" in elsewhere[0][1]
    assert all(bad not in path for path in paths)


def test_what_makes_a_file_right(tmp_path, written):
    path = tmp_path / "a.fits"
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.arange(5000.0)), fits.ImageHDU(np.arange(9))])
    hdus.writeto(path, checksum=True)
    assert require_right(path) == CHECKSUMS
    content = path.read_bytes()
    for at in (9000, len(content) - 2880):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(UnusableFileError, match="CHECKSUM of HDU"):
            require_right(path)
    for wrong, reason in (
        (content[:-2880], "truncated"), (content[:-1], "truncated"), (content + content, "bytes behind"),
        (b"", "empty"), (b"SIMPLE", "not a FITS"), (b"\n <html>", "web page"),
    ):  # fmt: skip
        path.write_bytes(wrong)
        with pytest.raises(UnusableFileError, match=reason):
            require_right(path)
    path.write_bytes(content)
    assert require_right(path, hashlib.sha1(content).hexdigest()) == SHA1
    with pytest.raises(UnusableFileError, match="sha1 is not the archive's"):
        require_right(path, "0" * 40)
    assert require_right(written / MEMBERS) == STRUCTURE
    import gzip

    packed = gzip.compress(content)
    path.write_bytes(packed)
    assert require_right(path) == CHECKSUMS
    for wrong, reason in ((packed[:-20], "truncated"), (packed[:200] + b"x" + packed[201:], "unreadable|truncated")):
        path.write_bytes(wrong)
        with pytest.raises(UnusableFileError, match=reason):
            require_right(path)


def test_the_manifest_outlives_a_torn_line(tmp_path):
    (tmp_path / "a.fits").write_bytes(b"1")
    with Manifest(tmp_path) as manifest:
        manifest.found_right("a.fits", SHA1)
        manifest.begins("b.fits", '"etag, with a comma"')
        manifest.is_absent("c.fits")
    whole = (tmp_path / MANIFEST).read_bytes()
    for cut in range(1, 12):
        (tmp_path / MANIFEST).write_bytes(whole[:-cut])
        with Manifest(tmp_path) as manifest:
            assert manifest.is_whole("a.fits")
            assert manifest.parts == {"b.fits": '"etag, with a comma"'}
            manifest.is_absent("d.fits")
        assert "d.fits" in Manifest(tmp_path, reading=True).absent
    (tmp_path / MANIFEST).write_text("b.fits,part,whole,,,.\nb.fits,part,ha,,,")
    assert Manifest(tmp_path, reading=True).parts == {"b.fits": "whole"}
    (tmp_path / "a.fits").write_bytes(b"22")
    assert not Manifest(tmp_path, reading=True).is_whole("a.fits")


def test_where_sdss_keeps_its_tree():
    assert tree_root("x", {"SAS_BASE_DIR": "/sas"}) == (Path("x"), "root")
    assert tree_root(None, {"SAS_BASE_DIR": "/sas", "MWM_ASTRA": "/y"}) == (Path("/sas"), "SAS_BASE_DIR")
    for name, place in (
        ("APOGEE_REDUX", "/data/dr16/apogee/spectro/redux"),
        ("APOGEE_REDUX", "/data/dr19/spectro/apogee/redux/"),
        ("MWM_ASTRA", "/data/dr19/spectro/astra"),
    ):
        assert tree_root(None, {name: place}) == (Path("/data"), name)
    with pytest.raises(InputError, match="MWM_ASTRA=/astra is not in a tree of SDSS's layout"):
        tree_root(None, {"MWM_ASTRA": "/astra"})
    with pytest.raises(InputError, match="root=DIR must say where to"):
        tree_root(None, {})
    with pytest.raises(InputError, match="give the folder above, /data"):
        tree_root("/data/dr16", {})


def test_which_files_come_first(tmp_path):
    catalogue, members = first_needed(survey(tmp_path))
    assert catalogue.candidates[:2] == [CATALOGUE, f"{CATALOGUE}.gz"]
    assert members.candidates == [MEMBERS]
    assert len(first_needed(survey(tmp_path, members=str(tmp_path / "own.csv")))) == 1


pytest_hydra = pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra")
CUTS = "survey.cuts={abundances: {column: TEFF, above: 4000}}"


@pytest_hydra
def test_the_command(sas, tmp_path, capfd, caplog, monkeypatch):
    root = tmp_path / "my tree"
    options = ["download", f"root={root}", f"base_url={sas.address}", "release.checksums=[]"]
    assert main([*options, "dry_run=true"]) == 0
    assert capfd.readouterr().out.startswith("2 files are missing, about 34.6 kB")
    assert not root.exists()
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main([*options, "ask_above=0.0"]) == 2
    assert "yes=true fetches them" in capfd.readouterr().err
    sas.faults = lambda path, _: "corrupt" if path == spectrum(3) else ""
    quick = ["manners.first_wait=0.01", "manners.longest_wait=0.1"]
    assert main([*options, *quick]) == 1
    said = capfd.readouterr()
    assert "17 files are needed: 16 fetched, 0 there already, 1 missing" in said.out
    assert f"1 wrong 3 times: sha1 is not the archive's, the first: {spectrum(3)}" in said.out
    assert "to fetch: 15 files, about 1.7 MB" in caplog.text
    assert main([*options, "list_urls=true"]) == 0
    assert capfd.readouterr().out == f"{sas.address}/{spectrum(3)}\n"
    sas.faults = {}
    monkeypatch.setenv("SAS_BASE_DIR", str(root))
    assert main([options[0], *options[2:]]) == 0
    assert f"next: rsca ingest survey=apogee_dr16 'survey.root={root}' store=DIR" in caplog.text
    capfd.readouterr()
    assert main([*options, "verify_only=true"]) == 0
    (root / spectrum(4)).write_bytes((root / spectrum(4)).read_bytes()[:50_000])
    asked = sum(sas.asked.values())
    assert main([*options, "verify_only=true"]) == 1
    assert "1 truncated file, the first" in capfd.readouterr().out
    assert sum(sas.asked.values()) == asked
    assert not list(root.glob("*lock*"))


@pytest_hydra
def test_no_permission_is_said(sas, tmp_path, capfd, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "tree"))

    monkeypatch.setattr(Path, "mkdir", refused)
    assert main(["download", f"root={tmp_path}/tree", f"base_url={sas.address}"]) == 2
    said = capfd.readouterr().err
    assert "Permission denied" in said
    assert "choose a place where you may read and write" in said


class Astra(Reader):
    """A reader of DR19's layout as far as a download needs one: a catalogue's names, and a file a star."""

    roles: ClassVar = {"id": "sdss_id", "group": "cluster"}
    grid = Grid([5000.0, 5001.0])
    catalogue = ("dr19/spectro/astra/0.6.0/summary/astraAllStarASPCAP-0.6.0.fits",)

    def list_stars(self, columns):
        del columns
        with fits.open(self.root / f"{self.catalogue[0]}.gz") as hdus:
            ids = np.array(hdus[1].data["sdss_id"], dtype=np.int64)
        star = "dr19/spectro/astra/0.6.0/spectra/star/{:02d}/{:02d}/mwmStar-0.6.0-{}.fits"
        files = [star.format(one // 100 % 100, one % 100, one) for one in ids.tolist()]
        return Listing(Table({"sdss_id": ids, "cluster": [""] * len(ids), "FILE": files}))

    def read(self, star):
        raise AssertionError(f"nobody reads {star}")


def test_a_layout_without_lists_of_sha1_and_a_compressed_catalogue(tmp_path):
    sas, root = tmp_path / "sas", tmp_path / "tree"
    hdu = fits.BinTableHDU.from_columns([fits.Column("sdss_id", "K", array=[103020000, 70344997, 54321005])])
    catalogue = sas / f"{Astra.catalogue[0]}.gz"
    catalogue.parent.mkdir(parents=True)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(catalogue)
    for name in ("00/00/mwmStar-0.6.0-103020000.fits", "49/97/mwmStar-0.6.0-70344997.fits"):
        star = sas / "dr19/spectro/astra/0.6.0/spectra/star" / name
        star.parent.mkdir(parents=True)
        fits.HDUList([fits.PrimaryHDU(), hdu, fits.ImageHDU(np.arange(9000.0))]).writeto(star, checksum=True)
    absent = "dr19/spectro/astra/0.6.0/spectra/star/10/05/mwmStar-0.6.0-54321005.fits"
    with serving(sas) as server:
        first = star.relative_to(sas).as_posix()
        server.faults = {first: ["corrupt", "short"]}
        root.mkdir()

        async def work(manifest):
            async with Archive(server.address, QUICK, manifest) as archive:
                download = Download(Survey(root, Astra), archive, KnownSums(manifest))
                await download.first()
                await download.spectra()
                return download.outcome

        with Manifest(root) as manifest:
            outcome = asyncio.run(work(manifest))
    assert (outcome.fetched, outcome.unsure, outcome.problems) == (3, 0, [])
    assert outcome.absent == [(absent, "not in the archive (HTTP 404 Not Found)")]
    assert server.asked[first] == 3
    require_no_wrong_file(root, sas)
