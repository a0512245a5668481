"""Wavelengths as the rest of the program has them: vacuum, at rest, Angstrom."""

from __future__ import annotations

import numpy as np
from astropy.constants import c
from astropy.units import Unit
from numpy.typing import NDArray

from rsca_torch.survey.described.parts import Wavelength

__all__ = ["LIGHT", "at_rest", "to_air", "to_vacuum"]

LIGHT = float(c.to_value("km/s"))
AIR_FROM = 2000.0  # Angstrom: shorter ones are given in vacuum by convention


def refraction(vacuum: NDArray[np.float64]) -> NDArray[np.float64]:
    """Index of refraction of standard air at vacuum wavelengths in Angstrom.

    Morton 2000 (ApJS 130, 403), eq. 8, of Birch & Downs 1994; the IAU's standard, and `Morton2000` of specutils.
    """
    squared = (1e4 / vacuum) ** 2
    return 1.0 + 8.34254e-5 + 2.406147e-2 / (130.0 - squared) + 1.5998e-4 / (38.9 - squared)


def to_air(vacuum: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vacuum to air, Angstrom.

    >>> to_air(np.array([6564.61, 1215.67])).round(2).tolist()
    [6562.8, 1215.67]
    """
    return np.where(vacuum < AIR_FROM, vacuum, vacuum / refraction(np.maximum(vacuum, AIR_FROM)))


def to_vacuum(air: NDArray[np.float64]) -> NDArray[np.float64]:
    """Air to vacuum, Angstrom: the inverse of `to_air`, to the last digits.

    >>> to_vacuum(np.array([6562.8])).round(2).tolist()
    [6564.61]
    """
    vacuum = air = np.asarray(air, dtype=np.float64)
    for _ in range(5):  # the index changes by 1e-8 an Angstrom: each turn adds five digits and more
        vacuum = np.where(air < AIR_FROM, air, air * refraction(np.maximum(vacuum, AIR_FROM)))
    return vacuum


def at_rest(given: NDArray[np.floating], is_what: Wavelength, velocity: float = 0.0) -> NDArray[np.float64]:
    """(P,) vacuum Angstrom at rest.

    Args:
        given: (P,) as the files have it.
        is_what: unit, medium, frame.
        velocity: of the star, km/s, where the frame is barycentric.
    """
    wavelength = given.astype(np.float64) * Unit(is_what.unit).to("Angstrom")
    if is_what.medium == "air":
        wavelength = to_vacuum(wavelength)
    moves = is_what.frame == "barycentric"
    return np.asarray(wavelength / (1.0 + velocity / LIGHT) if moves else wavelength, dtype=np.float64)
