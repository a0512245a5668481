"""What stars are born with, and what the giant branch makes of their carbon and nitrogen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rsca_torch.survey.simulated.tables import SPECIES

__all__ = ["ELEMENT_INDEX", "ELEMENT_OF", "birth", "expected", "present"]

Array = NDArray[np.float64]

#: species -> its column in every (N, 26) array of abundances here.
ELEMENT_INDEX = {str(name): column for column, name in enumerate(SPECIES["element"])}

#: species -> the column of the element it measures: CI is carbon, TiII titanium.
ELEMENT_OF = np.array([ELEMENT_INDEX[str(name)] for name in SPECIES["of"]])

_CARBON = [ELEMENT_INDEX["C"], ELEMENT_INDEX["CI"]]
_NITROGEN = ELEMENT_INDEX["N"]


def birth(fe_h: Array, alpha_m: Array, age: Array, rng: np.random.Generator) -> Array:
    """Draw the composition at birth: a few dimensions that elements share, and a little of their own.

    Args:
        fe_h: (N,) [Fe/H], dex.
        alpha_m: (N,) [alpha/M], dex.
        age: (N,) Gyr.
        rng: source of the draws.

    Returns:
        (N, 26) [X/H] in the order of the species table, dex.
    """
    shared = rng.standard_normal((len(fe_h), 1))
    own = rng.standard_normal((len(fe_h), len(SPECIES)))[:, ELEMENT_OF]
    return np.asarray(
        expected(fe_h, alpha_m)
        + (age[:, None] - 5) * SPECIES["age_slope"]
        + shared * SPECIES["odd_z"]
        + own * SPECIES["individual"]
    )


def expected(fe_h: Array, alpha_m: Array) -> Array:
    """(N, 26) [X/H] that go with [Fe/H] and [alpha/M], (N,) each, in the mean of the Galaxy's disc, dex."""
    return np.asarray(fe_h[:, None] * (1 + SPECIES["fe_slope"]) + alpha_m[:, None] * SPECIES["alpha"])


def present(at_birth: Array, log_g: Array, mass: Array | float, clump: NDArray[np.bool_] | bool) -> Array:
    """Mix the products of hydrogen burning into the atmosphere.

    The first dredge-up goes deeper in heavier stars; light, metal-poor stars mix once more above the bump of the giant
    branch (log g about 2.4), and clump stars have passed it. So carbon and nitrogen tell mass and evolution, not birth.

    Args:
        at_birth: (N, 26) [X/H] at birth, dex.
        log_g: (N,) surface gravity, dex.
        mass: (N,) solar masses; or one for all.
        clump: (N,) whether the star burns helium in the red clump; or one for all.

    Returns:
        (N, 26) [X/H] now, dex.
    """
    fe_h = at_birth[:, ELEMENT_INDEX["Fe"]]
    first = np.clip(0.25 * (mass - 0.8), 0.0, 0.35)
    above_bump = np.where(clump, 1.0, np.clip((2.5 - log_g) / 0.4, 0.0, 1.0))
    extra = above_bump * np.clip(0.05 - 0.15 * fe_h, 0.0, 0.25) * np.clip(2.2 - mass, 0.0, 1.2)
    now = at_birth.copy()
    now[:, _CARBON] -= (0.04 + 0.5 * first + 0.6 * extra)[:, None]
    now[:, _NITROGEN] += 0.10 + 1.1 * first + extra
    return now
