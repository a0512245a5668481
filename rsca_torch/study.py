"""A survey and all that is fitted to it, for the experiments: each fit is made when it is first asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import hydra
import numpy as np
from omegaconf import DictConfig
from rich.progress import Progress
from torch import Tensor

from rsca_torch.compression import compress, removal_for
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.learners.learner import Learner
from rsca_torch.learning import Members, fitted
from rsca_torch.loco import LOCOResult, leave_one_cluster_out
from rsca_torch.plugins import maker
from rsca_torch.removal import Removal, without
from rsca_torch.representation import MakeLearner, Representation, abundances, represent
from rsca_torch.survey.store import Store, StoredSpectra

__all__ = ["Study"]


class Study:
    """What every experiment is given.

    Attributes:
        config: of the command.
        store: the survey's stars and spectra.
        seed: of whatever is drawn.
        bar: for progress.
        field: the F field stars' spectra.
        members: the M members' spectra.
        make_learner: gives a fresh learner as configured, RSCA as a rule.
    """

    def __init__(self, config: DictConfig, store: Store, bar: Progress) -> None:
        self.config, self.store, self.bar = config, store, bar
        self.seed: int = config.seed
        self.field: StoredSpectra = store.select(~store.is_member)
        self.members: StoredSpectra = store.select(store.is_member)
        self.make_learner: MakeLearner = maker(config.learner)
        self.pairs: Callable[..., Tensor] = hydra.utils.instantiate(config.pairs)
        self._compressed: dict[int, Representation] = {}

    @property
    def n_components(self) -> int:
        """K, of step 1 as configured."""
        return int(self.config.compressor.n_components)

    @property
    def spectra(self) -> Representation:
        """Spectra in the coordinates of step 1 with the configured number of components."""
        return self.compressed(self.n_components)

    @cached_property
    def removal(self) -> Removal | None:
        """What is taken out of all spectra before step 1."""
        return removal_for(self.config, self.store, self.bar, self.field)

    def compressed(self, n_components: int) -> Representation:
        """Spectra in the coordinates of step 1, in units of flux, with so many components.

        A fit starts from the smallest larger one that is there: ask for the largest first.
        """
        if n_components not in self._compressed:
            larger = [number for number in self._compressed if number > n_components]
            start = self._compressed[min(larger)].ppca if larger else None
            fit = partial(compress, self.config, self.store, self.bar, n_components=n_components, start=start)
            field, members = without(self.field, self.removal), without(self.members, self.removal)
            self._compressed[n_components] = represent(field, members, fit)
        return self._compressed[n_components]

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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing, once a fold
            return leave_one_cluster_out(make, on.field, on.members, on.clusters, allowed, seed=self.seed, **options)

    def fitted(self, on: Representation, make_learner: MakeLearner | None = None) -> Learner:
        """A learner fitted on all clusters."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumericalWarning)
            members = Members(on.members, on.clusters, on.allowed(self.pairs).numpy(), on.roots)
            return fitted(make_learner or self.make_learner, on.field, members, on.clusters, self.seed)

    def column(self, name: str, members: bool = False) -> np.ndarray:
        """(F,) or (M,) values of a column of the star table; numbers as float64.

        Raises:
            InputError: where the store has no such column, or no value in it.
        """
        stars = (self.members if members else self.field).stars
        if name not in stars.colnames:
            raise InputError(f"the star table has no column {name}: ingest a catalogue that has it")
        values = np.asarray(stars[name])
        if values.dtype.kind not in "fiu":
            return values
        values = values.astype(float)
        if not np.isfinite(values).any():
            raise InputError(f"the column {name} of the star table has no value: ingest a catalogue that has it")
        return values
