"""Step 4: dimensions weigh by how much less siblings spread along them than the field does (docs/maths.md, 4)."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.learners.groups import Groups
from rsca_torch.learners.linear import Linear
from rsca_torch.learners.moments import FieldMoments
from rsca_torch.ppca.initialisation import MAD_TO_SIGMA

__all__ = ["Rescaled", "Scaled", "within_cluster_spread"]


class Rescaled(Linear):
    """What step 4 weighs, its dimensions ordered by importance.

    Attributes:
        sigma_r: (D,) float64 rising, the paper's eq. 4 with sigma_pop = 1; inf where a dimension tells nothing.
        dropped: how many of the K dimensions tell nothing (weight exactly 0, or that of `clamp`).
    """

    paper = "de Mijolla & Ness 2022"
    depends_on_units = False
    sigma_r: Tensor

    def __init__(
        self,
        robust: bool = True,
        pooled: bool = True,
        top: int | None = None,
        mad_factor: float = MAD_TO_SIGMA,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        if top is not None and top < 1:
            raise InputError(f"top must be at least 1 dimension, got {top}")
        if not mad_factor > 0:
            raise InputError(f"mad_factor must be positive, got {mad_factor}")
        if clamp is not None and not 0 < clamp < 1:
            raise InputError(f"clamp must lie between 0 and 1, the spread of the field, got {clamp}")
        self.robust, self.pooled, self.top = robust, pooled, top
        self.mad_factor, self.clamp = mad_factor, clamp
        self.dropped = 0
        self.register_buffer("sigma_r", torch.empty(0, dtype=torch.float64))

    def _spread(self, along: Tensor, groups: Groups) -> Tensor:
        """(D,) sigma_c of members minus their mean (M, D)."""
        return within_cluster_spread(along, groups, self.robust, self.mad_factor, self.pooled)

    def _weighed(self, basis: Tensor, sigma_c: Tensor, groups: Groups, unspanned: int = 0) -> Tensor:
        """Step 4 of the rows of `basis` (D, K), along which the field has unit variance and siblings sigma_c (D,).

        So many of its first rows, along which no siblings can differ, get the weight 0.
        """
        nowhere, basis, sigma_c = basis[:unspanned], basis[unspanned:], sigma_c[unspanned:]
        if not (sigma_c > 0).all():
            raise InputError(
                f"{int((sigma_c == 0).sum())} of {len(sigma_c)} dimensions have no spread inside clusters, so their "
                "weight would be infinite: give more members, or lower n_components"
            )
        tells = sigma_c < 1
        self.dropped = int((~tells).sum())
        nothing = 0.0 if self.clamp is None else math.sqrt(1 / self.clamp**2 - 1)
        said = []
        if unspanned:
            said.append(
                f"{unspanned} of {basis.shape[1]} dimensions are not spanned by {len(groups.number)} members of "
                f"{len(groups)} clusters (members minus clusters): weight 0"
            )
        if self.dropped:
            said.append(
                f"{self.dropped} of {len(tells)} dimensions spread as much inside clusters as in the field: "
                f"weight {nothing:.3g}"
            )
        if said:
            warnings.warn("; ".join(said), NumericalWarning, stacklevel=4)
        self.dropped += unspanned
        inverse = torch.where(tells, (1 / sigma_c.square() - 1).clamp(min=0).sqrt(), nothing)
        inverse, basis = torch.cat([inverse, inverse.new_zeros(unspanned)]), torch.cat([basis, nowhere])
        order = inverse.argsort(descending=True, stable=True)[: self.top]
        self.sigma_r = 1 / inverse[order]
        return inverse[order, None] * basis[order]


class Scaled(Rescaled):
    """Step 4 alone: each dimension divided by the field's spread and rescaled, without sphering or rotation.

    "On scaled" of the paper's Figure 4. Its options are those of `ScaledComponents`.

    Raises:
        InputError: for options out of range; from `initialise`, where the field has no spread along a dimension, or
            siblings have none.

    Examples:
        The dimension that tells siblings best comes first; `sigma_r` is large where one tells little:

        >>> from rsca_torch import Scaled
        >>> from rsca_torch.testing import drawn_problem
        >>> stars = drawn_problem()  # 300 field stars, 30 members of 5 clusters, 6 latents
        >>> learner = Scaled()
        >>> learner.initialise(stars.field, stars.members, stars.clusters)
        >>> learner.sigma_r
        tensor([0.1481, 0.1576, 0.2681, 0.4830, 0.5703, 0.6726], dtype=torch.float64)
    """

    name = "scaled"

    def _closed_form(self, moments: FieldMoments, members: Tensor, groups: Groups) -> Tensor:
        spread = moments.covariance.diagonal().sqrt()
        if not (spread > 0).all():
            raise InputError(f"{int((spread == 0).sum())} of {len(spread)} dimensions do not vary in the field")
        sigma_c = self._spread(groups.centred(members) / spread, groups)
        return self._weighed(torch.diag(1 / spread), sigma_c, groups)


def within_cluster_spread(
    centred: Tensor, groups: Groups, robust: bool = True, mad_factor: float = MAD_TO_SIGMA, pooled: bool = True
) -> Tensor:
    """(D,) sigma_c, eq. 6 of the paper: the spread of siblings along each dimension, pooled by n_j - 1 over clusters.

    C means were subtracted, so that the standard deviation of all members has M - C in its denominator, not M - 1.

    Args:
        centred: (M, D) members minus the mean of their cluster.
        groups: the M members by cluster.
        robust: by MAD times mad_factor; False: by the sample standard deviation.
        mad_factor: as in `ScaledComponents`.
        pooled: as in `ScaledComponents`.
    """
    freedom = (groups.size - 1).to(centred.dtype)
    if not (pooled or robust):
        return (centred.square().sum(0) / freedom.sum()).sqrt()
    if not pooled:
        return within_cluster_spread(centred, Groups([""] * len(centred), centred.device), mad_factor=mad_factor)
    if robust:
        deviation = (centred - groups.medians(centred)[groups.number]).abs()
        spread = mad_factor * groups.medians(deviation)  # (C, D), as below; 0 of one star alone
    else:
        spread = (groups.sums(groups.centred(centred).square()) / freedom.clamp(min=1)[:, None]).sqrt()
    return (freedom @ spread.square() / freedom.sum()).sqrt()
