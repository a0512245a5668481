"""The store of a simulated survey, made where no store is given and kept for the next time."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from rsca_torch.errors import InputError
from rsca_torch.files.checked import read_json
from rsca_torch.files.whole import atomic_file
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.ingest import ingest
from rsca_torch.survey.store import Store
from rsca_torch.survey.store_places import remove_partial

__all__ = ["simulated_store", "uncensored_store"]

log = logging.getLogger(__name__)


Step = Callable[[str, int, int], None]  # is told what is done, and how much of how much


def simulated_store(config: DictConfig, step: Step | None = None) -> Store:
    """What lies in `config.simulated`, simulated and ingested first as far as it is not there.

    Of several processes that need it at the same time one makes it, and the others wait for it.

    Args:
        config: of the command.
        step: is told how far simulating and reading are.

    Raises:
        InputError: where another survey lies there, or the simulated release is not the one that would be read.
    """
    folder = Path(config.simulated)
    chosen = {name: OmegaConf.to_container(config[name], resolve=False) for name in ("simulation", "survey")}
    settings = {"seed": config.seed, **chosen}
    _require_same(folder, settings)
    if not (folder / "store").exists():
        release = OmegaConf.select(config, "survey.release")
        if (made := config.simulation.release) != release:
            raise InputError(
                f"simulation.release={made} would be read as {release}: "
                f"give survey={'sdss' if made == 'dr19' else 'apogee'}_{made} too"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / "lock"):
            _make(config, folder, settings, step)
    remove_partial(folder / "store")  # of a run that was killed before it had
    return Store.open(folder / "store")


def uncensored_store(config: DictConfig) -> Store:
    """The simulated survey again, with no interstellar range left out; made where it is first asked for.

    Raises:
        InputError: as `simulated_store`, or its files are not there any more.
    """
    simulated_store(config)
    folder = Path(config.simulated)
    path = folder / "uncensored"
    if not path.exists():
        with _alone(folder / "lock"):
            if not path.exists():
                survey = hydra.utils.instantiate(config.survey, root=str(folder / "archive"))
                rule = Censoring(survey.censoring.max_error, survey.censoring.min_flux, (), ())
                ingest(survey.with_censoring(rule), path)
    return Store.open(path)


def _require_same(folder: Path, settings: dict[str, Any]) -> None:
    """Nothing, or the same survey."""
    note = folder / "simulation.json"
    made = (folder / "archive").exists() or (folder / "store").exists()
    if made and _told(note) != json.loads(json.dumps(settings)):
        raise InputError(
            f"{folder} holds another simulated survey, or one read otherwise: choose another with simulated=DIR, "
            "or remove it"
        )


def _told(note: Path) -> dict[str, Any] | None:
    """What was made; None where nobody can tell."""
    try:
        return read_json(note)
    except (FileNotFoundError, ValueError):
        return None


def _make(config: DictConfig, folder: Path, settings: dict[str, Any], step: Step | None) -> None:
    """As far as it is not there; another process may have made it in the meantime."""
    _require_same(folder, settings)
    archive, path = folder / "archive", folder / "store"
    if not (archive.exists() or path.exists()):
        simulation = hydra.utils.instantiate(config.simulation)
        log.info("no store given: simulating a survey in %s", folder)
        with atomic_file(folder / "simulation.json") as part:
            part.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        simulation.write(archive, config.seed, **_progress(step, "simulating spectra"))
    if not path.exists():
        survey = hydra.utils.instantiate(config.survey, root=str(archive))
        survey.published = {"why": (survey.published or {}).get("why")}  # the numbers are of the sky
        ingest(survey, path, **_progress(step, "reading spectra"))


def _progress(step: Step | None, what: str) -> dict[str, Any]:
    return {} if step is None else {"progress": partial(step, what)}


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process at a time; a lock of a process that ended, however it ended, holds nobody up."""
    held = FileLock(lock)
    try:
        held.acquire(blocking=False)
    except Timeout:
        log.info("another process simulates a survey in %s: waiting for it", lock.parent)
        held.acquire()
    except (OSError, NotImplementedError) as error:
        log.warning("warning: %s cannot be locked (%s): make its survey in one run", lock, error)
    try:
        yield
    finally:
        held.release()
