"""Neighbourhood components analysis, exact and on the full batch."""

from __future__ import annotations

import torch
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.learners.gradient import GradientLearner, squared_distances, summed
from rsca_torch.learners.groups import Groups
from rsca_torch.learners.learner import Recipe
from rsca_torch.learners.options import require_choice

__all__ = ["NCA"]


class NCA(GradientLearner):
    """A star picks a neighbour at random, the nearer the likelier: how often is it a sibling? (docs/maths.md, eq. 8.2).

    Goldberger, Roweis, Hinton & Salakhutdinov 2004. All members are possible neighbours, and the negatives too, which
    pick none themselves. A member without a sibling picks none (p = 0), and is a stranger to the others.

    Args:
        objective: "expected", the paper's eq. 5: minus the mean p; "log", its eq. 6: minus the mean log p, to which
            a star whose siblings are all far away matters more.
        n_dimensions, init, penalty, dropout, negatives, recipe: as in GradientLearner.

    Raises:
        InputError: for options out of range.

    Examples:
        The loss at the start; `leave_one_cluster_out` minimises it as `recipe` says:

        >>> from rsca_torch import NCA
        >>> from rsca_torch.testing import drawn_problem
        >>> stars = drawn_problem()  # 300 field stars, 30 members of 5 clusters, 6 latents
        >>> learner = NCA(n_dimensions=1)
        >>> learner.initialise(stars.field, stars.members, stars.clusters)
        >>> print(f"{learner.loss(stars.members, stars.clusters):.4f}")
        -0.8914
    """

    name = "nca"
    paper = "Goldberger et al. 2004"

    def __init__(
        self,
        objective: str = "expected",
        n_dimensions: int | None = None,
        init: str = "rsca",
        penalty: float = 0.0,
        dropout: float = 0.0,
        negatives: int = 0,
        recipe: Recipe | None = None,
    ) -> None:
        super().__init__(n_dimensions, init, penalty, dropout, negatives, recipe)
        require_choice("objective", objective, "expected", "log")
        self.objective = objective

    def _unpenalised(self, z: Tensor, groups: Groups) -> Tensor:
        alone = groups.size[groups.number] == 1
        if self.objective == "log" and alone.any():
            raise InputError(
                f'objective="log" needs a sibling for every member, {int(alone.sum())} of {len(z)} have none: leave '
                'them out, or take objective="expected"'
            )
        everyone = self._with_strangers(z)
        place = torch.arange(len(everyone), device=z.device)

        def picked(rows: Tensor) -> Tensor:
            near = -squared_distances(everyone[rows], everyone)
            near = near.masked_fill(rows[:, None] == place, -torch.inf)
            strangers = groups.number[rows, None] != groups.number
            log_p = near[:, : len(z)].masked_fill(strangers, -torch.inf).logsumexp(1) - near.logsumexp(1)
            return (log_p if self.objective == "log" else log_p.exp()).sum()

        return -summed(picked, place[: len(z)][~alone], len(everyone)) / len(z)
