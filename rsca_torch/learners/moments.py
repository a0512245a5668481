"""What closed forms need of the field."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from rsca_torch.arrays import as_tensor
from rsca_torch.errors import InputError

__all__ = ["FieldMoments"]

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
            mean = np.ones(len(latents)) @ latents / len(latents)
        if not np.isfinite(mean).all():  # as it is, if and only if every latent is
            raise InputError("field and members must be finite: leave out the stars that are not")
        scatter = latents.T @ latents - len(latents) * np.outer(mean, mean)
        if not (len(latents) * mean**2 <= scatter.diagonal()).all():  # that cancels: by deviations
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
