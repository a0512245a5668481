"""The runs of a sweep and their groups as tables and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.text import Text

from rsca_torch.comparison.sweep import Gathered
from rsca_torch.report.pictures import COLOURS, draw_intervals
from rsca_torch.report.terminal import percent, plain_table, print_table

__all__ = ["draw_groups", "markdown", "print_groups", "write_rows"]

N_COMPONENTS, NOISE = "compressor.n_components", "compressor.noise"


def write_rows(path: Path, gathered: Gathered) -> None:
    """CSV, a row for each run, representation, learner and held_out; rates as shares, in-sample ones too."""
    varied = [name for name in gathered.varied if name not in (N_COMPONENTS, NOISE)]
    settings = gathered.settings.reindex(columns=[N_COMPONENTS, NOISE, *varied], fill_value="")
    table = gathered.results.join(settings.rename(columns={N_COMPONENTS: "n_components", NOISE: "noise"}))
    start = "run representation learner held_out n_components noise seed".split()
    table[[*start, *varied, *"rate low high seconds".split()]].to_csv(path, index=False)


def markdown(groups: pd.DataFrame, gathered: Gathered, baseline: str, title: str) -> str:
    """The table as Markdown, with what it means and what could not be used."""
    cells = _cells(groups, gathered.varied, baseline)
    rule = ["---:" if name in cells.loc[:, "seeds":] else "---" for name in cells]
    rows = [[str(cell).replace("|", r"\|") for cell in row] for row in (cells.columns, rule, *cells.to_numpy())]
    told = [f"# {title}", "", *EXPLAINED, "", *(f"| {' | '.join(row)} |" for row in rows)]
    if gathered.unused:
        told += ["", "## Not used", "", *(f"- `{run}`: {problem}" for run, problem in gathered.unused)]
    return "\n".join(told) + "\n"


EXPLAINED = (
    "Doppelganger rate in %, lower is better: mean and sample standard deviation over seeds; of 0 what pairs allow.",
    "Differences are of the same clusters, seed by seed; in brackets 68 %: bootstrap over clusters.",
)


def print_groups(groups: pd.DataFrame, gathered: Gathered, baseline: str) -> None:
    """The same table on the terminal, and what it means."""
    cells = _cells(groups, gathered.varied, baseline)
    numbers = [*cells.loc[:, "seeds":]]
    table = plain_table([name for name in cells if name not in numbers], numbers)
    for row in cells.to_numpy():
        table.add_row(*(Text(cell) for cell in row))
    Console().print("\n".join(EXPLAINED), highlight=False, soft_wrap=True)
    print_table(table)


def _cells(groups: pd.DataFrame, varied: list[str], baseline: str) -> pd.DataFrame:
    """The table as texts; the columns from `seeds` on are numbers."""
    short = {name: name.removeprefix("compressor.") for name in (N_COMPONENTS, NOISE)}
    seeds = groups["rates"].map(len)
    spread = groups["spread"].map(percent)
    means = [percent(d.mean) if d.mean else f"0.00 (0 up to {percent(d.high)})" for d in groups.itertuples()]
    minus = [
        "" if np.isnan(d.difference)
        else f"{percent(d.difference, '+')} ({percent(d.difference_low, '+')},{percent(d.difference_high, '+')})"
        for d in groups.itertuples()
    ]  # fmt: skip
    part = np.where(groups["paired"] < seeds, " of " + groups["paired"].astype(str) + " seeds", "")
    return pd.DataFrame(
        {
            "representation": groups["representation"].str.replace("_", " "),
            "learner": groups["learner"] + np.where(groups["held_out"], "", " in-sample"),
            **{short.get(name, name): groups[name] for name in varied},
            "seeds": seeds.astype(str),
            "mean": means,
            "spread": spread.where(groups["spread"].notna(), ""),
            f"minus {baseline} (68 %)": [cell and cell + more for cell, more in zip(minus, part, strict=True)],
        }
    )


def draw_groups(groups: pd.DataFrame, varied: list[str]) -> Figure:
    """Mean rates of every learner with 68 % intervals and the rate of each seed, a panel a representation."""
    held_out = groups[groups["held_out"]]
    held_out = held_out.assign(label=[_label(row[varied]) for _, row in held_out.iterrows()])
    names, learners, labels = (list(held_out[column].unique()) for column in ("representation", "learner", "label"))
    figure = Figure(figsize=(max(6.0, (1.2 + 0.7 * len(learners)) * len(names)), 4.2), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        for label, here in held_out[held_out["representation"] == name].groupby("label", sort=False):
            number = labels.index(label)
            place = here["learner"].map(learners.index) + (number - (len(labels) - 1) / 2) * 0.8 / len(labels)
            colour = COLOURS[number % len(COLOURS)]
            draw_intervals(panel, place, here[["mean", "low", "high"]], color=colour, label=label)
            seeds = np.repeat(place, here["rates"].map(len))
            panel.plot(seeds, here["rates"].explode(), "_", color=colour, alpha=0.6, ms=9)
        panel.set_title(name.replace("_", " "), fontsize=10)
        panel.set_xticks(range(len(learners)), learners, rotation=45, ha="right", fontsize=8)
        panel.set(xlim=(-0.6, len(learners) - 0.4), ylim=(0, None))
    panels[0].set_ylabel("global doppelganger rate")
    if len(labels) > 1:
        handles: dict[str, Any] = {}  # one entry for each setting, whichever panels show it
        for panel in panels:
            handles |= dict(zip(*panel.get_legend_handles_labels()[::-1], strict=True))
        figure.legend(handles.values(), handles, loc="outside lower center", frameon=False, fontsize=8, ncols=2)
    return figure


def _label(settings: pd.Series) -> str:
    return ", ".join(f"{name.removeprefix('compressor.')}={value}" for name, value in settings.items() if value)
