"""What a learner is, and the one that learns nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from rsca_torch.errors import InputError
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.spectra.arrays import Array, as_tensor

__all__ = ["Identity", "Labels", "Learner", "Recipe"]

Labels = Sequence[str] | np.ndarray  # one a member: the name of its cluster


@dataclass(frozen=True)
class Recipe:
    """How a learner's loss is minimised, by Adam on this machine's processor (docs/plugins.md).

    Attributes:
        epochs: at most so many.
        learning_rate: of Adam.
        weight_decay: of AdamW, decoupled.
        clusters_a_batch: how many clusters a batch has. None: all members in one batch, an epoch of one step.
        members_a_cluster: how many of each, drawn anew for every batch.
        inner: so many training clusters, the largest, are left out, one after the other, to choose the number of
            epochs; the learner is then trained on all of them for the median of the best. 0: for `epochs`. None: each
            is left out once.
        patience: epochs without a better inner cluster, after which an inner training stops.
        noise: the latents of every step are drawn from their posterior (the measured errors), not its mean; of a
            learner of spectra the flux from N(flux, sigma^2).

    Raises:
        InputError: for numbers out of range.

    Examples:
        Every fold trains for 20 epochs (with `inner` above 0 each fold chooses their number itself):

        >>> from functools import partial
        >>> from rsca_torch import NCA, Recipe, leave_one_cluster_out
        >>> from rsca_torch.testing import drawn_problem
        >>> stars = drawn_problem()
        >>> make_learner = partial(NCA, recipe=Recipe(epochs=20, inner=0))
        >>> result = leave_one_cluster_out(make_learner, stars.field, stars.members, stars.clusters)
        >>> result.trained["NGC 0"].epochs
        20
    """

    epochs: int = 300
    learning_rate: float = 0.01
    weight_decay: float = 0.0
    clusters_a_batch: int | None = None
    members_a_cluster: int = 4
    inner: int | None = 3
    patience: int = 20
    noise: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.epochs < 0 or self.patience < 1 or (self.inner is not None and self.inner < 0):
            raise InputError(
                f"recipe: epochs >= 0, patience >= 1, inner >= 0 expected, got {self.epochs}, {self.patience}, "
                f"{self.inner}"
            )
        if not (self.learning_rate > 0 and self.weight_decay >= 0):
            raise InputError(
                f"recipe: learning_rate > 0 and weight_decay >= 0 expected, got {self.learning_rate} and "
                f"{self.weight_decay}"
            )
        if self.members_a_cluster < 2 or (self.clusters_a_batch is not None and self.clusters_a_batch < 2):
            raise InputError(
                "recipe: a batch needs at least 2 clusters with 2 members each, got "
                f"clusters_a_batch={self.clusters_a_batch}, members_a_cluster={self.members_a_cluster}"
            )


class Learner(nn.Module):
    """A map of latents (N, K) to an embedding (N, D) in which the Euclidean distance says how alike two stars are.

    Subclasses write `forward`, and `initialise` (a closed form) or `loss` (something to train) or both. One whose
    `initialise` also takes `summary=None` is given its own `summarise(field)` there, computed once for all folds. One
    that `sees` "spectra" is given packed spectra (N, 2, P), of `rsca_torch.spectra.packed`, where latents stand here.
    What calls a learner gives it tensors; those of this package take NumPy arrays too.

    Attributes:
        name: in tables and results; empty: the name of the class.
        paper: where it is from, for `rsca learners`.
        sees: what z is, "latents" or "spectra"; abundances count as latents.
        gives_scores: whether `score` says how alike stars are, in place of the distance of embeddings; then folds are
            judged by it, and it is taken for a natural log likelihood ratio.
        depends_on_units: whether results depend on the units of the latents: True is always safe. False: any units will
            do, and none are made for it.
        groups: stars of groups besides clusters, a `rsca_torch.training.members.Members`: what fits the learner adds
            them to the members of every training set, and no cluster's judge sees them. None: there are none.
        recipe: how its loss is minimised; None: it has none.
        trained: how that went, where it was done: a `rsca_torch.training.members.Trained`.
        trained_on: names of the clusters that it was fitted on; empty: not known, as of a state that was loaded.

    Examples:
        Distances in units of the field's standard deviation:

        >>> import torch
        >>> from rsca_torch import Learner, leave_one_cluster_out
        >>> from rsca_torch.testing import drawn_problem
        >>> class Standardised(Learner):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.register_buffer("spread", torch.empty(0))
        ...
        ...     def initialise(self, field, members, clusters):
        ...         self.spread = field.std(0)
        ...
        ...     def forward(self, z):
        ...         return z / self.spread.to(z)
        >>> stars = drawn_problem()
        >>> result = leave_one_cluster_out(Standardised, stars.field, stars.members, stars.clusters)
        >>> print(f"{result.rate:.3f}")
        0.011
    """

    name: str = ""
    paper: str = ""
    sees: Literal["latents", "spectra"] = "latents"
    gives_scores: bool = False
    depends_on_units: bool = True
    groups: Any = None
    recipe: Recipe | None = None
    trained: Any = None
    trained_on: tuple[str, ...] = ()

    def start_from(self, step_1: MaskedPPCA) -> None:
        """Of a learner of spectra, before all else: step 1 as it was fitted, without labels, to what is to come."""

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
        """(N, K) -> (N, D), each star by itself."""
        raise InputError(f"{type(self).__name__} must define forward(z)")

    def score(self, members: Tensor, stars: Tensor) -> Tensor:
        """(m, K), (n, K) -> (m, n) float64, higher for more alike: minus the distance of embeddings.

        One that says more sets `gives_scores`. It is symmetric, and each pair's depends on no other star.
        """
        one, other = (self(z).double() for z in (members, stars))
        return -torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")

    def loss(self, z: Tensor, clusters: Labels) -> Tensor | None:  # noqa: ARG002  (for subclasses)
        """A scalar to minimise over the members' latents (M, K); None: nothing to train."""
        return None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """A fresh learner does not know its shapes: buffers and empty parameters take those of what is loaded."""
        self.trained_on = ()
        for name, _ in self.named_buffers(recurse=False):
            if prefix + name in state_dict:  # not into the old ones, which other folds may share
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        for name, parameter in self.named_parameters(recurse=False):
            given = state_dict.get(prefix + name)
            if given is not None and given.shape != parameter.shape:  # else an optimiser may hold it
                setattr(self, name, nn.Parameter(torch.empty_like(given), parameter.requires_grad))
        super()._load_from_state_dict(state_dict, prefix, *args)


class Identity(Learner):
    """Distances in the representation as it comes: "on raw" of the paper's Figure 4.

    Examples:
        >>> import numpy as np
        >>> from rsca_torch import Identity
        >>> Identity()(np.array([[1.0, 2.0]]))
        tensor([[1., 2.]], dtype=torch.float64)
    """

    name = "raw"

    def forward(self, z: Array) -> Tensor:
        """(N, K) -> the same."""
        return as_tensor(z)
