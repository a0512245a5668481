"""`rsca compare`: doppelganger rates of learners on spectra and abundances."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from rsca_torch.cli.inputs import open_store, output_path, require_clusters
from rsca_torch.comparison.comparison import Comparison, HowToTrain, learner_name
from rsca_torch.comparison.comparison import compare as compare_learners
from rsca_torch.comparison.compression import (
    compress,
    is_auto,
    numbers_for,
    removal_for,
)
from rsca_torch.comparison.finished_run import finished_rate
from rsca_torch.comparison.representation import (
    Representation,
    abundances,
    represent_with_each,
    sees_spectra,
    side_by_side,
)
from rsca_torch.comparison.sweep_jobs import job_folder, job_overrides
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.files import atomic_folder, require_new_folder, updated_folder
from rsca_torch.learners import Learner
from rsca_torch.learners.registry import maker
from rsca_torch.removal import without
from rsca_torch.report.results import summary_table
from rsca_torch.report.run_folder import draw_run, keep_learner, settings_of, write_run
from rsca_torch.report.terminal import print_table, progress
from rsca_torch.rsca import AnySpectra
from rsca_torch.spectra.packed import require_room
from rsca_torch.survey.found_censoring import FoundCensoring
from rsca_torch.survey.simulated.store import simulated_store
from rsca_torch.survey.store import Store
from rsca_torch.training.fitting import fitted
from rsca_torch.training.members import Members

__all__ = ["fitted_on_all", "run"]

log = logging.getLogger(__name__)


def run(config: DictConfig) -> float:
    """Doppelganger rates of the learners on spectra and abundances, as table, files and pictures.

    Returns:
        The judged learner's rate on spectra, for a sweeper that looks for the best.
    """
    out = output_path(config.out)
    job = job_overrides()
    if job is None:
        require_new_folder(out)
    else:
        out = job_folder(out, job)
        rate = _finished_rate(out, config)
        if rate is not None:
            log.info("finished already: %s", out)
            return rate
    learners = _learners(config)
    with atomic_folder(out) if job is None else updated_folder(out) as folder:
        store = open_store(config)
        field, members = (store.select(rows) for rows in (~store.is_member, store.is_member))
        require_clusters(store)
        numbers = numbers_for(config, store)
        _require_spectra(learners, config, field)
        others = _abundances(config, field, members)
        pairs = hydra.utils.instantiate(config.pairs)
        pairs(*torch.zeros(4, 0))  # refuses before the hard work what it would refuse after
        with progress() as told:
            removal = removal_for(config, store, told, field)
            log.info("step 1: masked PPCA of %d spectra with %d bins", len(field), field.n_bins)
            step_1 = partial(compress, config, store, told)
            each = represent_with_each(without(field, removal), without(members, removal), step_1, numbers)
            given = each if is_auto(config) else side_by_side([each[number] for number in numbers])
            log.info("leaving one cluster out: %d learners on each representation", len(learners))
            how = _how_to_train(config, store, folder)
            comparison = compare_learners([given, *others], learners, pairs, config.seed, told.step, how)
            _say_what_was_chosen(comparison)
            write_run(folder, comparison, store, config)
            spectra = comparison.results[0].representation
            learner = fitted_on_all(learners[0], spectra, config.seed, spectra.allowed(pairs))
            model = spectra.layer(learner, torch.from_numpy(store.wavelength))
            keep_learner(folder, learner, model)
            if config.figures:
                log.info("drawing")
                draw_run(folder, comparison, learner, model)
    how.forget()
    print_table(summary_table(comparison))
    log.info("results.json, results.csv%s in %s", " and pictures" if config.figures else "", out)
    return comparison.results[0].loco.rate


def _finished_rate(out: Path, config: DictConfig) -> float | None:
    """Of a job of a sweep that was started before."""
    if not (out / "results.json").exists():
        return None
    settings, checksum = settings_of(config), None
    survey = hydra.utils.instantiate(config.survey, root="")
    if config.store is not None:
        checksum = Store.open(config.store).checksum
    elif isinstance(survey.censoring, FoundCensoring):  # the store alone says what was found
        checksum = simulated_store(config).checksum
    else:
        settings["survey"] = survey.config()
    return finished_rate(out, settings, checksum)


def _learners(config: DictConfig) -> list[Callable[[], Learner]]:
    """The judged learner and its baselines, less one that the judged learner is; tried before the hard work."""
    judged = maker(config.learner)
    name = learner_name(judged())
    baselines = [maker(each) for each in config.baselines.values()]
    return [judged, *(make for make in baselines if learner_name(make()) != name)]


def _require_spectra(learners: list[Callable[[], Learner]], config: DictConfig, field: AnySpectra) -> None:
    """Refuse before step 1 what learners of spectra could not be given after it."""
    of_spectra = [learner_name(make()) for make in learners if sees_spectra(make)]
    if not of_spectra:
        return
    if not isinstance(config.compressor.n_components, int):
        raise InputError(
            f"{', '.join(of_spectra)} sees spectra and starts from one step 1: one compressor.n_components expected, "
            f"got {config.compressor.n_components}"
        )
    require_room(field)


def _abundances(config: DictConfig, field: AnySpectra, members: AnySpectra) -> list[Representation]:
    """The abundance representations that the star table can give; it says which it cannot, and why."""
    given = []
    for name, settings in config.abundances.items():
        try:
            given.append(abundances(str(name), field.stars, members.stars, **settings))
        except InputError as error:
            log.warning("warning: %s are left out: %s", str(name).replace("_", " "), error)
    return given


def _how_to_train(config: DictConfig, store: Store, folder: Path) -> HowToTrain:
    """Folds of trained learners are kept beside the fits, under a name that says what they are of."""
    learners = [config.learner, *config.baselines.values()]
    content = json.dumps(
        [version("rsca_torch"), store.checksum, [OmegaConf.to_container(learner) for learner in learners]], default=str
    )
    if config.processes < 1:
        raise InputError(f"processes={config.processes}: at least 1 expected")
    logger = None if config.logger is None else partial(_logger, hydra.utils.instantiate(config.logger), folder)
    kept = None if config.checkpoints is None else Path(config.checkpoints) / "folds"
    return HowToTrain(kept, content, config.processes, logger)


def _logger(make: Callable[..., Any], folder: Path, representation: str, learner: str, cluster: str) -> Any:  # noqa: ANN401
    """Of one training, in a folder of its own."""
    return make(save_dir=folder / "training" / representation / learner, name=cluster.replace(" ", "_"), version="")


def _say_what_was_chosen(comparison: Comparison) -> None:
    for result in comparison.results:
        if result.nested is not None:
            choices = list(result.nested.chosen.values())
            shares = ", ".join(f"{number} in {choices.count(number)}" for number in sorted(set(choices)))
            said = "%s: %d components on all clusters; of %d folds without one %s"
            log.info(said, result.learner, result.nested.best, len(choices), shares)


def fitted_on_all(make_learner: Callable[[], Learner], on: Representation, seed: int, allowed: Tensor) -> Learner:
    """A learner fitted on all clusters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)  # the in-sample result said it
        members = Members(on.members, on.clusters, allowed.numpy(), on.roots)
        return fitted(on.suited(make_learner), on.field, members, on.clusters, seed)
