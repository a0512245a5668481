"""Listed members that are none, most likely: too far from their cluster to be counted as siblings."""

from __future__ import annotations

import warnings

import numpy as np
from astropy.table import Table

from rsca_torch.comparison.representation import AllowedPairs, Representation
from rsca_torch.comparison.teachers import MakeLearner
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.membership import Membership, membership
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.training.fitting import fitted
from rsca_torch.training.members import Members

__all__ = ["memberships", "suspects"]


def suspects(
    on: Representation,
    make_learner: MakeLearner,
    pairs: AllowedPairs,
    prior: float = 0.1,
    calibrate: bool = True,
    seed: int = 0,
) -> Table | None:
    """Those that RSCA, fitted on all clusters, leaves out; None: it is fitted without trim, or the learner is another.

    Columns: id and group as the star table has them; DISTANCE, from the cluster's kept members, 1 at the limit;
    LOG_RATIO and P_WRONG as `Membership` has them, the ratio and the probability of being no member, NaN where none of
    the cluster is kept; PRIOR, the share of wrong members that it takes for granted; CALIBRATED_ON, how many clusters,
    0 where the ratio is not calibrated (then P_WRONG is too sure); LISTED, how many members the cluster has; SUSPECTS,
    how many of them are suspects.

    Args:
        on: the stars.
        make_learner: gives a fresh learner: for all clusters, and for each cluster that is left out.
        pairs: says which pairs may be compared: a cluster's strangers.
        prior: the share of wrong ones among the listed members.
        calibrate: whether ratios are calibrated.
        seed: of what a learner draws.

    Raises:
        InputError: for a prior that does not lie between 0 and 1.
    """
    seen = on.seen_by(make_learner)
    one = seen.make_learner()
    if not isinstance(one, ScaledComponents) or one.trim is None:
        return None
    with warnings.catch_warnings(action="ignore", category=NumericalWarning):  # whoever judged it said it
        members = Members(seen.members, on.clusters, None, seen.roots, seen.noise)
        learner = fitted(seen.make_learner, seen.field, members, on.clusters, seed)
    assert isinstance(learner, ScaledComponents)
    if learner.kept is None or learner.far is None or learner.limit is None:
        return None
    labels, stars = on.clusters, on.member_stars
    kept, far = (each.numpy()[: len(labels)] for each in (learner.kept, learner.far))  # behind them: other groups'
    told = memberships(on, make_learner, kept, pairs, prior, calibrate, seed)
    far = np.sqrt(far / float(learner.limit))
    order = np.lexsort((-far, labels))  # by cluster, the farthest first
    order = order[~kept[order]]
    of_cluster = [labels == name for name in labels[order]]
    return Table(
        {
            stars.roles["id"]: stars.id[order],
            stars.roles["group"]: labels[order],
            "DISTANCE": far[order],
            "LOG_RATIO": told.ratio.numpy()[order],
            "P_WRONG": told.wrong.numpy()[order],
            "PRIOR": np.full(len(order), told.prior),
            "CALIBRATED_ON": np.full(len(order), told.clusters),
            "LISTED": np.array([each.sum() for each in of_cluster], dtype=int),
            "SUSPECTS": np.array([(each & ~kept).sum() for each in of_cluster], dtype=int),
        }
    )


def memberships(
    on: Representation,
    make_learner: MakeLearner,
    kept: np.ndarray,
    pairs: AllowedPairs,
    prior: float = 0.1,
    calibrate: bool = True,
    seed: int = 0,
) -> Membership:
    """Of all listed members, the kept ones too; where no cluster can be left out by the learner fitted on all."""
    seen = on.seen_by(make_learner)
    members = Members(seen.members, on.clusters, on.allowed(pairs), seen.roots, seen.noise)
    given = (seen.make_learner, seen.field, members, kept, prior, calibrate)
    try:
        return membership(*given, seed=seed)  # type: ignore[arg-type]  # who sets apart is RSCA
    except InputError:
        return membership(*given, held_out=False, seed=seed)  # type: ignore[arg-type]
