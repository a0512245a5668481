"""What each command does, from its composed configuration; `rsca_torch.cli` calls these."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from astropy.table import Table
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from rsca_torch.comparison import Comparison, Representation, abundances, learner_name, represent
from rsca_torch.comparison import compare as compare_learners
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.learners import Learner, ScaledComponents, require_dimensions
from rsca_torch.loco import fitted
from rsca_torch.ppca import MaskedPPCA
from rsca_torch.progress import folds, iterations, progress
from rsca_torch.report import (
    draw_features,
    draw_histograms,
    draw_rates,
    draw_weights,
    save_figure,
    summary_table,
    write_csv,
    write_json,
)
from rsca_torch.rsca import RSCA
from rsca_torch.simulated_store import simulated_store
from rsca_torch.spectra import Spectra
from rsca_torch.survey.ingest import ingest as ingest_survey
from rsca_torch.survey.store import Store
from rsca_torch.whole import require_new_file, require_new_folder, whole_file, whole_folder

__all__ = ["compare", "embed", "fit", "ingest", "simulate"]

log = logging.getLogger(__name__)

EMBEDDED_AT_ONCE = 1024  # stars


def simulate(config: DictConfig) -> None:
    """Write a simulated survey as an archive's tree."""
    root = _path(config.root)
    hydra.utils.instantiate(config.simulation).write(root, config.seed)
    log.info("simulated survey in %s; next: rsca ingest survey.root=%s store=DIR", root, root)


def ingest(config: DictConfig) -> None:
    """Survey files to a store."""
    store = ingest_survey(hydra.utils.instantiate(config.survey), config.store)
    following = "compare" if store.is_member.any() else "embed model=FILE out=FILE"
    log.info("store in %s; next: rsca %s store=%s", store.path, following, store.path)


def compare(config: DictConfig) -> None:
    """Doppelganger rates of the learners on spectra and abundances, as table, files and pictures."""
    out = _path(config.out)
    require_new_folder(out)
    learners = _learners(config)
    with whole_folder(out) as folder:
        store = _store(config)
        field, members = (store.spectra(rows) for rows in (~store.is_member, store.is_member))
        _require_clusters(store)
        if _class(config.learner) is ScaledComponents:
            _require_dimensions(config.compressor.n_components, store)
        others = _abundances(config, field, members)
        pairs = hydra.utils.instantiate(config.pairs)
        with progress() as bar:
            log.info("step 1: masked PPCA of %d spectra with %d bins", len(field), field.flux.shape[1])
            compressor = hydra.utils.instantiate(config.compressor, progress=iterations(bar))
            spectra = represent(field, members, compressor)
            _say_how_it_ended(spectra.ppca)
            log.info("leaving one cluster out: %d learners on each representation", len(learners))
            comparison = compare_learners([spectra, *others], learners, pairs, config.seed, folds(bar))
            _write(folder, comparison, store, config)
            learner = _fitted_on_all(learners[0], spectra, config.seed)
            model = _layer(learner, spectra, store)
            if model is not None:
                model.save(folder / "rsca.safetensors")
            if config.figures:
                log.info("drawing")
                bar.add_task("drawing", total=None)
                _draw(folder, comparison, learner, model)
    Console().print(summary_table(comparison))
    log.info("results.json, results.csv%s in %s", " and pictures" if config.figures else "", out)


def fit(config: DictConfig) -> None:
    """Fit RSCA on all clusters of a store and save it."""
    out = _path(config.out)
    require_new_file(out)
    if _class(config.learner) is not ScaledComponents:
        raise InputError(f"fit makes an RSCA model: learner=rsca expected, got {config.learner._target_}")
    store = _store(config)
    _require_clusters(store)
    field, members = (store.spectra(rows) for rows in (~store.is_member, store.is_member))
    settings, switches = (_arguments(config[group]) for group in ("compressor", "learner"))
    log.info("masked PPCA of %d spectra with %d bins", len(field), field.flux.shape[1])
    with progress() as bar:
        model = RSCA.fit(field, members, **settings, **switches, progress=iterations(bar))
    _say_how_it_ended(model.ppca)
    model.save(out)
    telling = int(model.sigma_r.isfinite().sum())
    log.info("RSCA of %d features, %d of which tell siblings apart, in %s", len(model.sigma_r), telling, out)


def embed(config: DictConfig) -> None:
    """Features of every star of a store, as a FITS table."""
    out = _path(config.out)
    require_new_file(out)
    model = RSCA.load(config.model)
    store = Store.open(config.store)
    features, valid_bins = [], []
    with progress() as bar:
        task = bar.add_task("embedding", total=len(store))
        for first in range(0, len(store), EMBEDDED_AT_ONCE):
            spectra = store.spectra(slice(first, first + EMBEDDED_AT_ONCE)).on(model.wavelength)
            features.append(model.embed(spectra))
            valid_bins.append(spectra.valid.sum(1))
            bar.advance(task, len(spectra))
    table = Table({name: store.stars[name] for name in ("APOGEE_ID", "CLUSTER", "SNR")})
    table["VALID_BINS"] = torch.cat(valid_bins).numpy().astype(np.int32)
    table["FEATURES"] = torch.cat(features).double().numpy()
    table.meta = {"STORE": store.checksum[:16]}
    blind = int((table["VALID_BINS"] == 0).sum())
    if blind:
        log.warning("warning: %d stars have no valid bin among the model's: their features are the prior's", blind)
    with whole_file(out) as part:
        table.write(part, format="fits")
    log.info("%d features of %d stars in %s", table["FEATURES"].shape[1], len(table), out)


def _path(out: Any) -> Path:  # noqa: ANN401  (whatever was given)
    if not out:
        raise InputError(f"out must name what to make, got {out!r}")
    return Path(out)


def _store(config: DictConfig) -> Store:
    """The store that was named, checked; else that of a simulated survey, made first if it is not there."""
    if config.store is not None:
        idle = [o for o in HydraConfig.get().overrides.task if o.lstrip("+~").startswith(("survey", "simulat"))]
        if idle:
            raise InputError(f"{', '.join(idle)}: no part in this, since store={config.store} is given; leave one out")
        store = Store.open(config.store)
        log.info("checking %s", store.path)
        store.verify()
        return store
    return simulated_store(config)


def _abundances(config: DictConfig, field: Spectra, members: Spectra) -> list[Representation]:
    """The abundance representations that the star table can give; it says which it cannot, and why."""
    given = []
    for name, settings in config.abundances.items():
        try:
            given.append(abundances(str(name), field.stars, members.stars, **settings))
        except InputError as error:
            log.warning("warning: %s are left out: %s", str(name).replace("_", " "), error)
    return given


def _say_how_it_ended(ppca: MaskedPPCA | None) -> None:
    if ppca is not None:
        log.info(
            "%s after %d iterations at %.6f nats a bin, the last of which gained %.1e",
            "converged" if ppca.converged else "NOT converged",
            len(ppca.history),
            ppca.history[-1],
            ppca.history[-1] - ppca.history[-2] if len(ppca.history) > 1 else float("nan"),
        )


def _arguments(config: DictConfig) -> dict[str, Any]:
    return {str(name): value for name, value in config.items() if not str(name).startswith("_")}


def _require_clusters(store: Store) -> None:
    _, sizes = np.unique(np.asarray(store.stars["CLUSTER"])[store.is_member], return_counts=True)
    if (sizes > 1).sum() < 2:
        raise InputError(
            f"at least two clusters with two members are needed, the store {store.path} has {(sizes > 1).sum()}: "
            "ingest with a list of members (survey.members=FILE)"
        )


def _require_dimensions(n_components: int, store: Store) -> None:
    """Refuse before step 1 what the smallest fold could not carry after it."""
    labels = np.asarray(store.stars["CLUSTER"][store.is_member], dtype=str)
    for cluster in np.unique(labels):
        require_dimensions(n_components, len(store) - len(labels), labels[labels != cluster])


def _learners(config: DictConfig) -> list[Callable[[], Learner]]:
    """The judged learner and its baselines, less one that the judged learner is; tried before the hard work."""
    judged = _maker(config.learner)
    name = learner_name(judged())
    baselines = [_maker(each) for each in config.baselines.values()]
    return [judged, *(make for make in baselines if learner_name(make()) != name)]


def _maker(learner: DictConfig) -> Callable[[], Learner]:
    """Makes fresh learners; options of the default learner that another class does not know are not for it."""
    unknown = signature(ScaledComponents).parameters.keys() - signature(_class(learner)).parameters.keys()
    return partial(hydra.utils.instantiate, {name: value for name, value in learner.items() if name not in unknown})


def _class(learner: DictConfig) -> type:
    try:
        return hydra.utils.get_class(learner._target_)
    except Exception as error:  # whatever importing somebody's module raises
        raise InputError(f"learner._target_={learner._target_} cannot be imported: {error}") from error


def _write(folder: Path, comparison: Comparison, store: Store, config: DictConfig) -> None:
    counts = {name: store.manifest["counts"][name] for name in ("field", "members", "clusters")}
    unused = ("simulation", "simulated") if config.store is not None else ()
    used = {str(name): value for name, value in config.items() if name not in ("survey", *unused)}
    settings: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(used), resolve=True)  # type: ignore[assignment]
    settings["survey"] = store.manifest["survey"]  # as the store was made
    source = {"path": str(store.path.resolve()), "checksum": store.checksum, **counts}
    write_json(folder / "results.json", comparison, source, config.seed, settings)
    write_csv(folder / "results.csv", comparison)


def _fitted_on_all(make_learner: Callable[[], Learner], on: Representation, seed: int) -> Learner:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)  # the in-sample result said it
        return fitted(make_learner, on.field, on.members, on.clusters, seed)


def _layer(learner: Learner, on: Representation, store: Store) -> RSCA | None:
    """Step 1 and the learner's steps 2 to 4 as one layer; None for learners of another kind."""
    if not isinstance(learner, ScaledComponents) or on.ppca is None:
        return None
    scales = on.ppca.scales  # from units of flux back to latents
    bins = torch.from_numpy(store.wavelength)
    return RSCA(on.ppca, learner.weight * scales, learner.centre / scales, learner.sigma_r, bins)


@torch.no_grad()
def _draw(folder: Path, comparison: Comparison, learner: Learner, model: RSCA | None) -> None:
    """Pictures of the comparison and of `learner`, the judged one fitted on all clusters."""
    judged = comparison.results[0]
    on = judged.representation
    save_figure(draw_rates(comparison), folder, "rates")
    for result in comparison.results:
        if result.loco.held_out and result.learner == judged.learner:
            save_figure(draw_histograms(result), folder, f"distances_{result.representation.name}")
    field, members = learner(on.field), learner(on.members)
    if model is not None and on.ppca is not None:
        save_figure(draw_weights(model.weight, model.wavelength), folder, "weights")
        field, members = ((z / on.ppca.scales - model.centre) @ model.rotation.T for z in (on.field, on.members))
    save_figure(draw_features(on, field, members), folder, "features")
