"""What teaches a learner besides members: repeats, stars of other groups, step 1; and who says that it does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rsca_torch.errors import InputError
from rsca_torch.learners.averaged import Averaged
from rsca_torch.learners.floor import Repeats
from rsca_torch.learners.learner import Learner
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.spectra.view import View
from rsca_torch.survey.grouped_stars import counts_of, kind_of
from rsca_torch.survey.store import Store
from rsca_torch.training.members import Members

__all__ = ["MakeLearner", "as_many_as_there_are", "sees_spectra", "stars_that_teach", "started", "taught_by", "told_of"]

log = logging.getLogger(__name__)

MakeLearner = Callable[[], Learner]


def stars_that_teach(store: Store, kinds: Any) -> View:  # noqa: ANN401  (whatever was given)
    """The stars of some kinds of groups.

    Raises:
        InputError: for what is no list of kinds that the store has.
    """
    of = kind_of(store.groups.stars.group) if len(store.groups) else np.array([], dtype=str)
    there = sorted({*of.tolist()})
    kinds = there if kinds is None else kinds
    if isinstance(kinds, str) or not isinstance(kinds, Sequence) or not {*kinds} <= {*there}:
        raise InputError(
            f"learn_from={kinds}: null for all, or a list of kinds of groups that the store has, {there}, expected; "
            "rsca ingest survey.groups=[clusters,KIND] makes a store with others"
        )
    taught = store.groups.take(np.flatnonzero(np.isin(of, list(kinds))))
    for kind, number in counts_of(taught.stars).get("groups", {}).items():
        log.info("%d stars of %d %s teach too", number["stars"], number["groups"], kind.replace("_", " "))
    return taught


def sees_spectra(make_learner: MakeLearner) -> bool:
    """Whether the learner is one of spectra; the others are of latents."""
    return getattr(make_learner(), "sees", "latents") == "spectra"  # any module with the methods will do


def as_many_as_there_are(make_learner: MakeLearner) -> Learner:
    """RSCA of dimensions that nobody chose the number of: those that the members do not span have no weight."""
    learner = make_learner()
    if isinstance(learner, ScaledComponents):
        learner.unspanned = "drop"
    return learner


def told_of(make_learner: MakeLearner, repeats: tuple[Repeats, ...]) -> Learner:
    """RSCA that knows what repeated observations say, of each model its own."""
    learner = make_learner()
    parts = list(learner.parts) if isinstance(learner, Averaged) else [learner]
    for part, of_it in zip(parts, repeats, strict=True):
        if isinstance(part, ScaledComponents):
            part.repeats = of_it
    return learner


def taught_by(make_learner: MakeLearner, groups: Members) -> Learner:
    """A learner that knows the stars of other groups."""
    learner = make_learner()
    learner.groups = groups
    return learner


def started(make_learner: MakeLearner, ppca: MaskedPPCA) -> Learner:
    """A learner of spectra that starts from step 1."""
    learner = make_learner()
    learner.start_from(ppca)
    return learner
