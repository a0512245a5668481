"""RSCA's steps 2 to 4: sphere, reparametrise, rescale (paper, sections 3.3 to 3.5; docs/maths.md, sections 2 to 4)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsca_torch.arrays import as_tensor
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.learners.groups import Groups
from rsca_torch.learners.learner import Labels, Learner
from rsca_torch.start import MAD_TO_SIGMA

__all__ = [
    "FieldMoments",
    "Scaled",
    "ScaledComponents",
    "require_dimensions",
    "within_cluster_spread",
]

BLOCK = 4096  # field stars whose deviations are held at a time


@dataclass(frozen=True)
class FieldMoments:
    """All that steps 2 to 4 need of the field.

    Attributes:
        mean: (K,) float64.
        covariance: (K, K) float64, N - 1 in the denominator.
    """

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, field: Tensor) -> FieldMoments:
        """Of the latents (F, K) of field stars.

        Raises:
            InputError: for another shape, or latents that are not finite.
        """
        field = as_tensor(field)
        if field.ndim != 2:
            raise InputError(f"field (F, K) expected, got {tuple(field.shape)}")
        latents = field.detach().double().cpu().numpy()  # its A.T @ A takes half as long as torch's
        with np.errstate(all="ignore"):
            mean = latents.mean(0)
        if not np.isfinite(mean).all():  # as it is, if and only if every latent is
            raise InputError("field and members must be finite: leave out the stars that are not")
        scatter = np.zeros((len(mean), len(mean)))
        for start in range(0, len(latents), BLOCK):
            deviation = latents[start : start + BLOCK] - mean
            scatter += deviation.T @ deviation
        covariance = scatter / (len(latents) - 1)
        return cls(torch.from_numpy(mean).to(field.device), torch.from_numpy(covariance).to(field.device))

    @cached_property
    def sphere(self) -> Tensor:
        """(K, K) S with the covariance of field @ S.T the identity (step 2).

        Raises:
            InputError: where the field spans fewer than K dimensions (says how many).
        """
        variance, axes = torch.linalg.eigh(self.covariance)
        rank = int((variance > variance[-1] * len(variance) * torch.finfo(variance.dtype).eps).sum())
        if rank < len(variance):
            raise InputError(f"the field spans {rank} of {len(variance)} dimensions: lower n_components to {rank}")
        sphere: Tensor = (axes / variance.sqrt()).T
        return sphere


class _Linear(Learner):
    """z -> (z - centre) @ weight.T, its dimensions ordered by importance, fitted in closed form.

    Attributes:
        weight: (D, K) float64; a dimension that tells nothing has a row of zeros.
        centre: (K,) float64, the field's mean: distances do not depend on it.
        sigma_r: (D,) float64 rising, the paper's eq. 4 with sigma_pop = 1; inf where a dimension tells nothing.
        dropped: how many of the K dimensions tell nothing (weight exactly 0).
    """

    weight: Tensor
    centre: Tensor
    sigma_r: Tensor

    def __init__(self, robust: bool = True, pooled: bool = True, top: int | None = None) -> None:
        super().__init__()
        if top is not None and top < 1:
            raise InputError(f"top must be at least 1 dimension, got {top}")
        self.robust, self.pooled, self.top = robust, pooled, top
        self.dropped = 0
        for name in ("weight", "centre", "sigma_r"):
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

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401
        """Buffers take the shapes of what is loaded: a fresh learner has none."""
        for name, _ in self.named_buffers():
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _rescale(self, basis: Tensor, centre: Tensor, centred: Tensor, groups: Groups) -> None:
        """Step 4 along the rows of `basis` (D, K), in which the field has unit variance; members less their cluster."""
        groups = groups if self.pooled else Groups([""] * len(centred), centred.device)
        sigma_c = _spread(centred @ basis.T, groups, self.robust)
        if not (sigma_c > 0).all():
            raise InputError(
                f"{int((sigma_c == 0).sum())} of {len(sigma_c)} dimensions have no spread inside clusters, so their "
                "weight would be infinite: give more members, or lower n_components"
            )
        tells = sigma_c < 1
        self.dropped = int((~tells).sum())
        if self.dropped:
            warnings.warn(
                f"{self.dropped} of {len(tells)} dimensions spread as much inside clusters as in the field: weight 0",
                NumericalWarning,
                stacklevel=3,
            )
        inverse = torch.where(tells, (1 / sigma_c.square() - 1).clamp(min=0).sqrt(), 0)
        order = inverse.argsort(descending=True, stable=True)[: self.top]
        self.weight = _fix_signs(inverse[order, None] * basis[order])
        self.sigma_r = 1 / inverse[order]
        self.centre = centre


class Scaled(_Linear):
    """Step 4 alone: each dimension divided by the field's spread and rescaled, without sphering or rotation.

    "On scaled" of the paper's Figure 4.
    """

    name = "scaled"

    def initialise(self, field: Tensor, members: Tensor, clusters: Labels, summary: FieldMoments | None = None) -> None:
        """Fit; shapes as in Learner.initialise. `summary`: that of the field, where it is known.

        Raises:
            InputError: where the field has no spread along a dimension, or members are too few.
        """
        members, groups = _checked(field, members, clusters)
        moments = summary or self.summarise(field)
        spread = moments.covariance.diagonal().sqrt()
        if not (spread > 0).all():
            raise InputError(f"{int((spread == 0).sum())} of {len(spread)} dimensions do not vary in the field")
        self._rescale(torch.diag(1 / spread), moments.mean, groups.centred(members), groups)


class ScaledComponents(_Linear):
    """Steps 2 to 4: the squared distance is d^T (S_c^-1 - S_pop^-1) d with robust diagonals, a log likelihood ratio.

    Args:
        robust: spread inside a cluster by 1.4826 MAD (the paper); False: by the sample standard deviation.
        pooled: eq. 6, clusters pooled by their degrees of freedom; False: one spread of all centred members.
        top: keep only so many of the most important dimensions. None: all.
    """

    name = "rsca"

    def initialise(self, field: Tensor, members: Tensor, clusters: Labels, summary: FieldMoments | None = None) -> None:
        """Fit; shapes as in Learner.initialise. `summary`: that of the field, where it is known.

        Raises:
            InputError: where the field or the members span fewer than K dimensions (says how many).
        """
        members, groups = _checked(field, members, clusters)
        require_dimensions(field.shape[1], len(field), clusters)
        moments = summary or self.summarise(field)
        centred = groups.centred(members)
        sphered = centred @ moments.sphere.T
        _, axes = torch.linalg.eigh(sphered.T @ sphered)
        self._rescale(axes.T @ moments.sphere, moments.mean, centred, groups)


def require_dimensions(n_components: int, n_field: int, clusters: Labels) -> None:
    """Steps 2 and 3 need as many field stars and members (less one a cluster) as there are dimensions.

    Raises:
        InputError: says the limit.
    """
    if not isinstance(n_components, int) or n_components < 1:
        raise InputError(f"n_components must be a whole number of at least 1, got {n_components!r}")
    n_clusters = len(np.unique(np.asarray(clusters, dtype=str)))
    limit = min(n_field - 1, len(clusters) - n_clusters)
    if n_components > limit:
        raise InputError(
            f"{n_components} dimensions, but {n_field} field stars and {len(clusters)} members of {n_clusters} "
            f"clusters can carry at most {limit} (members less clusters): lower n_components"
        )


def within_cluster_spread(centred: Tensor, clusters: Labels, robust: bool = True, pooled: bool = True) -> Tensor:
    """(D,) sigma_c, eq. 6 of the paper: the spread of siblings along each dimension.

    Args:
        centred: (M, D) members less the mean of their cluster.
        clusters: M labels.
        robust: 1.4826 MAD; False: sample standard deviation.
        pooled: weighted by n_j - 1 over clusters; False: all members as one sample.
    """
    return _spread(centred, Groups(clusters if pooled else [""] * len(centred), centred.device), robust)


def _spread(centred: Tensor, groups: Groups, robust: bool) -> Tensor:
    freedom = (groups.size - 1).to(centred.dtype)
    spread = (_mad if robust else _std)(centred, groups)
    return (freedom @ spread.square() / freedom.sum()).sqrt()


def _mad(sample: Tensor, groups: Groups) -> Tensor:
    """(C, D) of each group; 0 of one alone."""
    deviation = (sample - groups.medians(sample)[groups.number]).abs()
    return MAD_TO_SIGMA * groups.medians(deviation)


def _std(sample: Tensor, groups: Groups) -> Tensor:
    """(C, D) of each group; 0 of one alone."""
    freedom = (groups.size - 1).clamp(min=1)
    return (groups.sums(groups.centred(sample).square()) / freedom[:, None]).sqrt()


def _checked(field: Tensor, members: Tensor, clusters: Labels) -> tuple[Tensor, Groups]:
    """The members in float64 and by cluster, if they can be used; whether the field is finite its moments show."""
    field, members = as_tensor(field), as_tensor(members).double()
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


def _fix_signs(rows: Tensor) -> Tensor:
    """Eigenvectors have no sign of their own: the largest entry of each row becomes positive."""
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return torch.where(largest < 0, -rows, rows)
