"""Further observations of stars that are kept: which of them are used as repeats, and under which names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.stars import Stars
from rsca_torch.survey.cuts import Cut, CutFlow

__all__ = ["ALL_CUTS", "REPEAT_OF", "RepeatRule", "numbered", "observed_stars", "take_back"]

REPEAT_OF = "REPEAT_OF"  # the column of the role repeat_of


@dataclass(frozen=True)
class RepeatRule:
    """Which further observations of a star are good enough. What its cuts say of the star holds for all of them.

    Attributes:
        columns: those cuts of the survey must hold that look at one of these columns, since they tell how good a
            spectrum is. None: all cuts.
        observations: "coadds", the catalogue's further rows, or "visits" of the rows that are used, where the reader
            has them; of a visit those cuts must hold that look at what a visit says of itself.
        snr: smallest signal-to-noise ratio. None: what the cuts say.

    Raises:
        InputError: the S/N is no number, or observations are of neither kind.
    """

    columns: Sequence[str] | None = None
    snr: float | None = None
    observations: str = "coadds"

    def __post_init__(self) -> None:
        if isinstance(self.columns, str):
            raise InputError(f"survey.repeats.columns must be a list of columns, got {self.columns!r}")
        if self.snr is not None and (isinstance(self.snr, bool) or not isinstance(self.snr, int | float)):
            raise InputError(f"survey.repeats.snr must be a number, or null, got {self.snr!r}")

        if self.observations not in ("coadds", "visits"):
            raise InputError(f"survey.repeats.observations must be coadds or visits, got {self.observations!r}")

    @classmethod
    def of(cls, options: RepeatRule | Mapping[str, Any] | str | None) -> RepeatRule | None:
        """A rule from its YAML mapping, or from a text that says which observations; None stays None.

        Raises:
            InputError: it is no mapping, or has an unknown key.
        """
        if options is None or isinstance(options, RepeatRule):
            return options
        if isinstance(options, str):
            return cls(observations=options)
        if not isinstance(options, Mapping):
            raise InputError(
                "survey.repeats must be a mapping {columns, snr, observations}, coadds, visits, or null to drop them, "
                f"got {options!r}"
            )
        if unknown := set(options) - set(cls.__dataclass_fields__):
            raise InputError(f"survey.repeats has keys columns, snr and observations, got {', '.join(sorted(unknown))}")
        return cls(**options)

    def passed(self, stars: Table, cuts: Sequence[Cut], own: Collection[str] | None = None) -> NDArray[np.bool_]:
        """(N,) True where all cuts hold that must; ``own``: columns that say something of the observation itself."""
        passed = np.ones(len(stars), dtype=bool)
        for cut in cuts:
            if own is not None and cut.column not in own:
                continue
            if self.columns is None or cut.column in self.columns:
                passed &= cut.mask(stars)
        return passed

    def chosen(self, repeats: Stars, files: NDArray[np.str_]) -> NDArray[np.bool_]:
        """(n,) True for those that are bright enough and have a file of their own.

        Args:
            repeats: n further observations.
            files: those of the stars that are kept.
        """
        own = ~np.isin(repeats["FILE"], files)
        first = np.zeros(len(repeats), dtype=bool)
        first[np.unique(np.asarray(repeats["FILE"], dtype=str), return_index=True)[1]] = True
        if self.snr is None:
            return own & first
        return np.asarray(own & first & (repeats.snr >= self.snr))


#: What holds where nothing is said.
ALL_CUTS = RepeatRule()


def observed_stars(listed: Stars) -> NDArray[np.str_]:
    """(N,) the id of the star that each observation is of: its own, or the one that it repeats.

    Raises:
        InputError: an observation repeats itself, another repeat or a star that is not listed.
    """
    ids, repeat_of = listed.id, listed.repeat_of
    again = repeat_of != ""
    if not again.any():
        return ids
    if len(own := ids[again & (ids == repeat_of)]):
        raise InputError(
            f"{len(own)} stars are repeats of themselves (first: {own[0]}); the column of survey.roles.repeat_of must "
            "name another row's star, or nothing"
        )
    if len(unknown := np.unique(repeat_of[again & ~np.isin(repeat_of, ids[~again])])):
        raise InputError(
            f"{len(unknown)} stars of which there are repeats are not in the survey's list of stars as stars of their "
            f"own (first: {unknown[0]}); list them, or leave their repeats out"
        )
    return np.where(again, repeat_of, ids)


def numbered(repeats: Stars, star: NDArray[np.str_], taken: set[str]) -> Stars:
    """Further observations as rows of their own: each names its star in the role repeat_of, and has no group.

    Args:
        repeats: n rows.
        star: (n,) the stars' ids. A row that has that id gets ``<id>#2``, ``<id>#3``, ... by falling S/N.
        taken: ids that there are already.
    """
    snr = repeats.snr if repeats.has("snr") else np.zeros(len(repeats))
    taken, ids = {*taken, *repeats.id[repeats.id != star].tolist()}, repeats.id.tolist()
    for row in np.argsort(-snr, kind="stable"):
        number = 2
        if ids[row] == star[row]:
            while f"{star[row]}#{number}" in taken:
                number += 1
            ids[row] = f"{star[row]}#{number}"
            taken.add(ids[row])
    roles = {**repeats.roles, "repeat_of": REPEAT_OF}
    repeats[REPEAT_OF] = star
    repeats[roles["id"]] = ids
    if "group" in roles:
        repeats[roles["group"]] = np.full(len(repeats), "", dtype="U1")
    return repeats.playing(roles)


def take_back(flow: CutFlow, stars: Table, id: str, cuts: Sequence[Cut], before: int) -> None:  # noqa: A002  (the role's name)
    """Say of observations that failed a cut of their star's, and are used as repeats, that no cut removed them.

    Args:
        flow: is changed.
        stars: n observations, as the cuts see them.
        id: the column of ids.
        cuts: all, in order.
        before: steps of the flow before the first cut.
    """
    back = Counter[tuple[str, str, str]]()
    left = np.ones(len(stars), dtype=bool)  # had failed none so far
    for number, cut in enumerate(cuts):
        failing = stars[left & ~cut.mask(stars)]
        back.update((str(row[id]), cut.name, value) for row, value in zip(failing, cut.looked_at(failing), strict=True))
        left &= cut.mask(stars)
        step = flow.steps[before + number]
        step["removed"] -= len(failing)
        for later in flow.steps[before + number :]:
            later["kept"] += len(failing)
    removed = []
    for entry in flow.removed:
        if back[entry]:
            back[entry] -= 1
        else:
            removed.append(entry)
    flow.removed = removed
