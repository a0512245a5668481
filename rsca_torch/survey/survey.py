"""A survey: who reads its files, and which of its stars become field stars and members."""

from __future__ import annotations

import copy
import inspect
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import as_text
from rsca_torch.spectra.stars import ROLES, Stars
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.cuts import Cut, CutFlow, cuts_of, main_rows, select
from rsca_torch.survey.member_ids import Wanted, found_in
from rsca_torch.survey.members import Memberships, read_memberships
from rsca_torch.survey.reader import Listing, Reader
from rsca_torch.survey.repeats import ALL_CUTS, REPEAT_OF, RepeatRule, numbered, observed_stars, take_back

__all__ = ["REPEATS", "Chosen", "Survey", "choose_stars"]

log = logging.getLogger(__name__)

REPEATS = "kept apart as repeats"  # the step of the cut flow


class Chosen(NamedTuple):
    """Which spectra are to be read.

    Attributes:
        stars: one row a star of the field or a cluster, as the reader describes it, in the survey's roles.
        repeats: further observations of these; the role repeat_of names the star.
        flow: the cut flow so far.
        problems: (file, problem) of the files that are already known to be unusable.
    """

    stars: Stars
    repeats: Stars
    flow: CutFlow
    problems: list[tuple[str, str]]


class Survey:
    """Where a survey's files lie and which stars and bins of it are used: one file of conf/survey.

    Args:
        root: the folder that all other paths start from.
        reader: makes the `Reader` from root and `of_reader`.
        name: as in ``survey=NAME``.
        members: list of cluster members, below root or absolute; None: the groups are those of the reader's own table.
        membership: who on that list is a member, ``{column, above}``; None: everyone.
        most_missing: the largest share of the list's ids, 0 to 1, that may be missing in the survey; a larger one is
            refused, since ids that are not found leave their stars in the field.
        cuts: which stars are used, in order: name -> the mapping of a `Cut`, or a list of cuts (`cuts_of`).
        censoring: which bins are used. None: all on a detector with an error of at most 0.05.
        roles: role -> column of the star table, None to do without; added to the reader's own.
        member_duplicates: what becomes of further observations of a member: "leave" the field, or "stay" in it as the
            authors' program had it, under the ids ``<id>#2``, ``<id>#3``; their column REPEAT_OF names the member.
        repeats: which further observations of field stars and members are kept as repeats, apart from both: a
            `RepeatRule` or its ``{columns, snr}``. None: none.
        **of_reader: whatever else the reader takes.

    Raises:
        InputError: an option has a value that it cannot have, or the reader does not take one.
    """

    def __init__(
        self,
        root: str | Path,
        reader: Callable[..., Reader],
        *,
        name: str = "",
        members: str | None = None,
        membership: Mapping[str, Any] | None = None,
        most_missing: float = 0.5,
        cuts: Mapping[str, Any] | Sequence[Cut | Mapping[str, Any]] | None = (),
        censoring: Censoring | None = None,
        roles: Mapping[str, str | None] | None = None,
        member_duplicates: str = "leave",
        repeats: RepeatRule | Mapping[str, Any] | None = ALL_CUTS,
        **of_reader: Any,
    ) -> None:
        self.root, self.name, self.members = Path(root), name, members
        self.reader, self.of_reader = _made(reader, self.root, of_reader), of_reader
        self.membership = None if membership is None else Cut.of({"name": "membership", **membership})
        if not 0 <= most_missing <= 1:
            raise InputError(f"survey.most_missing must be a share, 0 to 1, got {most_missing}")
        self.most_missing = most_missing
        self.cuts = cuts_of(cuts)
        self.censoring = Censoring() if censoring is None else censoring
        given: dict[str, str | None] = {**self.reader.roles, **(roles or {})}
        if unknown := set(given) - set(ROLES):
            raise InputError(f"survey.roles are {', '.join(ROLES)}, got {', '.join(sorted(unknown))}")
        self.roles = {role: column for role, column in given.items() if column is not None}
        if "id" not in self.roles:
            raise InputError("survey.roles.id=null: the column that names a star expected")
        if members is not None and "group" not in self.roles:
            raise InputError("survey.roles.group=null: a name for the column of the groups in survey.members expected")
        self.member_duplicates = member_duplicates
        if member_duplicates not in ("leave", "stay"):
            raise InputError(f"survey.member_duplicates must be leave or stay, got {member_duplicates!r}")
        self.repeats = RepeatRule.of(repeats)

    def with_censoring(self, censoring: Censoring) -> Survey:
        """The same with another rule."""
        other = copy.copy(self)
        other.censoring = censoring
        return other

    def memberships(self) -> Memberships:
        """Who is a member of which cluster.

        Raises:
            InputError: the list cannot be used.
        """
        if self.members is None:
            return Memberships({}, {})
        return read_memberships(self.root / self.members, self.membership, self.roles["id"], self.reader.id_length)

    @property
    def meant_for(self) -> str:
        """Which files its cuts are meant for, as far as it says."""
        release = self.of_reader.get("release")
        return ", ".join(
            [*([f"survey={self.name}"] if self.name else []), *([f"release {release}"] if release else [])]
        )

    def config(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        kind = type(self.reader)
        told = {
            "name": self.name,
            "reader": f"{kind.__module__}.{kind.__qualname__}",
            "root": str(self.root),
            **self.of_reader,
            "members": self.members,
            "membership": None if self.membership is None else asdict(self.membership),
            "most_missing": self.most_missing,
            "cuts": [asdict(cut) for cut in self.cuts],
            "censoring": asdict(self.censoring),
            "roles": self.roles,
            "member_duplicates": self.member_duplicates,
            "repeats": None if self.repeats is None else asdict(self.repeats),
        }
        config: dict[str, Any] = json.loads(json.dumps(told, default=str))
        return config


def _made(reader: Callable[..., Reader], root: Path, options: Mapping[str, Any]) -> Reader:
    signature = inspect.signature(reader)
    try:
        signature.bind(root=root, **options)
    except TypeError as error:
        taken = ", ".join(name for name in signature.parameters if name != "root")
        raise InputError(f"survey: {error}; its reader takes {taken or 'nothing'} besides root") from None
    return reader(root=root, **options)


def choose_stars(survey: Survey) -> Chosen:
    """Which spectra are to be read.

    Raises:
        InputError: the survey's files cannot be used, no star is left, a role names a column that is not there, or an
            observation repeats itself or a star that is not there.
    """
    reader, roles = survey.reader, survey.roles
    naming = {role: column for role, column in roles.items() if role in ("id", "repeat_of")}
    listing = reader.list_stars(list(dict.fromkeys([*naming.values(), *(cut.column for cut in survey.cuts)])))
    listed = Stars.of(listing.stars, **naming).playing(naming)
    observed = observed_stars(listed)
    memberships = survey.memberships()
    if survey.members is not None:
        wanted = Wanted(survey.members, roles["id"], listing.catalogue or str(survey.root), survey.most_missing)
        memberships = found_in(listed.id, memberships, wanted)
    flow = CutFlow(listing.called, len(listing.stars) + len(listing.problems))
    if listing.unusable:
        unusable = [("", f"{file}: {problem}") for file, problem in listing.problems]
        flow.record(listing.unusable, len(listing.stars), unusable)
    before = len(flow.steps)
    kept = select(listing.stars, survey.cuts, flow, roles["id"], survey.meant_for)
    stars = _described(survey, listing, kept)
    if survey.members is not None:
        stars[roles["group"]] = memberships.of(stars.id)
    stars = _labelled(stars)
    if memberships.ambiguous:
        unclear = np.isin(stars.id, list(memberships.ambiguous))
        claims = [(star, " and in ".join(memberships.ambiguous[star])) for star in stars.id[unclear].tolist()]
        flow.record("in two clusters", int((~unclear).sum()), claims)
        for star, clusters in sorted({*claims}):
            log.warning("%s is left out: in %s", star, clusters)
        stars, kept = stars[~unclear], kept[~unclear]
    everyone, of = stars, observed[kept]
    stars, chosen = _one_row_a_star(stars, of, reader, survey.member_duplicates == "stay")
    again, repeats = _repeats(survey, listing, observed, kept[chosen], stars)
    take_back(flow, listing.stars[np.setdiff1d(again, kept)], roles["id"], survey.cuts, before)
    gone = ~chosen & ~np.isin(kept, again)
    removed = zip(everyone.id[gone].tolist(), [str(file) for file in everyone["FILE"][gone]], strict=True)
    flow.record("duplicate observations", len(stars) + len(again), removed)
    if survey.repeats is not None:
        flow.record(REPEATS, len(stars))
    if survey.members is not None:
        _require_field(stars, survey.members)
    return Chosen(stars, repeats, flow, list(listing.problems))


def _described(survey: Survey, listing: Listing, rows: NDArray[np.intp]) -> Stars:
    table = survey.reader.describe(listing.stars[rows], rows, list(survey.roles.values()))
    return Stars.of(table, id=survey.roles["id"]).playing(survey.roles)


def _repeats(
    survey: Survey, listing: Listing, observed: NDArray[np.str_], used: NDArray[np.intp], stars: Stars
) -> tuple[NDArray[np.intp], Stars]:
    """The rows of the listing that are repeats of stars that are kept, and their star table.

    Args:
        survey: says which further observations are used.
        listing: N observations.
        observed: (N,) the star that each is of.
        used: (n,) rows of `stars`.
        stars: those that are kept.
    """
    rule = survey.repeats or ALL_CUTS
    further = np.isin(observed, observed[used])
    further[used] = False
    rows = np.flatnonzero(further)
    rows = rows[rule.passed(listing.stars[rows], survey.cuts)] if survey.repeats else rows[:0]
    if not len(rows):
        return rows, numbered(stars[:0], np.array([], dtype=str), set())
    repeats = _described(survey, listing, rows)
    chosen = rule.chosen(repeats, np.asarray(stars["FILE"], dtype=str))
    return rows[chosen], numbered(repeats[chosen], observed[rows[chosen]], set(stars.id.tolist()))


def _labelled(stars: Stars) -> Stars:
    """Groups without blanks around them, '' for every one that is none: -1, NaN, a mask. A file would keep these."""
    if stars.has("group"):
        column, labels = stars.roles["group"], np.char.strip(stars.group)
        nameless = (as_text(stars[column]) != "") & (labels == "")
        if nameless.any():
            log.info("%d of %d stars have no name in %s: of the field", int(nameless.sum()), len(stars), column)
        stars[column] = labels
    return stars


def _require_field(stars: Stars, members: str) -> None:
    """Refuse a list that names every star; warn where it names none."""
    if (stars.group != "").all():
        raise InputError(
            f"survey.members={members} names all {len(stars)} stars that are left, so none is of the field, with which "
            "members are compared; give a list of the members of clusters alone"
        )
    if not (stars.group != "").any():
        log.warning("no cluster member passes the cuts: the store will hold field stars only")


def _one_row_a_star(
    stars: Stars, of: NDArray[np.str_], reader: Reader, members_stay: bool
) -> tuple[Stars, NDArray[np.bool_]]:
    """Each star's main row, and (N,) which rows these are.

    Args:
        stars: N observations.
        of: (N,) the star that each is of.
        reader: says which rows the survey marks as further ones.
        members_stay: keep a member's other rows too, as field stars of other names.
    """
    snr = stars.snr if stars.has("snr") else np.full(len(stars), np.nan)
    itself = of == stars.id
    main = main_rows(of, snr, reader.is_repeat(stars) | ~itself) & itself
    members_stay = members_stay and stars.has("group")
    kept = main | (stars.group != "") if members_stay else main
    stars, other = stars[kept], ~main[kept]
    if not members_stay:
        return stars, kept
    ids, seen = stars.id.tolist(), dict[str, int]()
    stars[REPEAT_OF] = np.where(other, stars.id, "")
    for row in np.flatnonzero(other):
        seen[ids[row]] = seen.get(ids[row], 1) + 1
        ids[row] = f"{ids[row]}#{seen[ids[row]]}"
    stars[stars.roles["id"]] = ids
    stars[stars.roles["group"]] = np.where(other, "", stars.group)
    return stars.playing({**stars.roles, "repeat_of": REPEAT_OF}), kept
