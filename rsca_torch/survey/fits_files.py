"""FITS as the survey leaves it: opened or refused with a reason, padding off, sentinels to NaN (docs/data.md)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from rsca_torch.errors import InputError

__all__ = ["UnusableFileError", "native", "open_fits", "require_table", "require_whole"]

#: Below: -9999.99, -9999, -999.99. Above: 999999 (no radial velocity). Nothing the survey measures comes near either.
SENTINELS = (-900.0, 900_000.0)


class UnusableFileError(Exception):
    """A file cannot be used; the message is a short reason, fit for a table of problems."""


@contextmanager
def open_fits(path: Path, memmap: bool = False) -> Iterator[fits.HDUList]:
    """Open a FITS file; strings stay bytes, so that a table's rows are decoded only where they are read.

    Args:
        path: the file.
        memmap: map the file instead of reading it whole (for the catalogue of several GB).

    Raises:
        UnusableFileError: missing file, web page saved as FITS, not a FITS file, or whatever goes wrong inside the
            ``with`` block in reading.
    """
    _check_signature(path)
    try:
        with warnings.catch_warnings():
            # What astropy warns of is either checked here (truncation) or a card nobody reads (AKTARG = NAN).
            warnings.simplefilter("ignore", AstropyWarning)
            with fits.open(path, memmap=memmap, character_as_bytes=True) as hdus:
                yield hdus
    except InputError:
        raise
    except (OSError, TypeError, ValueError, KeyError, IndexError, fits.VerifyError) as error:
        raise UnusableFileError(f"unreadable file ({error})") from error


def _check_signature(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except FileNotFoundError:
        raise UnusableFileError("missing file") from None
    except OSError as error:
        raise UnusableFileError(f"unreadable file ({error.strerror})") from error
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
    place = hdu.fileinfo()
    if place["datLoc"] + hdu.size > size:
        raise UnusableFileError("truncated file")
    return hdu


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
        return np.char.strip(np.char.decode(values, "latin-1"), "\0 ")
    if values.dtype.kind == "f":
        # The cast comes first: float32(-9999.99) is not -9999.99 any more, and NaN below is exact.
        values = values.astype(np.float64)
        missing = ~np.isfinite(values) | (values < SENTINELS[0]) | (values > SENTINELS[1])
        return np.where(missing, np.nan, values)
    return values.astype(values.dtype.newbyteorder("="))
