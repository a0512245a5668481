"""What every bin of a star adds to its features: exact, with its own censored bins and errors (docs/maths.md, 17)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rsca_torch.layers.rsca import RSCA
from rsca_torch.ppca.e_step import Posterior
from rsca_torch.spectra.blocks import Source

__all__ = ["OfStars", "Shared", "of_field", "of_stars"]


@dataclass(frozen=True)
class OfStars:
    """N stars, bin by bin.

    Attributes:
        parts: (N, K, P) float64 what a bin adds to a feature; 0 where it is censored or set aside.
        features: (N, K) float64; `parts` summed over bins, plus a constant that is the same for all stars.
        valid: (N, P) bool, bins that are used; neither censored nor set aside.
    """

    parts: Tensor
    features: Tensor
    valid: Tensor

    @property
    def distance_parts(self) -> Tensor:
        """(P,) what a bin adds to the squared distance of the first two stars (eq. 17.2); their sum is that distance.

        A bin that makes them more alike than the others say adds a negative number.
        """
        return (self.features[0] - self.features[1]) @ (self.parts[0] - self.parts[1])


@dataclass(frozen=True)
class Shared:
    """One feature over N stars.

    Attributes:
        mean: (P,) float64 what a bin adds to it in the mean.
        share: (P,) float64 of its variance that a bin carries (eq. 17.4); they add up to one.
        valid: (P,) share of the stars in which the bin is used.
    """

    mean: Tensor
    share: Tensor
    valid: Tensor


@torch.no_grad()
def of_stars(model: RSCA, spectra: Source) -> OfStars:
    """Of a few stars: N K P numbers.

    Args:
        model: a fitted RSCA.
        spectra: N spectra on the model's bins, without what the model removes.

    Example:
        >>> from rsca_torch import MaskedPPCA
        >>> from rsca_torch.spectra.blocks import Arrays
        >>> one, two, bins = torch.ones(1).double(), torch.ones(2).double(), torch.arange(2.0).double()
        >>> ppca = MaskedPPCA(torch.tensor([[3.0], [4.0]]).double(), two, two, 1.0)
        >>> model = RSCA(ppca, one[:, None], 0 * one, one, bins)
        >>> found = of_stars(model, Arrays(torch.tensor([[4.0, 5.0], [1.0, torch.nan]])))
        >>> found.parts[:, 0]  # (9, 16) / 26; the second star's bin adds 0, and its other bin is censored
        tensor([[0.3462, 0.6154],
                [0.0000, 0.0000]], dtype=torch.float64)
        >>> found.distance_parts, found.features[:, 0].diff().square()
        (tensor([0.3328, 0.5917], dtype=torch.float64), tensor([0.9246], dtype=torch.float64))
    """
    parts, features, valid = [], [], []
    for posterior in model.ppca.posteriors(spectra):
        parts.append(torch.stack([_parts(model, posterior, feature) for feature in range(len(model.sigma_r))], dim=1))
        features.append(model.from_latents(posterior.mean))
        valid.append(_used(posterior))
    return OfStars(torch.cat(parts), torch.cat(features), torch.cat(valid))


@torch.no_grad()
def of_field(model: RSCA, spectra: Source, features: Sequence[int]) -> list[Shared]:
    """How much of each feature's variance among N stars every bin carries, read block by block.

    Args:
        model: a fitted RSCA.
        spectra: as in `of_stars`, of many.
        features: their numbers, from 0.
    """
    sums = [_Sums.nothing(len(model.wavelength)) for _ in features]
    for posterior in model.ppca.posteriors(spectra):
        y, used = model.from_latents(posterior.mean), _used(posterior).double().sum(0)
        for of, feature in zip(sums, features, strict=True):
            of.add(_parts(model, posterior, feature), y[:, feature], used)
    return [of.shared() for of in sums]


@dataclass
class _Sums:
    """Over stars."""

    parts: Tensor
    weighted: Tensor
    used: Tensor
    y: float
    square: float
    stars: int

    @classmethod
    def nothing(cls, n_bins: int) -> _Sums:
        parts, weighted, used = torch.zeros(3, n_bins, dtype=torch.float64)
        return cls(parts, weighted, used, 0.0, 0.0, 0)

    def add(self, parts: Tensor, y: Tensor, used: Tensor) -> None:
        self.parts = self.parts + parts.sum(0)
        self.weighted = self.weighted + y @ parts
        self.used = self.used + used
        self.y, self.square = self.y + float(y.sum()), self.square + float(y.square().sum())
        self.stars += len(y)

    def shared(self) -> Shared:
        mean = self.y / self.stars
        variance = self.square - mean * self.y
        return Shared(self.parts / self.stars, (self.weighted - mean * self.parts) / variance, self.used / self.stars)


def _parts(model: RSCA, posterior: Posterior, feature: int) -> Tensor:
    """(n, P): eq. 17.1, row `feature` of R P^-1 W^T a (x - mu)."""
    row = model.rotation[feature].expand(len(posterior.mean), -1)[..., None]
    along = torch.cholesky_solve(row, posterior.cholesky)[..., 0]
    return posterior.scale * (along @ posterior.model.loadings.T) * posterior.weighted


def _used(posterior: Posterior) -> Tensor:
    """(n, P) bool."""
    used = ~posterior.block.unused
    used[posterior.set_aside.stars, posterior.set_aside.bins] = False
    return used
