"""Statistics of every cluster's members at once."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from rsca_torch.learners.learner import Labels

__all__ = ["Groups"]


class Groups:
    """M stars in C clusters, the clusters in the order of their sorted labels.

    Args:
        labels: M of them.
        device: of the statistics.

    Attributes:
        labels: as they were given.
        names: C labels.
        number: (M,) each star's cluster.
        size: (C,) members.
    """

    def __init__(self, labels: Labels, device: torch.device | str = "cpu") -> None:
        self.labels = labels
        names, number = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
        self.names = [str(name) for name in names]
        self.number = torch.from_numpy(number).to(device)
        self.size = torch.bincount(self.number, minlength=len(names))

    def __len__(self) -> int:
        return len(self.names)

    def some(self, chosen: Tensor) -> Groups:
        """Of those stars alone (M,) bool; a cluster without any of them is not there."""
        return Groups(np.asarray(self.labels, dtype=str)[chosen.cpu().numpy()], chosen.device)

    def sums(self, sample: Tensor) -> Tensor:
        """(M, D) -> (C, D)."""
        none = torch.zeros(len(self), sample.shape[1], dtype=sample.dtype, device=sample.device)
        return none.index_add(0, self.number, sample)

    def means(self, sample: Tensor) -> Tensor:
        """(M, D) -> (C, D)."""
        return self.sums(sample) / self.size[:, None]

    def medians(self, sample: Tensor) -> Tensor:
        """(M, D) -> (C, D), of an even number the mean of the middle two; all clusters in one sort."""
        padded = sample.new_full((len(self), sample.shape[1], int(self.size.max())), torch.inf)
        padded[self.number, :, self._place] = sample
        rising = torch.from_numpy(np.sort(padded.cpu().numpy())).to(sample.device)  # three times as fast as torch's
        cluster = torch.arange(len(self), device=sample.device)
        return (rising[cluster, :, (self.size - 1) // 2] + rising[cluster, :, self.size // 2]) / 2

    def centred(self, sample: Tensor) -> Tensor:
        """(M, D) minus the mean of each star's cluster."""
        return sample - self.means(sample)[self.number]

    @cached_property
    def _place(self) -> Tensor:
        """(M,) each star's place among those of its cluster."""
        order = self.number.argsort(stable=True)
        first = self.size.cumsum(0) - self.size
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device) - first[self.number[order]]
        return place
