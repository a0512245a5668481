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
from numpy.typing import ArrayLike
from torch import Tensor

from rsca_torch.comparison.comparison import Comparison, Result
from rsca_torch.comparison.representation import Representation
from rsca_torch.evaluation.nested_choice import NestedResult
from rsca_torch.evaluation.result import exact_limits

__all__ = [
    "COLOURS",
    "draw_components",
    "draw_features",
    "draw_histograms",
    "draw_intervals",
    "draw_rates",
    "draw_weights",
]

#: Of Okabe and Ito, which those who do not see red or green tell apart; without the yellow, which a projector loses.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
GAP = 5  # a line is not drawn across a step in wavelength that is so many times the smallest
MARKS = "osD^vP"  # learners are told apart without colour too
BESIDE: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 8}
ABOVE: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 8}


def draw_rates(comparison: Comparison, simulated: bool = False) -> Figure:
    """Global rates of every learner on every representation with 68 % intervals, as the paper's Figure 4.

    The scale is logarithmic, so that 0.3 % and 12 % can both be read; of a rate of 0 an arrow starts at what its pairs
    allow.

    Args:
        comparison: learners on representations.
        simulated: whether the stars are drawn, which is stamped on the picture.
    """
    held_out = [result for result in comparison.results if result.loco.held_out and math.isfinite(result.loco.rate)]
    groups = list(dict.fromkeys(result.representation.name for result in held_out))
    learners = list(dict.fromkeys(result.learner for result in held_out))
    height = 0.8 / max(1, len(learners))
    figure = Figure(figsize=(7, 1.3 + 0.33 * (len(held_out) + len(groups))), layout="constrained")
    axes = figure.subplots()
    for result in held_out:
        number = learners.index(result.learner)
        row = groups.index(result.representation.name) + (number - (len(learners) - 1) / 2) * height
        rate, (low, high) = 100 * result.loco.rate, (100 * end for end in result.loco.interval())
        colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        if rate:
            axes.plot([max(low, rate / 100), high], [row, row], color=colour, lw=2)
            axes.plot(rate, row, mark, color=colour, ms=7, label=result.learner)
            axes.annotate(f"{rate:.2g} %", (high, row), (6, 0), **BESIDE)
        else:
            axes.plot(high, row, "<", color=colour, ms=8, mfc="none", label=result.learner)
            axes.annotate(f"0, the pairs allow up to {high:.2g} %", (high, row), (8, 0), **BESIDE)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.18, y=0.06)
    axes.set_yticks(range(len(groups)), [group.replace("_", " ") for group in groups])
    axes.invert_yaxis()
    axes.grid(axis="x", which="major", color="0.9")
    axes.set_axisbelow(True)
    axes.set_xlabel("global doppelganger rate, % (68 % interval; lower is better)")
    if held_out:
        handles = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
        order = [name for name in learners if name in handles]
        figure.legend([handles[name] for name in order], order, loc="outside upper center", ncols=4, frameon=False)
    if simulated:
        axes.set_title("SIMULATED SURVEY", loc="right", fontsize=9, color="0.4", weight="bold")
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


def draw_components(nested: NestedResult, learner: str) -> Figure:
    """Held-out rate against the number of components with 68 % intervals, and what was chosen, as the paper's Figure 2.

    Args:
        nested: what came of the choice.
        learner: the name of that which chose.
    """
    curve, best = nested.curve, nested.best
    numbers = list(curve)
    rates = np.array([(loco.rate, *loco.interval()) for loco in curve.values()])
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    draw_intervals(axes, numbers, rates, "o-", color=COLOURS[1], label=learner)
    axes.plot(best, curve[best].rate, "o", ms=12, mfc="none", color=COLOURS[0], label=f"chosen: {best}")
    folds = list(nested.chosen.values())
    for number, top in zip(numbers, rates[:, 2], strict=True):
        if number in folds:
            axes.annotate(f"{folds.count(number)} of {len(folds)}", (number, top), (0, 5), **ABOVE)
    axes.margins(x=0.08, y=0.12)
    axes.set(xticks=numbers, xlabel="number of components; above: in how many folds it is chosen")
    axes.set(ylabel="global doppelganger rate", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def draw_histograms(results: Sequence[Result], clusters: Sequence[str]) -> Figure:
    """Siblings' and strangers' distances of clusters, with the median sibling, as the paper's Figures 9 and 10.

    Args:
        results: whose distances are kept; the panels of a cluster are side by side.
        clusters: to draw, in this order.
    """
    columns = len(results) * max(1, 4 // len(results))
    rows = math.ceil(len(clusters) * len(results) / columns)
    figure = Figure(figsize=(11, 1.6 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    shown = [(cluster, result) for cluster in clusters for result in results]
    for panel, (cluster, result) in zip(panels, shown, strict=False):
        _histograms(panel, result, cluster)
        of = f", {_spaced(result)}" if len(results) > 1 else ""
        panel.set_title(f"{cluster} ({result.loco.members.get(cluster, 0)}){of}", fontsize=8)
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    legend = max((panel.get_legend_handles_labels() for panel in panels), key=lambda told: len(told[0]))
    figure.legend(*legend, loc="outside upper right", ncols=3, fontsize=8, frameon=False)
    on = " and ".join(_spaced(result) for result in results)
    figure.supxlabel(f"distance, {results[0].learner} on {on}; in brackets members, in the panels rates", fontsize=9)
    return figure


def _spaced(result: Result) -> str:
    return result.representation.name.replace("_", " ")


def _histograms(panel: Axes, result: Result, cluster: str) -> None:
    """Of one cluster; an empty panel where it was not judged."""
    panel.set_yticks([])
    panel.tick_params(labelsize=7)
    if cluster not in (result.loco.distances or {}):
        panel.text(0.5, 0.5, "not judged", transform=panel.transAxes, ha="center", fontsize=8)
        return
    siblings, strangers = (sample.numpy() for sample in (result.loco.distances or {})[cluster])
    both = np.concatenate([siblings, strangers])
    top = float(np.quantile(both, 0.99))
    edges = np.linspace(min(0.0, float(both.min())), top, 30).tolist()  # minus a score may lie below 0
    for sample, colour, label in ((strangers, COLOURS[2], "strangers"), (siblings, COLOURS[1], "siblings")):
        if len(sample):
            shape: dict[str, Any] = {
                "histtype": "stepfilled",
                "density": True,
            }  # one outline: a bar each takes many times as long
            panel.hist(sample.clip(max=top), edges, color=colour, alpha=0.5, label=label, **shape)
    median = result.loco.median_sibling_distance[cluster]
    panel.axvline(median, color="0.2", ls="--", lw=1, label="median sibling pair")
    rate, pairs = result.loco.cluster_rates[cluster], result.loco.pairs[cluster]
    told = f"{rate:.4f}"
    if limits := exact_limits(rate, pairs):
        told = f"{rate * pairs:,.0f} of {pairs:,} pairs: " + (f"> {limits[0]:.2g}" if rate else f"< {limits[1]:.2g}")
    panel.text(0.97, 0.93, told, transform=panel.transAxes, ha="right", va="top", fontsize=8)


def draw_features(on: Representation, field: Tensor, members: Tensor) -> Figure:
    """The four most important features against [Fe/H], [alpha/Fe] and velocity, as the paper's Figure 3.

    Args:
        on: whose star tables say [Fe/H] and the rest.
        field: (F, D) features of its field stars.
        members: (M, D) features of its members.
    """
    shown = min(4, field.shape[1])
    figure = Figure(figsize=(3 * shown + 0.8, 5.5), layout="constrained")
    panels = figure.subplots(2, shown, squeeze=False)
    densities = []
    for number in range(shown):
        below = "velocity" if number == 3 else "ALPHA_M"
        for panel, label in zip(panels[:, number], ("FE_H", below), strict=True):
            if label not in (*on.field_stars.roles, *on.field_stars.colnames):  # not every survey tells it
                panel.set_axis_off()
                continue
            densities.append(_density(panel, on, field[:, number].numpy(), members[:, number].numpy(), label))
            panel.set_ylabel(f"feature {number + 1}")
    if not densities:
        return figure
    counts = np.concatenate([np.asarray(density.get_array()) for density in densities])
    scale = LogNorm(0.3, counts.max(initial=2))  # one for all; a cell with one star can be seen
    for density in densities:
        density.set_norm(scale)
    figure.colorbar(densities[0], ax=panels, label="field stars a cell", pad=0.01, format="%g").ax.set_ylim(bottom=1)
    next(panel for panel in panels.flat if panel.axison).legend(loc="lower right", fontsize=8, frameon=False)
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
    panel.plot(x_members, members, ".", ms=4, color=COLOURS[4], label="cluster members")
    panel.set(xlabel=LABELS[label], xlim=limits[0], ylim=limits[1])
    return density


def _limits(*samples: np.ndarray) -> tuple[float, float]:
    """Of what is drawn; of nothing, or of values that are all the same, some that can be drawn."""
    both = np.concatenate(samples)
    low, high = np.quantile(both, [0.002, 0.998]) if len(both) else (0.0, 0.0)
    margin = 0.1 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def draw_weights(weight: Tensor, wavelengths: Tensor, segments: Mapping[str, tuple[float, float]]) -> Figure:
    """The spectra by which the most important features are weighed, detector by detector.

    Args:
        weight: (K, P), rows ordered by importance.
        wavelengths: (P,) Angstrom.
        segments: name of each detector -> its first and last wavelength.
    """
    shown = min(4, len(weight))
    figure = Figure(figsize=(13, 1.8 * shown + 0.5), layout="constrained")
    panels = figure.subplots(shown, len(segments), sharey="row", sharex="col", squeeze=False)
    angstrom = wavelengths.numpy()
    for number, row in enumerate(weight[:shown].numpy()):
        for panel, (name, (first, last)) in zip(panels[number], segments.items(), strict=True):
            inside = (angstrom >= first) & (angstrom <= last)
            steps = np.diff(angstrom[inside])
            gaps = np.flatnonzero(steps > GAP * steps.min(initial=np.inf)) + 1
            x, y = np.insert(angstrom[inside], gaps, np.nan), np.insert(row[inside], gaps, np.nan)
            panel.plot(x, y, lw=0.5, color=COLOURS[1])
            panel.axhline(0, color="0.8", lw=0.5, zorder=0)
            if number == 0:
                panel.set_title(name, fontsize=9)
        panels[number, 0].set_ylabel(f"weight of feature {number + 1}", fontsize=8)
    figure.supxlabel("rest wavelength in vacuum, Angstrom", fontsize=9)
    return figure
