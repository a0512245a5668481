"""The one place where step 1, representations, learners and folds of a store are put together, as a configuration says.

`rsca compare`, `rsca fit`, `rsca reproduce` and the experiments ask it; each part is made when it is first asked for.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor

from rsca_torch.comparison.abundances import abundances
from rsca_torch.comparison.calibrated_layer import calibrated_layer
from rsca_torch.comparison.comparison import Comparison, compare
from rsca_torch.comparison.compression import Compression
from rsca_torch.comparison.groups_given import every_group
from rsca_torch.comparison.merits import Merits
from rsca_torch.comparison.pair_rules import possible_pairs
from rsca_torch.comparison.progress import Progress, Silence
from rsca_torch.comparison.representation import Candidates, Representation, compared_values, represent
from rsca_torch.comparison.several_models import side_by_side
from rsca_torch.comparison.teachers import MakeLearner, sees_spectra, stars_that_teach
from rsca_torch.comparison.training_options import TrainingOptions, learner_name, recipe_of
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.leave_one_out import leave_one_cluster_out
from rsca_torch.evaluation.nested_choice import best
from rsca_torch.evaluation.result import LOCOResult
from rsca_torch.layers.rsca import RSCA
from rsca_torch.learners.learner import Learner
from rsca_torch.learners.registry import learner_class, maker
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.removal import Removal, without
from rsca_torch.spectra.packed import require_room
from rsca_torch.survey.store import Store
from rsca_torch.training.fitting import fitted
from rsca_torch.training.members import Members

__all__ = ["Assembly", "require_rsca"]

log = logging.getLogger(__name__)


def require_rsca(config: DictConfig) -> None:
    """Raises InputError where the learner is not RSCA, of which alone a layer can be made."""
    if learner_class(config.learner._target_) is not ScaledComponents:
        raise InputError(f"fit makes an RSCA model: learner=rsca expected, got {config.learner._target_}")


class Assembly:
    """All that is fitted to a store, and judged on it.

    Attributes:
        config: of the command.
        store: the survey's stars and spectra.
        seed: of whatever is drawn.
        progress: is told what is done.
        field: the F field stars' spectra.
        members: the M members' spectra.
        groups: stars of groups besides clusters, which teach and do not judge; there may be none.
        repeats: further observations of these stars; there may be none.
        make_learner: gives a fresh learner as configured, RSCA as a rule.
        pairs: says which pairs may be compared.
        training: how learners with a loss are trained.
    """

    def __init__(self, config: DictConfig, store: Store, progress: Progress | None = None) -> None:
        self.config, self.store, self.progress = every_group(config), store, progress or Silence()
        self.seed: int = config.seed
        self.make_learner: Callable[..., Learner] = maker(config.learner)
        parts = store.field, store.members, stars_that_teach(store, config.get("learn_from")), store.repeats
        self.field, self.members, self.groups, self.repeats = map(self.compression.windowed, parts)
        self.pairs: Callable[..., Tensor] = possible_pairs(hydra.utils.instantiate(config.pairs), store.stars)
        self.pairs(*torch.zeros(4, 0))  # refuses before the hard work what it would refuse after
        self.training = TrainingOptions()
        self._made: dict[tuple[int, int | None], Representation] = {}  # by number of components, and of its start

    @property
    def compression(self) -> Compression:
        """What fits step 1."""
        config = self.config
        return Compression(config.compressor, config.em_loop, config.checkpoints, self.store.checksum, self.progress)

    @property
    def learner(self) -> str:
        """The name of the configured learner."""
        return learner_name(self.make_learner())

    @cached_property
    def numbers(self) -> list[int]:
        """Numbers of components that step 1 is to be fitted with; of `auto` the candidates.

        Raises:
            InputError: where the stars cannot carry them.
        """
        groups = self.groups.stars.group if len(self.groups) else None
        of = self.members.stars.group, self.make_learner(), groups, self.field.n_bins
        return self.compression.numbers(len(self.field), *of)

    @property
    def n_components(self) -> int:
        """K, where one number is configured."""
        return int(self.config.compressor.n_components)

    @cached_property
    def removal(self) -> Removal | None:
        """What is taken out of all spectra before step 1."""
        return self.compression.removal(self.field)

    def compressed(self, n_components: int, among: Sequence[int] = ()) -> Representation:
        """Spectra in the latents of step 1 with so many components, whatever else was asked for before.

        A fit starts from that of the smallest larger number that is configured; beyond them all of those in `among`.
        """
        known = self.numbers if n_components <= max(self.numbers) else among
        larger = min((number for number in known if number > n_components), default=None)
        if (n_components, larger) not in self._made:
            start = None if larger is None else self.compressed(larger, among).ppca
            fit = partial(self.compression.fit, n_components=n_components, start=start)
            parts = (self.field, self.members, self.repeats, self.groups)
            field, members, again, groups = (without(part, self.removal) for part in parts)
            log.info("step 1: masked PPCA of %d spectra with %d bins", len(field), field.n_bins)
            self._made[n_components, larger] = represent(field, members, fit, again, groups)
        return self._made[n_components, larger]

    @property
    def candidates(self) -> Candidates:
        """Spectra with every number of components."""
        return {number: self.compressed(number) for number in sorted(self.numbers, reverse=True)}

    @property
    def spectra(self) -> Representation:
        """Spectra with the configured number of components; of several numbers side by side."""
        each = self.candidates
        return side_by_side([each[number] for number in self.numbers])

    def abundances(self, name: str = "abundances") -> Representation:
        """[X/H] of the paper's species ("abundances"), or its best subset ("abundance_subset").

        Raises:
            InputError: where the star table lacks them.
        """
        apart = {"repeats": self.repeats.stars, "groups": self.groups.stars}
        return abundances(name, self.field.stars, self.members.stars, **self.config.abundances[name], **apart)

    def judged(
        self,
        on: Representation,
        make_learner: MakeLearner | None = None,
        allowed: NDArray[np.bool_] | None = None,
        **options: Any,
    ) -> LOCOResult:
        """Doppelganger rates on a representation of all of the stars, or of those that have abundances.

        Args:
            on: the representation.
            make_learner: gives a fresh learner. None: as configured.
            allowed: (M, F) the pairs that may be compared. None: as configured.
            options: of `leave_one_cluster_out`.
        """
        seen = on.seen_by(make_learner or self.make_learner)
        allowed = on.allowed(self.pairs) if allowed is None else allowed
        options = {"seed": self.seed, "roots": seen.roots, "noise": seen.noise, "ids": on.member_stars.id, **options}
        with warnings.catch_warnings(action="ignore", category=NumericalWarning):  # dimensions that tell nothing
            return leave_one_cluster_out(seen.make_learner, seen.field, seen.members, on.clusters, allowed, **options)

    def fitted(self, on: Representation, make_learner: MakeLearner | None = None) -> Learner:
        """A learner fitted on all clusters."""
        seen = on.seen_by(make_learner or self.make_learner)
        trained = recipe_of(seen.make_learner()) is not None  # for closed forms no pair is compared
        allowed = on.allowed(self.pairs) if trained else None
        members = Members(seen.members, on.clusters, allowed, seen.roots, seen.noise)
        with warnings.catch_warnings(action="ignore", category=NumericalWarning):  # the in-sample result said it
            return fitted(seen.make_learner, seen.field, members, on.clusters, self.seed)

    def embedded(self, on: Representation, make_learner: MakeLearner | None = None) -> tuple[Tensor, Tensor]:
        """(F, D) of the field and (M, D) of the members by a learner fitted on all clusters, float64."""
        return on.embedded(self.fitted(on, make_learner))

    def keeping(self, top: int) -> MakeLearner:
        """Gives a fresh learner as configured that keeps only so many of the most important dimensions.

        Raises:
            InputError: where the learner is not RSCA, the only one whose dimensions are ordered so.
        """
        if not isinstance(self.make_learner(), ScaledComponents):
            raise InputError(f"only RSCA orders its dimensions: learner=rsca expected, got {self.learner}")
        return partial(self.make_learner, top=top)

    def features(self) -> tuple[Tensor, Tensor]:
        """(F, D) of the field and (M, D) of the members by RSCA of all clusters, as the layer that `rsca fit` saves.

        Raises:
            InputError: where the learner is not RSCA.
        """
        on = self.spectra
        model = on.layer(self.fitted(on, self.keeping(self.n_components)))
        assert model is not None, "ScaledComponents on one model is a layer"
        return model.from_latents(on.field), model.from_latents(on.members)

    def column(self, name: str, members: bool = False) -> NDArray[Any]:
        """(F,) or (M,) values of a role or a column of the star table; numbers as float64.

        Raises:
            InputError: where the store has no such column, or no value in it.
        """
        values: NDArray[Any] = (self.members if members else self.field).stars.values(name)
        if values.dtype.kind == "f" and not np.isfinite(values).any():
            raise InputError(f"the column {name} of the star table has no value: ingest a catalogue that has it")
        return values

    def compare(self, folder: Path) -> Comparison:
        """The configured learner and its baselines on spectra and abundances.

        Args:
            folder: where trainings are logged.

        Raises:
            InputError: as `rsca_torch.comparison.comparison.compare` does, before the hard work where that can be.
        """
        learners, merits = [self.make_learner, *self._baselines()], Merits.of(self.config)
        numbers = self.numbers
        compared_values(self.pairs, self.members.stars)  # refuses before the hard work what it would refuse after
        self._require_spectra(learners)
        others = self._abundances()
        self.training = TrainingOptions.of(self.config, self.store.checksum, folder)
        given = self.candidates if self.compression.is_auto else self.spectra
        log.info("leaving one cluster out: %d learners on each representation", len(learners))
        comparison = compare(
            [given, *others], learners, self.pairs, self.seed, self.progress.step, self.training, merits
        )
        for result in comparison.results:
            if result.nested is not None:
                choices = list(result.nested.chosen.values())
                shares = ", ".join(f"{number} in {choices.count(number)}" for number in numbers if number in choices)
                said = "%s: %d components on all clusters; of %d folds without one %s"
                log.info(said, result.learner, result.nested.best, len(choices), shares)
        return comparison

    def layer(self) -> RSCA:
        """RSCA of all clusters, calibrated; of `auto` with the number of components that does best leaving one out.

        Raises:
            InputError: where the learner is not RSCA, or several numbers of components are to be averaged.
        """
        require_rsca(self.config)
        if len(self.numbers) > 1 and not self.compression.is_auto:
            raise InputError(
                f"fit makes one layer of one PPCA: one n_components or auto expected, got {self.numbers} (rsca compare "
                "averages)"
            )
        on = self._best() if self.compression.is_auto else self.spectra
        model = calibrated_layer(on, self.make_learner, self.fitted(on), self.pairs, self.seed)
        assert model is not None, "ScaledComponents on one model is a layer"
        return model

    def _best(self) -> Representation:
        """Of the candidates that with the lowest rate."""
        curve = {number: self.judged(on) for number, on in self.candidates.items()}
        for number, loco in sorted(curve.items()):
            log.info("%d components: doppelganger rate %.4f", number, loco.rate)
        return self.candidates[best(curve)]

    def _baselines(self) -> list[MakeLearner]:
        """Those that are not the judged learner."""
        baselines = [maker(each) for each in self.config.baselines.values()]
        return [make for make in baselines if learner_name(make()) != self.learner]

    def _require_spectra(self, learners: list[MakeLearner]) -> None:
        """Refuse before step 1 what learners of spectra could not be given after it."""
        of_spectra = [learner_name(make()) for make in learners if sees_spectra(make)]
        if not of_spectra:
            return
        if not isinstance(self.config.compressor.n_components, int):
            raise InputError(
                f"{', '.join(of_spectra)} sees spectra and starts from one step 1: one compressor.n_components "
                f"expected, got {self.config.compressor.n_components}"
            )
        require_room(self.field)

    def _abundances(self) -> list[Representation]:
        """The abundance representations that the star table can give; it says which it cannot, and why."""
        given = []
        for name in self.config.abundances:
            try:
                given.append(self.abundances(str(name)))
            except InputError as error:
                log.warning("warning: %s left out: %s", str(name).replace("_", " "), error)
        return given
