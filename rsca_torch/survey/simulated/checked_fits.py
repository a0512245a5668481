"""FITS tables with CHECKSUM and DATASUM, as Astra leaves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from rsca_torch.survey.simulated.fits_bytes import BLOCK, card, header

__all__ = ["checked_table", "empty_table"]

#: Of ASCII, between digits and letters: no character of a checksum.
PUNCTUATION = {*range(0x3A, 0x41), *range(0x5B, 0x61)}


def checked_table(columns: Mapping[str, NDArray[Any]], name: str = "", cards: Sequence[str] = ()) -> bytes:
    """A binary table extension of columns of N rows each, with further cards and the sums that prove it whole.

    Example:
        >>> start = fits.PrimaryHDU().header.tostring().encode()
        >>> content = start + checked_table({"snr": np.array([80.0])}, "APOGEE/APO")
        >>> with fits.open(BytesIO(content), checksum=True) as opened:  # would warn
        ...     float(opened[1].data["snr"][0])
        80.0
    """
    told = np.dtype([(n, v.dtype, v.shape[1:]) for n, v in columns.items()])
    # True and false are letters in FITS.
    kept = [(n, "S1" if v.dtype == bool else v.dtype.newbyteorder(">"), v.shape[1:]) for n, v in columns.items()]
    rows = np.zeros(len(next(iter(columns.values()))), kept)
    for column, values in columns.items():
        rows[column] = np.where(values, b"T", b"F") if values.dtype == bool else values
    content = rows.tobytes()
    content += b"\0" * (-len(content) % BLOCK)
    start = [*_table_cards(told, len(rows)), *([card("EXTNAME", name)] if name else []), *cards]
    start.append(card("DATASUM", str(_sum(content)), "data unit checksum"))
    plain = header([*start, card("CHECKSUM", "0" * 16, "HDU checksum")])
    return header([*start, card("CHECKSUM", _encoded(0xFFFFFFFF - _sum(plain + content)), "HDU checksum")]) + content


@lru_cache(maxsize=8)
def empty_table(name: str) -> bytes:
    """A table without rows, as a star without spectra at an observatory has it: its arrays have no pixels."""
    arrays = [fits.Column(name=n, format="0E", dim="(0)") for n in ("flux", "ivar", "pixel_flags", "continuum")]
    table = fits.BinTableHDU.from_columns([fits.Column(name="sdss_id", format="K"), *arrays], nrows=0, name=name)
    table.add_checksum()
    written = BytesIO()
    table.writeto(written)
    return written.getvalue()[BLOCK:]  # without a primary HDU


@lru_cache(maxsize=256)
def _table_cards(dtype: np.dtype[Any], rows: int) -> list[str]:
    return [str(each.image) for each in fits.BinTableHDU(np.zeros(rows, dtype)).header.cards]


def _sum(content: bytes) -> int:
    """Of 32-bit words, with what is carried over added at the other end."""
    total = int(np.frombuffer(content, ">u4").sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _encoded(value: int) -> str:
    """A sum as 16 letters and digits, which add up to it (FITS standard 4.0, appendix J)."""
    letters = [""] * 16
    for place in range(4):
        byte = value >> (24 - 8 * place) & 255
        parts = [byte // 4 + byte % 4 + 48, *[byte // 4 + 48] * 3]
        while PUNCTUATION & {*parts}:
            for first in (0, 2):
                if PUNCTUATION & {*parts[first : first + 2]}:
                    parts[first], parts[first + 1] = parts[first] + 1, parts[first + 1] - 1
        for number, part in enumerate(parts):
            letters[4 * number + place] = chr(part)
    return "".join(letters[-1:] + letters[:-1])
