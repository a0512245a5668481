"""Listed members that are none, most likely: too far from their cluster to be counted as siblings."""

from __future__ import annotations

import numpy as np
import torch
from astropy.table import Table

from rsca_torch.comparison.representation import Representation
from rsca_torch.learners.learner import Learner
from rsca_torch.learners.likelihood_ratio import log_likelihood_ratio_of_cluster
from rsca_torch.learners.scaled_components import ScaledComponents

__all__ = ["suspects"]


def suspects(on: Representation, learner: Learner) -> Table | None:
    """Those that a learner, fitted on all clusters, left out; None: it leaves nobody out.

    Columns: id and group as the star table has them; DISTANCE, from the cluster's kept members, 1 at the limit;
    LOG_RATIO, the log likelihood ratio of being a sibling of the kept members to being a field star, in nats: the lower
    it is the surer it is that the star is none; LISTED, how many members the cluster has; SUSPECTS, how many of them
    are suspects.
    """
    if not isinstance(learner, ScaledComponents) or learner.kept is None or learner.far is None:
        return None
    labels = on.clusters
    kept = learner.kept.numpy()[: len(labels)]  # after the members come stars of other groups
    assert learner.limit is not None
    rows = [_of_cluster(on, learner, kept, name) for name in np.unique(labels[~kept]).tolist()]
    order = np.concatenate([row for row, _ in rows]) if rows else np.zeros(0, dtype=int)
    of_cluster = [labels == name for name in labels[order]]
    stars = on.member_stars
    return Table(
        {
            stars.roles["id"]: stars.id[order],
            stars.roles["group"]: labels[order],
            "DISTANCE": (learner.far / learner.limit).sqrt().numpy()[order],
            "LOG_RATIO": np.concatenate([ratio for _, ratio in rows]) if rows else np.zeros(0),
            "LISTED": np.array([each.sum() for each in of_cluster], dtype=int),
            "SUSPECTS": np.array([(each & ~kept).sum() for each in of_cluster], dtype=int),
        }
    )


def _of_cluster(
    on: Representation, learner: ScaledComponents, kept: np.ndarray, cluster: str
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a cluster's suspects, the farthest first, and the log ratio of each; NaN where nobody is kept."""
    here = on.clusters == cluster
    rows = np.flatnonzero(here & ~kept)
    assert learner.far is not None, "it was fitted with trim"
    rows = rows[np.argsort(-learner.far.numpy()[rows], kind="stable")]
    siblings, stars = (learner(on.members[torch.from_numpy(some)]) for some in (np.flatnonzero(here & kept), rows))
    if not len(siblings):
        return rows, np.full(len(rows), np.nan)
    return rows, log_likelihood_ratio_of_cluster(siblings, stars, learner.sigma_r).numpy()
