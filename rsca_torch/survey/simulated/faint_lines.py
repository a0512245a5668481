"""Faint molecular lines that no line list has: they follow temperature and abundances that nobody measures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.survey.apogee import CHIPS, N_PIXELS, wavelength
from rsca_torch.survey.simulated.spectra import LINE_WIDTH, Flux, bin_at, imprint, product

__all__ = ["FaintLines"]

HIDDEN = "HIDDEN_X_H"  # (N, 3) dex, as of now
#: Relative change of optical depth per +100 K, the classes of lines: molecules vanish in hotter stars.
_SLOPES = (-0.05, -0.12, -0.20, -0.30)
#: Change of the three abundances per dex of log g: two are mixed into the atmosphere on the way up, one is not.
_MIXING = (0.10, -0.15, 0.0)
_WORLD = 16_500  # seed of the lines: they are the same in every survey, as the real ones are


@dataclass(frozen=True)
class FaintLines:
    """Many weak lines between and under those of the line list.

    Attributes:
        number: of lines, of like shares of three hidden species; 0: none.
        depth: mean optical depth of a line at 4500 K and solar abundance.
        spread: of each hidden abundance at birth, over stars and clusters, dex.
        intra_cluster: of each at birth inside a cluster, dex.
        mixing: spread from star to star of how far two of them are mixed up, dex; siblings do not share it.

    Raises:
        InputError: a negative number of lines.
    """

    number: int = 0
    depth: float = 0.01
    spread: float = 0.03
    intra_cluster: float = 0.018
    mixing: float = 0.08

    def __post_init__(self) -> None:
        if self.number < 0:
            raise InputError(f"faint_lines.number must not be negative, got {self.number}")

    def draw(self, stars: Table, rng: np.random.Generator) -> None:
        """Give every star its hidden abundances, as a new column HIDDEN_X_H in place; siblings share those at birth."""
        _, star = np.unique(stars["APOGEE_ID"], return_inverse=True)
        listed = stars["CLUSTER"] != ""
        if "INTERLOPER" in stars.colnames:
            listed &= ~stars["INTERLOPER"]
        born = np.where(listed, stars["CLUSTER"], stars["APOGEE_ID"])
        _, family = np.unique(born, return_inverse=True)
        at_birth = rng.normal(0, self.spread, (int(family.max()) + 1, 3))[family]
        own = rng.normal(0, self.intra_cluster, (int(star.max()) + 1, 3))[star]
        by_chance = rng.normal(0, self.mixing, (int(star.max()) + 1, 3))[star] * (np.array(_MIXING) != 0)
        mixed = (np.asarray(stars["LOGG"]) - 2.4)[:, None] * np.array(_MIXING) + by_chance
        stars[HIDDEN] = at_birth + own + mixed

    def absorb(self, flux: Flux, stars: Table) -> Flux:
        """(n, 8575) the flux with these lines in it; what they take away on the whole the normalisation gives back.

        Args:
            flux: (n, 8575) the stars without them.
            stars: n observations, with HIDDEN_X_H.
        """
        warmer = (np.asarray(stars["TEFF"])[:, None] - 4500) / 100
        heat = np.exp(np.clip(warmer, -8, 8) * np.array(_SLOPES))
        strength = 10 ** np.asarray(stars[HIDDEN])[:, :, None] * heat[:, None, :]
        tau = product(strength.reshape(len(stars), -1), _templates(self.number, self.depth)).astype(np.float32)
        for chip in CHIPS.values():
            tau[:, slice(*chip)] -= tau[:, slice(*chip)].mean(axis=1, keepdims=True)
        return np.asarray(flux * np.exp(-tau), dtype=np.float32)


@lru_cache(maxsize=4)
def _templates(number: int, depth: float) -> NDArray[np.float64]:
    """(12, 8575) optical depth of the lines of each species and slope in a star of 4500 K and solar abundances."""
    rng = np.random.default_rng(_WORLD)
    templates = np.zeros((3 * len(_SLOPES), N_PIXELS), dtype=np.float32)
    pixel = np.concatenate([np.arange(*chip) for chip in CHIPS.values()])
    angstrom = wavelength()[rng.choice(pixel, number)] + rng.uniform(-0.1, 0.1, number)
    kind = rng.integers(0, len(templates), number)
    height = rng.exponential(depth, number)
    width = LINE_WIDTH / np.median(np.diff(wavelength()))
    for row in range(len(templates)):
        of = np.flatnonzero(kind == row)
        imprint(templates[row : row + 1], bin_at(angstrom[of])[None], height[of][None], width, 8)
    return templates.astype(np.float64)
