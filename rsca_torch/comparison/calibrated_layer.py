"""RSCA as a layer that knows what its ratios are worth as probabilities."""

from __future__ import annotations

import inspect

from rsca_torch.comparison.representation import AllowedPairs, Representation
from rsca_torch.comparison.teachers import MakeLearner
from rsca_torch.evaluation.sibling_calibration import sibling_calibration
from rsca_torch.layers.rsca import RSCA
from rsca_torch.learners.learner import Learner
from rsca_torch.training.members import Members

__all__ = ["calibrated_layer"]


def calibrated_layer(
    on: Representation, make_learner: MakeLearner, learner: Learner, pairs: AllowedPairs, seed: int = 0
) -> RSCA | None:
    """Step 1 and a fitted learner as one layer, with a calibration of which no cluster had a part in its own scores.

    Args:
        on: the stars.
        make_learner: gives a fresh learner, for each cluster that is left out.
        learner: fitted on all clusters.
        pairs: says which pairs may be compared; its limits are kept beside the calibration, which is made under them.
        seed: of what a learner draws.

    Returns:
        None for learners that are no layer.
    """
    model = on.layer(learner)
    if model is not None:
        seen, limits = on.seen_by(make_learner), inspect.signature(pairs).parameters
        members = Members(seen.members, on.clusters, on.allowed(pairs), seen.roots, seen.noise)
        told = {name: limits[name].default for name in ("max_velocity", "max_extinction") if name in limits}
        model.calibration = {**sibling_calibration(seen.make_learner, seen.field, members, seed), "pairs_within": told}
    return model
