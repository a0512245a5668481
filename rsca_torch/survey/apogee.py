"""APOGEE's files: the wavelength grid, and readers of allStar and aspcapStar (docs/data.md, sections 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.survey.fits_files import UnusableFileError, native, open_fits, require_table, require_whole
from rsca_torch.survey.grid import Grid

__all__ = [
    "CHIPS",
    "ELEMENTS",
    "N_PIXELS",
    "STAR_COLUMNS",
    "abundance_column",
    "find_catalogue",
    "grid",
    "read_catalogue",
    "read_spectrum",
    "spectrum_files",
    "wavelength",
]

N_PIXELS = 8575

#: Pixels of the three detectors, half-open: the ASPCAP grid of 7,514 pixels (DR13 to DR17).
CHIPS = {"blue": (246, 3274), "green": (3585, 6080), "red": (6344, 8335)}

#: Order of the elements in X_H, where a file does not say it (allStarLite, aspcapStar): per release.
ELEMENTS = {
    "dr13": "C CI N O Na Mg Al Si P S K Ca Ti TiII V Cr Mn Fe Co Ni Cu Ge Ce Rb Y Nd".split(),
    "dr14": "C CI N O Na Mg Al Si P S K Ca Ti TiII V Cr Mn Fe Co Ni Cu Ge Ce Rb Y Nd".split(),
    "dr16": "C CI N O Na Mg Al Si P S K Ca Ti TiII V Cr Mn Fe Co Ni Cu Ge Rb Ce Nd Yb".split(),
    "dr17": "C CI N O Na Mg Al Si P S K Ca Ti TiII V Cr Mn Fe Co Ni Cu Ge Rb Ce Nd Yb C13".split(),
}

#: What a star table says of a star, besides its abundances, and what stands where a survey file does not say it.
STAR_COLUMNS: dict[str, Any] = {
    "APOGEE_ID": "",
    "TELESCOPE": "",
    "FIELD": "",
    "LOCATION_ID": -1,
    "SNR": np.nan,
    "VHELIO_AVG": np.nan,
    "AK_TARG": np.nan,
    "TEFF": np.nan,
    "LOGG": np.nan,
    "M_H": np.nan,
    "ALPHA_M": np.nan,
    "VISITS": "",
}

_EVERY_RELEASE = {*STAR_COLUMNS, "X_H", "ASPCAPFLAG", "EXTRATARG", "STARFLAG", "NVISITS", "VSCATTER", "VERR"}
_SOME_RELEASES = {
    "VISITS": "the full allStar of dr13, dr14 and dr16 has it",
    "LOCATION_ID": "the full allStar of every release has it, allStarLite has not",
    "ASPCAP_CLASS": "dr13, dr14 and dr16 have it",
    **dict.fromkeys(["ASPCAP_GRID", "FRAC_BADPIX", "FRAC_LOWSNR", "MEMBER", "MEMBERFLAG"], "dr17 has it"),
}


def wavelength() -> NDArray[np.float64]:
    """(8575,) vacuum wavelength of each pixel in the star's rest frame, Angstrom."""
    return np.asarray(10 ** (4.179 + 6e-6 * np.arange(N_PIXELS)))


def grid() -> Grid:
    """APOGEE's pixels and its three detectors."""
    return Grid(wavelength(), CHIPS)


def abundance_column(element: str) -> str:
    """The star table's column of [X/H] of an element: ``TiII`` is in ``TIII_H``."""
    return f"{element.upper()}_H"


def find_catalogue(root: Path, candidates: Sequence[str]) -> Path:
    """The first of the catalogues, paths below root, that exists.

    Raises:
        InputError: root is not a readable folder, or holds none of them.
    """
    try:
        next(root.iterdir(), None)
    except OSError as error:
        raise InputError(
            f"survey.root={root} must be a folder that can be read, got: {error.strerror}; "
            "give the folder that holds the archive's tree"
        ) from error
    for candidate in candidates:
        if (root / candidate).exists():
            return root / candidate
    raise InputError(
        f"no allStar catalogue below survey.root={root}; looked for {', '.join(candidates)}; "
        "fetch one of them, or set survey.catalogue to where it is"
    )


def read_catalogue(
    path: Path,
    release: str,
    columns: Iterable[str],
    optional: Iterable[str] = (),
    rows: NDArray[np.intp] | slice = slice(None),
) -> Table:
    """Read some columns of allStar or allStarLite, never the whole table.

    Args:
        path: the catalogue; mapped, not loaded.
        release: dr13, dr14, dr16 or dr17; gives the order of the elements where the file has no HDU 3.
        columns: what is wanted; X_H becomes one column an element, see `abundance_column`.
        optional: wanted where the catalogue has it.
        rows: which rows, ascending.

    Returns:
        One row a catalogue row, values as `native` gives them.

    Raises:
        InputError: the file cannot be read as a catalogue, or lacks a column.
    """
    try:
        with open_fits(path, memmap=True) as hdus:
            data = require_table(hdus, 1, "table of stars").data
            elements = _elements(hdus, release)
            wanted = [*columns, *(name for name in optional if name in data.names)]
            stars = Table()
            for name in wanted:
                if name not in data.names:
                    raise InputError(_missing_column(path, name))
                values = native(data[name][rows])
                if name == "X_H":
                    _add_abundances(stars, values, elements, path)
                else:
                    stars[name] = values
            return stars
    except UnusableFileError as error:
        raise InputError(f"expected a FITS catalogue of stars in {path}, got: {error}; fetch it again") from error


def _elements(hdus: Any, release: str) -> list[str]:  # noqa: ANN401  (astropy's HDUs are untyped)
    if len(hdus) > 3 and not hdus[3].is_image and "ELEM_SYMBOL" in hdus[3].columns.names:
        return [str(symbol) for symbol in native(hdus[3].data["ELEM_SYMBOL"]).ravel()]
    if release not in ELEMENTS:
        raise InputError(f"survey.release must be one of {', '.join(ELEMENTS)}, got {release!r}")
    return ELEMENTS[release]


def _missing_column(path: Path, name: str) -> str:
    everywhere = "every release has it" if name in _EVERY_RELEASE else "no release known to this program has it"
    return (
        f"{path.name} has no column {name} ({_SOME_RELEASES.get(name, everywhere)}); "
        "use a catalogue that has it, or cuts and a spectrum path that do without"
    )


def _add_abundances(stars: Table, x_h: NDArray[Any], elements: Sequence[str], source: Path) -> None:
    x_h = x_h.reshape(len(x_h), -1)  # some tables declare (26, 1)
    if x_h.shape[1] != len(elements):
        raise InputError(
            f"X_H in {source.name} has {x_h.shape[1]} values a star, expected {len(elements)} ({' '.join(elements)}); "
            "survey.release must be the release the file belongs to"
        )
    for element, values in zip(elements, x_h.T, strict=True):
        stars[abundance_column(element)] = values


def spectrum_files(template: str, stars: Table) -> list[str]:
    """Where each star's aspcapStar file lies below root.

    Args:
        template: a path with any of {TELESCOPE}, {FIELD}, {LOCATION_ID}, {APOGEE_ID}.
        stars: the columns the template names. For stars of the 1 m telescope (apo1m) FIELD stands in place of
            LOCATION_ID, as in the archive. Their file names end in the reduction's name, which the catalogue does not
            give: where it is not APOGEE_ID, the file is reported missing.

    Raises:
        InputError: the template names something else.
    """
    names = [name for name in ("TELESCOPE", "FIELD", "LOCATION_ID", "APOGEE_ID") if name in stars.colnames]
    files = []
    for values in zip(*(stars[name] for name in names), strict=True):
        star = dict(zip(names, values, strict=True))
        if star.get("TELESCOPE") == "apo1m":
            star["LOCATION_ID"] = star["FIELD"]
        try:
            files.append(template.format(**star))
        except (KeyError, IndexError, ValueError) as error:
            raise InputError(f"survey.spectrum={template} may name {', '.join(names)} in braces, got {error}") from None
    return files


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
