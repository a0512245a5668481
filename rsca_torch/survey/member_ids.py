"""Which star of a catalogue each id on a list of members means, however the list writes it."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import has_name
from rsca_torch.survey.members import Memberships

__all__ = ["Wanted", "found_in", "ids_meant"]

log = logging.getLogger(__name__)

#: What ids of a kind look like, blanks taken out.
KINDS = {
    "a Gaia source id": r"(gaia)?(e?dr\d)?\d{17,19}",
    "a 2MASS designation": r"(2mass|2m)?j?\d{8}[+-]\d{7}",
}


class Wanted(NamedTuple):
    """What a list is matched with, for the messages.

    Attributes:
        members: the list, as it was given.
        column: of the catalogue's ids.
        place: the name of the catalogue, or what stands for one.
        most_missing: the largest share of listed ids, 0 to 1, that may be missing there.
    """

    members: str
    column: str
    place: str
    most_missing: float


def found_in(
    ids: NDArray[np.str_], listed: Memberships, wanted: Wanted, values: NDArray[np.str_] | None = None
) -> Memberships:
    """The memberships under the ids of a catalogue.

    An id that is not there as it stands is compared again without blanks, in lower case and without what stands before
    a 2MASS designation (2M, J, 2MASS J), and counts where exactly one star of the catalogue is written so.

    Args:
        ids: (N,) of the catalogue, several rows of one star alike.
        listed: as `read_memberships` gives them.
        wanted: for the messages, and the share that may be missing.
        values: (N,) the catalogue's ids of the list's kind, '' or 0 for none. None: `ids`.

    Raises:
        InputError: a larger share of the listed ids is not there.
    """
    stars_of: dict[str, set[str]] = defaultdict(set)
    for star, value in zip(ids.tolist(), (ids if values is None else values).tolist(), strict=True):
        if has_name(value) and value != "0":
            stars_of[value].add(star)
    stars = stars_of.keys()
    claims: dict[str, set[str]] = defaultdict(set)
    names = {star: [cluster] for star, cluster in listed.cluster.items()} | listed.ambiguous
    meant = ids_meant(names, stars, wanted.column)
    for listed_id, there in meant.items():
        for star in stars_of[there]:
            claims[star].update(names[listed_id])
    missing = [star for star in names if star not in meant]
    _tell(len(names), meant, missing, stars, wanted)
    return Memberships(
        {star: next(iter(claim)) for star, claim in claims.items() if len(claim) == 1},
        {star: sorted(claim) for star, claim in claims.items() if len(claim) > 1},
        wanted.column,
        {**listed.counts, f"found in the survey by {wanted.column}": len(meant), "not in the survey": len(missing)},
    )


def ids_meant(listed: Iterable[str], stars: Collection[str], column: str) -> dict[str, str]:
    """Listed id -> the one of the catalogue's ids that it means, of those for which there is one; see `found_in`."""
    meant = {star: star for star in listed if star in stars}
    others = [star for star in listed if star not in meant]
    if others:  # the catalogue may have half a million ids
        plain = [(_plain(star, column), star) for star in stars]
        several = Counter(form for form, _ in plain)
        known = dict(plain)
        forms = {star: _plain(star, column) for star in others}
        meant |= {star: known[form] for star, form in forms.items() if several[form] == 1}
    return meant


def _plain(star: str, column: str) -> str:
    plain = re.sub(r"\s+", "", star).casefold()
    if (gaia := re.fullmatch(r"gaia(e?)(dr\d)(\d+)", plain)) and gaia[2] in column.casefold().replace("_", ""):
        return gaia[3]  # of another release another star may be meant
    plain = re.sub(r"^(2massj?|2mj?|j)(?=\d{8}[+-])", "", plain)
    return re.sub(r"^(\d+)\.0*$", r"\1", plain)  # a number that a program wrote as a float


def _tell(listed: int, meant: dict[str, str], missing: list[str], stars: Collection[str], wanted: Wanted) -> None:
    """Log how many are there, or refuse."""
    example = f" ({min(stars)}, say)" if stars else ""
    if not meant and wanted.most_missing < 1:
        raise InputError(
            f"none of the {listed} members in survey.members={wanted.members} is in {wanted.place}; first missing "
            f"{missing[0]}{_kind(missing[0])}; are both of the same survey, and is the id the "
            f"{wanted.column}{example}? (survey.roles.id=COLUMN names another, which both must have)"
        )
    told = f"{len(meant)} of {listed} listed ids are in {wanted.place}"
    if missing:
        told += f", first missing {missing[0]}{_kind(missing[0])}"
    if len(missing) > wanted.most_missing * listed:
        raise InputError(
            f"{told} (survey.members={wanted.members}); a share of {len(missing) / listed:.2f} is missing and would be "
            f"taken for field stars, more than survey.most_missing={wanted.most_missing:g}; the ids there are "
            f"{wanted.column}{example}: write the list's so, or raise survey.most_missing where the stars were never "
            "observed"
        )
    log.info("%s", told)
    otherwise = [star for star, there in meant.items() if star != there]
    if otherwise:
        first = otherwise[0]
        log.info("%d of them are written otherwise there: %s is %s", len(otherwise), first, meant[first])


def _kind(star: str) -> str:
    bare = re.sub(r"\s+", "", star).casefold()
    return next((f" ({kind})" for kind, form in KINDS.items() if re.fullmatch(form, bare)), "")
