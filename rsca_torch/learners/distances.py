"""Distances of embedded stars: siblings' and strangers', pair by pair."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.spectra.arrays import Array, all_finite, as_tensor

__all__ = ["distances_of_allowed", "sibling_distances", "sibling_overlap", "stranger_distances"]

LARGEST = 1e300  # of siblings' distances: a mean of two is a number
SQUARES = 1e-140, 1e150  # lengths whose squares float64 holds in full
CHUNK = 2**17  # differences held at a time, whatever the number of pairs: a megabyte


def sibling_distances(embedded_members: Array) -> Tensor:
    """Distances between the members of one cluster.

    Args:
        embedded_members: (n, D), n >= 2.

    Returns:
        (n (n - 1) / 2,) float64.

    Raises:
        InputError: for fewer than two members, or values that are not finite, or too large to be compared.

    Examples:
        >>> sibling_distances(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 0.0]]))
        tensor([5., 3., 4.], dtype=torch.float64)
    """
    if len(embedded_members) < 2:
        raise InputError(f"a cluster needs at least two members to have a sibling pair, got {len(embedded_members)}")
    members = as_tensor(embedded_members).double()
    _require_finite(members)
    i, j = torch.triu_indices(len(members), len(members), offset=1)
    return _within_range(_lengths(members[i] - members[j]))


def stranger_distances(embedded_members: Array, embedded_field: Array, allowed: Array | None = None) -> Tensor:
    """Distances of the allowed (member, field star) pairs, member by member.

    Direct differences in float64, never |a|^2 + |b|^2 - 2ab: near-identical stars are the point. Only allowed pairs
    are visited, a chunk of one member's at a time, so that nothing of size n x F x D is made.

    Args:
        embedded_members: (n, D).
        embedded_field: (F, D).
        allowed: (n, F) bool. None: every pair.

    Returns:
        (pairs,) float64.

    Raises:
        InputError: for shapes that disagree, or values that are not finite, or too large to be compared.

    Examples:
        >>> members, field = np.array([[0.0], [1.0]]), np.array([[3.0], [5.0]])
        >>> stranger_distances(members, field, allowed=np.array([[True, True], [False, True]]))
        tensor([3., 5., 4.], dtype=torch.float64)
    """
    members, field = as_tensor(embedded_members).double(), as_tensor(embedded_field).double()
    if members.ndim != 2 or field.ndim != 2 or members.shape[1] != field.shape[1]:
        raise InputError(f"members (n, D) and field (F, D) expected, got {tuple(members.shape)}, {tuple(field.shape)}")
    _require_finite(members)
    _require_finite(field)
    if allowed is None:
        allowed = torch.ones(len(members), len(field), dtype=torch.bool)
    if tuple(allowed.shape) != (len(members), len(field)):
        raise InputError(f"allowed must have shape {(len(members), len(field))}, got {tuple(allowed.shape)}")
    return distances_of_allowed(members, field, as_tensor(allowed).bool())


def distances_of_allowed(members: Tensor, field: Tensor, allowed: Tensor) -> Tensor:
    """As `stranger_distances`, of float64 embeddings that are known to be finite."""
    size = max(1, CHUNK // max(1, members.shape[1]))
    distances = field.new_empty(int(allowed.sum()))
    done = 0
    for member, row in zip(members, allowed.cpu().numpy(), strict=True):
        compared = torch.from_numpy(np.flatnonzero(row)).to(field.device)  # NumPy finds them several times as fast
        for chunk in torch.split(compared, size):
            distances[done : done + len(chunk)] = _lengths(field.index_select(0, chunk).sub_(member))
            done += len(chunk)
    return distances


def sibling_overlap(siblings: Tensor, strangers: Tensor) -> float:
    """Share of (sibling pair, stranger) in which the stranger is no farther than the sibling (docs/maths.md, 9.1).

    As the doppelganger rate, but of every sibling pair, not of the median one: it says something where the rate is 0.

    Args:
        siblings: (S,) distances of sibling pairs.
        strangers: (T,) distances of strangers.

    Returns:
        0 to 1, lower is better; NaN where there is no stranger.

    Examples:
        >>> sibling_overlap(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 3.0, 4.0, 5.0]))
        0.25
    """
    rising = strangers.sort().values
    return float(torch.searchsorted(rising, siblings, right=True).double().mean() / len(strangers))


def _require_finite(embedded: Tensor) -> None:
    if not all_finite(embedded):
        raise InputError(f"{int((~embedded.isfinite()).sum())} embedded values are not finite: leave those stars out")


def _within_range(siblings: Tensor) -> Tensor:
    if not (siblings < LARGEST).all():
        raise InputError(
            f"siblings are up to {float(siblings.max()):.2g} apart, too far for their median to be a number: give "
            "embeddings in another unit"
        )
    return siblings


def _lengths(differences: Tensor) -> Tensor:
    """One formula for siblings and strangers, so that equal differences tie."""
    lengths: Tensor = torch.linalg.vector_norm(differences, dim=1)
    least, largest = SQUARES
    odd = ~((lengths > least) & (lengths < largest))
    if odd.any():  # of a length that is no number, or 0, the largest coordinate is taken out before it is squared
        some = differences[odd]
        unit = some.detach().abs().amax(1, keepdim=True) if some.shape[1] else some.new_ones(len(some), 1)
        unit = torch.where(unit > 0, unit, 1)
        lengths = lengths.index_put((odd,), unit[:, 0] * torch.linalg.vector_norm(some / unit, dim=1))
    return lengths
