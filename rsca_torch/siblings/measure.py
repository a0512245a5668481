"""By what stars are alike: the distance, or the likelihood ratio, as a fraction that a search can bound."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.learners.likelihood_ratio import FREEDOM, at_the_middle, require_sigma_r
from rsca_torch.spectra.arrays import Array, as_tensor

__all__ = ["Measure"]


@dataclass(frozen=True)
class Measure:
    """Of two stars x, y the value (above + |scale (x - y)|^2 + a_x + a_y) / (below + b_x + b_y): small is alike.

    Attributes:
        scale: (D,) by which coordinates are multiplied.
        above: a constant, at least 0.
        below: a constant above 0.
        each_above: (D,) a_x is the sum of these times x^2; at least 0.
        each_below: (D,) b_x likewise.
        constant: of the log likelihood ratio, in nats.
        power: what minus the logarithm of the value is multiplied by for it.

    Examples:
        >>> from rsca_torch.learners.likelihood_ratio import joint_log_ratio
        >>> sigma_r, x, y = torch.tensor([0.2, 0.9]), torch.tensor([[1.0, 2.0]]), torch.tensor([[1.5, 2.5]])
        >>> measure = Measure.ratio(sigma_r)
        >>> x, y = x.double(), y.double()
        >>> above, below = (one + other for one, other in zip(measure.own(x), measure.own(y)))
        >>> value = measure.value(((x - y) * measure.scale).square().sum(1), above, below)
        >>> torch.allclose(measure.log_ratio(value), joint_log_ratio(x, y, sigma_r)[0])
        True
    """

    scale: Tensor
    above: float
    below: float
    each_above: Tensor
    each_below: Tensor
    constant: float = 0.0
    power: float = 1.0

    @classmethod
    def distance(cls, n_dimensions: int) -> Measure:
        """The squared Euclidean distance."""
        none = torch.zeros(n_dimensions, dtype=torch.float64)
        return cls(torch.ones_like(none), 0.0, 1.0, none, none)

    @classmethod
    def ratio(cls, sigma_r: Array, freedom: float = FREEDOM) -> Measure:
        """The log likelihood ratio of eq. 16.1, the larger the smaller this is.

        Args:
            sigma_r: (D,) of the learner that made the embeddings; infinite where a dimension tells nothing.
            freedom: of Student's t, finite.

        Raises:
            InputError: for a sigma_r or a freedom that is not positive, or where no dimension tells anything.
        """
        spread = as_tensor(sigma_r).double()
        require_sigma_r(spread)
        if not 0 < freedom < math.inf:
            raise InputError(f"a finite freedom must be positive, got {freedom}")
        tells = spread.isfinite()
        if not tells.any():
            raise InputError("no feature of this model tells siblings apart: nothing ranks stars by it")
        square = torch.where(tells, spread, 1).square()
        share = square / (2 + square)  # a of eq. 14.4
        on = tells.double()
        return cls(
            ((1 + share) / 2).sqrt() * on,
            freedom,
            freedom,
            (square - share) * on,
            square * on,
            float(at_the_middle(spread[tells])),
            (freedom + 2 * int(tells.sum())) / 2,
        )

    @property
    def sums(self) -> Tensor:
        """(D, 3) with which squares give a star's squared length when scaled, a_x and b_x."""
        return torch.stack([self.scale.square(), self.each_above, self.each_below], 1)

    def own(self, stars: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) what each star adds to the numerator and to the denominator."""
        square = stars.square()  # sums of rows, not a product: of equal rows the same bits
        return (square * self.each_above).sum(1), (square * self.each_below).sum(1)

    def value(self, apart: Tensor, above: Tensor, below: Tensor) -> Tensor:
        """Of pairs, from their squared scaled differences and the sums of what the two stars add."""
        return (apart + above + self.above) / (below + self.below)

    def log_ratio(self, values: Tensor) -> Tensor:
        """Values -> natural log likelihood ratios."""
        return self.constant - self.power * values.log()
