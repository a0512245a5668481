"""The stars most like a given one, and how probable it is that they are its siblings (docs/siblings.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.table import Table
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.evaluation.calibration import Calibration, require_priors
from rsca_torch.evaluation.doppelganger import allowed_pairs
from rsca_torch.layers.rsca import RSCA
from rsca_torch.learners.likelihood_ratio import joint_log_ratio_of_cluster
from rsca_torch.parallel import Parallel
from rsca_torch.siblings.asked import members_of, rows_of
from rsca_torch.siblings.chance import by_chance_of_clusters, kept_by_chance, share_above
from rsca_torch.siblings.embedded_stars import EmbeddedStars, embedded_stars
from rsca_torch.siblings.measure import Measure
from rsca_torch.siblings.pairs_within import PairsWithin, limits_of
from rsca_torch.siblings.star_search import MANY, Best, StarSearch
from rsca_torch.siblings.told import Found, table_of
from rsca_torch.spectra.labels import printable
from rsca_torch.spectra.view import AnySpectra
from rsca_torch.survey.store import Store

__all__ = ["PRIOR", "likely_siblings", "require_asked"]

PRIOR = 0.01
AT_ONCE = 4096  # stars asked about that one piece of work takes

Asked = str | int | Sequence[str | int] | None
Progress = Callable[[str, int, int], None]


def likely_siblings(
    model: RSCA,
    stars: Store | AnySpectra | EmbeddedStars,
    star: Asked = None,
    *,
    cluster: str | None = None,
    n: int = 20,
    prior: float = PRIOR,
    pairs: Callable[..., Tensor] = allowed_pairs,
    uncertain: bool = False,
    columns: Sequence[str] = (),
    kept: str | Path | None = None,
    parallel: Parallel | None = None,
    progress: Progress | None = None,
) -> Table:
    """For each star that is asked about, the n stars that are its siblings most likely, the likeliest first.

    Args:
        model: that ranks them; `rsca fit` and `rsca compare` make such with a calibration, which gives probabilities.
        stars: to search, as a store or spectra, or as `embedded_stars` has them.
        star: an id or several. None, without cluster: every star.
        cluster: the name of a cluster or another group, whose stars are taken together.
        n: of how many it tells.
        prior: the share of siblings among the pairs that are asked about.
        pairs: which pairs may be compared, as `allowed_pairs`.
        uncertain: rank also stars whose own noise is more than twice what siblings differ by; they are marked.
        columns: of the star table, told of each star beside S/N, velocity and [Fe/H].
        kept: folder in which the features of a store's stars are kept. None: in memory.
        parallel: where stars are searched for; nothing changes with it. None: in this process.
        progress: called with (what is done, done, of how many).

    Returns:
        A row for each star found. STAR, which is asked about (an id, or the cluster's name), RANK from 1, SIBLING, the
        id of the one that is found; DISTANCE between the two, LOG_RATIO in nats, P_SIBLING at the prior (NaN without a
        calibration), EXPECTED, how many strangers among those compared are as alike by chance, SAME_GROUP, whether both
        are listed in one group, UNCERTAIN, NOISE and STAR_NOISE, the columns of both, and COMPARED, with how many stars
        the star was compared. Its ``meta`` says prior, pairs, how many were left out, and why there is no probability.

    Raises:
        InputError: an unknown star, which offers the nearest ids, one without a valid bin, a prior that does not lie
            between 0 and 1, another wavelength grid than the model's.

    Examples:
        >>> from functools import partial
        >>> import numpy as np
        >>> from rsca_torch import Spectra
        >>> random = np.random.default_rng(0)
        >>> axes, centres = random.normal(size=(2, 20)), np.repeat(random.normal(size=(3, 2)), 4, axis=0)
        >>> def drawn(latents, first, **stars):
        ...     flux = 1 + latents @ axes + random.normal(size=(len(latents), 20)) / 10
        ...     stars["id"] = first + np.arange(len(flux))
        ...     return Spectra(flux, sigma=np.full(flux.shape, 0.1), stars=stars)
        >>> field = drawn(random.normal(size=(60, 2)), 0)
        >>> members = drawn(centres + random.normal(size=(12, 2)) / 5, 60, group=np.repeat(["A", "B", "C"], 4))
        >>> model = RSCA.fit(field, members, n_components=2)
        >>> everyone = partial(allowed_pairs, max_velocity=None, max_extinction=None)
        >>> found = likely_siblings(model, members, 60, n=3, pairs=everyone)
        >>> found["RANK", "SIBLING", "SAME_GROUP"].pprint()
        RANK SIBLING SAME_GROUP
        ---- ------- ----------
           1      61       True
           2      62       True
           3      63       True
    """
    require_asked(n, prior)
    if star is not None and cluster is not None:
        raise InputError("ask about stars or about a cluster, not about both")
    embedded = stars if isinstance(stars, EmbeddedStars) else embedded_stars(model, stars, kept, progress)
    blind = embedded.valid_bins == 0
    candidates = ~blind if uncertain else embedded.is_certain
    within, measure = PairsWithin.of(pairs, embedded.stars), Measure.ratio(embedded.sigma_r)
    search = StarSearch(embedded.file or embedded.features, within, measure, candidates, n)
    meta = {"prior": prior, "pairs": limits_of(pairs), "stars": len(embedded), "without_valid_bin": int(blind.sum())}
    meta |= {"uncertain_left_out": int((~candidates & ~blind).sum()), "not_told": []}
    if cluster is not None:
        found = _of_cluster(search, embedded, cluster)
        rising, kind = by_chance_of_clusters(embedded, within, candidates, cluster), "clusters"
    else:
        found, meta["not_told"] = _of_stars(search, embedded, star, parallel or Parallel(processes=1), progress)
        rising, kind = kept_by_chance(embedded, within, measure, candidates), "pairs"
    calibration, why = _calibration(embedded.calibration, kind)
    probability = (
        torch.full_like(found.ratio, math.nan) if calibration is None else calibration.probability(found.ratio, prior)
    )
    expected = share_above(rising, found.ratio) * found.compared
    of_those = embedded.calibration.get("pairs_within", limits_of(pairs))
    if calibration is not None and of_those != limits_of(pairs):
        said = ", ".join(
            f"pairs.{name}={'null' if limit is None else f'{limit:g}'}" for name, limit in of_those.items()
        )
        why = f"the probabilities were calibrated under {said}: of other pairs they are not known to hold"
    meta |= {"why": why, "chance_pairs": len(rising)}
    return table_of(embedded, found, probability, expected, columns, meta)


def require_asked(n: int, prior: float) -> None:
    """Raises InputError for a prior that does not lie between 0 and 1, and for no star to find."""
    require_priors([prior])
    if n < 1:
        raise InputError(f"n={n}: at least 1 star expected")


def _of_stars(
    search: StarSearch, stars: EmbeddedStars, star: Asked, parallel: Parallel, progress: Progress | None
) -> tuple[Found, list[str]]:
    """What is found for some stars, or for all; and the ids of those of which nothing is known."""
    missing: list[str] = []
    if star is None:
        rows = np.arange(len(stars))
    else:
        rows, missing = rows_of(stars.stars, [star] if isinstance(star, str | int) else star)
    blind = stars.valid_bins[rows] == 0
    if blind.all():
        first = printable(str(stars.stars.id[rows[0]]))
        raise InputError(f"the star {first} has no valid bin among the model's: nothing is known of it")
    missing += stars.stars.id[rows[blind]].tolist()
    rows = rows[~blind]
    order = np.arange(len(rows))
    if len(rows) >= MANY and np.isfinite(search.pairs.velocity[rows]).any():
        order = np.argsort(search.pairs.velocity[rows], kind="stable")  # so that most blocks have no pair
    pieces = [rows[order[first : first + AT_ONCE]] for first in range(0, len(rows), AT_ONCE)]
    parts: list[Best] = []
    for part in parallel.each(search, pieces, pieces=len(pieces)):
        parts.append(part)
        if progress is not None:
            progress("searching", sum(len(each.rows) for each in parts), len(rows))
    back = np.argsort(order)
    best = Best(*(np.concatenate([part[field] for part in parts])[back] for field in range(3)))
    return Found.of(stars, rows, best), missing


def _of_cluster(search: StarSearch, stars: EmbeddedStars, name: str) -> Found:
    """The best for a cluster: each star against all its members, a member against the others."""
    listed = members_of(stars.stars, name)
    members = listed[search.candidates[listed]]
    if not len(members):
        blind = (stars.valid_bins[listed] == 0).all()
        why = "has a valid bin among the model's" if blind else "is sure enough: uncertain=true takes them all"
        raise InputError(f"no member of {printable(name)} {why}")
    known, may = stars.at(members), search.candidates.copy()
    if not search.pairs.takes_all:
        may &= search.pairs(members, np.arange(len(stars))).any(0).numpy()
    may[members] = len(members) > 1
    rows = np.flatnonzero(may)
    parts = [rows[first : first + AT_ONCE] for first in range(0, len(rows), AT_ONCE)]
    ratios = [joint_log_ratio_of_cluster(known, stars.at(part), stars.sigma_r) for part in parts]
    ratio = torch.cat([*ratios, torch.empty(0, dtype=torch.float64)])
    if len(members) > 1:
        for number, row in enumerate(members):
            others = torch.arange(len(members)) != number
            own = joint_log_ratio_of_cluster(known[others], known[~others], stars.sigma_r)
            ratio[np.searchsorted(rows, row)] = own[0]
    first_ones = np.lexsort((rows, -ratio.numpy()))[: search.n]
    return Found.of_group(stars, name, members, rows[first_ones], ratio[first_ones], len(rows))


def _calibration(told: dict[str, Any], kind: str) -> tuple[Calibration | None, str]:
    """What makes ratios probabilities; or why there is none."""
    if kind in told:
        return Calibration(**told[kind]), ""
    if "why" in told:
        return None, f"no probability: {told['why']}"
    if told:
        return None, "no probability: fewer than five clusters have three members, by which it could be calibrated"
    return None, "no probability: the model was not calibrated; rsca fit and rsca compare make one that is"
