"""All runs below a folder gathered: one row for each learner on each representation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsca_torch.comparison.finished_run import RESULTS, SCHEMA, Setting, as_number, flat, other_schema, without_idle
from rsca_torch.comparison.sweep_jobs import NOTE, read_note
from rsca_torch.errors import InputError
from rsca_torch.evaluation.result import LOCOResult

__all__ = ["Gathered", "Row", "gather"]


@dataclass(frozen=True)
class Row:
    """One learner on one representation in one run.

    Attributes:
        run: its folder, from the sweep's.
        representation: what the learner saw.
        learner: its name.
        held_out: whether it had not seen the clusters that it judged.
        seed: of the run.
        settings: the other options that had a part in it, by their dotted names; those of the learner as `learner.*`.
        store: checksum of the store.
        loco: the rate of every cluster.
        interval: 68 % of the global rate.
        seconds: of its folds.
    """

    run: str
    representation: str
    learner: str
    held_out: bool
    seed: int
    settings: dict[str, Setting]
    store: str
    loco: LOCOResult
    interval: tuple[float, float]
    seconds: float


@dataclass(frozen=True)
class Gathered:
    """Every result below a folder.

    Attributes:
        rows: in order of runs, representations and learners as the runs have them.
        varied: the options that differ between runs, by their dotted names, less the seed.
        unused: (run, why it, or a part of it, cannot be used).
    """

    rows: list[Row]
    varied: list[str]
    unused: list[tuple[str, str]]


def gather(sweep: Path) -> Gathered:
    """Every results.json below a folder, less those in hidden folders.

    Raises:
        InputError: where the folder is not there, or has no result that can be used.
    """
    if not sweep.is_dir():
        raise InputError(f"there is no folder {sweep}: give that of a sweep, sweep=DIR (rsca compare -m ... out=DIR)")
    rows, unused = [], []
    for folder in sorted({path.parent for name in (RESULTS, NOTE) for path in sweep.rglob(name)}):
        place = folder.relative_to(sweep)
        if any(part.startswith(".") for part in place.parts):
            continue
        found, problems = _rows(folder, str(place))
        rows += found
        unused += [(str(place), problem) for problem in problems]
    rows, again = _told_once(rows)
    unused += again
    if not rows:
        reasons = "".join(f"\n  {run}: {problem}" for run, problem in unused)
        raise InputError(f"no results below {sweep}: make some with rsca compare -m ... out={sweep}{reasons}")
    return Gathered(rows, _varied(rows), unused)


def _rows(folder: Path, run: str) -> tuple[list[Row], list[str]]:
    """What a run says, and why some of it cannot be used."""
    try:
        content = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        note = read_note(folder / NOTE)
        return [], [f"unfinished: {note.get('problem') or f'no {RESULTS}'}"]
    except (OSError, ValueError) as error:
        return [], [f"{RESULTS} cannot be read ({type(error).__name__})"]
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        return [], [other_schema(content)]
    try:
        rows = [_row(run, content, number) for number in range(len(content["results"]))]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return [], [f"{RESULTS} is damaged ({type(error).__name__}: {error})"]
    judged = [row for row in rows if math.isfinite(row.loco.rate)]
    blank = [row for row in rows if not math.isfinite(row.loco.rate)]
    problems = [f"{row.learner} on {row.representation}: no rate, no cluster has an allowed pair" for row in blank]
    return judged, problems if rows else ["no rates"]


def _row(run: str, content: Mapping[str, Any], number: int) -> Row:
    result = content["results"][number]
    clusters = {str(entry["cluster"]): entry for entry in result["clusters"]}
    loco = LOCOResult(
        {name: as_number(entry["doppelganger_rate"]) for name, entry in clusters.items()},
        {name: int(entry["members"]) for name, entry in clusters.items()},
        {name: int(entry["pairs"]) for name, entry in clusters.items()},
        {name: as_number(entry["median_sibling_distance"]) for name, entry in clusters.items()},
        bool(result["held_out"]),
    )
    low, high = (as_number(end) for end in result["interval"])
    judged = result["learner"] == content["results"][0]["learner"]
    return Row(
        run,
        str(result["representation"]),
        str(result["learner"]),
        bool(result["held_out"]),
        int(content["seed"]),
        _settings(content["config"], result, judged),
        str(content["store"]["checksum"]),
        loco,
        (low, high),
        float(result["seconds"]),
    )


def _settings(config: Mapping[str, Any], result: Mapping[str, Any], judged: bool) -> dict[str, Setting]:
    """The options that had a part in a result: of the learners its own, of the representations that which it saw."""
    name = result["representation"]
    given = {key: value for key, value in without_idle(config).items() if key not in ("seed", "baselines")}
    given["learner"] = config["learner"] if judged else config["baselines"].get(result["learner"], {})
    given["abundances"] = {key: value for key, value in given.get("abundances", {}).items() if key == name}
    given["em_loop"] = {key: value for key, value in given.get("em_loop", {}).items() if key != "trainer"}  # told once
    if config.get("store") is not None:
        given["store"] = config["store"]
    if result["compressor"] is None:
        given = {key: value for key, value in given.items() if key not in ("compressor", "em_loop")}
    return {key: value for key, value in flat(given).items() if value != "{}"}


def _told_once(rows: Sequence[Row]) -> tuple[list[Row], list[tuple[str, str]]]:
    """Without what contradicts an earlier run of the same learner, settings and seed; that with the reason."""
    first: dict[tuple[Any, ...], Row] = {}
    kept, unused = [], []
    for row in rows:
        key = (row.representation, row.learner, row.held_out, row.seed, tuple(sorted(row.settings.items())))
        told = first.setdefault(key, row)
        if _equal(told.loco, row.loco):
            kept.append(row)
        else:
            what = f"{row.learner}{'' if row.held_out else ' in-sample'} on {row.representation}"
            unused.append((row.run, f"{what}: settings and seed of {told.run}, but other rates"))
    return kept, unused


def _equal(one: LOCOResult, other: LOCOResult) -> bool:
    """Whether two results are the same, NaN for NaN."""
    return one.members == other.members and np.array_equal(
        list(one.cluster_rates.values()), list(other.cluster_rates.values()), equal_nan=True
    )


def _varied(rows: Sequence[Row]) -> list[str]:
    """The options of which one learner on one representation has several values."""
    names = sorted({name for row in rows for name in row.settings})
    places = {(row.representation, row.learner) for row in rows}
    values = {
        place: [row.settings for row in rows if (row.representation, row.learner) == place] for place in sorted(places)
    }
    return [name for name in names if any(len({each.get(name, "") for each in given}) > 1 for given in values.values())]
