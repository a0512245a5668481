"""What a run says of itself in results.json, and whether a folder holds the run that is asked for, finished."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from rsca_torch.errors import InputError
from rsca_torch.files.checked import read_json
from rsca_torch.files.whole import is_refused
from rsca_torch.survey.interstellar import FoundCensoring
from rsca_torch.survey.simulated.store import simulated_store
from rsca_torch.survey.store import Store

__all__ = [
    "RESULTS",
    "SCHEMA",
    "finished_rate",
    "flat_settings",
    "other_schema",
    "rate_of_finished_run",
    "rate_told",
    "rates_told",
    "settings_of",
]

RESULTS = "results.json"
SCHEMA = 1  # of it
#: Where a run reads and writes, whether it draws and logs, how it is shared out: it is the same run without them.
IDLE = ("out", "figures", "page", "checkpoints", "simulated", "store", "processes", "parallel", "logger", "trust")


def settings_of(config: DictConfig) -> dict[str, Any]:
    """What results.json says of the options, without the survey's."""
    of_table = config.get("stars") is not None
    unused: tuple[str, ...] = ("compressor", "em_loop", "trainer") if of_table else ("id", "group", "stars")
    if of_table or config.store is not None:
        unused += ("simulation", "simulated")
    used = {
        str(name): value for name, value in config.items() if name not in ("survey", "trust", *unused)
    }  # resolved, as id is
    settings: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(used), resolve=True)  # type: ignore[assignment]
    if "compressor" not in settings:  # there is no step 1
        return settings | {"compressor": {}}
    compressor = settings["compressor"]
    if compressor["n_components"] != "auto":
        del compressor["candidates"]
        if compressor["remove"] is None:
            del compressor["remove"]
    if compressor.get("windows") is None:  # as before there were any
        compressor.pop("windows", None)
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


def finished_rate(folder: Path, config: Mapping[str, Any], checksum: str | None) -> float | None:
    """The judged learner's rate, where `folder` holds the finished run of a configuration; None where it holds none.

    Args:
        folder: of the run.
        config: as the run would write it to results.json; where it reads and writes does not count.
        checksum: of the store that the run would read; None: of one that is told by its configuration.

    Raises:
        InputError: where the run is of another configuration, other data or another schema.
    """
    try:
        content = read_json(folder / RESULTS)
        schema, given, store = content["schema"], content["config"], content["store"]["checksum"]
        rate, made_by = content["results"][0]["doppelganger_rate"], content["versions"]["rsca_torch"]
        rate = rate_told(rate)
        there = flat_settings(given)
    except (FileNotFoundError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return None  # not whole: as good as none
    if schema != SCHEMA:
        raise InputError(f"{folder} holds {other_schema(content)}: choose another folder with out=DIR, or remove it")
    here = flat_settings(json.loads(json.dumps(config)))
    other = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
    if checksum is not None:  # the store says how its survey was read
        other = [key for key in other if not key.startswith("survey.")]
        other += ["store"] if checksum != store else []
    if made_by != version("rsca_torch"):
        other += [f"rsca_torch {made_by}, this is {version('rsca_torch')}"]
    if other:
        raise InputError(
            f"{folder} holds a run of another configuration ({', '.join(other)}): choose another folder with out=DIR, "
            "or remove it"
        )
    return rate


def rate_told(value: Any) -> float:  # noqa: ANN401  (any JSON)
    """A rate as results.json has it; null is NaN, which JSON has not.

    Raises:
        ValueError: it is no share.
        TypeError: it is no number.

    >>> rate_told(7.5)
    Traceback (most recent call last):
    ValueError: a rate of 7.5, which is no share
    """
    rate = math.nan if value is None else float(value)
    if not (math.isnan(rate) or 0 <= rate <= 1):
        raise ValueError(f"a rate of {rate}, which is no share")
    return rate


def rates_told(folder: Path) -> tuple[str | None, list[dict[str, Any]]]:
    """(checksum of the store, every result) of a finished run, as its results.json has them.

    Raises:
        InputError: where no finished run is there, or one of another schema.
    """
    try:
        content = read_json(folder / RESULTS)
        schema, checksum, results = content["schema"], content["store"].get("checksum"), list(content["results"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if is_refused(error):
            raise
        raise InputError(f"no finished run in {folder}: give the DIR that `rsca compare` wrote") from error
    if schema != SCHEMA:
        raise InputError(f"{folder} holds {other_schema(content)}: run rsca compare again")
    return checksum, results


def other_schema(content: Any) -> str:  # noqa: ANN401  (any JSON)
    """What is wrong with results that another program wrote."""
    schema = content.get("schema") if isinstance(content, dict) else None
    return f"results of schema {schema}, this program reads {SCHEMA}"


def flat_settings(config: Mapping[str, Any]) -> dict[str, str]:
    """The options that have a part in the result, by their dotted names, each as text: as it is, or as JSON has it."""
    kept = {name: value for name, value in config.items() if name not in IDLE}
    if isinstance(kept.get("survey"), dict):
        kept["survey"] = {name: value for name, value in kept["survey"].items() if name != "root"}
    return _flat(kept)


def _flat(value: Any, above: str = "") -> dict[str, str]:  # noqa: ANN401  (any JSON)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 5 and 5.0 are one setting
    if not isinstance(value, dict):
        return {above: value if isinstance(value, str) else json.dumps(value)}
    parts = [_flat(inside, f"{above}.{name}" if above else str(name)) for name, inside in value.items()]
    return {name: inside for part in parts for name, inside in part.items()}
