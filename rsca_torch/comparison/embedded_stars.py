"""An embedding joined by id with the stars of a store: who is there, who is lacking, and what learners then see."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rsca_torch.comparison.embedding_file import Embedding, shortened
from rsca_torch.comparison.representation import Representation
from rsca_torch.comparison.teachers import stars_that_teach
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.learners.floor import Repeats
from rsca_torch.spectra.labels import nearest
from rsca_torch.spectra.stars import Stars
from rsca_torch.survey.store import Store
from rsca_torch.training.members import Members

__all__ = ["judging", "on_stars"]

log = logging.getLogger(__name__)

MISSING = ("refuse", "leave_out")
NAME = re.compile(r"[\w.+-][\w .+-]{0,39}")  # it stands in tables and in names of files


def on_stars(
    embedding: Embedding,
    store: Store,
    name: str = "embedding",
    missing: str = "refuse",
    clusters: Sequence[str] | None = None,
    learn_from: Sequence[str] | None = None,
    level: int = logging.INFO,
) -> Representation:
    """The embedding of a store's stars, which are found by id.

    Rows of the store's repeats give a floor under the scatter of siblings, and those of stars of other groups teach,
    where the embedding has them. Rows of other stars are counted in the log and not used.

    Args:
        embedding: of more stars than the store's, maybe.
        store: says who is a member of which cluster.
        name: of the representation.
        missing: stars without numbers: "refuse" them, or "leave_out".
        clusters: those that are judged and learned from; others have no part. None: all.
        learn_from: kinds of groups besides clusters. None: all that the store has.
        level: of what is logged; of several files that are alike, the first says it.

    Raises:
        InputError: where a star of the store has no numbers, unless it is left out; where no id is of the store, or a
            cluster is not there.

    Warns:
        NumericalWarning: how many stars are left out.
    """
    if missing not in MISSING:
        raise InputError(f"missing={missing}: one of {', '.join(MISSING)} expected")
    if not NAME.fullmatch(name):
        raise InputError(f"name={name!r}: letters, digits, blanks and _ . + - expected, at most 40")
    field, members = store.field.stars, _of(store.members.stars, clusters)
    groups, repeats = stars_that_teach(store, learn_from).stars, store.repeats.stars
    parts = [field, members, groups, repeats]
    rows = [_rows_of(embedding, part.id) for part in parts]
    _require_some(embedding, rows, store)
    every = [store.stars.id, store.groups.stars.id, store.repeats.stars.id]
    strange = int((~np.isin(embedding.ids, np.concatenate(every))).sum())
    if strange:
        log.log(
            level,
            "%d of %d rows of %s are of no star of the store: not used",
            strange,
            len(embedding.ids),
            embedding.where,
        )
    there = [_whole(embedding, each) for each in rows]
    _say_who_is_left_out(embedding, parts[:2], rows[:2], there[:2], missing)
    taken = [torch.from_numpy(embedding.values[each[known]]) for each, known in zip(rows, there, strict=True)]
    kept = [part[known] for part, known in zip(parts, there, strict=True)]
    taught = Members(taken[2], kept[2].group) if len(groups) and there[2].any() else None
    for part, known, what in zip((groups, repeats), there[2:], ("stars of groups", "repeats"), strict=True):
        if len(part):
            log.log(level, "%d of the store's %d %s have numbers", int(known.sum()), len(part), what)
    again = None
    if there[3].any():
        of = [(taken[0], kept[0]), *([] if taught is None else [(taken[2], kept[2])])]
        values, ids = torch.cat([z for z, _ in of]), np.concatenate([stars.id for _, stars in of])
        again = Repeats.of_some(values, ids, taken[3], kept[3].repeat_of)
    no_floor = "" if again else f"{embedding.where} has no errors, and no rows of the store's repeats (ids like ID#2)"
    return Representation(
        name,
        taken[0],
        taken[1],
        kept[0],
        kept[1],
        repeats=() if again is None else (again,),
        groups=taught,
        no_floor=no_floor,
        fewer="give fewer numbers, columns=[NAME,...]",
    )


def judging(store: Store, clusters: Sequence[str] | None) -> list[str]:
    """Those of some clusters, None: of all, that have two members in the store, by name."""
    names, sizes = np.unique(_of(store.members.stars, clusters).group, return_counts=True)
    several: list[str] = names[sizes > 1].tolist()
    return several


def _of(members: Stars, clusters: Sequence[str] | None) -> Stars:
    """The members of some clusters."""
    if clusters is None:
        return members
    there: list[str] = np.unique(members.group).tolist()
    wanted = [clusters] if isinstance(clusters, str) else [str(each) for each in clusters]
    unknown = [each for each in wanted if each not in there]
    if unknown:
        near = nearest(unknown[0], np.array(there))
        raise InputError(f"clusters: the store has no members of {', '.join(unknown)}; did you mean {', '.join(near)}?")
    chosen: Stars = members[np.isin(members.group, wanted)]
    return chosen


def _rows_of(embedding: Embedding, ids: NDArray[np.str_]) -> NDArray[np.int64]:
    """(n,) each star's row of the embedding; -1: it has none."""
    order = np.argsort(embedding.ids)
    place = np.searchsorted(embedding.ids, ids, sorter=order).clip(max=len(order) - 1)
    rows = order[place] if len(order) else np.zeros(len(ids), dtype=np.int64)
    same = embedding.ids[rows] == ids if len(order) else np.zeros(len(ids), dtype=bool)
    return np.where(same, rows, -1)


def _whole(embedding: Embedding, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) whether the star has numbers, all of them finite."""
    known = rows >= 0
    known[known] = np.isfinite(embedding.values[rows[known]]).all(axis=1)
    return known


def _require_some(embedding: Embedding, rows: Sequence[NDArray[np.int64]], store: Store) -> None:
    if any((each >= 0).any() for each in rows[:2]):
        return
    raise InputError(
        f"no id of {embedding.where} is one of the store's: {embedding.id} has {shortened(embedding.ids, 3)}, the "
        f"store has {shortened(store.stars.id, 3)}; id=NAME names another column"
    )


def _say_who_is_left_out(
    embedding: Embedding,
    parts: Sequence[Stars],
    rows: Sequence[NDArray[np.int64]],
    there: Sequence[NDArray[np.bool_]],
    missing: str,
) -> None:
    """Refuse, or say, who of the field and the members has no numbers."""
    said = []
    total = sum(len(part) for part in parts)
    for what, lost in (
        ("are not in it", [each < 0 for each in rows]),
        ("have numbers that are not finite (NaN)", [(r >= 0) & ~known for r, known in zip(rows, there, strict=True)]),
    ):
        ids = np.concatenate([part.id[each] for part, each in zip(reversed(parts), reversed(lost), strict=True)])
        if len(ids):
            said.append(
                f"{len(ids)} of the store's {total} stars ({int(lost[1].sum())} members) {what}: {shortened(ids)}"
            )
    if not said:
        return
    told = f"{embedding.where}: {'; '.join(said)}"
    if missing == "refuse":
        raise InputError(f"{told}; give every star its numbers, or judge without these stars, missing=leave_out")
    warnings.warn(f"{told}; these are left out", NumericalWarning, stacklevel=3)
