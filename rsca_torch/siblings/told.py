"""What was found, as a table: of both stars what their survey says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from astropy.table import Table
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.siblings.embedded_stars import EmbeddedStars
from rsca_torch.siblings.star_search import Best

__all__ = ["Found", "table_of"]

ROLES = ("snr", "velocity")  # told of both, under the names that their survey has for them
METALLICITY = "FE_H"


@dataclass(frozen=True)
class Found:
    """Pairs that were found: m of them.

    Attributes:
        asked: (m,) int64 rows of the stars that were asked about; -1: a group.
        group: its name, where one was.
        rank: (m,) from 1.
        rows: (m,) int64 of those that were found.
        ratio: (m,) float64, nats.
        distance: (m,) float64.
        same: (m,) bool, whether both are listed in one group.
        compared: (m,) int64, with how many the asked one was compared.
    """

    asked: NDArray[np.int64]
    group: str
    rank: NDArray[np.int64]
    rows: NDArray[np.int64]
    ratio: Tensor
    distance: Tensor
    same: NDArray[np.bool_]
    compared: Tensor

    @classmethod
    def of(cls, stars: EmbeddedStars, asked: NDArray[np.int64], best: Best) -> Found:
        """Of m stars and the n best of each, of which there may be fewer."""
        number, rank = (best.rows >= 0).nonzero()
        one, other = asked[number], best.rows[number, rank]
        # Some at a time, so that not all features are held.
        parts = [np.array_split(rows, max(1, len(rows) // 2**15)) for rows in (one, other)]
        distance = torch.cat([_distance(stars.at(a), stars.at(b)) for a, b in zip(*parts, strict=True)])
        groups = stars.groups
        same = (groups[one] == groups[other]) & (groups[one] != "")
        ratio = torch.from_numpy(best.ratio[number, rank])
        return cls(one, "", rank + 1, other, ratio, distance, same, torch.from_numpy(best.compared[number]))

    @classmethod
    def of_group(
        cls,
        stars: EmbeddedStars,
        name: str,
        members: NDArray[np.int64],
        rows: NDArray[np.int64],
        ratio: Tensor,
        compared: int,
    ) -> Found:
        """Of a group and its best; distances are from the mean of its (other) members."""
        known, new = stars.at(members), stars.at(rows)
        total = known.sum(0)
        is_member = torch.from_numpy(np.isin(rows, members))[:, None]
        middle = torch.where(is_member, (total - new) / max(1, len(known) - 1), total / len(known))
        distance = _distance(new, middle)
        nobody, rank = np.full(len(rows), -1), np.arange(1, len(rows) + 1)
        same = stars.groups[rows] == name
        return cls(nobody, name, rank, rows, ratio, distance, same, torch.full((len(rows),), compared))


def table_of(
    stars: EmbeddedStars,
    found: Found,
    probability: Tensor,
    expected: Tensor,
    columns: Sequence[str],
    meta: dict[str, Any],
) -> Table:
    """A row for each pair.

    Raises:
        InputError: for a column that the star table has not.
    """
    table, of = stars.stars, found.group
    roles = [role for role in ROLES if table.has(role)]
    wanted = [*roles, *(name for name in (METALLICITY,) if name in table.colnames), *columns]
    values = {table.roles.get(name, name): table.values(name) for name in dict.fromkeys(wanted)}
    told = Table(
        {
            "STAR": np.full(len(found.rows), of) if of else table.id[found.asked],
            "RANK": found.rank,
            "SIBLING": table.id[found.rows],
            "DISTANCE": found.distance.numpy(),
            "LOG_RATIO": found.ratio.numpy(),
            "P_SIBLING": probability.numpy(),
            "EXPECTED": expected.numpy(),
            "SAME_GROUP": found.same,
            "GROUP": stars.groups[found.rows],
            "UNCERTAIN": ~stars.is_certain[found.rows],
            "NOISE": np.asarray(stars.noise)[found.rows],
        }
    )
    for name, each in values.items():
        told[name if name not in told.colnames else f"SIBLING_{name}"] = each[found.rows]
    if not of:
        told["STAR_NOISE"] = np.asarray(stars.noise)[found.asked]
        told["STAR_UNCERTAIN"] = ~stars.is_certain[found.asked]
        for name, each in values.items():
            told[f"STAR_{name}"] = each[found.asked]
    told["COMPARED"] = found.compared.numpy()
    told.meta.update(meta)
    return told


def _distance(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).square().sum(1).sqrt()
