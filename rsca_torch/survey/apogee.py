"""What all APOGEE files have in common: grid, order of elements, star table; aspcapStar's spectrum (docs/data.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Row, Table
from numpy.typing import NDArray

from rsca_torch.survey.below_root import below_root
from rsca_torch.survey.file_kinds import require_aspcapstar
from rsca_torch.survey.fits_files import UnusableFileError, open_fits, require_whole
from rsca_torch.survey.grid import Grid
from rsca_torch.survey.reader import Measured, Reader
from rsca_torch.survey.visits import MEAN_FIBRE, mean_fibres

__all__ = [
    "CHIPS",
    "ELEMENTS",
    "GRID",
    "N_PIXELS",
    "ROLES",
    "STAR_COLUMNS",
    "ApogeeReader",
    "add_columns",
    "read_spectrum",
    "wavelength",
]

N_PIXELS = 8575

#: Pixels of the three detectors, half-open: the ASPCAP grid of 7,514 pixels (DR13 to DR17).
CHIPS = {"blue": (246, 3274), "green": (3585, 6080), "red": (6344, 8335)}

#: Order of the elements in X_H, where a file does not say it (allStarLite, aspcapStar): per release.
_DR13 = "C CI N O Na Mg Al Si P S K Ca Ti TiII V Cr Mn Fe Co Ni Cu Ge Ce Rb Y Nd".split()
_DR16 = "C CI N O Na Mg Al Si P S K Ca Ti TiII V Cr Mn Fe Co Ni Cu Ge Rb Ce Nd Yb".split()
ELEMENTS = {"dr13": _DR13, "dr14": _DR13, "dr16": _DR16, "dr17": [*_DR16, "C13"]}

#: What a star table says of a star, besides its abundances, and what stands where a survey file does not say it.
STAR_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(["APOGEE_ID", "TELESCOPE", "FIELD"], ""),
    "LOCATION_ID": -1,
    **dict.fromkeys(["SNR", "VHELIO_AVG", "AK_TARG", "TEFF", "LOGG", "M_H", "ALPHA_M"], np.nan),
    "VISITS": "",
}

#: Which columns play which roles.
ROLES = {"id": "APOGEE_ID", "group": "CLUSTER", "velocity": "VHELIO_AVG", "extinction": "AK_TARG", "snr": "SNR"}


def wavelength() -> NDArray[np.float64]:
    """(8575,) vacuum wavelength of each pixel in the star's rest frame, Angstrom."""
    return np.asarray(10 ** (4.179 + 6e-6 * np.arange(N_PIXELS)))


#: Its pixels and detectors.
GRID = Grid(wavelength(), CHIPS)


class ApogeeReader(Reader):
    """A reader whose spectra are aspcapStar files, named in the column FILE."""

    roles = ROLES
    id_length = 18  # longer ids are cut in allStar
    grid = GRID

    def read(self, star: Row) -> Measured:
        """An aspcapStar file."""
        return Measured(*read_spectrum(below_root(self.root, str(star["FILE"]))))


def add_columns(stars: Table) -> Table:
    """The star table with what is not in the files: no cluster yet, and the mean fibre where a column tells of it."""
    if {"VISITS", MEAN_FIBRE} & {*stars.colnames}:
        stars[MEAN_FIBRE] = mean_fibres(stars)
    stars[ROLES["group"]] = ""
    return stars


def read_spectrum(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Flux and error of one aspcapStar file as the pipeline wrote them.

    The primary header is not read: its cards may be illegal (``AKTARG = NAN``).

    Args:
        path: the file; float32 (DR13 to DR16) or float64 (DR17) images in HDU 1 and 2.

    Returns:
        flux and error, each (8575,) float32, native byte order, continuum-normalised; nothing masked.

    Raises:
        UnusableFileError: with a short reason.
    """
    with open_fits(path) as hdus:
        require_aspcapstar(hdus)
        return _image(hdus, 1, "flux"), _image(hdus, 2, "error")


def _image(hdus: Any, number: int, what: str) -> NDArray[np.float32]:  # noqa: ANN401  (astropy's HDUs are untyped)
    hdu = require_whole(hdus, number, what)
    if not hdu.is_image or hdu.shape != (N_PIXELS,):
        raise UnusableFileError(f"wrong grid ({what} of shape {hdu.shape if hdu.is_image else 'table'}, not (8575,))")
    start, step = hdu.header.get("CRVAL1", 4.179), hdu.header.get("CDELT1", 6e-6)
    if not np.allclose([start, step], [4.179, 6e-6], rtol=1e-9, atol=0):
        raise UnusableFileError(f"wrong grid (log wavelength from {start} in steps of {step}, not 4.179 and 6e-06)")
    with np.errstate(over="ignore"):  # DR17 writes errors up to 1e10 and may write more: inf is as untrusted
        return np.ascontiguousarray(hdu.data, dtype=np.float32)
