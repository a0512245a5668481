"""What is said of a cluster beside its doppelganger rate; a new one is one function and one file in conf/."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor

from rsca_torch.errors import InputError

__all__ = ["FigureOfMerit", "rate_at_miss"]


class FigureOfMerit(Protocol):
    """A function of the distances that a cluster's rate is counted from; lower is better.

    `rsca_torch.learners.distances.sibling_overlap` is one (docs/maths.md, 9.1), `rate_at_miss` another.

    Examples:
        How much nearer than siblings the nearest stranger is:

        >>> import torch
        >>> from rsca_torch import Identity, leave_one_cluster_out
        >>> from rsca_torch.testing import drawn_problem
        >>> def nearest(siblings: torch.Tensor, strangers: torch.Tensor) -> float:
        ...     return float(siblings.median() / strangers.min())
        >>> problem = drawn_problem()
        >>> result = leave_one_cluster_out(
        ...     Identity, problem.field, problem.members, problem.clusters, merits={"nearest": nearest}
        ... )
        >>> print(f"{result.merit('nearest'):.2f}")
        1.39
    """

    def __call__(self, siblings: Tensor, strangers: Tensor, /) -> float:
        """The figure of one cluster.

        Args:
            siblings: (S,) float64 distances of its sibling pairs, S > 0.
            strangers: (T,) float64 distances of its allowed (member, field star) pairs, T > 0: a cluster without is
                not asked for, its figure is NaN.
        """


def rate_at_miss(siblings: Tensor, strangers: Tensor, miss: float = 0.1) -> float:
    """Share of the strangers no farther than the distance that 1 - `miss` of the sibling pairs do not exceed.

    The doppelganger rate is about that at a miss of a half: this is where the tail of the siblings matters.

    Args:
        siblings: (S,) distances of sibling pairs.
        strangers: (T,) distances of strangers.
        miss: 0 to 1, the share of sibling pairs that may be farther.

    Returns:
        0 to 1, lower is better; NaN where there is no stranger.

    Raises:
        InputError: for a miss out of range.

    Examples:
        >>> import torch
        >>> siblings, strangers = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.5, 2.5, 3.5, 9.0])
        >>> rate_at_miss(siblings, strangers, miss=0.25), rate_at_miss(siblings, strangers)
        (0.5, 0.75)
    """
    if not 0 <= miss < 1:
        raise InputError(f"miss={miss}: the share of sibling pairs that may be missed lies between 0 and 1")
    farthest = float(np.quantile(siblings.cpu().numpy(), 1 - miss, method="inverted_cdf"))
    return float((strangers <= farthest).double().mean())
