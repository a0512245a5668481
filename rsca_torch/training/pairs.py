"""Which stars are siblings and which strangers may be compared, as tensors, for losses of whatever trains on pairs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.spectra.stars import Stars

__all__ = ["Pairs", "compared_values"]

MEMBERS_AT_ONCE = 64  # whose pairs with all field stars are looked at


class Pairs:
    """Pairs of N stars: siblings, members of one cluster; strangers, a member and a field star who may be compared.

    Two field stars are no pair: nobody knows whether they are siblings. Members of two clusters are no strangers in the
    doppelganger rate, which compares with the field alone, but a loss may use them (`apart`).

    Args:
        stars: N rows, with the role group, '' for field stars.
        rule: says which pairs may be compared, as `rsca_torch.allowed_pairs` does: of like velocity and extinction, so
            that a network cannot tell strangers by these. None: all.
        apart: whether members of two clusters, which the rule allows, are negatives in `among`.

    Attributes:
        names: of the clusters, sorted.
        group: (N,) int64, each star's number in `names`, -1 for a field star.

    Raises:
        InputError: no column plays the role group, or one that the rule compares.

    Examples:
        >>> from rsca_torch import allowed_pairs
        >>> stars = Stars.of({
        ...     "id": [1, 2, 3, 4], "group": ["A", "A", "", ""],
        ...     "velocity": [0.0, 1.0, 2.0, 99.0], "extinction": [0.1] * 4,
        ... })  # fmt: skip
        >>> pairs = Pairs(stars, allowed_pairs)
        >>> pairs.siblings.tolist(), pairs.strangers.tolist()
        ([[0, 1]], [[0, 2], [1, 2]])
        >>> pairs.among([2, 0, 1])
        (tensor([1, 2]), tensor([2, 1]), tensor([1, 2]), tensor([0, 0]))
    """

    def __init__(self, stars: Stars, rule: Callable[..., Tensor] | None = None, apart: bool = True) -> None:
        labels = stars.group
        self.names = [str(name) for name in np.unique(labels[labels != ""])]
        place = {name: number for number, name in enumerate(self.names)}
        self.group = torch.tensor([place.get(label, -1) for label in labels.tolist()], dtype=torch.int64)
        self.rule, self.apart = rule, apart
        self._values = [] if rule is None else compared_values(rule, stars)

    @cached_property
    def siblings(self) -> Tensor:
        """(S, 2) int64 rows of two members of one cluster, each pair once."""
        pairs = [torch.combinations(torch.nonzero(self.group == number)[:, 0]) for number in range(len(self.names))]
        return torch.cat([torch.empty(0, 2, dtype=torch.int64), *pairs])

    @cached_property
    def strangers(self) -> Tensor:
        """(T, 2) int64 rows of a member and a field star that may be compared."""
        member, field = (torch.nonzero(chosen)[:, 0] for chosen in (self.group >= 0, self.group < 0))
        pairs = [torch.empty(0, 2, dtype=torch.int64)]
        for some in torch.split(member, MEMBERS_AT_ONCE):
            one, other = torch.nonzero(self.allowed(some, field), as_tuple=True)
            pairs.append(torch.stack([some[one], field[other]], 1))
        return torch.cat(pairs)

    def allowed(self, rows: Tensor, others: Tensor) -> Tensor:
        """(n, m) bool, which of the stars in these n rows the rule lets be compared with which of the other m."""
        if self.rule is None:
            return torch.ones(len(rows), len(others), dtype=torch.bool)
        velocity, extinction = self._values
        one, other = rows.numpy(), others.numpy()
        return self.rule(velocity[one], velocity[other], extinction[one], extinction[other])

    def among(self, rows: Tensor | list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The pairs of a batch, as losses of pytorch-metric-learning take them (`indices_tuple`).

        Args:
            rows: (B,) of the batch's stars.

        Returns:
            Places in the batch: (p,) anchors and (p,) their siblings, then (q,) anchors and (q,) those that are
            none of theirs. An anchor is a member.
        """
        rows = torch.as_tensor(rows)
        group = self.group[rows]
        same, is_member = group[:, None] == group, group >= 0
        positive = same & is_member[:, None] & ~torch.eye(len(rows), dtype=torch.bool)
        negative = ~same & is_member[:, None] & (self.apart | ~is_member)
        negative = negative & self.allowed(rows, rows)
        anchor, sibling = torch.nonzero(positive, as_tuple=True)
        other_anchor, stranger = torch.nonzero(negative, as_tuple=True)
        return anchor, sibling, other_anchor, stranger


def compared_values(pairs: Callable[..., Tensor], stars: Stars) -> list[NDArray[np.float64]]:
    """[(N,) velocities, (N,) extinctions] of stars whose pairs are to be judged; NaN where `pairs` compares none.

    Raises:
        InputError: no column plays a role that is compared, i.e. whose limit is not None.
    """
    limits = inspect.signature(pairs).parameters
    values = []
    for role in ("velocity", "extinction"):
        idle = f"max_{role}" in limits and limits[f"max_{role}"].default is None
        if not (idle or stars.has(role)):
            raise InputError(
                f"no column of the star table plays the role {role}, which is needed by the pairs that rsca compare "
                f"allows: compare without it, pairs.max_{role}=null (pairs=all: without any), or name one as "
                f"survey.roles.{role}=COLUMN and ingest again; there are {', '.join(stars.colnames)}"
            )
        values.append(np.full(len(stars), np.nan) if idle else stars.values(role))
    return values
