"""Cluster memberships: the OCCAM catalogue, or a list of the user's own (docs/data.md, section 4)."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.survey.cuts import Cut
from rsca_torch.survey.fits_files import UnusableFileError, native, open_fits, require_table

__all__ = ["Memberships", "lone_members", "read_memberships"]

GROUP = "CLUSTER"


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

    Args:
        path: the file; ``.csv`` is read as CSV, all else as FITS.
        membership: who is a member, e.g. CG_PROB above 0.8. A CSV list may do without the column: then every row is a
            member. None: every row is a member.
        id: the column of ids.
        id_length: longer ids are cut to it, as the survey's tables cut them, before they are joined. None: none is.

    Raises:
        InputError: the file cannot be read, lacks a column, or has no member.
    """
    id = id.upper()  # noqa: A001  (as above)
    table = _read_csv(path, (id, GROUP)) if path.suffix.lower() == ".csv" else _read_fits(path)
    if not {id, GROUP} <= {*table.colnames}:
        raise InputError(f"{path} needs columns {id} and {GROUP}, got {', '.join(table.colnames)}")
    if membership and (membership.column.upper() in table.colnames or path.suffix.lower() != ".csv"):
        table = table[_members(path, table, membership)]
    clusters: dict[str, set[str]] = defaultdict(set)
    for star, cluster in zip(table[id].astype(str), table[GROUP].astype(str), strict=True):
        if star and (name := _normalised(cluster)):
            clusters[star.strip(" \0")[:id_length]].add(name)
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


def _members(path: Path, table: Table, membership: Cut) -> NDArray[np.bool_]:
    column = membership.column.upper()
    if column not in table.colnames:
        raise InputError(
            f"{path} has no membership column {column}, only {', '.join(table.colnames)}; set survey.membership"
        )
    return membership.mask(Table({membership.column: table[column]}))


def _read_fits(path: Path) -> Table:
    try:
        with open_fits(path) as hdus:
            hdu = require_table(hdus, 1, "table of members")
            # Numbers keep the file's precision: CG_PROB comes in steps of 0.1, and 0.8 must not grow in a cast.
            return Table({name.upper(): _own_precision(hdu.data[name]) for name in hdu.columns.names})
    except UnusableFileError as error:
        raise InputError(
            f"expected a FITS list of cluster members in {path}, got: {error}; a relative path counts from "
            "survey.root; fetch the file, give another, or set survey.members=null for no clusters"
        ) from error


def _own_precision(column: NDArray[np.generic]) -> NDArray[np.generic]:
    values = np.asarray(column)
    return values.astype(values.dtype.newbyteorder("=")) if values.dtype.kind == "f" else native(values)


def _read_csv(path: Path, texts: Sequence[str]) -> Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise InputError(f"expected a CSV list of cluster members in {path}, got: {error}") from error
    if not lines:
        raise InputError(
            f"expected a CSV list of cluster members in {path}, got: an empty file; its header is {','.join(texts)}"
        )
    header, *rows = lines
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise InputError(f"{path}: row {number} has {len(row)} cells, the header {len(header)} ({','.join(row)})")
    columns = {name.upper(): np.array([row[i] for row in rows], dtype=str) for i, name in enumerate(header)}
    return Table({name: values if name in texts else _numbers(values) for name, values in columns.items()})


def _numbers(values: NDArray[np.str_]) -> NDArray[np.generic]:
    try:
        return np.array([float(text or "nan") for text in values])
    except ValueError:
        return values
