"""What log likelihood ratios cost, and what the best map of scores to them would (docs/maths.md, section 15)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import xlogy
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.spectra.arrays import Array, as_tensor

__all__ = ["Pairs", "Scores", "able_of", "cllr", "minimum_cllr", "pairs_of"]

Scores = Mapping[str, tuple[Tensor, Tensor]]  # by cluster: of its sibling pairs (S,), of its allowed strangers (T,)


def cllr(siblings: Array, strangers: Array) -> float:
    """The cost of log likelihood ratios, in bits: 0 for what is sure and right, 1 for what says nothing (eq. 15.1).

    Args:
        siblings: (S,) natural log likelihood ratios of sibling pairs.
        strangers: (T,) likewise of strangers.

    Returns:
        0 or more, NaN where there is no pair of a kind. Above 1 is worse than to say nothing.

    Examples:
        >>> print(f"{cllr([0.0], [0.0, 0.0]):.2f} {cllr([5.0], [-5.0]):.3f} {cllr([-5.0], [5.0]):.2f}")
        1.00 0.010 7.22
    """
    one, other = (as_tensor(np.asarray(ratios)).double() for ratios in (siblings, strangers))
    if not (len(one) and len(other)):
        return math.nan
    cost = torch.nn.functional.softplus(-one).mean() + torch.nn.functional.softplus(other).mean()
    return float(cost) / (2 * math.log(2))


class Pairs(NamedTuple):
    """The pairs of several clusters, each kind with a total weight of 1, shared among clusters by members."""

    score: NDArray[np.float64]
    is_sibling: NDArray[np.bool_]
    weight: NDArray[np.float64]


def pairs_of(scores: Scores, members: Mapping[str, int]) -> Pairs:
    """Of the clusters that have pairs of both kinds.

    Raises:
        InputError: where there is none, or a score is NaN.
    """
    able = able_of(scores)
    if not able:
        raise InputError("no cluster has both sibling pairs and allowed strangers: allow more pairs")
    if wrong := [cluster for cluster in able if any(kind.isnan().any() for kind in scores[cluster])]:
        raise InputError(f"scores of {', '.join(wrong)} are NaN: they rank no pair; leave those pairs out")
    total = sum(members[cluster] for cluster in able)
    kinds = [(scores[cluster][kind], members[cluster] / total, kind == 0) for cluster in able for kind in (0, 1)]
    return Pairs(
        np.concatenate([pairs.numpy() for pairs, _, _ in kinds]),
        np.concatenate([np.full(len(pairs), siblings) for pairs, _, siblings in kinds]),
        np.concatenate([np.full(len(pairs), share / len(pairs)) for pairs, share, _ in kinds]),
    )


def able_of(scores: Scores) -> list[str]:
    """The clusters that have pairs of both kinds."""
    return [cluster for cluster, pairs in scores.items() if all(len(kind) for kind in pairs)]


def minimum_cllr(scores: Scores, members: Mapping[str, int]) -> float:
    """The Cllr of the best map of these scores that keeps their order, found by PAV on the very same pairs (eq. 15.4).

    No calibration can do better; what is above it is what calibrating loses.

    Args:
        scores: by cluster.
        members: of each cluster how many, its weight.

    Raises:
        InputError: where no cluster has pairs of both kinds.

    Examples:
        One stranger of four is as near as one sibling of two:

        >>> scores = {"M 67": (torch.tensor([2.0, 5.0]), torch.tensor([2.0, -1.0, -3.0, -4.0]))}
        >>> print(f"{minimum_cllr(scores, {'M 67': 3}):.3f}")
        0.344
    """
    pairs = pairs_of(scores, members)
    _, alike = np.unique(pairs.score, return_inverse=True)  # pairs of one score get one share
    weight = np.bincount(alike, pairs.weight)
    siblings = np.bincount(alike, pairs.weight * pairs.is_sibling) / weight
    share = isotonic_regression(siblings, weights=weight).x.clip(0, 1)[alike]
    told = np.where(pairs.is_sibling, share, 1 - share)
    return float(-xlogy(pairs.weight, told).sum() / (2 * math.log(2)))
