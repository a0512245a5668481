"""Numbers of stars that another model gave: an id and a row of numbers each, from a file or from memory."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from astropy.table import Table
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.files.archives import require_honest_sizes
from rsca_torch.files.tables import read_table
from rsca_torch.spectra.labels import as_text
from rsca_torch.survey.described.row_files import found

__all__ = ["Embedding", "read_embedding", "shortened"]

ENDINGS = {".npz": "npz", ".parquet": "parquet", ".pq": "parquet", ".csv": ",", ".tsv": "\t"}
PACKED = (".gz", ".bz2", ".xz")
#: A whole number has none of these; a text that is no number is an id like another.
FLOATING = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=e))(e[+-]?\d+)?", re.IGNORECASE)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
MODEL_STORE = "MODELSTO"  # of the header that `rsca embed` writes: the stores that its model was fitted on


@dataclass(frozen=True)
class Embedding:
    """N stars in D numbers.

    Attributes:
        ids: (N,) text, each once.
        values: (N, D) float64; NaN where a number is missing.
        columns: the names of what the numbers are from; an array of several numbers a star has one.
        unused: names of columns of numbers that are not in it.
        where: for messages.
        id: the column that names a star.
        fitted_on: checksums of stores that its model is known to have been fitted on.
    """

    ids: NDArray[np.str_]
    values: NDArray[np.float64]
    columns: tuple[str, ...]
    unused: tuple[str, ...] = ()
    where: str = "the embedding"
    id: str = "id"
    fitted_on: str = ""


def read_embedding(
    given: Any,  # noqa: ANN401  (a path, or any table)
    id: str | None = None,  # noqa: A002  (the option's name)
    columns: Sequence[str] | None = None,
    known: Sequence[str] = (),
) -> Embedding:
    """Of a file (FITS, npz, Parquet, CSV, TSV, or any other that astropy reads), or of named columns in memory.

    Args:
        given: the file; or an astropy or pandas table, or a mapping of names to arrays (N,) or (N, D).
        id: the column that names a star, whole numbers or text. None: the first of `known`, else "id".
        columns: those with the numbers, in this order; ``z_*`` stands for all whose names begin so. None: the arrays of
            several numbers a star, where there are any, else all columns of numbers but the id and `known`.
        known: of the star table that this is to be joined with: the id, then other columns, which are no embedding.

    Raises:
        InputError: where it cannot be read, has no such columns or no numbers; where ids are floating point, missing or
            come twice.

    Examples:
        >>> stars = {"id": np.array([9, 7]), "z": np.array([[1.0, 2.0], [3.0, 4.0]]), "snr": np.array([80.0, 90.0])}
        >>> read = read_embedding(stars)
        >>> read.ids.tolist(), read.values.tolist(), read.columns, read.unused
        (['9', '7'], [[1.0, 2.0], [3.0, 4.0]], ('z',), ('snr',))
        >>> read_embedding({"id": np.array([9.0, 7.0]), "z": np.ones((2, 2))})
        Traceback (most recent call last):
        rsca_torch.errors.InputError: the embedding: ids in id are floating point (9, say), which keeps 15 digits ...
    """
    where = str(given) if isinstance(given, str | Path) else "the embedding"
    if isinstance(given, Table | pandas.DataFrame | Mapping):
        table, fitted_on = _of_memory(given), ""
    elif isinstance(given, str | Path):
        table, fitted_on = _of_file(Path(given), id, known)
    else:
        raise InputError(
            f"an embedding is a file, a table or named columns with an id for each star, got {type(given).__name__}: "
            "give {'id': ids, 'z': numbers}"
        )
    name = _id_column(table, id, known, where)
    ids = _ids(table.pop(name), name, where)
    chosen, unused = _chosen(_numbers(table, len(ids)), table, columns, known, where)
    values = np.concatenate([*chosen.values()], axis=1)
    return Embedding(ids, values, tuple(chosen), tuple(unused), where, name, fitted_on)


def _of_memory(given: Any) -> dict[str, Any]:  # noqa: ANN401
    names = given.colnames if isinstance(given, Table) else list(given)
    return {str(name): given[name] for name in names}


def _of_file(path: Path, id: str | None, known: Sequence[str]) -> tuple[dict[str, Any], str]:  # noqa: A002
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:] if suffix.lower() not in PACKED]
    kind = ENDINGS.get(suffixes[-1] if suffixes else "")
    if not path.is_file():
        raise InputError(f"expected a file with an id and numbers of each star, got: there is no file {path}")
    try:
        if kind == "npz":
            require_honest_sizes(path)
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays.items()), ""
        if kind == "parquet":
            return _of_memory(pandas.read_parquet(path, dtype_backend="numpy_nullable")), ""
        if kind is not None:
            names = [str(name) for name in pandas.read_csv(path, sep=kind, nrows=0).columns]
            text = found(id or "", names) or next(
                (own for name in (*known[:1], "id") if (own := found(name, names))), ""
            )
            read = pandas.read_csv(path, sep=kind, dtype_backend="numpy_nullable", dtype={text: "string"})
            return _of_memory(read), ""
        with warnings.catch_warnings(action="ignore", category=AstropyWarning):
            read = read_table(path)
        return _of_memory(read), str(read.meta.get(MODEL_STORE, ""))
    except ImportError as error:
        raise InputError(f"{path} needs a package ({error}): pip install 'rsca_torch[formats]'") from error
    except Exception as error:  # whatever a reader of a format raises
        kinds = "FITS, npz, Parquet, CSV, TSV or another table that astropy reads"
        raise InputError(f"expected {kinds} in {path}, got: {type(error).__name__}: {error}") from error


def _id_column(table: Mapping[str, Any], id: str | None, known: Sequence[str], where: str) -> str:  # noqa: A002
    names = list(table)
    wanted = [id] if id is not None else [*known[:1], "id"]
    for name in wanted:
        own = found(name, names)
        if own is not None:
            return own
    raise InputError(f"{where} has no column {' or '.join(wanted)} that names a star: id=NAME, of {shortened(names)}")


def _ids(column: Any, name: str, where: str) -> NDArray[np.str_]:  # noqa: ANN401
    """As text; whole numbers to the last digit.

    Raises:
        InputError: floating point, missing, or twice.
    """
    if isinstance(column, Tensor):
        column = column.detach().cpu().numpy()
    plain = np.asarray(np.ma.getdata(column) if not hasattr(column, "to_numpy") else column.to_numpy(dtype=object))
    if plain.ndim != 1 or plain.dtype.kind not in "iuUSOf":
        raise InputError(f"{where}: one id a row expected in {name}, whole numbers or text, got {plain.dtype}")
    floating = plain if plain.dtype.kind == "f" else [each for each in plain.tolist() if isinstance(each, float)]
    known = [each for each in floating if each == each]  # NaN is not
    texts = np.char.strip(as_text(column), "\0 ")
    if not known and plain.dtype.kind not in "iu" and all(NUMBER.fullmatch(text) for text in texts.tolist() if text):
        known = [float(text) for text in texts.tolist() if FLOATING.fullmatch(text)]
    if known:
        raise InputError(
            f"{where}: ids in {name} are floating point ({known[0]:.17g}, say), which keeps 15 digits of them; write "
            "them as whole numbers (int64) or as text, or name another column, id=NAME"
        )
    if (texts == "").any():
        raise InputError(
            f"{where}: {int((texts == '').sum())} of {len(texts)} rows have no id in {name}: leave them out"
        )
    different, counts = np.unique(texts, return_counts=True)
    if (counts > 1).any():
        twice = different[counts > 1]
        raise InputError(
            f"{where}: {len(twice)} ids come more than once in {name}: {shortened(twice.tolist())}; give one row a star"
        )
    return texts


def _numbers(table: Mapping[str, Any], rows: int) -> dict[str, NDArray[np.float64]]:
    """(N, d) of each column of numbers, a row a star."""
    numbers = {}
    for name, column in table.items():
        values = _plain(column)
        if values is not None and values.ndim and len(values) == rows:
            numbers[name] = values.reshape(rows, -1)
    return numbers


def _plain(column: Any) -> NDArray[np.float64] | None:  # noqa: ANN401
    """NaN where one is missing; None of what is no numbers."""
    if isinstance(column, Tensor):
        column = column.detach().cpu().double().numpy() if not column.is_complex() else column.cpu().numpy()
    if isinstance(column, pandas.Series):
        if column.dtype.kind in "fiu":
            return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
        column = column.to_numpy()
    missing, values = np.ma.getmaskarray(column), np.asarray(np.ma.getdata(column))
    if values.dtype.kind == "O" and len(values) and all(isinstance(each, np.ndarray | list) for each in values):
        try:
            values = np.array([np.asarray(each, dtype=np.float64) for each in values])
        except ValueError:  # rows of different lengths, or text
            return None
        missing = np.zeros(values.shape, dtype=bool)
    if values.dtype.kind not in "fiu":
        return None
    return np.where(missing, np.nan, values.astype(np.float64))


def _chosen(
    numbers: Mapping[str, NDArray[np.float64]],
    table: Mapping[str, Any],
    columns: Sequence[str] | None,
    known: Sequence[str],
    where: str,
) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
    """The columns that are used, and the names of other columns of numbers."""
    if columns is not None:
        names = []
        for pattern in [columns] if isinstance(columns, str) else columns:
            fit = [name for name in table if name == pattern] or [name for name in table if fnmatchcase(name, pattern)]
            bad = [name for name in fit if name not in numbers]
            if not fit or bad:
                what = f"has no column {pattern}" if not fit else f"has no number for every star in {shortened(bad)}"
                raise InputError(f"{where} {what}: columns of numbers are {shortened(list(numbers))}")
            names += [name for name in fit if name not in names]
    else:
        arrays = [name for name, values in numbers.items() if values.shape[1] > 1]
        names = arrays or [name for name in numbers if name not in known]
    if not names:
        also = " but those that the store has too" if numbers else ""
        raise InputError(
            f"{where} has no column of numbers{also}: columns=[NAME,...] of {shortened(list(numbers) or list(table))}"
        )
    return {name: numbers[name] for name in names}, [name for name in numbers if name not in names]


def shortened(names: Sequence[str] | NDArray[np.str_], first: int = 10) -> str:
    r"""The first of them, and how many more there are; what a terminal would take for a command is escaped.

    >>> shortened(["a", "\x1b[31mb", "c"], 2)
    'a, \\x1b[31mb and 1 more'
    >>> shortened([])
    'none'
    """
    more = f" and {len(names) - first} more" if len(names) > first else ""
    return (", ".join(_printable(str(name)) for name in names[:first]) or "none") + more


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
