"""The table of stars, in any format of astropy's or pandas'; ids stay whole numbers or text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.arrays import missing_among
from rsca_torch.spectra.labels import as_text
from rsca_torch.survey.described.parts import StarTable
from rsca_torch.survey.described.ratios import abundances_of
from rsca_torch.survey.described.row_files import found
from rsca_torch.survey.described.table_files import ascending, table_file
from rsca_torch.survey.fits_files import UnusableFileError

__all__ = ["StarColumns", "plain_table", "renamed"]

#: A text that Python wrote of bytes, as some data sets have their ids.
OF_BYTES = re.compile(r"""b(['"])(.*)\1""")


class StarColumns:
    """A table of stars whose columns are read as they are asked for: of a million rows nobody needs all at once.

    Args:
        path: the file.
        rule: its tables, its format, and which columns are ids.

    Raises:
        InputError: it cannot be read.
    """

    def __init__(self, path: Path, rule: StarTable) -> None:
        self._path, self._rule = path, rule
        with self._told():
            self._file = table_file(path, rule)

    @property
    def names(self) -> list[str]:
        """Of its columns."""
        return list(self._file.names)

    def read(self, names: Sequence[str] | None = None, rows: NDArray[np.intp] | None = None) -> Table:
        """Plain columns: text, int64, bool, or float64 with NaN for missing; vectors are left out.

        Args:
            names: which, in any case; X_H for the abundances of all elements. None: all there are.
            rows: which. None: all.

        Raises:
            InputError: there is no such column, or an id is floating point.
        """
        ratios, own, others = self._rule.abundances, list[str](), set[str]()
        for name in self.names if names is None else names:
            column = found(name, self.names)
            if ratios is not None and (column is None or column.lower() == ratios.iron.lower()):
                others.add(name.upper())  # made: of [Fe/H] too that without a flag alone, as FITS knows no case
            elif column is None and name == "X_H":
                own += [there for there in self.names if there.upper().endswith("_H")]
            elif column is None:
                raise self._lacks(name, self.names)
            else:
                own.append(column)
        places, back = rows, None
        if rows is not None and not (np.diff(rows) > 0).all():
            places, back = ascending(rows)
        table = self._plain([*dict.fromkeys(own)], places)
        if ratios is not None and (others or names is None):
            some = None if names is None or "X_H" in others else others
            made = abundances_of(lambda asked: self._plain(asked, places), self.names, ratios, self._path.name, some)
            if lacking := {*others} - {*made, "X_H", ratios.iron.upper()}:
                raise self._lacks(min(lacking), [*self.names, *made])
            for name, values in made.items():
                table[name] = values
        return table if back is None else table[back]

    def _plain(self, names: Sequence[str], rows: NDArray[np.intp] | None) -> Table:
        """Own columns, of ascending rows; a few at a time, as a format reads them."""
        table = Table()
        for first in range(0, len(names), self._file.at_once):
            with self._told():
                read = dict(self._file.read(names[first : first + self._file.at_once], rows))
            plain = plain_table(read, self._rule.ids, self._rule.below, str(self._path))
            for name in plain.colnames:
                table[name] = plain[name]
        return table

    def _lacks(self, name: str, there: Sequence[str]) -> InputError:
        return InputError(f"{self._path}: the star table has no column {name}; there are {', '.join(there)}")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # whatever a reader of somebody else's raises
            said = str(error) if isinstance(error, UnusableFileError) else f"{type(error).__name__}: {error}"
            raise InputError(f"expected a table of stars in {self._path}, got: {said}") from error


def plain_table(given: Any, ids: Sequence[str], below: float | None, where: str) -> Table:  # noqa: ANN401  (any table)
    """The same table with plain columns.

    Args:
        given: an astropy Table, a pandas table, or named columns.
        ids: columns that may not be floating point, in any case.
        below: smaller numbers are missing; None: none are.
        where: for messages.

    Raises:
        InputError: an id is floating point.
    """
    names = list(given.colnames) if isinstance(given, Table) else [str(name) for name in given]
    of_ids = {found(name, names) for name in ids}
    table = Table()
    for name in names:
        values = _plain(given[name], name in of_ids)
        if values.ndim != 1:
            continue
        if values.dtype.kind == "f":
            if name in of_ids and np.isfinite(values).any():
                first = values[np.isfinite(values)][0]
                raise InputError(
                    f"{where}: ids in {name} are floating point ({first:.17g}, say), which keeps 15 digits of them; "
                    "write them as whole numbers (int64) or as text"
                )
            if below is not None:
                values = np.where(values < below, np.nan, values)
        table[name] = values
    return table


def _plain(column: Any, is_id: bool) -> NDArray[Any]:  # noqa: ANN401  (a column of any kind of table)
    if isinstance(column, pandas.Series) and column.dtype.kind in "fiub":
        column = np.ma.array(column.fillna(0).to_numpy(), mask=column.isna().to_numpy())
    elif isinstance(column, pandas.Series | list):
        column = np.array([None, *column], dtype=object)[1:]  # None first: else vectors would make a matrix
    missing, values = np.ma.getmaskarray(column), np.asarray(np.ma.getdata(column))
    if values.dtype.kind == "O":
        missing = missing | missing_among(values)
        here = values[~missing].tolist()
        if any(isinstance(value, np.ndarray | list | dict) for value in here):
            return np.empty((len(values), 0))  # vectors
        if here and all(isinstance(value, Integral) for value in here):
            values = np.where(missing, 0, values).astype(np.int64)
        elif here and all(isinstance(value, Real) for value in here):
            values = np.where(missing, np.nan, values).astype(np.float64)
    if values.dtype.kind in "SUO":
        return _stripped(np.ma.array(values, mask=missing))
    if values.dtype.kind == "f":
        return np.where(missing, np.nan, values.astype(np.float64))
    if values.dtype.kind in "iu" and missing.any():
        return as_text(np.ma.array(values, mask=missing)) if is_id else np.where(missing, np.nan, values.astype(float))
    if values.dtype.kind == "b":
        return values & ~missing
    return values.astype(np.int64) if values.dtype.kind == "i" else values.astype(values.dtype.newbyteorder("="))


def _stripped(texts: Any) -> NDArray[np.str_]:  # noqa: ANN401  (as as_text takes them)
    bare = np.char.strip(as_text(texts), "\0 ")
    return np.array([whole[2] if (whole := OF_BYTES.fullmatch(text)) else text for text in bare.tolist()], dtype=str)


def renamed(table: Table, wanted: Iterable[str]) -> Table:
    """The same table with columns under the names that are asked for, where these differ by case alone."""
    for name in wanted:
        own = found(name, table.colnames)
        if own is not None and own != name:
            table.rename_column(own, name)
    return table
