"""RSCA's steps 2 to 4: sphere, reparametrise, rescale (paper, sections 3.3 to 3.5; docs/maths.md, sections 2 to 4)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsca_torch.arrays import as_tensor
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.learners.learner import Labels, Learner

__all__ = ["Scaled", "ScaledComponents", "cluster_sizes", "require_dimensions", "within_cluster_spread"]

MAD_TO_SIGMA = 1.482602218505602  # 1 / the upper quartile of a normal distribution; the paper's eq. 7 omits it


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

    def _rescale(self, basis: Tensor, field: Tensor, members: Tensor, clusters: Labels) -> None:
        """Step 4 along the rows of `basis` (D, K), in which the field has unit variance."""
        centred = _centre_clusters((members - field.mean(0)) @ basis.T, clusters)
        sigma_c = within_cluster_spread(centred, clusters, self.robust, self.pooled)
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
        self.centre = field.mean(0)


class Scaled(_Linear):
    """Step 4 alone: each dimension divided by the field's spread and rescaled, without sphering or rotation.

    "On scaled" of the paper's Figure 4.
    """

    name = "scaled"

    def initialise(self, field: Tensor, members: Tensor, clusters: Labels) -> None:
        """Fit; shapes as in Learner.initialise.

        Raises:
            InputError: where the field has no spread along a dimension, or members are too few.
        """
        field, members = _checked(field, members, clusters)
        spread = field.std(0)
        if not (spread > 0).all():
            raise InputError(f"{int((spread == 0).sum())} of {len(spread)} dimensions do not vary in the field")
        self._rescale(torch.diag(1 / spread), field, members, clusters)


class ScaledComponents(_Linear):
    """Steps 2 to 4: the squared distance is d^T (S_c^-1 - S_pop^-1) d with robust diagonals, a log likelihood ratio.

    Args:
        robust: spread inside a cluster by 1.4826 MAD (the paper); False: by the sample standard deviation.
        pooled: eq. 6, clusters pooled by their degrees of freedom; False: one spread of all centred members.
        top: keep only so many of the most important dimensions. None: all.
    """

    name = "rsca"

    def initialise(self, field: Tensor, members: Tensor, clusters: Labels) -> None:
        """Fit; shapes as in Learner.initialise.

        Raises:
            InputError: where the field or the members span fewer than K dimensions (says how many).
        """
        field, members = _checked(field, members, clusters)
        require_dimensions(field.shape[1], len(field), clusters)
        sphere = _sphere(field)
        centred = _centre_clusters((members - field.mean(0)) @ sphere.T, clusters)
        _, axes = torch.linalg.eigh(centred.T @ centred)
        self._rescale(axes.T @ sphere, field, members, clusters)


def cluster_sizes(clusters: Labels) -> dict[str, int]:
    """How many members each label has, labels sorted."""
    labels, counts = np.unique(np.asarray(clusters, dtype=str), return_counts=True)
    return {str(label): int(count) for label, count in zip(labels, counts, strict=True)}


def require_dimensions(n_components: int, n_field: int, clusters: Labels) -> None:
    """Steps 2 and 3 need as many field stars and members (less one a cluster) as there are dimensions.

    Raises:
        InputError: says the limit.
    """
    if not isinstance(n_components, int) or n_components < 1:
        raise InputError(f"n_components must be a whole number of at least 1, got {n_components!r}")
    sizes = cluster_sizes(clusters)
    limit = min(n_field - 1, len(clusters) - len(sizes))
    if n_components > limit:
        raise InputError(
            f"{n_components} dimensions, but {n_field} field stars and {len(clusters)} members of {len(sizes)} "
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
    spread = _mad if robust else _std
    if not pooled:
        return spread(centred)
    labels = np.asarray(clusters, dtype=str)
    total = torch.zeros(centred.shape[1], dtype=centred.dtype, device=centred.device)
    freedom = 0
    for label, size in cluster_sizes(clusters).items():
        if size > 1:
            total += (size - 1) * spread(centred[torch.from_numpy(labels == label)]).square()
            freedom += size - 1
    return (total / freedom).sqrt()


def _mad(sample: Tensor) -> Tensor:
    median = sample.quantile(0.5, dim=0)
    return MAD_TO_SIGMA * (sample - median).abs().quantile(0.5, dim=0)


def _std(sample: Tensor) -> Tensor:
    return sample.std(0)


def _checked(field: Tensor, members: Tensor, clusters: Labels) -> tuple[Tensor, Tensor]:
    """Both in float64, if they can be used."""
    field, members = as_tensor(field).double(), as_tensor(members).double()
    if field.ndim != 2 or members.ndim != 2 or field.shape[1] != members.shape[1] or len(members) != len(clusters):
        raise InputError(
            "field (F, K), members (M, K) and M cluster labels expected, got "
            f"{tuple(field.shape)}, {tuple(members.shape)} and {len(clusters)} labels"
        )
    if not (field.isfinite().all() and members.isfinite().all()):
        raise InputError("field and members must be finite: leave out the stars that are not")
    if not any(size > 1 for size in cluster_sizes(clusters).values()):
        raise InputError("no cluster has two members: spread inside clusters cannot be measured")
    return field, members


def _sphere(field: Tensor) -> Tensor:
    """(K, K) S with the covariance of field @ S.T the identity (step 2)."""
    variance, axes = torch.linalg.eigh(field.T.cov().reshape(field.shape[1], field.shape[1]))
    rank = int((variance > variance[-1] * len(variance) * torch.finfo(variance.dtype).eps).sum())
    if rank < len(variance):
        raise InputError(f"the field spans {rank} of {len(variance)} dimensions: lower n_components to {rank}")
    sphere: Tensor = (axes / variance.sqrt()).T
    return sphere


def _centre_clusters(members: Tensor, clusters: Labels) -> Tensor:
    """(M, D) less the mean of each star's cluster (step 3)."""
    labels = torch.from_numpy(np.unique(np.asarray(clusters, dtype=str), return_inverse=True)[1]).to(members.device)
    count = torch.bincount(labels).to(members.dtype)
    sums = torch.zeros(len(count), members.shape[1], dtype=members.dtype, device=members.device)
    means: Tensor = sums.index_add(0, labels, members) / count[:, None]
    return members - means[labels]


def _fix_signs(rows: Tensor) -> Tensor:
    """Eigenvectors have no sign of their own: the largest entry of each row becomes positive."""
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return torch.where(largest < 0, -rows, rows)
