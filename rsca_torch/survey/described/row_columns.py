"""What stands beside spectra that are rows of tables: their other columns, and those of a star table with their ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.survey.described.description import Description
from rsca_torch.survey.described.parts import StarTable
from rsca_torch.survey.described.row_files import found
from rsca_torch.survey.described.star_tables import StarColumns, plain_table
from rsca_torch.survey.described.table_files import ascending

__all__ = ["FILE", "ROW", "JoinedColumns", "RowColumns"]

FILE, ROW = "FILE", "FILE_ROW"  # columns of the file that a star is in, and of its row there


class RowColumns:
    """A row for each row of each file, with its columns that are no vectors, `FILE` and `ROW`.

    Args:
        root: the folder.
        rule: its `spectrum` says which files.

    Raises:
        InputError: there is no such file.
    """

    def __init__(self, root: Path, rule: Description) -> None:
        found_files = sorted(path for path in root.glob(rule.spectrum) if path.is_file() or path.suffix == ".zarr")
        if not found_files:
            raise InputError(f"no file {rule.spectrum} in survey.root={root}; set description.spectrum")
        below = rule.stars.below if rule.stars else StarTable("").below
        self._ids = (rule.row.column or "",) if rule.row else ()
        self._own = StarTable("", hdus=(1,), below=below, ids=self._ids)
        self._root, self._files, self._ends = root, found_files, np.zeros(0, dtype=np.int64)
        self._tables = {found_files[0]: StarColumns(found_files[0], self._own)}
        self.names = [*self._tables[found_files[0]].names, FILE, ROW]

    def read(self, names: Sequence[str] | None = None, rows: NDArray[np.intp] | None = None) -> Table:
        """Some columns of some rows; None: all."""
        if rows is not None and not len(self._ends):
            self.read([FILE])
        tables: list[Table] = []
        if rows is None:
            tables = [self._of_file(path, names, None) for path in self._files]
            self._ends = np.cumsum([len(table) for table in tables])
            return self._stacked(tables)
        places, back = ascending(rows)
        cuts = np.searchsorted(places, self._ends)
        for path, start, of_file in zip(self._files, [0, *self._ends], np.split(places, cuts), strict=False):
            if len(of_file) or (path == self._files[-1] and not tables):
                tables.append(self._of_file(path, names, of_file - start))
        stars = self._stacked(tables)
        return stars if (np.diff(rows) > 0).all() else stars[back]

    def _stacked(self, tables: Sequence[Table]) -> Table:
        stars = vstack(tables, metadata_conflicts="silent") if len(tables) > 1 else tables[0]
        return plain_table(stars, self._ids, None, str(self._root))

    def _of_file(self, path: Path, names: Sequence[str] | None, rows: NDArray[np.intp] | None) -> Table:
        columns = self._tables.get(path) or StarColumns(path, self._own)
        others = [name for name in names or () if name not in (FILE, ROW)]
        own = [name for name in others if found(name, columns.names) is not None or found(name, self.names) is None]
        table = columns.read(None if names is None else own or columns.names[:1], rows)
        table[FILE] = path.relative_to(self._root).as_posix()
        table[ROW] = np.arange(len(table)) if rows is None else rows
        return table


class JoinedColumns:
    """Those rows whose id a star table has, with what it tells of them; ids are compared as text.

    Args:
        files: the rows.
        root: the folder.
        rule: names the star table, its column and that of the rows.

    Raises:
        InputError: a column of ids is not there, or no row has an id of the star table.
    """

    def __init__(self, files: RowColumns, root: Path, rule: Description) -> None:
        key = rule.row.column if rule.row else None
        if key is None or found(key, files.names) is None:
            raise InputError(
                f"description.row: the column that joins spectra and stars; there are {', '.join(files.names)}"
            )
        assert rule.stars is not None
        path = rule.stars.path
        self._files, self._stars = files, StarColumns(root / path, rule.stars)
        other = found(rule.key or key, self._stars.names)
        if other is None:
            raise InputError(f"description.key={rule.key or key}: {path} has {', '.join(self._stars.names)}")
        place = {str(value): row for row, value in enumerate(self._stars.read([other])[other])}
        ids = files.read([key])
        rows = np.array([place.get(str(value), -1) for value in ids[found(key, ids.colnames)]], dtype=np.int64)
        if not (rows >= 0).any():
            raise InputError(f"no {key} of the spectra is among {other} of {path}: are both ids of one kind?")
        self._of_files, self._of_stars = np.flatnonzero(rows >= 0), rows[rows >= 0]

    @property
    def names(self) -> list[str]:
        """Of both."""
        return [*self._files.names, *(name for name in self._stars.names if name not in self._files.names)]

    def read(self, names: Sequence[str] | None = None, rows: NDArray[np.intp] | None = None) -> Table:
        """Some columns of some rows; None: all."""
        rows = np.arange(len(self._of_files)) if rows is None else rows
        own = None if names is None else [name for name in names if found(name, self._files.names) is not None]
        table = self._files.read(own if own is None else [FILE, ROW, *own], self._of_files[rows])
        others = None if names is None else [name for name in names if found(name, self._files.names) is None]
        if others is None or others:
            told = self._stars.read(others, self._of_stars[rows])
            for name in told.colnames:
                if name not in table.colnames:
                    table[name] = told[name]
        return table
