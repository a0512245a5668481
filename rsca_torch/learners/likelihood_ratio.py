"""The log likelihood ratio of siblings to strangers, from RSCA embeddings (docs/maths.md, section 14).

Two-covariance PLDA (Ioffe 2006): a star is its cluster's centre plus what siblings differ by, both Gaussian. Along a
sphered axis u the field has variance 1, siblings about their centre s^2 and centres rho = 1 - s^2. RSCA multiplies the
axis by w = sqrt(1 / s^2 - 1) = 1 / sigma_r, so that u = sigma_r y and rho = 1 / (1 + sigma_r^2).

What siblings differ by is Student's t, not Gaussian: s is known from few members, and the noise of stars is not alike.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.spectra.arrays import Array, all_finite, as_tensor

__all__ = [
    "FREEDOM",
    "at_the_middle",
    "joint_log_ratio",
    "joint_log_ratio_of_cluster",
    "log_likelihood_ratio",
    "log_likelihood_ratio_of_cluster",
    "require_sigma_r",
]

LARGEST = 1e150  # of embeddings, and of sigma_r and its inverse: their squares are numbers
FREEDOM = 30.0  # of Student's t; by evidence, and 10 to 100 do nearly as well (docs/maths.md, 14)


def log_likelihood_ratio(members: Array, stars: Array, sigma_r: Array, freedom: float = FREEDOM) -> Tensor:
    """The log of p(both | siblings) / p(both | strangers) of every pair, eq. 14.6; with freedom=inf eq. 14.3.

    Of direct differences, as distances are: near-identical stars are the point. Nothing of size m x n x D is made.

    Args:
        members: (m, D) RSCA embeddings.
        stars: (n, D) likewise.
        sigma_r: (D,) of the learner that made them; a dimension where it is infinite tells nothing.
        freedom: degrees of freedom of what siblings differ by; infinite: Gaussian.

    Returns:
        (m, n) float64, in nats.

    Raises:
        InputError: for shapes that disagree, or a sigma_r or a freedom that is not positive.

    Examples:
        Stars that are alike in a rare place are better evidence than stars as much alike in the crowd:

        >>> common, rare = torch.tensor([[0.0]]), torch.tensor([[20.0]])
        >>> crowd = log_likelihood_ratio(common, common + 1, torch.tensor([0.1]))
        >>> apart = log_likelihood_ratio(rare, rare + 1, torch.tensor([0.1]))
        >>> print(f"{crowd.item():.2f} {apart.item():.2f}")
        1.70 3.79
    """
    (one, other), sigma_r = _told(members, stars, sigma_r)
    share = sigma_r.square() / (2 + sigma_r.square())
    # (x + y)^2 = 2 x^2 + 2 y^2 - (x - y)^2: what is left of the sum is of each star by itself.
    scaled = (1 + share).sqrt() / 2
    apart = torch.cdist(one * scaled, other * scaled, compute_mode="donot_use_mm_for_euclid_dist").square()
    rare, others_rare = (embedded.square() @ share / 2 for embedded in (one, other))
    told = (rare[:, None] + others_rare) - apart + at_the_middle(sigma_r)
    if math.isinf(freedom):
        return told
    in_siblings_spread = ((1 + sigma_r.square()) / 2).sqrt()  # d^2 / (2 s^2), as s^2 = sigma_r^2 / (1 + sigma_r^2)
    far = torch.cdist(one * in_siblings_spread, other * in_siblings_spread, compute_mode="donot_use_mm_for_euclid_dist")
    return told + _heavier(far.square_(), len(sigma_r), freedom)


def log_likelihood_ratio_of_cluster(siblings: Array, stars: Array, sigma_r: Array, freedom: float = FREEDOM) -> Tensor:
    """The log of p(star | sibling of these) / p(star | stranger), eq. 14.7; with freedom=inf eq. 14.5.

    Of one sibling and freedom=inf it is that of the pair.

    Args:
        siblings: (n, D) RSCA embeddings of the known members of one cluster, n >= 1.
        stars: (m, D) embeddings of stars that may be further ones.
        sigma_r: (D,) of the learner that made them.
        freedom: degrees of freedom of what siblings differ by; infinite: Gaussian.

    Returns:
        (m,) float64, in nats.

    Raises:
        InputError: for shapes that disagree, no sibling, or a sigma_r or a freedom that is not positive.

    Examples:
        The more members are known, the surer it is where the cluster lies:

        >>> star, sigma_r = torch.tensor([[0.5]]), torch.tensor([0.3])
        >>> few, many = torch.zeros(1, 1), torch.zeros(10, 1)
        >>> for known in (few, many):
        ...     print(f"{log_likelihood_ratio_of_cluster(known, star, sigma_r).item():.3f}")
        0.851
        1.075
    """
    (known, new), sigma_r = _told(siblings, stars, sigma_r)
    if not len(known):
        raise InputError("a cluster without a known member has no place: give one sibling at least")
    ratio = sigma_r**-2  # rho / s^2
    shrunk = len(known) * ratio / (len(known) * ratio + 1)
    variance = (1 + ratio / (len(known) * ratio + 1)) / (1 + ratio)
    new, centre = new * sigma_r, shrunk * sigma_r * known.mean(0)
    far = ((new - centre).square() / variance).sum(1)
    told = (new.square().sum(1) - far - variance.log().sum()) / 2
    return told if math.isinf(freedom) else told + _heavier(far, len(sigma_r), freedom)


def joint_log_ratio(members: Array, stars: Array, sigma_r: Array, freedom: float = FREEDOM) -> Tensor:
    """The log of p(both | siblings) / p(both | strangers) of every pair, both Student's t of all coordinates together.

    Eq. 16.1; with freedom=inf eq. 14.3. What `rsca siblings` ranks by: the tail of (14.6) is under the siblings alone,
    so that two stars in a rare place are siblings whatever their distance; here strangers have it too.

    Args:
        members: (m, D) RSCA embeddings.
        stars: (n, D) likewise.
        sigma_r: (D,) of the learner that made them; a dimension where it is infinite tells nothing.
        freedom: degrees of freedom; infinite: Gaussian.

    Returns:
        (m, n) float64, in nats.

    Raises:
        InputError: for shapes that disagree, or a sigma_r or a freedom that is not positive.

    Examples:
        >>> common, rare, sigma_r = torch.tensor([[0.0]]), torch.tensor([[20.0]]), torch.tensor([0.2])
        >>> for star in (common, rare):
        ...     print(f"{joint_log_ratio(star, star + 1, sigma_r).item():.2f}")
        1.03
        5.92
    """
    gauss = log_likelihood_ratio(members, stars, sigma_r, freedom=math.inf)
    (one, other), spread = _told(members, stars, sigma_r)
    _require_freedom(freedom)
    if math.isinf(freedom):
        return gauss
    constant = at_the_middle(spread)
    alone = (one * spread).square().sum(1)[:, None] + (other * spread).square().sum(1)
    return _joint(constant, alone - 2 * (gauss - constant), alone, 2 * len(spread), freedom)


def joint_log_ratio_of_cluster(siblings: Array, stars: Array, sigma_r: Array, freedom: float = FREEDOM) -> Tensor:
    """The log of p(star | sibling of these) / p(star | stranger), all stars' coordinates together Student's t.

    Eq. 16.3; of one sibling it is `joint_log_ratio`, with freedom=inf eq. 14.5.

    Args:
        siblings: (n, D) RSCA embeddings of the known members of one cluster, n >= 1.
        stars: (m, D) embeddings of stars that may be further ones.
        sigma_r: (D,) of the learner that made them.
        freedom: degrees of freedom; infinite: Gaussian.

    Returns:
        (m,) float64, in nats.

    Raises:
        InputError: for shapes that disagree, no sibling, or a sigma_r or a freedom that is not positive.

    Examples:
        >>> known, star, sigma_r = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.5]]), torch.tensor([0.2])
        >>> joint_log_ratio_of_cluster(known, star, sigma_r)
        tensor([1.4777], dtype=torch.float64)
    """
    gauss = log_likelihood_ratio_of_cluster(siblings, stars, sigma_r, freedom=math.inf)
    (known, new), spread = _told(siblings, stars, sigma_r)
    _require_freedom(freedom)
    if math.isinf(freedom):
        return gauss
    n, ratio = len(known), spread**-2  # rho / s^2
    variance = 1 / (1 + ratio)  # s^2
    known, new = known * spread, new * spread
    # Of the known together: they scatter about a centre of variance rho (Woodbury).
    scatter = known.square().sum(0) - ratio * known.sum(0).square() / (1 + n * ratio)
    of_known = (scatter / variance).sum()
    constant = -((1 + ratio / (n * ratio + 1)) * variance).log().sum() / 2
    alone = of_known + new.square().sum(1)
    return _joint(constant, alone - 2 * (gauss - constant), alone, (n + 1) * len(spread), freedom)


def _joint(constant: Tensor, together: Tensor, alone: Tensor, dimensions: int, freedom: float) -> Tensor:
    """Of squared lengths under both hypotheses."""
    return constant - (freedom + dimensions) / 2 * torch.log((freedom + together) / (freedom + alone))


def at_the_middle(sigma_r: Tensor) -> Tensor:
    """The log likelihood ratio, Gaussian, of two stars at the field's centre: - sum ln(1 - rho^2) / 2, finite sigma_r.

    1 - rho^2 = s^2 (1 + rho); of a small s a difference from 1 has no digits left.
    """
    square = sigma_r.square()
    rho = 1 / (1 + square)
    small = 2 * sigma_r.log() - torch.log1p(square) + torch.log1p(rho)
    return -torch.where(sigma_r < 1, small, torch.log1p(-rho.square())).sum() / 2


def _require_freedom(freedom: float) -> None:
    if not freedom > 0:
        raise InputError(f"freedom must be positive, infinite for a Gaussian, got {freedom}")


def _heavier(far: Tensor, n_dimensions: int, freedom: float) -> Tensor:
    """The log of Student's density over the Gaussian's, of squared distances in units of their common scale."""
    _require_freedom(freedom)
    both = freedom + n_dimensions
    constant = math.lgamma(both / 2) - math.lgamma(freedom / 2) - n_dimensions / 2 * math.log(freedom / 2)
    return constant - both / 2 * torch.log1p(far / freedom) + far / 2


def _told(one: Array, other: Array, sigma_r: Array) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Float64, in the dimensions that tell something."""
    first, second, spread = (as_tensor(given).double() for given in (one, other, sigma_r))
    if first.ndim != 2 or second.ndim != 2 or not first.shape[1:] == second.shape[1:] == spread.shape:
        shapes = ", ".join(str(tuple(given.shape)) for given in (first, second, spread))
        raise InputError(f"embeddings (m, D) and (n, D) and sigma_r (D,) expected, got {shapes}")
    require_sigma_r(spread)
    for given in (first, second):
        if not all_finite(given) or (given.numel() and not given.abs().max() < LARGEST):
            raise InputError(f"embeddings must be finite, below {LARGEST:g}: leave out stars whose are not")
    tells = spread < LARGEST  # beyond it a dimension tells nothing to the last digit
    return (first[:, tells], second[:, tells]), spread[tells]


def require_sigma_r(sigma_r: Tensor) -> None:
    """Raises InputError where one is not positive, or so small that its square is 0."""
    if not (sigma_r > 1 / LARGEST).all():
        raise InputError(f"sigma_r must be positive, infinite where a dimension tells nothing, got {sigma_r.tolist()}")
