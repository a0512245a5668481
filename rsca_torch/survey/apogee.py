"""APOGEE's files: the wavelength grid, and readers of allStar and aspcapStar (docs/data.md, sections 1 and 2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHIPS", "ELEMENTS", "N_PIXELS", "wavelength"]

N_PIXELS = 8575

#: Pixels of the three detectors, half-open: the ASPCAP grid of 7,514 pixels (DR13 to DR17).
CHIPS = {"blue": (246, 3274), "green": (3585, 6080), "red": (6344, 8335)}

#: Order of the elements in X_H, where a file does not say it (allStarLite): per release.
ELEMENTS = {
    "dr13": "C CI N O Na Mg Al Si P S K Ca Ti TiII V Cr Mn Fe Co Ni Cu Ge Ce Rb Y Nd".split(),
    "dr14": "C CI N O Na Mg Al Si P S K Ca Ti TiII V Cr Mn Fe Co Ni Cu Ge Ce Rb Y Nd".split(),
    "dr16": "C CI N O Na Mg Al Si P S K Ca Ti TiII V Cr Mn Fe Co Ni Cu Ge Rb Ce Nd Yb".split(),
    "dr17": "C CI N O Na Mg Al Si P S K Ca Ti TiII V Cr Mn Fe Co Ni Cu Ge Rb Ce Nd Yb C13".split(),
}


def wavelength() -> NDArray[np.float64]:
    """(8575,) vacuum wavelength of each pixel in the star's rest frame, Angstrom."""
    return np.asarray(10 ** (4.179 + 6e-6 * np.arange(N_PIXELS)))
