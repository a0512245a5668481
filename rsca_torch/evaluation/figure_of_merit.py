"""What is said of a cluster beside its doppelganger rate; a new one is one function and one file in conf/."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["FigureOfMerit"]


class FigureOfMerit(Protocol):
    """A function of the distances that a cluster's rate is counted from; lower is better.

    `rsca_torch.learners.distances.sibling_overlap` is one (docs/maths.md, 9.1).

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
