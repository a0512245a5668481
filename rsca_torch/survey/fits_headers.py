"""Headers of FITS files: a damaged end shifts all data behind it, and the FITS library does not notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rsca_torch.survey.unusable import UnusableFileError

__all__ = ["require_header"]

#: Of FITS headers: bytes of a card, how the first begins, and what may be in one.
CARD = 80
STARTS = {b"SIMPLE  ", b"XTENSION"}
PRINTABLE = bytes(range(32, 127))


def require_header(file: str, hdu: Any) -> None:  # noqa: ANN401  (astropy's HDUs are untyped)
    """Refuse an HDU whose header goes on into its data, and into the next header: its END is damaged.

    astropy takes the data that come after that next header for its own.

    Raises:
        UnusableFileError: a card of the header is none, or begins another header.
    """
    place = hdu.fileinfo()
    with Path(file).open("rb") as content:
        content.seek(place["hdrLoc"])
        header = content.read(place["datLoc"] - place["hdrLoc"])
    cards = header.rstrip(b" ")
    if len(cards) % CARD == 3 and cards.endswith(b"END"):
        cards = cards[:-3]
        further = {cards[first : first + 8] for first in range(CARD, len(cards), CARD)}
        if not further & STARTS and not cards.translate(None, PRINTABLE):
            return
    raise UnusableFileError("a header without a proper end, or with bytes that are no text")
