"""Headers of FITS files, looked at before the FITS library takes their numbers for true.

A damaged end of a header shifts all data behind it, which the library does not notice, and it makes room for as many
axes and columns as a header says.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from contextlib import nullcontext
from io import BufferedIOBase
from pathlib import Path

__all__ = ["GZIP", "require_headers"]

CARD, BLOCK = 80, 2880
FARTHEST = 2**60  # bytes: no file has more
GZIP = b"\x1f\x8b"
STARTS = (b"SIMPLE  ", b"XTENSION")
TEXT = bytes([*range(32, 127), *range(128, 256)])  # the standard has ASCII alone; some comments are Latin-1
BITPIX = (8, 16, 32, 64, -32, -64)
MOST = 999  # axes, or columns, by the standard
COUNTS = (b"NAXIS", b"PCOUNT", b"GCOUNT", b"TFIELDS")


def require_headers(path: Path, *, whole: bool = False) -> None:
    """Walk along the headers of a FITS file, which may be compressed by gzip, as far as its data are there.

    Args:
        path: the file.
        whole: all data that the headers announce have to be there, as a reader that makes room for them first needs.

    Raises:
        ValueError: a header has no proper end, holds what is no text, or says numbers that none can have; something
            else stands where a header should begin; or the file ends before the data do.
        OSError: it cannot be read.
    """
    with path.open("rb") as given:
        packed = given.read(2) == GZIP
        given.seek(0)
        with gzip.open(given) if packed else nullcontext(given) as file:
            place = 0
            while place < FARTHEST:
                file.seek(place)
                if file.read(8) not in STARTS:
                    _require_nothing(file, place)
                    return
                file.seek(place)
                numbers, length = _header(file.read)
                announced = _data(numbers)
                if whole and announced:
                    _require_byte(file, place + length + announced - 1)
                place += length + -(-announced // BLOCK) * BLOCK


def _require_nothing(file: BufferedIOBase, place: int) -> None:
    """Behind the last HDU there may be padding: of anything else the FITS library would make headers, as it can."""
    file.seek(place)
    while block := file.read(2**20):
        if block.strip(b"\0 "):
            raise ValueError(f"what begins at byte {place} is no header of FITS")


def _require_byte(file: BufferedIOBase, place: int) -> None:
    if place < FARTHEST:
        file.seek(place)
        if file.read(1):
            return
    raise ValueError(f"truncated file: a header announces data up to byte {place + 1}")


def _header(read: Callable[[int], bytes]) -> tuple[dict[bytes, int], int]:
    """The numbers of a header that say how long its data are, and its own length."""
    numbers, length = dict[bytes, int](), 0
    while True:
        block = read(BLOCK)
        length += len(block)
        for first in range(0, len(block), CARD):
            card = block[first : first + CARD]
            name = card[:8].rstrip()
            if name == b"END" and not card[8:].strip(b" "):
                return numbers, length
            if card.translate(None, TEXT) or ((length > BLOCK or first) and card[:8] in STARTS):
                raise ValueError("a header without a proper end, or with bytes that are no text")
            if (name.startswith(COUNTS) or name == b"BITPIX") and card[8:10] == b"= ":
                numbers.setdefault(name, _whole(name, card))
        if len(block) < BLOCK:
            raise ValueError("truncated file")


def _whole(name: bytes, card: bytes) -> int:
    said = card[10:].partition(b"/")[0].strip()
    try:
        number = int(said)
    except ValueError:
        number = -1
    most = MOST if name in (b"NAXIS", b"TFIELDS") else 2**62
    if (name == b"BITPIX" and number not in BITPIX) or (name != b"BITPIX" and not 0 <= number <= most):
        raise ValueError(f"{name.decode('ascii', 'replace')} is {said.decode('latin-1')!r:.40} in a header")
    return number


def _data(numbers: dict[bytes, int]) -> int:
    """Bytes of the data that such a header tells."""
    axes = numbers.get(b"NAXIS", 0)
    pixels = math.prod(numbers.get(b"NAXIS%d" % axis, 0) for axis in range(1, axes + 1)) if axes else 0
    return abs(numbers.get(b"BITPIX", 8)) // 8 * numbers.get(b"GCOUNT", 1) * (numbers.get(b"PCOUNT", 0) + pixels)
