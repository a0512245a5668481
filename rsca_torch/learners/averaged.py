"""Several learners side by side, each with a representation of its own, whose squared distances are averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from rsca_torch.errors import InputError
from rsca_torch.learners.learner import Labels, Learner
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.spectra.arrays import Array, as_tensor

__all__ = ["Averaged"]


class Averaged(Learner):
    """The squared distance is the mean of the squared distances of its parts, each of which sees its own columns.

    The embedding is the parts' embeddings side by side over the square root of their number. It has the name of its
    parts in tables.

    Args:
        widths: how many columns of the latents each part sees, in order: K of each PPCA model.
        make_part: gives a fresh learner, once a part.

    Examples:
        The first two latents are those of one model, the other four of another:

        >>> from rsca_torch.learners import Averaged
        >>> from rsca_torch.testing import drawn_problem
        >>> stars = drawn_problem()
        >>> learner = Averaged([2, 4])
        >>> learner.initialise(stars.field, stars.members, stars.clusters)
        >>> learner(stars.members).shape
        torch.Size([30, 6])
        >>> [part.trained_on == ("NGC 0", "NGC 1", "NGC 2", "NGC 3", "NGC 4") for part in learner.parts]
        [True, True]
    """

    def __init__(self, widths: Sequence[int], make_part: Callable[[], Learner] = ScaledComponents) -> None:
        super().__init__()
        if not widths or not all(isinstance(width, int) and width >= 1 for width in widths):
            raise InputError(f"widths must be whole numbers of at least 1, one a part, got {[*widths]}")
        self.widths = tuple(widths)
        self.parts = nn.ModuleList(make_part() for _ in widths)
        first = self.parts[0]
        self.name = getattr(first, "name", "") or type(first).__name__
        self.recipe = getattr(first, "recipe", None)
        self.depends_on_units = getattr(first, "depends_on_units", True)
        self.gives_scores = getattr(first, "gives_scores", False)

    def initialise(self, field: Array, members: Array, clusters: Labels, noise: Array | None = None) -> None:
        """Fit every part on its columns; shapes as in Learner.initialise, K the sum of the widths."""
        ends = np.cumsum(self.widths).tolist()
        for (part, own_field), (_, own_members), end in zip(
            self._shares(field), self._shares(members), ends, strict=True
        ):
            here = slice(end - own_field.shape[1], end)
            own = {} if noise is None or not isinstance(part, ScaledComponents) else {"noise": noise[:, here, here]}
            part.initialise(own_field, own_members, clusters, **own)

    @property
    def bounded_by(self) -> str:
        """What the floor under the scatter of siblings is of, where the parts know one."""
        return getattr(self.parts[0], "bounded_by", "none")

    def forward(self, z: Array) -> Tensor:
        """(N, K) -> (N, sum of the parts' D)."""
        embedded = [part(own) for part, own in self._shares(z)]
        return torch.cat(embedded, dim=1) / sqrt(len(embedded))

    def score(self, members: Array, stars: Array) -> Tensor:
        """(m, K), (n, K) -> (m, n): the mean of the parts' scores, where they give one; else minus the distance."""
        if not self.gives_scores:
            return super().score(as_tensor(members), as_tensor(stars))
        both = zip(self._shares(members), self._shares(stars), strict=True)
        return torch.stack([part.score(one, other) for (part, one), (_, other) in both]).mean(0)

    def loss(self, z: Array, clusters: Labels) -> Tensor | None:
        """The mean of the parts' losses; None: nothing to train."""
        losses = [part.loss(own, clusters) for part, own in self._shares(z)]
        given = [loss for loss in losses if loss is not None]
        return torch.stack(given).mean() if given else None

    def _shares(self, z: Array) -> list[tuple[Learner, Tensor]]:
        """Every part with the columns that it sees."""
        z = as_tensor(z)
        if z.ndim != 2 or z.shape[1] != sum(self.widths):
            raise InputError(f"latents (N, {sum(self.widths)}) expected for widths {self.widths}, got {tuple(z.shape)}")
        parts = cast("list[Learner]", list(self.parts))
        return list(zip(parts, torch.split_with_sizes(z, self.widths, dim=1), strict=True))
