"""Learners side by side: the same stars, folds and pairs for every representation and learner (paper, Figure 4)."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rsca_torch.comparison.merits import Merits
from rsca_torch.comparison.representation import AllowedPairs, Candidates, Representation
from rsca_torch.comparison.teachers import MakeLearner, sees_spectra
from rsca_torch.comparison.training_options import TrainingOptions, learner_name, recipe_of
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.leave_one_out import leave_one_cluster_out
from rsca_torch.evaluation.nested_choice import Candidate, NestedResult, nested_leave_one_cluster_out
from rsca_torch.evaluation.result import Difference, LOCOResult, paired_difference
from rsca_torch.evaluation.shown_result import in_percent
from rsca_torch.spectra.labels import printable
from rsca_torch.spectra.shown import card, plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Comparison", "Result", "compare"]

SHOWN = 9  # results in a notebook


@dataclass(frozen=True, repr=False)
class Result:
    """The rates of one learner on one representation, and the wall time of its folds.

    Where it chose its number of components, `representation` is the choice over all clusters and `nested` how it came
    about; `loco` has every cluster judged with the choice that was made without it.
    """

    representation: Representation
    learner: str
    loco: LOCOResult
    seconds: float
    nested: NestedResult | None = None

    def __repr__(self) -> str:
        return f"Result({self.learner} on {self.representation.name}, {self.loco!r})"

    def _repr_html_(self) -> str:
        return card(f"{self.learner} on {self.representation.name}", {}) + self.loco._repr_html_()


@dataclass(frozen=True, repr=False)
class Comparison:
    """All results; the first of a representation is the judged learner's, the others are its baselines."""

    results: list[Result]

    def __repr__(self) -> str:
        judged = self.results[0]
        return f"Comparison({len(self.results)} results, first: {judged.learner} on {judged.representation.name})"

    def _repr_html_(self) -> str:
        told = {
            f"{learner} on {name}": f"{in_percent(rate)} ({in_percent(low)} to {in_percent(high)})"
            for name, learner, rate, low, high in self.rates()[:SHOWN]
        }
        more = len(self.rates()) - SHOWN
        return card("Doppelganger rate (68 %)", told | ({"and": f"{more} more"} if more > 0 else {}))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the rates of all learners that did not see the judged cluster, with 68 % intervals.

        Args:
            ax: to draw on. None: new ones of `matplotlib.pyplot`.

        Returns:
            The axes.
        """
        axes: Axes = plots().plot_rates(ax, self.rates())
        return axes

    def rates(self) -> list[tuple[str, str, float, float, float]]:
        """Representation, learner, rate of clusters that were held out, and ends of its 68 % interval; none is NaN."""
        return [
            (each.representation.name.replace("_", " "), printable(each.learner), each.loco.rate, *each.loco.interval())
            for each in self.results
            if each.loco.held_out and math.isfinite(each.loco.rate)
        ]

    def difference(self, result: Result, merit: str | None = None) -> Difference | None:
        """Its rate, or merit, minus the first result's over the clusters with the same members; None: none."""
        judged = self.results[0]
        if result is judged or not result.loco.held_out:
            return None
        try:
            return paired_difference(result.loco, judged.loco, merit=merit)
        except InputError:  # no cluster or merit in common: nothing to say, rather than nothing at all
            return None


def compare(
    representations: Sequence[Representation | Candidates],
    learners: Sequence[MakeLearner],
    pairs: AllowedPairs,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
    training: TrainingOptions | None = None,
    merits: Merits | None = None,
) -> Comparison:
    """Leave-one-cluster-out rates of every learner on every representation, and of the first without cross-validation.

    Args:
        representations: the first is the one that matters (spectra). One of the same stars for each number of
            components: every learner chooses among them, nested, and its in-sample rate is that of its choice.
        learners: each gives a fresh learner; the first is the judged one, the others are baselines.
        pairs: (member velocity, field velocity, member extinction, field extinction) -> allowed (M, F).
        seed: of torch's random numbers in every fold.
        progress: called with (what runs, folds done, folds).
        training: where folds are fitted, kept and logged.
        merits: what is told beside the rate.

    Raises:
        InputError: as `leave_one_cluster_out` does, where a cluster has members in the field, and where a learner of
            spectra is given candidates, or the first representation without spectra.

    Warns:
        NumericalWarning: names learners of spectra that further representations (abundances) leave out, and baselines
            and further representations that cannot be judged, with the reason: the others stand.
    """
    names = [learner_name(make()) for make in learners]
    if len(set(names)) < len(names):
        raise InputError(f"every learner needs a name of its own, got {', '.join(names)}: give the class a `name`")
    of_spectra = [make for make in learners if sees_spectra(make)]
    results: list[Result] = []
    for number, given in enumerate(representations):
        one = _first(given)
        _require_separate(one)
        if number == 0:
            for make in of_spectra:
                one.seen_by(make)  # or refuse, rather than leave it out
        judge = _Judge(one.allowed(pairs), seed, progress, training or TrainingOptions(), merits or Merits())
        able = [make for make in learners if one.spectra is not None or make not in of_spectra]
        if len(able) < len(learners):
            blind = ", ".join(learner_name(make()) for make in learners if make not in able)
            warnings.warn(f"not judged on {one.name}, which are no spectra: {blind}", NumericalWarning, stacklevel=2)
        for make in able:
            try:
                results.append(judge(make, given, first=not results))
            except InputError as error:
                if not results:  # the judged learner on what it is judged on
                    raise
                said = f"{learner_name(make())} on {one.name.replace('_', ' ')} is left out: {error}"
                warnings.warn(said, NumericalWarning, stacklevel=2)
        if number == 0:
            results.append(judge(learners[0], results[0].representation, held_out=False))
    return Comparison(results)


@dataclass
class _Judge:
    """Judges learners on the same stars; warnings that an earlier learner gave rise to are not said again."""

    allowed: NDArray[np.bool_]
    seed: int
    progress: Callable[[str, int, int], None] | None
    training: TrainingOptions
    merits: Merits
    said: set[str] = field(default_factory=set)

    def __call__(
        self, make_learner: MakeLearner, given: Representation | Candidates, held_out: bool = True, first: bool = False
    ) -> Result:
        """One result; among candidates the learner chooses, nested."""
        name = learner_name(make_learner())
        if not isinstance(given, Representation) and sees_spectra(make_learner):
            raise InputError(f"{name} sees spectra and starts from one step 1: give one n_components, not candidates")
        what = f"{name} on {_first(given).name}{'' if held_out else ', in-sample'}"
        started = time.perf_counter()
        with warnings.catch_warnings(record=True, action="always") as caught:
            try:
                loco, nested, on = self._judged(make_learner, given, held_out, what, first)
            except InputError as error:  # learners know of no abundances
                said = str(error).replace("lower n_components", _first(given).fewer)
                why = _first(given).no_floor if "floor=" in said else ""
                raise InputError(f"{said}; {why}" if why else said) from error
            if on.no_floor and loco.floor == "none" and getattr(make_learner(), "is_bounded", False):
                warnings.warn(f"no floor under the scatter of siblings: {on.no_floor}", NumericalWarning, stacklevel=2)
        for warning in caught:
            if str(warning.message) not in self.said:
                self.said.add(str(warning.message))
                warnings.warn(f"{what}: {warning.message}", warning.category, stacklevel=3)
        return Result(on, name, loco, time.perf_counter() - started, nested)

    def _judged(
        self, make_learner: MakeLearner, given: Representation | Candidates, held_out: bool, what: str, first: bool
    ) -> tuple[LOCOResult, NestedResult | None, Representation]:
        on, learner = _first(given), make_learner()
        one = on.seen_by(make_learner)
        shared: dict[str, Any] = {
            "seed": self.seed,
            "keep_distances": True,
            "progress": None if self.progress is None else partial(self.progress, what),
            "merits": self.merits.further,
            "alike": self.merits.alike_pairs(on.member_stars, on.field_stars),
            "calibrate": held_out and self.merits.calibrates(first, recipe_of(learner) is not None),
            "ids": on.member_stars.id,
            **self.training.options(learner, on, one, held_out),
        }

        def candidate(on: Representation, logged: str = "") -> Candidate:
            seen = on.seen_by(make_learner)
            kept = self.training.kept(learner, on, seen, self.allowed, held_out, self.seed, logged)
            return Candidate(seen.field, seen.members, seen.roots, kept, seen.noise, seen.make_learner)

        if isinstance(given, Representation):
            field, members, roots, kept, noise, _ = candidate(on)
            shared |= {"roots": roots, "kept": kept, "noise": noise}
            loco = leave_one_cluster_out(
                one.make_learner, field, members, on.clusters, self.allowed, held_out, **shared
            )
            return loco, None, on
        candidates = {number: candidate(each, f"{number} components without ") for number, each in given.items()}
        nested = nested_leave_one_cluster_out(one.make_learner, candidates, on.clusters, self.allowed, **shared)
        return nested.loco, nested, given[nested.best]


def _first(given: Representation | Candidates) -> Representation:
    """One of those of the same stars."""
    return given if isinstance(given, Representation) else next(iter(given.values()))


def _require_separate(on: Representation) -> None:
    """Refuse members among the strangers."""
    if not on.field_stars.has("group"):
        return
    both = sorted(({*on.field_stars.group.tolist()} & {*on.clusters.tolist()}) - {""})
    if both:
        raise InputError(
            f"{len(both)} clusters have stars both in the field and among the members: {', '.join(both[:10])}; a "
            "sibling among the strangers makes every rate wrong: move those stars to the members, or out of the field"
        )
