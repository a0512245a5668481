"""Results -> JSON, tables and pictures; reads nothing but a Comparison."""

from __future__ import annotations

import csv
import json
import math
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table as RichTable
from torch import Tensor

from rsca_torch.comparison import Comparison, Representation, Result
from rsca_torch.errors import InputError
from rsca_torch.loco import LOCOResult
from rsca_torch.survey.apogee import CHIPS, wavelength

__all__ = [
    "draw_components",
    "draw_features",
    "draw_histograms",
    "draw_rates",
    "draw_weights",
    "save_figure",
    "summary_table",
    "write_csv",
    "write_json",
    "write_set_aside",
]

SCHEMA = 1
COLOURS = ("#c0392b", "#2c6fbb", "#3a9a5b", "#8e5ea2", "#d08a1d", "#5d6d7e")
ABOVE: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 8}


def write_json(
    path: Path,
    comparison: Comparison,
    store: Mapping[str, Any],
    seed: int,
    config: Mapping[str, Any],
) -> None:
    """results.json, schema 1: provenance and every rate; NaN (a cluster with no allowed pair) as null."""
    content = {
        "schema": SCHEMA,
        "store": dict(store),
        "seed": seed,
        "versions": {name: version(name) for name in ("rsca_torch", "torch", "numpy", "astropy")}
        | {"python": platform.python_version()},
        "config": dict(config),
        "results": [_result(result, config["compressor"]) for result in comparison.results],
        "differences": [
            {
                "representation": result.representation.name,
                "learner": result.learner,
                "difference": difference.value,
                "interval": [difference.low, difference.high],
            }
            for result in comparison.results
            if (difference := comparison.difference(result)) is not None
        ],
    }
    path.write_text(json.dumps(_without_nan(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_set_aside(path: Path, aside: Table) -> None:
    """What step 1 set aside, as FITS: LIST, a row a bin of a star; STARS and BINS, how many of each."""
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU(aside, name="LIST")]
    for name, column in (("STARS", "APOGEE_ID"), ("BINS", "WAVELENGTH")):
        values, counts = np.unique(np.asarray(aside[column]), return_counts=True)
        order = np.argsort(-counts, kind="stable")
        hdus.append(fits.BinTableHDU(Table({column: values[order], "SET_ASIDE": counts[order]}), name=name))
    fits.HDUList(hdus).writeto(path)


def _result(result: Result, compressor: Mapping[str, Any]) -> dict[str, Any]:
    on, loco = result.representation, result.loco
    return {
        "representation": on.name,
        "compressor": _step_1(result, compressor) if on.ppcas else None,
        "learner": result.learner,
        "held_out": loco.held_out,
        "doppelganger_rate": loco.rate,
        "interval": list(loco.interval()),
        "seconds": round(result.seconds, 3),
        **({"training": _training(loco)} if loco.trained else {}),
        "clusters": [
            {
                "cluster": cluster,
                "members": loco.members[cluster],
                "pairs": loco.pairs[cluster],
                "doppelganger_rate": rate,
                "median_sibling_distance": loco.median_sibling_distance[cluster],
            }
            for cluster, rate in loco.cluster_rates.items()
        ],
    }


def _training(loco: LOCOResult) -> dict[str, Any]:
    """How every fold was trained, less its losses, which are in the logs."""
    told = ("epochs", "best", "effective_rank", "variance", "stopped")
    return {cluster: {name: getattr(trained, name) for name in told} for cluster, trained in loco.trained.items()}


def _step_1(result: Result, compressor: Mapping[str, Any]) -> dict[str, Any]:
    """How step 1 was set, how its fit ended (of several models, of each) and how n_components=auto was chosen."""
    on = result.representation
    fits = [
        {
            "iterations": len(ppca.history),
            "converged": ppca.converged,
            "log_likelihood_per_bin": ppca.history[-1],
        }
        for ppca in on.ppcas
    ]
    models = [{"n_components": ppca.n_components, **fit} for ppca, fit in zip(on.ppcas, fits, strict=True)]
    entry = {**compressor, **(fits[0] if on.ppca else {"models": models}), "seconds": round(on.seconds, 3)}
    if on.ppca and compressor.get("n_components") == "auto":
        entry["chosen"] = on.ppca.n_components  # over all clusters, for a model that is fitted on them all
    if result.nested is not None:
        entry["chosen_without"] = result.nested.chosen
        entry["curve"] = [
            {"n_components": number, "doppelganger_rate": loco.rate, "interval": list(loco.interval())}
            for number, loco in result.nested.curve.items()
        ]
    return entry


def _without_nan(value: Any) -> Any:  # noqa: ANN401  (any JSON)
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(path: Path, comparison: Comparison) -> None:
    """One row a cluster of every result, and one row `(all)` with the global rate and its 68 % interval."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(
            "representation learner held_out cluster members pairs doppelganger_rate low high "
            "median_sibling_distance".split()
        )
        for result in comparison.results:
            loco = result.loco
            start = [result.representation.name, result.learner, loco.held_out]
            total = [sum(loco.members.values()), sum(loco.pairs.values())]
            rows.writerow([*start, "(all)", *total, loco.rate, *loco.interval(), ""])
            for cluster, rate in loco.cluster_rates.items():
                counts = [loco.members[cluster], loco.pairs[cluster]]
                rows.writerow([*start, cluster, *counts, rate, "", "", loco.median_sibling_distance[cluster]])


def summary_table(comparison: Comparison) -> RichTable:
    """The rates with their intervals, and how much higher each is than the judged learner's on spectra."""
    judged = comparison.results[0]
    title = "Doppelganger rate in %, lower is better; 68 %: bootstrap over clusters"
    table = RichTable(title=title, title_style="", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("representation", no_wrap=True)
    table.add_column("learner", no_wrap=True)
    table.add_column("rate", justify="right", no_wrap=True)
    table.add_column("68 %", justify="right", no_wrap=True)
    table.add_column(f"less {judged.learner} on {judged.representation.name}", justify="right", no_wrap=True)
    for result in comparison.results:
        low, high = result.loco.interval()
        row = [result.representation.name.replace("_", " "), result.learner]
        row += [f"{100 * result.loco.rate:.2f}", f"{100 * low:.2f}-{100 * high:.2f}"]
        if not result.loco.held_out:
            row[1] += " in-sample"
        elif (d := comparison.difference(result)) is not None:
            row.append(f"{100 * d.value:+.2f} ({100 * d.low:+.2f},{100 * d.high:+.2f})")
        table.add_row(*row)
    return table


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """PNG to look at and PDF to publish, without the date of the day in either."""
    figure.savefig(folder / f"{name}.png", dpi=150, metadata={"Software": None})
    figure.set_layout_engine("none")  # laid out already
    figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})


def draw_rates(comparison: Comparison) -> Figure:
    """Global rates of every learner on every representation with 68 % intervals, as the paper's Figure 4."""
    held_out = [result for result in comparison.results if result.loco.held_out]
    groups = list(dict.fromkeys(result.representation.name for result in held_out))
    learners = list(dict.fromkeys(result.learner for result in held_out))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for number, learner in enumerate(learners):
        shift = (number - (len(learners) - 1) / 2) * 0.2
        results = [result for result in held_out if result.learner == learner]
        place = np.array([groups.index(result.representation.name) for result in results]) + shift
        rates = np.array([result.loco.rate for result in results])
        low, high = np.array([result.loco.interval() for result in results]).T
        errors = np.clip([rates - low, high - rates], 0, None)
        colour = COLOURS[number % len(COLOURS)]
        axes.bar(place, rates, 0.18, color=colour, alpha=0.35, label=learner)
        axes.errorbar(place, rates, errors, fmt="o", color=colour, capsize=3)
    axes.set_xticks(range(len(groups)), [group.replace("_", " ") for group in groups])
    axes.set_ylabel("global doppelganger rate")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def draw_components(result: Result) -> Figure:
    """Held-out rate against the number of components with 68 % intervals, and what was chosen, as the paper's Figure 2.

    Raises:
        InputError: where the result is of a fixed number of components.
    """
    if result.nested is None:
        raise InputError("the number of components was given, not chosen: there is no curve to draw")
    curve, best = result.nested.curve, result.nested.best
    numbers = list(curve)
    rates = np.array([loco.rate for loco in curve.values()])
    low, high = np.array([loco.interval() for loco in curve.values()]).T
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    errors = np.clip([rates - low, high - rates], 0, None)
    axes.errorbar(numbers, rates, errors, fmt="o-", color=COLOURS[1], capsize=3, label=result.learner)
    axes.plot(best, curve[best].rate, "o", ms=12, mfc="none", color=COLOURS[0], label=f"chosen: {best}")
    folds = list(result.nested.chosen.values())
    for number, top in zip(numbers, high, strict=True):
        if number in folds:
            axes.annotate(f"{folds.count(number)} of {len(folds)}", (number, top), (0, 5), **ABOVE)
    axes.margins(x=0.08, y=0.12)
    axes.set_xticks(numbers)
    axes.set_xlabel("number of components; above: in how many folds it is chosen")
    axes.set_ylabel("global doppelganger rate")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def draw_histograms(result: Result) -> Figure:
    """Siblings' and strangers' distances of every cluster, with the median sibling, as the paper's Figures 9 and 10."""
    distances = result.loco.distances or {}
    columns = 4
    rows = math.ceil(len(distances) / columns)
    figure = Figure(figsize=(11, 1.6 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (cluster, (siblings, strangers)) in zip(panels, distances.items(), strict=False):
        top = float(np.quantile(np.concatenate([siblings.numpy(), strangers.numpy()]), 0.99))
        edges = np.linspace(0, top, 30)
        for sample, colour, label in ((strangers, COLOURS[2], "strangers"), (siblings, COLOURS[1], "siblings")):
            if len(sample):
                panel.hist(sample.numpy().clip(max=top), edges, density=True, color=colour, alpha=0.5, label=label)
        panel.axvline(result.loco.median_sibling_distance[cluster], color="0.2", ls="--", lw=1)
        rate = result.loco.cluster_rates[cluster]
        panel.set_title(f"{cluster} ({result.loco.members[cluster]}): {rate:.4f}", fontsize=8)
        panel.set_yticks([])
        panel.tick_params(labelsize=7)
    for panel in panels[len(distances) :]:
        panel.set_axis_off()
    panels[0].legend(fontsize=7, frameon=False)
    figure.supxlabel(f"distance, {result.learner} on {result.representation.name.replace('_', ' ')}", fontsize=9)
    return figure


def draw_features(on: Representation, field: Tensor, members: Tensor) -> Figure:
    """The four most important features against [Fe/H], [alpha/Fe] and velocity, as the paper's Figure 3.

    Args:
        on: whose star tables say [Fe/H] and the rest.
        field: (F, D) features of its field stars.
        members: (M, D) features of its members.
    """
    figure = Figure(figsize=(12, 5.5), layout="constrained")
    shown = min(4, field.shape[1])
    panels = figure.subplots(2, shown, squeeze=False)
    for number in range(shown):
        below = "VHELIO_AVG" if number == 3 else "ALPHA_M"
        for panel, label in zip(panels[:, number], ("FE_H", below), strict=True):
            _scatter(panel, on, field[:, number], members[:, number], label)
            panel.set_ylabel(f"feature {number + 1}")
    panels[0, 0].legend(fontsize=8, frameon=False)
    return figure


LABELS = {"FE_H": "[Fe/H]", "ALPHA_M": r"[$\alpha$/M]", "VHELIO_AVG": "heliocentric velocity, km/s"}


def _scatter(panel: Axes, on: Representation, field: Tensor, members: Tensor, label: str) -> None:
    def column(stars: Any) -> np.ndarray:  # noqa: ANN401  (an astropy table)
        return np.asarray(stars[label], dtype=float)

    panel.plot(column(on.field_stars), field.numpy(), ".", ms=2, color="0.6", rasterized=True, label="field")
    panel.plot(column(on.member_stars), members.numpy(), ".", ms=4, color=COLOURS[4], label="cluster members")
    panel.set_xlabel(LABELS[label])
    low, high = np.quantile(np.concatenate([field.numpy(), members.numpy()]), [0.002, 0.998])
    panel.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))  # or a few outliers hide all the others


def draw_weights(weight: Tensor, wavelengths: Tensor) -> Figure:
    """The spectra by which the most important features are weighed, chip by chip.

    Args:
        weight: (K, P), rows ordered by importance.
        wavelengths: (P,) Angstrom.
    """
    shown = min(4, len(weight))
    grid = wavelength()
    figure = Figure(figsize=(13, 1.8 * shown + 0.5), layout="constrained")
    panels = figure.subplots(shown, len(CHIPS), sharey="row", sharex="col", squeeze=False)
    angstrom = wavelengths.numpy()
    for number, row in enumerate(weight[:shown].numpy()):
        for panel, (chip, (first, end)) in zip(panels[number], CHIPS.items(), strict=True):
            on_chip = (angstrom >= grid[first] - 0.01) & (angstrom <= grid[end - 1] + 0.01)
            gaps = np.flatnonzero(np.diff(angstrom[on_chip]) > 1.0) + 1
            x, y = np.insert(angstrom[on_chip], gaps, np.nan), np.insert(row[on_chip], gaps, np.nan)
            panel.plot(x, y, lw=0.5, color=COLOURS[1])
            panel.axhline(0, color="0.8", lw=0.5, zorder=0)
            if number == 0:
                panel.set_title(f"{chip} chip", fontsize=9)
        panels[number, 0].set_ylabel(f"weight of feature {number + 1}", fontsize=8)
    figure.supxlabel("rest wavelength in vacuum, Angstrom", fontsize=9)
    return figure
