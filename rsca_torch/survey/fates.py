"""What became of a star when its survey was read: it is in the store, or the first step that removed it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import as_text
from rsca_torch.survey.cuts import Cut
from rsca_torch.survey.member_ids import ids_meant
from rsca_torch.survey.members import ListedAs, read_memberships
from rsca_torch.survey.store import Store

__all__ = ["fates"]

CONDITIONS = ("above", "below", "without_bit", "defined", "none_of", "any_of")


def fates(store: Store, star: str) -> list[str]:
    """A line for each observation of a star, or for each file, that there was.

    Args:
        store: says what was kept (its star table) and what was not (removed.csv).
        star: its id, written as `found_in` takes it; or a part of a file's name.

    Raises:
        InputError: there was none.
    """
    removed, repeats, groups = store.removed, store.repeats.stars, store.groups.stars
    known = {
        *store.stars.id.tolist(),
        *groups.id.tolist(),
        *repeats.id.tolist(),
        *(name for name, _, _ in removed if name),
    }
    meant = ids_meant([star], known, store.stars.roles["id"]).get(star, star)
    lines = [_kept(store, int(row)) for row in np.flatnonzero(store.stars.id == meant)]
    lines += [
        f"{groups.id[row]} is in the store as a star of {groups.group[row]}, row {row} of the groups: "
        f"{groups['FILE'][row]}"
        for row in np.flatnonzero(groups.id == meant)
    ]
    lines += [
        f"{repeats.id[row]} is in the store as a repeat of {repeats.repeat_of[row]}, row {row} of the repeats: "
        f"{repeats['FILE'][row]}"
        for row in np.flatnonzero((repeats.id == meant) | (repeats.repeat_of == meant))
    ]
    lines += [_removed(store, *row) for row in removed if row[0] == meant]
    if not lines:
        lines += [_removed(store, *row) for row in removed if not row[0] and star in row[2]]
    if not lines:
        lines += _otherwise_named(store, star)
    if not lines:
        raise InputError(
            f"{star} is neither in the store {store.path} nor among the {len(removed)} observations that were removed: "
            f"it was not in the survey's list of stars; ids there are {store.stars.roles['id']} ({min(known)}, say)"
        )
    return lines


def _otherwise_named(store: Store, star: str) -> list[str]:
    """Of an id of another kind that the star tables have, and of one that only the list of members has."""
    told, survey = [], store.manifest["survey"]
    for column in survey["ids"].values():
        for part in (store.stars, store.groups.stars):
            if column in part.colnames:
                same = np.flatnonzero(as_text(part[column]) == star)
                told += [f"{column} {star}: {line}" for row in same for line in fates(store, str(part.id[row]))]
    if told or survey["members"] is None:
        return told
    path = Path(survey["root"]) / survey["members"]
    membership = None if survey["membership"] is None else Cut(**survey["membership"])
    try:
        listed = read_memberships(
            path, membership, survey["roles"]["id"], None, ListedAs.of(survey["listed"]), [*survey["ids"]]
        )
    except InputError:  # it is not there any more
        return []
    clusters = listed.ambiguous.get(star) or [each for each in [listed.cluster.get(star)] if each]
    return [
        f"{star} is on the list of members {path.name}, in {' and in '.join(clusters)}; no star that the survey kept "
        f"has this {listed.column}: it is not in the survey, or a cut removed it under its {survey['roles']['id']}"
    ] * bool(clusters)


def _kept(store: Store, row: int) -> str:
    cluster = store.stars.group[row] if store.stars.has("group") else ""
    place = f"a member of {cluster}" if cluster else "a field star"
    return f"{store.stars.id[row]} is in the store as {place}, row {row}: {store.stars['FILE'][row]}"


def _removed(store: Store, star: str, step: str, value: str) -> str:
    cut = next((cut for cut in store.manifest["survey"]["cuts"] if cut["name"] == step), None)
    told = value if cut is None else f"{cut['column']} is {value}; {_kept_where(cut)}"
    return f"{star or 'a file'} was removed by {step!r}: {told}"


def _kept_where(cut: Mapping[str, Any]) -> str:
    conditions = {name: cut[name] for name in CONDITIONS if cut.get(name) is not None}
    texts = [
        f"{name.replace('_', ' ')} {' '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in conditions.items()
    ]
    return f"kept: {', '.join(texts)}"
