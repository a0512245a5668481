"""All runs below a folder gathered: their rows, and groups of runs that differ in nothing but their seed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rsca_torch.errors import InputError
from rsca_torch.loco import Difference, LOCOResult, paired_difference
from rsca_torch.report import SCHEMA
from rsca_torch.runs import RESULTS, Setting, as_number, flat, other_schema, without_idle
from rsca_torch.sweep import NOTE, read_note

__all__ = ["Gathered", "Group", "Row", "gather", "groups_of"]


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
    given["engine"] = {key: value for key, value in given.get("engine", {}).items() if key != "trainer"}  # told once
    if config.get("store") is not None:
        given["store"] = config["store"]
    if result["compressor"] is None:
        given = {key: value for key, value in given.items() if key not in ("compressor", "engine")}
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


@dataclass(frozen=True)
class Group:
    """The runs that differ in nothing but their seed.

    Attributes:
        representation: what the learner saw.
        learner: its name.
        held_out: whether it had not seen the clusters that it judged.
        settings: the options that differ between runs, in the order of `Gathered.varied`.
        rows: one a seed.
        difference: to the baseline; None for the baseline itself, and where there is nothing to pair.
        paired: how many seeds are in the difference.
    """

    representation: str
    learner: str
    held_out: bool
    settings: dict[str, Setting]
    rows: list[Row]
    difference: Difference | None = None
    paired: int = 0

    @property
    def rates(self) -> list[float]:
        """Global rates, one a seed."""
        return [row.loco.rate for row in self.rows]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(np.mean(self.rates))

    @property
    def spread(self) -> float:
        """Sample standard deviation over seeds; NaN of one."""
        return float(np.std(self.rates, ddof=1)) if len(self.rates) > 1 else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """68 % from a bootstrap over clusters, those of all seeds."""
        return _pooled([(row.store, row.loco) for row in self.rows]).interval()


def groups_of(gathered: Gathered, baseline: str) -> list[Group]:
    """The runs by settings, each compared with the baseline learner of otherwise equal settings.

    The same clusters are paired seed by seed. What the bootstrap draws is a cluster of a store with its rates of all
    seeds: seeds of learners alone see the same stars and are no further evidence of them.

    Raises:
        InputError: where no run has the baseline.
    """
    learners = sorted({row.learner for row in gathered.rows if row.held_out})
    if baseline not in learners:
        raise InputError(f"baseline={baseline} is none of the learners that were judged: {', '.join(learners)}")
    by_key: dict[tuple[str, str, bool, tuple[tuple[str, Setting], ...]], dict[int, Row]] = {}
    for row in gathered.rows:
        settings = tuple((name, row.settings.get(name, "")) for name in gathered.varied)
        key = (row.representation, row.learner, row.held_out, settings)
        by_key.setdefault(key, {}).setdefault(row.seed, row)
    plain = [
        Group(representation, learner, held_out, dict(settings), [rows[seed] for seed in sorted(rows)])
        for (representation, learner, held_out, settings), rows in by_key.items()
    ]
    names = list(dict.fromkeys(group.representation for group in plain))
    order = list(dict.fromkeys([baseline, *(group.learner for group in plain)]))
    plain.sort(key=lambda group: (names.index(group.representation), order.index(group.learner), not group.held_out))
    return [_compared(group, plain, baseline) for group in plain]


def _compared(group: Group, groups: Sequence[Group], baseline: str) -> Group:
    if not group.held_out:
        return group
    like = [
        other
        for other in groups
        if other.learner == baseline
        and other.held_out
        and other.representation == group.representation
        and _shared(other) == _shared(group)
    ]
    if len(like) != 1 or like[0] is group:  # several settings of the baseline: none of them is the one to compare with
        return group
    there = {row.seed: row for row in like[0].rows}
    pairs = [(row, there[row.seed]) for row in group.rows if row.seed in there and row.store == there[row.seed].store]
    try:
        difference = _paired(pairs)
    except InputError:  # no cluster in common
        return group
    return replace(group, difference=difference, paired=len(pairs))


def _shared(group: Group) -> dict[str, Setting]:
    """The settings that are not the learner's own."""
    return {name: value for name, value in group.settings.items() if not name.startswith("learner.")}


def _paired(pairs: Sequence[tuple[Row, Row]]) -> Difference:
    """`paired_difference`, pooled over seeds."""
    sides: tuple[list[tuple[str, LOCOResult]], list[tuple[str, LOCOResult]]] = ([], [])
    for both in pairs:
        one, other = (row.loco for row in both)
        common = [
            cluster
            for cluster, members in one.members.items()
            if members == other.members.get(cluster)
            and math.isfinite(one.cluster_rates[cluster])
            and math.isfinite(other.cluster_rates[cluster])
        ]
        for side, row in zip(sides, both, strict=True):
            side.append((row.store, _only(row.loco, common)))
    return paired_difference(_pooled(sides[0]), _pooled(sides[1]))


def _only(loco: LOCOResult, clusters: Sequence[str]) -> LOCOResult:
    dicts = (loco.cluster_rates, loco.members, loco.pairs, loco.median_sibling_distance)
    rates, members, pairs, medians = ({cluster: each[cluster] for cluster in clusters} for each in dicts)
    return LOCOResult(rates, members, pairs, medians, loco.held_out)  # type: ignore[arg-type]


def _pooled(results: Sequence[tuple[str, LOCOResult]]) -> LOCOResult:
    """One result of several (store, result): every cluster of a store once, with its mean rate.

    Its `members` are weights: the cluster's share of the members that were judged, added up over seeds. So every seed
    counts the same, and the rate is the mean over seeds.
    """
    sums: dict[str, tuple[float, float]] = {}
    for store, loco in results:
        judged = {cluster: rate for cluster, rate in loco.cluster_rates.items() if math.isfinite(rate)}
        total = sum(loco.members[cluster] for cluster in judged)
        for cluster, rate in judged.items():
            unit, share = f"{store} {cluster}", loco.members[cluster] / total
            rates, shares = sums.get(unit, (0.0, 0.0))
            sums[unit] = (rates + rate * share, shares + share)
    weights = {unit: shares for unit, (_, shares) in sums.items()}
    means = {unit: rates / shares for unit, (rates, shares) in sums.items()}
    none = dict.fromkeys(sums, 0)
    return LOCOResult(means, weights, none, dict.fromkeys(sums, math.nan))  # type: ignore[arg-type]
