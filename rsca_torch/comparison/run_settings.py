"""What a run's configuration says of it, as results.json has it; whether a folder holds that run, finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from rsca_torch.comparison.finished_run import RESULTS, finished_rate
from rsca_torch.survey.interstellar import FoundCensoring
from rsca_torch.survey.simulated.store import simulated_store
from rsca_torch.survey.store import Store

__all__ = ["rate_of_finished_run", "settings_of"]


def settings_of(config: DictConfig) -> dict[str, Any]:
    """What results.json says of the options, without the survey's."""
    unused = ("simulation", "simulated") if config.store is not None else ()
    used = {str(name): value for name, value in config.items() if name not in ("survey", *unused)}
    settings: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(used), resolve=True)  # type: ignore[assignment]
    compressor = settings["compressor"]
    if compressor["n_components"] != "auto":
        del compressor["candidates"]
        if compressor["remove"] is None:
            del compressor["remove"]
    return settings


def rate_of_finished_run(folder: Path, config: DictConfig) -> float | None:
    """The judged learner's rate, where the folder holds this run from an earlier start of its sweep.

    Raises:
        InputError: where it holds another run.
    """
    if not (folder / RESULTS).exists():
        return None
    settings, checksum = settings_of(config), None
    survey = hydra.utils.instantiate(config.survey, root="")
    if config.store is not None:
        checksum = Store.open(config.store).checksum
    elif isinstance(survey.censoring, FoundCensoring):  # the store alone says what was found
        checksum = simulated_store(config).checksum
    else:
        settings["survey"] = survey.config()
    return finished_rate(folder, settings, checksum)
