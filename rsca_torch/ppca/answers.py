"""What a fitted step 1 says of stars."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Embedding", "Misfit"]


class Embedding(NamedTuple):
    """N stars in latents, and what was set aside for it: m bins. Made by `MaskedPPCA.embed`.

    >>> import torch
    >>> from rsca_torch import MaskedPPCA
    >>> from rsca_torch.spectra.blocks import Arrays
    >>> model = MaskedPPCA(torch.tensor([[0.3], [0.4]]), torch.ones(2), torch.ones(2), 1.0, clip=5.0)
    >>> found = model.embed(Arrays(torch.tensor([[1.0, 1.0], [1.0, 99.0]])))
    >>> found.stars, found.bins, found.deviations  # the second star's second bin
    (tensor([1]), tensor([1]), tensor([98.], dtype=torch.float64))
    """

    latents: Tensor  # (N, K) float64
    stars: Tensor  # (m,) rows
    bins: Tensor  # (m,)
    deviations: Tensor  # (m,) float64, flux minus the model's, in standard deviations
    covariances: Tensor | None = None  # (N, K, K) float64, of each star's latents; None: not asked for

    @property
    def noise(self) -> Tensor | None:
        """(N, K, K) covariance that the noise gives each star's latents as they are (eq. 13.3); None: not asked for."""
        return None if self.covariances is None else self.covariances - self.covariances @ self.covariances


class Misfit(NamedTuple):
    """What the model leaves of n stars, float64. Made by `MaskedPPCA.misfits`.

    >>> import torch
    >>> from rsca_torch import MaskedPPCA
    >>> from rsca_torch.spectra.blocks import Arrays
    >>> model = MaskedPPCA(torch.tensor([[3.0], [4.0]]), torch.ones(2), torch.ones(2), 1.0)
    >>> [misfit.sigma for misfit in model.misfits(Arrays(torch.tensor([[4.0, torch.nan]])))]
    [tensor([[1., inf]], dtype=torch.float64)]
    """

    residual: Tensor  # (n, P) flux minus the model's, 0 where not valid
    valid: Tensor  # (n, P) bool; bins that were only set aside are valid
    sigma: Tensor  # (n, P) standard deviation of the noise; inf where not valid
