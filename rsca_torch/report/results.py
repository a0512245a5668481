"""Results -> JSON, CSV and a table; reads nothing but a Comparison."""

from __future__ import annotations

import csv
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable

from rsca_torch.comparison.comparison import Comparison, Result
from rsca_torch.comparison.finished_run import SCHEMA
from rsca_torch.evaluation.calibration import Calibrated
from rsca_torch.evaluation.folds import ALIKE
from rsca_torch.evaluation.result import LOCOResult, exact_limits
from rsca_torch.files.whole import write_json
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.report.terminal import percent, plain_table

__all__ = ["differences", "merits_table", "summary_table", "versions", "write_csv", "write_merits", "write_results"]

CSV_COLUMNS = (
    "representation learner held_out cluster members pairs doppelganger_rate low high median_sibling_distance".split()
)
MERIT_COLUMNS = (
    "representation learner held_out figure value low high difference difference_low difference_high".split()
)


def write_results(
    path: Path,
    comparison: Comparison,
    store: Mapping[str, Any],
    seed: int,
    config: Mapping[str, Any],
    further: Mapping[str, Any] | None = None,
) -> None:
    """results.json, schema 1: provenance and every rate; NaN (a cluster with no allowed pair) as null.

    Args:
        path: of the file.
        comparison: what was found.
        store: where the stars are from.
        seed: of what was drawn.
        config: the options.
        further: what else is to be told.
    """
    content = {
        "schema": SCHEMA,
        "store": dict(store),
        "seed": seed,
        "versions": versions(),
        "config": dict(config),
        "results": [_result(result, config["compressor"], _priors(config)) for result in comparison.results],
        "differences": differences(comparison),
        **(further or {}),
    }
    write_json(path, content)


def versions() -> dict[str, str]:
    """What made the numbers."""
    packages = {name: version(name) for name in ("rsca_torch", "torch", "numpy", "astropy")}
    return packages | {"python": platform.python_version()}


def differences(comparison: Comparison) -> list[dict[str, Any]]:
    """Of each result its rate and figures of merit minus the first one's, as results.json has them."""
    return [
        {
            "representation": result.representation.name,
            "learner": result.learner,
            "difference": difference.value,
            "interval": [difference.low, difference.high],
            "figures_of_merit": {
                name: {"difference": each.value, "interval": [each.low, each.high]}
                for name in result.loco.merits
                if (each := comparison.difference(result, name)) is not None
            },
        }
        for result in comparison.results
        if (difference := comparison.difference(result)) is not None
    ]


def _result(result: Result, compressor: Mapping[str, Any], priors: Sequence[float]) -> dict[str, Any]:
    on, loco = result.representation, result.loco
    return {
        "representation": on.name,
        "compressor": _step_1(result, compressor) if on.ppcas else None,
        "learner": result.learner,
        "held_out": loco.held_out,
        "floor": loco.floor,
        "doppelganger_rate": loco.rate,
        "interval": list(loco.interval()),
        "figures_of_merit": _merits(loco),
        **({"calibration": _calibration(loco.calibrated, priors)} if loco.calibrated else {}),
        "seconds": round(result.seconds, 3),
        **({"training": _training(loco)} if loco.trained else {}),
        "pairs": sum(loco.pairs.values()),
        "clusters": [
            {
                **each,
                **_limit(each),
                "stars": list(loco.stars.get(each["cluster"], ())),
            }
            for each in _clusters(loco)
        ],
    }


def _clusters(loco: LOCOResult) -> list[dict[str, Any]]:
    return [
        {
            "cluster": cluster,
            "members": loco.members[cluster],
            "pairs": loco.pairs[cluster],
            "doppelganger_rate": rate,
            "median_sibling_distance": loco.median_sibling_distance[cluster],
        }
        for cluster, rate in loco.cluster_rates.items()
    ]


def _limit(cluster: Mapping[str, Any]) -> dict[str, float]:
    """What its pairs allow a rate of 0 or 1 to be."""
    rate = cluster["doppelganger_rate"]
    limits = exact_limits(rate, cluster["pairs"])
    return {} if limits is None else {"lower_limit": limits[0]} if rate else {"upper_limit": limits[1]}


def _merits(loco: LOCOResult) -> dict[str, Any]:
    """Of every figure of merit the mean over clusters weighted by members, as the rate, and each cluster's value."""
    return {
        name: {"value": loco.merit(name), "interval": list(loco.interval(merit=name)), "clusters": values}
        for name, values in loco.merits.items()
    }


def _priors(config: Mapping[str, Any]) -> tuple[float, ...]:
    return tuple((config.get("calibration") or {}).get("priors", ()))


def _calibration(told: Calibrated, priors: Sequence[float]) -> dict[str, Any]:
    """The map for new stars, those of the judged clusters, and how far probabilities came true at every prior."""
    low, high = told.of_all.bounds
    return {
        **vars(told.of_all),
        "bounds": [low, high],
        "minimum_cllr": told.minimum(),
        "without": {cluster: [each.slope, each.offset] for cluster, each in told.by_cluster.items()},
        "priors": [
            {
                "prior": prior,
                "expected_calibration_error": told.expected_error(prior),
                "reliability": [each._asdict() for each in told.reliability(prior)],
            }
            for prior in priors
        ],
    }


def _training(loco: LOCOResult) -> dict[str, Any]:
    """How every fold was trained, without its losses, which are in the logs."""
    told = ("epochs", "best", "effective_rank", "variance", "stopped")
    return {cluster: {name: getattr(trained, name) for name in told} for cluster, trained in loco.trained.items()}


def _fit(ppca: MaskedPPCA) -> dict[str, Any]:
    last = ppca.history[-1]
    return {"iterations": len(ppca.history), "converged": ppca.converged, "log_likelihood_per_bin": last}


def _step_1(result: Result, compressor: Mapping[str, Any]) -> dict[str, Any]:
    """How step 1 was set, how its fit ended (of several models, of each) and how n_components=auto was chosen."""
    on = result.representation
    models = [{"n_components": ppca.n_components, **_fit(ppca)} for ppca in on.ppcas]
    fitted = _fit(on.ppca) if on.ppca else {"models": models}
    entry = {**compressor, **fitted, "seconds": round(on.seconds, 3)}
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


def write_csv(path: Path, comparison: Comparison) -> None:
    """One row a cluster of every result, and one row `(all)` with the global rate and its 68 % interval.

    A cluster has an interval where its rate is 0 or 1: what its number of pairs allows.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, CSV_COLUMNS)
        rows.writeheader()
        for result in comparison.results:
            loco = result.loco
            start = {"representation": result.representation.name, "learner": result.learner, "held_out": loco.held_out}
            total = {name: sum(getattr(loco, name).values()) for name in ("members", "pairs")}
            ends = dict(zip(("low", "high"), loco.interval(), strict=True))
            rows.writerow({**start, "cluster": "(all)", **total, "doppelganger_rate": loco.rate, **ends})
            for cluster in _clusters(loco):
                limits = exact_limits(cluster["doppelganger_rate"], cluster["pairs"]) or ()
                rows.writerow({**start, **cluster, **dict(zip(("low", "high"), limits, strict=False))})


def write_merits(path: Path, comparison: Comparison) -> None:
    """One row a figure of merit of every result: its mean over clusters, and minus the judged learner's on spectra."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(MERIT_COLUMNS)
        for result in comparison.results:
            loco = result.loco
            for name in loco.merits:
                each = comparison.difference(result, name)
                ends = () if each is None else (each.value, each.low, each.high)
                start = (result.representation.name, result.learner, loco.held_out, name)
                rows.writerow([*start, loco.merit(name), *loco.interval(merit=name), *ends])


def merits_table(
    comparison: Comparison, alike: Mapping[str, Any] | None, priors: Sequence[float], also: Sequence[str] = ()
) -> RichTable | None:
    """The further figures of merit of the learners on the first representation; None where there is none.

    Args:
        comparison: of the learners.
        alike: `column` and `within`, as in conf/compare.yaml.
        priors: at which it is told how far probabilities came true.
        also: further representations that are in it.
    """
    judged = comparison.results[0]
    first = judged.representation.name
    shown = [each for each in comparison.results if each.representation.name in (first, *also) and each.loco.held_out]
    names = list(judged.loco.merits)
    if not names:
        return None
    lines = [
        f"Further figures on {judged.representation.name}: shares, and bits (cllr); lower is better",
        "in brackets: 68 % interval",
    ]
    if len(shown) > 1:
        lines[-1] += f"; *: differs from {judged.learner}'s (68 %, paired)"
    if alike is not None and any(name.endswith(ALIKE) for name in names):
        lines += [f"alike: strangers whose {alike['column']} differs by less than {alike['within']}"]
    told = judged.loco.calibrated
    if told is not None:
        errors = ", ".join(f"{told.expected_error(prior):.2g} at prior {prior:g}" for prior in priors)
        lines += [f"cllr of the best monotone map: {told.minimum():.3f}"]
        lines += [f"calibration error: {errors}"] if errors else []
    heads = [each.learner for each in shown]
    if any(each.representation.name != first for each in shown):
        lines[0] = lines[0].replace(f" on {first}:", ":")
        heads = [f"{each.learner} on {each.representation.name.replace('_', ' ')}" for each in shown]
    table = plain_table(("figure",), tuple(heads), title="\n".join(lines))
    for name in names:
        table.add_row(name.replace("_", " "), *(_merit_cell(comparison, each, name) for each in shown))
    return table


def _merit_cell(comparison: Comparison, result: Result, name: str) -> str:
    if name not in result.loco.merits:
        return ""
    value = f"{result.loco.merit(name):.3g}"
    if result is comparison.results[0]:
        low, high = result.loco.interval(merit=name)
        return f"{value} ({low:.2g}-{high:.2g})"
    difference = comparison.difference(result, name)
    return value + ("*" if difference is not None and difference.excludes_zero else " ")


def summary_table(comparison: Comparison) -> RichTable:
    """The rates with their intervals, and how much higher each is than the judged learner's on spectra."""
    judged = comparison.results[0]
    minus = f"minus {judged.learner} on {judged.representation.name}"
    title = "Doppelganger rate in %, lower is better; 68 %: bootstrap over clusters"
    for rate, said in {0: "0, up", 1: "100, down"}.items():
        if any(result.loco.rate == rate for result in comparison.results):
            title += f"\nwhere the rate is {said} to what its pairs allow"
    table = plain_table(("representation", "learner"), ("pairs", "rate", "68 %", minus), title=title)
    for result in comparison.results:
        low, high = result.loco.interval()
        row = [result.representation.name.replace("_", " "), result.learner]
        row += [f"{sum(result.loco.pairs.values()):,}", percent(result.loco.rate), f"{percent(low)}-{percent(high)}"]
        if not result.loco.held_out:
            row[1] += " in-sample"
        elif (d := comparison.difference(result)) is not None:
            row.append(f"{percent(d.value, '+')} ({percent(d.low, '+')},{percent(d.high, '+')})")
        table.add_row(*row)
    return table
