"""What several commands are given: the store with all that is fitted to it, and the path of what they make."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.groups_given import every_group
from rsca_torch.comparison.progress import Progress
from rsca_torch.errors import InputError
from rsca_torch.report.ingest_summary import print_summary
from rsca_torch.survey.simulated.store import simulated_store
from rsca_torch.survey.store import Store

__all__ = ["command_typed", "is_default", "open_assembly", "output_path"]

log = logging.getLogger(__name__)


def output_path(out: Any) -> Path:  # noqa: ANN401  (whatever was given)
    """The path of what a command makes.

    Raises:
        InputError: where none is given.
    """
    if not out:
        raise InputError(f"out must name what to make, got {out!r}")
    return Path(out)


def command_typed(command: str, *names: str) -> str:
    """The running command as one types it; of a job of a sweep, what makes the same numbers alone.

    Args:
        command: compare, or another.
        names: that stand before the options, as those of experiments.
    """
    typed = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    job = HydraConfig.initialized() and not OmegaConf.is_missing(HydraConfig.get().job, "num")
    left_out = ("what=", "out=") if job else ("what=",)
    return shlex.join(["rsca", command, *names, *(each for each in typed if not each.startswith(left_out))])


def is_default(option: str) -> bool:
    """Whether an option of the running command was not given."""
    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return not any(each.lstrip("+").startswith(f"{option}=") for each in given)


def open_assembly(config: DictConfig, progress: Progress) -> Assembly:
    """All that is fitted to the store that `_open_store` finds.

    Raises:
        InputError: as that does, and where the store has no two clusters with siblings, without which nothing can be
            learned.
    """
    config = every_group(config)  # or refuse before the hard work
    store = _open_store(config, progress)
    _, sizes = np.unique(store.stars.group[store.is_member], return_counts=True)
    if (sizes > 1).sum() < 2:
        raise InputError(
            f"at least two clusters with two members are needed, the store {store.path} has {(sizes > 1).sum()}: "
            "ingest with a list of members (survey.members=FILE)"
        )
    return Assembly(config, store, progress)


def _open_store(config: DictConfig, progress: Progress) -> Store:
    """The store that was named, checked; else that of a simulated survey, made first if it is not there.

    Args:
        config: of the command.
        progress: is told how far simulating and reading are.

    Raises:
        InputError: where it is no store or was changed, or options of the survey have no part in it.
    """
    if config.store is not None:
        given = HydraConfig.get().overrides.task
        idle = [option for option in given if option.lstrip("+~").startswith(("survey", "censoring", "simulat"))]
        if idle:
            raise InputError(f"{', '.join(idle)}: no effect, since store={config.store} is given; leave one out")
        store = Store.open(config.store)
        log.info("checking %s", store.path)
        store.verify()
        return store
    new = not (Path(config.simulated) / "store").exists()
    store = simulated_store(config, progress.step)
    if new:
        print_summary(store)
    return store
