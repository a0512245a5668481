"""FITS as the survey leaves it: opened or refused with a reason, padding off, sentinels to NaN (docs/data.md)."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import sys
import tempfile
import traceback
import warnings
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.files.fits_headers import require_headers
from rsca_torch.survey.unusable import OF_THE_FILE, UnusableFileError, is_file

__all__ = [
    "COMPRESSED",
    "UnusableFileError",
    "native",
    "open_fits",
    "require_table",
    "require_whole",
    "utf8",
    "whole_file",
]

#: Below: -9999.99, -9999, -999.99. Above: 999999 (no radial velocity). Nothing the survey measures comes near either.
SENTINELS = (-900.0, 900_000.0)

#: What may stand behind the name of a file that is kept compressed: gzip's, and fpack's, which astropy reads itself.
COMPRESSED = (".gz", ".fz")
#: How compressed files begin, whatever their names.
OPENERS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}


#: What reading a damaged file raises, also where our own lines ask for what is not there.
OF_DAMAGE = (OSError, TypeError, ValueError, KeyError, IndexError, AttributeError, fits.VerifyError)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file as it was before it was compressed by gzip, bzip2 or xz: itself, or a copy.

    The copy is kept until another file is unpacked, since many stars may be in one, and is gone when the process ends,
    however it ends: on Linux it has no name.

    Args:
        path: the file; where there is none, the same name with ``.gz`` or ``.fz`` behind it counts.

    Raises:
        UnusableFileError: what is compressed is damaged or was cut off.
        OSError: it cannot be read, or the copy cannot be written.
    """
    if not is_file(path):
        kept = (path.with_name(path.name + suffix) for suffix in COMPRESSED)
        path = next((other for other in kept if is_file(other)), path)
    start = _start(path)
    opener = next((OPENERS[sign] for sign in OPENERS if start.startswith(sign)), None)
    if opener is None:
        yield path
        return
    told = path.stat()
    copy = _unpacked(path.absolute(), told.st_size, told.st_mtime_ns, opener)
    yield copy.path


class _Unpacked:
    """A copy of a file, not compressed; it goes when nobody holds this any more."""

    def __init__(self, path: Path, opener: Callable[[Path], Any]) -> None:
        nameless = sys.platform == "linux"
        file = (tempfile.TemporaryFile if nameless else tempfile.NamedTemporaryFile)(prefix="rsca_torch-")
        weakref.finalize(self, file.close)
        try:
            with opener(path) as packed:
                shutil.copyfileobj(packed, file, 2**20)
        except EOFError:
            raise UnusableFileError("truncated file") from None
        except (gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
            raise UnusableFileError(f"unreadable file ({error})") from error
        file.flush()
        self.path = Path(f"/proc/self/fd/{file.fileno()}") if nameless else Path(file.name)


@lru_cache(maxsize=1)
def _unpacked(path: Path, size: int, changed: int, opener: Callable[[Path], Any]) -> _Unpacked:
    """The last one; `size` and `changed` tell a file from what was there before under its name."""
    del size, changed
    return _Unpacked(path, opener)


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(512)
    except FileNotFoundError:
        return b""


@contextmanager
def open_fits(path: Path, memmap: bool = False) -> Iterator[fits.HDUList]:
    """Open a FITS file; strings stay bytes, so that a table's rows are decoded only where they are read.

    Args:
        path: the file, which may be compressed, see `whole_file`.
        memmap: map the file instead of reading it whole (for the catalogue of several GB).

    Raises:
        UnusableFileError: missing file, web page saved as FITS, not a FITS file, or whatever goes wrong inside the
            ``with`` block in reading.
        InputError: the disk, the file server or this process fails (EIO, ESTALE, EMFILE): the file may be a good one.
    """
    try:
        with whole_file(path) as whole, warnings.catch_warnings():
            _check_signature(whole)
            try:
                require_headers(whole)
            except ValueError as error:
                raise UnusableFileError(str(error)) from error
            # What astropy warns of is either checked here (truncation) or a card nobody reads (AKTARG = NAN).
            warnings.simplefilter("ignore", AstropyWarning)
            with fits.open(whole, memmap=memmap, character_as_bytes=True) as hdus:
                yield hdus
    except (InputError, UnusableFileError, MemoryError):
        raise
    except Exception as error:  # whatever the FITS library raises of a damaged file
        if not isinstance(error, OF_DAMAGE) and not _is_of_a_library(error):
            raise
        told = error.strerror if isinstance(error, OSError) and error.strerror else error
        if isinstance(error, OSError) and error.errno is not None and error.errno not in OF_THE_FILE:
            raise InputError(
                f"{path} cannot be read now: {told}; that is no fault of the file, which may be a good one: see to the "
                "disk, the file server or the limits of this process, then give the same command, which goes on"
            ) from error
        raise UnusableFileError(f"unreadable file ({told})") from error


def _is_of_a_library(error: Exception) -> bool:
    """Whether it was raised outside of this package, and so is no bug of ours."""
    return Path(__file__).parents[1] not in Path(traceback.extract_tb(error.__traceback__)[-1].filename).parents


def _check_signature(path: Path) -> None:
    if not is_file(path):
        raise UnusableFileError("missing file")
    start = _start(path)
    # A downloader that ignores the status code saves the archive's "404 Not Found" page under the spectrum's name.
    if start.lstrip().startswith(b"<"):
        raise UnusableFileError("web page saved as FITS")
    if not start.startswith(b"SIMPLE  ="):
        raise UnusableFileError("not a FITS file" if start else "empty file")


def require_whole(hdus: fits.HDUList, number: int, what: str) -> Any:  # noqa: ANN401  (astropy's HDUs are untyped)
    """The HDU of that number, all of whose data are in the file.

    Raises:
        UnusableFileError: there is no such HDU, or the file ends before its data do.
    """
    size = Path(hdus.filename()).stat().st_size
    try:
        hdu = hdus[number]
    except IndexError:
        # A file cut inside a header looks like one with fewer HDUs; a whole one is made of 2,880-byte blocks.
        raise UnusableFileError("truncated file" if size % 2880 else f"no HDU {number} ({what})") from None
    if hdu.header.get("ZTABLE"):
        raise UnusableFileError(f"HDU {number} is a table that fpack compressed: unpack the file (funpack)")
    place = hdu.fileinfo()
    if place["datLoc"] + _stored_size(hdus, number, hdu) > size:
        raise UnusableFileError("truncated file")
    return hdu


def _stored_size(hdus: fits.HDUList, number: int, hdu: Any) -> int:  # noqa: ANN401  (astropy's HDUs are untyped)
    """Bytes that the HDU's data take in the file: of an image of fpack's, those of the table that it is kept as."""
    if isinstance(hdu, fits.CompImageHDU):
        with fits.open(hdus.filename(), disable_image_compression=True) as raw:
            hdu = raw[number]
    return int(hdu.size)


def require_table(hdus: fits.HDUList, number: int, what: str, column: str = "") -> Any:  # noqa: ANN401  (as above)
    """The table HDU of that number, whole and with that column.

    Raises:
        UnusableFileError: it is not there, not whole, no table, or has no such column.
    """
    hdu = require_whole(hdus, number, what)
    if hdu.is_image:
        raise UnusableFileError(f"HDU {number} is no table ({what})")
    if column and column not in hdu.columns.names:
        raise UnusableFileError(f"no {column} in HDU {number} ({what})")
    return hdu


def native(column: Any) -> NDArray[Any]:  # noqa: ANN401  (whatever a FITS column holds)
    """A FITS column as NumPy and torch want it: native byte order, text without padding, missing values NaN.

    Args:
        column: any array; big-endian, space or NUL padded, with the survey's sentinels.

    Returns:
        The same shape: text as str stripped of blanks and NUL, floating point as float64 with NaN for not finite,
        below -900 or above 900,000, integers unchanged (flags keep their width: bit 31 of an int32 is its sign).
    """
    values = np.asarray(column)
    if values.dtype.kind == "S":
        # The blank last: NumPy drops a trailing NUL, from the characters to strip too.
        return np.char.strip(_decoded(values), "\0 ")
    if values.dtype.kind == "f":
        # The cast comes first: float32(-9999.99) is not -9999.99 any more, and NaN below is exact.
        values = values.astype(np.float64)
        missing = ~np.isfinite(values) | (values < SENTINELS[0]) | (values > SENTINELS[1])
        return np.where(missing, np.nan, values)
    return values.astype(values.dtype.newbyteorder("="))


def utf8(table: Table) -> Table:
    """The same table with its text as UTF-8, as which FITS can hold what is not ASCII; `native` reads it back."""
    texts = {name for name in table.colnames if table[name].dtype.kind == "U"}
    encoded = {name: np.char.encode(table[name], "utf-8", "surrogateescape") for name in texts}
    return Table({name: encoded.get(name, table[name]) for name in table.colnames}, meta=table.meta, copy=False)


def _decoded(values: NDArray[np.bytes_]) -> NDArray[np.str_]:
    """Text that is not ASCII is UTF-8 as this program writes it, or Latin-1, of which every byte is a character."""
    try:
        return np.char.decode(values, "utf-8")
    except UnicodeDecodeError:
        return np.char.decode(values, "latin-1")
