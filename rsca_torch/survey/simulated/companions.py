"""Binaries: stars with the light of a companion in their spectra, which moves from one observation to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.survey.simulated.spectra import LIGHT, LOG_STEP, Flux

__all__ = ["Companions"]

_PRIMARY = 0.4  # of the difference of velocities is the giant's own motion
_TURNS = "COMPANION_VELOCITY"  # km/s, of the companion against the giant, in each observation


@dataclass(frozen=True)
class Companions:
    """Which stars are binaries, and what that does to them. A companion has its giant's composition.

    Attributes:
        share: of the stars.
        light: smallest and largest share of the light that is the companion's; uniform in the logarithm.
        hotter: smallest and largest difference of temperature to the giant, K.
        velocity: spread of the amplitude of the difference of velocities, km/s.
        broader: spread of what motion between visits adds to the line width, relative.

    Raises:
        InputError: a share is not 0 to 1.
    """

    share: float = 0.0
    light: tuple[float, float] = (0.01, 0.2)
    hotter: tuple[float, float] = (100.0, 500.0)
    velocity: float = 15.0
    broader: float = 0.03

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError(f"companions.share must be 0 to 1, got {self.share}")

    def draw(self, stars: Table, rng: np.random.Generator) -> None:
        """Make some stars binaries, as new columns of ``stars`` in place; observations of one star are alike.

        The columns are BINARY, COMPANION_LIGHT (0 without one), COMPANION_TEFF (K), ORBIT (km/s) and, of each
        observation, COMPANION_VELOCITY (km/s) and BROADER (relative width of lines).
        """
        _, star = np.unique(stars["APOGEE_ID"], return_inverse=True)
        n = int(star.max()) + 1
        binary = rng.random(n) < self.share
        of_star = {
            "BINARY": binary,
            "COMPANION_LIGHT": np.where(
                binary, np.exp(rng.uniform(np.log(self.light[0]), np.log(self.light[1]), n)), 0.0
            ),
            "ORBIT": np.where(binary, np.abs(rng.normal(0, self.velocity, n)), 0.0),
        }
        for name, values in of_star.items():
            stars[name] = values[star]
        stars["COMPANION_TEFF"] = stars["TEFF"] + rng.uniform(*self.hotter, n)[star]
        stars[_TURNS] = 0.0
        self.move(stars, rng)

    def move(self, stars: Table, rng: np.random.Generator) -> None:
        """Observe binaries at other times, in place: velocities and line widths change."""
        n = len(stars)
        turned = stars["ORBIT"] * np.cos(rng.uniform(0, 2 * np.pi, n))
        stars["VHELIO"] -= _PRIMARY * (turned - stars[_TURNS])
        stars[_TURNS] = turned
        stars["BROADER"] = np.where(stars["BINARY"], np.abs(rng.normal(0, self.broader, n)), 0.0)

    def labels(self, stars: Table) -> Table:
        """The companions of n binaries, as stars: hotter, and above the giants' range of gravities."""
        companions = stars.copy()
        companions["TEFF"] = stars["COMPANION_TEFF"]
        companions["LOGG"] = np.maximum(stars["LOGG"], 3.0)
        return companions

    def dilute(self, flux: Flux, companion: Flux, stars: Table) -> Flux:
        """(n, 8575) both stars' light, the continuum 1, in the giant's rest frame.

        Args:
            flux: (n, 8575) the giants alone.
            companion: (n, 8575) the companions alone, at rest.
            stars: n binaries.
        """
        light = np.asarray(stars["COMPANION_LIGHT"], dtype=np.float32)[:, None]
        pixels = np.asarray(stars[_TURNS]) / (LIGHT * LOG_STEP * np.log(10))
        return (1 - light) * flux + light * _moved(companion, pixels)


def _moved(flux: Flux, pixels: NDArray[np.float64]) -> Flux:
    """Each row further to the red by so many pixels; between two pixels in proportion."""
    whole = np.floor(pixels).astype(int)
    part = (pixels - whole).astype(np.float32)
    near, far = (np.stack([np.roll(row, n) for row, n in zip(flux, whole + k, strict=True)]) for k in (0, 1))
    return np.asarray((1 - part)[:, None] * near + part[:, None] * far)
