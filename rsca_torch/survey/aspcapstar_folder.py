"""A folder of aspcapStar files without a catalogue: the star table comes from each file's own HDU 4."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.stars import abundance_column, error_column
from rsca_torch.survey.apogee import ELEMENTS, STAR_COLUMNS, ApogeeReader, add_columns
from rsca_torch.survey.file_kinds import kind_by_name, require_aspcapstar
from rsca_torch.survey.fits_files import COMPRESSED, UnusableFileError, native, open_fits, require_table
from rsca_torch.survey.reader import Listing
from rsca_torch.survey.unusable import OF_THE_FILE

__all__ = ["AspcapstarFolder", "read_folder"]

log = logging.getLogger(__name__)

#: The reduction's name in a file name (aspcapStar-r12-<id>.fits) tells the release.
RELEASES = {"r6": "dr13", "r8": "dr14", "r12": "dr16", "dr17": "dr17"}

#: Where HDU 4 of the older releases keeps what allStar has under a name of its own.
OLDER_NAMES = {"VHELIO_AVG": ("VHELIO", 0)} | {
    name: ("PARAM", index) for name, index in {"TEFF": 0, "LOGG": 1, "M_H": 3, "ALPHA_M": 6}.items()
}

#: What tells two observations of a star from two files of one, copies or reductions: the archive has one row of these.
OBSERVATION = ("APOGEE_ID", "TELESCOPE", "FIELD", "LOCATION_ID")

WANTED = {*STAR_COLUMNS, "VHELIO", "PARAM", "X_H", "X_H_ERR"}


class AspcapstarFolder(ApogeeReader):
    """Every readable spectrum in a folder and below; of two files of one observation the first in order of path counts.

    Args:
        root: the folder.
        spectrum: the pattern of the file names.
        release: dr13, dr14, dr16 or dr17; None: told from each file's name.
    """

    def __init__(self, root: str | Path, spectrum: str, release: str | None = None) -> None:
        super().__init__(root)
        self.spectrum, self.release = spectrum, release

    def list_stars(self, columns: Sequence[str]) -> Listing:
        """The star tables of all files, read once."""
        del columns
        stars, problems = read_folder(self.root, self.spectrum, self.release)
        return Listing(add_columns(stars), problems, "files", "star table unusable or double")


def read_folder(root: Path, pattern: str, release: str | None) -> tuple[Table, list[tuple[str, str]]]:
    """The star table of a folder of aspcapStar files, in the order of the files' names.

    Args:
        root: the folder, searched with all below it, through links too.
        pattern: which file names are spectra, e.g. ``aspcapStar-*.fits``, compressed or not.
        release: dr13, dr14, dr16 or dr17; None: told from each file's name.

    Returns:
        One row an observation (`STAR_COLUMNS`, FILE relative to root, the abundances), and (file, problem) of what
        cannot be used. Where two files hold the same observation of a star (`OBSERVATION`), the first counts.

    Raises:
        InputError: no such folder, no such files, or none of them can be used.
    """
    if not root.is_dir():
        raise InputError(f"survey.root={root} must be a folder of spectra; there is no such folder")
    files = _found(root, pattern)
    if not files:
        raise InputError(
            f"no file named {pattern} in survey.root={root} or below{_others(root)}; set survey.spectrum to their names"
        )
    log.info("reading the star tables of %d files", len(files))
    stars: dict[tuple[str, ...], dict[str, Any]] = {}
    problems = []
    for file in files:
        try:
            star = _read_star(root / file, release) | {"FILE": file}
            observation = tuple(str(star[name]) for name in OBSERVATION)
            if observation in stars:
                raise UnusableFileError(f"duplicate of star {star['APOGEE_ID']}")
            stars[observation] = star
        except UnusableFileError as error:
            problems.append((file, str(error)))
    if not stars:
        raise InputError(f"none of the {len(files)} files in survey.root={root} can be used; the first: {problems[0]}")
    return _table(list(stars.values())), problems


def _found(root: Path, pattern: str) -> list[str]:
    """Files of that pattern, or of it with the ending of a compressed file; links are followed, each file once."""
    patterns = [pattern, *(f"{pattern}{suffix}" for suffix in COMPRESSED)]
    files: dict[Any, str] = {}
    for path in sorted(_below(root)):
        if any(path.relative_to(root).match(form) for form in patterns):
            told = path.stat() if path.exists() else None  # a link to nothing is a file that is missing
            files.setdefault((told.st_dev, told.st_ino) if told else path, path.relative_to(root).as_posix())
    return sorted(files.values())


def _below(root: Path) -> Iterator[Path]:
    seen = set()

    def stop(error: OSError) -> None:
        if error.errno not in OF_THE_FILE:  # a file server that fails would make the survey smaller
            raise error

    for folder, folders, names in os.walk(root, onerror=stop, followlinks=True):
        told = Path(folder).stat()
        if (told.st_dev, told.st_ino) in seen:  # a link to a folder above or beside
            folders.clear()
            continue
        seen.add((told.st_dev, told.st_ino))
        folders.sort()
        yield from (Path(folder, name) for name in names)


def _others(root: Path) -> str:
    """Which files of other kinds are there."""
    kinds = Counter(kind for path in _below(root) if (kind := kind_by_name(path.name)))
    return f"; there are {', '.join(f'{count} of {kind}' for kind, count in kinds.items())}" if kinds else ""


def _read_star(path: Path, release: str | None) -> dict[str, Any]:
    release = release or RELEASES.get(path.name.split("-")[1] if "-" in path.name else "")
    if release not in ELEMENTS:
        raise UnusableFileError("release not told by the file's name; set survey.release")
    with open_fits(path) as hdus:
        require_aspcapstar(hdus)
        hdu = require_table(hdus, 4, "star table", "APOGEE_ID")
        row = {name: native(hdu.data.field(name)).ravel() for name in hdu.columns.names if name in WANTED}
    star = {name: _value(row, name, missing) for name, missing in STAR_COLUMNS.items()}
    if "VISITS" not in row:
        del star["VISITS"]
    if not star["APOGEE_ID"]:
        raise UnusableFileError("APOGEE_ID is empty in HDU 4 (star table)")
    return star | _abundances(row, ELEMENTS[release])


def _value(row: dict[str, NDArray[Any]], name: str, missing: Any) -> Any:  # noqa: ANN401  (text, integer or float)
    kept_as, index = (name, 0) if name in row else OLDER_NAMES.get(name, (name, 0))
    values = row.get(kept_as, ())
    return values[index] if len(values) else missing


def _abundances(row: dict[str, NDArray[Any]], elements: list[str]) -> dict[str, float]:
    told: dict[str, float] = {}
    for name, column in (("X_H", abundance_column), ("X_H_ERR", error_column)):
        values = row.get(name, np.full(len(elements), np.nan))
        if len(values) != len(elements):
            raise UnusableFileError(
                f"{name} has {len(values)} values, not {len(elements)}; survey.release may be another"
            )
        told |= {column(element): value for element, value in zip(elements, values, strict=True)}
    return told


def _table(stars: list[dict[str, Any]]) -> Table:
    """Columns from values: the text columns of HDU 4 differ in width from file to file, so rows cannot be stacked."""
    names = list(dict.fromkeys(name for star in stars for name in star))
    return Table({name: [star.get(name, STAR_COLUMNS.get(name, np.nan)) for star in stars] for name in names})
