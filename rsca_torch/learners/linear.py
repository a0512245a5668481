"""Maps of latents minus the field's mean: what closed forms and trained maps share, and the linear ones."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.learners.groups import Groups
from rsca_torch.learners.learner import Labels, Learner
from rsca_torch.learners.moments import FieldMoments, require_squares
from rsca_torch.learners.options import require_whole
from rsca_torch.spectra.arrays import Array, as_tensor
from rsca_torch.spectra.labels import as_labels

__all__ = ["LatentMap", "Linear"]


class LatentMap(Learner):
    """z -> (z - centre) @ weight.T, or more than that; float64 inside.

    Args:
        n_dimensions: D, of the embedding: the leading ones. None: K, or all that there are.

    Attributes:
        centre: (K,) float64, the field's mean: distances do not depend on it.
        weight: (D, K) float64; a dimension that tells nothing is a row of zeros.

    Raises:
        InputError: for n_dimensions out of range.
    """

    centre: Tensor
    if TYPE_CHECKING:  # a buffer of one subclass, computed by the other

        @property
        def weight(self) -> Tensor: ...  # noqa: D102

    def __init__(self, n_dimensions: int | None = None) -> None:
        super().__init__()
        if n_dimensions is not None:
            require_whole("n_dimensions", n_dimensions, meaning=", or None for all of them")
        self.n_dimensions = n_dimensions
        self.register_buffer("centre", torch.empty(0, dtype=torch.float64))

    def summarise(self, field: Array) -> FieldMoments:
        """The mean and covariance of field (F, K)."""
        return FieldMoments.of(field)

    def forward(self, z: Array) -> Tensor:
        """(N, K) -> (N, D), in the dtype of z."""
        self._require_fitted()
        z = as_tensor(z)
        return self._embedding(self._deviation(z.to(self.centre.dtype))).to(z.dtype)

    def extra_repr(self) -> str:
        """What it is fitted on."""
        if not len(self.centre):
            return "not fitted"
        names = self.trained_on[:3] + ("...",) * (len(self.trained_on) > 3)
        on = f", fitted on {len(self.trained_on)} clusters: {', '.join(names)}" if names else ""
        return f"{self.weight.shape[1]} -> {self.weight.shape[0]}{on}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def _deviation(self, latents: Tensor) -> Tensor:
        """(N, K) minus the centre."""
        return latents - self.centre

    def _embedding(self, deviation: Tensor) -> Tensor:
        """(N, K) z minus the centre -> (N, D)."""
        return deviation @ self.weight.T

    def _require_fitted(self) -> None:
        if not len(self.centre):
            raise InputError(f"{type(self).__name__} is not fitted: call initialise(field, members, clusters) first")

    def _checked(self, field: Array, members: Array, clusters: Labels) -> tuple[Tensor, Groups]:
        """The members with a label, float64 and by cluster, if of use; whether the field is finite its moments show."""
        field, members = as_tensor(field), as_tensor(members).detach().double()
        if field.ndim != 2 or members.ndim != 2 or field.shape[1] != members.shape[1] or len(members) != len(clusters):
            raise InputError(
                "field (F, K), members (M, K) and M cluster labels expected, got "
                f"{tuple(field.shape)}, {tuple(members.shape)} and {len(clusters)} labels"
            )
        labels = as_labels(clusters)
        known = labels != ""
        if not known.all():
            said = f"{int((~known).sum())} of {len(members)} members have no label: left out"
            warnings.warn(said, NumericalWarning, stacklevel=4)
            members, labels = members[torch.from_numpy(known).to(members.device)], labels[known]
        if not members.isfinite().all():
            raise InputError("field and members must be finite: leave out the stars that are not")
        groups = Groups(labels, members.device)
        if not (groups.size > 1).any():
            raise InputError("no cluster has two members: spread inside clusters cannot be measured")
        require_squares(groups.centred(members).square().sum(0), "siblings' difference from their cluster's mean")
        if self.n_dimensions is not None and self.n_dimensions > members.shape[1]:
            raise InputError(
                f"n_dimensions={self.n_dimensions}, but the latents have {members.shape[1]} dimensions: "
                f"lower it to at most {members.shape[1]}"
            )
        self.trained_on = tuple(groups.names)
        return members, groups


class Linear(LatentMap):
    """z -> (z - centre) @ weight.T, fitted in closed form.

    Subclasses write `_closed_form`, or an `initialise` of their own that sets both.

    Examples:
        The direction along which siblings agree the most:

        >>> import torch
        >>> from rsca_torch.learners import Linear
        >>> from rsca_torch.learners.groups import Groups
        >>> from rsca_torch.testing import drawn_problem
        >>> class Closest(Linear):
        ...     def initialise(self, field, members, clusters):
        ...         deviation = Groups(clusters).centred(members)
        ...         self.centre, self.weight = field.mean(0), torch.linalg.svd(deviation).Vh[-1:]
        >>> stars = drawn_problem()
        >>> learner = Closest()
        >>> learner.initialise(stars.field, stars.members, stars.clusters)
        >>> learner
        Closest(6 -> 1)
        >>> learner(stars.members).shape
        torch.Size([30, 1])
    """

    weight: Tensor

    def __init__(self, n_dimensions: int | None = None) -> None:
        super().__init__(n_dimensions)
        self.register_buffer("weight", torch.empty(0, dtype=torch.float64))

    def initialise(self, field: Array, members: Array, clusters: Labels, summary: FieldMoments | None = None) -> None:
        """Fit; shapes as in Learner.initialise. `summary`: that of the field, where it is known.

        Raises:
            InputError: where shapes disagree, values are not finite, no cluster has two members, n_dimensions is above
                K, or for what the class says of itself.
        """
        members, groups = self._checked(field, members, clusters)
        moments = summary or self.summarise(field)
        self.weight = _fix_signs(self._closed_form(moments, members, groups)[: self.n_dimensions])
        self.centre = moments.mean

    def _closed_form(self, moments: FieldMoments, members: Tensor, groups: Groups) -> Tensor:  # noqa: ARG002  (for subclasses)
        """(D, K) weight for members (M, K), the most important first; signs and more rows than wanted do not matter."""
        raise InputError(f"{type(self).__name__} must define _closed_form(moments, members, groups), or initialise")


def _fix_signs(rows: Tensor) -> Tensor:
    """Eigenvectors have no sign of their own: the largest entry of each row becomes positive."""
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return torch.where(largest < 0, -rows, rows)
