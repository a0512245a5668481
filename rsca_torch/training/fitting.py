"""Fitting a learner on a fold: its closed form, and how long its loss is to be minimised after it."""

from __future__ import annotations

import inspect
import math
import statistics
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsca_torch.errors import NumericalWarning
from rsca_torch.learners.distances import sibling_distances, sibling_overlap, stranger_distances
from rsca_torch.learners.learner import Labels, Learner, Recipe
from rsca_torch.spectra.labels import as_labels
from rsca_torch.spectra.packed import PACKED
from rsca_torch.training.members import Members, Trained

__all__ = ["fitted", "takes_summary"]

LOOKED_AT = 4096  # field stars that tell whether an embedding has collapsed
SPECTRA_LOOKED_AT = 256  # where they are spectra, which take longer to map
COLLAPSED = 1.5  # effective rank of an embedding of three dimensions or more, below which it has

_signature = lru_cache(inspect.signature)


def fitted(
    make_learner: Callable[[], Learner],
    field: Tensor,
    members: Tensor | Members,
    clusters: Labels,
    seed: int,
    summary: dict[str, Any] | None = None,
    logger: Any = None,  # noqa: ANN401  (a Lightning logger)
) -> Learner:
    """A fresh learner, fitted and in eval mode.

    First its closed form, then, where it has a recipe, its loss. The number of epochs is the median of those that are
    best for inner clusters, each left out of a training of its own: no other cluster has a say.

    Args:
        make_learner: gives a fresh learner.
        field: (F, K) latents of the field stars, or (F, 2, P) packed spectra.
        members: (M, K) or (M, 2, P) likewise of the cluster members, or with more that is known of them.
        clusters: M labels.
        seed: of torch's random numbers.
        summary: empty at first, carries what the learner says of the field alone from one call to the next.
        logger: of Lightning, for the training on all these clusters. None: no log.

    Raises:
        InputError: as the learner does, and where recipe and loss do not fit each other.

    Warns:
        NumericalWarning: where the loss is not a number, or the embedding collapsed.

    Examples:
        >>> from rsca_torch import ScaledComponents
        >>> from rsca_torch.testing import drawn_problem
        >>> problem = drawn_problem()
        >>> learner = fitted(ScaledComponents, problem.field, problem.members, problem.clusters, seed=0)
        >>> learner(problem.members).shape
        torch.Size([30, 6])
    """
    given = members if isinstance(members, Members) else Members(members, as_labels(clusters))
    if not (given.labels != "").all():
        said = f"{int((given.labels == '').sum())} of {len(given.labels)} members have no label: left out"
        warnings.warn(said, NumericalWarning, stacklevel=2)
        given = given[given.labels != ""]
    summary = {} if summary is None else summary
    with _seeded(seed):
        learner = _initialised(make_learner, field, given, summary)
    recipe: Recipe | None = getattr(learner, "recipe", None)  # any module with the methods will do
    if recipe is None or recipe.epochs == 0:
        return learner.eval()
    # Lightning takes seconds to import: not for closed forms.
    gradient_descent = import_module("rsca_torch.training.gradient_descent")
    best_epochs: dict[str, int] = {}
    for inner in _inner_clusters(given, recipe):
        inside = given.labels == inner
        with _seeded(seed):
            inner_learner = _initialised(make_learner, field, given[~inside], summary)
            overlap = _overlap_of(given[inside], field)
            training = gradient_descent.train(
                inner_learner, recipe, _taught_by(inner_learner, given[~inside]), recipe.epochs, overlap
            )
        best_epochs[inner] = training.best_epoch
    epochs = round(statistics.median(best_epochs.values())) if best_epochs else recipe.epochs
    with _seeded(seed):
        if best_epochs:
            learner = _initialised(make_learner, field, given, summary)  # with the random numbers of a first one
        training = gradient_descent.train(learner, recipe, _taught_by(learner, given), epochs, None, logger)
    rank, variance, dimensions = _spread(learner.eval(), field)
    if dimensions > 2 and rank < COLLAPSED:
        warnings.warn(
            f"the embedding of {type(learner).__name__} has collapsed: effective rank {rank:.2f} of {dimensions} "
            f"dimensions, variance {variance:.2g}; train for less, or with a penalty",
            NumericalWarning,
            stacklevel=2,
        )
    learner.trained = Trained(len(training.losses), training.losses, best_epochs, [], rank, variance, training.stopped)
    return learner


def _initialised(
    make_learner: Callable[[], Learner], field: Tensor, members: Members, summary: dict[str, Any]
) -> Learner:
    learner = make_learner()
    if takes_summary(learner) and not summary:
        with torch.random.fork_rng(devices=[]):  # every fold draws the same numbers, the first one too
            summary["summary"] = learner.summarise(field)
    members = _taught_by(learner, members)
    asked = {"noise": members.noise} if _takes(learner, "noise") else {}
    learner.initialise(field, members.z, members.labels, **(summary if takes_summary(learner) else {}), **asked)
    return learner


def _taught_by(learner: Learner, members: Members) -> Members:
    """The members, and the stars of other groups that the learner was given."""
    return members.with_groups(getattr(learner, "groups", None))  # any module with the methods will do


def takes_summary(learner: Learner) -> bool:
    """Whether `initialise` asks for what the learner says of the field alone."""
    return _takes(learner, "summary")


def _takes(learner: Learner, name: str) -> bool:
    return name in _signature(type(learner).initialise).parameters


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The same random numbers whatever was drawn before, and none of them missed afterwards.

    NumPy's too, from which the sampler of pytorch-metric-learning draws.
    """
    state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the one that is forked; torch.manual_seed takes a stack trace
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


def _inner_clusters(members: Members, recipe: Recipe) -> list[str]:
    """The largest of those that can judge, whose many pairs say the most; at least two clusters stay to train on."""
    able = members.judging_clusters() if len(np.unique(members.labels)) > 2 else []
    able.sort(key=lambda name: -int((members.labels == name).sum()))  # of equal ones the first by name
    return able[: recipe.inner]


def _overlap_of(members: Members, field: Tensor) -> Callable[[Learner], float]:
    """Of one cluster; only field stars of an allowed pair are mapped."""
    allowed = None
    if members.flags is not None:
        compared, allowed = members.compared()
        field = field[compared]

    @torch.no_grad()
    def overlap(learner: Learner) -> float:
        learner.eval()
        embedded, strangers = learner(members.z), learner(field)
        learner.train()
        if not (embedded.isfinite().all() and strangers.isfinite().all()):
            return math.inf
        return sibling_overlap(sibling_distances(embedded), stranger_distances(embedded, strangers, allowed))

    return overlap


@torch.no_grad()
def _spread(learner: Learner, field: Tensor) -> tuple[float, float, int]:
    """(Effective rank, total variance, dimensions) of the embedded field (Roy & Vetterli 2007)."""
    some = SPECTRA_LOOKED_AT if field.ndim == PACKED else LOOKED_AT
    embedded = learner(field[:: max(1, len(field) // some)]).double()
    eigenvalues = torch.linalg.svdvals(embedded - embedded.mean(0)).square() / max(1, len(embedded) - 1)
    variance = float(eigenvalues.sum())
    share = eigenvalues[eigenvalues > 0] / variance
    return float(torch.exp(-(share * share.log()).sum())), variance, embedded.shape[1]
