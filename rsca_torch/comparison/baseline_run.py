"""A finished run of `rsca compare` as results that others are put beside: what its results.json says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from rsca_torch.comparison.comparison import Comparison, Result
from rsca_torch.comparison.finished_run import RESULTS, SCHEMA, flat_settings, other_schema, rate_told
from rsca_torch.comparison.representation import Representation
from rsca_torch.errors import InputError
from rsca_torch.evaluation.result import LOCOResult
from rsca_torch.files.checked import read_json
from rsca_torch.files.whole import is_refused
from rsca_torch.spectra.stars import Stars

__all__ = ["BaselineRun", "read_baseline_run"]

SAME = ("pairs", "alike", "figures_of_merit")  # options that say which pairs are compared, and by what


@dataclass(frozen=True)
class BaselineRun:
    """The results of a finished run.

    Attributes:
        path: of its folder.
        results: as it found them, without distances; their representations have a name and no stars.
        entries: the same as results.json has them.
    """

    path: Path
    results: list[Result]
    entries: list[dict[str, Any]]

    def with_results_of(self, comparison: Comparison) -> Comparison:
        """Both, each compared with the first of the run.

        Raises:
            InputError: where both have results of one name.
        """
        names = {result.representation.name for result in self.results}
        own = comparison.results[0].representation.name
        if own in names:
            raise InputError(f"name={own}: the run {self.path} has results of that name too; give another, name=NAME")
        return Comparison([*self.results, *comparison.results])


def read_baseline_run(folder: Path, checksum: str, config: DictConfig) -> BaselineRun:
    """The results of a run on the same store, and among the same pairs.

    Args:
        folder: of the run.
        checksum: of the store.
        config: of the command that is to be put beside it.

    Raises:
        InputError: where no finished run is there, or it judged other stars or pairs.
    """
    try:
        content = read_json(folder / RESULTS)
    except (OSError, ValueError) as error:
        if is_refused(error):
            raise
        problem = type(error).__name__
        raise InputError(f"baseline={folder} holds no finished run of rsca compare: {RESULTS}: {problem}") from error
    if content.get("schema") != SCHEMA:
        raise InputError(f"baseline={folder} holds {other_schema(content)}: run rsca compare again")
    try:
        store, there, entries = str(content["store"]["checksum"]), content["config"], list(content["results"])
        results = [_result(entry) for entry in entries]
        theirs = flat_settings({name: there.get(name) for name in SAME})
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"baseline={folder}: {RESULTS} is damaged ({type(error).__name__}: {error})") from error
    if store != checksum:
        raise InputError(
            f"baseline={folder} judged another store ({store[:16]}, this is {checksum[:16]}): no pair is the same; "
            f"give store={content['store'].get('path', 'DIR')}, or a run on this one"
        )
    here: Any = OmegaConf.to_container(config, resolve=True)
    ours = flat_settings({name: here.get(name) for name in SAME})
    other = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    if other:
        told = ", ".join(f"{key}={theirs.get(key, 'null')} there, {ours.get(key, 'null')} here" for key in other)
        raise InputError(f"baseline={folder} compared other pairs, or by other figures ({told}): give the same here")
    return BaselineRun(folder, results, entries)


def _result(entry: Mapping[str, Any]) -> Result:
    """Of one entry of results.json."""
    clusters = {str(each["cluster"]): each for each in entry["clusters"]}
    merits = {
        str(name): {str(cluster): _number(value) for cluster, value in merit["clusters"].items()}
        for name, merit in entry["figures_of_merit"].items()
    }
    loco = LOCOResult(
        {cluster: rate_told(each["doppelganger_rate"]) for cluster, each in clusters.items()},
        {cluster: int(each["members"]) for cluster, each in clusters.items()},
        {cluster: int(each["pairs"]) for cluster, each in clusters.items()},
        {cluster: _number(each["median_sibling_distance"]) for cluster, each in clusters.items()},
        bool(entry["held_out"]),
        merits=merits,
        stars={cluster: tuple(map(str, each["stars"])) for cluster, each in clusters.items()},
        floor=str(entry["floor"]),
    )
    nobody, none = Stars.of({"id": []}), torch.empty(0, 0, dtype=torch.float64)
    representation = Representation(str(entry["representation"]), none, none, nobody, nobody)
    return Result(representation, str(entry["learner"]), loco, _number(entry["seconds"]))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)  # JSON has no NaN
