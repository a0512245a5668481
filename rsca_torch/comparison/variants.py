"""The same survey read or simulated otherwise, for experiments that need it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from rsca_torch.comparison.assembly import Assembly
from rsca_torch.errors import InputError
from rsca_torch.survey.simulated.store import simulated_store, uncensored_store
from rsca_torch.survey.store import Store

__all__ = ["read_uncensored", "simulated_with"]


def read_uncensored(given: Assembly, store: str | None) -> Assembly:
    """The survey with no interstellar range left out.

    Args:
        given: the survey as it is.
        store: that `rsca ingest censoring=none` wrote; None: a simulated survey's own.

    Raises:
        InputError: where none is given and the survey is not simulated, or ranges are left out there too.
    """
    if store is None and given.config.store is None:
        return Assembly(given.config, uncensored_store(given.config), given.progress)
    survey, path = given.store.manifest["survey"], f"{given.store.path}-uncensored"
    name, root = (survey.get(key, key.upper()) for key in ("name", "root"))
    cure = f"rsca ingest survey={name} survey.root={root} censoring=none store={path}"
    if store is None:
        raise InputError(
            f"{given.store.path} lacks the interstellar ranges, which this is about: {cure}, and give that store as "
            f"uncensored={path} of this experiment"
        )
    other = Store.open(store)
    if other.censoring.interstellar_pixels or other.censoring.interstellar_angstrom:
        raise InputError(f"uncensored={store} leaves interstellar ranges out too: {cure}")
    return Assembly(given.config, other, given.progress)


def simulated_with(given: Assembly, name: str, options: Mapping[str, Any]) -> Assembly:
    """A simulated survey with other options, made beside the given one where it is first asked for; else that.

    Args:
        given: the survey as it is.
        name: of the other survey, at the end of its folder's.
        options: of the simulation, by their dotted names.
    """
    same = all(OmegaConf.select(given.config.simulation, option) == value for option, value in options.items())
    if same or given.config.store is not None:
        return given
    config = given.config.copy()
    for option, value in options.items():
        OmegaConf.update(config.simulation, option, value)
    config.simulated = f"{config.simulated}-{name}"
    return Assembly(config, simulated_store(config), given.progress)
