"""What the page of a sweep says: of all its runs, and of the jobs that failed."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rsca_torch.comparison.finished_run import RESULTS
from rsca_torch.comparison.sweep import Gathered, groups_of
from rsca_torch.report.page.record import RECORD
from rsca_torch.report.page.rendering import percent_told, picture_of, read_told
from rsca_torch.report.page.run_page import is_simulated, versions_told
from rsca_torch.report.sweep_report import draw_groups

__all__ = ["sweep_page", "sweep_verdict"]

LISTED = 2000  # runs
SECTIONS = {"settings": "Settings", "runs": "Runs", "problems": "Problems", "provenance": "Provenance"}

Entry = Mapping[str, Any]  # of a group, as `numbers` of the page has it


def sweep_page(sweep: Path, gathered: Gathered, baseline: str) -> dict[str, Any]:
    """For sweep.html.j2.

    Args:
        sweep: in which the runs are.
        gathered: these runs.
        baseline: the learner that the others are compared with.

    Raises:
        InputError: no run has the baseline.
    """
    table = groups_of(gathered, baseline)
    groups = [_group(row, gathered.varied) for row in table.to_dict("records")]
    judged = gathered.results.drop_duplicates("run")
    runs = [_run(row) for row in judged.head(LISTED).to_dict("records")]
    told = {run: (read_told(sweep / run / RESULTS), read_told(sweep / run / RECORD)) for run in judged["run"]}
    simulated = any(is_simulated(*each) for each in told.values())
    unused = [{"run": run, "problem": problem} for run, problem in gathered.unused]
    warned = Counter(text for _, record in told.values() for text in record.get("problems", ()))
    problems = [f"{each['run']} is not used: {each['problem']}" for each in unused]
    problems += [f"{text} ({_of(number, len(told))})" for text, number in warned.items()]
    record = read_told(sweep / RECORD)
    page_command = shlex.join(["rsca", "report", f"run={sweep.resolve().name}"])
    return {
        "simulated": simulated,
        "verdict": sweep_verdict(groups, baseline, len(told), unused, simulated, len(warned)),
        "sections": SECTIONS,
        "baseline": baseline,
        "varied": gathered.varied,
        "groups": groups,
        "runs": runs,
        "left_out": len(judged) - len(runs),
        "figure": picture_of(draw_groups(table, gathered.varied)),
        "problems": problems,
        "missing": [],
        "plots": {},
        "command": record.get("command"),
        "page_command": page_command,
        "provenance": {
            "started": record.get("started"),
            "checksums of stores": ", ".join(map(str, gathered.results["checksum"].unique())),
            "seeds": ", ".join(str(seed) for seed in sorted(gathered.results["seed"].unique())),
            "versions": "; ".join(dict.fromkeys(versions_told(each.get("versions", {})) for each, _ in told.values())),
        },
        "options": "",
        "numbers": {"groups": groups, "runs": runs, "unused": unused, "record": record},
    }


def _of(number: int, runs: int) -> str:
    return f"in {number} of {runs} runs"


def _group(row: Mapping[str, Any], varied: Sequence[str]) -> dict[str, Any]:
    return {
        "representation": row["representation"],
        "learner": row["learner"],
        "held_out": bool(row["held_out"]),
        "settings": {name: str(row[name]) for name in varied},
        "rates": [float(rate) for rate in row["rates"]],
        "paired": int(row["paired"]),
        "interval": [_known(row["low"]), _known(row["high"])],
        "difference_interval": [_known(row["difference_low"]), _known(row["difference_high"])],
        **{name: _known(row[name]) for name in ("mean", "spread", "difference")},
    }


def _run(row: Mapping[str, Any]) -> dict[str, Any]:
    texts = {name: str(row[name]) for name in ("run", "representation", "learner")}
    ends = {"rate": _known(row["rate"]), "interval": [_known(row["low"]), _known(row["high"])]}
    return {**texts, "seed": int(row["seed"]), **ends, "seconds": float(row["seconds"])}


def _known(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


def sweep_verdict(
    groups: Sequence[Entry], baseline: str, runs: int, unused: Sequence[Entry], simulated: bool, warnings: int
) -> list[str]:
    """Three sentences: which setting has the lowest rate, compared with what, and what to beware of.

    Args:
        groups: as the page's numbers have them.
        baseline: the learner that the others are compared with.
        runs: how many could be used.
        unused: those that could not, or in part.
        simulated: whether stars are drawn.
        warnings: how many were given.

    Example:
        >>> def group(learner, mean, low, high, difference=None):
        ...     ends = [0.01, 0.03] if difference else [None, None]
        ...     return {"representation": "spectra", "learner": learner, "held_out": True, "settings": {}, "mean": mean,
        ...             "rates": [mean], "interval": [low, high], "difference": difference, "difference_interval": ends}
        >>> groups = [group("rsca", 0.01, 0.005, 0.02), group("raw", 0.03, 0.02, 0.05, 0.02)]
        >>> for sentence in sweep_verdict(groups, "rsca", 1, [], True, 0):
        ...     print(sentence)
        Of 2 settings on spectra rsca has the lowest mean rate: 1.00 % over 1 seed (68 %: 0.50 to 2.00).
        The next is raw with 3.00 %; the two intervals overlap.
        Beware: the lowest of several rates is too low by chance; the stars are simulated, so that the numbers say\
 nothing about the sky.
    """  # fmt: skip
    held_out = [each for each in groups if each["held_out"] and each["mean"] is not None]
    if not held_out:
        return ["No setting could be judged on clusters that were held out.", "Nothing can be compared.", ""]
    on = held_out[0]["representation"]
    ranked = sorted((each for each in held_out if each["representation"] == on), key=_mean)
    best = ranked[0]
    seeds = len(best["rates"])
    over = f"over {seeds} seed{'s' if seeds > 1 else ''}"
    low, high = map(percent_told, best["interval"])
    lowest = f"{percent_told(best['mean'])} % {over} (68 %: {low} to {high})"
    if not best["mean"]:
        lowest = f"no stranger is as alike as siblings {over}, the pairs allow up to {high} %"
    first = (
        f"Of {len(ranked)} settings on {on.replace('_', ' ')} {_name(best)} has the lowest mean rate: {lowest}."
        if len(ranked) > 1
        else f"{_name(best)} on {on.replace('_', ' ')}: {lowest}."
    )
    return [first, _compared(ranked, baseline), _beware(len(ranked), runs, unused, simulated, warnings)]


def _mean(group: Entry) -> float:
    return float(group["mean"])


def _name(group: Entry) -> str:
    settings = [f"{name}={value}" for name, value in group["settings"].items() if value]
    return str(group["learner"]) + (f" ({', '.join(settings)})" if settings else "")


def _compared(ranked: Sequence[Entry], baseline: str) -> str:
    best = ranked[0]
    if best["difference"] is not None:
        low, high = best["difference_interval"]
        zero = "leaves out zero" if low * high > 0 else "includes zero"
        ends = f"{percent_told(low, '+')} to {percent_told(high, '+')}"
        return (
            f"Minus {baseline} of otherwise equal settings that is {percent_told(best['difference'], '+')} "
            f"(68 %: {ends}), an interval that {zero}."
        )
    if len(ranked) == 1:
        return "Nothing else was judged beside it."
    second = ranked[1]
    apart = second["interval"][0] > best["interval"][1]
    return (
        f"The next is {_name(second)} with {percent_told(second['mean'])} %; the two intervals "
        f"{'are apart' if apart else 'overlap'}."
    )


def _beware(settings: int, runs: int, unused: Sequence[Entry], simulated: bool, warnings: int) -> str:
    told = ["the lowest of several rates is too low by chance"] if settings > 1 else []
    if simulated:
        told.append("the stars are simulated, so that the numbers say nothing about the sky")
    if lost := len({each["run"] for each in unused}):
        told.append(f"of {lost} run{'s' if lost > 1 else ''} beside the {runs} that count, all or some is not used")
    if warnings:
        told.append(f"{warnings} warning{'s were' if warnings > 1 else ' was'} given, listed below")
    return f"Beware: {'; '.join(told) or 'the intervals are of these clusters; others may behave otherwise'}."
