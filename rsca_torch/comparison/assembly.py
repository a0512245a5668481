"""A survey and all that is fitted to it, for the experiments: each fit is made when it is first asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import hydra
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from rsca_torch.comparison.comparison import learner_name
from rsca_torch.comparison.compression import arguments, compress, removal_for
from rsca_torch.comparison.progress import Progress, Silence
from rsca_torch.comparison.representation import MakeLearner, Representation, abundances, represent
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.leave_one_out import LOCOResult, leave_one_cluster_out
from rsca_torch.learners.learner import Learner
from rsca_torch.learners.registry import maker
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.removal import Removal, without
from rsca_torch.survey.simulated.store import simulated_store, uncensored_store
from rsca_torch.survey.store import Store, StoredSpectra
from rsca_torch.training.fitting import fitted
from rsca_torch.training.members import Members

__all__ = ["Study"]


class Study:
    """What every experiment is given.

    Attributes:
        config: of the command.
        store: the survey's stars and spectra.
        seed: of whatever is drawn.
        progress: is told what is done.
        field: the F field stars' spectra.
        members: the M members' spectra.
        make_learner: gives a fresh learner as configured, RSCA as a rule.
    """

    def __init__(self, config: DictConfig, store: Store, progress: Progress | None = None) -> None:
        self.config, self.store, self.progress = config, store, progress or Silence()
        self.seed: int = config.seed
        self.field: StoredSpectra = store.select(~store.is_member)
        self.members: StoredSpectra = store.select(store.is_member)
        self.make_learner: Callable[..., Learner] = maker(config.learner)
        self.pairs: Callable[..., Tensor] = hydra.utils.instantiate(config.pairs)
        self._compressed: dict[int, Representation] = {}

    @property
    def n_components(self) -> int:
        """K, of step 1 as configured."""
        return int(self.config.compressor.n_components)

    @property
    def learner(self) -> str:
        """The name of the configured learner."""
        return learner_name(self.make_learner())

    @property
    def spectra(self) -> Representation:
        """Spectra in the coordinates of step 1 with the configured number of components."""
        return self.compressed(self.n_components)

    @cached_property
    def removal(self) -> Removal | None:
        """What is taken out of all spectra before step 1."""
        return removal_for(self.config, self.store, self.progress, self.field)

    def compressed(self, n_components: int) -> Representation:
        """Spectra in the coordinates of step 1, in units of flux, with so many components.

        A fit starts from the smallest larger one that is there: ask for the largest first.
        """
        if n_components not in self._compressed:
            larger = [number for number in self._compressed if number > n_components]
            start = self._compressed[min(larger)].ppca if larger else None
            fit = partial(compress, self.config, self.store, self.progress, n_components=n_components, start=start)
            field, members = without(self.field, self.removal), without(self.members, self.removal)
            self._compressed[n_components] = represent(field, members, fit)
        return self._compressed[n_components]

    def uncensored(self, store: str | None) -> Study:
        """The survey with no interstellar range left out.

        Args:
            store: that `rsca ingest censoring=none` wrote; None: a simulated survey's own.

        Raises:
            InputError: where none is given and the survey is not simulated, or ranges are left out there too.
        """
        if store is None and self.config.store is None:
            return Study(self.config, uncensored_store(self.config), self.progress)
        survey, path = self.store.manifest["survey"], f"{self.store.path}-uncensored"
        name, root = (survey.get(key, key.upper()) for key in ("name", "root"))
        cure = f"rsca ingest survey={name} survey.root={root} censoring=none store={path}"
        if store is None:
            raise InputError(
                f"{self.store.path} lacks the interstellar ranges, which this is about: {cure}, and give that store as "
                f"uncensored={path} of this experiment"
            )
        given = Store.open(store)
        if given.censoring.interstellar_pixels or given.censoring.interstellar_angstrom:
            raise InputError(f"uncensored={store} leaves interstellar ranges out too: {cure}")
        return Study(self.config, given, self.progress)

    def simulated_with(self, name: str, options: Mapping[str, Any]) -> Study:
        """A simulated survey with other options, made beside this one where it is first asked for; else this study.

        Args:
            name: of the other survey, at the end of its folder's.
            options: of the simulation, by their dotted names.
        """
        same = all(OmegaConf.select(self.config.simulation, option) == value for option, value in options.items())
        if same or self.config.store is not None:
            return self
        config = self.config.copy()
        for option, value in options.items():
            OmegaConf.update(config.simulation, option, value)
        config.simulated = f"{config.simulated}-{name}"
        return Study(config, simulated_store(config), self.progress)

    def plane(self, rows: np.ndarray, n_components: int) -> MaskedPPCA:
        """Step 1 of some of the field stars alone, as configured but for the number of components; not kept.

        Args:
            rows: of the field stars.
            n_components: K.
        """
        settings = arguments(self.config.compressor) | {"n_components": n_components, "basis": "inductive"}
        fit = hydra.utils.instantiate(settings, progress=self.progress.iteration)
        spectra = self.field.take(rows)
        ppca: MaskedPPCA = fit(spectra, spectra)
        return ppca

    def abundances(self, name: str = "abundances") -> Representation:
        """[X/H] of the paper's species ("abundances"), or its best subset ("abundance_subset").

        Raises:
            InputError: where the star table lacks them.
        """
        return abundances(name, self.field.stars, self.members.stars, **self.config.abundances[name])

    @cached_property
    def allowed(self) -> Tensor:
        """(M, F) bool: the pairs of spectra that may be compared."""
        return self.spectra.allowed(self.pairs)

    def judged(self, on: Representation, make_learner: MakeLearner | None = None, **options: Any) -> LOCOResult:
        """Doppelganger rates on a representation of all of the study's stars, or of those that have abundances.

        Args:
            on: what the learner sees.
            make_learner: gives a fresh learner. None: as configured.
            options: of `leave_one_cluster_out`.
        """
        allowed = on.allowed(self.pairs)
        make = make_learner or self.make_learner
        on = on.seen_by(make)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing, once a fold
            return leave_one_cluster_out(
                on.suited(make), on.field, on.members, on.clusters, allowed, seed=self.seed, **options
            )

    def fitted(self, on: Representation, make_learner: MakeLearner | None = None) -> Learner:
        """A learner fitted on all clusters."""
        make = make_learner or self.make_learner
        on = on.seen_by(make)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumericalWarning)
            members = Members(on.members, on.clusters, on.allowed(self.pairs).numpy(), on.roots)
            return fitted(on.suited(make), on.field, members, on.clusters, self.seed)

    def keeping(self, top: int) -> MakeLearner:
        """Gives a fresh learner as configured that keeps only so many of the most important dimensions.

        Raises:
            InputError: where the learner is not RSCA, the only one whose dimensions are ordered so.
        """
        if not isinstance(self.make_learner(), ScaledComponents):
            raise InputError(
                f"RSCA's dimensions have an order of importance: learner=rsca expected, got {self.learner}"
            )
        return partial(self.make_learner, top=top)

    def features(self) -> tuple[Tensor, Tensor]:
        """(F, D) of the field and (M, D) of the members by RSCA of all clusters, the most important feature first.

        They and their signs are those of the layer that `rsca fit` saves.

        Raises:
            InputError: where the learner is not RSCA.
        """
        on = self.spectra
        model = on.layer(self.fitted(on, self.keeping(self.n_components)), torch.from_numpy(self.store.wavelength))
        assert model is not None, "ScaledComponents on one model is a layer"
        field, members = (model.from_latents(z / model.ppca.scales) for z in (on.field, on.members))
        return field, members

    def column(self, name: str, members: bool = False) -> np.ndarray:
        """(F,) or (M,) values of a role or a column of the star table; numbers as float64.

        Raises:
            InputError: where the store has no such column, or no value in it.
        """
        stars = (self.members if members else self.field).stars
        values: np.ndarray = stars.values(name)
        if values.dtype.kind != "f":
            return values
        if not np.isfinite(values).any():
            raise InputError(f"the column {name} of the star table has no value: ingest a catalogue that has it")
        return values
