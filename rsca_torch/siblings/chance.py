"""How alike strangers are by chance: ratios of pairs of field stars, of which next to none are siblings."""

from __future__ import annotations

import hashlib
import json
import logging

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.files.archives import require_honest_sizes
from rsca_torch.files.places import remove_left
from rsca_torch.files.whole import atomic_file
from rsca_torch.learners.likelihood_ratio import joint_log_ratio_of_cluster
from rsca_torch.siblings.embedded_stars import EmbeddedStars
from rsca_torch.siblings.measure import Measure
from rsca_torch.siblings.pairs_within import PairsWithin, limits_of

__all__ = ["by_chance", "by_chance_of_clusters", "kept_by_chance", "share_above"]

log = logging.getLogger(__name__)

PAIRS = 10**6  # that are drawn at most
OF_EACH = 10**4  # of one star at most, so that no few stars say it all
STARS = 2000  # that are compared with others at most
AT_ONCE = 16


def kept_by_chance(
    stars: EmbeddedStars, pairs: PairsWithin, measure: Measure, candidates: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """`by_chance`, kept beside the features where these are in a file."""
    if stars.file is None:
        return by_chance(stars, pairs, measure, candidates)
    rule = getattr(pairs.rule, "func", pairs.rule)
    said = [rule.__module__, rule.__qualname__, limits_of(pairs.rule), int(candidates.sum()), PAIRS, OF_EACH, STARS]
    name = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
    place = stars.file.with_name(f"chance-{name}.npz")
    if place.exists():
        try:
            require_honest_sizes(place)
            with np.load(place, allow_pickle=False) as arrays:
                kept: NDArray[np.float64] = arrays["ratios"]
                if str(arrays["sha256"]) == _sum(kept):
                    remove_left(place)  # by a run that was killed when it had just been made
                    return kept
            why = "its checksum is of something else"
        except Exception as error:  # whatever NumPy makes of a damaged file
            why = str(error)
        log.warning("warning: %s is damaged (%s) and is made anew", place, why)
    found = by_chance(stars, pairs, measure, candidates)
    with atomic_file(place) as part:
        np.savez(part, ratios=found, sha256=_sum(found))
    return found


def _sum(ratios: NDArray[np.float64]) -> str:
    return hashlib.sha256(f"{ratios.dtype} {ratios.shape}".encode() + ratios.tobytes()).hexdigest()


def by_chance(
    stars: EmbeddedStars, pairs: PairsWithin, measure: Measure, candidates: NDArray[np.bool_], seed: int = 0
) -> NDArray[np.float64]:
    """Ratios of pairs of field stars, rising: of stars drawn at random, each with those that it may be compared with.

    Args:
        stars: N.
        pairs: which may be compared.
        measure: of the ratio.
        candidates: (N,) the stars that a search looks at.
        seed: of the draw.
    """
    field = np.flatnonzero(candidates & (stars.groups == ""))
    random = np.random.default_rng(seed)
    drawn, found, total = random.permutation(field)[:STARS], [], 0
    for first in range(0, len(drawn), AT_ONCE):
        some = drawn[first : first + AT_ONCE]
        may = pairs(some, field).numpy()
        for star, row in zip(some, may, strict=True):
            others = field[row]
            others = others[others != star]
            if len(others) > OF_EACH:
                others = random.choice(others, OF_EACH, replace=False)
            found.append(_ratios(stars, measure, star, others))
            total += len(others)
        if total >= PAIRS:
            break
    return np.sort(np.concatenate(found)) if found else np.empty(0)


def by_chance_of_clusters(
    stars: EmbeddedStars, pairs: PairsWithin, candidates: NDArray[np.bool_], but: str
) -> NDArray[np.float64]:
    """Ratios of field stars against each other group that has two members, rising.

    Args:
        stars: N.
        pairs: which may be compared.
        candidates: (N,) the stars that a search looks at.
        but: the group that is asked about.
    """
    groups, found = stars.groups, []
    field = np.flatnonzero(candidates & (stars.groups == ""))
    names, sizes = np.unique(groups[candidates], return_counts=True)
    for name in names[(sizes > 1) & (names != "") & (names != but)]:
        members = np.flatnonzero(candidates & (groups == name))
        others = field[pairs(members, field).any(0).numpy()]
        found.append(joint_log_ratio_of_cluster(stars.at(members), stars.at(others), stars.sigma_r).numpy())
    return np.sort(np.concatenate(found)) if found else np.empty(0)


def share_above(rising: NDArray[np.float64], ratios: Tensor) -> Tensor:
    """The share of chance ratios that are no less than each, with one more on both sides; NaN where there are none.

    So the share is never 0: of m pairs none can be shown that is below 1 / (m + 1).

    >>> share_above(np.array([0.0, 1.0, 2.0, 3.0]), torch.tensor([2.0, 9.0]))
    tensor([0.6000, 0.2000], dtype=torch.float64)
    """
    if not len(rising):
        return torch.full(ratios.shape, torch.nan, dtype=torch.float64)
    below = np.searchsorted(rising, ratios.double().numpy(), side="left")
    return torch.from_numpy((len(rising) - below + 1) / (len(rising) + 1))


def _ratios(stars: EmbeddedStars, measure: Measure, star: int, others: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of one star with others."""
    one, rest = stars.at(np.array([star])), stars.at(others)
    (above, below), (others_above, others_below) = measure.own(one), measure.own(rest)
    apart = ((rest - one) * measure.scale).square().sum(1)
    return measure.log_ratio(measure.value(apart, above + others_above, below + others_below)).numpy()
