"""DR19's catalogue of labels: which co-adds there are of each star, and what is said of them (docs/dr19.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.survey.mwm.catalogue import ELEMENTS, observatories
from rsca_torch.survey.simulated.chemistry import ELEMENT_INDEX

__all__ = ["Columns", "gaia", "label_rows", "labels", "mean_fibre", "single", "texts"]

Columns = dict[str, NDArray[Any]]

A_K_PER_EBV = 0.352

#: One field star in so many is so.
HIGHER_SNR, SPOILT = 11, 331


def label_rows(stars: Table) -> Table:
    """The rows of the catalogue of labels, and which of them are of spectra that mwmStar holds.

    A star's first observation is its co-add. Of further ones the first of the other observatory is there too; the
    others are DR17's co-adds, whose labels the catalogue has and whose spectra mwmStar has not. So have some field
    stars without further observations, of a better S/N. Two kinds of one star in 331: no file, and a file that holds
    another co-add than the labels are of.

    Args:
        stars: N observations.

    Returns:
        STAR (row of ``stars``), sdss_id, release, telescope, snr, HELD (mwmStar has it), SPOILT ("", "missing",
        "other").
    """
    names, number = np.unique(np.asarray(stars["APOGEE_ID"]), return_inverse=True)
    del names
    ids = 54_000_000 + 7_919 * (1 + number)
    sites = observatories(np.asarray(stars["TELESCOPE"]))
    later = np.isin(stars["ROLE"], ["duplicate", "repeat"])
    rows: list[tuple[Any, ...]] = []
    fields = 0
    for star in np.unique(number):
        of = np.flatnonzero(number == star)
        first, *further = sorted(of.tolist(), key=lambda row: (later[row], row))
        told = [str(stars["TELESCOPE"][row]) for row in (first, *further)]
        superseded, held = list[int](), {sites[first]}
        for row in further:
            if sites[row] in held:
                superseded.append(row)
            held.add(sites[row])
        spoilt, better = "", False
        if stars["ROLE"][first] == "field" and not further:
            fields += 1
            spoilt = {17: "missing", 29: "other"}.get(fields % SPOILT, "")
            better = fields % HIGHER_SNR == 3
        newer = better or bool(superseded) or star % 3 == 0
        for row, telescope in zip((first, *further), told, strict=True):
            gone = row in superseded
            release = "dr17" if gone or not newer or spoilt == "other" else "sdss5"
            rows.append((row, ids[row], release, telescope, float(stars["SNR"][row]), not gone, spoilt))
        if better and not spoilt:
            rows.append((first, ids[first], "dr17", told[0], 1.3 * float(stars["SNR"][first]), False, ""))
    nobody = int(np.flatnonzero(stars["ROLE"] == "field")[0])
    rows.append((nobody, -1, "sdss5", str(stars["TELESCOPE"][nobody]), float(stars["SNR"][nobody]), False, ""))
    table = Table(rows=rows, names=("STAR", "sdss_id", "release", "telescope", "snr", "HELD", "SPOILT"))
    return table[np.argsort(np.asarray(stars["RA"])[table["STAR"]], kind="stable")]


def labels(rows: Table, stars: Table, measured: Table) -> Columns:
    """The columns of the catalogue.

    Args:
        rows: from `label_rows`.
        stars: N observations.
        measured: what the pipeline makes of them.
    """
    of = np.asarray(rows["STAR"])
    stars, measured = stars[of], measured[of]
    role, sdss_id, release = (np.asarray(each) for each in (stars["ROLE"], rows["sdss_id"], rows["release"]))
    n, failed = len(of), role == "failed"
    held = np.asarray(rows["HELD"]) | np.isin(role, ["duplicate", "repeat"])
    bits = np.where(role == "bad", 1 << 25, 0) | np.where(failed, 1 << 0, 0)
    iron = np.asarray(measured["X_H"])[:, ELEMENT_INDEX["Fe"]]
    ebv = np.asarray(measured["AK_TARG"]) / A_K_PER_EBV
    # The last digits of what DR17's own fit of its own co-add gave.
    other = np.where(held, 0.0, 25.0)
    fibres = [mean_fibre(star) for star in stars]
    abundances: dict[str, Any] = {}
    for element, column in ELEMENTS.items():
        index = ELEMENT_INDEX.get(element)
        abundances[column] = single(measured["X_H"][:, index])
        abundances[f"e_{column}"] = single(measured["X_H_ERR"][:, index])
        abundances[f"{column}_flags"] = np.where(np.isnan(abundances[column]), 1 << 6, 0)
    return {
        "sdss_id": sdss_id.astype(np.int64),
        "sdss4_apogee_id": texts(np.where(np.arange(n) % 50 == 49, "", stars["APOGEE_ID"])),  # new in SDSS-V
        "gaia_dr2_source_id": gaia(sdss_id) - 1,
        "gaia_dr3_source_id": gaia(sdss_id),
        "release": texts(release),
        "apred": texts(np.where(release == "dr17", "dr17", "1.3")),
        "v_astra": texts(np.full(n, "0.6.0")),
        "obj": texts(stars["APOGEE_ID"]),
        "telescope": texts(rows["telescope"]),
        "field": texts(np.where(release == "dr17", stars["FIELD"], "")),
        "ra": single(stars["RA"]),
        "dec": single(stars["DEC"]),
        "n_visits": np.asarray(stars["NVISITS"], np.int32),
        "mean_fiber": single(fibres),
        "std_fiber": single(np.full(n, np.nan)),
        "snr": single(rows["snr"]),
        "spectrum_flags": np.where(np.asarray(fibres) > 200, 1 << 9, 0),
        "v_rad": single(stars["VHELIO"]),
        "e_v_rad": single(np.full(n, 0.02)),
        "std_v_rad": single(np.full(n, 0.1)),
        "ebv": single(ebv * np.where(np.arange(n) % 2, 0.86, 1.0)),  # a mixture of scales
        "ebv_flags": np.where(np.arange(n) % 2, 1 << 3, 1 << 5),
        "ebv_rjce_allwise": single(ebv),
        "ebv_sfd": single(0.86 * ebv),
        "short_grid_name": texts(np.full(n, "GKg_b")),
        "teff": single(np.asarray(measured["TEFF"]) + other),
        "logg": single(measured["LOGG"]),
        "m_h_atm": single(iron),
        "alpha_m_atm": single(np.where(failed, np.nan, stars["ALPHA_M"])),
        "result_flags": bits,
        "flag_warn": bits > 0,
        "flag_bad": bits > 0,
        **abundances,
    }


def single(values: Any) -> NDArray[np.float32]:  # noqa: ANN401  (columns and lists)
    """float32, as Astra keeps every number that is not whole."""
    return np.asarray(values, dtype=np.float32)


def texts(values: Any) -> NDArray[np.bytes_]:  # noqa: ANN401  (as above)
    """As wide as the longest, and at least one character: no two files need agree."""
    return np.asarray([str(value) for value in values], dtype=bytes)


def gaia(sdss_id: NDArray[np.int64]) -> NDArray[np.int64]:
    """19 digits, more than a float holds."""
    return np.asarray(np.where(sdss_id > 0, 4_123_456_789_000_000_001 + 2 * sdss_id, -1), dtype=np.int64)


def mean_fibre(star: Any) -> float:  # noqa: ANN401  (a row of an untyped table)
    """Of the visits of an observation."""
    return float(np.mean(star["FIBER"][: int(star["NVISITS"])]))
