"""The members of a fold's training clusters, and how a training on them went."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from rsca_torch.errors import InputError

__all__ = ["Members", "Trained"]


@dataclass(frozen=True)
class Members:
    """The members that a learner is trained on, or judged by.

    `members[chosen]` (M bool) are some of them; the pairs, which are many, are not copied for that.

    Attributes:
        z: (M, K) latents, or (M, 2, P) packed spectra.
        labels: M.
        flags: (M, F) bool, the pairs that may be compared; None: not known.
        roots: (M, K, K) R with R R^T the covariance of each star's latents given its errors; None: not known.
        noise: (M, K, K) covariance that the errors of each star give its latents, as they are; None: not known.
        rows: (M,) each star's row of `flags`, which then may have more. None: as they come.

    Examples:
        >>> flags = np.array([[True, False, True], [False, False, True], [True, True, True]])
        >>> members = Members(torch.zeros(3, 2), np.array(["M 67", "M 67", "M 92"]), flags)
        >>> members[members.labels == "M 67"].compared()
        (tensor([0, 2]), tensor([[ True,  True],
                [False,  True]]))
    """

    z: Tensor
    labels: np.ndarray
    flags: np.ndarray | None = None
    roots: Tensor | None = None
    noise: Tensor | None = None
    rows: np.ndarray | None = None

    def compared(self) -> tuple[Tensor, Tensor]:
        """The field stars that may be compared with some member.

        Returns:
            (C,) int64 which they are, and (M, C) bool with whom each may be.

        Raises:
            InputError: where the pairs are not known.
        """
        if self.flags is None:
            raise InputError("which pairs may be compared is not known: give Members(flags=...)")
        rows = np.arange(len(self.z)) if self.rows is None else self.rows
        compared = np.flatnonzero(reduce(np.logical_or, (self.flags[row] for row in rows)))  # no copy of all flags
        return torch.from_numpy(compared), torch.from_numpy(self.flags[np.ix_(rows, compared)])

    def __getitem__(self, chosen: np.ndarray) -> Members:
        rows = np.flatnonzero(chosen)
        here = torch.from_numpy(rows)
        roots, noise = (None if given is None else given[here] for given in (self.roots, self.noise))
        rows = rows if self.rows is None else self.rows[rows]
        return Members(self.z[here], self.labels[chosen], self.flags, roots, noise, rows)

    def with_groups(self, groups: Members | None) -> Members:
        """With the stars of other groups behind them, which teach and never judge: of these no pair is known."""
        if groups is None:
            return self
        both = ((self.roots, groups.roots), (self.noise, groups.noise))
        roots, noise = (None if one is None or other is None else torch.cat([one, other]) for one, other in both)
        return Members(
            torch.cat([self.z, groups.z.to(self.z)]), np.concatenate([self.labels, groups.labels]), None, roots, noise
        )

    def clusters(self) -> list[str]:
        """Their names, sorted."""
        return [str(name) for name in np.unique(self.labels)]

    def judging_clusters(self) -> list[str]:
        """Those that can judge: with two members and a pair that is allowed."""
        names, sizes = np.unique(self.labels, return_counts=True)
        several = names[sizes > 1].tolist()
        return [name for name in several if self.flags is None or len(self[self.labels == name].compared()[0])]


@dataclass(frozen=True)
class Trained:
    """How a training went.

    Attributes:
        epochs: for how many the learner was trained on all training clusters.
        best: of each inner cluster the epoch that was best for it, 0: the start.
        losses: of every epoch, the mean over its steps.
        overlaps: of every epoch, epoch 0 first, `sibling_overlap` of the cluster that was left out; empty: none was.
        effective_rank: of the embedded field, exp of the entropy of its covariance's eigenvalues.
        variance: total, of the embedded field.
        stopped: where it stopped because of a loss that is not a number.
    """

    epochs: int
    losses: list[float]
    best: dict[str, int] = field(default_factory=dict)
    overlaps: list[float] = field(default_factory=list)
    effective_rank: float = math.nan
    variance: float = math.nan
    stopped: int | None = None
