"""The stars of a store that somebody asks for, by their ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import nearest
from rsca_torch.spectra.view import View
from rsca_torch.survey.member_ids import ids_meant
from rsca_torch.survey.store import Store

__all__ = ["Asked", "stars_of"]


@dataclass(frozen=True)
class Asked:
    """One star.

    Attributes:
        id: its own.
        said: who it is, for titles: its id, and its cluster, or that it is a field star.
        spectrum: one row.
    """

    id: str
    said: str
    spectrum: View


def stars_of(store: Store, names: list[str]) -> list[Asked]:
    """The stars with these ids, in any part of the store: field, members, groups, repeats.

    Args:
        store: the survey.
        names: ids as text, as the store has them or as other lists of the survey write them.

    Raises:
        InputError: a star is not there; it offers the nearest ids.
    """
    parts = [("a field star", store.field), ("a member of {}", store.members)]
    parts += [("a star of {}", store.groups), ("an observation of {}", store.repeats)]
    ids = [part.stars.id for _, part in parts]
    known = {*np.concatenate(ids).tolist()}
    found = []
    for name in names:
        star = name if name in known else ids_meant([name], known, store.stars.roles["id"]).get(name, name)
        if star not in known:
            near = nearest(name, np.unique(np.concatenate(ids)))
            raise InputError(
                f"star {name!r:.60} is not in the store {store.path}, whose {len(known):,} ids are of the kind "
                f"{store.stars.roles['id']}; the nearest: {', '.join(near)}; rsca why {name!r:.60} "
                f"store={store.path} says whether it was removed"
            )
        place = next(number for number, each in enumerate(ids) if star in each)
        who, part = parts[place]
        row = int(np.flatnonzero(ids[place] == star)[0])
        of = part.stars.repeat_of[row] if part.stars.has("repeat_of") else part.stars.group[row] if place else ""
        found.append(Asked(star, who.format(of), part.take([row])))
    return found
