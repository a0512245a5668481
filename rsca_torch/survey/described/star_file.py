"""One file with spectra, open: the arrays of one star in it, and what is there where something is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import as_text
from rsca_torch.survey.described.parts import Source, formula
from rsca_torch.survey.described.row_files import BLOCK, Rows, columns_of, found, is_row_file
from rsca_torch.survey.fits_files import UnusableFileError, open_fits, require_whole
from rsca_torch.survey.unusable import is_file, is_of_the_machine

__all__ = ["StarFile", "forget", "opened", "row_of", "wavelengths"]

Floats = NDArray[np.float64]
MOST_PIXELS = 5_000_000  # of a spectrum, and of the rows that are read at once


class StarFile(Protocol):
    """A file whose arrays can be asked for."""

    def array(self, source: Source, row: int | None) -> NDArray[Any]:
        """(P,) of a star.

        Args:
            source: where it lies.
            row: of the star; None: the file is one star's.

        Raises:
            UnusableFileError: it is not there; what is there is said.
        """

    def grid(self, cards: Any, source: Source) -> Floats:  # noqa: ANN401  (names of header cards)
        """(P,) wavelengths of the linear grid that the header of a source's HDU tells."""


@contextmanager
def opened(path: Path) -> Iterator[StarFile]:
    """A file of spectra, whatever its kind.

    Raises:
        UnusableFileError: it cannot be read, or what is read in it is not there.
    """
    if is_row_file(path):
        if not path.is_dir() and not is_file(path):  # a folder of Zarr
            raise UnusableFileError("missing file")
        try:
            yield RowFile(path)
        except (UnusableFileError, MemoryError):
            raise
        except Exception as error:  # whatever a reader of a format raises of a damaged file
            if is_of_the_machine(error):
                raise InputError(
                    f"{path} cannot be read now: {error}; give the same command again, which goes on"
                ) from error
            raise UnusableFileError(
                str(error) if isinstance(error, InputError) else f"unreadable file ({error})"
            ) from error
        return
    with open_fits(path, memmap=True) as hdus:
        yield FitsFile(hdus)


class FitsFile:
    """A FITS file, of tables and images."""

    def __init__(self, hdus: Any) -> None:  # noqa: ANN401  (astropy's HDUs are untyped)
        self.hdus = hdus

    def _hdu(self, source: Source) -> Any:  # noqa: ANN401  (as above)
        number = source.hdu if source.hdu is not None else (0 if source.column is None else 1)
        try:
            place = self.hdus.index_of(number)
            return require_whole(self.hdus, place, source.column or "image")
        except KeyError:
            there = ", ".join(f"{place} {hdu.name}".strip() for place, hdu in enumerate(self.hdus))
            raise UnusableFileError(f"no HDU {number}; there are {there}") from None

    def array(self, source: Source, row: int | None) -> NDArray[Any]:
        hdu = self._hdu(source)
        if source.header is not None:
            return self.grid(source.header, source)
        if source.column is None:
            return _of_image(hdu, source, row)
        if hdu.is_image:
            raise UnusableFileError(f"HDU {hdu.name or source.hdu} is an image and has no column {source.column}")
        name = found(source.column, list(hdu.columns.names))
        if name is None:
            raise UnusableFileError(
                f"no column {source.column} in HDU {hdu.name or source.hdu or 1}; "
                f"there are {', '.join(hdu.columns.names)}"
            )
        values = hdu.data[name]
        return _native(values.ravel() if row is None or source.shared else np.asarray(values[row]).ravel())

    def grid(self, cards: Any, source: Source) -> Floats:  # noqa: ANN401  (names of header cards)
        hdu = self._hdu(source)
        start, step, reference = cards
        if lacking := [card for card in (start, step) if card not in hdu.header]:
            place = hdu.name or source.hdu or int(source.column is not None)
            raise UnusableFileError(f"no {' and '.join(lacking)} in the header of HDU {place}")
        first = float(hdu.header.get(reference, 1)) or 1.0  # GALAH writes 0 for 1
        return float(hdu.header[start]) + (np.arange(hdu.shape[-1]) + 1.0 - first) * float(hdu.header[step])


def _of_image(hdu: Any, source: Source, row: int | None) -> NDArray[Any]:  # noqa: ANN401  (as above)
    if not hdu.is_image:
        there = ", ".join(hdu.columns.names)
        raise UnusableFileError(f"HDU {hdu.name or source.hdu} is a table: name a column of {there}")
    if len(hdu.shape) == 1:
        return _native(hdu.data)
    chosen = row if source.index is None else source.index
    if len(hdu.shape) != 2 or chosen is None or not chosen < hdu.shape[0]:
        raise UnusableFileError(f"HDU {hdu.name or source.hdu} has shape {hdu.shape}: which of its rows? (index)")
    return _native(hdu.section[chosen])


def _native(values: NDArray[Any]) -> NDArray[Any]:
    return np.array(values, dtype=values.dtype.newbyteorder("="))  # a copy: the file is closed after


class RowFile:
    """A file of many rows of another kind: HDF5, Parquet, Zarr, NumPy, text."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def array(self, source: Source, row: int | None) -> NDArray[Any]:
        name = found(source.column or "", columns_of(self.path))
        if name is None:
            there = ", ".join(columns_of(self.path)) or "one array without a name"
            raise UnusableFileError(f"no array {source.column} in {self.path.name}; there are {there}")
        rows = columns_of(self.path)[name]
        if row is None or source.shared:
            return np.asarray(rows[: rows.shape[0]]).ravel()
        if row >= rows.shape[0]:
            raise UnusableFileError(f"{name or 'the array'} has {rows.shape[0]} rows, not {row + 1}")
        if (pixels := int(np.prod(rows.shape[1:]))) > MOST_PIXELS:
            raise UnusableFileError(f"{name or 'the array'} says {pixels} pixels a star, which no spectrum has")
        at_once = max(1, min(BLOCK, MOST_PIXELS // max(1, pixels)))
        first = row - row % at_once
        values = np.asarray(_block(self.path, name, first, at_once)[row - first])
        return values.ravel().astype(float) if values.dtype.kind == "O" else values.ravel()

    def grid(self, cards: Any, source: Source) -> Floats:  # noqa: ANN401  (names of header cards)
        del source
        raise UnusableFileError(f"{self.path.name} has no header with {', '.join(cards)}: say formula")


@lru_cache(maxsize=8)
def _block(path: Path, name: str, first: int, at_once: int) -> Any:  # noqa: ANN401  (rows of whatever kind)
    rows: Rows = columns_of(path)[name]
    return rows[first : min(first + at_once, rows.shape[0])]


def forget() -> None:
    """Let go of files that are held open: what is read next is what they hold then."""
    for held in (_block, _rows_by_key, columns_of):
        held.cache_clear()


def wavelengths(file: StarFile, source: Source, flux: Source, row: int | None) -> Floats:
    """(P,) as the file has them: an array, what the flux's header tells, or a formula."""
    if source.formula is not None:
        return formula(**source.formula)
    if source.header is not None:
        return file.grid(source.header, flux if source.hdu is None else source)
    return file.array(source, row).astype(np.float64)


@lru_cache(maxsize=8)
def _rows_by_key(path: Path, source: Source) -> dict[str, int]:
    with opened(path) as file:
        keys = as_text(file.array(source, None))
    rows = {key.strip(): row for row, key in enumerate(keys.tolist())}
    if len(rows) < len(keys):
        raise UnusableFileError(f"{len(keys) - len(rows)} keys in {source.column} come more than once")
    return rows


def row_of(path: Path, source: Source, key: str) -> int:
    """The row that a file keeps a star in.

    Raises:
        UnusableFileError: it has none, or a key comes twice.
    """
    row = _rows_by_key(path, source).get(key)
    if row is None:
        raise UnusableFileError(f"no row with {source.column} = {key}")
    return row
