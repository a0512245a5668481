"""Cluster memberships: the OCCAM catalogue, or a list of the user's own (docs/data.md, section 4)."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import has_name
from rsca_torch.survey.cuts import Cut
from rsca_torch.survey.listed_stars import cut_id, is_fits, read_listed, texts_of

__all__ = ["Memberships", "lone_members", "read_memberships"]

log = logging.getLogger(__name__)

GROUP = "CLUSTER"
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
    """Read a list of members, with a column of ids and a column CLUSTER, their names in any case.

    Rows without a name of a cluster (see `has_name`) or of a star are left out, which is logged.

    Args:
        path: the file, as `read_listed` reads it; CSV and FITS may be compressed.
        membership: who is a member, e.g. CG_PROB above 0.8. A list that is not FITS may do without the column: then
            every row is a member. None: every row is a member.
        id: the column of ids; whole numbers or text, never floats of more digits than a float has.
        id_length: longer ids are cut to it, as the survey's tables cut them, before they are joined. None: none is.

    Raises:
        InputError: the file cannot be read, lacks a column, has two columns whose names differ by case only, or has no
            member.
    """
    id = id.upper()  # noqa: A001  (as above)
    as_text = membership is not None and (membership.none_of or membership.any_of) is not None
    told = [membership.column.upper()] if membership and as_text else []
    table = read_listed(path, "cluster members", (id, GROUP), told)
    if not {id, GROUP} <= {*table.colnames}:
        raise InputError(f"{path} needs columns {id} and {GROUP}, got {', '.join(table.colnames)}")
    _tell_ignored(path, table, membership)
    if membership and (membership.column.upper() in table.colnames or is_fits(path)):
        table = table[_members(path, table, membership)]
    stars, names = texts_of(path, table, id), texts_of(path, table, GROUP)
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
            clusters[cut_id(star, id_length)].add(_normalised(name))
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
