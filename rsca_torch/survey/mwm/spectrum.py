"""One spectrum of mwmStar or mwmVisit: the right row, divided by a continuum, with what its flags say of the pixels."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsca_torch.survey.apogee import GRID, N_PIXELS
from rsca_torch.survey.fits_files import UnusableFileError, native, open_fits, require_whole
from rsca_torch.survey.mwm.catalogue import observatories
from rsca_torch.survey.reader import Measured

__all__ = ["BAD_BITS", "HDUS", "OTHER_COADD", "measured", "read_pixels", "table_rows"]

#: Where each observatory's APOGEE spectra are; all four HDUs are always there, empty ones with no row.
HDUS = {"APO": 3, "LCO": 4}

#: pixel_flags that ASPCAP takes for bad (0 to 7, 14), and 12, a sky line: neither is in the errors. Others, persistence
#: (9 to 11), tellurics (13) and Littrow's ghost (8), are no faults.
BAD_BITS = (*range(8), 12, 14)

OTHER_COADD = "label of another co-add"

Row = dict[str, Any]

#: What a row says of itself that is looked at.
TELLING = ("sdss_id", "release", "telescope", "snr", "nmf_flags")

#: A column's format in FITS: how many, of what kind; and what NumPy calls it. P and Q, arrays elsewhere, are pointers.
FORM = re.compile(r"(\d*)([LXBIJKAEDCMPQ]).*")
KINDS = {"L": "S1", "X": "u1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"} | {
    "C": ">c8", "M": ">c16", "P": ">i4, >i4", "Q": ">i8, >i8"
}  # fmt: skip


def read_pixels(path: Path, telescope: str, sdss_id: int, choose: Callable[[list[Row]], int], *arrays: str) -> Row:
    """Some columns of one row of a file of mwmStar, mwmVisit or astraStarASPCAP.

    Args:
        path: the file.
        telescope: says in which HDU the row is.
        sdss_id: whose the file must be.
        choose: the number of the row, from what all rows say of themselves.
        *arrays: columns of (8575,) pixels.

    Returns:
        What the row says of itself, and the arrays, native; the names in lower case.

    Raises:
        UnusableFileError: with a short reason.
    """
    site = str(observatories(np.array([telescope]))[0])
    with open_fits(path) as hdus:
        number = next((n for n, hdu in enumerate(hdus) if hdu.name.upper() == f"APOGEE/{site}"), HDUS.get(site, 0))
        data = table_rows(hdus, number, f"APOGEE/{site}")
        if not len(data):
            raise UnusableFileError(f"no spectrum of {telescope} (HDU {number}, APOGEE/{site}, is empty)")
        _require_grid(hdus[number].header)
        names = {name.lower(): name for name in data.dtype.names or ()}
        if missing := [name for name in arrays if name not in names]:
            raise UnusableFileError(f"no column {', '.join(missing)} in HDU {number} (APOGEE/{site})")
        told = {low: native(data[names[low]]) for low in TELLING if low in names}
        rows = [{name: values[row] for name, values in told.items()} for row in range(len(data))]
        whose = told.get("sdss_id", np.array([hdus[0].header.get("SDSS_ID", sdss_id)]))[0]
        if int(whose) != sdss_id:
            raise UnusableFileError(f"file of another star (sdss_id {int(whose)}, not {sdss_id})")
        row = choose(rows)
        pixels = {name: np.asarray(data[names[name]][row], dtype=np.float64) for name in arrays}
        if "wavelength" in names:
            _require_wavelength(np.asarray(data[names["wavelength"]][row], dtype=np.float64))
        if wrong := [name for name, values in pixels.items() if values.shape != (N_PIXELS,)]:
            raise UnusableFileError(f"wrong grid ({wrong[0]} of shape {pixels[wrong[0]].shape}, not (8575,))")
        return rows[row] | pixels


def table_rows(hdus: Any, number: int, what: str) -> NDArray[Any]:  # noqa: ANN401  (astropy's HDUs are untyped)
    """A table's rows as they lie in the file, columns under their own names.

    astropy takes three times as long to make 45 columns of one row.

    Raises:
        UnusableFileError: there is no such table, or it is not whole.
    """
    hdu = require_whole(hdus, number, what)
    if hdu.is_image:
        raise UnusableFileError(f"HDU {number} is no table ({what})")
    header, fields = hdu.header, list[tuple[Any, ...]]()
    if not header["NAXIS2"]:
        return np.zeros(0)
    for number in range(1, header["TFIELDS"] + 1):
        count, kind = FORM.fullmatch(str(header[f"TFORM{number}"]).strip()).groups()  # type: ignore[union-attr]
        size = int(count or 1)
        name = str(header.get(f"TTYPE{number}", f"column {number}")).strip()
        fields.append(
            (name, f"S{size}") if kind == "A" else (name, KINDS[kind], (size,)) if size != 1 else (name, KINDS[kind])
        )
    dtype = np.dtype(fields)
    if dtype.itemsize != header["NAXIS1"]:
        raise UnusableFileError(f"rows of {header['NAXIS1']} bytes whose columns take {dtype.itemsize}")
    return np.fromfile(hdus.filename(), dtype, header["NAXIS2"], offset=hdu.fileinfo()["datLoc"])


def _require_grid(header: Any) -> None:  # noqa: ANN401  (astropy's headers are untyped)
    start, step = (header.get(key, usual) for key, usual in (("CRVAL", 4.179), ("CDELT", 6e-6)))
    if isinstance(start, float) and isinstance(step, float) and not np.allclose([start, step], [4.179, 6e-6], 1e-9, 0):
        raise UnusableFileError(f"wrong grid (log wavelength from {start} in steps of {step}, not 4.179 and 6e-06)")


def _require_wavelength(given: NDArray[np.float64]) -> None:
    """The file's own is float32, 0.02 km/s off: it is compared, and computed instead of used."""
    if given.shape != (N_PIXELS,) or np.nanmax(np.abs(given - GRID.wavelength), initial=0) > 0.01:
        raise UnusableFileError("wrong grid (its column wavelength is not 10**(4.179 + 6e-6 i) Angstrom)")


def measured(pixels: Row, continuum: NDArray[np.float64], bad_bits: int, floor: float) -> Measured:
    """Flux and error in shares of the continuum, and which pixels the file says are usable.

    Args:
        pixels: flux, ivar and pixel_flags, (8575,) each; the flags are floats in the file, all below 2**24: exact.
        continuum: (8575,); 0, negative or NaN where there is none.
        bad_bits: pixels with one of these bits set are not usable.
        floor: smallest error [share of the continuum].
    """
    flux, ivar, flags = (pixels[name] for name in ("flux", "ivar", "pixel_flags"))
    told = np.isfinite(flags)
    bits = np.where(told, flags, 0).astype(np.int64)
    usable = told & (bits & bad_bits == 0) & np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0)
    usable &= np.isfinite(continuum) & (continuum > 0)
    ratio, error = np.zeros(N_PIXELS), np.full(N_PIXELS, np.inf)
    with np.errstate(over="ignore"):
        ratio[usable] = flux[usable] / continuum[usable]
        error[usable] = np.maximum(1 / (np.sqrt(ivar[usable]) * continuum[usable]), floor)
        return Measured(ratio.astype(np.float32), error.astype(np.float32), usable)
