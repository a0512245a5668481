"""Where learners that are trained are fitted, kept and logged."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from rsca_torch.comparison.representation import Representation, Seen
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.fold_files import FoldFiles, code_of
from rsca_torch.files.whole import file_name
from rsca_torch.learners.learner import Learner, Recipe
from rsca_torch.parallel import Parallel
from rsca_torch.spectra.packed import PACKED

__all__ = ["TrainingOptions", "learner_name", "recipe_of"]


@dataclass(frozen=True)
class TrainingOptions:
    """Of learners that are trained; closed forms take milliseconds and need none of it.

    Attributes:
        folder: where finished folds are kept. None: nowhere.
        content: what tells this run's settings from another's, for the folds' folder.
        parallel: where folds are fitted. None: in this process.
        logger: gives a Lightning logger for (representation, learner, cluster left out). None: no log.
        used: the folders that folds of this run were kept in.
    """

    folder: Path | None = None
    content: str = ""
    parallel: Parallel | None = None
    logger: partial[Any] | None = None
    used: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, config: DictConfig, checksum: str, folder: Path) -> TrainingOptions:
        """As the configuration of `rsca compare` says: folds are kept beside the fits of step 1.

        Args:
            config: of the command.
            checksum: of the store.
            folder: where trainings are logged.

        Raises InputError where no process is to fit them, or two options say how many.
        """
        processes, parallel = config.processes, hydra.utils.instantiate(config.get("parallel"))
        if processes < 1 or (processes > 1 and parallel is not None):
            raise InputError(f"processes={processes}: at least 1 expected, beside parallel= (parallel.processes) 1")
        learners = [OmegaConf.to_container(each) for each in (config.learner, *config.baselines.values())]
        merits, alike = (each and OmegaConf.to_container(each) for each in (config.figures_of_merit, config.alike))
        content = json.dumps([version("rsca_torch"), checksum, learners, merits, alike], default=str)
        logger = None if config.logger is None else partial(_logger, hydra.utils.instantiate(config.logger), folder)
        kept = None if config.checkpoints is None else Path(config.checkpoints) / "folds"
        return cls(kept, content, parallel or Parallel(processes=processes), logger)

    def options(self, learner: Learner, on: Representation, seen: Seen, held_out: bool) -> dict[str, Any]:
        """Further arguments of `leave_one_cluster_out` and of the nested choice."""
        recipe = recipe_of(learner)
        if recipe is None:
            return {}
        if recipe.noise and seen.roots is None and seen.field.ndim != PACKED:
            said = f"{on.name} come without errors: {learner_name(learner)} is trained on them without noise"
            warnings.warn(said, NumericalWarning, stacklevel=2)
        logger = None if self.logger is None else partial(self.logger, on.name, learner_name(learner))
        return {"parallel": self.parallel if held_out else None, "logger": logger}

    def kept(
        self,
        learner: Learner,
        on: Representation,
        seen: Seen,
        allowed: NDArray[np.bool_],
        held_out: bool,
        seed: int,
        logged: str = "",
    ) -> FoldFiles | None:
        """Where the folds of this learner on these stars are kept, with the logs that begin with such a name."""
        if self.folder is None or recipe_of(learner) is None:
            return None
        total = hashlib.sha256(f"{self.content} {code_of(learner)} {on.name} {held_out} {seed}".encode())
        step_1 = [tensor for ppca in on.ppcas for tensor in ppca.buffers()] if seen.field.ndim == PACKED else []
        taught = [] if on.groups is None else [on.groups.z]
        for tensor in (seen.field, seen.members, torch.from_numpy(allowed), *step_1, *taught):
            total.update(tensor.cpu().contiguous().numpy().data)
        labels = [*on.clusters.tolist(), *([] if on.groups is None else on.groups.labels.tolist())]
        total.update("\n".join(labels).encode())
        self.used.append(self.folder / f"{learner_name(learner)}-{total.hexdigest()[:16]}")
        if self.logger is None:
            return FoldFiles(self.used[-1])
        logs = self.logger.args[1], on.name, learner_name(learner)
        return FoldFiles(self.used[-1], lambda out: _log_of(*logs, logged + " and ".join(out) if held_out else "all"))

    def forget(self) -> None:
        """Remove the folds of a run that came to its end: its results say it all."""
        for folder in self.used:
            shutil.rmtree(folder, ignore_errors=True)


def _logger(make: Callable[..., Any], folder: Path, representation: str, learner: str, cluster: str) -> Any:  # noqa: ANN401
    """Of one training, in a folder of its own."""
    place = _log_of(folder, representation, learner, cluster)
    return make(save_dir=place.parent, name=place.name, version="")


def _log_of(folder: Path, representation: str, learner: str, cluster: str) -> Path:
    name = file_name(cluster.replace(" ", "_"))  # a list may call a cluster ../../x
    return folder / "training" / representation / learner / name


def recipe_of(learner: Learner) -> Recipe | None:
    """How the learner is trained; None where it is not."""
    recipe: Recipe | None = getattr(learner, "recipe", None)  # any module with the methods will do
    return None if recipe is None or recipe.epochs == 0 else recipe


def learner_name(learner: Learner) -> str:
    """What tables call it: its `name`, else its class."""
    return getattr(learner, "name", "") or type(learner).__name__
