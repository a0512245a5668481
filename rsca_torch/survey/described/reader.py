"""A survey that a description says how to read: files of a star, an arm or many stars, or tables with a row a star."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from astropy.table import Row, Table

from rsca_torch.errors import InputError
from rsca_torch.survey.below_root import below_root
from rsca_torch.survey.described.description import Description
from rsca_torch.survey.described.parts import Arm, Source
from rsca_torch.survey.described.preparation import Raw
from rsca_torch.survey.described.row_columns import FILE, ROW, JoinedColumns, RowColumns
from rsca_torch.survey.described.row_files import found
from rsca_torch.survey.described.spectrum_reader import Columns, SpectrumReader, cell
from rsca_torch.survey.described.star_file import StarFile, opened, row_of, wavelengths
from rsca_torch.survey.described.star_tables import StarColumns

__all__ = ["DescribedReader"]

PART = re.compile(r"\{(\w+)(?://(\d+))?(?::([^}]*))?\}")


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

    def open_columns(self) -> Columns:
        """The star table; of rows of spectra what stands beside them too."""
        rule = self.rule
        if rule.layout == "row_per_star":
            files = RowColumns(self.root, rule)
            return files if rule.stars is None else JoinedColumns(files, self.root, rule)
        assert rule.stars is not None
        table = StarColumns(self.root / rule.stars.path, rule.stars)
        for part in PART.finditer(rule.spectrum):
            if part[1] != "arm" and found(part[1], table.names) is None:
                raise InputError(
                    f"description.spectrum={rule.spectrum}: the star table has no column {part[1]}; there are "
                    f"{', '.join(table.names)}"
                )
        return table

    @property
    def needed(self) -> list[str]:
        """What the names of files are made of, which row of them is the star's, and the velocity."""
        if self.rule.layout == "row_per_star":
            return [FILE, ROW, *super().needed]
        parts = [part[1] for part in PART.finditer(self.rule.spectrum) if part[1] != "arm"]
        return [*dict.fromkeys([*parts, *([self._key] if self._key else []), *super().needed])]

    @property
    def _key(self) -> str | None:
        return self.rule.key or (self.rule.row.column if self.rule.row else None)

    def without_double(self, stars: Table) -> tuple[Table, list[tuple[str, str]]]:
        """Without rows of a spectrum that an earlier row has: they would be repeats without a difference."""
        if self.rule.layout == "row_per_star":
            return stars, []
        told = [_texts(part, stars) for part in PART.finditer(self.rule.spectrum) if part[1] != "arm"]
        key = None if self._key is None else found(self._key, stars.colnames)
        told += [] if key is None else [stars[key]]
        again = pandas.DataFrame(dict(enumerate(map(np.asarray, told)))).duplicated().to_numpy()
        again = again if told else np.arange(len(stars)) > 0  # all rows name one file
        beside = "" if key is None else f", {key}="
        others = stars[again]
        names = zip(self.files_of(others), others[key] if key else [""] * len(others), strict=True)
        return stars[~again], [(f"{name}{beside}{value if key else ''}", "listed before") for name, value in names]

    def files_of(self, stars: Table) -> list[str]:
        """The file of the first arm."""
        if self.rule.layout == "row_per_star":
            return [str(name) for name in stars[FILE]]
        names, end = [""] * len(stars), 0
        for part in PART.finditer(self.rule.spectrum):  # column by column: a row of a table is slow to ask
            arm = part[1] == "arm"
            values = [] if arm else stars[found(part[1], stars.colnames)].tolist()
            texts = [next(iter(self.rule.arms))] * len(stars) if arm else [_value(part, value) for value in values]
            between, end = self.rule.spectrum[end : part.start()], part.end()
            names = [f"{name}{between}{text}" for name, text in zip(names, texts, strict=True)]
        return [name + self.rule.spectrum[end:] for name in names]

    def raw_arms(self, star: Row) -> list[Raw]:
        """The arms of a star, each file opened once."""
        files: dict[str, list[Arm]] = {}
        for arm in self.rule.arms.values():
            name = star[FILE] if self.rule.layout == "row_per_star" else _filled(self.rule.spectrum, star, arm)
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
    return PART.sub(lambda part: arm.name if part[1] == "arm" else _value(part, cell(star, part[1])), template)


def _value(part: re.Match[str], given: Any) -> str:  # noqa: ANN401  (whatever a table holds)
    if part[2]:
        given = int(given) // int(part[2])
    return format(int(given) if part[3] else given, part[3] or "")


def _texts(part: re.Match[str], stars: Table) -> Any:  # noqa: ANN401  (a column)
    """What distinguishes the stars in one pair of braces."""
    values = np.asarray(stars[found(part[1], stars.colnames)])
    values = values.astype(np.int64) if part[2] or part[3] else values
    return values // int(part[2]) if part[2] else values
