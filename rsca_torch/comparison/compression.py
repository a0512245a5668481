"""Step 1 as a command is told to do it: what is removed first, how many components, run by what, kept where."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from omegaconf import DictConfig, OmegaConf

from rsca_torch.comparison.progress import Progress
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.nested_choice import carried, different_numbers
from rsca_torch.learners import ScaledComponents, require_dimensions
from rsca_torch.learners.registry import CONFIG, learner_class
from rsca_torch.ppca.extrapolation import Ascent
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.removal import Grouping, Removal, Removed
from rsca_torch.rsca import AnySpectra
from rsca_torch.survey.store import Store, StoredSpectra

__all__ = [
    "arguments",
    "compress",
    "em_loop_for",
    "grouping_of",
    "is_auto",
    "numbers_for",
    "removal_for",
    "say_how_it_ended",
    "without_candidates",
]

log = logging.getLogger(__name__)

EM = 3  # to be raised whenever EM comes to end elsewhere: a fit that is kept is of one EM alone


def compress(
    config: DictConfig,
    store: Store,
    progress: Progress,
    field: AnySpectra,
    members: AnySpectra,
    n_components: int,
    start: MaskedPPCA | None,
) -> MaskedPPCA:
    """One fit of step 1, with a progress of its own."""
    compressor = hydra.utils.instantiate(arguments(config.compressor), progress=progress.iteration)
    em_loop = em_loop_for(config, store, n_components, start, isinstance(field, Removed))
    ppca: MaskedPPCA = compressor(field, members, n_components=n_components, start=start, em_loop=em_loop)
    say_how_it_ended(ppca)
    return ppca


def removal_for(config: DictConfig, store: Store, progress: Progress, field: StoredSpectra) -> Removal | None:
    """What is to be taken out of all spectra, found in the field alone: no judged star has a part in it.

    Raises:
        InputError: as `Grouping` does, and where `compressor.remove` is neither a name nor a column and a width.
    """
    if config.compressor.remove is None:
        return None
    grouping = grouping_of(config.compressor.remove)
    grouping.groups(field.stars)  # refuses before the hard work what it would refuse after
    log.info("what stars of like %s share: masked PPCA of %d spectra", grouping.column, len(field))
    alone = OmegaConf.merge(config, {"compressor": {"basis": "inductive"}})
    assert isinstance(alone, DictConfig)
    ppca = compress(alone, store, progress, field, field, grouping.n_components, None)
    removal, chance = grouping.find(ppca, field)
    if len(removal):
        shares = ", ".join(f"{share:.1%}" for share in removal.shares.tolist())
        said = (
            "%d dimensions are removed, in which stars of like %s have %s of the variance in common (by chance %.1f%%)"
        )
        log.info(said, len(removal), grouping.column, shares, 100 * chance)
    else:
        warnings.warn(
            f"compressor.remove: stars of like {grouping.column} have no more in common than chance "
            f"({max(chance, grouping.least):.1%} of the variance of a dimension): nothing is removed",
            NumericalWarning,
            stacklevel=2,
        )
    return removal if len(removal) else None


def grouping_of(remove: str | DictConfig) -> Grouping:
    """What `compressor.remove` says: the name of one in conf/removal, or its arguments.

    Raises:
        InputError: where it is neither.
    """
    there = sorted(path.stem for path in (CONFIG / "removal").glob("*.yaml"))
    options = [option.name for option in fields(Grouping)]
    given: Any = OmegaConf.load(CONFIG / "removal" / f"{remove}.yaml") if remove in there else remove
    if not OmegaConf.is_dict(given) or "column" not in given or not {*given} <= {"_target_", *options}:
        raise InputError(
            f"compressor.remove={remove}: one of {', '.join(there)} expected, or {{column: NAME, width: NUMBER}} with "
            f"any of {', '.join(options)}"
        )
    return Grouping(**{str(name): value for name, value in given.items() if name != "_target_"})


def em_loop_for(
    config: DictConfig,
    store: Store,
    n_components: int,
    start: MaskedPPCA | None = None,
    removed: bool = False,
) -> Callable[..., Ascent]:
    """Lightning's loop, which keeps every iteration under a name that says what is fitted, and goes on from it.

    Args:
        config: of the command.
        store: the survey.
        n_components: of the fit.
        start: the model that it starts from.
        removed: whether something was taken out of the spectra as `compressor.remove` says.
    """
    checkpoint = None
    if config.checkpoints is not None:
        settings = {**arguments(config.compressor), "n_components": n_components, "store": store.checksum}
        del settings["max_iterations"]  # a fit may go on for longer
        if removed:
            settings["remove"] = grouping_of(config.compressor.remove)
        begun = None if start is None else hashlib.sha256(start.loadings.cpu().numpy().tobytes()).hexdigest()
        content = json.dumps([version("rsca_torch"), EM, settings, begun], sort_keys=True, default=str)
        checkpoint = Path(config.checkpoints) / f"{hashlib.sha256(content.encode()).hexdigest()[:16]}.ckpt"
        if checkpoint.exists():
            log.info("going on with the fit in %s", checkpoint)
    em_loop: Callable[..., Ascent] = hydra.utils.instantiate(config.em_loop, checkpoint=checkpoint)
    return em_loop


def say_how_it_ended(ppca: MaskedPPCA) -> None:
    """In one line: converged or not, after how many iterations."""
    log.info(
        "%d components %s after %d iterations at %.6f nats a bin, the last of which gained %.1e",
        ppca.n_components,
        "converged" if ppca.converged else "NOT converged",
        len(ppca.history),
        ppca.history[-1],
        ppca.history[-1] - ppca.history[-2] if len(ppca.history) > 1 else float("nan"),
    )


def without_candidates(settings: DictConfig) -> dict[str, Any]:
    """What had a part in a step 1 with a given number of components."""
    unused = ("candidates", "remove") if settings["remove"] is None else ("candidates",)
    return {str(name): value for name, value in settings.items() if name not in unused}


def arguments(settings: DictConfig) -> dict[str, Any]:
    """What `rsca.compress` itself can be given."""
    return {str(name): value for name, value in settings.items() if name not in ("candidates", "remove")}


def is_auto(config: DictConfig) -> bool:
    """Whether the number of components is to be chosen."""
    return bool(config.compressor.n_components == "auto")


def numbers_for(config: DictConfig, store: Store) -> list[int]:
    """The numbers of components that step 1 is fitted with, refused before it where they could not be judged."""
    given = config.compressor.candidates if is_auto(config) else config.compressor.n_components
    numbers = list(given) if OmegaConf.is_list(given) else [given]
    if is_auto(config):
        labels = store.stars["CLUSTER"][store.is_member]
        return carried(numbers, len(store) - len(labels), labels)
    if not different_numbers(numbers):
        raise InputError(
            f"compressor.n_components={given}: expected a whole number of at least 1, different ones such as [20, 30] "
            "to average over, or auto"
        )
    if learner_class(config.learner._target_) is ScaledComponents:
        for number in numbers:
            _require_dimensions(number, store)
    return numbers


def _require_dimensions(n_components: int, store: Store) -> None:
    """Refuse before step 1 what the smallest fold could not carry after it."""
    labels = np.asarray(store.stars["CLUSTER"][store.is_member], dtype=str)
    for cluster in np.unique(labels):
        require_dimensions(n_components, len(store) - len(labels), labels[labels != cluster])
