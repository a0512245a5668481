"""Lists of stars in the formats that people have: a few columns of a large file, ids to the last digit."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import iterparse

import numpy as np
from astropy.io import ascii as text_tables
from astropy.io.votable import parse_single_table
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.files.tables import require_own_data
from rsca_torch.spectra.labels import as_text
from rsca_torch.survey.fits_files import native, open_fits, require_table, whole_file
from rsca_torch.survey.listed_stars import EXACT

__all__ = ["FORMATS", "Choose", "format_of", "read_columns"]

#: Is told the names of all columns, in upper case; says which are read as text, and which else.
Choose = Callable[[Sequence[str]], tuple[Sequence[str], Sequence[str]]]

ENDINGS = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".psv"), "csv"),
    ".ecsv": "ecsv",
    **dict.fromkeys((".vot", ".votable", ".xml"), "votable"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    ".dat": "cds",
}


def format_of(path: Path) -> str:
    """What the end of a name says of its format; "fits" where it says nothing else."""
    endings = [suffix.lower() for suffix in path.suffixes[-2:]]  # the last may be that of a compressed file
    return next((ENDINGS[ending] for ending in reversed(endings) if ending in ENDINGS), "fits")


def read_columns(
    path: Path,
    of: str,
    choose: Choose,
    format: str | None = None,  # noqa: A002  (the option's name)
    readme: str | None = None,
    hdu: int = 1,
) -> Table:
    """Some columns of a list, their names in upper case, numbers in the file's own precision.

    Args:
        path: the file, compressed or not.
        of: what it lists, for messages.
        choose: which columns.
        format: one of `FORMATS`. None: `format_of` tells.
        readme: beside the file: says where the columns of a "cds" table begin and end. None: ReadMe.
        hdu: of FITS, the number of its table.

    Raises:
        InputError: it cannot be read so, or has two columns whose names differ by case only.
    """
    kind = format or format_of(path)
    if kind not in FORMATS:
        raise InputError(f"the list {path}: its format must be one of {', '.join(FORMATS)}, got {kind!r}")
    called = {"csv": "CSV ", "fits": "FITS "}.get(kind, "")
    try:
        with whole_file(path) as whole:
            if kind == "cds":
                own = re.sub(r"\.(gz|bz2|xz)$", "", path.name)  # by which ReadMe knows it
                return _cds(whole, own, path.with_name(readme or "ReadMe"), choose)
            return _fits(whole, choose, hdu) if kind == "fits" else FORMATS[kind](whole, choose)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except ImportError as error:
        raise InputError(
            f"{path} is Parquet, which needs pyarrow ({error}): pip install 'rsca_torch[formats]', or pyarrow"
        ) from error
    except Exception as error:  # whatever a reader of a format raises
        cure = "; fetch the file, give another, or set survey.members=null for no clusters" if "cluster" in of else ""
        known = " ".join(FORMATS)
        kinds = f"; its format is told by the end of its name, or said: {known}" if path.exists() else ""
        raise InputError(
            f"expected a {called}list of {of} in {path}, got: {error}; a relative path counts from survey.root"
            f"{cure}{kinds}"
        ) from error


def _chosen(names: Sequence[str], choose: Choose) -> tuple[dict[str, str], set[str]]:
    """Upper-case name -> the file's, of the columns to read; and which of them are text."""
    twice = [name for name, count in Counter(name.upper() for name in names).items() if count > 1]
    if twice:
        same = " and ".join(name for name in names if name.upper() == twice[0])
        raise InputError(f"has columns {same}, which differ by case only: which is meant? rename or remove one")
    own = {name.upper(): name for name in names}
    texts, others = choose(list(own))
    return {name: own[name] for name in dict.fromkeys([*texts, *others])}, {*texts}


def _fits(path: Path, choose: Choose, number: int) -> Table:
    with open_fits(path, memmap=True) as hdus:  # 1.3 million rows of 1.1 kB: a column, never the table
        hdu = require_table(hdus, number, "table of members")
        names, texts = _chosen(hdu.columns.names, choose)
        table = Table()
        for name, own in names.items():
            values = np.array(hdu.data[own])
            values = values.astype(values.dtype.newbyteorder("=")) if values.dtype.kind == "f" else native(values)
            null = hdu.columns[own].null
            if null is not None:
                values = np.ma.array(values, mask=values == null)
            table[name] = _plain(values, name in texts)
        return table


def _votable(path: Path, choose: Choose) -> Table:
    fields, tag = [], ""
    for _, element in iterparse(path, events=("start",)):
        tag = element.tag.rpartition("}")[2]
        if tag == "FIELD":
            fields.append(element.attrib["name"])
        elif tag in ("TABLEDATA", "BINARY", "BINARY2", "FITS"):
            break
    require_own_data(path)
    names, texts = _chosen(fields, choose)
    # Of binary tables astropy would take the bytes of one column for another's.
    table = parse_single_table(path, columns=[*names.values()] if tag == "TABLEDATA" else None).to_table(
        use_names_over_ids=True
    )
    return _of_table(table, names, texts)


def _ecsv(path: Path, choose: Choose) -> Table:
    with path.open(encoding="utf-8") as file:
        header = next(line for line in file if not line.startswith("#"))
    delimiter = "," if "," in header else " "
    names, texts = _chosen(next(csv.reader([header.strip()], delimiter=delimiter)), choose)
    return _of_table(text_tables.read(path, format="ecsv"), names, texts)


def _cds(path: Path, name: str, readme: Path, choose: Choose) -> Table:
    if not readme.is_file():
        raise InputError(f"a CDS table of fixed width needs its ReadMe, and there is no {readme}: fetch it too")
    reader = text_tables.Cds(readme=str(readme))
    reader.data.table_name = name
    reader.header.get_cols([])  # the names alone
    known = {column.name: column for column in reader.header.cols}
    names, texts = _chosen([*known], choose)
    columns = [known[own] for own in names.values()]
    nulls = {entry[2]: entry[0] for entry in reader.data.fill_values if len(entry) == 3}  # ReadMe's ?=-9999
    with path.open(encoding="utf-8") as file:  # astropy would keep every cell of 1.3 million rows as text
        cells = [[line[column.start : column.end].strip() for column in columns] for line in file if line.strip()]
    table = Table()
    for name, own in zip(names, np.array(cells, dtype=str).reshape(-1, len(columns)).T, strict=True):
        values = np.where(own == nulls.get(names[name], ""), "", own)
        table[name] = values if name in texts else _numbers(values)
    return table


def _parquet(path: Path, choose: Choose) -> Table:
    pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    names, texts = _chosen(parquet.read_schema(path).names, choose)
    read = parquet.read_table(path, columns=[*names.values()])
    table = Table()
    for name, own in names.items():
        column = read[own]
        if pyarrow.types.is_integer(column.type):  # to_numpy would make floats of whole numbers with gaps
            gone = column.is_null().to_numpy()
            values: NDArray[Any] = np.ma.array(column.fill_null(0).to_numpy(), mask=gone)
        elif pyarrow.types.is_floating(column.type):
            values = column.to_numpy()
        else:
            values = np.array(column.to_pylist(), dtype=object)
        table[name] = _plain(values, name in texts)
    return table


def _of_table(table: Table, names: Mapping[str, str], texts: set[str]) -> Table:
    return Table({name: _plain(table[own], name in texts) for name, own in names.items()})


def _plain(column: Any, is_text: bool) -> NDArray[Any]:  # noqa: ANN401  (a column of any reader)
    """Without unit and mask: missing text is '', a missing number NaN, whole numbers exact."""
    missing = np.ma.getmaskarray(column)
    if column.dtype.kind in "OSU" or (is_text and column.dtype.kind in "iu" and missing.any()):
        return as_text(column)
    if column.dtype.kind in "iu" and missing.any():
        whole = np.ma.filled(column, 0)
        return as_text(column) if np.abs(whole).max() >= EXACT else np.where(missing, np.nan, whole.astype(float))
    return np.asarray(np.ma.filled(column, np.nan) if column.dtype.kind == "f" else np.ma.getdata(column))


def _csv(path: Path, choose: Choose) -> Table:
    """CSV, and VizieR's TSV: comments, a line of units and one of dashes below the header."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = _rows(file)
        header = next(rows, None)
        if header is None:
            raise ValueError("an empty file; a header with the names of the columns expected")
        names, texts = _chosen(header, choose)
        places = [header.index(own) for own in names.values()]
        cells: list[list[str]] = []
        for number, row in enumerate(_below_units(rows), start=1):
            if len(row) != len(header):
                told = ",".join(row)[:200]
                raise InputError(f"row {number} has {len(row)} cells, the header {len(header)} ({told})")
            cells.append([row[place] for place in places])
    columns = np.array(cells, dtype=str).reshape(-1, len(places)).T
    return Table(
        {name: values if name in texts else _numbers(values) for name, values in zip(names, columns, strict=True)}
    )


def _below_units(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """Without a line of dashes that is the first or second, and what stands above it: units."""
    head = list(islice(rows, 2))
    dashes = [number for number, row in enumerate(head) if row and all(re.fullmatch("-+", cell) for cell in row)]
    yield from head[dashes[-1] + 1 :] if dashes else head
    yield from rows


def _rows(file: Any) -> Iterator[list[str]]:  # noqa: ANN401  (an open file)
    lines = (line for line in file if line.strip() and not line.startswith("#"))
    first = next(lines, None)
    if first is None:
        return
    delimiter = max(",\t;|", key=first.count)
    yield [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter))]
    for row in csv.reader(lines, delimiter=delimiter):
        yield [cell.strip() for cell in row]


def _numbers(values: NDArray[np.str_]) -> NDArray[np.generic]:
    try:
        return np.array([float(text or "nan") for text in values])
    except ValueError:
        return values


FORMATS: dict[str, Callable[..., Table]] = {
    "csv": _csv,
    "ecsv": _ecsv,
    "votable": _votable,
    "parquet": _parquet,
    "cds": _cds,
    "fits": _fits,
}
