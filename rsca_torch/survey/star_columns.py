"""The star table of a store as the plain columns of a FITS table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from rsca_torch.errors import InputError
from rsca_torch.spectra.stars import Stars

__all__ = ["require_storable", "write_stars"]


def require_storable(stars: Stars) -> None:
    """Check that the star table can be written, before the first spectrum is read.

    Raises:
        InputError: a column's name is not ASCII, or it holds more than one number or text a star.
    """
    for name in stars.colnames:
        if not (name.isascii() and name.isprintable()):
            raise InputError(f"the star table has a column {name!r}, but FITS has names in ASCII alone: rename it")
        if stars[name].ndim != 1:
            raise InputError(
                f"the star table's column {name} has shape {stars[name].shape}, not ({len(stars)},): one number or "
                "text a star expected; split it, or leave it out"
            )


def write_stars(path: Path, stars: Stars) -> None:
    """Plain columns, without the units and masks that a round trip of a Table adds; text that is not ASCII as UTF-8."""
    fits.BinTableHDU.from_columns([_column(name, stars[name]) for name in stars.colnames]).writeto(path)


def _column(name: str, column: Any) -> fits.Column:  # noqa: ANN401  (astropy's columns are untyped)
    missing, values = np.ma.getmaskarray(column), np.asarray(np.ma.getdata(column))
    if values.dtype.kind == "f" or (values.dtype.kind in "iub" and missing.any()):
        return fits.Column(name, "D", array=np.where(missing, np.nan, values.astype(float)))
    if values.dtype.kind == "b":
        return fits.Column(name, "L", array=values)
    if values.dtype.kind in "iu" and (values <= np.iinfo(np.int64).max).all():
        return fits.Column(name, "K", array=values.astype(np.int64))
    texts = np.array(
        ["" if gone or value is None else _text(value) for value, gone in zip(values, missing, strict=True)], dtype=str
    )
    encoded = np.char.encode(texts, "utf-8", "surrogateescape")
    return fits.Column(name, f"{max(1, encoded.dtype.itemsize)}A", array=encoded)


def _text(value: Any) -> str:  # noqa: ANN401  (whatever a table holds)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
