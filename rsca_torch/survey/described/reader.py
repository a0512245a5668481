"""A survey that a description says how to read: files of a star, an arm or many stars, or tables with a row a star."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Row, Table, vstack

from rsca_torch.errors import InputError
from rsca_torch.survey.below_root import below_root
from rsca_torch.survey.described.description import Description
from rsca_torch.survey.described.parts import Arm, Source, StarTable
from rsca_torch.survey.described.preparation import Raw
from rsca_torch.survey.described.row_files import found
from rsca_torch.survey.described.spectrum_reader import SpectrumReader, cell
from rsca_torch.survey.described.star_file import StarFile, opened, row_of, wavelengths
from rsca_torch.survey.described.star_tables import plain_table, read_star_table

__all__ = ["DescribedReader"]

PART = re.compile(r"\{(\w+)(?://(\d+))?(?::([^}]*))?\}")
ROW = "FILE_ROW"  # column of the row that a file keeps a star in


class DescribedReader(SpectrumReader):
    """Reads a survey as its description says (docs/own-data.md).

    Args:
        root: the folder.
        description: a file of YAML, its path counted from the working folder; or what such a file holds.

    Raises:
        InputError: the description cannot be used.
    """

    def __init__(self, root: str | Path, description: str | Path | Mapping[str, Any]) -> None:
        super().__init__(root, Description.of(description))

    def list_all(self) -> tuple[Table, list[tuple[str, str]]]:
        """The stars with the name of their file, and rows that name a spectrum a second time."""
        rule = self.rule
        if rule.layout == "row_per_star":
            return self._rows_of_files(), []
        assert rule.stars is not None
        stars = read_star_table(self.root / rule.stars.path, rule.stars)
        for part in PART.finditer(rule.spectrum):
            if part[1] != "arm" and found(part[1], stars.colnames) is None:
                raise InputError(
                    f"description.spectrum={rule.spectrum}: the star table has no column {part[1]}; there are "
                    f"{', '.join(stars.colnames)}"
                )
        first = next(iter(rule.arms.values()))
        stars["FILE"] = [_filled(rule.spectrum, star, first) for star in stars]
        return _without_double(stars, rule.key or (rule.row.column if rule.row else None))

    def _rows_of_files(self) -> Table:
        """A row for each row of each file, with its columns that are no vectors; of those that the star table has."""
        rule = self.rule
        files = sorted(path for path in self.root.glob(rule.spectrum) if path.is_file() or path.suffix == ".zarr")
        if not files:
            raise InputError(f"no file {rule.spectrum} in survey.root={self.root}; set description.spectrum")
        below = rule.stars.below if rule.stars else StarTable("").below
        own = StarTable("", hdus=(1,), below=below, ids=(rule.row.column or "",) if rule.row else ())
        tables = []
        for path in files:
            table = read_star_table(path, own)
            table["FILE"] = path.relative_to(self.root).as_posix()
            table[ROW] = np.arange(len(table))
            tables.append(table)
        stars = vstack(tables, metadata_conflicts="silent") if len(tables) > 1 else tables[0]
        stars = plain_table(stars, own.ids, None, str(self.root))
        return stars if rule.stars is None else self._joined(stars, rule.stars)

    def _joined(self, stars: Table, labels: StarTable) -> Table:
        """Rows of spectra with the labels of their id, as text; without those that have none."""
        key = self.rule.row.column if self.rule.row else None
        if key is None or found(key, stars.colnames) is None:
            raise InputError(f"description.row: the column that joins spectra and stars; there are {_names(stars)}")
        told = read_star_table(self.root / labels.path, labels)
        other = found(self.rule.key or key, told.colnames)
        if other is None:
            raise InputError(f"description.key={self.rule.key or key}: {labels.path} has {_names(told)}")
        place = {str(value): row for row, value in enumerate(told[other])}
        name = found(key, stars.colnames)
        rows = np.array([place.get(str(value), -1) for value in stars[name]], dtype=np.int64)
        if not (rows >= 0).any():
            raise InputError(f"no {key} of the spectra is among {other} of {labels.path}: are both ids of one kind?")
        kept = stars[rows >= 0]
        for column in told.colnames:
            if column not in kept.colnames:
                kept[column] = told[column][rows[rows >= 0]]
        return kept

    def raw_arms(self, star: Row) -> list[Raw]:
        """The arms of a star, each file opened once."""
        files: dict[str, list[Arm]] = {}
        for arm in self.rule.arms.values():
            name = star["FILE"] if self.rule.layout == "row_per_star" else _filled(self.rule.spectrum, star, arm)
            files.setdefault(str(name), []).append(arm)
        arms = []
        for name, of_file in files.items():
            path = below_root(self.root, name)
            if len(files) > 1 and self.rule.missing_arms == "leave_out" and not path.exists():
                continue
            row = self._row(path, star)
            with opened(path) as file:
                arms += [self._raw(file, arm, row) for arm in of_file]
        return arms

    def _row(self, path: Path, star: Row) -> int | None:
        if self.rule.layout == "row_per_star":
            return int(star[ROW])
        if self.rule.layout != "file_of_many":
            return None
        assert self.rule.row is not None
        return row_of(path, self.rule.row, str(cell(star, self.rule.key or self.rule.row.column or "")).strip())

    def _raw(self, file: StarFile, arm: Arm, row: int | None) -> Raw:
        wavelength = wavelengths(file, arm.wavelength, arm.flux, row)
        flux = file.array(arm.flux, row)
        mask = None if arm.mask is None else file.array(arm.mask, row)
        divisor = self.rule.normalised if isinstance(self.rule.normalised, Source) else None
        if divisor is not None and divisor.hdu is None and arm.flux.column is not None:
            divisor = Source(arm.flux.hdu, divisor.column, shared=divisor.shared)
        below = None if divisor is None else file.array(divisor, row)
        return Raw(wavelength, flux, _error(file, arm, row, wavelength), mask, below, arm.range)


def _error(file: StarFile, arm: Arm, row: int | None, wavelength: Any) -> Any:  # noqa: ANN401  (arrays)
    error = file.array(arm.error, row)
    if arm.error.wavelength is None:
        return error
    # On a grid of its own (GALAH's fourth camera): as a share of the flux it changes slowly.
    return np.interp(wavelength, file.grid(arm.error.wavelength, arm.error), error, np.nan, np.nan)


def _filled(template: str, star: Row, arm: Arm) -> str:
    """The name of a star's file, columns of the star table in braces."""

    def value(part: re.Match[str]) -> str:
        if part[1] == "arm":
            return arm.name
        given = cell(star, part[1])
        if part[2]:
            given = int(given) // int(part[2])
        return format(int(given) if part[3] else given, part[3] or "")

    return PART.sub(value, template)


def _without_double(stars: Table, key: str | None) -> tuple[Table, list[tuple[str, str]]]:
    """Without rows of a spectrum that an earlier row has: they would be repeats without a difference."""
    named = stars["FILE"].tolist()
    if key is not None and (column := found(key, stars.colnames)) is not None:
        named = [f"{name}, {column}={value}" for name, value in zip(named, stars[column].tolist(), strict=True)]
    first = np.zeros(len(stars), dtype=bool)
    first[np.unique(np.array(named, dtype=str), return_index=True)[1]] = True
    return stars[first], [(name, "listed before") for name, kept in zip(named, first, strict=True) if not kept]


def _names(table: Table) -> str:
    return ", ".join(table.colnames)
