"""Learners that are a linear map."""

from __future__ import annotations

import torch
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.learners.groups import Groups
from rsca_torch.learners.learner import Labels, Learner
from rsca_torch.learners.moments import FieldMoments
from rsca_torch.spectra.arrays import as_tensor

__all__ = ["Linear", "checked", "fix_signs"]


class Linear(Learner):
    """z -> (z - centre) @ weight.T, fitted in closed form; subclasses write `initialise`, which sets both.

    Attributes:
        weight: (D, K) float64; a dimension that tells nothing is a row of zeros.
        centre: (K,) float64, the field's mean: distances do not depend on it.
    """

    weight: Tensor
    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("weight", "centre"):
            self.register_buffer(name, torch.empty(0, dtype=torch.float64))

    def summarise(self, field: Tensor) -> FieldMoments:
        """The mean and covariance of field (F, K)."""
        return FieldMoments.of(field)

    def forward(self, z: Tensor) -> Tensor:
        """(N, K) -> (N, D), in the dtype of z."""
        if self.weight.ndim != 2:
            raise InputError(f"{type(self).__name__} is not fitted: call initialise(field, members, clusters) first")
        z = as_tensor(z)
        return ((z.to(self.weight.dtype) - self.centre) @ self.weight.T).to(z.dtype)


def checked(field: Tensor, members: Tensor, clusters: Labels) -> tuple[Tensor, Groups]:
    """The members in float64 and by cluster, if they can be used; whether the field is finite its moments show."""
    field, members = as_tensor(field), as_tensor(members).detach().double()
    if field.ndim != 2 or members.ndim != 2 or field.shape[1] != members.shape[1] or len(members) != len(clusters):
        raise InputError(
            "field (F, K), members (M, K) and M cluster labels expected, got "
            f"{tuple(field.shape)}, {tuple(members.shape)} and {len(clusters)} labels"
        )
    if not members.isfinite().all():
        raise InputError("field and members must be finite: leave out the stars that are not")
    groups = Groups(clusters, members.device)
    if not (groups.size > 1).any():
        raise InputError("no cluster has two members: spread inside clusters cannot be measured")
    return members, groups


def fix_signs(rows: Tensor) -> Tensor:
    """Eigenvectors have no sign of their own: the largest entry of each row becomes positive."""
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return torch.where(largest < 0, -rows, rows)
