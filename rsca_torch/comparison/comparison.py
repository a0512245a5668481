"""Learners side by side: the same stars, folds and pairs for every representation and learner (paper, Figure 4)."""

from __future__ import annotations

import hashlib
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from rsca_torch.comparison.representation import AllowedPairs, MakeLearner, Representation, sees_spectra
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.fold_files import FoldFiles, code_of
from rsca_torch.evaluation.leave_one_out import Difference, LOCOResult, leave_one_cluster_out, paired_difference
from rsca_torch.evaluation.nested_choice import NestedResult, nested_leave_one_cluster_out
from rsca_torch.learners.learner import Learner, Recipe
from rsca_torch.spectra.packed import PACKED

__all__ = ["Candidates", "Comparison", "HowToTrain", "Result", "compare", "learner_name"]


@dataclass(frozen=True)
class HowToTrain:
    """Of learners that are trained; closed forms take milliseconds and need none of it.

    Attributes:
        folder: where finished folds are kept. None: nowhere.
        content: what tells this run's settings from another's, for the folds' folder.
        processes: that fit folds side by side.
        logger: gives a Lightning logger for (representation, learner, cluster left out). None: no log.
        used: the folders that folds of this run were kept in.
    """

    folder: Path | None = None
    content: str = ""
    processes: int = 1
    logger: Callable[[str, str, str], Any] | None = None
    used: list[Path] = field(default_factory=list)

    def options(
        self, make_learner: MakeLearner, on: Representation, allowed: Tensor, held_out: bool, seed: int
    ) -> dict[str, Any]:
        """Further arguments of `leave_one_cluster_out`."""
        learner = make_learner()
        recipe: Recipe | None = getattr(learner, "recipe", None)
        if recipe is None or recipe.epochs == 0:
            return {}
        if recipe.noise and on.roots is None and on.field.ndim != PACKED:
            warnings.warn(
                f"{on.name} come without errors: {learner_name(learner)} is trained on them without noise",
                NumericalWarning,
                stacklevel=2,
            )
        options: dict[str, Any] = {"processes": self.processes if held_out else 1, "roots": on.roots}
        if self.logger is not None:
            options["logger"] = partial(self.logger, on.name, learner_name(learner))
        if self.folder is not None:
            total = hashlib.sha256(f"{self.content} {code_of(learner)} {on.name} {held_out} {seed}".encode())
            step_1 = [tensor for ppca in on.ppcas for tensor in ppca.buffers()] if on.field.ndim == PACKED else []
            for tensor in (on.field, on.members, allowed, *step_1):
                total.update(tensor.cpu().contiguous().numpy().data)
            total.update("\n".join(on.clusters.tolist()).encode())
            self.used.append(self.folder / f"{learner_name(learner)}-{total.hexdigest()[:16]}")
            options["kept"] = FoldFiles(self.used[-1])
        return options

    def forget(self) -> None:
        """Remove the folds of a run that came to its end: its results say it all."""
        for folder in self.used:
            shutil.rmtree(folder, ignore_errors=True)


Candidates = Mapping[int, Representation]  # by number of components, of the same stars


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Comparison:
    """All results; the first of a representation is the judged learner's, the others are its baselines."""

    results: list[Result]

    def of(self, representation: str, learner: str, held_out: bool = True) -> Result:
        """The result of that name."""
        for result in self.results:
            if (result.representation.name, result.learner, result.loco.held_out) == (
                representation,
                learner,
                held_out,
            ):
                return result
        raise KeyError(f"no result of {learner} on {representation}")

    def difference(self, result: Result) -> Difference | None:
        """Its rate less the first result's over the clusters that both judged with the same members; None: none."""
        judged = self.results[0]
        if result is judged or not result.loco.held_out:
            return None
        try:
            return paired_difference(result.loco, judged.loco)
        except InputError:  # no cluster in common: nothing to say, rather than nothing at all
            return None


def compare(
    representations: Sequence[Representation | Candidates],
    learners: Sequence[MakeLearner],
    pairs: AllowedPairs,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
    training: HowToTrain | None = None,
) -> Comparison:
    """Leave-one-cluster-out rates of every learner on every representation, and of the first without cross-validation.

    Args:
        representations: the first is the one that matters (spectra). One of the same stars for each number of
            components: every learner chooses among them, nested, and its in-sample rate is that of its choice.
        learners: each gives a fresh learner; the first is the judged one, the others are baselines.
        pairs: (member velocity, field velocity, member extinction, field extinction) -> allowed (M, F).
        seed: of torch's random numbers in every fold.
        progress: called with (what runs, folds done, folds).
        training: where folds are kept and logged, and how many processes fit them.

    Raises:
        InputError: as `leave_one_cluster_out` does, where a cluster has members in the field, and where a learner of
            spectra is given candidates, or the first representation without spectra.

    Warns:
        NumericalWarning: names learners of spectra that further representations (abundances) leave out.
    """
    names = [learner_name(make()) for make in learners]
    of_spectra = [make for make in learners if sees_spectra(make)]
    if len(set(names)) < len(names):
        raise InputError(f"every learner needs a name of its own, got {', '.join(names)}: give the class a `name`")
    results = []
    for representation in representations:
        one = representation if isinstance(representation, Representation) else next(iter(representation.values()))
        _require_separate(one)
        allowed = one.allowed(pairs)
        said: set[str] = set()
        how = training or HowToTrain()
        if representation is representations[0]:
            for make in of_spectra:
                one.seen_by(make)  # or refuse, rather than leave it out
        judge = partial(_judge, allowed=allowed, seed=seed, said=said, progress=progress, how=how)
        able = [learner for learner in learners if one.spectra is not None or learner not in of_spectra]
        if len(able) < len(learners):
            blind = ", ".join(learner_name(make()) for make in learners if make not in able)
            warnings.warn(f"not judged on {one.name}, which are no spectra: {blind}", NumericalWarning, stacklevel=2)
        results += [judge(learner, representation, held_out=True) for learner in able]
        if representation is representations[0]:
            results.append(judge(learners[0], results[0].representation, held_out=False))
    return Comparison(results)


def _judge(
    make_learner: MakeLearner,
    on: Representation | Candidates,
    allowed: Tensor,
    held_out: bool,
    seed: int,
    said: set[str],
    progress: Callable[[str, int, int], None] | None,
    how: HowToTrain,
) -> Result:
    """One result; of its warnings those that no earlier learner on the same representation `said`."""
    name = learner_name(make_learner())
    if isinstance(on, Representation):
        on = on.seen_by(make_learner)
    elif sees_spectra(make_learner):
        raise InputError(f"{name} sees spectra and starts from one step 1: give one n_components, not candidates")
    one = on if isinstance(on, Representation) else next(iter(on.values()))
    what = f"{name} on {one.name}{'' if held_out else ', in-sample'}"
    show = None if progress is None else partial(progress, what)
    started = time.perf_counter()
    nested = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if isinstance(on, Representation):
            loco = leave_one_cluster_out(
                on.suited(make_learner),
                on.field,
                on.members,
                on.clusters,
                allowed,
                held_out,
                seed,
                keep_distances=True,
                progress=show,
                **how.options(make_learner, on, allowed, held_out, seed),
            )
        else:
            latents = {number: (each.field, each.members) for number, each in on.items()}
            nested = nested_leave_one_cluster_out(
                make_learner, latents, one.clusters, allowed, seed, keep_distances=True, progress=show
            )
            loco, one = nested.loco, on[nested.best]
    for warning in caught:
        if str(warning.message) not in said:
            said.add(str(warning.message))
            warnings.warn(f"{what}: {warning.message}", warning.category, stacklevel=3)
    return Result(one, name, loco, time.perf_counter() - started, nested)


def _require_separate(on: Representation) -> None:
    """Refuse members among the strangers."""
    if not on.field_stars.has("group"):
        return
    both = sorted({*on.field_stars.group.tolist()} & {*on.clusters.tolist()} - {""})
    if both:
        raise InputError(
            f"{len(both)} clusters have stars both in the field and among the members: {', '.join(both[:10])}; a "
            "sibling among the strangers makes every rate wrong: move those stars to the members, or out of the field"
        )


def learner_name(learner: Learner) -> str:
    """What tables call it: its `name`, else its class."""
    return getattr(learner, "name", "") or type(learner).__name__
