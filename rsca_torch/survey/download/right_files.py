"""Whether a file is what the archive has: by its sha1, FITS's or gzip's checksums, or at least by its structure."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from rsca_torch.survey.fits_files import UnusableFileError, open_fits

__all__ = ["CHECKSUMS", "SHA1", "STRUCTURE", "require_right"]

#: How a file was found to be right.
SHA1, CHECKSUMS, STRUCTURE = "sha1", "its own checksums", "its structure alone"
BLOCK = 2880  # bytes: FITS files are made of these
ALL_ONES = 2**32 - 1
AT_ONCE = 2**12 * BLOCK


def require_right(path: Path, sha1: str = "") -> str:
    """How the file was found to be right.

    Args:
        path: the file, or its .part.
        sha1: that it should have, hexadecimal; '': none is known. Then the checksums in its FITS headers count, or
            gzip's, and where there are none that it is FITS, made of whole HDUs to its last byte.

    Returns:
        `SHA1`, `CHECKSUMS` or `STRUCTURE`.

    Raises:
        UnusableFileError: it is not right, and why.
        OSError: it cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = Path(folder, "aspcapStar-r12-2M00000000+0000000.fits")
        ...     _ = page.write_text("<html>404 Not Found</html>")
        ...     require_right(page)
        Traceback (most recent call last):
        ...
        rsca_torch.survey.unusable.UnusableFileError: web page saved as FITS
    """
    with path.open("rb") as file:
        start = file.read(512)
    if sha1 and _sha1(path) == sha1:
        return SHA1
    if start.lstrip().startswith(b"<"):
        raise UnusableFileError("web page saved as FITS")
    if start.startswith(b"\x1f\x8b"):
        _require_gzip(path)
        how = CHECKSUMS
    else:
        how = _require_fits(path)
    if sha1:
        raise UnusableFileError("sha1 is not the archive's")
    return how


def _sha1(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()


def _require_gzip(path: Path) -> None:
    """Read to its end, where gzip has a checksum of what was compressed."""
    size = 0
    try:
        with gzip.open(path) as file:
            start = file.read(BLOCK)
            size = len(start)
            while content := file.read(AT_ONCE):
                size += len(content)
    except EOFError:
        raise UnusableFileError("truncated file") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UnusableFileError(f"unreadable file ({error})") from error
    if not start.startswith(b"SIMPLE  =") or size % BLOCK:
        raise UnusableFileError("not a FITS file" if not start.startswith(b"SIMPLE  =") else "truncated file")


def _require_fits(path: Path) -> str:
    """Follow the HDUs to the end of the file; those that have checksums must have the right ones."""
    size, end, how = path.stat().st_size, 0, STRUCTURE
    with open_fits(path, memmap=True) as hdus, path.open("rb") as file:
        if size % BLOCK:
            raise UnusableFileError("truncated file")
        for hdu in hdus:
            place = hdu.fileinfo()
            end = place["datLoc"] + place["datSpan"]
            if end > size:
                raise UnusableFileError("truncated file")
            file.seek(place["hdrLoc"])
            if place["hdrLoc"] and file.read(8) != b"XTENSION":  # astropy takes a whole file behind the first for HDUs
                raise UnusableFileError(f"{size - place['hdrLoc']} bytes behind its last HDU")
            told = [str(hdu.header[name]).strip("0 ") for name in ("CHECKSUM", "DATASUM") if name in hdu.header]
            if len(told) == 2 and told[0]:
                how = CHECKSUMS
                if _sum(file, place["hdrLoc"], end) not in (0, ALL_ONES):
                    raise UnusableFileError(f"CHECKSUM of HDU {hdus.index(hdu)} is not that of its bytes")
        if end != size:
            raise UnusableFileError(f"{size - end} bytes behind its last HDU")
    return how


def _sum(file: BinaryIO, start: int, end: int) -> int:
    """FITS's sum: of 32-bit words, what overflows added at the other end; all ones where a CHECKSUM card is right."""
    file.seek(start)
    total = 0
    while (left := end - file.tell()) > 0:
        content = file.read(min(left, AT_ONCE))
        if not content:
            break
        total += int(np.frombuffer(content, ">u4").sum(dtype=np.uint64))
    while total > ALL_ONES:
        total = (total & ALL_ONES) + (total >> 32)
    return total
