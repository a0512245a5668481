"""`rsca fit`: an RSCA model of all clusters of a store."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import hydra
import torch
from omegaconf import DictConfig

from rsca_torch.cli.compare import fitted_on_all
from rsca_torch.cli.inputs import open_store, output_path, require_clusters
from rsca_torch.comparison.comparison import Candidates
from rsca_torch.comparison.compression import (
    arguments,
    compress,
    engine_for,
    is_auto,
    numbers_for,
    removal_for,
    say_how_it_ended,
)
from rsca_torch.comparison.representation import (
    represent_with_each,
)
from rsca_torch.errors import InputError
from rsca_torch.evaluation.leave_one_out import leave_one_cluster_out
from rsca_torch.evaluation.nested_choice import best
from rsca_torch.files import require_new_file
from rsca_torch.learners import ScaledComponents
from rsca_torch.learners.registry import learner_class, maker
from rsca_torch.removal import without
from rsca_torch.report.terminal import progress
from rsca_torch.rsca import RSCA
from rsca_torch.survey.store import Store

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """Fit RSCA on all clusters of a store and save it."""
    out = output_path(config.out)
    require_new_file(out)
    if learner_class(config.learner._target_) is not ScaledComponents:
        raise InputError(f"fit makes an RSCA model: learner=rsca expected, got {config.learner._target_}")
    store = open_store(config)
    require_clusters(store)
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
    learner = fitted_on_all(make_learner, on, config.seed, allowed)
    model = on.layer(learner, torch.from_numpy(store.wavelength))
    assert model is not None, "ScaledComponents on one model is a layer"
    return model
