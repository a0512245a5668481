"""Large-margin nearest neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.learners.gradient import GradientLearner, squared_distances, summed
from rsca_torch.learners.groups import Groups
from rsca_torch.learners.learner import Recipe
from rsca_torch.learners.options import require_number, require_whole

__all__ = ["LargeMargin"]


class LargeMargin(GradientLearner):
    """Pulls a star's nearest siblings close, pushes strangers out of a margin beyond them (docs/maths.md, eq. 8.4).

    Weinberger & Saul 2009. The siblings that are pulled, the target neighbours, are the nearest of the batch in the map
    where training started; with init="random" in the sphered latents. Strangers are members of other clusters and the
    negatives.

    Args:
        k: siblings that each member is pulled to; all that it has, where these are fewer.
        margin: in squared distance, in units of 2 D, the mean squared distance of two draws of D standard normal
            numbers: the paper's 1 means nothing in a map with a scale.
        push: what strangers weigh, siblings 1 - push (the paper's mu).
        n_dimensions, init, penalty, dropout, negatives, recipe: as in GradientLearner.

    Raises:
        InputError: for options out of range.

    Examples:
        The loss at the start; `leave_one_cluster_out` minimises it as `recipe` says:

        >>> from rsca_torch import LargeMargin
        >>> from rsca_torch.testing import drawn_problem
        >>> stars = drawn_problem()  # 300 field stars, 30 members of 5 clusters, 6 latents
        >>> learner = LargeMargin(k=2)
        >>> learner.initialise(stars.field, stars.members, stars.clusters)
        >>> print(f"{learner.loss(stars.members, stars.clusters):.4f}")
        9.5525
    """

    name = "lmnn"
    paper = "Weinberger & Saul 2009"

    def __init__(
        self,
        k: int = 3,
        margin: float = 1.0,
        push: float = 0.5,
        n_dimensions: int | None = None,
        init: str = "rsca",
        penalty: float = 0.0,
        dropout: float = 0.0,
        negatives: int = 0,
        recipe: Recipe | None = None,
    ) -> None:
        super().__init__(n_dimensions, init, penalty, dropout, negatives, recipe)
        require_whole("k", k, meaning=" sibling")
        require_number("margin", margin, above=0)
        if not (isinstance(push, int | float) and 0 < push <= 1):
            raise InputError(f"push must be a share above 0 and at most 1 (1: siblings are not pulled), got {push!r}")
        self.k, self.margin, self.push = k, margin, push

    def _unpenalised(self, z: Tensor, groups: Groups) -> Tensor:
        siblings = (groups.number[:, None] == groups.number).fill_diagonal_(False)
        target, is_target = self._targets(z, siblings)
        everyone = self._with_strangers(z)
        stranger = siblings.new_ones(len(z), len(everyone))
        stranger[:, : len(z)] = groups.number[:, None] != groups.number
        margin = self.margin * 2 * everyone.shape[1]

        def cost(rows: Tensor) -> Tensor:
            squared = squared_distances(everyone[rows], everyone)
            pulled = squared.gather(1, target[rows]) * is_target[rows]
            inside = (margin + pulled[:, :, None] - squared[:, None, :]).relu()
            counted = is_target[rows][:, :, None] & stranger[rows][:, None, :]
            return (1 - self.push) * pulled.sum() + self.push * (inside * counted).sum()

        rows = torch.arange(len(z), device=z.device)
        return summed(cost, rows, target.shape[1] * len(everyone)) / len(z)

    @torch.no_grad()
    def _targets(self, z: Tensor, siblings: Tensor) -> tuple[Tensor, Tensor]:
        """(M, k) numbers of the nearest siblings at the start, and whether there are so many."""
        begun = (z - self.centre) @ (self.start if self.init == "rsca" else self.sphere).T
        distance = squared_distances(begun, begun).masked_fill(~siblings, torch.inf)
        target = distance.topk(min(self.k, len(z)), largest=False).indices
        return target, siblings.gather(1, target)
