"""What a finished run says: its options by their dotted names, and whether it is the run that is asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rsca_torch.errors import InputError

__all__ = ["RESULTS", "SCHEMA", "as_number", "finished_rate", "flat", "other_schema", "without_idle"]

RESULTS = "results.json"
SCHEMA = 1  # of it
#: Where a run reads and writes, whether it draws and logs, how it is shared out: it is the same run without them.
IDLE = ("out", "figures", "checkpoints", "simulated", "store", "processes", "logger")


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
        content = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        schema, given, store = content["schema"], content["config"], content["store"]["checksum"]
        rate, made_by = content["results"][0]["doppelganger_rate"], content["versions"]["rsca_torch"]
    except (FileNotFoundError, ValueError, KeyError, TypeError, IndexError):  # not whole: as good as none
        return None
    if schema != SCHEMA:
        raise InputError(f"{folder} holds {other_schema(content)}: choose another folder with out=DIR, or remove it")
    there, here = (flat(without_idle(each)) for each in (given, json.loads(json.dumps(config))))
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
    return as_number(rate)


def other_schema(content: Any) -> str:  # noqa: ANN401  (any JSON)
    """What is wrong with results that another program wrote."""
    schema = content.get("schema") if isinstance(content, dict) else None
    return f"results of schema {schema}, this program reads {SCHEMA}"


def without_idle(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that have a part in the result."""
    kept = {name: value for name, value in config.items() if name not in IDLE}
    if isinstance(kept.get("survey"), dict):
        kept["survey"] = {name: value for name, value in kept["survey"].items() if name != "root"}
    return kept


def flat(value: Any, above: str = "") -> dict[str, str]:  # noqa: ANN401  (any JSON)
    """Nested options by their dotted names, each as text: as it is, or as JSON has it."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 5 and 5.0 are one setting
    if not isinstance(value, dict):
        return {above: value if isinstance(value, str) else json.dumps(value)}
    parts = [flat(inside, f"{above}.{name}" if above else str(name)) for name, inside in value.items()]
    return {name: inside for part in parts for name, inside in part.items()}


def as_number(value: float | None) -> float:
    """JSON has no NaN."""
    return math.nan if value is None else float(value)
