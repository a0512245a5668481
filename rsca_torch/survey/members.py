"""Cluster memberships: the OCCAM catalogue, or a list of the user's own (docs/data.md, section 4)."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import has_name
from rsca_torch.survey.cuts import Cut
from rsca_torch.survey.fits_files import UnusableFileError, native, open_fits, require_table, whole_file

__all__ = ["Memberships", "lone_members", "read_memberships"]

log = logging.getLogger(__name__)

GROUP = "CLUSTER"
EXACT = 2**53  # beyond it a float is not every whole number
#: Columns that tell of membership, whatever they are called.
TELLING = re.compile(r"PROB|MEMB|^P$|^PM$")


class Memberships(NamedTuple):
    """Who belongs where.

    Attributes:
        cluster: star id -> cluster name.
        ambiguous: star id -> the several clusters that claim it; such a star is neither member nor field.
    """

    cluster: dict[str, str]
    ambiguous: dict[str, list[str]]

    def of(self, ids: NDArray[np.str_]) -> NDArray[np.str_]:
        """(N,) the cluster of each star, '' for none."""
        return np.array([self.cluster.get(star, "") for star in ids], dtype=str)


def read_memberships(path: Path, membership: Cut | None, id: str, id_length: int | None = None) -> Memberships:  # noqa: A002  (the role's name)
    """Read a list of members, FITS or CSV, with a column of ids and a column CLUSTER, their names in any case.

    Rows without a name of a cluster (see `has_name`) or of a star are left out, which is logged.

    Args:
        path: the file; ``.csv`` is read as CSV, all else as FITS; both may be compressed.
        membership: who is a member, e.g. CG_PROB above 0.8. A CSV list may do without the column: then every row is a
            member. None: every row is a member.
        id: the column of ids; whole numbers or text, never floats of more digits than a float has.
        id_length: longer ids are cut to it, as the survey's tables cut them, before they are joined. None: none is.

    Raises:
        InputError: the file cannot be read, lacks a column, has two columns whose names differ by case only, or has no
            member.
    """
    id = id.upper()  # noqa: A001  (as above)
    is_csv = ".csv" in [suffix.lower() for suffix in path.suffixes[-2:]]
    table = _read_csv(path, (id, GROUP), membership) if is_csv else _read_fits(path, (id, GROUP))
    if not {id, GROUP} <= {*table.colnames}:
        raise InputError(f"{path} needs columns {id} and {GROUP}, got {', '.join(table.colnames)}")
    _tell_ignored(path, table, membership)
    if membership and (membership.column.upper() in table.colnames or not is_csv):
        table = table[_members(path, table, membership)]
    stars, names = _texts(path, table, id), _texts(path, table, GROUP)
    unnamed = [star for star, name in zip(stars, names, strict=True) if not has_name(name)]
    if unnamed:
        log.warning(
            "%d of %d members on %s have no cluster's name (the first: %s): left out of the list, so they count as "
            "any star that is not on it",
            len(unnamed),
            len(table),
            path.name,
            unnamed[0] or "a row without an id",
        )
    clusters: dict[str, set[str]] = defaultdict(set)
    nobody = 0
    for star, name in zip(stars, names, strict=True):
        if has_name(star) and has_name(name):
            clusters[_cut(star, id_length)].add(_normalised(name))
        nobody += has_name(name) and not has_name(star)
    if nobody:
        log.warning("%d of %d members on %s have no %s: left out", nobody, len(table), path.name, id)
    if not clusters:
        raise InputError(f"no row of {path} is a cluster member; set survey.membership to what its columns mean")
    return Memberships(
        {star: next(iter(names)) for star, names in clusters.items() if len(names) == 1},
        {star: sorted(names) for star, names in clusters.items() if len(names) > 1},
    )


def lone_members(clusters: NDArray[np.str_]) -> list[str]:
    """The names of clusters with one member: nothing to compare that member with."""
    names, counts = np.unique(clusters[clusters != ""], return_counts=True)
    return [str(name) for name in names[counts == 1]]


def _normalised(cluster: str) -> str:
    """The member file writes ``ASCC 116``, the cluster file ``ASCC_116``."""
    return re.sub(r"[\s_]+", " ", cluster.strip(" \0")).strip()


def _cut(star: str, length: int | None) -> str:
    bare = re.sub(r"\s+", "", star)
    if length is None or len(star) <= length or re.search(r"\d{17}", bare):  # whole numbers are never cut
        return star
    # 2MASS J19203303+3755558 is longer for what stands before it.
    return re.sub(r"^2MASSJ?(?=\d{8}[+-])", "2M", bare, flags=re.IGNORECASE)[:length]


def _texts(path: Path, table: Table, column: str) -> list[str]:
    """A column as text, whole numbers exactly.

    Raises:
        InputError: it holds numbers of so many digits that a float has lost some.
    """
    values = np.asarray(table[column])
    if values.dtype.kind == "f":
        lost = values[np.isfinite(values) & (np.abs(values) >= EXACT)]
        texts = [str(int(value)) if np.isfinite(value) and value == int(value) else str(value) for value in values]
    else:
        texts = [str(value).strip(" \0") for value in values]
        floats = [text for text in texts if re.fullmatch(r"\d+\.\d*|\d+(\.\d*)?[eE][+-]?\d+", text)]
        lost = [text for text in floats if float(text) >= EXACT]
    if len(lost):
        raise InputError(
            f"{path}: {column} holds {lost[0]}, a number that passed through a float and lost its last digits; "
            "write the ids as whole numbers or as text"
        )
    return texts


def _tell_ignored(path: Path, table: Table, membership: Cut | None) -> None:
    looked_at = membership.column.upper() if membership else ""
    ignored = [name for name in table.colnames if TELLING.search(name) and name != looked_at]
    if ignored and looked_at in table.colnames:
        log.info("%s: %s ignored, since survey.membership looks at %s", path.name, _are(ignored), looked_at)
    elif ignored:
        why = f"looks at {looked_at}, which is not there" if looked_at else "is null"
        log.warning(
            "%s: %s ignored, since survey.membership %s: every row counts as a member; "
            "survey.membership={column: %s, above: 0.8}, say, would choose",
            path.name,
            _are(ignored),
            why,
            ignored[0],
        )


def _are(columns: Sequence[str]) -> str:
    return f"{', '.join(columns)} {'is' if len(columns) == 1 else 'are'}"


def _members(path: Path, table: Table, membership: Cut) -> NDArray[np.bool_]:
    column = membership.column.upper()
    if column not in table.colnames:
        raise InputError(
            f"{path} has no membership column {column}, only {', '.join(table.colnames)}; set survey.membership"
        )
    return membership.mask(Table({membership.column: table[column]}))


def _require_different(path: Path, names: Sequence[str]) -> None:
    """Refuse two columns whose names differ by case only: names are taken in any case."""
    twice = [name for name, count in Counter(name.upper() for name in names).items() if count > 1]
    if twice:
        same = " and ".join(name for name in names if name.upper() == twice[0])
        raise InputError(f"{path} has columns {same}, which differ by case only: which is meant? rename or remove one")


def _read_fits(path: Path, texts: Sequence[str]) -> Table:
    try:
        with open_fits(path) as hdus:
            hdu = require_table(hdus, 1, "table of members")
            _require_different(path, hdu.columns.names)
            # Numbers keep the file's precision: CG_PROB comes in steps of 0.1, and 0.8 must not grow in a cast.
            table = Table({name.upper(): _own_precision(hdu.data[name]) for name in hdu.columns.names})
            for column in hdu.columns:
                if column.null is not None and (name := column.name.upper()) in texts:
                    table[name] = np.where(table[name] == column.null, "", table[name].astype(str))
            return table
    except UnusableFileError as error:
        raise InputError(
            f"expected a FITS list of cluster members in {path}, got: {error}; a relative path counts from "
            "survey.root; fetch the file, give another, or set survey.members=null for no clusters"
        ) from error


def _own_precision(column: NDArray[np.generic]) -> NDArray[np.generic]:
    values = np.asarray(column)
    return values.astype(values.dtype.newbyteorder("=")) if values.dtype.kind == "f" else native(values)


def _read_csv(path: Path, texts: Sequence[str], membership: Cut | None) -> Table:
    try:
        with whole_file(path) as whole:
            content = whole.read_text(encoding="utf-8-sig")
        lines = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(content, newline="")) if row]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, UnusableFileError) as error:
        raise InputError(f"expected a CSV list of cluster members in {path}, got: {error}") from error
    if not lines:
        raise InputError(
            f"expected a CSV list of cluster members in {path}, got: an empty file; its header is {','.join(texts)}"
        )
    header, *rows = lines
    _require_different(path, header)
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise InputError(f"{path}: row {number} has {len(row)} cells, the header {len(header)} ({','.join(row)})")
    columns = {name.upper(): np.array([row[i] for row in rows], dtype=str) for i, name in enumerate(header)}
    as_text = membership is not None and (membership.none_of or membership.any_of) is not None
    kept = {*texts, *([membership.column.upper()] if membership and as_text else [])}
    return Table({name: values if name in kept else _numbers(values) for name, values in columns.items()})


def _numbers(values: NDArray[np.str_]) -> NDArray[np.generic]:
    try:
        return np.array([float(text or "nan") for text in values])
    except ValueError:
        return values
