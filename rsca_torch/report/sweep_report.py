"""Groups of runs as tables and as a picture."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rsca_torch.comparison.gathering import Gathered
from rsca_torch.comparison.run_groups import Group
from rsca_torch.report.pictures import COLOURS
from rsca_torch.report.terminal import print_table

__all__ = ["draw_groups", "markdown", "print_groups", "write_rows"]

N_COMPONENTS, NOISE = "compressor.n_components", "compressor.noise"


def write_rows(path: Path, gathered: Gathered) -> None:
    """CSV, a row for each run, representation, learner and held_out; rates as shares, in-sample ones too."""
    varied = [name for name in gathered.varied if name not in (N_COMPONENTS, NOISE)]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        start = "run representation learner held_out n_components noise seed".split()
        table.writerow([*start, *varied, *"rate low high seconds".split()])
        for row in gathered.rows:
            own = [row.run, row.representation, row.learner, row.held_out]
            own += [row.settings.get(name, "") for name in (N_COMPONENTS, NOISE)]
            end = [row.loco.rate, *row.interval, row.seconds]
            table.writerow([*own, row.seed, *(row.settings.get(name, "") for name in varied), *end])


def markdown(groups: Sequence[Group], gathered: Gathered, baseline: str, title: str) -> str:
    """The table as Markdown, with what it means and what could not be used."""
    head, *body = _cells(groups, gathered.varied, baseline)
    right = _numbers_from(head)
    rule = ["---:" if number >= right else "---" for number in range(len(head))]
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in (head, rule, *body)]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    told = [f"# {title}", "", *EXPLAINED, "", *lines]
    if gathered.unused:
        told += ["", "## Not used", "", *(f"- `{run}`: {problem}" for run, problem in gathered.unused)]
    return "\n".join(told) + "\n"


EXPLAINED = (
    "Doppelganger rate in %, lower is better: mean and sample standard deviation over seeds.",
    "Differences are of the same clusters, seed by seed; in brackets 68 %: bootstrap over clusters.",
)


def print_groups(groups: Sequence[Group], gathered: Gathered, baseline: str) -> None:
    """The same table on the terminal, and what it means."""
    head, *body = _cells(groups, gathered.varied, baseline)
    table = Table(box=None, padding=(0, 2, 0, 0))
    right = _numbers_from(head)
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number >= right else "left", no_wrap=True)
    for row in body:
        table.add_row(*(Text(cell) for cell in row))
    Console().print("\n".join(EXPLAINED), highlight=False, soft_wrap=True)
    print_table(table)


def _numbers_from(head: Sequence[str]) -> int:
    return list(head).index("seeds")


def _cells(groups: Sequence[Group], varied: Sequence[str], baseline: str) -> list[list[str]]:
    """Head and rows."""
    names = [name.removeprefix("compressor.") if name in (N_COMPONENTS, NOISE) else name for name in varied]
    rows = [["representation", "learner", *names, "seeds", "mean", "spread", f"less {baseline} (68 %)"]]
    for group in groups:
        learner = group.learner if group.held_out else f"{group.learner} in-sample"
        spread = "" if math.isnan(group.spread) else f"{100 * group.spread:.2f}"
        less = ""
        if (d := group.difference) is not None:
            less = f"{100 * d.value:+.2f} ({100 * d.low:+.2f},{100 * d.high:+.2f})"
            less += f" of {group.paired} seeds" if group.paired < len(group.rows) else ""
        own = [group.representation.replace("_", " "), learner, *group.settings.values()]
        rows.append([*own, str(len(group.rows)), f"{100 * group.mean:.2f}", spread, less])
    return rows


def draw_groups(groups: Sequence[Group]) -> Figure:
    """Mean rates of every learner with 68 % intervals and the rate of each seed, a panel a representation."""
    held_out = [group for group in groups if group.held_out]
    names = list(dict.fromkeys(group.representation for group in held_out))
    learners = list(dict.fromkeys(group.learner for group in held_out))
    labels = list(dict.fromkeys(_label(group) for group in held_out))
    figure = Figure(figsize=(max(6.0, (1.2 + 0.7 * len(learners)) * len(names)), 4.2), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        shown = [group for group in held_out if group.representation == name]
        for number, label in enumerate(labels):
            here = [group for group in shown if _label(group) == label]
            if not here:
                continue
            place = np.array([learners.index(group.learner) for group in here], dtype=float)
            place += (number - (len(labels) - 1) / 2) * 0.8 / len(labels)
            means = np.array([group.mean for group in here])
            low, high = np.array([group.interval for group in here]).T
            errors = np.clip([means - low, high - means], 0, None)
            colour = COLOURS[number % len(COLOURS)]
            panel.errorbar(place, means, errors, fmt="o", color=colour, capsize=3, label=label)
            seeds = np.repeat(place, [len(group.rows) for group in here])
            panel.plot(seeds, [rate for group in here for rate in group.rates], "_", color=colour, alpha=0.6, ms=9)
        panel.set_title(name.replace("_", " "), fontsize=10)
        panel.set_xticks(range(len(learners)), learners, rotation=45, ha="right", fontsize=8)
        panel.set_xlim(-0.6, len(learners) - 0.4)
        panel.set_ylim(bottom=0)
    panels[0].set_ylabel("global doppelganger rate")
    if len(labels) > 1:
        figure.legend(*_handles(panels), loc="outside lower center", frameon=False, fontsize=8, ncols=2)
    return figure


def _label(group: Group) -> str:
    return ", ".join(f"{name.removeprefix('compressor.')}={value}" for name, value in group.settings.items() if value)


def _handles(panels: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """One entry for each setting, whichever panels show it."""
    found: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)
