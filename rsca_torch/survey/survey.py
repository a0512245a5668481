"""A survey: who reads its files, and which of its stars become field stars and members."""

from __future__ import annotations

import copy
import inspect
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import as_text
from rsca_torch.spectra.stars import ROLES, Stars
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.cuts import Cut, CutFlow, cuts_of, main_rows, select
from rsca_torch.survey.member_ids import Wanted, found_in
from rsca_torch.survey.members import Memberships, read_memberships
from rsca_torch.survey.reader import Reader

__all__ = ["Survey", "choose_stars"]

log = logging.getLogger(__name__)

REPEAT_OF = "REPEAT_OF"  # the column of the role repeat_of, where members' other observations stay


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


def choose_stars(survey: Survey) -> tuple[Stars, CutFlow, list[tuple[str, str]]]:
    """Which spectra are to be read.

    Returns:
        One row a star, as the reader describes it, in the survey's roles; the cut flow so far; (file, problem) of the
        files that are already known to be unusable.

    Raises:
        InputError: the survey's files cannot be used, no star is left, or a role names a column that is not there.
    """
    reader, roles = survey.reader, survey.roles
    listing = reader.list_stars(list(dict.fromkeys([roles["id"], *(cut.column for cut in survey.cuts)])))
    memberships = survey.memberships()
    if survey.members is not None:
        wanted = Wanted(survey.members, roles["id"], listing.catalogue or str(survey.root), survey.most_missing)
        memberships = found_in(Stars.of(listing.stars, id=roles["id"]).id, memberships, wanted)
    flow = CutFlow(listing.called, len(listing.stars) + len(listing.problems))
    if listing.unusable:
        unusable = [("", f"{file}: {problem}") for file, problem in listing.problems]
        flow.record(listing.unusable, len(listing.stars), unusable)
    kept = select(listing.stars, survey.cuts, flow, roles["id"], survey.meant_for)
    stars = Stars.of(reader.describe(listing.stars[kept], kept, list(roles.values())), id=roles["id"])
    if survey.members is not None:
        stars[roles["group"]] = memberships.of(stars.id)
    stars = _labelled(stars.playing(roles))
    if memberships.ambiguous:
        unclear = np.isin(stars.id, list(memberships.ambiguous))
        claims = [(star, " and in ".join(memberships.ambiguous[star])) for star in stars.id[unclear].tolist()]
        flow.record("in two clusters", int((~unclear).sum()), claims)
        for star, clusters in sorted({*claims}):
            log.warning("%s is left out: in %s", star, clusters)
        stars = stars[~unclear]
    stars = _one_row_a_star(stars, reader, survey.member_duplicates == "stay", flow)
    if survey.members is not None:
        _require_field(stars, survey.members)
    return stars, flow, list(listing.problems)


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


def _one_row_a_star(stars: Stars, reader: Reader, members_stay: bool, flow: CutFlow) -> Stars:
    """Keep each star's main row; with ``members_stay`` a member's other rows too, as field stars of other names."""
    snr = stars.snr if stars.has("snr") else np.full(len(stars), np.nan)
    main = main_rows(stars.id, snr, reader.is_repeat(stars))
    members_stay = members_stay and stars.has("group")
    kept = main | (stars.group != "") if members_stay else main
    removed = zip(stars.id[~kept].tolist(), [str(file) for file in stars["FILE"][~kept]], strict=True)
    flow.record("duplicate observations", int(kept.sum()), removed)
    stars, other = stars[kept], ~main[kept]
    if not members_stay:
        return stars
    ids, seen = stars.id.tolist(), dict[str, int]()
    stars[REPEAT_OF] = np.where(other, stars.id, "")
    for row in np.flatnonzero(other):
        seen[ids[row]] = seen.get(ids[row], 1) + 1
        ids[row] = f"{ids[row]}#{seen[ids[row]]}"
    stars[stars.roles["id"]] = ids
    stars[stars.roles["group"]] = np.where(other, "", stars.group)
    return stars.playing({**stars.roles, "repeat_of": REPEAT_OF})
