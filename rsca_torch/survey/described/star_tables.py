"""The table of stars, in any format of astropy's or pandas'; ids stay whole numbers or text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.files.tables import read_table
from rsca_torch.spectra.arrays import missing_among
from rsca_torch.spectra.labels import as_text
from rsca_torch.survey.described.parts import StarTable
from rsca_torch.survey.described.ratios import with_abundances
from rsca_torch.survey.described.row_files import HDF5, PARQUET, TEXT, columns_of, found
from rsca_torch.survey.fits_files import UnusableFileError, open_fits

__all__ = ["plain_table", "read_star_table", "renamed"]

#: Formats of pandas that are data alone.
PANDAS = ("csv", "excel", "feather", "fwf", "json", "orc", "parquet", "sas", "spss", "stata", "table", "xml")
#: A text that Python wrote of bytes, as some data sets have their ids.
OF_BYTES = re.compile(r"""b(['"])(.*)\1""")


def read_star_table(path: Path, rule: StarTable) -> Table:
    """The table with plain columns: text, int64, bool, or float64 with NaN for missing; vectors are left out.

    Args:
        path: the file.
        rule: its tables, its format, and which columns are ids.

    Raises:
        InputError: it cannot be read, or an id is floating point.
    """
    try:
        given = _read(path, rule)
    except InputError:
        raise
    except Exception as error:  # whatever a reader of somebody else's raises
        raise InputError(f"expected a table of stars in {path}, got: {type(error).__name__}: {error}") from error
    table = plain_table(given, rule.ids, rule.below, str(path))
    return table if rule.abundances is None else with_abundances(table, rule.abundances, path.name)


def _read(path: Path, rule: StarTable) -> Table | pandas.DataFrame | dict[str, Any]:
    suffixes = {suffix.lower() for suffix in path.suffixes[-2:]}
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is no file: give a table of stars")
    if not path.exists() and not path.with_name(f"{path.name}.gz").exists():  # or a folder of Zarr
        raise InputError(
            f"expected a table of stars in {path}, got: no such file; relative paths count from survey.root"
        )
    if rule.format and rule.format.startswith("pandas."):
        kind = rule.format.removeprefix("pandas.")
        if kind not in PANDAS:  # one of pandas' is pickle, which runs what the file says
            raise InputError(f"description.stars.format={rule.format}: pandas. and one of {', '.join(PANDAS)} expected")
        return getattr(pandas, f"read_{kind}")(path)
    if rule.format:
        return read_table(path, format=rule.format)
    if suffixes & {*PARQUET}:
        return pandas.read_parquet(path, dtype_backend="numpy_nullable")
    if suffixes & {*TEXT} - {".ecsv"}:
        separator = "\t" if ".tsv" in suffixes else ","
        return pandas.read_csv(path, comment="#", dtype_backend="numpy_nullable", sep=separator)
    if suffixes & {*HDF5, ".npz", ".zarr"}:
        columns = columns_of(path).items()
        return {name: rows[: rows.shape[0]] for name, rows in columns if len(rows.shape) == 1}
    if suffixes & {".fits", ".fit", ".fz"}:
        return _read_fits(path, rule.hdus)
    return read_table(path)


def _read_fits(path: Path, numbers: Sequence[int | str]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    try:
        with open_fits(path, memmap=True) as hdus:
            for number in numbers:
                if number not in hdus:
                    raise InputError(f"{path} has no HDU {number}, but {', '.join(hdu.name or '?' for hdu in hdus)}")
                hdu = hdus[number]
                if hdu.is_image:
                    raise InputError(f"HDU {number} of {path} is no table; tables are {_tables(hdus)}")
                for column in hdu.columns:
                    values = np.array(hdu.data[column.name])
                    if column.null is not None and values.dtype.kind in "iu":
                        values = np.ma.masked_equal(values, column.null)
                    columns.setdefault(column.name, values)
    except UnusableFileError as error:
        raise InputError(f"expected a FITS table of stars in {path}, got: {error}") from error
    return columns


def _tables(hdus: Iterable[Any]) -> str:
    return ", ".join(f"{place} ({hdu.name})" for place, hdu in enumerate(hdus) if not hdu.is_image) or "none"


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
