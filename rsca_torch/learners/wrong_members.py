"""Members that are none: so far from their cluster that they must not say how siblings scatter."""

from __future__ import annotations

from functools import lru_cache

import torch
from scipy.special import chdtri  # not scipy.stats, which takes as long to import as torch
from torch import Tensor

from rsca_torch.learners.groups import Groups

__all__ = ["farthest", "squared_distances"]

SELDOM = 0.001  # of right members, whose scatter is normal, that may be taken for wrong ones


@lru_cache
def farthest(trim: float, n_dimensions: int) -> float:
    """Times the median squared distance that a right member may be from its cluster.

    `trim`, but in few dimensions, where squared distances scatter more, so far that one right member in a thousand is
    beyond.
    """
    return max(trim, float(chdtri(n_dimensions, SELDOM) / chdtri(n_dimensions, 0.5)))


def squared_distances(along: Tensor, groups: Groups, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Of members (M, D), along axes in which siblings have unit variance, from the median of their cluster's kept ones.

    A median of n stars has an error of its own, and is nearer to those it is of: with n / (n - 1) for them and
    n / (n + 1) for others all have the expectation D. Of a cluster of which none is kept all count.

    Returns:
        (M,) float64; and (M,) bool, whose distance says something: not that of a star alone from itself.
    """
    number = groups.number
    reference = kept | (torch.bincount(number[kept], minlength=len(groups)) == 0)[number]
    here = groups if reference.all() else groups.some(reference)
    size = torch.bincount(number[reference], minlength=len(groups))[number].to(along.dtype)
    factor = size / torch.where(reference, (size - 1).clamp(min=1), size + 1)
    return (along - here.medians(along[reference])[number]).square().sum(1) * factor, ~(reference & (size == 1))
