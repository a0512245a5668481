"""What learners with a loss share: a linear map that starts as RSCA's or at random (docs/maths.md, section 8)."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.learners.groups import Groups
from rsca_torch.learners.learner import Labels, Recipe
from rsca_torch.learners.linear import LatentMap
from rsca_torch.learners.moments import FieldMoments
from rsca_torch.learners.options import require_choice, require_number, require_whole
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.spectra.arrays import Array, as_tensor
from rsca_torch.spectra.packed import PACKED

__all__ = ["GradientLearner", "squared_distances", "summed"]

HELD = 2**22  # numbers of one intermediate result that a loss holds for its gradient: 32 MB


class GradientLearner(LatentMap):
    """z -> (z - centre) @ weight.T, weight = start + unit change @ sphere, `change` trained (docs/maths.md, eq. 8.1).

    Subclasses write `_unpenalised`. A dimension to which RSCA gives the weight 0 stays a row of zeros in a linear map
    with a loss of squared distances: its gradient is 0 there.

    Args:
        n_dimensions: D, of the embedding; with init="rsca" the most important ones. None: K.
        init: "rsca" starts from RSCA's map of the same field and members; "random" from normal weights of standard
            deviation 1 / sqrt(K) in the latents that are sphered by the field.
        penalty: times the sum of the squares of `change` is added to the loss. It pulls toward RSCA's map; with
            init="random" toward 0, in the unit that is given below.
        dropout: share of the sphered inputs that are set to 0, in training mode only.
        negatives: so many field stars, drawn once by `initialise`, are further strangers in the loss.
        recipe: how the loss is minimised.

    Attributes:
        sphere: (K, K) float64, S of docs/maths.md, section 2.
        start: (D, K) float64, RSCA's weight or 0.
        unit: float64, of change: 1 with init="rsca", the largest weight of RSCA's map (at least 1) with "random".
        change: (D, K) float64, 0 with init="rsca" until it is trained.
        strangers: (negatives, K) float64 field stars; not in the state.

    Raises:
        InputError: for options out of range.

    Examples:
        The mean squared distance of siblings over that of all members:

        >>> import torch
        >>> from rsca_torch.learners import GradientLearner
        >>> from rsca_torch.testing import drawn_problem
        >>> class Ratio(GradientLearner):
        ...     def _unpenalised(self, z, groups):
        ...         embedded = self(z)
        ...         return groups.centred(embedded).square().sum() / (embedded - embedded.mean(0)).square().sum()
        >>> stars = drawn_problem()
        >>> learner = Ratio(penalty=0.1)
        >>> learner.initialise(stars.field, stars.members, stars.clusters)
        >>> print(f"{learner.loss(stars.members, stars.clusters):.4f}")
        0.0302
    """

    sphere: Tensor
    start: Tensor
    unit: Tensor
    strangers: Tensor

    def __init__(
        self,
        n_dimensions: int | None = None,
        init: str = "rsca",
        penalty: float = 0.0,
        dropout: float = 0.0,
        negatives: int = 0,
        recipe: Recipe | None = None,
    ) -> None:
        super().__init__(n_dimensions)
        require_choice("init", init, "rsca", "random")
        require_number("penalty", penalty, at_least=0)
        require_number("dropout", dropout, at_least=0, below=1)
        require_whole("negatives", negatives, 0, " field stars")
        if recipe is not None and not isinstance(recipe, Recipe):
            raise InputError(f"recipe must be a rsca_torch.learners.Recipe, or None for its defaults, got {recipe!r}")
        self.init, self.penalty, self.dropout, self.negatives = init, penalty, dropout, negatives
        self.recipe = recipe or Recipe()
        for name in ("sphere", "start"):
            self.register_buffer(name, torch.empty(0, dtype=torch.float64))
        self.register_buffer("unit", torch.ones((), dtype=torch.float64))
        self.register_buffer("strangers", torch.empty(0, dtype=torch.float64), persistent=False)
        self.change = nn.Parameter(torch.empty(0, dtype=torch.float64))

    @property
    def weight(self) -> Tensor:
        """(D, K) float64, the linear map as it is now."""
        return self.start + self.unit * self.change @ self.sphere

    def initialise(self, field: Array, members: Array, clusters: Labels, summary: FieldMoments | None = None) -> None:
        """Set where training starts; shapes as in Learner.initialise. `summary`: that of the field, where it is known.

        Raises:
            InputError: where ScaledComponents cannot be fitted, and where n_dimensions is above K or negatives above F.
        """
        self._checked(field, members, clusters)
        field = as_tensor(field).double()
        if self.negatives > len(field):
            raise InputError(
                f"negatives={self.negatives}, but there are {len(field)} field stars: lower it to at most {len(field)}"
            )
        moments = summary or self.summarise(field)
        self.centre, self.sphere = moments.mean, moments.sphere
        closed_form = ScaledComponents(top=self.n_dimensions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumericalWarning)  # where RSCA drops a dimension RSCA itself says so
            closed_form.initialise(field, members, clusters, moments)
        change = field.new_zeros(closed_form.weight.shape)
        if self.init == "rsca":
            self.start, self.unit = closed_form.weight, field.new_ones(())
        else:  # weights of tens are far from 1 / sqrt(K) for an optimiser with steps of a given size
            self.start, self.unit = torch.zeros_like(change), (1 / closed_form.sigma_r[0]).clamp(min=1)
            change.normal_(0, change.shape[1] ** -0.5).div_(self.unit)
        self.change = nn.Parameter(change)
        self.strangers = field[:0]
        if self.negatives:
            self.strangers = field[torch.randperm(len(field), device=field.device)[: self.negatives]]

    def loss(self, z: Array, clusters: Labels) -> Tensor:
        """A float64 scalar: that of the members' latents (M, K), M labels, and the penalty.

        Raises:
            InputError: where the shapes disagree, no cluster has two members, or the negatives are missing.
        """
        self._require_fitted()
        z = as_tensor(z).to(self.start.dtype)
        if z.ndim != (PACKED if self.sees == "spectra" else 2) or len(z) != len(clusters):
            raise InputError(
                f"{self.sees} of M stars and M labels expected, got {tuple(z.shape)} and {len(clusters)} labels"
            )
        if len(self.strangers) != self.negatives:
            raise InputError(
                f"{self.negatives} negatives expected, got {len(self.strangers)}: they are not part of the state, "
                "so call initialise(field, members, clusters) before load_state_dict"
            )
        groups = Groups(clusters, z.device)
        if not (groups.size > 1).any():
            raise InputError(f"no cluster has two of the {len(z)} members: give batches with siblings")
        return self._unpenalised(z, groups) + self.penalty * self._departure()

    def _unpenalised(self, z: Tensor, groups: Groups) -> Tensor:  # noqa: ARG002  (for subclasses)
        """A scalar, of latents (M, K) in at least one cluster of two."""
        raise InputError(f"{type(self).__name__} must define _unpenalised(z, groups)")

    def _deviation(self, latents: Tensor) -> Tensor:
        """(N, K) minus the centre; in training with dropout."""
        deviation = super()._deviation(latents)
        if self.training and self.dropout:
            sphered = nn.functional.dropout(deviation @ self.sphere.T, self.dropout)
            deviation = torch.linalg.solve(self.sphere, sphered.T).T
        return deviation

    def _departure(self) -> Tensor:
        """How far the map is from where a penalty pulls it."""
        return self.change.square().sum()

    def _with_strangers(self, z: Tensor) -> Tensor:
        """(M + negatives, D) the embedding of latents (M, K), then of the negatives."""
        embedded: Tensor = self(torch.cat([z, self.strangers]) if self.negatives else z)
        return embedded


def squared_distances(one: Tensor, other: Tensor) -> Tensor:
    """(A, D), (B, D) -> (A, B), by direct differences; nothing of size A x B x D is held."""
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist").square()


def summed(term: Callable[[Tensor], Tensor], rows: Tensor, width: int) -> Tensor:
    """The sum of `term` over rows, in parts whose intermediate results are made anew for the gradient, not held.

    Args:
        term: a scalar of some of the rows.
        rows: (R,) their numbers.
        width: of the largest intermediate result of `term`, numbers a row.
    """
    parts = torch.split(rows, max(1, HELD // width))
    if len(parts) == 1:
        return term(rows)
    return torch.stack([checkpoint(term, part, use_reentrant=False, preserve_rng_state=False) for part in parts]).sum()
