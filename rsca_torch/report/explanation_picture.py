"""One picture of an explanation, readable from the back of a lecture room."""

from __future__ import annotations

import textwrap

import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rsca_torch.drawing.style import COLOURS, in_style, titled
from rsca_torch.explanation.explain import Explained

__all__ = ["draw_explanation", "plain"]

#: More of something is blue, less is vermilion.
MORE, LESS, GREY = COLOURS[1], COLOURS[0], "0.55"
BARS = 8  # of each kind
MARKED = 6  # lines in the spectrum
LONGEST = 160  # letters of a text


def plain(text: str, width: int = 10_000) -> str:
    r"""A text that matplotlib draws as it is: no mathematics, no control characters.

    >>> print(plain("cost: $5$\t"))
    cost: \$5\$\t
    """
    shown = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
    short = shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 3]}..."
    return "\n".join(textwrap.wrap(short, width)).replace("$", r"\$")


@in_style()
def draw_explanation(told: Explained) -> Figure:
    """The spectrum of shares above; below the strongest lines, the windows, and correlations or features."""
    figure, body = titled(plain(told.title, 75), 16, 9)
    figure.set_size_inches(16, 9)  # a slide
    figure.suptitle(figure.get_suptitle(), fontsize=22, x=0.003, ha="left")
    top, bottom = body.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.15))[:, 0]
    _spectrum(top.subplots(), told)
    lines, windows, further = bottom.subplots(1, 3)
    names = [
        f"{row['ELEMENT']} {row['LINE']:.1f}" if np.isfinite(row["LINE"]) else str(row["ELEMENT"])
        for row in told.lines[:BARS]
    ]
    _bars(lines, names, 100 * np.asarray(told.lines["SHARE"][:BARS]), "Lines (Å, vacuum)", "share, %")
    names = [str(name) for name in told.windows["ELEMENT"][:BARS]]
    _bars(windows, names, 100 * np.asarray(told.windows["SHARE"][:BARS]), "Element windows", "share, %")
    _further(further, told.further)
    return figure


def _spectrum(axes: Axes, told: Explained) -> None:
    """Shares of bins; of a star those of its largest feature. The strongest lines are named."""
    bins = told.bins
    if "FEATURE" in bins.colnames:
        bins = bins[bins["FEATURE"] == bins["FEATURE"][0]]
    x, y = np.asarray(bins["WAVELENGTH"]), 100 * np.asarray(bins["SHARE"])
    for sign, colour in ((1, MORE), (-1, LESS)):
        here = sign * y > 0
        axes.vlines(x[here], 0, y[here], color=colour, lw=1.6)
    axes.axhline(0, color="0.3", lw=1)
    low, high = min(0.0, float(y.min(initial=0))), max(float(y.max(initial=0)), 1e-9)
    axes.set_ylim(low - 0.05 * (high - low), high + 0.45 * (high - low))
    known = told.lines[np.isfinite(told.lines["LINE"])][:MARKED]
    ends = float(x.min()), float(x.max())
    places = _apart(np.sort(np.asarray(known["LINE"], dtype=float)), 0.07 * max(ends[1] - ends[0], 1.0), ends)
    for place, row in zip(places, known[np.argsort(known["LINE"], kind="stable")], strict=True):
        peak = y[np.abs(x - row["LINE"]) < 2].max(initial=0)
        axes.annotate(
            plain(f"{row['ELEMENT']}\n{row['LINE']:.1f}".replace("\n", " ")).replace(" ", "\n", 1),
            (row["LINE"], max(peak, 0)),
            (place, high + 0.16 * (high - low)),
            ha="center",
            va="bottom",
            fontsize=15,
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 1},
        )
    axes.margins(x=0.01)
    axes.set_xlabel("rest wavelength in vacuum, Å", fontsize=17)
    axes.set_ylabel("share of a bin, %", fontsize=17)
    axes.set_title(plain(f"Shares of the {told.carried} (they add up to 100 %)"), fontsize=17)
    axes.tick_params(labelsize=15)


def _apart(wanted: np.ndarray, least: float, ends: tuple[float, float]) -> np.ndarray:
    """Places of labels, rising, at least so far from each other, near the wanted ones."""
    places = wanted.copy()
    for number in range(1, len(places)):
        places[number] = max(places[number], places[number - 1] + least)
    if len(places):
        places[-1] = min(places[-1], ends[1] - least / 2)
    for number in range(len(places) - 2, -1, -1):
        places[number] = min(places[number], places[number + 1] - least)
    return places


def _bars(axes: Axes, names: list[str], values: np.ndarray, title: str, label: str) -> None:
    """The first on top."""
    places = np.arange(len(names))[::-1]
    axes.barh(places, values, color=[MORE if value >= 0 else LESS for value in values], height=0.72)
    axes.set_yticks(places, [plain(name)[:24] for name in names])
    axes.axvline(0, color="0.3", lw=1)
    axes.set_title(title, fontsize=18)
    axes.set_xlabel(label, fontsize=16)
    axes.tick_params(labelsize=15)


def _further(axes: Axes, rows: Table) -> None:
    if not len(rows):
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no column of numbers", ha="center", fontsize=16)
        return
    rows = rows[:BARS]
    if "COLUMN" in rows.colnames:
        names = [f"{row['COLUMN']} ({row['STARS']:,})" for row in rows]
        _bars(axes, names, np.asarray(rows["SPEARMAN"]), "Correlation (stars)", "Spearman's rho")
        axes.set_xlim(-1, 1)
    else:
        names = [f"feature {number}" for number in rows["FEATURE"]]
        units = "UNITS" in rows.colnames
        values = np.asarray(rows["UNITS"]) if units else 100 * np.asarray(rows["SHARE"])
        _bars(axes, names, values, "Features", "spreads from the field's mean" if units else "share, %")
