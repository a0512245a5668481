"""What `rsca compare` leaves in its folder: numbers, bins set aside, the judged learner, pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from rsca_torch.comparison.comparison import Comparison, learner_name
from rsca_torch.comparison.compression import is_auto, without_candidates
from rsca_torch.comparison.representation import sees_spectra
from rsca_torch.learners import Learner
from rsca_torch.report.pictures import (
    draw_components,
    draw_features,
    draw_histograms,
    draw_rates,
    draw_weights,
    save_figure,
)
from rsca_torch.report.results import write_csv, write_json, write_set_aside
from rsca_torch.rsca import RSCA
from rsca_torch.survey.store import Store

__all__ = ["draw_run", "keep_learner", "settings_of", "write_run"]

log = logging.getLogger(__name__)


def write_run(folder: Path, comparison: Comparison, store: Store, config: DictConfig) -> None:
    """results.json, results.csv, and set_aside.fits where step 1 sets bins aside."""
    counts = {name: store.manifest["counts"][name] for name in ("field", "members", "clusters")}
    settings = settings_of(config)
    settings["survey"] = store.manifest["survey"]  # as the store was made
    source = {"path": str(store.path.resolve()), "checksum": store.checksum, **counts}
    write_json(folder / "results.json", comparison, source, config.seed, settings)
    write_csv(folder / "results.csv", comparison)
    on = comparison.results[0].representation
    if on.aside is not None and any(ppca.clip is not None for ppca in on.ppcas):
        write_set_aside(folder / "set_aside.fits", on.aside)
        stars = len(np.unique(np.asarray(on.aside.columns[0])))
        log.info("%d bins of %d stars are set aside: step 1 cannot explain them (set_aside.fits)", len(on.aside), stars)


def settings_of(config: DictConfig) -> dict[str, Any]:
    """What results.json says of the options, less the survey's."""
    unused = ("simulation", "simulated") if config.store is not None else ()
    used = {str(name): value for name, value in config.items() if name not in ("survey", *unused)}
    settings: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(used), resolve=True)  # type: ignore[assignment]
    if not is_auto(config):
        settings["compressor"] = without_candidates(settings["compressor"])
    return settings


def keep_learner(folder: Path, learner: Learner, model: RSCA | None) -> None:
    """rsca.safetensors, the frozen layer; of a learner that is none, learner.pt."""
    if model is not None:
        model.save(folder / "rsca.safetensors")
        return
    torch.save(learner.state_dict(), folder / "learner.pt")  # loads with weights_only=True
    seen = "spectra" if sees_spectra(lambda: learner) else "its latents"
    log.info("no rsca.safetensors, but learner.pt: %s on %s", learner_name(learner), seen)


@torch.no_grad()
def draw_run(
    folder: Path,
    comparison: Comparison,
    learner: Learner,
    model: RSCA | None,
    segments: Mapping[str, tuple[float, float]],
) -> None:
    """Pictures of the comparison and of `learner`, the judged one fitted on all clusters; segments as of `Store`."""
    judged = comparison.results[0]
    on = judged.representation
    save_figure(draw_rates(comparison), folder, "rates")
    if judged.nested is not None:
        save_figure(draw_components(judged), folder, "components")
    for result in comparison.results:
        if result.loco.held_out and result.learner == judged.learner:
            figure = draw_histograms([result], list(result.loco.cluster_rates))
            save_figure(figure, folder, f"distances_{result.representation.name}")
    field, members = learner(on.field), learner(on.members)
    if model is not None and on.ppca is not None:
        save_figure(draw_weights(model.weight, model.wavelength, segments), folder, "weights")
        field, members = ((z / on.ppca.scales - model.centre) @ model.rotation.T for z in (on.field, on.members))
    save_figure(draw_features(on, field, members), folder, "features")
