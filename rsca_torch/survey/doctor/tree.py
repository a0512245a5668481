"""What is wrong with a tree of survey files: each spectrum by itself, then what does not go together."""

from __future__ import annotations

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rsca_torch.errors import InputError
from rsca_torch.survey.apogee import read_spectrum
from rsca_torch.survey.aspcapstar_folder import RELEASES
from rsca_torch.survey.doctor.remarks import Remark, remark
from rsca_torch.survey.doctor.tables import Read, read_tables, table_remarks
from rsca_torch.survey.download.known_sums import KnownSums
from rsca_torch.survey.download.manifest import Manifest
from rsca_torch.survey.download.needed import first_needed, spectra_needed
from rsca_torch.survey.download.right_files import STRUCTURE, require_right
from rsca_torch.survey.file_kinds import kind_by_name
from rsca_torch.survey.fits_files import UnusableFileError
from rsca_torch.survey.survey import Survey

__all__ = ["examine_tree"]

FITS = re.compile(r".+\.fits?(\.gz|\.fz)?$")
SPECTRUM = re.compile(r"aspcapStar-([^-]+)-(.+?)\.fits?(\.gz|\.fz)?$")
MWMSTAR = re.compile(r"mwmStar-.+\.fits?(\.gz|\.fz)?$")
#: A header card whose value is NaN, which FITS does not allow (docs/data.md).
ILLEGAL = re.compile(rb"[A-Z_ ]{8}= +NAN\b")
AGAIN = "fetch them again (rsca download puts what is wrong aside)"
#: Bytes of a star's flux and error in a store.
OF_A_STAR = 2 * 4 * 7514


def examine_tree(
    root: Path,
    surveys: Sequence[Survey] = (),
    sample: int | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Remark]:
    """Look at a tree of survey files, and change nothing.

    Args:
        root: of the tree, or any folder of files.
        surveys: those that ship; what the tree's own needs is looked for.
        sample: so many spectra are read, evenly chosen; None: all. Names and tables are always looked at.
        progress: is told how many of how many spectra were read.

    Returns:
        Remarks, those that matter first.

    Raises:
        InputError: there is no such folder, or no FITS file in it.
        OSError: a folder cannot be read.
    """
    if not root.is_dir():
        raise InputError(f"{root} must be a folder with survey files, or a store; there is no such folder")
    files = sorted(path.relative_to(root).as_posix() for path in _below(root) if FITS.match(path.name))
    if not files:
        raise InputError(f"no FITS file in {root} or below: nothing to examine")
    spectra = [file for file in files if SPECTRUM.match(Path(file).name)]
    chosen = spectra if sample is None else spectra[:: max(1, len(spectra) // max(1, sample))][:sample]
    remarks = _spectra(root, chosen, progress)
    if len(chosen) < len(spectra):
        remarks += [
            Remark("spectra were not read", len(spectra) - len(chosen), len(spectra), cure="sample=null reads all")
        ]
    kinds = defaultdict(list)
    others = [file for file in files if file not in set(spectra)]
    for file in others:
        kind = kind_by_name(Path(file).name)
        if not MWMSTAR.match(Path(file).name) and kind and "catalogue" not in kind:
            kinds[kind].append(file)
    for kind, found in kinds.items():
        remarks += remark(
            f"not aspcapStar but {kind}", found, len(files), "not used: rsca ingest needs aspcapStar", not spectra
        )
    looked_at = [file for file in others if file not in {each for found in kinds.values() for each in found}]
    tables, unusable = read_tables(root, [file for file in looked_at if not MWMSTAR.match(Path(file).name)])
    for reason, found in unusable.items():
        remarks += remark(reason, found, cure=AGAIN, matters=True)
    remarks += table_remarks(tables)
    remarks += _together(spectra, tables)
    for survey in surveys:
        remarks += _needed(survey)
    remarks += remark("unfinished downloads", _parts(root), cure="rsca download goes on")
    needs, free = len(spectra) * OF_A_STAR, shutil.disk_usage(root).free
    if free < needs:
        what = f"spectra make a store of up to {needs / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free on this disk"
        remarks += [Remark(what, len(spectra), cure="make room, or give the store another place")]
    return sorted(remarks, key=lambda each: not each.matters)


def _below(root: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(root, onerror=refuse):
        folders.sort()
        yield from (Path(folder, name) for name in names)


def _parts(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in _below(root) if path.name.endswith(".fits.part"))


def _spectra(root: Path, spectra: Sequence[str], progress: Callable[[int, int], None]) -> list[Remark]:
    """Each file by itself."""
    sums = KnownSums(Manifest(root, reading=True))
    lists = {path.parent: path for path in _below(root) if path.name.endswith(".sha1sum")}
    reasons, unsure, illegal = defaultdict(list), [], []
    for number, file in enumerate(spectra):
        path = root / file
        try:
            how = require_right(path, _sum_of(path, file, lists, sums))
            read_spectrum(path)
            with path.open("rb") as content:
                if ILLEGAL.search(content.read(5760)):
                    illegal.append(file)
            if how == STRUCTURE:
                unsure.append(file)
        except UnusableFileError as error:
            reasons[re.sub(r"\d{4,}|0x\w+", "N", str(error))].append(file)
        progress(number + 1, len(spectra))
    total = len(spectra)
    remarks = []
    for reason, found in reasons.items():
        grid = reason.startswith("wrong grid")
        cure = "spectra of one store have one grid: leave them out" if grid else AGAIN
        remarks += remark(reason, found, total, cure, True)
    remarks += remark("no checksum, neither a list nor in the file: its structure alone was checked", unsure, total)
    remarks += remark(
        "a header card is NaN, which FITS does not allow", illegal, total, "nothing to do: it is not read"
    )
    return remarks


def _sum_of(path: Path, file: str, lists: dict[Path, Path], sums: KnownSums) -> str:
    if known := sums.known(file):
        return known
    if path.parent not in lists:
        return ""
    for line in lists[path.parent].read_text(encoding="utf-8", errors="replace").splitlines():
        sha1, _, name = line.partition(" ")
        if name.strip(" *").rpartition("/")[2] == path.name:
            return sha1
    return ""


def _together(spectra: Sequence[str], tables: Sequence[Read]) -> list[Remark]:
    """Releases, and ids of files and of catalogues."""
    releases, ids = defaultdict(list), defaultdict(list)
    for file in spectra:
        if match := SPECTRUM.match(Path(file).name):
            releases[RELEASES.get(match[1], match[1])].append(file)
            ids[match[2]].append(file)
    remarks = []
    if len(releases) > 1:
        most = max(releases, key=lambda name: len(releases[name]))
        for name, found in releases.items():
            if name != most:
                what = f"spectra of {name} beside those of {most}"
                remarks += remark(what, found, len(spectra), "ingest one release at a time", True)
    astray = [
        file
        for name, found in releases.items()
        for file in found
        if (told := re.match(r"(?:.*/)?(dr\d+)/", file)) and told[1] != name and name in RELEASES.values()
    ]
    remarks += remark("spectra lie in the folder of another release", astray, len(spectra), "move them", True)
    catalogues = [table for table in tables if table.is_catalogue and table.release in (*releases, "")]
    if spectra and catalogues:
        known = {star[:18] for table in catalogues for star in table.ids}
        unknown = [found[0] for star, found in ids.items() if star[:18] not in known]
        cure = "not used: is the catalogue of the same release, and whole?"
        remarks += remark(
            "files of stars that are not in the catalogue", unknown, len(ids), cure, len(unknown) == len(ids)
        )
        without = len(known - {star[:18] for star in ids})
        remarks += [Remark("stars of the catalogue have no file here", without, len(known))] if without else []
    return remarks


def _needed(survey: Survey) -> list[Remark]:
    """What the survey of a tree needs and is not there."""
    first = [
        (needed, [path for path in needed.candidates if (survey.root / path).is_file()])
        for needed in first_needed(survey)
    ]
    if not first or not first[0][1]:
        return []
    lacking = [needed.what for needed, there in first if not there]
    fetch = f"rsca download survey={survey.name} root={survey.root} fetches them"
    remarks = remark(
        f"no {' and no '.join(lacking)} of {survey.name}" if lacking else "", lacking, cure=fetch, matters=True
    )
    lite = [path for _, there in first[:1] for path in there[:1] if "Lite" in path]
    needs_id = "{LOCATION_ID}" in str(survey.of_reader.get("spectrum", ""))
    cure = "the full allStar is needed to find spectra" if needs_id else "enough for all but rsca reproduce figure8"
    remarks += remark("allStarLite in place of allStar", lite, cure=cure, matters=needs_id)
    if lacking:
        return remarks
    try:
        paths, elsewhere = spectra_needed(survey)
    except InputError as error:
        return [*remarks, Remark(f"{survey.name}: {error}", 1, matters=True)]
    missing = [path for path in paths if not any((survey.root / f"{path}{end}").exists() for end in ("", ".gz", ".fz"))]
    remarks += remark(
        f"{survey.name} needs spectra that are not there", missing, len(paths), fetch, len(missing) > len(paths) / 2
    )
    return remarks + remark(
        "paths in the catalogue lead out of the tree", [path for path, _ in elsewhere], cure="not used"
    )
