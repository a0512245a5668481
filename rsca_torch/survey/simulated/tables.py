"""The simulator's tables: lines, species, clusters and sky; each CSV file says its units and its source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from astropy.table import Table
from numpy.typing import NDArray

__all__ = ["CLUSTERS", "LINES", "SKY_LINES", "SPECIES"]


def _table(name: str) -> NDArray[Any]:
    # One character is a name even in a column where a parser might see a number: element N, element K.
    table: NDArray[Any] = Table.read(Path(__file__).with_name(name), format="ascii.csv", comment="#").as_array()
    return table


#: 577 absorption features: wavelength, depth, its derivatives, the species it follows.
LINES = _table("giant_lines.csv")

#: 26 species in the order of DR16's abundance array: how they are born and how they are measured.
SPECIES = _table("elements.csv")

#: 22 open clusters with the number of members in the paper.
CLUSTERS = _table("clusters.csv")

#: Emission lines of the night sky in the observer's frame.
SKY_LINES = _table("sky_lines.csv")
