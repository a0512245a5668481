"""The doppelganger rate: how many strangers look as alike as siblings do (paper, section 4.2; docs/maths.md, 5)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.learners.distances import sibling_distances, stranger_distances
from rsca_torch.spectra.arrays import Array, as_tensor, in_unit

__all__ = [
    "allowed_pairs",
    "doppelganger_rate",
    "median_distance",
    "rate_below",
]


def allowed_pairs(
    member_velocity: Array,
    field_velocity: Array,
    member_extinction: Array,
    field_extinction: Array,
    max_velocity: float | None = 5.0,
    max_extinction: float | None = 0.05,
) -> Tensor:
    """The pairs so alike in velocity and extinction that neither can tell siblings from strangers (section 4.2).

    A pair with an unknown velocity or extinction (NaN, masked) is not allowed, where that is compared. An astropy
    Quantity is converted.

    Args:
        member_velocity: (M,) radial velocities of the cluster members, km/s.
        field_velocity: (F,) likewise of the field stars.
        member_extinction: (M,) extinctions of the cluster members, mag.
        field_extinction: (F,) likewise of the field stars.
        max_velocity: allowed where the difference is less, km/s. None: whatever the velocities.
        max_extinction: allowed where the difference is less, mag. None: whatever the extinctions.

    Returns:
        (M, F) bool.

    Raises:
        InputError: where a limit is not positive, so that no pair could be allowed.

    Examples:
        >>> allowed_pairs(np.array([10.0]), np.array([12.0, 14.0, 30.0]), np.array([0.1]), np.array([0.11, 0.3, 0.1]))
        tensor([[ True, False, False]])
    """
    if not all(limit is None or limit > 0 for limit in (max_velocity, max_extinction)):
        raise InputError(f"max_velocity={max_velocity} and max_extinction={max_extinction} must be positive")

    def close(members: Array, field: Array, limit: float | None, unit: str, what: str) -> Tensor:
        if limit is None:
            return torch.ones(len(members), len(field), dtype=torch.bool)
        member, stranger = (as_tensor(in_unit(values, unit, what)).double() for values in (members, field))
        return (member[:, None] - stranger).abs() < limit

    return close(member_velocity, field_velocity, max_velocity, "km/s", "velocity") & close(
        member_extinction, field_extinction, max_extinction, "mag", "extinction"
    )


def doppelganger_rate(
    embedded_members: Array, embedded_field: Array, allowed: Array | None = None, strict: bool = False
) -> float:
    """Share of a cluster's allowed (member, field star) pairs no farther apart than its median sibling pair.

    Args:
        embedded_members: (n, D) the members of one cluster, n >= 2.
        embedded_field: (F, D) field stars.
        allowed: (n, F) bool, the pairs that may be compared. None: all.
        strict: count those that are nearer, as the authors' program does, and not those just as far.

    Returns:
        The rate, in 0 to 1; NaN where no pair is allowed.

    Raises:
        InputError: for fewer than two members, shapes that disagree, or values that are not finite.

    Examples:
        >>> members, field = np.array([[0.0], [1.0], [2.0]]), np.array([[0.5], [4.0], [9.0]])
        >>> doppelganger_rate(members, field)
        0.2222222222222222
        >>> doppelganger_rate(members, field, allowed=np.array([[True, True, False]] * 3))
        0.3333333333333333
    """
    distances = stranger_distances(embedded_members, embedded_field, allowed)
    return rate_below(distances, median_distance(sibling_distances(embedded_members)), strict)


def rate_below(distances: Tensor, median: float, strict: bool = False) -> float:
    """Share of the strangers' distances (pairs,) that are no larger than the median; strict: smaller. NaN of none."""
    near = distances < median if strict else distances <= median
    return int(near.sum()) / len(near) if len(near) else math.nan


def median_distance(distances: Tensor) -> float:
    """The median, of an even number the mean of the middle two."""
    return float(np.median(distances.cpu().numpy()))
