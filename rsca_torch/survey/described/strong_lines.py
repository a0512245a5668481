"""Where the strongest lines lie: a cheap look at whether wavelengths are what they are said to be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rsca_torch.survey.described.wavelength import LIGHT
from rsca_torch.survey.reader import Measured

__all__ = ["doubt", "line_velocity"]

#: Vacuum Angstrom: H-beta, Mg b, Na D, H-alpha, the calcium triplet.
LINES = (4862.68, 5168.76, 5174.13, 5185.05, 5891.58, 5897.56, 6564.61, 8500.36, 8544.44, 8664.52)
#: km/s: where lines are looked for, how wide they are taken to be, what is theirs and what is beside them.
REACH, STEP, WIDTH, BESIDE = 400.0, 4.0, 60.0, 900.0
AIR = 83.0  # km/s between air and vacuum, from 4,800 to 9,000 Angstrom within 1
FAR, SCATTERED, FEWEST = 30.0, 20.0, 3


def line_velocity(wavelength: NDArray[np.float64], measured: Measured) -> float:
    """Velocity at which the strongest lines are deepest, km/s; NaN where the spectrum has none of them.

    Args:
        wavelength: (P,) vacuum Angstrom.
        measured: normalised to its continuum.
    """
    valid = np.isfinite(measured.flux) if measured.valid is None else measured.valid & np.isfinite(measured.flux)
    shifts = np.arange(-REACH, REACH + STEP, STEP)
    depth, seen = np.zeros(len(shifts)), 0
    for line in LINES:
        velocity = LIGHT * (wavelength / line - 1.0)
        near = valid & (np.abs(velocity) < BESIDE)
        if near.sum() < 10 or velocity[near].min() > -REACH or velocity[near].max() < REACH:
            continue
        flux, at = measured.flux[near], velocity[near]
        weight = np.exp(-0.5 * ((at - shifts[:, None]) / WIDTH) ** 2)
        depth += np.median(flux) - (weight @ flux) / np.maximum(weight.sum(axis=1), 1e-9)
        seen += 1
    return float(shifts[int(depth.argmax())]) if seen else np.nan


def doubt(velocities: Sequence[float], medium: str) -> str:
    """What the lines say against the description, one sentence; '' where they agree, or are too few.

    Args:
        velocities: of some stars, where their lines lie after all corrections, km/s; NaN where not known.
        medium: as the description says.

    >>> doubt([-84.0, -80.0, -82.0], "vacuum")  # doctest: +ELLIPSIS
    'the strong lines of 3 spectra lie at -82 km/s (median), as where air is taken for vacuum: is ...medium=air?'
    >>> doubt([3.0, -4.0, 0.0], "air")
    ''
    """
    known = np.array([value for value in velocities if np.isfinite(value)])
    if len(known) < FEWEST:
        return ""
    middle = float(np.median(known))
    scatter = 1.4826 * float(np.median(np.abs(known - middle)))
    told = f"the strong lines of {len(known)} spectra lie at {middle:.0f} km/s (median)"
    if scatter > SCATTERED:
        return f"{told} with a scatter of {scatter:.0f} km/s: are they at rest, and is wavelength.velocity theirs?"
    if abs(middle) <= FAR:
        return ""
    other = {"vacuum": (-AIR, "air is taken for vacuum", "air"), "air": (AIR, "vacuum is taken for air", "vacuum")}
    place, said, cure = other[medium]
    if abs(middle - place) <= FAR:
        return f"{told}, as where {said}: is wavelength.medium={cure}?"
    return f"{told}, not at 0: are unit, medium and frame of the wavelengths what the description says?"
