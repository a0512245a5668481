"""All runs below a folder as one table, and the groups of those that differ in nothing but their seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rsca_torch.comparison.finished_run import RESULTS, SCHEMA, flat_settings, other_schema, rate_told
from rsca_torch.comparison.sweep_jobs import NOTE, read_note
from rsca_torch.errors import InputError
from rsca_torch.evaluation.result import LOCOResult, leeway, widened
from rsca_torch.files.checked import read_json

__all__ = ["Gathered", "default_baseline", "gather", "groups_of"]

JUDGED = ["representation", "learner", "held_out"]
CLUSTER = ["cluster", "members", "doppelganger_rate", "pairs"]  # of results.json, as `Gathered.results` has it


@dataclass(frozen=True)
class Gathered:
    """Every result below a folder, in order of runs, representations and learners as the runs have them.

    Attributes:
        results: one row for each learner on each representation in a run: `run` (its folder), `representation`,
            `learner`, `held_out`, `seed`, `checksum` (of the store), `simulated` (whether its stars are), `rate`, `low`
            and `high` (68 %), `seconds`, and `clusters`, a tuple of (name, members, rate; None without one, pairs, the
            members' ids).
        settings: the options that had a part in each result, by their dotted names, as texts; "" where it has none.
        unused: (run, why it, or a part of it, cannot be used).
    """

    results: pd.DataFrame
    settings: pd.DataFrame
    unused: list[tuple[str, str]]

    @property
    def varied(self) -> list[str]:
        """The options of which one learner on one representation has several values, by name."""
        kinds = self.settings.groupby([self.results[name] for name in JUDGED[:2]]).nunique()
        return sorted(kinds.columns[(kinds > 1).any()])

    @property
    def simulated(self) -> bool:
        """Whether a run is of a simulated survey."""
        return bool(self.results["simulated"].any())


def gather(sweep: Path) -> Gathered:
    """Every results.json below a folder, without those in hidden folders.

    Raises:
        InputError: where the folder is not there, or has no result that can be used.
    """
    if not sweep.is_dir():
        raise InputError(f"there is no folder {sweep}: give that of a sweep, sweep=DIR (rsca compare -m ... out=DIR)")
    records, unused = [], []
    for folder in sorted({path.parent for name in (RESULTS, NOTE) for path in sweep.rglob(name)}):
        run = folder.relative_to(sweep)
        if any(part.startswith(".") for part in run.parts):
            continue
        found, problems = _records(folder)
        records += [{"run": str(run), **record} for record in found]
        unused += [(str(run), problem) for problem in problems]
    if not records:
        reasons = "".join(f"\n  {run}: {problem}" for run, problem in unused)
        raise InputError(f"no results below {sweep}: make some with rsca compare -m ... out={sweep}{reasons}")
    settings = pd.DataFrame([record.pop("settings") for record in records]).fillna("")
    return _without_contradictions(Gathered(pd.DataFrame(records), settings, unused))


def _records(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """What a run says, and why some of it cannot be used."""
    try:
        content = read_json(folder / RESULTS)
    except FileNotFoundError:
        note = read_note(folder / NOTE)
        return [], [f"unfinished: {note.get('problem') or f'no {RESULTS}'}"]
    except (OSError, ValueError) as error:
        return [], [f"{RESULTS} cannot be read ({type(error).__name__})"]
    if content.get("schema") != SCHEMA:
        return [], [other_schema(content)]
    try:
        records = [_record(content, result) for result in content["results"]]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, OverflowError) as error:
        return [], [f"{RESULTS} is damaged ({type(error).__name__}: {error})"]
    blank = [record for record in records if not math.isfinite(record["rate"])]
    why = "no rate, no cluster has an allowed pair"
    problems = [f"{record['learner']} on {record['representation']}: {why}" for record in blank]
    return [record for record in records if record not in blank], problems if records else ["no rates"]


def _record(content: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    rate, low, high = (rate_told(each) for each in (result["doppelganger_rate"], *result["interval"]))
    return {
        "representation": str(result["representation"]),
        "learner": str(result["learner"]),
        "held_out": bool(result["held_out"]),
        "seed": int(content["seed"]),
        "checksum": str(content["store"]["checksum"]),
        "simulated": content["store"].get("simulated") is True,
        "rate": rate,
        "low": low,
        "high": high,
        "seconds": float(result["seconds"]),
        "clusters": tuple(
            (
                str(each["cluster"]),
                _count(each["members"], 1),
                None if each["doppelganger_rate"] is None else rate_told(each["doppelganger_rate"]),
                _count(each["pairs"], 0),
                "\n".join(each.get("stars", ())),
            )
            for each in result["clusters"]
        ),
        "settings": _settings(content["config"], result, result["learner"] == content["results"][0]["learner"]),
    }


def _count(value: Any, least: int) -> int:  # noqa: ANN401  (any JSON)
    if int(value) < least:
        raise ValueError(f"a count of {value}")
    return int(value)


def _settings(config: Mapping[str, Any], result: Mapping[str, Any], judged: bool) -> dict[str, str]:
    """The options that had a part in a result: of the learners its own, of the representations that which it saw."""
    name = result["representation"]
    given = {key: value for key, value in config.items() if key not in ("seed", "baselines")}
    given["learner"] = config["learner"] if judged else config["baselines"].get(result["learner"], {})
    given["abundances"] = {key: value for key, value in given.get("abundances", {}).items() if key == name}
    given["em_loop"] = {key: value for key, value in given.get("em_loop", {}).items() if key != "trainer"}  # told once
    if result["compressor"] is None:
        given = {key: value for key, value in given.items() if key not in ("compressor", "em_loop")}
    settings = {key: value for key, value in flat_settings(given).items() if value != "{}"}
    return settings if config.get("store") is None else {**settings, "store": config["store"]}


def _without_contradictions(gathered: Gathered) -> Gathered:
    """Without what contradicts an earlier run of the same learner, settings and seed; that with the reason."""
    results = gathered.results
    same = [results[name] for name in (*JUDGED, "seed")] + [gathered.settings[name] for name in gathered.settings]
    first = results.groupby(same)[["run", "clusters"]].transform("first")
    agree = results["clusters"] == first["clusters"]
    unused = [
        (row.run, f"{row.learner}{'' if row.held_out else ' in-sample'} on {row.representation}: settings and seed of "
         f"{first.run[row.Index]}, but other rates")
        for row in results[~agree].itertuples()
    ]  # fmt: skip
    return Gathered(results[agree], gathered.settings[agree], gathered.unused + unused)


def default_baseline(gathered: Gathered) -> str:
    """Where none is named: RSCA, else what was judged first, as RSCA by another score is."""
    learners = [str(learner) for learner in gathered.results["learner"].unique()]
    return "rsca" if "rsca" in learners else learners[0]


def groups_of(gathered: Gathered, baseline: str) -> pd.DataFrame:
    """The runs by settings, each compared with the baseline learner of otherwise equal settings.

    The same clusters are paired seed by seed. What the bootstrap draws is a cluster of a store with its rates of all
    seeds: seeds of learners alone see the same stars and are no further evidence of them.

    Returns:
        One row for the runs that differ in nothing but their seed: `representation`, `learner`, `held_out`, the options
        that differ (`Gathered.varied`), `rates` (one a seed), `mean` and `spread` (sample standard deviation; NaN of
        one) of them, `low` and `high` (68 %), `difference` to the baseline with `difference_low` and `difference_high`
        (NaN for the baseline itself, and where there is nothing to pair) and `paired`, how many seeds are in it.

    Raises:
        InputError: where no run has the baseline.
    """
    rows, varied = gathered.results, gathered.varied
    learners = sorted(rows["learner"][rows["held_out"]].unique())
    if baseline not in learners:
        raise InputError(f"baseline={baseline} is none of the learners that were judged: {', '.join(learners)}")
    rows = rows.join(gathered.settings[varied]).drop_duplicates([*JUDGED, *varied, "seed"])
    learner_rank = pd.factorize(np.array([baseline, *rows["learner"]]))[0][1:]
    order = np.lexsort((~rows["held_out"], learner_rank, pd.factorize(rows["representation"])[0]))
    groups = [group.sort_values("seed") for _, group in rows.iloc[order].groupby([*JUDGED, *varied], sort=False)]
    shared = ["representation", *(name for name in varied if not name.startswith("learner."))]
    return pd.DataFrame([_group(group, groups, baseline, shared, [*JUDGED, *varied]) for group in groups])


def _group(
    group: pd.DataFrame, groups: list[pd.DataFrame], baseline: str, shared: list[str], names: list[str]
) -> dict[str, Any]:
    told, judged = group.iloc[0], _judged(group)
    alike = [other for other in groups if (other[shared].iloc[0] == told[shared]).all()]
    like = [other for other in alike if other["learner"].iloc[0] == baseline and other["held_out"].iloc[0]]
    pooled = _pooled(judged, judged["rate"], judged["pairs"])
    low, high = pooled.interval()
    both = judged.iloc[:0]
    # Of several settings of the baseline none is the one to compare with.
    if told["held_out"] and len(like) == 1 and like[0] is not group:
        same = ["seed", "checksum", "cluster", "members", "stars"]
        both = judged.merge(_judged(like[0]), on=same, suffixes=(None, "_there"))
    difference = _difference(both) if len(both) else (math.nan,) * 3
    return {
        **told[names],
        "rates": tuple(group["rate"]),
        "mean": group["rate"].mean(),
        "spread": group["rate"].std(),
        "low": low,
        "high": high,
        **dict(zip(("difference", "difference_low", "difference_high"), difference, strict=True)),
        "paired": both["seed"].nunique(),
    }


def _judged(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each cluster with a rate in each run."""
    each = rows[["seed", "checksum", "clusters"]].explode("clusters", ignore_index=True)
    each[["cluster", "members", "rate", "pairs", "stars"]] = each.pop("clusters").tolist()
    return each.dropna(subset="rate")


def _difference(both: pd.DataFrame) -> tuple[float, float, float]:
    """Of the rates of the same clusters: its mean over seeds, and the ends of its interval."""
    own, there = (_pooled(both, both[f"rate{of}"], both[f"pairs{of}"]) for of in ("", "_there"))
    pooled = _pooled(both, both["rate"] - both["rate_there"], both["pairs"])
    return pooled.rate, *widened(pooled.rate, *pooled.bootstrapped(), *leeway(own, there))


def _pooled(judged: pd.DataFrame, values: pd.Series, pairs: pd.Series) -> LOCOResult:
    """The mean over seeds, each of which counts the same.

    A cluster weighs its share of the members that were judged, added up over seeds; it is drawn with all its seeds.
    """
    share = judged["members"] / judged.groupby("seed")["members"].transform("sum")
    drawn = [judged["checksum"], judged["cluster"]]
    units = pd.DataFrame({"value": share * values, "share": share}).groupby(drawn, sort=False).sum()
    most = pairs.groupby(drawn, sort=False).max()  # the seeds of a store look at the same pairs
    return LOCOResult((units["value"] / units["share"]).to_dict(), units["share"].to_dict(), most.to_dict(), {})
