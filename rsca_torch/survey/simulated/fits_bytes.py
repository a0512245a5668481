"""FITS, byte for byte as the survey's programs leave it; astropy writes 3,000 files slower than they are simulated."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from rsca_torch.survey.simulated.spectra import LOG_STEP

__all__ = ["BLOCK", "card", "header", "image", "primary", "table"]

#: FITS files come in blocks of so many bytes.
BLOCK = 2880


def card(key: str, value: str | float, comment: str = "") -> str:
    """One header card of 80 characters; a NaN becomes the illegal bare word NAN that real files hold."""
    if isinstance(value, str):
        shown = f"'{value:<8}'".ljust(20)
    elif isinstance(value, bool):
        shown = f"{'T' if value else 'F':>20}"
    elif isinstance(value, int):
        shown = f"{value:>20d}"
    else:
        shown = f"{'NAN' if np.isnan(value) else format(value, '.10G'):>20}"
    return f"{key:<8}= {shown} / {comment}"[:80].ljust(80)


def header(cards: list[str]) -> bytes:
    """A header of whole blocks."""
    return _padded("".join([*cards, "END".ljust(80)]).encode("ascii"), b" ")


def primary(cards: list[str], bitpix: int = 16) -> bytes:
    """A primary HDU without data."""
    start = [card("SIMPLE", True), card("BITPIX", bitpix), card("NAXIS", 0), card("EXTEND", True)]
    return header([*start, *cards])


def image(values: NDArray[Any], log_start: float | None = None) -> bytes:
    """An image extension of one dimension without a name; ``log_start``: on the survey's wavelength grid."""
    bits = {"f": -8, "i": 8}[values.dtype.kind] * values.dtype.itemsize
    return _image_header(bits, len(values), log_start) + _padded(_big_endian(values), b"\0")


def table(columns: Mapping[str, NDArray[Any]]) -> bytes:
    """A binary table extension of columns of N rows each."""
    rows = np.zeros(len(next(iter(columns.values()))), [(n, v.dtype, v.shape[1:]) for n, v in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    return _table_header(rows.dtype, len(rows)) + _padded(_big_endian(rows), b"\0")


def _big_endian(values: NDArray[Any]) -> bytes:
    return values.astype(values.dtype.newbyteorder(">")).tobytes()


@lru_cache(maxsize=8)
def _image_header(bits: int, length: int, log_start: float | None) -> bytes:
    cards = [
        "XTENSION= 'IMAGE   '           /IMAGE extension".ljust(80),
        card("BITPIX", bits, "Number of bits per data pixel"),
        card("NAXIS", 1, "Number of data axes"),
        card("NAXIS1", length),
        card("PCOUNT", 0, "No Group Parameters"),
        card("GCOUNT", 1, "One Data Group"),
    ]
    if log_start is not None:
        cards += [card("CRVAL1", log_start), card("CDELT1", LOG_STEP), card("CRPIX1", 1)]
        cards += [card("CTYPE1", "LOG-LINEAR"), card("DC-FLAG", 1)]
    return header(cards)


@lru_cache(maxsize=256)
def _table_header(dtype: np.dtype[Any], rows: int) -> bytes:
    return str(fits.BinTableHDU(np.zeros(rows, dtype)).header.tostring()).encode("ascii")


def _padded(content: bytes, fill: bytes) -> bytes:
    return content + fill * (-len(content) % BLOCK)
