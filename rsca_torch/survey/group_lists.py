"""Groups of siblings besides clusters, from lists: wide binaries, moving groups. They teach and never judge."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import as_labels, has_name
from rsca_torch.spectra.stars import Stars
from rsca_torch.survey.cuts import cuts_of
from rsca_torch.survey.id_kinds import catalogue_column, require_kind
from rsca_torch.survey.list_formats import read_columns
from rsca_torch.survey.listed_stars import cut_id, texts_of
from rsca_torch.survey.member_ids import ids_meant
from rsca_torch.survey.members import Memberships

__all__ = ["CLUSTERS", "KIND", "GroupList", "Grouped", "chosen_lists", "counts_of", "grouped", "kind_of"]

log = logging.getLogger(__name__)

CLUSTERS = "clusters"  # the list of members, which judges
KIND = "KIND"  # column of the kind of a star's group


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


class Grouped(NamedTuple):
    """Which stars of a catalogue are in groups.

    Attributes:
        group: star id -> "KIND: NAME".
        beside: star id -> why it is in no group and not of the field either: its group holds a listed member.
    """

    group: dict[str, str]
    beside: dict[str, str]


def kind_of(groups: NDArray[np.str_]) -> NDArray[np.str_]:
    """(N,) the kind of each of such groups, '' for ''."""
    return np.array([group.partition(": ")[0] for group in groups.tolist()], dtype=str)


def counts_of(groups: Stars) -> dict[str, Any]:
    """How many groups and stars there are of each kind; nothing where there are none."""
    if not len(groups):
        return {}
    kinds = kind_of(groups.group)
    return {
        "groups": {
            str(kind): {
                "groups": len(np.unique(groups.group[kinds == kind])),
                "stars": int((kinds == kind).sum()),
            }
            for kind in np.unique(kinds)
        }
    }


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


def grouped(
    lists: Sequence[GroupList],
    listing: Stars,
    observed: NDArray[np.str_],
    root: Path,
    id_length: int | None,
    members: Memberships,
) -> Grouped:
    """The groups of a catalogue's stars.

    A group that holds a star on the list of members is left out whole, and so is one that shares a star with such a
    group: its stars are siblings of a cluster that is judged, so they may neither teach nor be strangers. A star that
    several lists name counts in the first of them.

    Args:
        lists: in order.
        listing: N observations, with the columns that the lists match.
        observed: (N,) the star that each is of.
        root: of the survey.
        id_length: as in `cut_id`.
        members: the list of members, under its own ids and under the catalogue's.

    Raises:
        InputError: a list cannot be used, or names no star of the catalogue.
    """
    known = set(observed.tolist())
    labels: dict[str, list[str]] = defaultdict(list)  # of every listed star, those of the first list first
    for each in lists:
        for star, group in _in_catalogue(each, listing, observed, root, id_length).items():
            labels[star].append(f"{each.name}: {group}")
    claimed = {**members.cluster, **{star: " and ".join(names) for star, names in members.ambiguous.items()}}
    beside = _beside(labels, claimed)
    for each in lists:
        _tell(each, labels, beside, claimed.keys())
    free = {star: names[0] for star, names in labels.items() if star in known and star not in beside}
    return Grouped(
        {star: name for star, name in free.items() if star not in claimed},
        {star: why for star, why in beside.items() if star in known},
    )


def _in_catalogue(
    each: GroupList, listing: Stars, observed: NDArray[np.str_], root: Path, id_length: int | None
) -> dict[str, str]:
    """Star -> group: under the catalogue's id, and of stars that it has not under the list's."""
    listed = each.read(root, listing.roles["id"], id_length)
    column = each.matches or listing.roles["id"]
    stars_of: dict[str, set[str]] = defaultdict(set)
    for value, star in zip(as_labels(listing[column]), observed.tolist(), strict=True):
        stars_of[value].add(star)
    meant = ids_meant(listed, stars_of, column)
    if not meant:
        raise InputError(
            f"none of the {len(listed)} stars on the list of {each.name} is in the survey, first missing "
            f"{next(iter(listed))}; are its ids those of {column} ({min(stars_of, default='none')}, say)? "
            f"survey.lists.{each.name}.matches=COLUMN names another column"
        )
    log.info("%d of %d stars on the list of %s are in the survey", len(meant), len(listed), each.name)
    return {star: group for name, group in listed.items() for star in stars_of.get(meant.get(name, ""), {name})}


def _beside(labels: Mapping[str, Sequence[str]], claimed: Mapping[str, str]) -> dict[str, str]:
    """The other stars of groups that hold a listed member, or a star of such a group -> why."""
    stars: dict[str, list[str]] = defaultdict(list)
    for star, names in labels.items():
        for name in names:
            stars[name].append(star)
    beside: dict[str, str] = {}
    done: set[str] = set()
    waiting = [star for star in labels if star in claimed]
    while waiting:
        star = waiting.pop()
        for name in labels[star]:
            if name not in done:
                done.add(name)
                why = f"{name} holds {star}, of {claimed[star]}" if star in claimed else f"{name} holds {star}"
                others = [other for other in stars[name] if other not in claimed and other not in beside]
                beside.update(dict.fromkeys(others, why))
                waiting += others
    return beside


def _tell(
    each: GroupList, labels: Mapping[str, Sequence[str]], beside: Mapping[str, str], claimed: Collection[str]
) -> None:
    here = {star: names for star, names in labels.items() if any(kind == each.name for kind in _kinds(names))}
    if left := sorted(star for star in here if star in beside):
        log.warning(
            "%d stars on the list of %s are siblings of listed members (first: %s, as %s): left out of groups and "
            "field, since a judged cluster's siblings must not teach what it is judged by",
            len(left),
            each.name,
            left[0],
            beside[left[0]],
        )
    twice = [star for star, names in here.items() if _kinds(names)[0] != each.name and star not in claimed]
    if twice:
        said = "%d stars on the list of %s are on an earlier list too (first: %s): they count in that one"
        log.warning(said, len(twice), each.name, min(twice))


def _kinds(names: Sequence[str]) -> list[str]:
    return [name.partition(": ")[0] for name in names]
