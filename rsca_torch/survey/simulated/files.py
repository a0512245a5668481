"""The archive's files: spectra, catalogue and cluster memberships, and what goes wrong with them on a disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from rsca_torch.survey.simulated import fits_bytes as fits
from rsca_torch.survey.simulated.catalogue import NOT_IN_LITE, Columns, text
from rsca_torch.survey.simulated.release import Release
from rsca_torch.survey.simulated.spectra import LOG_START, Flux
from rsca_torch.survey.simulated.tables import clusters

__all__ = ["FAULTS", "member_candidates", "write_catalogue", "write_memberships", "write_spectrum"]

Candidate = tuple[np.integer[Any], str, float]  # place among the stars, cluster, probability of belonging to it

#: What damage can do to a file; one star of each.
FAULTS = ("truncated", "web_page", "missing", "all_zero", "wrong_grid", "long_id")

_WEB_PAGE = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"

#: HDU 4 of a spectrum's file repeats the star's row of the catalogue without the columns of single elements.
_NOT_IN_HDU4 = ("_FE", "_FE_ERR", "_FE_FLAG", "FE_H", "FE_H_ERR", "FE_H_FLAG")

#: Text columns that are as wide as this star needs: no two files need agree.
_FITTED = ("FIELD", "TARGFLAGS", "VISITS", "ALL_VISITS", "STARFLAGS", "ANDFLAGS", "ASPCAPFLAGS")


def write_spectrum(path: Path, spectrum: Flux, columns: Columns, row: int, release: Release, fault: str) -> None:
    """Write an aspcapStar file: header, flux, error, best fit, the star's row of the catalogue.

    Args:
        path: of a good file.
        spectrum: (3, 8575) flux, quoted error and the pipeline's best fit.
        columns: the catalogue.
        row: the star's place in it.
        release: dtypes and headers.
        fault: of `FAULTS`, what is wrong with what comes to lie on the disk; '' for nothing.
    """
    if fault == "missing":
        return
    if fault == "all_zero":
        spectrum = np.zeros_like(spectrum)
    log_start = LOG_START + 0.001 if fault == "wrong_grid" else LOG_START
    cards = _dr16_cards(columns, row) if release.name != "dr17" else [fits.card("VERSION", "dr17")]
    images = [fits.image(values.astype(release.image), log_start) for values in spectrum]
    content = b"".join([fits.primary(cards), *images, fits.table(_row(columns, row))])
    if fault == "truncated":
        content = content[: len(content) // 3]
    if fault == "web_page":
        content = _WEB_PAGE
    if fault == "long_id":  # the catalogue cuts the id to 18 characters, the file's name does not
        path = path.with_name(f"{path.stem}1.fits")
    path.write_bytes(content)


def write_catalogue(root: Path, columns: Columns, release: Release) -> None:
    """Write allStar (with the index of right ascension and the names of the elements) and its short twin."""
    version = fits.primary([f"COMMENT APOGEE_VER:{release.name}".ljust(80)], bitpix=8)
    index = np.searchsorted(columns["RA"], np.arange(360)).astype(release.flag)
    keys = {name: value[None] for name, value in _keys(release).items()}
    content = version + fits.table(columns) + fits.image(index) + fits.table(keys)
    _write(root / release.catalogue, content)
    short = {name: values for name, values in columns.items() if name not in NOT_IN_LITE}
    _write(root / release.catalogue.replace("allStar-", "allStarLite-"), version + fits.table(short))


def write_memberships(root: Path, stars: Table, measured: Table, release: Release, rng: np.random.Generator) -> None:
    """Write the two OCCAM files: text padded with NUL, probabilities in steps of 0.1, every sentinel."""
    rows = member_candidates(stars, rng)
    tables = {"member": _member_columns(rows, stars, measured, release), "cluster": _cluster_columns(stars)}
    for name, columns in tables.items():
        path = root / release.occam / f"apogee/vac/apogee-occam/occam_{name}-{release.occam.upper()}.fits"
        _write(path, fits.primary([], bitpix=8) + fits.table(columns))


def member_candidates(stars: Table, rng: np.random.Generator) -> list[Candidate]:
    """Who is on the list, and how probable it says that is."""
    in_cluster = np.flatnonzero((stars["CLUSTER"] != "") & ~np.isin(stars["ROLE"], ["duplicate", "repeat"]))
    rows: list[Candidate] = [(i, str(stars["CLUSTER"][i]), float(rng.choice([0.9, 1.0]))) for i in in_cluster]
    for number, i in enumerate(np.flatnonzero(stars["ROLE"] == "unlikely_member")):
        rows.append((i, "NGC 6819", (0.8, 0.4, 0.0, -9999.99)[number % 4]))
    for i in np.flatnonzero(stars["ROLE"] == "two_clusters"):
        rows += [(i, "ASCC 16", 0.7), (i, "Briceno 1", 0.6)]
    return sorted(rows, key=lambda row: (row[1], stars["APOGEE_ID"][row[0]]))


def _member_columns(rows: list[Candidate], stars: Table, measured: Table, release: Release) -> Columns:
    of, cluster, probability = (np.array(values) for values in zip(*rows, strict=True))
    n = len(rows)
    iron = np.asarray(measured["X_H"], np.float64)[of, release.elements.index("Fe")]
    # The catalogue knows missing values by three different names.
    motion = np.where(np.arange(n) % 50 == 7, np.nan, np.where(np.arange(n) % 50 == 8, -9999.0, -1.5))
    return {
        "CLUSTER": cluster.astype("S13"),
        "APOGEE_ID": np.asarray(stars["APOGEE_ID"], dtype="S18")[of],
        "LOCATION_ID": np.asarray(stars["LOCATION_ID"], np.int64)[of],
        "GLON": np.asarray(stars["GLON"], np.float64)[of],
        "GLAT": np.asarray(stars["GLAT"], np.float64)[of],
        "VHELIO_AVG": np.where(np.arange(n) % 97 == 5, 999999.0, np.asarray(stars["VHELIO"], np.float64)[of]),
        "VSCATTER": np.where(np.arange(n) % 97 == 5, -1.0, 0.1),
        "FE_H": np.where(np.isfinite(iron), iron, -9999.99),
        "FE_H_ERR": np.where(np.isfinite(iron), 0.01, -9999.99),
        **{name: motion.copy() for name in ("PMRA", "PMRA_ERR", "PMDEC", "PMDEC_ERR")},
        "RV_PROB": np.full(n, 0.9),
        "FEH_PROB": np.where(np.arange(n) % 20 == 3, -1.0, 0.8),
        "PM_PROB": np.where(np.arange(n) % 40 == 11, 1.4, 0.9),
        "CG_PROB": probability,
    }


def _cluster_columns(stars: Table) -> Columns:
    n = len(np.unique(stars["CLUSTER"][stars["ROLE"] == "member"]))
    listed = clusters(n)
    unknown = np.full(n, np.nan)
    species = "C N O NA MG AL SI P S K CA TI V CR MN FE CO NI CU CE".split()
    tags = ["FE_H" if name == "FE" else f"{name}_FE" for name in species]
    count = [int(np.sum(stars["CLUSTER"] == name)) for name in listed["cluster"]]
    return {
        "NAME": np.array([str(name).replace(" ", "_") for name in listed["cluster"]], dtype="S13"),
        **{name.upper(): listed[name] for name in ("glon", "glat", "radius")},
        "QUAL": np.full(n, 2, np.int64),
        **dict.fromkeys(("PMRA", "PMRA_ERR", "PMDEC", "PMDEC_ERR"), unknown),
        "RV": listed["v_helio"],
        "RV_ERR": np.full(n, 1.0),
        **{f"R_GC_{name}": unknown for name in ("DIAS", "MWSC", "PARALLAX", "BAILER_JONES", "CG")},
        **{tag + error: unknown for tag in tags for error in ("", "_ERR")},
        "FE_H": listed["fe_h"],  # in its place among the tags
        "NUM_STARS": np.array(count, np.int64),
    }


def _dr16_cards(columns: Columns, row: int) -> list[str]:
    def of(name: str) -> Any:  # noqa: ANN401  (text, integer or float)
        value = columns[name][row].item()
        return value.decode().strip() if isinstance(value, bytes) else value

    extinction = of("AK_TARG")
    return [
        fits.card("VERS", "l33"),
        fits.card("OBJ", of("APOGEE_ID"), "Object ID"),
        *(fits.card(name, of(name)) for name in ("RA", "DEC", "GLON", "GLAT", "J", "H", "K")),
        fits.card("LOCID", of("LOCATION_ID"), "LOCATION ID"),
        fits.card("FIELD", of("FIELD"), "Field"),
        fits.card("TARG1", of("APOGEE_TARGET1"), "APOGEE_TARGET1 target flag"),
        fits.card("TARG2", of("APOGEE_TARGET2"), "APOGEE_TARGET2 target flag"),
        fits.card("AKTARG", extinction if extinction > 0 else float("nan"), "Targeting extinction"),
        fits.card("AKMETHOD", of("AK_TARG_METHOD"), "extinction method used for targeting"),
        fits.card("AKWISE", float("nan") if row % 5 == 0 else extinction, "WISE extinction"),
        fits.card("SFD_EBV", of("SFD_EBV"), "SFD E(B-V)"),
        fits.card("SNR", of("SNR"), "signal-to-noise"),
        fits.card("VHELIO", of("VHELIO_AVG"), "heliocentric velocity (km/s)"),
        fits.card("NVISITS", of("NVISITS"), "number of visits"),
    ]


def _row(columns: Columns, row: int) -> Columns:
    kept = {name: values[row : row + 1] for name, values in columns.items() if not name.endswith(_NOT_IN_HDU4)}
    for name in set(_FITTED) & set(kept):
        words = bytes(kept[name][0]).decode().strip()
        kept[name] = text([words], max(1, 2 * ((len(words) + 1) // 2)))
    return kept


def _keys(release: Release) -> Columns:
    parameters = "TEFF LOGG LOG10VDOP METALS C N O_Mg_Si_S_Ca_Ti LGVSINI O".split()
    # Which species the pipeline measures against hydrogen instead of the metals.
    to_h = np.array([int(c) for c in "00001010101000111111111111"][: len(release.elements)], np.int16)
    return {
        "PARAM_SYMBOL": text(parameters, 16),
        "ELEM_SYMBOL": text(release.elements, 5),
        "ELEM_VALUE": text([f"[{name}/M]" for name in release.elements], 8),
        "ELEMTOH": np.append(to_h, np.zeros(len(release.elements) - len(to_h), np.int16)),
        "CLASSES" if release.name != "dr17" else "GRIDS": text(["GKg_a", "GKg_b", "GKg_c", "GKg_d"], 6),
    }


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
