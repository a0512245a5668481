"""How far apart a learner finds the siblings of one cluster and its allowed strangers: by distance or by score."""

from __future__ import annotations

import torch
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.learners.distances import distances_of_allowed, sibling_distances
from rsca_torch.learners.learner import Learner
from rsca_torch.spectra.arrays import all_finite

__all__ = ["distances_of", "in_order"]

SOME = 64  # stars that tell whether an embedding is constant
BLOCK = 2**16  # field stars mapped at a time


def distances_of(
    learner: Learner, field: Tensor, members: Tensor, compared: Tensor, allowed: Tensor
) -> tuple[Tensor, Tensor, str]:
    """Of one cluster: siblings' distances and allowed strangers', float64; of a learner that gives scores minus those.

    Args:
        learner: fitted.
        field: (F, K) latents.
        members: (n, K) of the cluster.
        compared: (C,) the field stars of an allowed pair: no others are mapped.
        allowed: (n, C) bool, with whom each may be compared.

    Returns:
        (S,), (T,) in the order of `in_order`, and what is to be said where all pairs are the same to the learner.

    Raises:
        InputError: for an embedding or scores of another shape, or that are not finite.
    """
    scores = getattr(learner, "gives_scores", False)
    siblings, strangers, at_one_point = (_minus_scores if scores else _distances)(
        learner, field, members, compared, allowed
    )
    if not at_one_point:
        return siblings, strangers, ""
    alike = "pair the same score" if scores else "star the same embedding, so that all distances are 0"
    said = f"{type(learner).__name__} gives every {alike} and the rate is 1; leave it out, or where it is trained, "
    return siblings, strangers, said + "train it for less or from another start"


def in_order(alike: Tensor, allowed: Tensor) -> Tensor:
    """(pairs,) of the allowed pairs (n, C), in the order of their distances: by block of field stars, then member."""
    blocks = zip(torch.split(alike, BLOCK, dim=1), torch.split(allowed, BLOCK, dim=1), strict=True)
    return torch.cat([block[pairs] for block, pairs in blocks])


@torch.no_grad()
def _distances(
    learner: Learner, field: Tensor, members: Tensor, compared: Tensor, allowed: Tensor
) -> tuple[Tensor, Tensor, bool]:
    """Of one cluster: siblings' distances and allowed strangers', and whether all of these stars are at one point.

    Only field stars of an allowed pair are mapped.
    """
    embedded = _embedded(learner, members)
    strangers, at_one_point = [], len(compared) > 1
    for block, pairs in zip(torch.split(compared, BLOCK), torch.split(allowed, BLOCK, dim=1), strict=True):
        near = _embedded(learner, field.index_select(0, block))
        at_one_point = at_one_point and bool((near[:SOME] == embedded[0]).all())
        strangers.append(distances_of_allowed(embedded.double(), near.double(), pairs))
    return sibling_distances(embedded), torch.cat(strangers), at_one_point


@torch.no_grad()
def _minus_scores(
    learner: Learner, field: Tensor, members: Tensor, compared: Tensor, allowed: Tensor
) -> tuple[Tensor, Tensor, bool]:
    """As `_distances`, of a learner that gives a score, higher for more alike."""
    own = _scored(learner, members, members)
    strangers = [
        _scored(learner, members, field.index_select(0, block))[pairs]  # member by member, as distances
        for block, pairs in zip(torch.split(compared, BLOCK), torch.split(allowed, BLOCK, dim=1), strict=True)
    ]
    siblings = own[tuple(torch.triu_indices(len(members), len(members), offset=1))]
    every = torch.cat([siblings, *strangers])
    return -siblings, -every[len(siblings) :], len(compared) > 1 and bool((every == every[0]).all())


def _scored(learner: Learner, members: Tensor, stars: Tensor) -> Tensor:
    scores: Tensor = learner.score(members, stars)
    of = f"{type(learner).__name__}.score"
    if scores.shape != (len(members), len(stars)) or not scores.is_floating_point():
        raise InputError(
            f"{of} must give ({len(members)}, {len(stars)}) numbers for {len(members)} members and {len(stars)} stars, "
            f"got {str(scores.dtype).removeprefix('torch.')} of shape {tuple(scores.shape)}"
        )
    if not all_finite(scores):
        raise InputError(
            f"{of} gave {int((~scores.isfinite()).sum())} of {scores.numel()} values that are not finite: they rank "
            "no pair"
        )
    return scores.double()


def _embedded(learner: Learner, z: Tensor) -> Tensor:
    embedded: Tensor = learner(z)
    if not isinstance(embedded, Tensor):
        raise InputError(f"{type(learner).__name__} must map to a torch.Tensor, got {type(embedded).__name__}")
    if embedded.ndim != 2 or len(embedded) != len(z) or not embedded.is_floating_point():
        raise InputError(
            f"{type(learner).__name__} must map ({', '.join(map(str, z.shape))}) to ({len(z)}, D) numbers, got "
            f"{str(embedded.dtype).removeprefix('torch.')} of shape {tuple(embedded.shape)}"
        )
    if not all_finite(embedded):
        raise InputError(
            f"{type(learner).__name__} gave {int((~embedded.isfinite()).sum())} of {embedded.numel()} values that are "
            "not finite: a distance to them means nothing"
        )
    return embedded
