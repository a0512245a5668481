"""Cluster memberships: the OCCAM catalogue, or a list of the user's own (docs/data.md, section 4)."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import has_name
from rsca_torch.survey.cuts import Cut, cuts_of
from rsca_torch.survey.id_kinds import kind_of_column, require_kind
from rsca_torch.survey.list_formats import format_of, read_columns
from rsca_torch.survey.listed_stars import cut_id, texts_of

__all__ = ["ListedAs", "Memberships", "lone_members", "read_memberships"]

log = logging.getLogger(__name__)

GROUP = "CLUSTER"
#: Columns that tell of membership, whatever they are called.
TELLING = re.compile(r"PROB|MEMB|^P$|^PM$")


class Memberships(NamedTuple):
    """Who belongs where.

    Attributes:
        cluster: star id -> cluster name.
        ambiguous: star id -> the several clusters that claim it; such a star is neither member nor field.
        column: of the list's ids, as the list calls it in upper case; '': none is known.
        counts: what became of the list's rows: text -> number.
    """

    cluster: dict[str, str]
    ambiguous: dict[str, list[str]]
    column: str = ""
    counts: Mapping[str, int] = MappingProxyType({})

    def of(self, ids: NDArray[np.str_]) -> NDArray[np.str_]:
        """(N,) the cluster of each star, '' for none."""
        return np.array([self.cluster.get(star, "") for star in ids], dtype=str)


@dataclass(frozen=True)
class ListedAs:
    """How a list of members is written: ``survey.listed``.

    Attributes:
        format: one of `FORMATS`. None: the end of the file's name tells.
        readme: of a "cds" table, the file beside it that says where columns are. None: ReadMe.
        hdu: the number of the table in a FITS file.
        id: its column of ids. None: that of the role id, or the first whose name tells a kind that the survey has.
        kind: of these ids, one of `KINDS`. None: told by the column's name, or by the ids.
        cluster: its column of clusters. None: CLUSTER, or else NAME.
        cuts: which rows count, besides `survey.membership`: name -> the other keys of a `Cut`.

    Raises:
        InputError: kind is none.
    """

    format: str | None = None
    readme: str | None = None
    hdu: int = 1
    id: str | None = None
    kind: str | None = None
    cluster: str | None = None
    cuts: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        require_kind("survey.listed.kind", self.kind)

    @classmethod
    def of(cls, options: ListedAs | Mapping[str, Any] | None) -> ListedAs:
        """From its YAML mapping.

        Raises:
            InputError: it has another key.
        """
        if isinstance(options, ListedAs):
            return options
        if unknown := set(options or {}) - set(cls.__dataclass_fields__):
            known = ", ".join(cls.__dataclass_fields__)
            raise InputError(f"survey.listed has keys {known}, got {', '.join(sorted(unknown))}")
        return cls(**(options or {}))

    def id_and_group(self, names: Sequence[str], id: str, kinds: Collection[str]) -> tuple[str, str]:  # noqa: A002
        """Its columns of ids and of clusters, in upper case.

        Raises:
            InputError: it has not both.
        """
        known = [name for kind in kinds for name in names if kind_of_column(name) == kind]
        # Of a kind that the survey has not: that is to be said, and not that the list lacks the survey's own column.
        known += [name for name in names if kinds and kind_of_column(name)]
        column = self.id.upper() if self.id else next((name for name in (id.upper(), *known) if name in names), id)
        other = "NAME" if "NAME" in names and GROUP not in names else GROUP
        group = self.cluster.upper() if self.cluster else other
        if not {column, group} <= {*names}:
            raise InputError(
                f"needs columns {column.upper()} and {group}, got {', '.join(names)}; survey.listed.id=COLUMN and "
                "survey.listed.cluster=COLUMN say what they are called"
            )
        return column, group


def read_memberships(
    path: Path,
    membership: Cut | None,
    id: str,  # noqa: A002  (the role's name)
    id_length: int | None = None,
    listed: ListedAs | None = None,
    kinds: Collection[str] = (),
) -> Memberships:
    """Read a list of members: a column of ids and one of clusters, their names in any case, and what cuts look at.

    Rows without a name of a cluster (see `has_name`) or of a star (0 is none either) are left out, which is logged.

    Args:
        path: the file, as `read_columns` reads it; it may be compressed.
        membership: who is a member, e.g. CG_PROB above 0.8. A list that is not FITS may do without the column: then
            every row is a member. None: every row is a member.
        id: the column of ids, where `listed` names none; whole numbers or text, never floats of more digits than a
            float has.
        id_length: longer ids are cut to it, as the survey's tables cut them, before they are joined. None: none is.
        listed: how the list is written. None: as its name and its columns tell.
        kinds: of ids that the survey has, best first.

    Raises:
        InputError: the file cannot be read, lacks a column, has two columns whose names differ by case only, or has no
            member.
    """
    listed = listed or ListedAs()
    cuts = cuts_of(listed.cuts)
    columns: list[str] = []  # of ids, of clusters
    every: list[str] = []

    def choose(names: Sequence[str]) -> tuple[list[str], list[str]]:
        every[:], columns[:] = names, listed.id_and_group(names, id, kinds)
        conditions = [*([membership] if membership else []), *cuts]
        texts = [cut.column.upper() for cut in conditions if (cut.none_of or cut.any_of) is not None]
        return [*columns, *(name for name in texts if name in names)], [
            cut.column.upper() for cut in conditions if cut.column.upper() in names
        ]

    table = read_columns(path, "cluster members", choose, listed.format, listed.readme, listed.hdu)
    rows, (id, group) = len(table), columns  # noqa: A001  (as above)
    counts = {"rows": rows}
    _tell_ignored(path, every, membership)
    if membership and (membership.column.upper() in every or (listed.format or format_of(path)) == "fits"):
        table = table[_members(path, every, table, membership)]
        counts[f"not {membership.column} {_condition(membership)}"] = rows - len(table)
    for cut in cuts:
        before = len(table)
        table = table[_members(path, every, table, cut)]
        counts[f"left out by {cut.name}"] = before - len(table)
    stars, names = texts_of(path, table, id), texts_of(path, table, group)
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
        is_star = has_name(star) and star != "0"  # Gaia's ids are never 0, surveys write it where there is none
        if is_star and has_name(name):
            clusters[cut_id(star, id_length)].add(_normalised(name))
        nobody += has_name(name) and not is_star
    if nobody:
        log.warning("%d of %d members on %s have no %s: left out", nobody, len(table), path.name, id)
    counts |= {"without a cluster": len(unnamed), f"without {id}": nobody}
    if not clusters:
        raise InputError(f"no row of {path} is a cluster member; set survey.membership to what its columns mean")
    return Memberships(
        {star: next(iter(names)) for star, names in clusters.items() if len(names) == 1},
        {star: sorted(names) for star, names in clusters.items() if len(names) > 1},
        id,
        {**counts, "different stars": len(clusters)},
    )


def _condition(cut: Cut) -> str:
    conditions = {name: getattr(cut, name) for name in ("above", "below", "any_of", "none_of")}
    return " and ".join(f"{name.replace('_', ' ')} {value}" for name, value in conditions.items() if value is not None)


def lone_members(clusters: NDArray[np.str_]) -> list[str]:
    """The names of clusters with one member: nothing to compare that member with."""
    names, counts = np.unique(clusters[clusters != ""], return_counts=True)
    return [str(name) for name in names[counts == 1]]


def _normalised(cluster: str) -> str:
    """The member file writes ``ASCC 116``, the cluster file ``ASCC_116``."""
    return re.sub(r"[\s_]+", " ", cluster.strip(" \0")).strip()


def _tell_ignored(path: Path, names: Sequence[str], membership: Cut | None) -> None:
    looked_at = membership.column.upper() if membership else ""
    ignored = [name for name in names if TELLING.search(name) and name != looked_at]
    if ignored and looked_at in names:
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


def _members(path: Path, names: Sequence[str], table: Table, cut: Cut) -> NDArray[np.bool_]:
    column = cut.column.upper()
    if column not in names:
        raise InputError(f"{path} has no membership column {column}, only {', '.join(names)}; set survey.membership")
    return cut.mask(Table({cut.column: table[column]}))
