"""Groups of siblings besides clusters, from lists: wide binaries, moving groups. They teach and never judge."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import has_name
from rsca_torch.survey.cuts import cuts_of
from rsca_torch.survey.id_kinds import catalogue_column, require_kind
from rsca_torch.survey.list_formats import read_columns
from rsca_torch.survey.listed_stars import cut_id, texts_of

__all__ = ["CLUSTERS", "GroupList", "chosen_lists"]

log = logging.getLogger(__name__)

CLUSTERS = "clusters"  # the list of members, which judges


@dataclass(frozen=True)
class GroupList:
    """A list of stars and their groups: an entry of ``survey.lists``.

    Attributes:
        name: of the kind of groups.
        path: below the survey's root, or absolute; read as `read_columns` does.
        id: its column of ids; two columns where each row is a pair. None: the name of the role id's.
        group: its column of groups. None: each row is a pair.
        pairs: wide binaries and the like: of groups with a star in common one is made. False: such a list is refused.
        matches: column of the catalogue that has these ids. None: that of the role id.
        kind: of these ids, one of `KINDS`, in place of `matches`: survey.ids says which column has it.
        format: as in `read_columns`. None: the end of the name tells.
        readme: of a "cds" table. None: ReadMe.
        cuts: which rows count: name -> the other keys of a `Cut`. None: all.

    Raises:
        InputError: no file, or columns that say no groups.
    """

    name: str
    path: str
    id: str | Sequence[str] | None = None
    group: str | None = "GROUP"
    pairs: bool = False
    matches: str | None = None
    kind: str | None = None
    format: str | None = None
    readme: str | None = None
    cuts: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        two = not (self.id is None or isinstance(self.id, str))
        require_kind(f"survey.lists.{self.name}.kind", self.kind)
        if not self.path:
            raise InputError(f"survey.lists.{self.name}.path must name a list of stars, got {self.path!r}")
        if two and len(self.id or ()) != 2:
            raise InputError(f"survey.lists.{self.name}.id must be a column, or the two of a pair, got {self.id}")
        if two == (self.group is not None):
            raise InputError(
                f"survey.lists.{self.name}: a column of ids and one of groups expected, or two columns of ids and "
                f"group=null, got id={self.id} and group={self.group}"
            )

    @classmethod
    def of(cls, name: str, options: Any) -> GroupList:  # noqa: ANN401  (whatever a YAML holds)
        """From its YAML mapping.

        Raises:
            InputError: it is none, lacks the path or has another key.
        """
        known = [key for key in cls.__dataclass_fields__ if key != "name"]
        if not isinstance(options, Mapping) or "path" not in options:
            raise InputError(f"survey.lists.{name} must be a mapping with a path and any of {known}, got {options!r}")
        if unknown := set(options) - set(known):
            raise InputError(f"survey.lists.{name} has keys {', '.join(known)}, got {', '.join(sorted(unknown))}")
        return cls(name, **options)

    def read(self, root: Path, id: str, id_length: int | None) -> dict[str, str]:  # noqa: A002  (the role's name)
        """Listed star -> the name of its group.

        Args:
            root: of the survey.
            id: the column of the role id.
            id_length: as in `cut_id`.

        Raises:
            InputError: it cannot be read, lacks a column, or puts a star into two groups and is none of pairs.
        """
        path = root / self.path
        of_pair = [] if isinstance(self.id, str) or self.id is None else [column.upper() for column in self.id]
        columns = of_pair or [(self.id if isinstance(self.id, str) else id).upper(), str(self.group).upper()]
        cuts = cuts_of(self.cuts)

        def choose(names: Sequence[str]) -> tuple[list[str], list[str]]:
            if missing := [name for name in (*columns, *(cut.column.upper() for cut in cuts)) if name not in names]:
                raise InputError(
                    f"survey.lists.{self.name}: it has no column {' and '.join(missing)}, but "
                    f"{', '.join(names)}: set its id, group and cuts to what they are called"
                )
            texts = [cut.column.upper() for cut in cuts if (cut.none_of or cut.any_of) is not None]
            return [*columns, *texts], [cut.column.upper() for cut in cuts]

        table = read_columns(path, self.name, choose, self.format, self.readme)
        for cut in cuts:
            kept = cut.mask(Table({cut.column: table[cut.column.upper()]}))
            log.info("%d of %d rows of %s pass %s", kept.sum(), len(kept), path.name, cut.name)
            table = table[kept]
        first, second = (texts_of(path, table, column) for column in columns)
        rows = [(cut_id(one, id_length), other) for one, other in zip(first, second, strict=True)]
        if of_pair:  # each pair is a group with the name of its first star
            rows = [pair for one, other in rows for pair in ((one, one), (cut_id(other, id_length), one))]
        named = [(star, group) for star, group in rows if has_name(star) and star != "0" and has_name(group)]
        if len(named) < len(rows):
            log.warning(
                "%d of %d entries of %s have no id or no group: left out", len(rows) - len(named), len(rows), path
            )
        rows = named
        if not rows:
            raise InputError(f"survey.lists.{self.name}: no row of {path} names a star and its group")
        return self._of_rows(*np.array(rows, dtype=str).T)

    def _of_rows(self, stars: NDArray[np.str_], groups: NDArray[np.str_]) -> dict[str, str]:
        """Groups with a star in common are one, under the first of their names in order."""
        ids, star = np.unique(stars, return_inverse=True)
        names, group = np.unique(groups, return_inverse=True)
        links = np.unique(np.stack([star, group]), axis=1)
        several = np.flatnonzero(np.bincount(links[0]) > 1)
        if len(several):
            told = [f"{ids[row]} in {' and '.join(names[links[1][links[0] == row]])}" for row in several[:3]]
            said = f"{len(several)} stars on the list of {self.name} are in several groups (first: {', '.join(told)})"
            if not self.pairs:
                raise InputError(
                    f"{said}: one group a star expected; leave them out of {self.path}, or merge the groups by "
                    f"survey.lists.{self.name}.pairs=true"
                )
            log.warning("%s: such groups are taken as one", said)
        size = len(ids) + len(names)
        graph = coo_array((np.ones(links.shape[1]), (links[0], len(ids) + links[1])), shape=(size, size))
        _, part = connected_components(graph, directed=False)
        parts, first = np.unique(part[len(ids) :], return_index=True)
        return dict(zip(ids.tolist(), names[first][np.searchsorted(parts, part[: len(ids)])].tolist(), strict=True))


def chosen_lists(
    groups: Any,  # noqa: ANN401  (whatever a YAML holds)
    lists: Any,  # noqa: ANN401
    ids: Mapping[str, str] | None = None,
) -> tuple[GroupList, ...]:
    """The lists that ``survey.groups`` names, in order, but for the list of members; `ids` are the survey's.

    Raises:
        InputError: it is no list of names with "clusters" among them, or names one that is not there.

    Examples:
        >>> chosen_lists(["clusters", "binaries"], {"binaries": {"path": "wide.csv", "pairs": True}})
        (GroupList(name='binaries', path='wide.csv', id=None, group='GROUP', pairs=True, matches=None, ...),)
    """
    lists = {} if lists is None else lists
    if isinstance(groups, str) or not isinstance(groups, Sequence) or CLUSTERS not in groups:
        raise InputError(f"survey.groups must be a list that begins with {CLUSTERS}, which judge, got {groups!r}")
    names = [str(name) for name in groups if name != CLUSTERS]
    if len(set(groups)) < len(groups):
        raise InputError(f"survey.groups={list(groups)}: each list once expected")
    for name in names:
        if name not in lists or not has_name(name) or ":" in name:
            raise InputError(
                f"survey.groups: there is no list {name!r}; there are {', '.join([CLUSTERS, *lists])}; "
                f"+survey.lists.{name}={{path: FILE}} adds one"
            )
    return tuple(_matching(GroupList.of(name, lists[name]), ids or {}) for name in names)


def _matching(each: GroupList, ids: Mapping[str, str]) -> GroupList:
    if each.kind is None or each.matches is not None:
        return each
    option = f"survey.lists.{each.name}.kind"
    column, _ = catalogue_column(each.path, str(each.id), each.kind, (), ids, "", option)
    if not column:
        raise InputError(f"{option}={each.kind}: survey.ids must say which column of the survey has such ids")
    return replace(each, matches=column)
