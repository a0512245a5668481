"""The simulator's tables: lines, species, clusters and sky; each CSV file says its units and its source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

__all__ = ["CLUSTERS", "LINES", "MOST_CLUSTERS", "SKY_LINES", "SPECIES", "clusters"]


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

#: Of nine copies names still fit into the catalogue's 13 characters.
MOST_CLUSTERS = 9 * len(CLUSTERS)

_KINDS = [(name, CLUSTERS.dtype[name]) for name in CLUSTERS.dtype.names or ()]

#: Emission lines of the night sky in the observer's frame.
SKY_LINES = _table("sky_lines.csv")


def clusters(n: int) -> NDArray[Any]:
    """The first n open clusters.

    Beyond the 22 the list begins again, each time farther along the Galaxy, faster and poorer in metals, so that no
    two are alike.

    Args:
        n: how many.

    Returns:
        As `CLUSTERS`; the names of those that are made up end in a number: "Berkeley 17 2".

    Example:
        >>> [str(name) for name in clusters(23)["cluster"][[0, 22]]]
        ['Berkeley 17', 'Berkeley 17 2']
    """
    time, row = np.divmod(np.arange(n), len(CLUSTERS))
    drawn = CLUSTERS[row].astype([(name, "U24") if name == "cluster" else (name, kind) for name, kind in _KINDS])
    drawn["cluster"] = [f"{name} {t + 1}" if t else name for name, t in zip(drawn["cluster"], time, strict=True)]
    drawn["glon"] = (drawn["glon"] + 20 * time) % 360
    drawn["v_helio"] += 15 * time
    drawn["fe_h"] -= 0.07 * time
    return drawn
