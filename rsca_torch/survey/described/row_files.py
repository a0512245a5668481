"""Files of many rows, as NumPy, HDF5, Parquet, Zarr or text keep them: columns that are read a few rows at a time."""

from __future__ import annotations

import importlib
import json
import weakref
import zipfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.files.archives import array_header, require_honest_sizes
from rsca_torch.files.tables import read_table

__all__ = ["BLOCK", "Rows", "columns_of", "found", "is_row_file", "needed_package", "parsed"]

BLOCK = 256  # rows that are read at once: more would not be faster, and memory holds two of them

HDF5, PARQUET, TEXT = (".h5", ".hdf5", ".hdf"), (".parquet", ".pq"), (".csv", ".ecsv", ".tsv")


class Rows(Protocol):
    """One column, or an array whose first axis is the stars."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)."""

    def __getitem__(self, rows: slice, /) -> Any:  # noqa: ANN401  (NumPy's array, or a list of arrays)
        """Those from `rows.start` to `rows.stop`."""


def is_row_file(path: Path) -> bool:
    """Whether the file is of one of these kinds; all else is FITS."""
    return _kind(path) is not None


@lru_cache(maxsize=4)
def columns_of(path: Path) -> Mapping[str, Rows]:
    """The columns of a file by name; the one array of a file that has no names is called ''.

    Raises:
        InputError: it cannot be read, or its package is not installed.
    """
    kind = _kind(path)
    if kind is None or not path.exists():
        raise InputError(
            f"{path}: a file of npy, npz, HDF5, Parquet, Zarr, CSV or ECSV expected, "
            f"got {'no such file' if not path.exists() else 'another kind'}"
        )
    try:
        return kind(path)
    except InputError:
        raise
    except Exception as error:  # whatever a reader of somebody else's raises
        raise InputError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def found(name: str, names: Mapping[str, Any] | list[str]) -> str | None:
    """The name that is meant, which may be written in another case; None: there is none."""
    if name in names:
        return name
    return next((other for other in names if other.lower() == name.lower()), None)


def _kind(path: Path) -> Callable[[Path], Mapping[str, Rows]] | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    last = suffixes[-1] if suffixes else ""
    if last in (".gz", ".bz2") and len(suffixes) > 1 and suffixes[-2] in TEXT:
        return _text
    kinds = {".npy": _npy, ".npz": _npz, ".zarr": _zarr, **dict.fromkeys(HDF5, _hdf5)}
    return {**kinds, **dict.fromkeys(PARQUET, _parquet), **dict.fromkeys(TEXT, _text)}.get(last)


def needed_package(package: str) -> Any:  # noqa: ANN401  (a module)
    """A module of the extra `formats`.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(f"this file needs the package {package}: pip install 'rsca_torch[formats]'") from error


def _npy(path: Path) -> Mapping[str, Rows]:
    return {"": np.load(path, mmap_mode="r", allow_pickle=False)}


def _npz(path: Path) -> Mapping[str, Rows]:
    require_honest_sizes(path)
    archive = zipfile.ZipFile(path)
    return {name.removesuffix(".npy"): ZippedRows(archive, name) for name in archive.namelist()}


class ZippedRows:
    """An array of an npz file: numpy.load would read all of it."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._file = archive.open(name)
        for handle in (self._file, archive):
            weakref.finalize(self, handle.close)
        self.shape, by_column, self.dtype = array_header(self._file)
        if by_column and len(self.shape) > 1:
            raise InputError(f"{name} is in Fortran's order: save numpy.ascontiguousarray of it")
        if self.dtype.hasobject:
            raise InputError(f"{name} holds Python objects: save numbers or text")
        self._start = self._file.tell()
        self._row = self.dtype.itemsize * int(np.prod(self.shape[1:]))

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        first, last, _ = rows.indices(self.shape[0])
        self._file.seek(self._start + first * self._row)
        content = self._file.read((last - first) * self._row)
        return np.frombuffer(content, self.dtype).reshape(last - first, *self.shape[1:])


def _hdf5(path: Path) -> Mapping[str, Rows]:
    h5py = needed_package("h5py")
    arrays: dict[str, Rows] = {}
    h5py.File(path, "r").visititems(lambda name, item: arrays.update({name: item} if hasattr(item, "dtype") else {}))
    return arrays


def _zarr(path: Path) -> Mapping[str, Rows]:
    zarr = needed_package("zarr")
    opened = zarr.open(path, mode="r")
    arrays = {"": opened} if hasattr(opened, "dtype") else dict(opened.arrays())
    if any("pickle" in repr(array.metadata).lower() for array in arrays.values()):
        raise InputError(f"{path} holds pickles, which run what they say: write its arrays as numbers")
    return arrays


def _parquet(path: Path) -> Mapping[str, Rows]:
    file = needed_package("pyarrow.parquet").ParquetFile(path)
    return {name: ParquetRows(file, name) for name in _leaves(file.schema_arrow)}


def _leaves(fields: Any, before: str = "") -> list[str]:  # noqa: ANN401  (pyarrow's)
    """Columns, and the fields of columns that are structures as ``spectrum.flux``."""
    names: list[str] = []
    for field in fields:
        inner = hasattr(field.type, "fields") or getattr(field.type, "num_fields", 0) > 1
        names += _leaves(list(field.type), f"{before}{field.name}.") if inner else [before + field.name]
    return names


class ParquetRows:
    """A column of a Parquet file, read a row group at a time."""

    def __init__(self, file: Any, name: str) -> None:  # noqa: ANN401  (pyarrow's)
        self._file, self._name = file, name
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        self._ends = np.cumsum(sizes)
        self.shape = (int(sum(sizes)),)

    def __getitem__(self, rows: slice) -> list[Any]:
        first, last, _ = rows.indices(self.shape[0])
        values: list[Any] = []
        while first < last:
            group = int(np.searchsorted(self._ends, first, "right"))
            start = int(self._ends[group - 1]) if group else 0
            end = min(last, int(self._ends[group]))
            values += self._group(group)[first - start : end - start].to_numpy(zero_copy_only=False).tolist()
            first = end
        return values

    def _group(self, group: int) -> Any:  # noqa: ANN401  (pyarrow's)
        return _row_group(self._file, self._name, group)


@lru_cache(maxsize=8)
def _row_group(file: Any, name: str, group: int) -> Any:  # noqa: ANN401  (pyarrow's)
    top, *inner = name.split(".") if name not in file.schema_arrow.names else [name]
    column = file.read_row_group(group, columns=[name]).column(top).combine_chunks()
    for field in inner:
        column = column.field(field)
    return column


def _text(path: Path) -> Mapping[str, Rows]:
    """A table of text, whole: spectra are texts like [1.0, NaN] there, as in Gaia's archive."""
    if ".ecsv" in [suffix.lower() for suffix in path.suffixes]:
        table = read_table(path, format="ascii.ecsv")
        return {name: np.asarray(table[name]) for name in table.colnames}
    table = pandas.read_csv(path, comment="#", dtype_backend="numpy_nullable", na_values=["null"])
    return {str(name): TextRows(table[name]) for name in table.columns}


class TextRows:
    """A column of a table of text; a cell like [1.0, NaN, null] is a vector."""

    def __init__(self, column: pandas.Series) -> None:
        self.column = column
        self.shape = (len(column),)

    def __getitem__(self, rows: slice) -> list[Any]:
        return [parsed(value) for value in self.column.iloc[rows].tolist()]


def parsed(value: Any) -> Any:  # noqa: ANN401  (a cell)
    """A vector of a text like [1.0, NaN, null]; any other value as it is."""
    bare = value.strip() if isinstance(value, str) else ""
    if not (bare[:1] in ("[", "(") and bare[-1:] in ("]", ")")):
        return value
    try:
        return np.array(json.loads(f"[{bare[1:-1]}]"), dtype=np.float64)  # JSON's null becomes NaN
    except ValueError:
        return value
