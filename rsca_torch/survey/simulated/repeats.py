"""Further observations of stars: what two observations of one star share, and what each has of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from rsca_torch.errors import InputError
from rsca_torch.survey.simulated.pointings import MAX_VISITS, OF_FIELD
from rsca_torch.survey.simulated.spectra import OfStar

__all__ = ["REPEAT", "Repeats"]

#: The role of a further observation.
REPEAT = "repeat"


@dataclass(frozen=True)
class Repeats:
    """What further observations of field stars and members are like.

    Two observations of a star always share what the star is: abundances, temperature, gravity, what the line list
    lacks, a companion, and the gas before it. They never share fibres, nights, what the air leaves, persistence, sky
    lines, the error of the velocity, noise and S/N. What is shared in part is said by shares of the variance, 0 to 1.

    Attributes:
        signal_to_noise: smallest and largest S/N, times that of the star's first observation.
        shared_turbulence: of the turbulence that differs from star to star.
        shared_broadening: of the line width that differs from star to star.
        shared_continuum: of the normalisation's error, which follows the spectrum's shape in part.

    Raises:
        InputError: a share is not 0 to 1, or a further observation would have the better S/N.
    """

    signal_to_noise: tuple[float, float] = (0.3, 0.95)
    shared_turbulence: float = 1.0
    shared_broadening: float = 1.0
    shared_continuum: float = 0.5

    def __post_init__(self) -> None:
        for name in ("shared_turbulence", "shared_broadening", "shared_continuum"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"again.{name} must be a share of the variance, 0 to 1, got {getattr(self, name)}")
        low, high = self.signal_to_noise
        if not 0 < low <= high < 1:
            raise InputError(
                f"again.signal_to_noise must be two rising shares between 0 and 1 of the first observation's S/N, "
                f"which is the star's best, got {list(self.signal_to_noise)}"
            )

    def draw(self, stars: Table, number: int, rng: np.random.Generator) -> Table:
        """Draw further observations of field stars and members, each in a field of the sky that is new to its star.

        Args:
            stars: the survey's other observations.
            number: how many; a star may get several.
            rng: source of every draw.

        Returns:
            ``number`` rows.

        Raises:
            InputError: a star would be observed more often than there are fields.
        """
        again = stars[rng.choice(np.flatnonzero(np.isin(stars["ROLE"], ["field", "member"])), number)]
        again["ROLE"] = REPEAT
        again["SNR"] *= rng.uniform(*self.signal_to_noise, number)
        again["FIBER"] = rng.integers(1, 301, (number, MAX_VISITS))
        elsewhere = stars[stars["ROLE"] == "field"]
        names = np.asarray(elsewhere["FIELD"])
        seen = {star: set(stars["FIELD"][stars["APOGEE_ID"] == star]) for star in set(again["APOGEE_ID"])}
        for row in rng.permutation(number):
            fields = seen[again["APOGEE_ID"][row]]
            new = np.flatnonzero(~np.isin(names, list(fields)))
            if not len(new):
                raise InputError(
                    f"simulation.repeats={number} observes a star more often than there are fields "
                    f"({len(set(names))}); fewer repeats or a larger simulation.n_field expected"
                )
            chosen = elsewhere[int(rng.choice(new))]
            for column in OF_FIELD:
                again[column][row] = chosen[column]
            fields.add(chosen["FIELD"])
        return again

    def share(self, own: OfStar, stars: Table, common: dict[str, OfStar], rng: np.random.Generator) -> OfStar:
        """Give further observations what they share with the others of their star.

        Args:
            own: n draws, one an observation.
            stars: n observations.
            common: id -> what all observations of the star share; stars that are seen here first are added.
            rng: source of what is common.

        Returns:
            n draws; those of first observations as they were.
        """
        shares = np.array([self.shared_turbulence, self.shared_broadening, self.shared_continuum])
        mixed = OfStar(*(values.copy() for values in own))
        fresh = OfStar(*(rng.standard_normal(values.shape) for values in own))
        for row, star in enumerate(stars["APOGEE_ID"].tolist()):
            if star in common:
                drawn = zip(shares, common[star], own, strict=True)
                for values, (share, of_all, of_one) in zip(mixed, drawn, strict=True):
                    values[row] = np.sqrt(share) * of_all + np.sqrt(1 - share) * of_one[row]
            else:  # what is common, given the first observation: any two of a star then correlate by the share
                drawn = zip(shares, own, fresh, strict=True)
                common[star] = OfStar(*(np.sqrt(s) * one[row] + np.sqrt(1 - s) * new[row] for s, one, new in drawn))
        return mixed
