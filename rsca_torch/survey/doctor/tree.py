"""What is wrong with a tree of survey files: each spectrum by itself, then what does not go together."""

from __future__ import annotations

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from rsca_torch.errors import InputError
from rsca_torch.survey.aspcapstar_folder import RELEASES
from rsca_torch.survey.doctor.lists import LISTS, list_remarks
from rsca_torch.survey.doctor.remarks import Remark, remark
from rsca_torch.survey.doctor.spectra import AGAIN, COMPANION, Spectrum, companion_remarks, spectra_remarks
from rsca_torch.survey.doctor.tables import Read, read_tables, table_remarks
from rsca_torch.survey.download.needed import first_needed, spectra_needed
from rsca_torch.survey.file_kinds import kind_by_name
from rsca_torch.survey.survey import Survey

__all__ = ["examine_tree"]

FITS = re.compile(r".+\.fits?(\.gz|\.fz)?$")
T = TypeVar("T")

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
    every = sorted(path.relative_to(root).as_posix() for path in _below(root))
    files = [file for file in every if FITS.match(file)]
    if not files:
        raise InputError(f"no FITS file in {root} or below: nothing to examine")
    spectra = [spectrum for file in files if (spectrum := Spectrum.of(file))]
    chosen = _sampled(spectra, sample)
    companions = [file for file in files if COMPANION.match(Path(file).name)]
    sums = (root / file for file in every if file.endswith(".sha1sum"))
    remarks = spectra_remarks(root, chosen, sums, progress) + companion_remarks(root, _sampled(companions, sample))
    if len(chosen) < len(spectra):
        remarks += [
            Remark("spectra were not read", len(spectra) - len(chosen), len(spectra), cure="sample=null reads all")
        ]
    kinds, others = defaultdict[str, list[str]](list), list[str]()
    named = {*(spectrum.file for spectrum in spectra), *companions}
    for file in (file for file in files if file not in named):
        kind = kind_by_name(Path(file).name)
        (kinds[kind] if kind and "catalogue" not in kind else others).append(file)
    for kind, found in kinds.items():
        remarks += remark(
            f"not aspcapStar but {kind}", found, len(files), "not used: rsca ingest needs aspcapStar", not spectra
        )
    tables, unusable = read_tables(root, others)
    for reason, found in unusable.items():
        remarks += remark(reason, found, cure=AGAIN, matters=True)
    remarks += table_remarks(tables)
    remarks += list_remarks(root, [file for file in every if LISTS.match(file)], tables)
    for of_kind in (False, True):
        remarks += _together([each for each in spectra if each.is_mwm == of_kind], tables)
    for survey in surveys:
        remarks += _needed(survey)
    remarks += remark(
        "unfinished downloads", [file for file in every if file.endswith(".fits.part")], cure="rsca download goes on"
    )
    needs, free = len(spectra) * OF_A_STAR, shutil.disk_usage(root).free
    if free < needs:
        what = f"spectra make a store of up to {needs / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free on this disk"
        remarks += [Remark(what, len(spectra), cure="make room, or give the store another place")]
    return sorted(remarks, key=lambda each: not each.matters)


def _sampled(given: Sequence[T], number: int | None) -> Sequence[T]:
    return given if number is None else given[:: max(1, len(given) // max(1, number))][:number]


def _below(root: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(root, onerror=refuse):
        folders.sort()
        yield from (Path(folder, name) for name in names)


def _together(spectra: Sequence[Spectrum], tables: Sequence[Read]) -> list[Remark]:
    """Releases, and ids of files and of catalogues; the spectra are of one kind."""
    releases, ids = defaultdict(list), defaultdict(list)
    for spectrum in spectra:
        releases[spectrum.release].append(spectrum.file)
        ids[spectrum.star[:18]].append(spectrum.file)
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
    kind = "sdss_id" if spectra and spectra[0].is_mwm else "apogee"
    catalogues = [
        table
        for table in tables
        if table.is_catalogue and table.kind == kind and (kind == "sdss_id" or table.release in (*releases, ""))
    ]
    if spectra and catalogues:
        known = {star[:18] for table in catalogues for star in table.ids.tolist()}
        unknown = [found[0] for star, found in ids.items() if star not in known]
        cure = "not used: is the catalogue of the same release, and whole?"
        remarks += remark(
            "files of stars that are not in the catalogue", unknown, len(ids), cure, len(unknown) == len(ids)
        )
        without = len(known - {*ids})
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
