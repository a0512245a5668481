"""Groups of siblings outside clusters: wide binaries, and moving groups scattered over the sky."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.survey.simulated.pointings import MAX_VISITS, OF_FIELD, star_ids
from rsca_torch.survey.simulated.stars import Population

__all__ = ["KINDS", "Groups", "is_grouped"]

#: The role of a star -> the list that names it, beside the tree.
KINDS = {"wide_binary": "binaries.csv", "moving_group": "moving_groups.csv"}

_APART = 0.02  # degrees on the sky: spread of a wide binary's stars about each other
_NEARBY = 0.3  # of a moving group's star about the field star whose place it shares


@dataclass(frozen=True)
class Groups:
    """Further stars that were born together; what the survey observes besides is the same to the last bit.

    Siblings share their birth as members of a cluster do. Those of a wide binary share a field of the sky, its nights
    and the extinction too; those of a moving group do not.

    Attributes:
        pairs: wide binaries of two giants.
        moving_groups: how many.
        members: of each moving group.
        velocity: spread of the radial velocity inside a wide binary and inside a moving group, km/s.

    Raises:
        InputError: a negative number, or a moving group of fewer than two stars.
    """

    pairs: int = 0
    moving_groups: int = 0
    members: int = 10
    velocity: tuple[float, float] = (0.5, 1.5)

    def __post_init__(self) -> None:
        if self.pairs < 0 or self.moving_groups < 0 or self.members < 2:
            raise InputError(
                "groups: pairs and moving_groups must not be negative, and members at least 2, got "
                f"{self.pairs}, {self.moving_groups}, {self.members}"
            )

    def __bool__(self) -> bool:
        return self.pairs + self.moving_groups > 0

    def draw(self, stars: Table, population: Population, rng: np.random.Generator) -> Table:
        """Draw the stars of all groups, each in a field of the sky that the survey observes.

        Args:
            stars: the survey's other observations.
            population: whose stars they are.
            rng: source of every draw.

        Returns:
            One row a star; the column GROUP names its group.
        """
        of = np.repeat(
            np.arange(self.pairs + self.moving_groups), [2] * self.pairs + [self.members] * self.moving_groups
        )
        binary = of < self.pairs
        siblings = population.siblings(of, np.where(binary, *self.velocity), binary, rng)
        siblings["ROLE"] = np.where(binary, *KINDS).astype("U20")
        siblings["GROUP"] = [f"B{n + 1:04d}" if n < self.pairs else f"MG{n + 1 - self.pairs:02d}" for n in of]
        elsewhere = stars[stars["ROLE"] == "field"]
        alone, together = rng.integers(0, len(elsewhere), (2, len(of)))
        place = elsewhere[np.where(binary, together[of], alone)]
        for column in OF_FIELD:
            siblings[column] = place[column]
        siblings["FIBER"] = rng.integers(1, 301, (len(of), MAX_VISITS))
        offset = rng.normal(0, np.where(binary, _APART, _NEARBY), (2, len(of)))
        lat = np.clip(place["GLAT"] + offset[1], -89.0, 89.0)
        sky = SkyCoord((place["GLON"] + offset[0] / np.cos(np.radians(lat))) % 360, lat, unit="deg", frame="galactic")
        siblings["GLON"], siblings["GLAT"] = sky.l.deg, sky.b.deg
        siblings["RA"], siblings["DEC"] = sky.icrs.ra.deg, sky.icrs.dec.deg
        siblings["APOGEE_ID"] = star_ids(sky)
        return siblings

    def write(self, root: Path, stars: Table) -> None:
        """The lists of these stars, one a kind, as CSV with the columns APOGEE_ID and GROUP."""
        for role, name in KINDS.items():
            listed = stars[stars["ROLE"] == role]
            if len(listed):
                listed["APOGEE_ID", "GROUP"].write(root / name, format="ascii.csv")


def is_grouped(stars: Table) -> NDArray[np.bool_]:
    """(N,) True for stars of wide binaries and moving groups."""
    return np.isin(stars["ROLE"], [*KINDS])
