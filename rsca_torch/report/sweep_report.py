"""The runs of a sweep and their groups as tables and as a picture."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.text import Text

from rsca_torch.comparison.sweep import Gathered
from rsca_torch.drawing.rates import FLOOR
from rsca_torch.drawing.style import COLOURS, MARKS, in_style, rate_axis, titled
from rsca_torch.report.pictures import draw_intervals
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


@in_style()
def draw_groups(groups: pd.DataFrame, varied: list[str]) -> Figure:
    """Mean rates with 68 % intervals and the rate of each seed, a panel a representation, on a logarithmic scale.

    Along runs the option of which there are most values, numbers before texts, in their order; where none differs, the
    learners. What else differs has a colour and a mark. Of a mean of 0 an arrow starts at what its pairs allow.
    """
    held_out = groups[groups["held_out"]]
    along = _along(held_out, varied)
    others = [name for name in varied if name != along]
    learners = held_out["learner"] if along != "learner" else pd.Series("", index=held_out.index)
    settings = pd.Series([_label(row[others]) for _, row in held_out.iterrows()], index=held_out.index, dtype=str)
    colours, marks = pd.factorize(learners if along != "learner" else settings)[0], pd.factorize(settings)[0]
    told = [", ".join(filter(None, pair)) for pair in zip(learners, settings, strict=True)]
    held_out = held_out.assign(series=told, colour=colours, mark=marks + colours // len(COLOURS))
    shown, names = list(dict.fromkeys(told)), list(held_out["representation"].unique())
    ticks = {name: _in_order(held_out[along][held_out["representation"] == name]) for name in names}
    width = max(7.0, sum(1.6 + 0.5 * len(each) for each in ticks.values()))
    labels = {name: textwrap.fill(name, int(11 * width)) for name in shown}
    columns = max(1, int(width / (0.6 + 0.09 * max(map(len, shown)))))
    lines = sum(label.count("\n") + 1 for label in labels.values()) / columns if len(shown) > 1 else 0
    figure, body = titled("How many strangers look like siblings", width, 3.8 + 0.24 * math.ceil(lines))
    wide = [1.5 + 0.5 * len(each) for each in ticks.values()]
    panels = body.subplots(1, len(names), squeeze=False, sharey=True, width_ratios=wide)[0]
    for panel, name in zip(panels, names, strict=True):
        for one in shown:
            here = held_out[(held_out["representation"] == name) & (held_out["series"] == one)]
            if len(here):
                _draw_series(panel, here, here[along].map(ticks[name].index), labels[one], _are_numbers(ticks[name]))
        panel.set_title(name.replace("_", " "))
        _name_ticks(panel, ticks[name], along)
    panels[0].set_yscale("log")
    rate_axis(panels[0].yaxis)
    panels[0].margins(y=0.12)
    body.supxlabel("bars: 68 % intervals; short lines: seeds; open triangle: 0, up to what the pairs allow", fontsize=9)
    if len(shown) > 1:
        handles: dict[str, Any] = {}  # one entry for each, whichever panels show it
        for panel in panels:
            handles |= dict(zip(*panel.get_legend_handles_labels()[::-1], strict=True))
        order = [label for label in labels.values() if label in handles]
        body.legend([handles[label] for label in order], order, loc="outside upper left", ncols=columns)
    return figure


def _along(held_out: pd.DataFrame, varied: list[str]) -> str:
    """The column whose values are the ticks."""
    different = {name: held_out[name][held_out[name] != ""].unique() for name in varied}
    several = [name for name in varied if len(different[name]) > 1]
    return max(several, key=lambda name: (_are_numbers(different[name]), len(different[name])), default="learner")


def _are_numbers(values: Any) -> bool:  # noqa: ANN401  (texts)
    return bool(pd.to_numeric(pd.Series(list(values)), errors="coerce").notna().all())


def _in_order(values: pd.Series) -> list[str]:
    """Each once: numbers rising, texts as they come; where the option has no part, last."""
    different = [value for value in values.unique() if value != ""]
    rising = sorted(different, key=float) if _are_numbers(different) else different
    return rising + [""] * bool((values == "").any())


def _draw_series(panel: Axes, here: pd.DataFrame, places: pd.Series, label: str, joined: bool) -> None:
    """Of one colour and mark: means with their intervals, a short line for each seed's rate that is not 0."""
    colour, mark = COLOURS[here["colour"].iloc[0] % len(COLOURS)], MARKS[here["mark"].iloc[0] % len(MARKS)]
    order = places.sort_values()
    values = here.loc[order.index, ["mean", "low", "high"]].where(here["mean"] > 0)
    values = values.clip(lower=values["mean"].min() / FLOOR)
    look: dict[str, Any] = {"color": colour, "label": label, "lw": 1}
    draw_intervals(panel, order, values, mark + "-" * joined, **look)
    zero = here["mean"] == 0
    panel.plot(places[zero], here["high"][zero], "v", color=colour, mfc="none", ms=8)
    seeds = here["rates"].explode().astype(float)
    panel.plot(places.loc[seeds.index], seeds.where(seeds > 0), "_", color=colour, alpha=0.6, ms=9)


def _name_ticks(panel: Axes, ticks: list[str], along: str) -> None:
    names = [tick or "any" for tick in ticks]
    slanted: dict[str, Any] = {"rotation": 40, "ha": "right"} if max(map(len, names)) > 5 else {}
    panel.set_xticks(range(len(names)), names, parse_math=False, **slanted)
    panel.set(xlim=(-0.5, len(names) - 0.5), xlabel=along.removeprefix("compressor.").replace("_", " "))
    panel.grid(axis="y")


def _label(settings: pd.Series) -> str:
    return ", ".join(f"{name.removeprefix('compressor.')}={value}" for name, value in settings.items() if value)
