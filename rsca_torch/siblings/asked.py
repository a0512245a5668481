"""Which stars are asked about: by id, of a list, of a group; always by name, never by number."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import as_text, nearest, printable
from rsca_torch.spectra.stars import Stars
from rsca_torch.survey.list_formats import read_columns
from rsca_torch.survey.listed_stars import texts_of
from rsca_torch.survey.member_ids import ids_meant

__all__ = ["ids_in", "members_of", "rows_of"]

log = logging.getLogger(__name__)

LINES = ("", ".txt", ".lst")  # endings of files with an id a line


def rows_of(stars: Stars, ids: Sequence[object] | NDArray[np.generic]) -> tuple[NDArray[np.int64], list[str]]:
    """(m,) rows of the ids that are there, in their order, each once; and those that are not.

    An id may stand as another list of the survey writes it (`survey.member_ids.ids_meant`): 2MASS J..., Gaia DR3 ....

    Raises:
        InputError: none is there, which offers the nearest; or an id stands in several rows.

    Examples:
        >>> stars = Stars.of({"id": ["2M1", "2M2"]})
        >>> rows_of(stars, ["2M2", "2M9"])
        (array([1]), ['2M9'])
        >>> rows_of(stars, ["2M9"])
        Traceback (most recent call last):
        rsca_torch.errors.InputError: the star 2M9 is not there; the nearest ids: 2M2, 2M1 (rsca why 2M9 store=DIR ...
    """
    given, known = as_text(list(ids)).tolist(), stars.id
    meant = ids_meant(given, set(known.tolist()), stars.roles["id"])
    otherwise = [one for one in given if meant.get(one, one) != one]
    if otherwise:
        first, there = printable(otherwise[0]), meant[otherwise[0]]
        log.info("%d ids are written otherwise in the store: %s is %s", len(otherwise), first, there)
    wanted = list(dict.fromkeys(meant.get(one, one) for one in given))
    order = np.argsort(known, kind="stable")
    place = np.searchsorted(known[order], wanted)
    there = (place < len(known)) & (known[order[np.minimum(place, len(known) - 1)]] == np.array(wanted, dtype=str))
    missing = [one for one, is_there in zip(wanted, there, strict=True) if not is_there]
    if not there.any():
        if not wanted:
            raise InputError("no id is given: name a star that is in the store")
        others = f", nor are {len(missing) - 1} others" if len(missing) > 1 else ""
        first = printable(missing[0])
        raise InputError(
            f"the star {first} is not there{others}; {_offered(missing[0], known)} "
            f"(rsca why {shlex.quote(first)} store=DIR says whether it was removed)"
        )
    found = order[place[there]]
    following = np.minimum(place[there] + 1, len(known) - 1)
    twice = (known[order[following]] == known[found]) & (following != place[there])
    if twice.any():
        raise InputError(f"the id {printable(str(known[found[twice][0]]))} stands in several rows: one a star expected")
    return found, missing


def members_of(stars: Stars, group: str) -> NDArray[np.int64]:
    """Rows of the stars of a cluster or another group.

    Raises:
        InputError: there is none; offers the nearest names.
    """
    if not stars.has("group"):
        raise InputError("no column of the star table plays the role group: give a star's id")
    rows = np.flatnonzero(stars.group == group)
    if not len(rows):
        names = np.unique(stars.group[stars.group != ""])
        raise InputError(f"the group {printable(group)} has no star here; {_offered(group, names, 'names')}")
    return rows


def ids_in(path: Path, stars: Stars) -> list[str]:
    """Ids of a file: of text with one a line, or of a table (CSV, FITS, ECSV, VOTable, Parquet) with a column of them.

    The column is the one that plays the role id in the star table, else id or star, else the only one.

    Raises:
        InputError: the file is not there, has no such column, no id, or ids that passed through a float.
    """
    if not path.is_file():
        raise InputError(f"ids={path}: there is no such file")
    name = stars.roles["id"].upper()
    if path.suffix.lower() in LINES:
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
        except UnicodeDecodeError as error:
            raise InputError(
                f"ids={path} is no text with an id a line ({error.reason}): give one, or a table"
            ) from error
        found = [line for line in lines if line and not line.startswith("#")]
        found = found[1:] if found and found[0].upper() == name else found
    else:
        column = ""

        def choose(names: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
            nonlocal column
            alone = names if len(names) == 1 else ()
            column = next((one for one in (name, "ID", "STAR", *alone) if one in names), "")
            if not column:
                there = ", ".join(map(printable, names))
                raise InputError(f"no column {name}, ID or STAR; there are {there}: rename one")
            return (column,), ()

        table = read_columns(path, "ids", choose)
        found = [text for text in texts_of(path, table, column) if text]
    if not found:
        raise InputError(f"ids={path} holds no id")
    return found


def _offered(name: str, known: NDArray[np.str_], what: str = "ids") -> str:
    near = nearest(name, known)
    return f"the nearest {what}: {', '.join(map(printable, near))}" if near else "there are none"
