"""How a feature goes with what the star table says of the stars."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.stats import rankdata

from rsca_torch.spectra.stars import Stars

__all__ = ["Correlations", "correlations"]

FEWEST = 10  # stars, of which a correlation is told


@dataclass(frozen=True)
class Correlations:
    """Of one feature.

    Attributes:
        table: COLUMN, SPEARMAN, PEARSON, STARS, of every column of numbers; the largest |Spearman| first.
        texts: columns that hold no numbers.
        few: columns with fewer than ten values.
        constant: columns of one value.
    """

    table: Table
    texts: list[str] = field(default_factory=list)
    few: list[str] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """What is left out, and why; '' where nothing is."""
        told = {
            "hold no numbers": self.texts,
            f"have fewer than {FEWEST} values": self.few,
            "have one value for all": self.constant,
        }
        return "; ".join(
            f"{len(columns)} columns {why}: {', '.join(columns)}" for why, columns in told.items() if columns
        )


def correlations(feature: NDArray[np.float64], stars: Stars) -> Correlations:
    """Of a feature with every column; a star without a value is left out of that column's, and not counted.

    Args:
        feature: (N,).
        stars: N rows.

    Example:
        >>> stars = Stars.of({"id": list("abcdefghijkl"), "FE_H": [*range(11), float("nan")]})
        >>> found = correlations(np.arange(12.0) ** 2, stars)
        >>> found.table["COLUMN", "SPEARMAN", "STARS"].as_array().tolist(), str(found)
        ([('FE_H', 1.0, 11)], '1 columns hold no numbers: id')
    """
    rows, found = [], Correlations(Table())
    named = {stars.roles[role] for role in ("id", "group", "repeat_of") if stars.has(role)}
    for name in stars.colnames:
        values = np.zeros(0) if name in named or stars[name].ndim > 1 else np.asarray(stars.values(name))
        if values.dtype.kind != "f" or not len(values):
            found.texts.append(name)
            continue
        here = np.isfinite(values) & np.isfinite(feature)
        if here.sum() < FEWEST:
            found.few.append(name)
        elif np.ptp(values[here]) == 0 or np.ptp(feature[here]) == 0:
            found.constant.append(name)
        else:
            x, y = values[here], feature[here]
            rows.append((name, _pearson(rankdata(x), rankdata(y)), _pearson(x, y), int(here.sum())))
    rows.sort(key=lambda row: -abs(row[1]))
    names = ("COLUMN", "SPEARMAN", "PEARSON", "STARS")
    kinds = ("U1", "f8", "f8", "i8")
    table = Table(rows=rows, names=names) if rows else Table(names=names, dtype=kinds)
    return Correlations(table, found.texts, found.few, found.constant)


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    x, y = ((values - values.mean()) / np.abs(values - values.mean()).max() for values in (x, y))  # no overflow
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))
