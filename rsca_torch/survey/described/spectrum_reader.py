"""What all readers here share: a first look at some stars, one grid, and a star's arms made one spectrum."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import numpy as np
from astropy.table import Row, Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.survey.described.description import Description
from rsca_torch.survey.described.preparation import Prepared, Raw, on_common_grid, on_new_grid, prepared
from rsca_torch.survey.described.row_files import found
from rsca_torch.survey.described.star_file import forget
from rsca_torch.survey.described.star_tables import renamed
from rsca_torch.survey.described.strong_lines import doubt, line_velocity
from rsca_torch.survey.fits_files import UnusableFileError
from rsca_torch.survey.grid import Grid
from rsca_torch.survey.reader import Listing, Measured, Reader

__all__ = ["TABLE_ROW", "Columns", "SpectrumReader", "cell"]

log = logging.getLogger(__name__)

LOOKED_AT = 16  # stars that are looked at before all are read
LEVELS = 0.2, 3.0  # of a spectrum divided by its continuum, deep lines and all
TABLE_ROW = "TABLE_ROW"  # column of the row that a star has in the table of all stars


class Columns(Protocol):
    """All that is told of the stars; its columns are read as they are asked for, as `StarColumns` has it."""

    @property
    def names(self) -> list[str]:
        """Of its columns."""

    def read(self, names: Sequence[str] | None = None, rows: NDArray[np.intp] | None = None) -> Table:
        """Some columns of some rows; None: all."""


class SpectrumReader(Reader):
    """Reads what a description says; where the arrays of a star lie is left to its subclasses."""

    roles: ClassVar[Mapping[str, str]] = MappingProxyType({})
    tells_groups = True

    def __init__(self, root: str | Path, rule: Description) -> None:
        super().__init__(Path(root).absolute())  # also where the process goes to another folder
        self.rule = rule
        forget()
        self._looked = False

    def __getstate__(self) -> dict[str, Any]:
        """For another process: without the tables of all stars, of which it is handed those that it reads."""
        _ = self.grid
        return {name: value for name, value in vars(self).items() if name not in ("listed", "columns")}

    @property
    def told(self) -> Mapping[str, Any]:
        """The whole description: a store says how its survey was read, and what it was read with may not change."""
        return {"description": asdict(self.rule)}

    @cached_property
    def columns(self) -> Columns:
        """All that is told of the stars, which is read as it is asked for."""
        return self.open_columns()

    @cached_property
    def listed(self) -> tuple[Table, list[tuple[str, str]]]:
        """All stars with what it takes to find their spectra, and (file, problem) of rows that are none."""
        stars = self.columns.read(self.needed or self.columns.names[:1])
        stars[TABLE_ROW] = np.arange(len(stars))
        return self.without_double(stars)

    @property
    def needed(self) -> list[str]:
        """Columns without which no spectrum is found or read."""
        return [] if self.rule.wavelength.velocity is None else [self.rule.wavelength.velocity]

    @abstractmethod
    def open_columns(self) -> Columns:
        """What `columns` keeps."""

    def without_double(self, stars: Table) -> tuple[Table, list[tuple[str, str]]]:
        """Without rows that name a spectrum a second time, of which (file, problem) are told."""
        return stars, []

    @abstractmethod
    def files_of(self, stars: Table) -> list[str]:
        """What FILE says of stars."""

    @abstractmethod
    def raw_arms(self, star: Row) -> list[Raw]:
        """The arms of a star as its files have them, from short to long wavelengths."""

    @cached_property
    def grid(self) -> Grid:
        """The description's own, or that of the first spectrum that can be read."""
        if self.rule.grid is not None:
            wavelength = self.rule.grid.wavelength()
            ranges = {name: arm.range for name, arm in self.rule.arms.items() if arm.range is not None}
            return Grid(wavelength, {name: _inside(name, ends, wavelength) for name, ends in ranges.items()})
        stars, first = self.listed[0], None
        for row in _spread(len(stars), LOOKED_AT):
            try:
                arms = self._arms(stars[row])
            except UnusableFileError as error:
                first = first or f"{self.files_of(stars[[row]])[0]}: {error}"
                continue
            return Grid(np.concatenate([arm.wavelength for arm in arms]), _side_by_side(arms, [*self.rule.arms]))
        raise InputError(f"none of the spectra that were looked at can be used; the first is {first or 'not there'}")

    def list_stars(self, columns: Sequence[str]) -> Listing:
        """All stars, with these columns of their table."""
        stars, problems = self.listed
        stars = stars.copy(copy_data=False)
        if columns and found(columns[0], self.columns.names) is None:
            raise InputError(
                f"survey.roles.id={columns[0]}: the star table has no such column; there are "
                f"{', '.join(self.columns.names)}"
            )
        if lacking := [name for name in columns if found(name, stars.colnames) is None]:
            told = self.columns.read(lacking, np.asarray(stars[TABLE_ROW]))
            for name in told.colnames:
                stars[name] = told[name]
        stars = renamed(stars, columns)
        for name in columns[:1]:
            if stars[name].dtype.kind == "f":
                raise InputError(
                    f"ids in {name} are floating point or missing: whole numbers (int64) or text expected; name it in "
                    "description.stars.ids where whole numbers are missing"
                )
        return Listing(stars, problems, "stars listed", "listed twice or without a file" if problems else "")

    def describe(self, stars: Table, rows: NDArray[np.intp], columns: Sequence[str]) -> Table:
        """All that is told of these stars, or what is to be kept of it; some of their spectra are looked at first.

        So what is wrong with all is said at once.
        """
        del rows
        keep = None if self.rule.stars is None else self.rule.stars.keep
        there = [name for name in columns if found(name, self.columns.names) is not None]
        names = None if keep is None else [*dict.fromkeys([*self.needed, *keep, *there])]
        table = self.columns.read(names, np.asarray(stars[TABLE_ROW]))
        table["FILE"] = self.files_of(table)
        table = renamed(table, columns)
        if not self._looked and len(table):
            self._looked = True
            self._look_at(table)
        return table

    def _look_at(self, stars: Table) -> None:
        """Read some stars: refuse where none can be used, warn where lines lie elsewhere than said."""
        velocities, levels, problems = [], [], []
        for row in _spread(len(stars), LOOKED_AT):
            try:
                seen = self.read(stars[row])
                velocities.append(line_velocity(self.grid.wavelength, seen))
                levels.append(float(np.median(seen.flux if seen.valid is None else seen.flux[seen.valid])))
            except UnusableFileError as error:
                problems.append(f"{stars[row]['FILE']}: {error}")
        if not velocities:
            raise InputError(
                f"none of {len(problems)} spectra that were looked at can be used; the first is {problems[0]}"
            )
        level = float(np.median(levels))
        if not LEVELS[0] < level < LEVELS[1]:
            raise InputError(
                f"the median flux of {len(levels)} spectra that were looked at is {level:.4g}; divided by their "
                "continua it would be about 1: say normalised: false and name a continuum, or normalised: "
                "{divide_by: COLUMN}"
            )
        if said := doubt(velocities, self.rule.wavelength.medium):
            log.warning("warning: %s", said)

    def _arms(self, star: Row) -> list[Prepared]:
        column = self.rule.wavelength.velocity
        velocity = 0.0 if column is None else float(cell(star, column))
        if not np.isfinite(velocity):
            raise UnusableFileError(f"no velocity in {column}, which takes the wavelengths to rest")
        arms, problems = [], []
        for raw in self.raw_arms(star):
            try:
                arms.append(prepared(raw, self.rule, velocity))
            except UnusableFileError as error:
                problems.append(str(error))
        if not arms or (problems and (self.rule.missing_arms == "refuse" or self.rule.grid is None)):
            raise UnusableFileError(problems[0] if problems else "no file of any arm")
        return arms

    def read(self, star: Row) -> Measured:
        """One spectrum on the grid."""
        arms, grid = self._arms(star), self.grid.wavelength
        if self.rule.grid is None:
            return on_common_grid(arms, grid, str(star["FILE"]))
        return on_new_grid(arms, grid)


def cell(star: Row, column: str) -> Any:  # noqa: ANN401  (whatever a table holds)
    """A star's value in a column, which may be written in another case.

    Raises:
        InputError: there is no such column.
    """
    name = found(column, star.colnames)
    if name is None:
        raise InputError(f"the star table has no column {column}; there are {', '.join(star.colnames)}")
    return star[name]


def _spread(n: int, most: int) -> list[int]:
    """At most so many of n rows, from first to last."""
    return sorted({int(row) for row in np.linspace(0, n - 1, min(n, most))}) if n else []


def _inside(name: str, ends: Sequence[float], wavelength: NDArray[np.float64]) -> tuple[int, int]:
    first, last = np.searchsorted(wavelength, ends[0]), np.searchsorted(wavelength, ends[1], "right")
    if first >= last:
        raise InputError(f"description.arms.{name}.range={list(ends)} has no bin of description.grid.resample")
    return int(first), int(last)


def _side_by_side(arms: list[Prepared], names: list[str]) -> dict[str, tuple[int, int]]:
    ends = np.cumsum([0, *(len(arm.wavelength) for arm in arms)]).tolist()
    return {name: (first, last) for name, first, last in zip(names, ends[:-1], ends[1:], strict=True)}
