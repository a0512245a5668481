"""What closed forms need of the field."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.spectra.arrays import Array, all_finite, as_tensor

__all__ = ["FieldMoments", "require_squares"]

SQUARES = 1e-280, 1e280  # beyond them float64 holds no square in full
BLOCK = 4096  # field stars whose deviations are held at a time


@dataclass(frozen=True)
class FieldMoments:
    """All that steps 2 to 4 need of the field.

    Attributes:
        mean: (K,) float64.
        covariance: (K, K) float64, N - 1 in the denominator.
        n_stars: N.
    """

    mean: Tensor
    covariance: Tensor
    n_stars: int

    @classmethod
    def of(cls, field: Array) -> FieldMoments:
        """Of the latents (F, K) of field stars.

        Raises:
            InputError: for another shape, one star alone, or latents that are not finite.
        """
        field = as_tensor(field)
        if field.ndim != 2:
            raise InputError(f"field (F, K) expected, got {tuple(field.shape)}")
        if len(field) < 2:
            raise InputError(f"a covariance of the field needs at least 2 stars, got {len(field)}")
        latents = field.detach().double()
        shift = latents[:BLOCK].mean(0)  # near the mean, so that nothing cancels below
        total, scatter = torch.zeros_like(shift), latents.new_zeros(len(shift), len(shift))
        for block in torch.split(latents, BLOCK):
            deviation = block - shift
            total += deviation.sum(0)
            scatter.addmm_(deviation.T, deviation)
        if not all_finite(total):  # they are, if and only if every latent is
            raise InputError("field and members must be finite: leave out the stars that are not")
        mean = total / len(latents)
        scatter -= len(latents) * torch.outer(mean, mean)
        require_squares(scatter.diagonal(), "the field")
        return cls(mean + shift, scatter / (len(latents) - 1), len(latents))

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


def require_squares(squares: Tensor, what: str) -> None:
    """Refuse what varies by so much, or by so little, that its squares have no digits.

    Raises:
        InputError: where a sum of squares is beyond what float64 holds in full; 0 is not.

    Example:
        >>> require_squares(torch.tensor([0.0, 1.0]), "the field")
    """
    least, largest = SQUARES
    highest = float(squares.max()) if len(squares) else 0.0
    if not highest < largest or 0 < highest < least:
        raise InputError(
            f"{what} varies by {highest:.2g} squared, of which float64 keeps no digits: give latents in another unit"
        )
