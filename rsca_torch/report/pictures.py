"""Pictures of a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rsca_torch.comparison.comparison import Comparison, Result
from rsca_torch.comparison.representation import Representation
from rsca_torch.drawing.named_lines import Lines, strongest_lines, with_gaps, write_names
from rsca_torch.drawing.rates import draw_rates_on, rows_of
from rsca_torch.drawing.style import COLOURS, MARKS, in_style, rate_axis, titled
from rsca_torch.evaluation.nested_choice import NestedResult
from rsca_torch.evaluation.result import exact_limits
from rsca_torch.report.terminal import percent

__all__ = [
    "COLOURS",
    "MARKS",
    "draw_components",
    "draw_features",
    "draw_histograms",
    "draw_intervals",
    "draw_rates",
    "draw_weights",
]

LONGEST = 25  # letters of a cluster's name above its panel
NAMED = 4  # lines of each detector in a spectrum of weights
ABOVE: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 9}


@in_style()
def draw_rates(comparison: Comparison) -> Figure:
    """Global rates of every learner on every representation with 68 % intervals, as the paper's Figure 4.

    The scale is logarithmic, so that 0.3 % and 12 % can both be read; of a rate of 0 an arrow starts at what its pairs
    allow.

    Args:
        comparison: learners on representations.
    """
    rates = comparison.rates()
    groups, learners = rows_of(rates)
    height = 1.1 + 0.3 * len(rates) + 0.25 * len(groups)
    figure, body = titled("How many strangers look like siblings", 7, height)
    axes = body.subplots()
    draw_rates_on(axes, rates)
    if rates:
        handles = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
        body.legend([handles[name] for name in learners], learners, loc="outside upper left", ncols=4)
    return figure


def draw_intervals(axes: Axes, x: ArrayLike, values: ArrayLike, fmt: str = "o", **style: Any) -> None:
    """Values with their intervals.

    Args:
        axes: to draw on.
        x: (n,) places.
        values: (n, 3) of each place the value and the ends of its interval, outside of which the value may lie.
        fmt: of the points, as matplotlib has it.
        style: of points and bars.
    """
    middle, low, high = np.asarray(values, dtype=float).T
    axes.errorbar(x, middle, np.clip([middle - low, high - middle], 0, None), fmt=fmt, capsize=3, **style)


@in_style()
def draw_components(nested: NestedResult, learner: str) -> Figure:
    """Held-out rate against the number of components with 68 % intervals, and what was chosen, as the paper's Figure 2.

    Args:
        nested: what came of the choice.
        learner: the name of that which chose.
    """
    curve, best = nested.curve, nested.best
    numbers = list(curve)
    rates = np.array([(loco.rate, *loco.interval()) for loco in curve.values()])
    figure, body = titled("The choice of the number of components", 7, 4)
    axes = body.subplots()
    draw_intervals(axes, numbers, rates, "o-", color=COLOURS[1], label=f"{learner} (68 %)")
    axes.plot(best, curve[best].rate, "o", ms=12, mfc="none", mew=2, color=COLOURS[0], label=f"chosen: {best}")
    folds = list(nested.chosen.values())
    for number, top in zip(numbers, rates[:, 2], strict=True):
        if number in folds:
            axes.annotate(f"{folds.count(number)} of {len(folds)}", (number, top), (0, 5), **ABOVE)
    axes.margins(x=0.08, y=0.12)
    axes.set(xticks=numbers, xlabel="number of components; above: in how many folds it is chosen", ylim=(0, None))
    rate_axis(axes.yaxis)
    axes.legend()
    return figure


@in_style()
def draw_histograms(results: Sequence[Result], clusters: Sequence[str]) -> Figure:
    """Siblings' and strangers' distances of clusters, with the median sibling, as the paper's Figures 9 and 10.

    Args:
        results: whose distances are kept; the panels of a cluster are side by side.
        clusters: to draw, in this order.
    """
    columns = len(results) * max(1, 4 // len(results))
    rows = math.ceil(len(clusters) * len(results) / columns)
    on = " and ".join(_spaced(result) for result in results)
    figure, body = titled(f"Distances, {results[0].learner} on {on}", 10, (1.5 + 0.2 * (len(results) > 1)) * rows + 0.9)
    panels = body.subplots(rows, columns, squeeze=False).ravel()
    shown = [(cluster, result) for cluster in clusters for result in results]
    for panel, (cluster, result) in zip(panels, shown, strict=False):
        _histograms(panel, result, cluster)
        of = f"\n{_spaced(result)}" if len(results) > 1 else ""
        name = cluster if len(cluster) <= LONGEST else f"{cluster[:LONGEST]}..."
        panel.set_title(f"{name} ({result.loco.members.get(cluster, 0)}){of}", fontsize=9)
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    legend = max((panel.get_legend_handles_labels() for panel in panels), key=lambda told: len(told[0]))
    body.legend(*legend, loc="outside upper left", ncols=3)
    body.supxlabel("distance; in brackets members, in the panels the doppelganger rate", fontsize=10)
    body.supylabel("share of the pairs, % a bar", fontsize=10)
    return figure


def _spaced(result: Result) -> str:
    return result.representation.name.replace("_", " ")


def _histograms(panel: Axes, result: Result, cluster: str) -> None:
    """Of one cluster; an empty panel where it was not judged."""
    panel.tick_params(labelsize=8)
    if cluster not in (result.loco.distances or {}):
        panel.set_yticks([])
        panel.text(0.5, 0.5, "not judged", transform=panel.transAxes, ha="center", fontsize=9)
        return
    siblings, strangers = (sample.numpy() for sample in (result.loco.distances or {})[cluster])
    both = np.concatenate([siblings, strangers])
    top = float(np.quantile(both, 0.99))
    edges = np.linspace(min(0.0, float(both.min())), top, 30).tolist()  # minus a score may lie below 0
    for sample, colour, label in ((strangers, COLOURS[0], "strangers"), (siblings, COLOURS[1], "siblings")):
        if len(sample):  # one outline: a bar each takes many times as long
            share = np.full(len(sample), 1 / len(sample))
            look: dict[str, Any] = {"histtype": "stepfilled", "alpha": 0.5, "ec": colour, "lw": 1}
            panel.hist(sample.clip(max=top), edges, weights=share, color=colour, label=label, **look)
    panel.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}"))
    panel.yaxis.set_major_locator(MaxNLocator(3))
    median = result.loco.median_sibling_distance[cluster]
    panel.axvline(median, color="0.2", ls="--", lw=1, label="median sibling pair")
    rate, pairs = result.loco.cluster_rates[cluster], result.loco.pairs[cluster]
    told = f"{percent(rate)} %"
    if limits := exact_limits(rate, pairs):
        limit = f"> {100 * limits[0]:.2g} %" if rate else f"< {100 * limits[1]:.2g} %"
        told = f"{rate * pairs:,.0f} of {pairs:,} pairs: {limit}"
    panel.text(0.98, 0.95, told, transform=panel.transAxes, ha="right", va="top", fontsize=9)


@in_style()
def draw_features(on: Representation, field: Tensor, members: Tensor) -> Figure:
    """The four most important features against [Fe/H], [alpha/Fe] and velocity, as the paper's Figure 3.

    Args:
        on: whose star tables say [Fe/H] and the rest.
        field: (F, D) features of its field stars.
        members: (M, D) features of its members.
    """
    shown = min(4, field.shape[1])
    figure, body = titled("The most important features of the stars", 2.7 * shown + 0.9, 5.2)
    panels = body.subplots(2, shown, squeeze=False)
    densities = []
    for number in range(shown):
        below = "velocity" if number == 3 else "ALPHA_M"
        for panel, label in zip(panels[:, number], ("FE_H", below), strict=True):
            if label not in (*on.field_stars.roles, *on.field_stars.colnames):  # not every survey tells it
                panel.set_axis_off()
                continue
            densities.append(_density(panel, on, field[:, number].numpy(), members[:, number].numpy(), label))
            panel.set_ylabel(f"feature {number + 1}", labelpad=0)
    if not densities:
        return figure
    counts = np.concatenate([np.asarray(density.get_array()) for density in densities])
    scale = LogNorm(0.3, counts.max(initial=2))  # one for all; a cell with one star can be seen
    for density in densities:
        density.set_norm(scale)
    body.colorbar(densities[0], ax=panels, label="field stars a cell", pad=0.01, format="%g").ax.set_ylim(bottom=1)
    seen = next(panel for panel in panels.flat if panel.axison)
    body.legend(*seen.get_legend_handles_labels(), loc="outside upper left", markerscale=2)
    return figure


LABELS = {"FE_H": "[Fe/H], dex", "ALPHA_M": r"[$\alpha$/M], dex", "velocity": "radial velocity, km/s"}


def _density(panel: Axes, on: Representation, field: np.ndarray, members: np.ndarray, label: str) -> PolyCollection:
    """How many field stars where, and every member; outliers that would hide all the others are outside."""
    x, x_members = (stars.values(label) for stars in (on.field_stars, on.member_stars))
    known = np.isfinite(x)
    limits = [_limits(x[known], x_members[np.isfinite(x_members)]), _limits(field, members)]
    density = panel.hexbin(
        x[known], field[known], gridsize=45, mincnt=1, cmap="Blues", linewidths=0.2, extent=(*limits[0], *limits[1])
    )
    look: dict[str, Any] = {"color": COLOURS[0], "ms": 3.2, "mec": "white", "mew": 0.3}  # seen on dark cells too
    panel.plot(x_members, members, "o", label="cluster members (cells: field stars)", **look)
    panel.set(xlabel=LABELS[label], xlim=limits[0], ylim=limits[1])
    return density


def _limits(*samples: np.ndarray) -> tuple[float, float]:
    """Of what is drawn; of nothing, or of values that are all the same, some that can be drawn."""
    both = np.concatenate(samples)
    low, high = np.quantile(both, [0.002, 0.998]) if len(both) else (0.0, 0.0)
    margin = 0.1 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


@in_style()
def draw_weights(
    weight: Tensor, wavelengths: Tensor, segments: Mapping[str, tuple[float, float]], lines: Lines | None = None
) -> Figure:
    """The spectra by which the most important features are weighed, detector by detector.

    Args:
        weight: (K, P), rows ordered by importance.
        wavelengths: (P,) Angstrom.
        segments: name of each detector -> its first and last wavelength.
        lines: of which the strongest are named. None: none are.
    """
    shown = min(4, len(weight))
    figure, body = titled("How much each bin counts in the most important features", 11, 1.7 * shown + 0.6)
    panels = body.subplots(shown, len(segments), sharey="row", sharex="col", squeeze=False)
    angstrom = wavelengths.numpy()
    for number, row in enumerate(weight[:shown].numpy()):
        for panel, (name, (first, last)) in zip(panels[number], segments.items(), strict=True):
            inside = (angstrom >= first) & (angstrom <= last)
            _weights(panel, angstrom[inside], row[inside], lines)
            if number == 0:
                panel.set_title(name)
        panels[number, 0].set_ylabel(f"feature {number + 1}")
    body.supxlabel("rest wavelength in vacuum, Angstrom", fontsize=11)
    body.supylabel("weight: feature per unit of flux", fontsize=11)
    return figure


def _weights(panel: Axes, angstrom: NDArray[np.float64], row: NDArray[np.float64], lines: Lines | None) -> None:
    panel.plot(*with_gaps(angstrom, row), lw=0.6, color=COLOURS[1])
    panel.axhline(0, color="0.7", lw=0.5, zorder=0)
    panel.margins(x=0.01)
    if lines is not None and len(angstrom):
        apart = 0.07 * float(np.ptp(angstrom))  # as wide as a name
        write_names(panel, strongest_lines(angstrom, row, lines, NAMED, apart))
