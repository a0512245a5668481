"""Which stars of a catalogue are in groups besides clusters; a group that holds a listed member is left out whole."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import as_labels
from rsca_torch.spectra.stars import Stars
from rsca_torch.survey.group_lists import GroupList
from rsca_torch.survey.member_ids import ids_meant
from rsca_torch.survey.members import Memberships

__all__ = ["KIND", "Grouped", "counts_of", "grouped", "kind_of"]

log = logging.getLogger(__name__)

KIND = "KIND"  # column of the kind of a star's group


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
