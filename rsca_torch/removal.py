"""What stars of like velocity, extinction or fibre share, found by RSCA on such groups and taken out of the spectra.

The paper's Appendix B sketches it for velocities; docs/maths.md, section 12.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.learners.moments import FieldMoments
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.ppca.frozen import Frozen
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.spectra.arrays import Array
from rsca_torch.spectra.blocks import Arrays, Source
from rsca_torch.spectra.labels import as_labels
from rsca_torch.spectra.stars import ROLES, Stars
from rsca_torch.spectra.view import AnySpectra, View

__all__ = ["Grouping", "Removal", "without"]


class Removal(Frozen):
    """A hyperplane of the spectra, and how a star's place in it is read: x minus directions reading (zbar - centre).

    Frozen, like step 1: buffers only. Made by `Grouping.find`.

    Attributes:
        ppca: the step 1 whose latents zbar are read, each star with its own valid bins and errors.
        directions: (P, d) float64, flux per unit of a coordinate.
        reading: (d, K) float64, latents to coordinates, of unit variance in the field.
        centre: (K,) float64, the field's mean latents.
        shares: (d,) float64, of a coordinate's variance, that stars of a group had in common when it was found.

    Example:
        >>> noise = torch.full((4,), 1e-6).double()
        >>> ppca = MaskedPPCA(torch.eye(4, 2).double(), torch.ones(4).double(), noise, noise_variance=1e-6)
        >>> axis, reading = torch.tensor([[1.0], [0], [0], [0]]).double(), torch.tensor([[1.0, 0.0]]).double()
        >>> removal = Removal(ppca, axis, reading, torch.zeros(2).double(), torch.tensor([0.9]).double())
        >>> removal(torch.tensor([[3.0, 5.0, 1.0, 1.0]]))  # the first bin goes back to its mean
        tensor([[1.0000, 5.0000, 1.0000, 1.0000]])
    """

    directions: Tensor
    reading: Tensor
    centre: Tensor
    shares: Tensor

    def __init__(self, ppca: MaskedPPCA, directions: Tensor, reading: Tensor, centre: Tensor, shares: Tensor) -> None:
        super().__init__()
        self.ppca = ppca
        buffers = {"directions": directions, "reading": reading, "centre": centre, "shares": shares}
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer.contiguous())

    @classmethod
    def _blank(cls) -> Removal:
        one = torch.ones(1, dtype=torch.float64)
        return cls(MaskedPPCA._blank(), one[:, None], one[:, None], one, one)

    def __len__(self) -> int:
        """D."""
        return len(self.reading)

    def forward(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> Tensor:
        """(N, P) flux minus its part in the hyperplane, in the dtype of the flux; arguments as of `MaskedPPCA`."""
        source = Arrays(flux, valid, sigma)
        given = source.read(slice(None))[0]
        return self.minus(given, self.coordinates(source)).to(given.dtype)

    def coordinates(self, source: Source) -> Tensor:
        """(N, d) float64, read block by block."""
        return (self.ppca.latents(source) - self.centre) @ self.reading.double().T

    def minus(self, flux: Tensor, coordinates: Tensor) -> Tensor:
        """(N, P) flux of stars with known coordinates (N, d), minus their part in the hyperplane; float32 at least."""
        flux = flux.to(torch.promote_types(flux.dtype, torch.float32))
        return flux - (coordinates @ self.directions.to(coordinates).T).to(flux.dtype)

    def linear_map(self) -> tuple[Tensor, Tensor]:
        """((d, P), (d,)) what gives the coordinates of a star whose bins are all valid: flux @ first.T + second."""
        read = self.reading @ self.ppca.linear_map()
        return read, -read @ self.ppca.mean.nan_to_num() - self.reading @ self.centre


def without(source: AnySpectra, removal: Removal | None) -> AnySpectra:
    """The spectra minus what is to be removed; as they are where that is nothing."""
    if removal is None or not len(removal):
        return source
    return (source if isinstance(source, View) else View(source)).minus(removal)


@dataclass(frozen=True)
class Grouping:
    """Which stars are alike in something that is no chemistry, and when they share a feature.

    Args:
        column: a role or else a column of the star table.
        width: stars whose values lie in the same interval of this width, from 0, are a group. None: those of one value.
        n_components: K of the step 1 in which it is looked for; `components` says how many few stars can carry.
        least: share of the variance that stars of a group must have in common at least.
        shuffles: of the stars among the groups; a share no larger than the largest that comes of them is chance.

    Raises:
        InputError: for values that say nothing.

    Example:
        >>> stars = Stars.of({"id": ["a", "b", "c", "d", "e"], "velocity": [1.0, 4.0, 7.0, 9.0, 31.0]})
        >>> together, groups = Grouping("velocity", width=5.0).groups(stars)
        >>> together.tolist(), groups.tolist()
        ([True, True, True, True, False], [0, 0, 1, 1])
    """

    column: str
    width: float | None = None
    n_components: int = 30
    least: float = 0.1
    shuffles: int = 50

    def __post_init__(self) -> None:
        numbers = self.width or 0, self.least, self.shuffles
        wrong = not all(isinstance(value, int | float) for value in numbers)
        if wrong or not (self.width is None or 0 < self.width < math.inf) or not 0 <= self.least < 1:
            raise InputError(
                f"remove by {self.column}: a positive width in its units, or none, and least from 0 to below 1 "
                f"expected, got width={self.width} and least={self.least}"
            )
        if self.shuffles < 1:
            raise InputError(f"remove by {self.column}: at least 1 shuffle tells what is chance, got {self.shuffles}")

    def groups(self, stars: Stars) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """(N,) which stars have others in their group, and the labels of those.

        Raises:
            InputError: where the column is not there, has no value, or fewer than two groups have two stars.
        """
        if self.column not in (*ROLES, *stars.colnames):
            raise InputError(
                f"remove by {self.column}: the star table has no such column, but {', '.join(stars.colnames)}"
            )
        values = stars.values(self.column)
        if self.width is not None:
            if values.dtype.kind not in "fiu":
                raise InputError(f"remove by {self.column}: it holds no numbers for width={self.width} to divide")
            values = np.floor(values / self.width)
        if values.dtype.kind in "US":
            values = as_labels(values)
        known = values != "" if values.dtype.kind in "US" else np.isfinite(values)
        if not known.any():
            raise InputError(f"remove by {self.column}: the column has no value")
        _, number, sizes = np.unique(values, return_inverse=True, return_counts=True)
        together = known & (sizes[number] > 1)
        if len(np.unique(number[together])) < 2:
            raise InputError(
                f"remove by {self.column}: {len(np.unique(number[together]))} groups have two stars, two are needed: "
                f"give another width than {self.width}, or more stars"
            )
        return together, number[together]

    def components(self, stars: Stars) -> int:
        """`n_components`, or the most that the stars can carry.

        Raises:
            InputError: as `groups` does.

        Warns:
            NumericalWarning: where that is fewer.
        """
        _, groups = self.groups(stars)
        limit = min(len(stars) - 2, len(groups) - len(np.unique(groups)))  # of step 1, of what is shared
        if self.n_components > limit:
            why = (
                f"remove by {self.column}: {len(stars)} field stars, {len(groups)} of them in "
                f"{len(np.unique(groups))} groups, carry {limit} components: looked for in so many, not in "
                f"{self.n_components}"
            )
            warnings.warn(why, NumericalWarning, stacklevel=2)
        return min(self.n_components, limit)

    def find(self, ppca: MaskedPPCA, field: AnySpectra) -> tuple[Removal, float]:
        """What stars of a group share, of no dimension where it is no more than chance; and the share that is chance.

        Args:
            ppca: step 1 of the field.
            field: F spectra, none of a cluster's member.

        Raises:
            InputError: as `groups` does, and where stars or groups are too few for K dimensions.
        """
        together, groups = self.groups(field.stars)
        latents, rows = ppca.latents(field), torch.from_numpy(together)
        moments, random = FieldMoments.of(latents), np.random.default_rng(0)
        chance = max(
            float(_shared(latents, latents[rows], random.permutation(groups), moments)[0][0])
            for _ in range(self.shuffles)
        )
        metric = ppca.loadings.T @ (ppca.loadings / ppca.bin_variance[:, None])
        basis = left = torch.eye(ppca.n_components, dtype=torch.float64)  # (K, k) of the space that left (K, K) maps to
        directions, reading, shares = left[:, :0], left[:0], left[0, :0]
        while basis.shape[1]:
            within = (latents - moments.mean) @ left.T @ basis
            found, coordinates = _shared(within, within[rows], groups, FieldMoments.of(within))
            kept = found > max(chance, self.least)
            if not kept.any():
                break
            along = basis @ _least_change(basis.T @ metric @ basis, coordinates[kept])
            directions = torch.cat([directions, along], dim=1)
            reading = torch.cat([reading, coordinates[kept] @ basis.T @ left])
            shares = torch.cat([shares, found[kept]])
            left = torch.eye(len(left)).double() - directions @ reading
            basis = torch.linalg.svd(reading)[2][len(reading) :].T
        return Removal(ppca, ppca.loadings @ directions, reading, moments.mean, shares), chance


def _least_change(metric: Tensor, reading: Tensor) -> Tensor:
    """(k, d): of all changes of latents that change their coordinates by one the smallest in the metric (k, k)."""
    along = torch.linalg.solve(metric, reading.T)
    directions: Tensor = torch.linalg.solve(reading @ along, along, left=False)
    return directions


def _shared(latents: Tensor, grouped: Tensor, groups: NDArray[Any], moments: FieldMoments) -> tuple[Tensor, Tensor]:
    """Steps 2 to 4 on groups: ((K,) falling shares of variance in common, (K, K) reading in units of the field)."""
    scaling = ScaledComponents(robust=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)  # dimensions that they do not share
        scaling.initialise(latents, grouped, groups, moments)
    shares = 1 / (1 + scaling.sigma_r.square())  # 1 - sigma_c^2
    return shares, torch.where(shares[:, None] > 0, scaling.sigma_r[:, None], 0) * scaling.weight
