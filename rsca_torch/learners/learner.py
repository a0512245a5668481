"""What a learner is, and the one that learns nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from rsca_torch.arrays import as_tensor
from rsca_torch.errors import InputError

__all__ = ["Identity", "Learner"]

Labels = Sequence[str] | np.ndarray


class Learner(nn.Module):
    """A map of latents (N, K) to an embedding (N, D) in which the Euclidean distance says how alike two stars are.

    Subclasses write `forward`, and `initialise` (a closed form) or `loss` (something to train) or both. One whose
    `initialise` also takes `summary=None` is given its own `summarise(field)` there, computed once for all folds.
    """

    name: str = ""  # in tables and results; empty: the name of the class

    def summarise(self, field: Tensor) -> Any:  # noqa: ANN401, ARG002  (what it is, is the learner's affair)
        """What `initialise` needs of field (F, K) alone. No label is at hand here, so none can leak into a fold."""
        return None

    def initialise(self, field: Tensor, members: Tensor, clusters: Labels) -> None:
        """Fit in closed form, or do nothing.

        Args:
            field: (F, K) float64 latents of field stars.
            members: (M, K) float64 latents of cluster members.
            clusters: M labels, one a member.
        """

    def forward(self, z: Tensor) -> Tensor:  # noqa: ARG002  (for subclasses)
        """(N, K) -> (N, D)."""
        raise InputError(f"{type(self).__name__} must define forward(z)")

    def loss(self, z: Tensor, clusters: Labels) -> Tensor | None:  # noqa: ARG002  (for subclasses)
        """A scalar to minimise over the members' latents (M, K); None: nothing to train."""
        return None


class Identity(Learner):
    """Distances in the representation as it comes: "on raw" of the paper's Figure 4."""

    name = "raw"

    def forward(self, z: Tensor) -> Tensor:
        """(N, K) -> the same."""
        return as_tensor(z)
