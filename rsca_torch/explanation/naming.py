"""Shares of bins as shares of lines, of elements' windows and of the spectrum between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.survey.element_windows import Ranges, inside
from rsca_torch.survey.line_list import LineList

__all__ = ["BETWEEN", "OUTSIDE", "Names"]

BETWEEN, OUTSIDE = "between lines", "outside windows"

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Names:
    """Which line each of P bins belongs to, and which elements' windows it is in.

    Attributes:
        wavelength: (P,) vacuum Angstrom.
        lines: the list.
        windows: element -> its windows; may be none.
        reach: a bin belongs to the nearest line that is no farther, Angstrom.

    Example:
        >>> lines = LineList(np.array([15000.0]), np.array(["Mg"]), np.array(["me"]))
        >>> names = Names(np.array([15000.2, 15000.4, 15003.0]), lines, {"Mg": ((14999.0, 15000.3),)}, 0.8)
        >>> shares = np.array([0.5, 0.2, 0.3])
        >>> [(str(row["ELEMENT"]), float(row["SHARE"])) for row in names.by_line(shares)]
        [('Mg', 0.7), ('between lines', 0.3)]
        >>> [(str(row["ELEMENT"]), float(row["SHARE"])) for row in names.by_window(shares)]
        [('outside windows', 0.5), ('Mg', 0.5)]
    """

    wavelength: Array
    lines: LineList
    windows: Mapping[str, Ranges]
    reach: float

    @property
    def line(self) -> NDArray[np.int64]:
        """(P,) number in the list; -1: between lines."""
        return self.lines.nearest(self.wavelength, self.reach)

    @property
    def window(self) -> dict[str, NDArray[np.bool_]]:
        """Element -> (P,) whether a bin is in its windows."""
        return {element: inside(self.wavelength, ranges) for element, ranges in self.windows.items()}

    def bins(self, shares: Array) -> Table:
        """P rows, in the order of wavelength: what each carries, its line and windows."""
        line, windows = self.line, self.window
        known = line >= 0
        of = [" ".join(element for element, here in windows.items() if here[p]) for p in range(len(line))]
        return Table(
            {
                "WAVELENGTH": self.wavelength,
                "SHARE": shares,
                "ELEMENT": _text(np.where(known, self.lines.element[line], "")),
                "LINE": np.where(known, self.lines.wavelength[line], np.nan),
                "SOURCE": _text(np.where(known, self.lines.source[line], "")),
                "WINDOWS": _text(np.array(of)),
            }
        )

    def by_line(self, shares: Array) -> Table:
        """A row for each line that has a bin, the largest share of either sign first; they add up as the bins do."""
        line = self.line
        numbers = np.unique(line)
        known = numbers >= 0
        rows = Table(
            {
                "ELEMENT": _text(np.where(known, self.lines.element[numbers], BETWEEN)),
                "LINE": np.where(known, self.lines.wavelength[numbers], np.nan),
                "SHARE": np.array([shares[line == number].sum() for number in numbers]),
                "BINS": np.array([(line == number).sum() for number in numbers], dtype=np.int64),
                "SOURCE": _text(np.where(known, self.lines.source[numbers], "")),
            }
        )
        return _largest_first(rows)

    def by_window(self, shares: Array) -> Table:
        """A row for each element with a bin, and for what is outside; a bin in m windows counts 1/m in each."""
        windows = self.window
        times = np.sum([*windows.values()], axis=0) if windows else np.zeros(len(shares), dtype=int)
        names, sums, bins = [OUTSIDE], [shares[times == 0].sum()], [int((times == 0).sum())]
        for element, here in windows.items():
            if here.any():
                names.append(element)
                sums.append((shares[here] / times[here]).sum())
                bins.append(int(here.sum()))
        return _largest_first(Table({"ELEMENT": _text(np.array(names)), "SHARE": np.array(sums), "BINS": bins}))


def _largest_first(rows: Table) -> Table:
    return rows[np.argsort(-np.abs(rows["SHARE"]), kind="stable")]


def _text(values: NDArray[np.str_]) -> NDArray[np.str_]:
    """At least one character wide, as FITS needs it."""
    return values.astype(f"U{max(1, values.dtype.itemsize // 4)}")
