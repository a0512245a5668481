"""One look at all stars with many M-steps on the way: where EM on isotropic noise starts (docs/maths.md, section 1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rsca_torch.ppca.e_step import Parameters
from rsca_torch.ppca.m_step import Moments, moments_of, solutions
from rsca_torch.spectra.blocks import Blocks

__all__ = ["online_em"]

CHUNKS = 16  # M-steps on the way, where stars are many
LEAST_CHUNK = 2048  # stars between two M-steps
FADING = 0.7  # what an M-step knows is mixed with the share number^-0.7 of a new chunk


class _Sums(NamedTuple):
    """What the M-step of isotropic noise needs, a star, with weights of 1 and of residuals from one mean."""

    normal: Tensor  # (P, (K + 1) (K + 2) / 2)
    right: Tensor  # (P, K + 1)
    squares: Tensor  # ()
    n_valid: Tensor  # ()

    @classmethod
    def of(cls, moments: Moments, mean: Tensor) -> _Sums:
        """As if the residuals had been taken from `mean`."""
        normal, right, latent, squares, _, n_valid, _ = moments.tensors()
        variance, stars = moments.theta.scatter, latent[-1, -1]
        change = moments.theta.mean - mean
        first = normal[:, moments.symmetric.position[-1]]  # sum of weight E[y]
        squares = squares + (change * (2 * right[:, -1] + change * first[:, -1])).sum()
        sums = (normal * variance, (right + change[:, None] * first) * variance, squares * variance, n_valid)
        return cls(*(total / stars for total in sums))

    def mixed(self, other: _Sums, share: float) -> _Sums:
        """With a share of another's."""
        return _Sums(*(torch.lerp(mine, theirs, share) for mine, theirs in zip(self, other, strict=True)))


def online_em(blocks: Blocks, theta: Parameters) -> Parameters:
    """Parameters after one look at all stars, isotropic noise: EM on sums in which older chunks fade.

    Source: Cappe & Moulines (2009); docs/maths.md, eq. 1.14.

    Example:
        >>> from rsca_torch.spectra.blocks import Arrays
        >>> blocks = Blocks(Arrays(torch.randn(60, 9, generator=torch.Generator().manual_seed(0))), "isotropic")
        >>> theta = Parameters(torch.ones(9, 1).double(), torch.zeros(9).double(), torch.tensor(1.0).double())
        >>> before, after = (moments_of(blocks, at).log_likelihood for at in (theta, online_em(blocks, theta)))
        >>> after > before
        True
    """
    mean, known = theta.mean, None
    chunks = max(1, min(CHUNKS, blocks.n_stars // LEAST_CHUNK, len(blocks)))
    for first in range(chunks):
        moments = moments_of(blocks, theta, numbers=range(first, len(blocks), chunks))  # stars of the whole survey
        new = _Sums.of(moments, mean)
        known = new if known is None else known.mixed(new, (first + 1) ** -FADING)
        solution = solutions(moments.symmetric, known.normal, known.right)
        variance = (known.squares - (solution * known.right).sum()) / known.n_valid
        theta = Parameters(solution[:, :-1], mean + solution[:, -1], variance)
    return theta
