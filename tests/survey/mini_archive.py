"""A DR16-like archive in miniature, with the survey's own oddities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from rsca_torch.survey.apogee import CHIPS, ELEMENTS, N_PIXELS
from rsca_torch.survey.apogee_catalogue import ApogeeCatalogue
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.survey import Survey

BASE = "dr16/apogee/spectro/aspcap/r12/l33"
SPECTRUM = BASE + "/{TELESCOPE}/{FIELD}/aspcapStar-r12-{APOGEE_ID}.fits"
MEMBERS = "dr16/apogee/vac/apogee-occam/occam_member-DR16.fits"
PAPER = "C CI N O Na Mg Al Si S K Ca Ti TiII V Cr Mn Fe Co Ni Cu Ce".split()
CUTS = (
    {"name": "extinction known", "column": "AK_TARG", "above": -50},
    {"name": "effective temperature", "column": "TEFF", "above": 4000, "below": 5000},
    {"name": "not STAR_BAD", "column": "ASPCAPFLAG", "without_bit": 23},
    {"name": "21 abundances", "column": "X_H", "defined": PAPER},
    {"name": "not on the list", "column": "APOGEE_ID", "none_of": ["2M99999999+0000000"]},
)
AUTHORS = Censoring(interstellar_pixels=((720, 910), (2370, 2470), (2600, 2750), (4300, 4600)))
TEXT = {"APOGEE_ID": 18, "TELESCOPE": 8, "FIELD": 16, "VISITS": 60}
FORMATS = {"LOCATION_ID": "J", "EXTRATARG": "J", "ASPCAPFLAG": "J", "X_H": "26E"}


def star_id(number: int) -> str:
    return f"2M{number:08d}+0000000"


def star(number: int, **values: object) -> dict[str, object]:
    """A catalogue row that passes every cut; ``missing`` names elements without an abundance."""
    x_h = np.linspace(-0.5, 0.5, 26, dtype=np.float32) + np.float32(number % 100 / 100)
    for element in ("P", "Ge", "Rb", "Nd", "Yb", *values.pop("missing", ())):
        x_h[ELEMENTS["dr16"].index(element)] = -9999.99
    row = {
        "APOGEE_ID": star_id(number), "TELESCOPE": "apo25m", "FIELD": "060+00", "LOCATION_ID": 4600,
        "SNR": 100.0 + number, "VHELIO_AVG": 10.0 * number,
        "AK_TARG": 0.1, "TEFF": 4500.0, "LOGG": 2.5, "M_H": 0.0, "ALPHA_M": 0.0,
        "ASPCAPFLAG": 0, "EXTRATARG": 0, "VISITS": f"r12-5583-56257-{number:03d}", "X_H": x_h,
    }  # fmt: skip
    return row | values


def mini_rows() -> list[dict[str, object]]:
    """Six members, six field stars, two duplicates, a star in two clusters and one for each cut."""
    rows = [star(n) for n in range(12)]
    rows[7] |= {"ASPCAPFLAG": -(2**31), "VHELIO_AVG": 999999.0}  # bit 31 alone: negative, yet not STAR_BAD
    rows[8] |= {"TELESCOPE": "lco25m", "FIELD": "293-37-C"}
    rows.insert(0, star(0, EXTRATARG=16, SNR=60.0, FIELD="other"))  # a member's duplicate comes first in the catalogue
    rows.append(star(6, EXTRATARG=16, SNR=60.0, FIELD="other"))
    rows.append(star(20))  # in two clusters
    rows.append(star(30, AK_TARG=np.nan))
    rows.append(star(31, TEFF=-9999.99))
    rows.append(star(32, ASPCAPFLAG=np.int32(-(2**31) + 2**23)))
    rows.append(star(33, missing=["Ce"]))
    rows.append(star(99999999))
    return rows


#: (star, cluster, CG_PROB)
MINI_MEMBERS = [
    *((n, "NGC 1111", 0.9) for n in (0, 1, 2)), (3, "NGC_2222", 1.0), (4, "NGC  2222", 0.9), (5, "Lone 1", 1.0),
    (6, "NGC 1111", 0.8), (7, "NGC 1111", -9999.99), (20, "NGC 1111", 1.0), (20, "NGC 2222", 0.9), (1, "NGC 2222", 0.1),
]  # fmt: skip


def table(rows: list[dict[str, object]], formats: dict[str, str] | None = None) -> fits.BinTableHDU:
    columns = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name in TEXT:
            values = np.array([str(v).ljust(TEXT[name]).encode() for v in values])
        code = f"{TEXT[name]}A" if name in TEXT else (FORMATS | (formats or {})).get(name, "E")
        columns.append(fits.Column(name, code, array=np.array(values)))
    return fits.BinTableHDU.from_columns(columns)


def write_spectrum(path: Path, flux: object, error: object, row: dict[str, object] | None = None, dtype: str = ">f4"):
    images = [fits.ImageHDU(np.asarray(values).astype(dtype)) for values in (flux, error, flux)]
    for image in images:
        image.header.update({"CRVAL1": 4.179, "CDELT1": 6e-6, "CRPIX1": 1, "CTYPE1": "LOG-LINEAR"})
    primary = fits.PrimaryHDU()
    primary.header["AKTARG"] = 123
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList([primary, *images, *([table([row])] if row else [])]).writeto(path, overwrite=True)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"AKTARG  =                  123", b"AKTARG  =                  NAN"))


def good_spectrum(number: int) -> tuple[np.ndarray, np.ndarray]:
    """(8575,) flux and error: 0 in the gaps, a sky line, a bad run an error of exactly 0.05 on the blue chip."""
    on_chip = np.zeros(N_PIXELS, dtype=bool)
    for first, end in CHIPS.values():
        on_chip[first:end] = True
    flux = np.where(on_chip, 0.9 + 0.001 * number + 0.01 * np.sin(np.arange(N_PIXELS)), 0)
    error = np.where(on_chip, 0.01, 0)
    error[300:310] = 4.4
    flux[320:325], error[320:325] = 0, 10
    error[330] = 0.05
    error[340] = 0.01 if number == 0 else 1  # a bin that one star alone has
    return flux, error


def write_members(path: Path, members=MINI_MEMBERS) -> None:
    text = {"CLUSTER": [m[1] for m in members], "APOGEE_ID": [star_id(m[0]) for m in members]}
    columns = [
        fits.Column(name, f"{width}A", array=np.array([value.encode().ljust(width, b"\0") for value in text[name]]))
        for name, width in (("CLUSTER", 13), ("APOGEE_ID", 18))
    ]
    columns.append(fits.Column("CG_PROB", "D", array=[m[2] for m in members]))
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.BinTableHDU.from_columns(columns).writeto(path, overwrite=True)


def write_catalogue(
    path: Path, rows: list[dict[str, object]], symbols: bool = True, formats: dict[str, str] | None = None
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = np.array([[element.ljust(5).encode() for element in ELEMENTS["dr16"]]])
    keys = fits.BinTableHDU.from_columns([fits.Column("ELEM_SYMBOL", "130A", dim="(5,26)", array=names)])
    hdus = [fits.PrimaryHDU(), table(rows, formats)]
    hdus += [fits.ImageHDU(np.zeros(360, dtype=np.int32)), keys] if symbols else []
    fits.HDUList(hdus).writeto(path, overwrite=True)


def survey(root: Path, **options: object) -> Survey:
    defaults = {
        "release": "dr16", "spectrum": SPECTRUM, "members": MEMBERS, "membership": {"column": "CG_PROB", "above": 0.8},
        "catalogue": [f"{BASE}/allStar-r12-l33.fits", f"{BASE}/allStarLite-r12-l33.fits"], "cuts": CUTS,
        "reader": ApogeeCatalogue, "censoring": AUTHORS,
    }  # fmt: skip
    return Survey(root=root, **(defaults | options))


def write_archive(root: Path) -> Path:
    """Catalogue, members and the spectrum of every row."""
    rows = mini_rows()
    write_catalogue(root / BASE / "allStar-r12-l33.fits", rows)
    write_members(root / MEMBERS)
    for row in rows:
        write_spectrum(root / SPECTRUM.format(**row), *good_spectrum(int(row["APOGEE_ID"][2:10]) % 100))
    return root
