"""Bins that the model cannot explain: found without looking at all bins again and again (docs/maths.md, eq. 1.12)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rsca_torch.ppca.products import product

__all__ = ["MARGIN", "Candidates", "SetAside"]

MARGIN = 1.0  # standard deviations inside the threshold, from which on a bin is a candidate


class SetAside(NamedTuple):
    """Bins that the model cannot explain.

    >>> SetAside.none(torch.ones(5, 2)).bins
    tensor([], dtype=torch.int64)
    """

    stars: Tensor  # (m,) rows of the block
    bins: Tensor  # (m,)
    weights: Tensor  # (m,) that they would have had

    @classmethod
    def none(cls, weight: Tensor) -> SetAside:
        """No bin."""
        nothing = torch.zeros(0, dtype=torch.long, device=weight.device)
        return cls(nothing, nothing, weight.new_zeros(0))


class Candidates:
    """The few bins of a block that are set aside, or may be when the mean of their star moves by MARGIN.

    Args:
        weight: (n, P).
        residual: (n, P) flux minus the model's mean.
        loadings: (P, K).
        clip: the threshold, standard deviations.

    Attributes:
        stars: (c,) rising.
        bins: (c,).
        aside: (c,) bool, which of them are set aside.

    Example:
        >>> residual = torch.tensor([[1.0, 5.5, 4.5]])
        >>> some = Candidates(torch.ones(1, 3), residual, torch.zeros(3, 1), clip=5.0)
        >>> some.look(torch.zeros(1, 1))
        >>> some.decide(torch.zeros(1, 1)), some.bins, some.aside
        (tensor([0]), tensor([1, 2]), tensor([ True, False]))
    """

    def __init__(self, weight: Tensor, residual: Tensor, loadings: Tensor, clip: float) -> None:
        self.weight, self.residual, self.loadings, self.clip = weight, residual, loadings, clip
        self.stars = self.bins = torch.zeros(0, dtype=torch.long, device=weight.device)
        self.aside = self.stars.bool()

    def look(self, mean: Tensor, rows: Tensor | None = None) -> None:
        """Find them among all bins of all stars, or of these rows, whose latents are `mean` (n, K)."""
        part = slice(None) if rows is None else rows
        misfit = product(mean[part].to(self.residual), self.loadings.T).sub_(self.residual[part]).square_()
        found = _beyond(misfit.mul_(self.weight[part]), (self.clip - MARGIN) ** 2)
        n_bins = len(self.loadings)
        if rows is not None:
            found += (rows[found // n_bins] - found // n_bins) * n_bins
            known = self.stars * n_bins + self.bins
            aside = known[self.aside]
            found = torch.unique(torch.cat([found, aside, known[~torch.isin(self.stars, rows)]]))
            self.aside = torch.isin(found, aside)
        else:
            self.aside = torch.zeros_like(found, dtype=torch.bool)
        self.stars, self.bins = found // n_bins, found % n_bins

    def decide(self, mean: Tensor) -> Tensor:
        """Set aside what is beyond the threshold now; the rows of the stars in which that changes something."""
        explained = (mean[self.stars].to(self.residual) * self.loadings[self.bins]).sum(1)
        misfit = (self.residual[self.stars, self.bins] - explained).square_()
        found = misfit.mul_(self.weight[self.stars, self.bins]) > self.clip**2
        changed: Tensor = torch.unique(self.stars[found != self.aside])
        self.aside = found
        return changed

    def of(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(stars, bins) of what is set aside in these rows."""
        chosen = self.aside & torch.isin(self.stars, rows)
        return self.stars[chosen], self.bins[chosen]


def _beyond(values: Tensor, least: float) -> Tensor:
    """Places in the flattened tensor; on a CPU NumPy compares and finds them several times as fast."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(values.numpy() > least))
    return (values.flatten() > least).nonzero()[:, 0]
