"""astraAllStarASPCAP, the catalogue of labels: its columns as other releases have them, and whose labels they are."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.stars import abundance_column, error_column
from rsca_torch.survey.fits_files import UnusableFileError, native, open_fits, require_table

__all__ = ["ELEMENTS", "observatories", "of_another_coadd", "read_labels"]

log = logging.getLogger(__name__)

#: Element -> its column of [X/H]; c_12_13 is left out, which is a ratio.
ELEMENTS = {name: f"{name.lower()}_h" for name in "C N O Na Mg Al Si P S K Ca Ti V Cr Mn Fe Co Ni Cu Ce Nd".split()} | {
    "CI": "c_1_h",
    "TiII": "ti_2_h",
}

#: What every table of labels has: whose they are, and of which co-add.
KEYS = ("sdss_id", "release", "telescope")

#: Where a table of the archive lacks what the summary of ASPCAP has.
ELSEWHERE = (
    "astraAllStarASPCAP has it, in the folder summary; astraMWMLite, mwmAllStar and the files of single stars have not "
    "all of its columns"
)


def read_labels(
    path: Path,
    columns: Iterable[str],
    optional: Iterable[str] = (),
    rows: NDArray[np.intp] | None = None,
    bad_bits: Sequence[int] = (),
) -> Table:
    """Some columns of the catalogue, never the whole table; their names in any case.

    Args:
        path: the catalogue, mapped; a compressed one is unpacked to a temporary file first.
        columns: what is wanted, under the catalogue's names; ``X_H`` and ``X_H_ERR`` are one column an element, as
            `abundance_column` and `error_column` name them.
        optional: wanted where the catalogue has it.
        rows: which, ascending. None: all.
        bad_bits: of an abundance's flags; where one is set that abundance is missing.

    Returns:
        One row a row of the catalogue, values as `native` gives them.

    Raises:
        InputError: the file is no such catalogue, or lacks a column.
    """
    with _opened(path) as data:
        known = {name.lower(): name for name in data.names}
        chosen = slice(None) if rows is None else rows

        def column(name: str) -> NDArray[Any]:
            if name.lower() not in known:
                raise InputError(
                    f"{path.name} has no column {name}; {ELSEWHERE}. It has {', '.join(data.names[:40])}"
                    f"{', ...' if len(data.names) > 40 else ''}"
                )
            return native(data[known[name.lower()]][chosen])

        labels = Table()
        for name in [*columns, *(name for name in optional if name.lower() in known)]:
            if name not in ("X_H", "X_H_ERR"):
                labels[name] = column(name)
                continue
            for element, scalar in ELEMENTS.items():
                if f"e_{scalar}" not in known and name == "X_H_ERR":
                    continue
                values = column(scalar if name == "X_H" else f"e_{scalar}")
                if bad_bits:
                    flags = column(f"{scalar}_flags").astype(np.int64)
                    values = np.where(flags & sum(1 << bit for bit in bad_bits), np.nan, values)
                labels[abundance_column(element) if name == "X_H" else error_column(element)] = values
        return labels


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The table of APOGEE's labels: HDU 2, or HDU 1 of a user's excerpt; HDU 1 of the archive's file is BOSS's."""
    if path.suffix in (".gz", ".bz2", ".xz"):
        log.warning("%s is unpacked to a temporary file each time that it is read: gunzip it to save that", path.name)
    try:
        with open_fits(path, memmap=True) as hdus:
            told = []
            for number in (2, 1):
                if number >= len(hdus) or hdus[number].is_image:
                    continue
                names = {name.lower() for name in hdus[number].columns.names}
                told.append(f"HDU {number} of {hdus[number].header['NAXIS2']} rows")
                if hdus[number].header["NAXIS2"] and {*KEYS} <= names:
                    yield require_table(hdus, number, "table of labels").data
                    return
            raise InputError(
                f"expected rows with the columns {', '.join(KEYS)} in HDU 2 of {path} (APOGEE's; HDU 1 is BOSS's and "
                f"empty), got {' and '.join(told) or 'no table'}; is it astraAllStarASPCAP?"
            )
    except UnusableFileError as error:
        raise InputError(f"expected a FITS catalogue of stars in {path}, got: {error}; fetch it again") from error


def observatories(telescopes: NDArray[np.str_]) -> NDArray[np.str_]:
    """(N,) APO (apo25m, apo1m) or LCO; '' for any other.

    Example:
        >>> observatories(np.array(["apo1m", "lco25m", "apo25m"])).tolist()
        ['APO', 'LCO', 'APO']
    """
    site = np.char.upper(np.asarray(telescopes, dtype=str)).astype("U3")
    return np.where(np.isin(site, ["APO", "LCO"]), site, "")


def of_another_coadd(stars: Table) -> NDArray[np.bool_]:
    """(N,) True for labels of a co-add that mwmStar does not hold: of DR17, of a star with one of SDSS-V there too.

    mwmStar has one co-add an observatory, that of SDSS-V where there is one, whatever its S/N.

    Args:
        stars: sdss_id, release (dr17 or sdss5) and telescope.

    Example:
        >>> dr17 = {"sdss_id": 7, "release": "dr17", "telescope": "apo25m"}
        >>> sdss5 = {**dr17, "release": "sdss5"}
        >>> of_another_coadd(Table([dr17, sdss5, {**dr17, "telescope": "lco25m"}])).tolist()
        [True, False, False]
    """
    ids = np.asarray(stars["sdss_id"], dtype=np.int64)
    later = np.asarray(stars["release"]) != "dr17"
    other = np.zeros(len(stars), dtype=bool)
    sites = observatories(np.asarray(stars["telescope"]))
    for site in np.unique(sites):
        there = sites == site
        other |= there & ~later & np.isin(ids, ids[there & later])
    return other
