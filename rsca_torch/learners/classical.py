"""Linear maps in closed form from the literature: PCA whitening, RCA, LDA, KISSME (docs/maths.md, section 7)."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.learners.groups import Groups
from rsca_torch.learners.linear import Linear
from rsca_torch.learners.moments import FieldMoments
from rsca_torch.learners.options import require_choice

__all__ = ["KISSME", "LDA", "RCA", "PCAWhitening"]


class PCAWhitening(Linear):
    """The field's sphere: the covariance of the embedded field is the identity (docs/maths.md, eq. 7.1).

    It uses no labels; of the members only shape and finiteness are looked at. Hotelling 1933.

    Args:
        n_dimensions: keep so many dimensions, those of the largest variance in the field. None: all K.

    Raises:
        InputError: from `initialise`, where the field spans fewer than K dimensions (says how many).

    Examples:
        The embedded field varies by one unit along every dimension:

        >>> from rsca_torch import PCAWhitening
        >>> from rsca_torch.testing import drawn_problem
        >>> stars = drawn_problem()  # 300 field stars, 30 members of 5 clusters, 6 latents
        >>> learner = PCAWhitening(n_dimensions=2)
        >>> learner.initialise(stars.field, stars.members, stars.clusters)
        >>> learner(stars.field).std(0)
        tensor([1.0000, 1.0000], dtype=torch.float64)
    """

    name = "pca_whitening"
    paper = "Hotelling 1933"

    def _closed_form(self, moments: FieldMoments, members: Tensor, groups: Groups) -> Tensor:  # noqa: ARG002  (no labels)
        return moments.sphere.flip(0)


class RCA(Linear):
    """Relevant component analysis: the pooled covariance inside clusters becomes the identity (docs/maths.md, eq. 7.3).

    Bar-Hillel, Hertz, Shental & Weinshall 2005. The covariance of the members minus their cluster's mean is divided by
    M - C, their degrees of freedom, as in eq. 4.1; the paper divides by M. All distances differ by one factor.

    Args:
        n_dimensions: keep so many dimensions, those with the largest ratio of the field's variance to that inside
            clusters: the paper's Fisher discriminant from constraints (cFLD), with the field for the unlabelled data.
            None: all K.

    Raises:
        InputError: from `initialise`, where the members inside clusters span fewer than K dimensions (says how many).

    Examples:
        Inside clusters the standard deviation is 1 along every dimension; in the field it is:

        >>> from rsca_torch import RCA
        >>> from rsca_torch.testing import drawn_problem
        >>> stars = drawn_problem()  # 300 field stars, 30 members of 5 clusters, 6 latents
        >>> learner = RCA(n_dimensions=3)
        >>> learner.initialise(stars.field, stars.members, stars.clusters)
        >>> learner(stars.field).std(0)
        tensor([10.6866,  5.1133,  3.9949], dtype=torch.float64)
    """

    name = "rca"
    paper = "Bar-Hillel et al. 2005"

    def _closed_form(self, moments: FieldMoments, members: Tensor, groups: Groups) -> Tensor:
        whitening = _pooled_whitening(members, groups)
        _, axes = torch.linalg.eigh(whitening @ moments.covariance @ whitening.T)
        rows: Tensor = axes.T.flip(0) @ whitening
        return rows


class LDA(Linear):
    """Linear discriminants: the directions that set the means of clusters apart (docs/maths.md, eq. 7.5).

    Fisher 1936; of more than two classes Rao 1948. Each mean weighs by its members. Scaled so that the pooled
    covariance inside clusters, divided by M - C, is the identity.

    Args:
        n_dimensions: keep so many dimensions, those that set the means apart the most. None: min(K, C - 1), all that
            there are.

    Raises:
        InputError: from `initialise`, where the members inside clusters span fewer than K dimensions, or the means of
            clusters fewer than n_dimensions (says how many).

    Examples:
        Five clusters have four directions that set their means apart:

        >>> from rsca_torch import LDA
        >>> from rsca_torch.testing import drawn_problem
        >>> stars = drawn_problem()  # 300 field stars, 30 members of 5 clusters, 6 latents
        >>> learner = LDA()
        >>> learner.initialise(stars.field, stars.members, stars.clusters)
        >>> learner
        LDA(6 -> 4, fitted on 5 clusters: NGC 0, NGC 1, NGC 2, ...)
    """

    name = "lda"
    paper = "Fisher 1936; Rao 1948"

    def _closed_form(self, moments: FieldMoments, members: Tensor, groups: Groups) -> Tensor:  # noqa: ARG002  (no field)
        _require_two_clusters(groups)
        whitening = _pooled_whitening(members, groups)
        between = _between(members, groups)
        wanted = self.n_dimensions or min(members.shape[1], len(groups) - 1)
        rank = _rank(torch.linalg.svdvals(between), members)
        if wanted > rank:
            raise InputError(
                f"{wanted} dimensions of LDA expected, but the means of {len(groups)} clusters span {rank}: "
                f"set n_dimensions to at most {rank}, or give more clusters"
            )
        _, _, axes = torch.linalg.svd(between @ whitening.T, full_matrices=False)
        rows: Tensor = axes @ whitening
        return rows[:wanted]


class KISSME(Linear):
    """The squared distance is d^T M d with M = S_w^-1 - S_pop^-1, a log likelihood ratio (docs/maths.md, eq. 7.6).

    Koestinger, Hirzer, Wohlhart, Roth & Bischof 2012. S_w and S_pop are half the mean of d d^T over the pairs of
    siblings and of strangers. So a cluster weighs by its pairs, n (n - 1), and not by its degrees of freedom as in
    eq. 4.1; of clusters of one size the two are the same. What is negative in M becomes 0, in the latents' own
    coordinates as in the paper: where that happens, distances depend on the units of the latents.

    Args:
        population: who strangers are. "field": pairs of field stars, half of whose mean d d^T is the field's
            covariance; "members": pairs of members of two clusters, as in the paper.

    Attributes:
        dropped: how many of the K eigenvalues of M became 0: the last rows of weight.

    Raises:
        InputError: for another population; from `initialise`, where the field (population="field") or the members
            inside clusters span fewer than K dimensions (says how many), or there is only one cluster
            (population="members").

    Warns:
        NumericalWarning: from `initialise`, where eigenvalues of M are negative, with their number.

    Examples:
        No eigenvalue of M is negative where siblings are closer than strangers in every direction:

        >>> from rsca_torch import KISSME
        >>> from rsca_torch.testing import drawn_problem
        >>> stars = drawn_problem()  # 300 field stars, 30 members of 5 clusters, 6 latents
        >>> learner = KISSME()
        >>> learner.initialise(stars.field, stars.members, stars.clusters)
        >>> learner.dropped
        0
    """

    name = "kissme"
    paper = "Koestinger et al. 2012"

    def __init__(self, population: str = "field") -> None:
        super().__init__()
        require_choice("population", population, "field", "members")
        self.population = population
        self.dropped = 0

    def _closed_form(self, moments: FieldMoments, members: Tensor, groups: Groups) -> Tensor:
        siblings = _sibling_whitening(members, groups)
        strangers = moments.sphere if self.population == "field" else _stranger_whitening(members, groups)
        metric, axes = torch.linalg.eigh(siblings.T @ siblings - strangers.T @ strangers)
        self.dropped = int((metric < 0).sum())
        if self.dropped:
            warnings.warn(
                f"{self.dropped} of {len(metric)} eigenvalues of S_w^-1 - S_pop^-1 are negative: they become 0",
                NumericalWarning,
                stacklevel=3,
            )
        rows: Tensor = (axes * metric.clamp(min=0).sqrt()).T
        return rows.flip(0)


def _require_two_clusters(groups: Groups) -> None:
    if len(groups) < 2:
        raise InputError(f"at least two clusters are needed, to be told apart, got {len(groups)}")


def _between(members: Tensor, groups: Groups) -> Tensor:
    """(C, K) means of clusters minus that of all members, times the root of the cluster's members."""
    return (groups.means(members) - members.mean(0)) * groups.size.double().sqrt()[:, None]


def _pooled_whitening(members: Tensor, groups: Groups) -> Tensor:
    """Of the covariance inside clusters, pooled by degrees of freedom."""
    return _whitening(groups.centred(members), len(members) - len(groups), members, groups)


def _sibling_whitening(members: Tensor, groups: Groups) -> Tensor:
    """Of half the mean d d^T over pairs of siblings (eq. 7.7); both over M, so that no member weighs more than 1."""
    weight = groups.size.double() / len(members)
    pairs = float((weight * (groups.size - 1)).sum())
    return _whitening(groups.centred(members) * weight.sqrt()[groups.number, None], pairs, members, groups)


def _stranger_whitening(members: Tensor, groups: Groups) -> Tensor:
    """Of half the mean d d^T over pairs of members of two clusters (eq. 7.8); both over M."""
    _require_two_clusters(groups)
    weight = 1 - groups.size.double() / len(members)
    inside = groups.centred(members) * weight.sqrt()[groups.number, None]
    pairs = float((weight * groups.size).sum())
    return _whitening(torch.cat([inside, _between(members, groups)]), pairs, members, groups)


def _whitening(deviations: Tensor, freedom: float, members: Tensor, groups: Groups) -> Tensor:
    """(K, K) W with W S W^T = I, S = deviations^T deviations / freedom; by SVD, as S has the square of the condition.

    Raises:
        InputError: where deviations (N, K) span fewer than K dimensions.
    """
    _, length, axes = torch.linalg.svd(deviations, full_matrices=False)
    rank, n_components = _rank(length, members), members.shape[1]
    if rank < n_components:
        raise InputError(
            f"inside clusters {len(members)} members of {len(groups)} clusters span {rank} of {n_components} "
            f"dimensions (at most members minus clusters): lower n_components to {rank}, or give more members"
        )
    whitening: Tensor = axes * (freedom**0.5 / length)[:, None]
    return whitening


def _rank(lengths: Tensor, members: Tensor) -> int:
    """How many of the singular values are more than what rounding of the members leaves."""
    rounding = torch.finfo(members.dtype).eps * max(members.shape) * torch.linalg.norm(members)
    return int((lengths > rounding).sum())
