"""Doppelganger rates with their intervals on one logarithmic scale, so that 0.3 % and 12 % can both be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from rsca_torch.drawing.style import COLOURS, MARKS

__all__ = ["Rate", "draw_rates_on", "rows_of"]

BESIDE: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 9}
FLOOR = 100  # a bar whose low end is 0, which no logarithmic scale has, starts so many times below its rate


#: Group (rows of one stand together, under its name), series (has a colour and a mark), a rate, and the ends of its
#: interval, all three shares; of a rate of 0 the high end is what its pairs allow.
Rate = tuple[str, str, float, float, float]


def rows_of(rates: Sequence[Rate]) -> tuple[list[str], list[str]]:
    """The groups and the series, each once, in the order in which they come."""
    return list(dict.fromkeys(each[0] for each in rates)), list(dict.fromkeys(each[1] for each in rates))


def draw_rates_on(axes: Axes, rates: Sequence[Rate]) -> None:
    """A row a rate, the groups from top to bottom; each series has a label for a legend.

    Args:
        axes: to draw on.
        rates: finite ones.
    """
    groups, series = rows_of(rates)
    height = 0.8 / max(1, len(series))
    for group, name, *shares in rates:
        number = series.index(name)
        row = groups.index(group) + (number - (len(series) - 1) / 2) * height
        rate, low, high = (100 * share for share in shares)
        colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        if rate:
            axes.plot([max(low, rate / FLOOR), high], [row, row], color=colour, lw=2)
            axes.plot(rate, row, mark, color=colour, ms=7, label=name)
            digits = 2 + (rate >= 99)
            axes.annotate(f"{rate:.{digits}g} %", (high, row), (7, 0), **BESIDE)
        else:
            axes.plot(high, row, "<", color=colour, ms=8, mfc="none", label=name)
            axes.annotate(f"0, the pairs allow up to {high:.2g} %", (high, row), (8, 0), **BESIDE)
    if rates:
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.18, y=0.06)
    if any(not each[2] for each in rates):  # room for what is said of it
        left, right = axes.get_xlim()
        axes.set_xlim(right=right * (right / left) ** 0.3)
    axes.set_yticks(range(len(groups)), groups, parse_math=False)
    axes.invert_yaxis()
    axes.grid(axis="x", which="major")
    axes.set_xlabel("doppelganger rate, % (bars: 68 % intervals; lower is better)")
