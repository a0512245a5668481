"""The star table: one row a star, and which of its columns plays which role."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.arrays import as_tensor, in_unit, missing_among
from rsca_torch.spectra.labels import as_labels, as_text

__all__ = ["PART_OF_COADD", "ROLES", "Stars", "abundance_column", "error_column"]

#: Each role, and what needs it.
NEEDED_BY = {
    "id": "everything: it names a star",
    "group": "everything that learns: it names a star's siblings",
    "velocity": "the pairs that rsca compare allows (pairs.max_velocity) and compressor.remove=velocity",
    "extinction": "the pairs that rsca compare allows (pairs.max_extinction), compressor.remove=extinction and "
    "censoring=found",
    "snr": "the choice among a star's observations and reports",
    "repeat_of": "repeated observations of one star, which tell what is not the star",
}
ROLES = tuple(NEEDED_BY)
#: Column of repeats: True for what the star's own row is the mean of, as a co-add is of its visits.
PART_OF_COADD = "PART_OF_COADD"
TEXTS = ("id", "group", "repeat_of")  # the others are numbers
UNITS = {"velocity": "km/s", "extinction": "mag"}  # columns in others are converted


def abundance_column(element: str) -> str:
    """The star table's column of [X/H] of an element: ``TiII`` is in ``TIII_H``."""
    return f"{element.upper()}_H"


def error_column(element: str) -> str:
    """The star table's column of the standard error of [X/H] of an element."""
    return f"{abundance_column(element)}_ERR"


class Stars(Table):
    """N stars, one a row, under their survey's own column names; some columns play a role that this program knows.

    The roles are ``id`` (text, different for each row), ``group`` (the cluster or other group of siblings, '' for
    none), ``velocity`` (km/s), ``extinction`` (mag), ``snr`` and ``repeat_of`` (the id of the star that the row
    observes again, '' for none; its own id is another, as every row's is). They are kept in ``meta["roles"]``, so rows
    and copies have them too.

    Example:
        >>> from astropy.table import Table
        >>> stars = Stars.of(Table({"sobject_id": [7, 9], "field": ["", "M 67"]}), id="sobject_id", group="field")
        >>> stars.id.tolist(), stars[1:].group.tolist(), stars.has("velocity")
        (['7', '9'], ['M 67'], False)
    """

    @classmethod
    def of(cls, table: Table | Mapping[str, Any], **roles: str | None) -> Stars:
        """A star table that knows its roles.

        Args:
            table: N rows, as an astropy Table, a pandas table or named columns; a `Stars` keeps the roles that it has.
            **roles: the name of the column that plays each of `ROLES`. None: the column of the role's own name, where
                there is one.

        Raises:
            InputError: a role is unknown or names a column that is not there, or no column plays the id.
        """
        stars = cls(table if isinstance(table, Table) else dict(table.items()))
        known = {role: role for role in ROLES if role in stars.colnames}
        given = {role: column for role, column in roles.items() if column is not None}
        return stars.playing({**known, **stars.roles, **given})

    def playing(self, roles: Mapping[str, str]) -> Stars:
        """The same columns in exactly these roles.

        Raises:
            InputError: as `of`.
        """
        for role, column in roles.items():
            if role not in ROLES:
                raise InputError(f"there is no role {role!r} of a star table's column, only {', '.join(ROLES)}")
            if column not in self.colnames:
                cure = "name another" if role == "id" else "name another, or null to do without"
                raise InputError(
                    f"role {role}={column}: the star table has no such column, but {self._told()}; "
                    f"the role is needed by {NEEDED_BY[role]}; {cure}"
                )
        if "id" not in roles:
            raise InputError(f"no column plays the role id, which names a star; there are {self._told()}: give id=NAME")
        stars: Stars = self.copy(copy_data=False)
        stars.meta["roles"] = dict(roles)
        return stars

    @property
    def roles(self) -> dict[str, str]:
        """Role -> column, of those that are played."""
        return {role: column for role, column in self.meta.get("roles", {}).items() if column in self.colnames}

    def has(self, role: str) -> bool:
        """Whether a column plays the role."""
        return role in self.roles

    def values(self, name: str) -> NDArray[Any]:
        """(N,) a role or else a column: text as str, '' for missing; numbers as float64, NaN for missing.

        Args:
            name: of `ROLES`, or of a column. Ids and groups are text whatever the column holds.

        Raises:
            InputError: neither is there, or a role of numbers is played by text.
        """
        column = self.roles.get(name, name)
        if column not in self.colnames:
            if name in ROLES:
                raise InputError(
                    f"no column of the star table plays the role {name}, which is needed by {NEEDED_BY[name]}; there "
                    f"are {self._told()}: name one as survey.roles.{name}=COLUMN and ingest again, or as {name}=COLUMN "
                    "of Spectra"
                )
            raise InputError(
                f"the star table has no column {name}: ingest a catalogue that has it, or choose among {self._told()}"
            )
        given = in_unit(self[column], UNITS[name], f"role {name}={column}") if name in UNITS else self[column]
        if name == "group":
            return as_labels(given)
        values = _plain(given, text=name in TEXTS)
        if name in ROLES and name not in TEXTS and values.dtype.kind != "f":
            raise InputError(f"role {name}={column}: a column of numbers expected, got {values.dtype}")
        return values

    @property
    def id(self) -> NDArray[np.str_]:
        """(N,) names."""
        return self.values("id")

    @property
    def group(self) -> NDArray[np.str_]:
        """(N,) the group of siblings, '' for none."""
        return self.values("group")

    @property
    def velocity(self) -> NDArray[np.float64]:
        """(N,) km/s, NaN where it is not known."""
        return self.values("velocity")

    @property
    def extinction(self) -> NDArray[np.float64]:
        """(N,) mag, NaN where it is not known."""
        return self.values("extinction")

    @property
    def snr(self) -> NDArray[np.float64]:
        """(N,) signal-to-noise ratio, NaN where it is not known."""
        return self.values("snr")

    @property
    def repeat_of(self) -> NDArray[np.str_]:
        """(N,) the id of the star that a row observes again, '' for none; '' for all where no column plays the role."""
        return self.values("repeat_of") if self.has("repeat_of") else np.full(len(self), "", dtype="U1")

    @property
    def are_parts(self) -> bool:
        """Whether these are repeats of which their stars' own rows are the means (`PART_OF_COADD`)."""
        return PART_OF_COADD in self.colnames and len(self) > 0 and bool(np.asarray(self[PART_OF_COADD]).all())

    def require_repeats(self, ids: NDArray[np.str_]) -> None:
        """Check that every row is a further observation of a star that is known, and not of itself.

        Args:
            ids: of the stars that are known.

        Raises:
            InputError: a row repeats nothing, itself or a star that is not known.

        Example:
            >>> repeats = Stars.of({"id": ["7#2"], "repeat_of": ["7"]})
            >>> repeats.require_repeats(np.array(["7", "9"]))
            >>> repeats.require_repeats(np.array(["9"]))
            Traceback (most recent call last):
            rsca_torch.errors.InputError: 1 of 1 repeats are of stars that are not there (first: 7#2 of 7); ...
        """
        of, own = self.repeat_of, self.id
        for wrong, what, cure in (
            (of == "", "say of no star that they repeat it", "name it in the column of the role repeat_of"),
            (of == own, "are repeats of themselves", "each needs an id of its own, and its star's in repeat_of"),
            (
                ~np.isin(of, ids),
                "are of stars that are not there",
                "give these among the field or the members, or leave their repeats out",
            ),
        ):
            if wrong.any():
                first = f"{own[wrong][0]} of {of[wrong][0]}" if of[wrong][0] else own[wrong][0]
                raise InputError(f"{wrong.sum()} of {len(self)} repeats {what} (first: {first}); {cure}")

    def require_groups(self, ids: NDArray[np.str_]) -> None:
        """Check that every row is a star of a group, and none of the stars that have a place already.

        Args:
            ids: of the field stars and of the members.

        Raises:
            InputError: a star is in no group, or is a field star or a member too.

        Example:
            >>> pairs = Stars.of({"id": ["7", "8"], "group": ["a", "a"]})
            >>> pairs.require_groups(np.array(["9"]))
            >>> pairs.require_groups(np.array(["8", "9"]))
            Traceback (most recent call last):
            rsca_torch.errors.InputError: 1 of 2 stars of groups are in the field or among the members too (first: ...
        """
        if not self.has("group"):
            raise InputError("no column of the groups' star table plays the role group, which names a star's siblings")
        for wrong, what, cure in (
            (self.group == "", "are in no group", "leave them out"),
            (
                np.isin(self.id, ids),
                "are in the field or among the members too",
                "a star has one place: leave it out of the field, and out of groups where it or a sibling is a member",
            ),
        ):
            if wrong.any():
                first = self.id[wrong][0]
                raise InputError(f"{wrong.sum()} of {len(self)} stars of groups {what} (first: {first}); {cure}")

    def _told(self) -> str:
        return ", ".join(self.colnames) or "no columns"


def _plain(column: Any, text: bool) -> NDArray[Any]:  # noqa: ANN401  (astropy's columns are untyped)
    """Without mask, unit, bytes and objects; integers become text exactly (ids of 19 digits)."""
    kind = np.ma.getdata(column).dtype.kind
    if kind == "O" and not text:  # as pandas hands over text, and numbers of which some are missing
        values = np.ma.getdata(column)
        here = values[~(np.ma.getmaskarray(column) | missing_among(values))]
        text = not all(isinstance(value, Real) for value in here)
    if text or kind in "US":
        return as_text(column)
    return as_tensor(column).double().numpy() if kind in "fiubO" else np.asarray(np.ma.getdata(column))
