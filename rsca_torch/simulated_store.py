"""The store of a simulated survey, made where no store is given and kept for the next time."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from rsca_torch.errors import InputError
from rsca_torch.survey.ingest import ingest
from rsca_torch.survey.store import Store

__all__ = ["simulated_store"]

log = logging.getLogger(__name__)


def simulated_store(config: DictConfig) -> Store:
    """What lies in `config.simulated`, simulated and ingested first as far as it is not there.

    Raises:
        InputError: where another survey lies there, or the simulated release is not the one that would be read.
    """
    folder = Path(config.simulated)
    archive, path = folder / "archive", folder / "store"
    chosen = {name: OmegaConf.to_container(config[name], resolve=False) for name in ("simulation", "survey")}
    settings = {"seed": config.seed, **chosen}
    note = folder / "simulation.json"
    if archive.exists() or path.exists():
        if not note.exists() or json.loads(note.read_text(encoding="utf-8")) != settings:
            raise InputError(
                f"{folder} holds another simulated survey, or one read otherwise: choose another with simulated=DIR, "
                "or remove it"
            )
    else:
        if config.simulation.release != config.survey.release:
            raise InputError(
                f"simulation.release={config.simulation.release} would be read as {config.survey.release}: "
                f"give survey=apogee_{config.simulation.release} too"
            )
        simulation = hydra.utils.instantiate(config.simulation)
        log.info("no store given: simulating a survey in %s", folder)
        folder.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        simulation.write(archive, config.seed)
    if not path.exists():
        survey = hydra.utils.instantiate(config.survey, root=str(archive))
        ingest(survey, path)
    return Store.open(path)
