"""A survey: where its files lie, who reads them, and which of its stars and bins are used."""

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
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.stars import ROLES, Stars
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.cuts import Cut, cuts_of
from rsca_torch.survey.group_lists import CLUSTERS, chosen_lists
from rsca_torch.survey.id_kinds import require_kinds
from rsca_torch.survey.members import ListedAs, Memberships, read_memberships
from rsca_torch.survey.reader import Reader
from rsca_torch.survey.repeats import ALL_CUTS, RepeatRule

__all__ = ["Survey"]

log = logging.getLogger(__name__)


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
        groups: whose stars say how siblings scatter: "clusters", the list of members, which judge, and names of
            `lists`.
        lists: name -> the other keys of a `GroupList`: further groups, which teach and never judge. None: none.
        listed: how the list of members is written, a `ListedAs` or its mapping. None: as it tells itself.
        ids: kind of ids (`KINDS`) -> column of the survey that has them, best first. None: that of the role id alone.
        published: name of a step, or field, members, clusters -> the number that a paper gives for it. None: none.
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
        groups: Sequence[str] = ("clusters",),
        lists: Mapping[str, Any] | None = None,
        listed: ListedAs | Mapping[str, Any] | None = None,
        ids: Mapping[str, str | None] | None = None,
        published: Mapping[str, Any] | None = None,
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
        self.listed, self.ids = ListedAs.of(listed), require_kinds(ids)
        self.published = dict(published or {})
        self.lists = chosen_lists(groups, lists, self.ids)
        if (members is not None or self.lists) and "group" not in self.roles:
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
        length = self.reader.id_length
        path = self.root / self.members
        return read_memberships(path, self.membership, self.roles["id"], length, self.listed, [*self.ids])

    def described(self, stars: Table, rows: NDArray[np.intp]) -> Stars:
        """The star table of rows of the listing, in the survey's roles.

        A list of members or of groups fills the column of groups, which the survey's own table need not have.

        Args:
            stars: n rows of the listing.
            rows: (n,) which they were.

        Raises:
            InputError: a role names a column that is not there.
        """
        table = self.reader.describe(stars, rows, list(self.roles.values()))
        group = self.roles.get("group")
        if group not in (None, *table.colnames) and (self.members is not None or self.lists):
            table[group] = np.full(len(table), "", dtype="U1")
        return Stars(table, copy=False).playing(self.roles)

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
            **self.reader.told,
            "members": self.members,
            "membership": None if self.membership is None else asdict(self.membership),
            "listed": asdict(self.listed),
            "ids": self.ids,
            "published": self.published,
            "most_missing": self.most_missing,
            "cuts": [asdict(cut) for cut in self.cuts],
            "censoring": asdict(self.censoring),
            "roles": self.roles,
            "member_duplicates": self.member_duplicates,
            "repeats": None if self.repeats is None else asdict(self.repeats),
            "groups": [CLUSTERS, *(each.name for each in self.lists)],
            "lists": {each.name: {**asdict(each), "name": None} for each in self.lists},
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
