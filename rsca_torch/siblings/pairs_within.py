"""Which pairs of embedded stars may be compared, block by block."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.spectra.stars import Stars

__all__ = ["PairsWithin", "limits_of"]

ROLES = ("velocity", "extinction")


def limits_of(pairs: Callable[..., Tensor]) -> dict[str, float | None]:
    """The limits that a rule of pairs has, as a model's calibration tells them.

    >>> from rsca_torch import allowed_pairs
    >>> limits_of(allowed_pairs)
    {'max_velocity': 5.0, 'max_extinction': 0.05}
    """
    known = inspect.signature(pairs).parameters
    return {f"max_{role}": known[f"max_{role}"].default for role in ROLES if f"max_{role}" in known}


@dataclass(frozen=True)
class PairsWithin:
    """A rule of pairs on some stars.

    Attributes:
        rule: as `rsca_torch.allowed_pairs`.
        velocity: (N,) km/s.
        extinction: (N,) mag.

    Examples:
        >>> from rsca_torch import allowed_pairs
        >>> stars = Stars.of({"id": [1, 2, 3], "velocity": [0.0, 4.0, 9.0], "extinction": [0.1, 0.1, 0.1]})
        >>> PairsWithin.of(allowed_pairs, stars)(np.array([0]), np.array([1, 2]))
        tensor([[ True, False]])
    """

    rule: Callable[..., Tensor]
    velocity: NDArray[np.float64]
    extinction: NDArray[np.float64]

    @classmethod
    def of(cls, rule: Callable[..., Tensor], stars: Stars) -> PairsWithin:
        """For a star table.

        Raises:
            InputError: no column plays a role that is compared.
        """
        limits, values = limits_of(rule), []
        for role in ROLES:
            idle = limits.get(f"max_{role}", 0.0) is None
            if not idle and not stars.has(role):
                raise InputError(
                    f"no column of the star table plays the role {role}, by which pairs are compared: compare without, "
                    f"pairs.max_{role}=null (pairs=all: without any), or name one as survey.roles.{role}=COLUMN and "
                    "ingest again"
                )
            values.append(np.full(len(stars), np.nan) if idle else stars.values(role))
        return cls(rule, *values)

    @property
    def takes_all(self) -> bool:
        """Whether nothing is left out."""
        limits = limits_of(self.rule)
        return len(limits) == len(ROLES) and set(limits.values()) == {None}

    @property
    def order(self) -> NDArray[np.int64]:
        """(N,) rows by velocity."""
        return np.argsort(self.velocity, kind="stable")

    def __call__(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> Tensor:
        """(m,), (b,) rows -> (m, b) bool."""
        limit = limits_of(self.rule).get("max_velocity")
        if limit is not None and self._too_far(one, other, limit):
            return torch.zeros(len(one), len(other), dtype=torch.bool)
        given: list[Any] = [values[rows] for values in (self.velocity, self.extinction) for rows in (one, other)]
        return self.rule(*given)

    def _too_far(self, one: NDArray[np.int64], other: NDArray[np.int64], limit: float) -> bool:
        """Whether no velocity of the one is near one of the other; unknown ones are near none."""
        a, b = self.velocity[one], self.velocity[other]
        a, b = a[np.isfinite(a)], b[np.isfinite(b)]
        return not len(a) or not len(b) or bool(a.min() - b.max() >= limit or b.min() - a.max() >= limit)
