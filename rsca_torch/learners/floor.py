"""What only the instrument changes: siblings cannot scatter less than repeated observations of one star do.

docs/maths.md, section 13.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.learners.groups import Groups
from rsca_torch.learners.learner import Labels
from rsca_torch.learners.moments import require_squares
from rsca_torch.learners.wrong_members import farthest
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.spectra.arrays import Array, as_tensor
from rsca_torch.spectra.labels import as_labels
from rsca_torch.spectra.view import AnySpectra

__all__ = ["Repeats", "bounded_scatter", "repeat_scatter", "require_floor", "whitening"]

ROUNDS = 100  # of weights and covariance in turn
SETTLED = 1e-10  # relative change of the weights at which they have
FAR = 2.0  # times the median scatter, as of `farthest`, above which a star's own weighs less: a binary's, as a rule


@dataclass(frozen=True)
class Repeats:
    """What repeated observations of one star say.

    Attributes:
        scatter: (K, K) float64 covariance of the latents of one star, `repeat_scatter`.
        stars: how many stars were observed again.
        freedom: degrees of freedom, observations minus stars.
        weighed_down: stars that scatter more than others do, and so weigh less.
    """

    scatter: Tensor
    stars: int
    freedom: int
    weighed_down: int = 0

    @classmethod
    def of(cls, latents: Array, stars: Labels) -> Repeats:
        """Of R observations; arguments and errors as of `repeat_scatter`."""
        z = as_tensor(latents).double()
        names = as_labels(stars)
        if z.ndim != 2 or len(z) != len(names):
            raise InputError(f"latents (R, K) and R names of stars expected, got {tuple(z.shape)}, {len(names)} names")
        if (names == "").any():
            raise InputError(
                f"{int((names == '').sum())} of {len(names)} observations do not say of which star they are: leave "
                "them out"
            )
        if not z.isfinite().all():
            raise InputError("latents of repeated observations must be finite: leave out those that are not")
        _, number, size = np.unique(names, return_inverse=True, return_counts=True)
        several = size[number] > 1
        z, groups = z[torch.from_numpy(several)], Groups(names[several])
        n_stars, freedom = int((size > 1).sum()), int(several.sum()) - int((size > 1).sum())
        deviation = groups.centred(z)
        require_squares(deviation.square().sum(0), "what was observed again")
        own = (groups.size - 1).double()
        weight, limit = torch.ones_like(own), farthest(FAR, z.shape[1])
        for _ in range(ROUNDS):
            scatter = (deviation * weight[groups.number, None]).T @ deviation / (weight @ own).clamp(min=1)
            if freedom < z.shape[1]:  # then the scatter bounds nothing, and no star stands out from it
                break
            white = torch.linalg.solve_triangular(_root(scatter, "their scatter"), deviation.T, upper=False)
            far = groups.sums(white.square().sum(0)[:, None])[:, 0] / own
            before, weight = weight, (limit * far.median() / far).clamp(max=1)
            if (weight - before).abs().max() <= SETTLED:
                break
        return cls(scatter, n_stars, freedom, int((weight < 1).sum()))

    @classmethod
    def of_spectra(cls, ppca: MaskedPPCA, latents: Tensor, ids: Labels, again: AnySpectra | None) -> Repeats | None:
        """Of stars (N, K) and further spectra, by id; those of other stars are left out. None: none is of these."""
        if not again:
            return None
        return cls.of_some(latents, ids, ppca.latents(again), again.stars.repeat_of, again.stars.are_parts)

    @classmethod
    def of_some(
        cls, latents: Tensor, ids: Labels, again: Tensor, repeat_of: Labels, parts: bool = False
    ) -> Repeats | None:
        """As `of_spectra`, of further latents (R, K).

        Args:
            latents: (N, K) of stars.
            ids: theirs.
            again: (R, K) of further observations.
            repeat_of: the star of each.
            parts: they are what the latents are the means of, visits of co-adds: they tell how a mean of as many
                scatters (docs/maths.md, 13.1b), and the mean itself adds nothing.
        """
        ids, repeat_of = np.asarray(ids), np.asarray(repeat_of)
        known = np.isin(repeat_of, ids)
        if not known.any():
            return None
        if parts:
            names, number, size = np.unique(repeat_of[known], return_inverse=True, return_counts=True)
            visits = again[torch.from_numpy(known)].double()
            share = torch.from_numpy(1 / np.sqrt(size[number]))[:, None]
            mean = visits.new_zeros(len(names), visits.shape[1]).index_add_(0, torch.from_numpy(number), visits)
            mean = (mean / torch.from_numpy(size)[:, None])[torch.from_numpy(number)]
            return cls.of(mean + share * (visits - mean), repeat_of[known])
        seen_again = np.isin(ids, repeat_of[known])
        observations = torch.cat([latents[torch.from_numpy(seen_again)], again[torch.from_numpy(known)]])
        return cls.of(observations, np.concatenate([ids[seen_again], repeat_of[known]]))

    def bound(self) -> Tensor:
        """The scatter, where it bounds all dimensions.

        Raises:
            InputError: for fewer degrees of freedom than dimensions.
        """
        if self.freedom < len(self.scatter):
            raise InputError(
                f"{self.freedom} degrees of freedom from repeated observations of {self.stars} stars (observations "
                f"minus stars) cannot bound {len(self.scatter)} dimensions: give more of them, lower n_components, or "
                "take floor=noise, as floor=auto does then"
            )
        return self.scatter


def repeat_scatter(latents: Array, stars: Labels) -> Tensor:
    """Pooled covariance of repeated observations of one star (docs/maths.md, 13.1).

    A star whose own observations scatter far more than the median star's, as a binary's may, weighs less: by as many
    times as it scatters more than `farthest` allows.

    Args:
        latents: (R, K) of all observations.
        stars: R names: which star each is of. A star that was observed once says nothing.

    Returns:
        (K, K) float64, symmetric, positive definite.

    Raises:
        InputError: for other shapes, numbers that are not finite, an observation of no star, or fewer degrees of
            freedom, observations minus stars, than dimensions.

    Examples:
        >>> random = np.random.default_rng(0)
        >>> truth = np.repeat(random.normal(size=(2000, 2)), 2, axis=0)  # 2,000 stars, each observed twice
        >>> observed = truth + random.normal(size=truth.shape) * [0.1, 0.3]
        >>> repeat_scatter(observed, np.repeat(np.arange(2000), 2)).diagonal().sqrt()
        tensor([0.0..., 0.2...], dtype=torch.float64)
    """
    return Repeats.of(latents, stars).bound()


def bounded_scatter(scatter: Tensor, floor: Tensor) -> Tensor:
    """The covariance W >= floor under which a sample with this covariance is the most likely (docs/maths.md, 13.2).

    Args:
        scatter: (K, K) sample covariance.
        floor: (K, K) positive definite; W minus it has no negative eigenvalue.

    Raises:
        InputError: as `require_floor` does.

    Examples:
        >>> scatter = torch.tensor([[4.0, 0.0], [0.0, 0.01]], dtype=torch.float64)
        >>> bounded_scatter(scatter, torch.eye(2, dtype=torch.float64))
        tensor([[4., 0.],
                [0., 1.]], dtype=torch.float64)
    """
    floor = require_floor(floor, len(scatter))
    white = whitening(floor)
    variance, axes = torch.linalg.eigh(white @ scatter @ white.T)
    back = torch.linalg.solve(white, axes)
    bounded: Tensor = (back * variance.clamp(min=1)) @ back.T
    return bounded


def whitening(floor: Tensor) -> Tensor:
    """(K, K) A with A floor A^T the identity."""
    root = _root(floor, "the floor")
    identity = torch.eye(len(root), dtype=root.dtype, device=root.device)
    inverse: Tensor = torch.linalg.solve_triangular(root, identity, upper=False)
    return inverse


def require_floor(floor: Array, n_dimensions: int) -> Tensor:
    """(K, K) float64.

    Raises:
        InputError: for another size, or what is not symmetric or not positive definite.
    """
    given = as_tensor(floor).double()
    if tuple(given.shape) != (n_dimensions, n_dimensions):
        raise InputError(
            f"a floor ({n_dimensions}, {n_dimensions}) of these latents expected, got {tuple(given.shape)}"
        )
    near = 1e-8 * float(given.diagonal().abs().max())
    if not given.isfinite().all() or not torch.allclose(given, given.T, rtol=0, atol=near):
        raise InputError("the floor is no covariance: it must be finite and symmetric")
    _root(given, "the floor")
    return given


def _root(covariance: Tensor, what: str) -> Tensor:
    root: Tensor
    root, failed = torch.linalg.cholesky_ex(covariance)
    if failed:
        raise InputError(
            f"{what} spans fewer than {len(covariance)} dimensions, or is no covariance: positive definite expected"
        )
    return root
