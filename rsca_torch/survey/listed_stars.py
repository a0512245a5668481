"""Tables that list stars, in whatever format: columns by their names in any case, ids as text to the last digit."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.table import Column, Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import as_text
from rsca_torch.survey.fits_files import UnusableFileError, native, open_fits, require_table, whole_file

__all__ = ["cut_id", "is_fits", "read_listed", "texts_of"]

EXACT = 2**53  # beyond it a float is not every whole number
#: Endings of tables that astropy reads; all else is read as FITS.
OTHERS = (".ecsv", ".vot", ".votable", ".xml", ".parquet", ".pq")


def is_fits(path: Path) -> bool:
    """Whether a list is read as FITS: where the end of its name says nothing else."""
    return not {".csv", *OTHERS} & _endings(path)


def _endings(path: Path) -> set[str]:
    return {suffix.lower() for suffix in path.suffixes[-2:]}  # the last may be that of a compressed file


def read_listed(path: Path, of: str, texts: Sequence[str], also_text: Sequence[str] = ()) -> Table:
    """Read a list of stars: CSV, ECSV, VOTable, Parquet (needs pyarrow), all else as FITS.

    Args:
        path: the file.
        of: what it lists, for messages.
        texts: columns, in upper case, of ids and names: missing ones are ''.
        also_text: further columns that are no numbers even where they look so; of CSV, which alone does not say it.

    Returns:
        Its columns, their names in upper case.

    Raises:
        InputError: it cannot be read, or has two columns whose names differ by case only.
    """
    if is_fits(path):
        return _read_fits(path, of, texts)
    return _read_csv(path, of, texts, also_text) if ".csv" in _endings(path) else _read_other(path, of)


def cut_id(star: str, length: int | None) -> str:
    """An id as a survey's tables cut it to a length; whole numbers are never cut. None: none is."""
    bare = re.sub(r"\s+", "", star)
    if length is None or len(star) <= length or re.search(r"\d{17}", bare):
        return star
    # 2MASS J19203303+3755558 is longer for what stands before it.
    return re.sub(r"^2MASSJ?(?=\d{8}[+-])", "2M", bare, flags=re.IGNORECASE)[:length]


def texts_of(path: Path, table: Table, column: str) -> list[str]:
    """A column as text, whole numbers exactly.

    Raises:
        InputError: it holds numbers of so many digits that a float has lost some.
    """
    values = np.asarray(table[column])
    if values.dtype.kind == "f":
        lost = values[np.isfinite(values) & (np.abs(values) >= EXACT)]
        texts = [str(int(value)) if np.isfinite(value) and value == int(value) else str(value) for value in values]
    else:
        texts = [str(value).strip(" \0") for value in values]
        floats = [text for text in texts if re.fullmatch(r"\d+\.\d*|\d+(\.\d*)?[eE][+-]?\d+", text)]
        lost = [text for text in floats if float(text) >= EXACT]
    if len(lost):
        raise InputError(
            f"{path}: {column} holds {lost[0]}, a number that passed through a float and lost its last digits; "
            "write the ids as whole numbers or as text"
        )
    return texts


def _require_different(path: Path, names: Sequence[str]) -> None:
    """Refuse two columns whose names differ by case only: names are taken in any case."""
    twice = [name for name, count in Counter(name.upper() for name in names).items() if count > 1]
    if twice:
        same = " and ".join(name for name in names if name.upper() == twice[0])
        raise InputError(f"{path} has columns {same}, which differ by case only: which is meant? rename or remove one")


def _read_fits(path: Path, of: str, texts: Sequence[str]) -> Table:
    try:
        with open_fits(path) as hdus:
            hdu = require_table(hdus, 1, "table of members")
            _require_different(path, hdu.columns.names)
            # Numbers keep the file's precision: CG_PROB comes in steps of 0.1, and 0.8 must not grow in a cast.
            table = Table({name.upper(): _own_precision(hdu.data[name]) for name in hdu.columns.names})
            for column in hdu.columns:
                if column.null is not None and (name := column.name.upper()) in texts:
                    table[name] = np.where(table[name] == column.null, "", table[name].astype(str))
            return table
    except UnusableFileError as error:
        cure = "; fetch the file, give another, or set survey.members=null for no clusters" if "cluster" in of else ""
        raise InputError(
            f"expected a FITS list of {of} in {path}, got: {error}; a relative path counts from survey.root{cure}"
        ) from error


def _own_precision(column: NDArray[np.generic]) -> NDArray[np.generic]:
    values = np.asarray(column)
    return values.astype(values.dtype.newbyteorder("=")) if values.dtype.kind == "f" else native(values)


def _read_other(path: Path, of: str) -> Table:
    try:
        table = Table.read(path)
    except Exception as error:  # whatever a reader of astropy's raises, for want of its package too
        raise InputError(f"expected a list of {of} in {path}, got: {type(error).__name__}: {error}") from error
    _require_different(path, table.colnames)
    return Table({name.upper(): _plain(table[name]) for name in table.colnames if table[name].ndim == 1})


def _plain(column: Column) -> NDArray[np.generic]:
    """Without unit and mask: missing text is '', a missing number NaN, and text of whole numbers is exact."""
    missing = np.ma.getmaskarray(column)
    if column.dtype.kind in "OSU":
        return as_text(column)
    if column.dtype.kind in "iu" and missing.any():
        is_exact = np.abs(np.ma.filled(column, 0)).max() < EXACT
        return np.asarray(np.ma.filled(column.astype(float), np.nan)) if is_exact else as_text(column)
    return np.asarray(np.ma.filled(column, np.nan) if column.dtype.kind == "f" else column)


def _read_csv(path: Path, of: str, texts: Sequence[str], also_text: Sequence[str]) -> Table:
    try:
        with whole_file(path) as whole:
            content = whole.read_text(encoding="utf-8-sig")
        lines = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(content, newline="")) if row]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, UnusableFileError) as error:
        raise InputError(f"expected a CSV list of {of} in {path}, got: {error}") from error
    if not lines:
        raise InputError(f"expected a CSV list of {of} in {path}, got: an empty file; its header is {','.join(texts)}")
    header, *rows = lines
    _require_different(path, header)
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise InputError(f"{path}: row {number} has {len(row)} cells, the header {len(header)} ({','.join(row)})")
    columns = {name.upper(): np.array([row[i] for row in rows], dtype=str) for i, name in enumerate(header)}
    kept = {*texts, *also_text}
    return Table({name: values if name in kept else _numbers(values) for name, values in columns.items()})


def _numbers(values: NDArray[np.str_]) -> NDArray[np.generic]:
    try:
        return np.array([float(text or "nan") for text in values])
    except ValueError:
        return values
