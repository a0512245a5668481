"""What each command does, from its composed configuration; `rsca_torch.cli.main` calls these."""

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
import numpy as np
import torch
from astropy.table import Table
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from rsca_torch.comparison.assembly import Study
from rsca_torch.comparison.comparison import Candidates, Comparison, HowToTrain, learner_name
from rsca_torch.comparison.comparison import compare as compare_learners
from rsca_torch.comparison.compression import (
    arguments,
    compress,
    engine_for,
    is_auto,
    numbers_for,
    removal_for,
    say_how_it_ended,
)
from rsca_torch.comparison.finished_run import finished_rate
from rsca_torch.comparison.gathering import gather
from rsca_torch.comparison.representation import (
    Representation,
    abundances,
    compared_values,
    represent_with_each,
    sees_spectra,
    side_by_side,
)
from rsca_torch.comparison.run_groups import groups_of
from rsca_torch.comparison.sweep_jobs import job_folder, job_overrides
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.leave_one_out import leave_one_cluster_out
from rsca_torch.evaluation.nested_choice import best
from rsca_torch.files import filled_folder, require_new_file, require_new_folder, whole_file, whole_folder
from rsca_torch.learners import Learner, ScaledComponents
from rsca_torch.learners.registry import builtin, installed, learner_class, learners_table, maker
from rsca_torch.removal import without
from rsca_torch.report.ingest_summary import features_table, print_summary
from rsca_torch.report.pictures import save_figure
from rsca_torch.report.reproduction import items_of, write_summary
from rsca_torch.report.reproduction import reproduce as reproduce_items
from rsca_torch.report.reproduction import summary_table as reproduced_table
from rsca_torch.report.results import summary_table
from rsca_torch.report.run_folder import draw_run, keep_learner, settings_of, write_run
from rsca_torch.report.sweep_report import draw_groups, markdown, print_groups, write_rows
from rsca_torch.report.terminal import print_table, progress
from rsca_torch.rsca import RSCA, AnySpectra
from rsca_torch.spectra.packed import require_room
from rsca_torch.survey.ingest import ingest as ingest_survey
from rsca_torch.survey.interstellar import FoundCensoring
from rsca_torch.survey.simulated.store import simulated_store
from rsca_torch.survey.store import Store
from rsca_torch.training.fitting import fitted
from rsca_torch.training.members import Members

__all__ = ["compare", "embed", "fit", "ingest", "learners", "report", "reproduce", "simulate"]

log = logging.getLogger(__name__)

EMBEDDED_AT_ONCE = 1024  # stars


def simulate(config: DictConfig) -> None:
    """Write a simulated survey as an archive's tree."""
    root = _path(config.root)
    simulation = hydra.utils.instantiate(config.simulation)
    with progress() as told:
        simulation.write(root, config.seed, partial(told.step, "simulating spectra"))
    log.info("simulated survey in %s; next: rsca ingest survey.root=%s store=DIR", root, root)


def ingest(config: DictConfig) -> None:
    """Survey files to a store."""
    survey = hydra.utils.instantiate(config.survey)
    with progress() as told:
        store = ingest_survey(
            survey,
            config.store,
            progress=partial(told.step, "reading spectra"),
            found=lambda features: print_table(features_table(features)),
        )
    print_summary(store)
    following = "compare" if store.is_member.any() else "embed model=FILE out=FILE"
    log.info("store in %s; next: rsca %s store=%s", store.path, following, store.path)


def compare(config: DictConfig) -> float:
    """Doppelganger rates of the learners on spectra and abundances, as table, files and pictures.

    Returns:
        The judged learner's rate on spectra, for a sweeper that looks for the best.
    """
    out = _path(config.out)
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
    with whole_folder(out) if job is None else filled_folder(out) as folder:
        store = _store(config)
        field, members = (store.select(rows) for rows in (~store.is_member, store.is_member))
        _require_clusters(store)
        numbers = numbers_for(config, store)
        _require_spectra(learners, config, field)
        others = _abundances(config, field, members)
        pairs = hydra.utils.instantiate(config.pairs)
        pairs(*torch.zeros(4, 0))  # refuses before the hard work what it would refuse after
        compared_values(pairs, store.stars)
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
            learner = _fitted_on_all(learners[0], spectra, config.seed, spectra.allowed(pairs))
            model = spectra.layer(learner, torch.from_numpy(store.wavelength))
            keep_learner(folder, learner, model)
            if config.figures:
                log.info("drawing")
                draw_run(folder, comparison, learner, model, store.segments)
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


def report(config: DictConfig) -> None:
    """One table and one picture of all runs of a sweep."""
    sweep = Path(config.sweep)
    out = sweep / "report" if config.out is None else _path(config.out)
    gathered = gather(sweep)
    groups = groups_of(gathered, config.baseline)
    with filled_folder(out) as folder:
        write_rows(folder / "runs.csv", gathered)
        text = markdown(groups, gathered, config.baseline, f"Sweep {sweep.resolve().name}")
        (folder / "report.md").write_text(text, encoding="utf-8")
        save_figure(draw_groups(groups), folder, "rates")
    print_groups(groups, gathered, config.baseline)
    for run, problem in gathered.unused:
        log.warning("not used: %s: %s", run, problem)
    runs = len({row.run for row in gathered.rows})
    log.info("%d runs; runs.csv, report.md and pictures in %s", runs, out)


def fit(config: DictConfig) -> None:
    """Fit RSCA on all clusters of a store and save it."""
    out = _path(config.out)
    require_new_file(out)
    if learner_class(config.learner._target_) is not ScaledComponents:
        raise InputError(f"fit makes an RSCA model: learner=rsca expected, got {config.learner._target_}")
    store = _store(config)
    _require_clusters(store)
    numbers = numbers_for(config, store)
    if len(numbers) > 1 and not is_auto(config):
        raise InputError(
            f"fit makes one layer of one PPCA: one n_components or auto expected, got {numbers} (rsca compare averages)"
        )
    field, members = (store.select(rows) for rows in (~store.is_member, store.is_member))
    with progress() as told:
        removal = removal_for(config, store, told, field)
        log.info("masked PPCA of %d spectra with %d bins", len(field), field.n_bins)
        if is_auto(config):
            step_1 = partial(compress, config, store, told)
            each = represent_with_each(without(field, removal), without(members, removal), step_1, numbers)
            model = _fit_best(config, each, store)
        else:
            settings, switches = (_arguments(config[group]) for group in ("compressor", "learner"))
            settings |= {
                "n_components": numbers[0],
                "progress": told.iteration,
                "engine": engine_for(config, store, numbers[0], removed=removal is not None),
                "removal": removal,
            }
            model = RSCA.fit(field, members, **settings, **switches)
            say_how_it_ended(model.ppca)
    model.save(out)
    telling = int(model.sigma_r.isfinite().sum())
    log.info("RSCA of %d features, %d of which tell siblings apart, in %s", len(model.sigma_r), telling, out)


def embed(config: DictConfig) -> None:
    """Features of every star of a store, as a FITS table."""
    out = _path(config.out)
    require_new_file(out)
    model = RSCA.load(config.model)
    store = Store.open(config.store)
    features, valid_bins, aside = [], [], []
    with progress() as told:
        for first in range(0, len(store), EMBEDDED_AT_ONCE):
            spectra = store.spectra(slice(first, first + EMBEDDED_AT_ONCE)).on(model.wavelength)
            embedding = model.ppca.embed(without(spectra, model.removal))
            features.append(model.from_latents(embedding.latents))
            valid_bins.append(spectra.valid.sum(1))
            aside.append(embedding.stars.bincount(minlength=len(spectra)))
            told.step("embedding", first + len(spectra), len(store))
    table = Table(
        {store.stars.roles[role]: store.stars.values(role) for role in ("id", "group", "snr") if store.stars.has(role)}
    )
    table["VALID_BINS"], table["SET_ASIDE"] = (
        torch.cat(count).numpy().astype(np.int32) for count in (valid_bins, aside)
    )
    table["FEATURES"] = torch.cat(features).numpy()
    table.meta = {"STORE": store.checksum[:16]}
    blind = int((table["VALID_BINS"] == 0).sum())
    if blind:
        log.warning("warning: %d stars have no valid bin among the model's: their features are the prior's", blind)
    with whole_file(out) as part:
        table.write(part, format="fits")
    log.info("%d features of %d stars in %s", table["FEATURES"].shape[1], len(table), out)


def reproduce(config: DictConfig) -> None:
    """The paper's figures and tables, with what was published beside what comes out."""
    out, names = _path(config.out), items_of(config)
    if not isinstance(config.compressor.n_components, int):
        raise InputError(f"compressor.n_components={config.compressor.n_components}: reproduce takes one number")
    store = _store(config)
    _require_clusters(store)
    out.mkdir(parents=True, exist_ok=True)
    simulated = config.store is None
    with progress() as told:
        outcomes = reproduce_items(Study(config, store, told), names, out, told.step)
    write_summary(out, outcomes, simulated)
    print_table(reproduced_table(outcomes, simulated))
    done = sum(not outcome.skipped for outcome in outcomes)
    log.info("%d of %d experiments; summary.md, summary.csv and a folder for each in %s", done, len(names), out)


def learners(_: DictConfig) -> None:
    """The learners that can be chosen: their classes, where they are from, and the papers."""
    print_table(learners_table([*builtin(), *installed()]))
    log.info("rsca compare learner=NAME takes one of them, learner._target_=my_package.MyLearner any class")


def _path(out: Any) -> Path:  # noqa: ANN401  (whatever was given)
    if not out:
        raise InputError(f"out must name what to make, got {out!r}")
    return Path(out)


def _store(config: DictConfig) -> Store:
    """The store that was named, checked; else that of a simulated survey, made first if it is not there."""
    if config.store is not None:
        idle = [
            o for o in HydraConfig.get().overrides.task if o.lstrip("+~").startswith(("survey", "censoring", "simulat"))
        ]
        if idle:
            raise InputError(f"{', '.join(idle)}: no part in this, since store={config.store} is given; leave one out")
        store = Store.open(config.store)
        log.info("checking %s", store.path)
        store.verify()
        return store
    new = not (Path(config.simulated) / "store").exists()
    with progress() as told:
        store = simulated_store(config, told.step)
    if new:
        print_summary(store)
    return store


def _abundances(config: DictConfig, field: AnySpectra, members: AnySpectra) -> list[Representation]:
    """The abundance representations that the star table can give; it says which it cannot, and why."""
    given = []
    for name, settings in config.abundances.items():
        try:
            given.append(abundances(str(name), field.stars, members.stars, **settings))
        except InputError as error:
            log.warning("warning: %s are left out: %s", str(name).replace("_", " "), error)
    return given


def _say_what_was_chosen(comparison: Comparison) -> None:
    for result in comparison.results:
        if result.nested is not None:
            choices = list(result.nested.chosen.values())
            shares = ", ".join(f"{number} in {choices.count(number)}" for number in sorted(set(choices)))
            said = "%s: %d components on all clusters; of %d folds without one %s"
            log.info(said, result.learner, result.nested.best, len(choices), shares)


def _arguments(config: DictConfig) -> dict[str, Any]:
    return {name: value for name, value in arguments(config).items() if not name.startswith("_")}


def _fit_best(config: DictConfig, each: Candidates, store: Store) -> RSCA:
    """RSCA with the number of components that does best in plain leave one cluster out."""
    make_learner = maker(config.learner)
    some = next(iter(each.values()))
    allowed = some.allowed(hydra.utils.instantiate(config.pairs))
    curve = {
        number: leave_one_cluster_out(make_learner, on.field, on.members, on.clusters, allowed, seed=config.seed)
        for number, on in each.items()
    }
    for number, loco in sorted(curve.items()):
        log.info("%d components: doppelganger rate %.4f", number, loco.rate)
    on = each[best(curve)]
    learner = _fitted_on_all(make_learner, on, config.seed, allowed)
    model = on.layer(learner, torch.from_numpy(store.wavelength))
    assert model is not None, "ScaledComponents on one model is a layer"
    return model


def _require_clusters(store: Store) -> None:
    _, sizes = np.unique(store.stars.group[store.is_member], return_counts=True)
    if (sizes > 1).sum() < 2:
        raise InputError(
            f"at least two clusters with two members are needed, the store {store.path} has {(sizes > 1).sum()}: "
            "ingest with a list of members (survey.members=FILE)"
        )


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


def _fitted_on_all(make_learner: Callable[[], Learner], on: Representation, seed: int, allowed: Tensor) -> Learner:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)  # the in-sample result said it
        members = Members(on.members, on.clusters, allowed.numpy(), on.roots)
        return fitted(on.suited(make_learner), on.field, members, on.clusters, seed)


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
