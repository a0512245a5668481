"""Results -> JSON, CSV, FITS and a table; reads nothing but a Comparison."""

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
from rich.table import Table as RichTable

from rsca_torch.comparison.comparison import Comparison, Result
from rsca_torch.comparison.finished_run import SCHEMA
from rsca_torch.evaluation.result import LOCOResult

__all__ = ["summary_table", "write_csv", "write_json", "write_set_aside"]


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
    """What step 1 set aside (`set_aside`), as FITS: LIST, a row a bin of a star; STARS and BINS, how many of each."""
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU(aside, name="LIST")]
    for name, column in (("STARS", aside.colnames[0]), ("BINS", "WAVELENGTH")):
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
        "figures_of_merit": _merits(loco),
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


def _merits(loco: LOCOResult) -> dict[str, Any]:
    """Of every figure of merit the mean over clusters weighted by members, as the rate, and each cluster's value."""
    return {
        name: {"value": loco.merit(name), "interval": list(loco.interval(merit=name)), "clusters": values}
        for name, values in loco.merits.items()
    }


def _training(loco: LOCOResult) -> dict[str, Any]:
    """How every fold was trained, without its losses, which are in the logs."""
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
    if compressor.get("remove") is not None:  # of each dimension taken out, what stars of a group had in common
        entry["removed"] = [] if on.removal is None else on.removal.shares.tolist()
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
    table.add_column(f"minus {judged.learner} on {judged.representation.name}", justify="right", no_wrap=True)
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
