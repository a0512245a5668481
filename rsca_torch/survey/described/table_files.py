"""Files that hold a table of stars: some columns of some rows, whatever the format, and never more than these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.files.tables import read_table
from rsca_torch.survey.described.parts import StarTable
from rsca_torch.survey.described.row_files import HDF5, PARQUET, TEXT, columns_of, needed_package, parsed
from rsca_torch.survey.fits_files import UnusableFileError, open_fits, require_whole

__all__ = ["Places", "TableFile", "ascending", "table_file"]

FITS_ROWS = 2**16  # read at once: 64 MB where a row has 1 kB
TEXT_COLUMNS, COLUMNS = 32, 8  # read at once: text is gone through once more for each group of columns
LOOKED_AT = 100  # rows of a table of text, whether a column holds vectors

#: Formats of pandas that are data alone.
PANDAS = ("csv", "excel", "feather", "fwf", "json", "orc", "parquet", "sas", "spss", "stata", "table", "xml")

Places = NDArray[np.intp]


class TableFile(Protocol):
    """A table of stars.

    Attributes:
        names: of its columns that have one value a row.
        at_once: so many columns may be asked for at once.
    """

    names: list[str]
    at_once: int

    def read(self, names: Sequence[str], rows: Places | None) -> Mapping[str, Any]:
        """Columns as the format has them: NumPy's arrays, masked ones, pandas' or lists.

        Args:
            names: of them.
            rows: which, ascending. None: all.
        """


def ascending(rows: Places) -> tuple[Places, Places]:
    """The same rows in their file's order, and the places that take what was read back to the order given.

    >>> rows, back = ascending(np.array([7, 2, 5]))
    >>> rows.tolist(), rows[back].tolist()
    ([2, 5, 7], [7, 2, 5])
    """
    order = np.argsort(rows, kind="stable")
    return rows[order], np.argsort(order)


def table_file(path: Path, rule: StarTable) -> TableFile:
    """The table in a file.

    Raises:
        InputError: there is no such file, or no such HDU in it.
    """
    suffixes = {suffix.lower() for suffix in path.suffixes[-2:]}
    if path.exists() and not (path.is_file() or path.is_dir()):  # a folder may be Zarr's
        raise InputError(f"{path} is no file: give a table of stars")
    if not path.exists() and not path.with_name(f"{path.name}.gz").exists():
        raise InputError(
            f"expected a table of stars in {path}, got: no such file; relative paths count from survey.root"
        )
    if rule.format and rule.format.startswith("pandas."):
        kind = rule.format.removeprefix("pandas.")
        if kind not in PANDAS:  # one of pandas' is pickle, which runs what the file says
            raise InputError(f"description.stars.format={rule.format}: pandas. and one of {', '.join(PANDAS)} expected")
        return WholeTable(getattr(pandas, f"read_{kind}")(path))
    if rule.format:
        return WholeTable(read_table(path, format=rule.format))
    if suffixes & {*PARQUET}:
        return ParquetTable(path)
    if suffixes & {*TEXT} - {".ecsv"}:
        return TextTable(path, "\t" if ".tsv" in suffixes else ",")
    if suffixes & {*HDF5, ".npy", ".npz", ".zarr"}:
        return ArrayTable(path)
    if suffixes & {".fits", ".fit", ".fz"}:
        return FitsTable(path, rule.hdus)
    return WholeTable(read_table(path))


class WholeTable:
    """A table of a format that can be read as a whole only."""

    at_once = COLUMNS

    def __init__(self, table: Table | pandas.DataFrame) -> None:
        self._table = table
        self.names = list(table.colnames) if isinstance(table, Table) else [str(name) for name in table]

    def read(self, names: Sequence[str], rows: Places | None) -> Mapping[str, Any]:
        """Some columns of some rows."""
        return {name: _taken(self._table[name], rows) for name in names}


class TextTable:
    """CSV or TSV, compressed or not. A column's type is that of the whole column: ids like 007 stay what they are."""

    at_once = TEXT_COLUMNS

    def __init__(self, path: Path, separator: str) -> None:
        self._path, self._how = path, {"comment": "#", "dtype_backend": "numpy_nullable", "sep": separator}
        head = self._read(nrows=LOOKED_AT)
        self.names = [name for name in head if not any(_is_vector(cell) for cell in head[name].dropna())]

    def _read(self, **how: Any) -> pandas.DataFrame:
        return pandas.read_csv(self._path, **self._how, **how)

    def read(self, names: Sequence[str], rows: Places | None) -> Mapping[str, Any]:
        """Some columns of some rows."""
        table = self._read(usecols=list(names))
        return {name: _taken(table.pop(name), rows) for name in names}


class ParquetTable:
    """Parquet, a file or a folder of them."""

    at_once = COLUMNS

    def __init__(self, path: Path) -> None:
        dataset, types = needed_package("pyarrow.dataset"), needed_package("pyarrow.types")
        schema = dataset.dataset(path, partitioning="hive").schema
        plain = [field.name for field in schema if not types.is_nested(field.type)]
        self._path, self.names = path, [name for name in plain if not name.startswith("__index_level_")]  # pandas' own

    def read(self, names: Sequence[str], rows: Places | None) -> Mapping[str, Any]:
        """Some columns of some rows."""
        table = pandas.read_parquet(self._path, columns=list(names), dtype_backend="numpy_nullable")
        return {name: _taken(table.pop(name), rows) for name in names}


class ArrayTable:
    """HDF5, Zarr, NumPy: an array a column, or arrays whose rows are records."""

    at_once = 1

    def __init__(self, path: Path) -> None:
        self._columns: dict[str, tuple[Any, str | None]] = {}
        for name, rows in columns_of(path).items():
            kind: Any = getattr(rows, "dtype", np.dtype(object))
            if kind.names:
                self._columns |= {field: (rows, field) for field in kind.names if not kind[field].shape}
            elif len(rows.shape) == 1:
                self._columns[name] = (rows, None)
        self.names = [*self._columns]

    def read(self, names: Sequence[str], rows: Places | None) -> Mapping[str, Any]:
        """Some columns of some rows."""
        read = {}
        for name in names:
            array, field = self._columns[name]
            values = array[: array.shape[0]]
            read[name] = _taken(values if field is None else np.array(values[field]), rows)
        return read


class FitsTable:
    """Tables of a FITS file whose rows match; of two columns of one name the first counts."""

    at_once = 8 * COLUMNS  # a row's columns lie side by side: the file is gone through once more for each group

    def __init__(self, path: Path, numbers: Sequence[int | str]) -> None:
        self._path, self._places, self._rows = path, dict[str, int | str](), 0
        with open_fits(path, memmap=True) as hdus:
            for number in numbers:
                if number not in hdus:
                    raise InputError(f"{path} has no HDU {number}, but {', '.join(hdu.name or '?' for hdu in hdus)}")
                if hdus[number].is_image:
                    raise InputError(f"HDU {number} of {path} is no table; tables are {_tables(hdus)}")
                hdu = require_whole(hdus, hdus.index_of(number), "table of stars")
                if self._places and hdu.header["NAXIS2"] != self._rows:
                    raise InputError(
                        f"HDU {number} of {path} has {hdu.header['NAXIS2']} rows, HDU {numbers[0]} {self._rows}: "
                        "description.stars.hdus are tables whose rows match"
                    )
                self._rows = hdu.header["NAXIS2"]
                for name in hdu.columns.names:
                    if not hdu.columns.dtype[name].shape:
                        self._places.setdefault(name, number)
        self.names = [*self._places]

    def read(self, names: Sequence[str], rows: Places | None) -> Mapping[str, Any]:
        """Some columns of some rows."""
        read: dict[str, list[Any]] = {name: [] for name in names}
        rows = np.arange(self._rows) if rows is None else rows
        with open_fits(self._path, memmap=True) as hdus:
            of_table: dict[int | str, list[str]] = {}
            for name in names:
                of_table.setdefault(self._places[name], []).append(name)
            for number, own in of_table.items():
                for first in range(0, max(self._rows, 1), FITS_ROWS):
                    start, end = np.searchsorted(rows, [first, first + FITS_ROWS])
                    if start < end or not first:  # of the first block none may be wanted: it tells the types
                        block = _block(hdus, hdus[number], first)
                        for name in own:
                            read[name].append(_converted(block[name][rows[start:end] - first], hdus[number], name))
        return {name: np.ma.concatenate(parts) for name, parts in read.items()}  # type: ignore[no-untyped-call]


def _block(hdus: Any, hdu: Any, first: int) -> NDArray[Any]:  # noqa: ANN401  (astropy's HDUs are untyped)
    """Rows of a table as they lie in the file; of a part of its own table astropy would copy every column."""
    dtype = hdu.columns.dtype.newbyteorder(">")
    if dtype.itemsize != hdu.header["NAXIS1"]:
        raise UnusableFileError(f"rows of {hdu.header['NAXIS1']} bytes whose columns take {dtype.itemsize}")
    number = min(FITS_ROWS, hdu.header["NAXIS2"] - first)
    return np.fromfile(hdus.filename(), dtype, number, offset=hdu.fileinfo()["datLoc"] + first * dtype.itemsize)


def _converted(values: NDArray[Any], hdu: Any, name: str) -> Any:  # noqa: ANN401  (as above)
    """A column's values as FITS means them: true and false, whole numbers without sign, scaled ones, missing ones."""
    column = hdu.columns[name]
    values = values.astype(values.dtype.newbyteorder("="))
    if str(column.format).strip("0123456789") == "L":
        return values == ord("T")
    is_whole, bits = values.dtype.kind in "iu", 8 * values.dtype.itemsize
    missing = values == column.null if is_whole and column.null is not None else None
    scale, zero = (usual if told in (None, "") else told for told, usual in ((column.bscale, 1), (column.bzero, 0)))
    if is_whole and scale == 1 and zero == 2 ** (bits - 1):
        values = values.view(f"u{bits // 8}") ^ np.array(zero, dtype=f"u{bits // 8}")
    elif is_whole and scale == 1 and zero == int(zero):
        values = values if zero == 0 else values.astype(np.int64) + int(zero)
    elif (scale, zero) != (1, 0):
        values = values.astype(np.float64) * scale + zero
    return values if missing is None else np.ma.array(values, mask=missing)


def _tables(hdus: Iterable[Any]) -> str:
    return ", ".join(f"{place} ({hdu.name})" for place, hdu in enumerate(hdus) if not hdu.is_image) or "none"


def _taken(column: Any, rows: Places | None) -> Any:  # noqa: ANN401  (a column of any kind of table)
    if rows is None:
        return column
    return column.iloc[rows] if isinstance(column, pandas.Series) else column[rows]


def _is_vector(cell: Any) -> bool:  # noqa: ANN401  (whatever a table of text holds)
    return isinstance(parsed(cell), np.ndarray)
