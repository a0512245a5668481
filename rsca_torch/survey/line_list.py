"""Lists of absorption lines: which line is nearest to a bin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from astropy import units
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.files.tables import read_table
from rsca_torch.spectra.labels import as_text
from rsca_torch.spectra.spectra import as_angstrom
from rsca_torch.survey.simulated.tables import LINES

__all__ = ["LineList", "apogee_lines", "read_lines"]

SOURCES = ("APOGEE features, element is a guess", "APOGEE features, DR12 window")


#: What astropy must be told; no text is a missing value there, NA may be sodium.
CSV: dict[str, Any] = {"comment": "#", "fill_values": [("", "0")]}
FORMATS: dict[str, dict[str, Any]] = {
    ".csv": {"format": "ascii.csv", **CSV},
    ".tsv": {"format": "ascii.tab", **CSV},
    ".txt": {"format": "ascii"},
    ".dat": {"format": "ascii"},
}


@dataclass(frozen=True)
class LineList:
    """L lines.

    Attributes:
        wavelength: (L,) vacuum Angstrom, rising.
        element: (L,) whose line it is.
        source: (L,) who says so.
    """

    wavelength: NDArray[np.float64]
    element: NDArray[np.str_]
    source: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.wavelength)

    def nearest(self, wavelength: NDArray[np.float64], reach: float) -> NDArray[np.int64]:
        """(P,) number of the line nearest to each bin, -1 where none is within reach; of two as near the bluer.

        Args:
            wavelength: (P,) vacuum Angstrom.
            reach: Angstrom.

        Example:
            >>> lines = LineList(np.array([15000.0, 15002.0]), np.array(["Mg", "Fe"]), np.array(["me", "me"]))
            >>> lines.nearest(np.array([14999.5, 15001.0, 15001.5, 15010.0]), reach=1.0).tolist()
            [0, 0, 1, -1]
        """
        after = np.searchsorted(self.wavelength, wavelength).clip(max=len(self) - 1)
        before = (after - 1).clip(min=0)
        to_after, to_before = (np.abs(self.wavelength[place] - wavelength) for place in (after, before))
        place = np.where(to_before <= to_after, before, after)
        return np.where(np.minimum(to_before, to_after) <= reach, place, -1)


def apogee_lines() -> LineList:
    """577 absorption features of red giants from 15,152 to 16,949 Angstrom (simulated/giant_lines.csv has the source).

    An element whose abundance window has the feature is known; any other is a guess, which the source says.

    >>> len(apogee_lines())
    577
    """
    order = np.argsort(LINES["wavelength"], kind="stable")
    lines = LINES[order]
    source = np.array(SOURCES)[(lines["in_window"] == 1).astype(int)]
    return LineList(lines["wavelength"].astype(np.float64), lines["species"].astype(str), source)


def read_lines(path: str | Path) -> LineList:
    """A user's list: any table with columns wavelength (vacuum Angstrom, or with a unit) and element.

    A column source is taken too; else the file's name is the source.

    Raises:
        InputError: no such table, a column is missing, or a wavelength is no positive number.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"lines={path}: no such file; a table with columns wavelength and element is expected")
    try:
        table = _read(path)
    except Exception as error:  # whatever a reader of somebody else's raises
        raise InputError(f"lines={path}: no table that astropy reads ({error!s:.200})") from error
    by_name = {name.lower(): name for name in table.colnames}
    lacking = [name for name in ("wavelength", "element") if name not in by_name]
    if lacking:
        raise InputError(
            f"lines={path}: no column {' and none '.join(lacking)}; there are {', '.join(table.colnames)}; expected "
            "wavelength (vacuum Angstrom) and element"
        )
    wavelength = _angstrom(table, by_name["wavelength"], path)
    element = as_text(table[by_name["element"]])
    source = np.full(len(element), path.name)
    if "source" in by_name:
        source = as_text(table[by_name["source"]])
    order = np.argsort(wavelength, kind="stable")
    return LineList(wavelength[order], element[order], source[order])


def _read(path: Path) -> Table:
    if path.suffix.lower() in (".parquet", ".pq"):
        return Table.from_pandas(pandas.read_parquet(path))
    return read_table(path, **FORMATS.get(path.suffix.lower(), {}))


def _angstrom(table: Table, column: str, path: Path) -> NDArray[np.float64]:
    values = table[column]
    if values.dtype.kind not in "fiu":
        raise InputError(f"lines={path}: {column} must hold numbers, vacuum Angstrom, got {values.dtype}")
    plain = np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan)
    given = plain * (getattr(values, "unit", None) or units.Angstrom)
    wavelength = as_angstrom(given).numpy()
    wrong = ~(np.isfinite(wavelength) & (wavelength > 0))
    if wrong.any() or not len(wavelength):
        raise InputError(f"lines={path}: {wrong.sum()} of {len(wavelength)} wavelengths are no positive numbers")
    return wavelength
