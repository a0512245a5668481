"""RSCA's steps 2 to 4: sphere, reparametrise, rescale (paper, sections 3.3 to 3.5; docs/maths.md, sections 2 to 4)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.learners.floor import Repeats, require_floor, whitening
from rsca_torch.learners.groups import Groups
from rsca_torch.learners.learner import Labels
from rsca_torch.learners.likelihood_ratio import log_likelihood_ratio
from rsca_torch.learners.moments import FieldMoments
from rsca_torch.learners.options import require_choice, require_whole
from rsca_torch.learners.weighing import Rescaled
from rsca_torch.learners.wrong_members import farthest, squared_distances
from rsca_torch.ppca.initialisation import MAD_TO_SIGMA
from rsca_torch.spectra.arrays import Array, as_tensor

__all__ = ["ScaledComponents", "require_dimensions"]

ENOUGH = 1.5  # degrees of freedom a dimension, from which on floor="auto" takes the repeats


class ScaledComponents(Rescaled):
    """Steps 2 to 4: the squared distance is d^T (S_c^-1 - S_pop^-1) d with robust diagonals, a log likelihood ratio.

    Args:
        robust: spread inside a cluster by 1.4826 MAD (the paper); False: by the sample standard deviation.
        pooled: eq. 6, clusters pooled by their degrees of freedom; False: one MAD of all centred members. Of standard
            deviations the two are the same, M - C of M members in C clusters in the denominator.
        top: keep only so many of the most important dimensions. None: all.
        mad_factor: times which a MAD is a spread: 1.4826 estimates the standard deviation of normal numbers, as the
            authors' program does; 1 is eq. 7 of the paper as it is printed.
        clamp: what a spread inside clusters of 1 or more is replaced by, as the authors' program does. None: such a
            dimension has the weight 0.
        unspanned: "refuse" members that span fewer than K dimensions, M - C of M members in C clusters; or "drop" the
            directions in which siblings cannot differ: they get the weight 0, and a warning has their number. For what
            comes with the dimensions that it has, as abundances do; of step 1 a lower n_components is better. With a
            floor siblings differ in every direction, and it has no part.
        floor: what siblings cannot scatter less than (docs/maths.md, 13): (K, K) covariance of these latents, as of
            `repeat_scatter`; "noise": that of the members' own errors, which `initialise` is given then; "repeats":
            that of repeated observations (`repeats`); "auto": repeats where they have 1.5 times as many degrees of
            freedom as there are dimensions, else noise where it is known; None, "none": nothing.
        trim: leave out members whose squared distance from the median of their cluster is more than so many times the
            median of those kept, until nothing changes (docs/maths.md, 13.4). None: all members are taken as listed.
        score: "distance", by which stars are told apart; or "likelihood", the log likelihood ratio of siblings to
            strangers, which also says that alike stars in a rare place are better evidence (docs/maths.md, 14).

    Without options it is RSCA as the paper has it, learner=paper_text; what `rsca compare` and `RSCA.fit` take where
    nothing is said is robust=False, floor="auto", trim=2.0 (conf/learner/rsca.yaml; docs/repeats.md).

    Attributes:
        repeats: what repeated observations say, for floor="repeats" and "auto"; to be set before `initialise`.
        bound: (K, K) the floor that was used; None: none.
        bounded_by: "given", "noise", "repeats" or "none".
        kept: (M,) bool, which members say how siblings scatter; after a fit with trim.
        far: (M,) float64 squared distance of each member from its cluster, about K of a right one.
        limit: the largest of one that is kept.
        axes: (D, K) rows along which siblings have unit variance; after a fit with trim.

    Raises:
        InputError: for options out of range; from `initialise`, where the field or (unspanned="refuse") the members
            span fewer than K dimensions (says how many), or for a floor that is no covariance or cannot be had.

    Warns:
        NumericalWarning: from `initialise`, with the number of dimensions that have no weight.

    Examples:
        Siblings come out close together, strangers far apart:

        >>> import torch
        >>> from rsca_torch import ScaledComponents, doppelganger_rate
        >>> from rsca_torch.testing import drawn_problem
        >>> stars = drawn_problem()  # 300 field stars, 30 members of 5 clusters, 6 latents
        >>> learner = ScaledComponents()
        >>> learner.initialise(stars.field, stars.members, stars.clusters)
        >>> learner
        ScaledComponents(6 -> 6, fitted on 5 clusters: NGC 0, NGC 1, NGC 2, ...)
        >>> field, siblings = learner(stars.field), learner(stars.members[stars.clusters == "NGC 0"])
        >>> torch.pdist(siblings).median(), torch.cdist(siblings, field).median()
        (tensor(4.1149, dtype=torch.float64), tensor(16.4788, dtype=torch.float64))
        >>> doppelganger_rate(siblings, field)
        0.0
    """

    name = "rsca"
    repeats: Repeats | None = None
    bound: Tensor | None = None
    bounded_by: str = "none"
    kept: Tensor | None = None
    far: Tensor | None = None
    limit: Tensor | None = None
    axes: Tensor | None = None

    def __init__(
        self,
        robust: bool = True,
        pooled: bool = True,
        top: int | None = None,
        mad_factor: float = MAD_TO_SIGMA,
        clamp: float | None = None,
        unspanned: str = "refuse",
        floor: Array | str | None = None,
        trim: float | None = None,
        score: str = "distance",
    ) -> None:
        super().__init__(robust, pooled, top, mad_factor, clamp)
        require_choice("unspanned", unspanned, "refuse", "drop")
        self.floor: Tensor | str = "none" if floor is None else floor if isinstance(floor, str) else as_tensor(floor)
        if isinstance(self.floor, str):
            require_choice("floor", self.floor, "none", "noise", "repeats", "auto")
        if trim is not None and not trim >= 1:
            raise InputError(f"trim must be at least 1, times the median squared distance, got {trim}")
        self.unspanned, self.trim = unspanned, trim
        require_choice("score", score, "distance", "likelihood")
        self.gives_scores = score == "likelihood"
        if self.gives_scores:  # so that both stand in one table
            self.name = "rsca by likelihood"

    def score(self, members: Array, stars: Array) -> Tensor:
        """(m, K), (n, K) latents -> (m, n) float64: minus the distance, or the log likelihood ratio in nats."""
        if not self.gives_scores:
            return super().score(as_tensor(members), as_tensor(stars))
        return log_likelihood_ratio(self(members), self(stars), self.sigma_r)

    @property
    def is_bounded(self) -> bool:
        """Whether siblings' scatter has a floor: any two members of a cluster then carry any number of dimensions."""
        return isinstance(self.floor, Tensor) or self.floor != "none"

    def initialise(
        self,
        field: Array,
        members: Array,
        clusters: Labels,
        summary: FieldMoments | None = None,
        noise: Array | None = None,
    ) -> None:
        """Fit; shapes as in Learner.initialise. `summary`: that of the field, where it is known.

        `noise` (M, K, K): the covariance that the members' own errors give their latents, for floor="noise".

        Raises:
            InputError: for what the class says of itself, and where a floor is wanted that cannot be had.
        """
        self.bound, self.bounded_by = self._bound(as_tensor(members).shape[-1], noise)
        super().initialise(field, members, clusters, summary)

    def _kind_of_floor(self, n_dimensions: int, noise_is_known: bool) -> str:
        """What the floor under the scatter of K latents is of: "given", or as `floor` names it."""
        if isinstance(self.floor, Tensor):
            return "given"
        if self.floor != "auto":
            return self.floor
        if self.repeats is not None and self.repeats.freedom >= ENOUGH * n_dimensions:
            return "repeats"
        return "noise" if noise_is_known else "none"

    def _bound(self, n_dimensions: int, noise: Array | None) -> tuple[Tensor | None, str]:
        """The floor, and what it is of."""
        kind = self._kind_of_floor(n_dimensions, noise is not None)
        if isinstance(self.floor, Tensor):
            return require_floor(self.floor, n_dimensions), kind
        if kind == "repeats":
            if self.repeats is None:
                raise InputError(
                    "floor=repeats needs repeated observations of stars, and there are none: give them, or take "
                    "floor=noise or floor=auto"
                )
            return require_floor(self.repeats.bound(), n_dimensions), kind
        if kind == "noise":
            if noise is None:
                raise InputError("floor=noise needs the errors of the members, which are not known: take floor=none")
            return require_floor(as_tensor(noise).double().mean(0), n_dimensions), kind
        return None, "none"

    def _closed_form(self, moments: FieldMoments, members: Tensor, groups: Groups) -> Tensor:
        if self.bound is None and self.unspanned == "refuse":
            require_dimensions(members.shape[1], moments.n_stars, groups.labels)
        near = torch.ones(len(members), dtype=torch.bool, device=members.device)
        tried: set[bytes] = set()
        while near.cpu().numpy().tobytes() not in tried:
            kept, here = near, groups if near.all() else groups.some(near)
            unspanned = 0 if self.bound is not None else max(0, members.shape[1] - (len(here.number) - len(here)))
            axes, spread = self._axes(moments, here.centred(members[kept]), here)
            if self.trim is None or not (spread[unspanned:] > 0).all():
                break
            self.axes = (axes / spread[:, None])[unspanned:]
            self.far, counted = squared_distances(members @ self.axes.T, groups, kept)
            self.kept, self.limit = kept, self.far[counted & kept].median() * farthest(self.trim, len(self.axes))
            tried.add(kept.cpu().numpy().tobytes())
            near = self.far <= self.limit
            if not (groups.some(near).size > 1).any():
                raise InputError(f"trim={self.trim} leaves no cluster with two members: give a larger one, or None")
        return self._weighed(axes, spread, here, unspanned)

    def set_apart(self, members: Array, clusters: Labels) -> tuple[Tensor, Tensor]:
        """Members (M, K) of any clusters that are too far from theirs to be siblings, by the scatter that was fitted.

        Returns:
            (M,) float64 squared distance from the cluster's kept members, about K of a right one; (M,) bool, kept.

        Raises:
            InputError: where it was fitted without trim.
        """
        if self.axes is None or self.limit is None:
            raise InputError("what is too far from a cluster is known after a fit with trim: give trim, e.g. 2")
        along, groups = as_tensor(members).double() @ self.axes.T, Groups(clusters, self.axes.device)
        near, tried = torch.ones(len(along), dtype=torch.bool, device=self.axes.device), set()
        while near.cpu().numpy().tobytes() not in tried:
            tried.add(near.cpu().numpy().tobytes())
            far, _ = squared_distances(along, groups, near)
            near = far <= self.limit
        return far, near

    def _axes(self, moments: FieldMoments, centred: Tensor, groups: Groups) -> tuple[Tensor, Tensor]:
        """(K, K) rows along which the field has unit variance and siblings are uncorrelated, and (K,) their spread."""
        white = moments.sphere if self.bound is None else whitening(self.bound)
        whitened = centred @ white.T
        _, axes = torch.linalg.eigh(whitened.T @ whitened)
        rows = axes.T @ white
        spread = self._spread(centred @ rows.T, groups)
        if self.bound is None:
            return rows, spread
        half = moments.sphere @ torch.linalg.solve(white, axes * spread.clamp(min=1))  # W = half half^T in the sphere
        axes, spread, _ = torch.linalg.svd(half)
        return axes.T @ moments.sphere, spread


def require_dimensions(n_components: int, n_field: int, clusters: Labels) -> None:
    """Steps 2 and 3 need as many field stars and members (minus one a cluster) as there are dimensions.

    Raises:
        InputError: says the limit.

    Examples:
        >>> from rsca_torch.learners import require_dimensions
        >>> require_dimensions(6, 100, ["NGC 6791"] * 4 + ["M 67"] * 3)
        Traceback (most recent call last):
        ...
        rsca_torch.errors.InputError: 6 dimensions, but 100 field stars and 7 members ... at most 5 ...
    """
    require_whole("n_components", n_components)
    n_clusters = len(np.unique(np.asarray(clusters, dtype=str)))
    limit = min(n_field - 1, len(clusters) - n_clusters)
    if n_components > limit:
        raise InputError(
            f"{n_components} dimensions, but {n_field} field stars and {len(clusters)} members of {n_clusters} "
            f"clusters can carry at most {limit} (members minus clusters): lower n_components"
        )
