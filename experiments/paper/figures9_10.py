"""Figures 9 and 10: distances of siblings and of strangers, cluster by cluster. Source: Appendix E of the paper."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np
from astropy.table import Table

from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.comparison import Result
from rsca_torch.evaluation.result import paired_difference
from rsca_torch.report.pictures import draw_histograms
from rsca_torch.report.reproduction import Reproduced, Value, published

ITEM = "per_cluster"
HEAD = "setting cluster members pairs median_sibling_distance doppelganger_rate".split()


def reproduce(assembly: Assembly) -> Reproduced:
    """The rate of every cluster from spectra and from the abundance subset, and all distances that it is made of.

    Clusters that have no rate, as no stranger may be compared or their members lack abundances, are in the table with
    NaN and are named.

    Raises:
        InputError: where the survey has no abundances.
    """
    results = list(judged(assembly))
    names = sorted({*results[0].loco.members, *results[1].loco.members})
    table = Table(rows=[row for result in results for row in rows_of(result, names)], names=HEAD)
    values = [
        Value(ITEM, str(row["setting"]), float(row["doppelganger_rate"]), cluster=str(row["cluster"]))
        for row in table
        if np.isfinite(row["doppelganger_rate"])
    ]
    values += [
        Value(f"{ITEM} mean", setting_of(result), result.loco.rate, *result.loco.interval()) for result in results
    ]
    half = math.ceil(len(names) / 2)
    figures = {
        figure: draw_histograms(results, part)
        for figure, part in (("figure9", names[:half]), ("figure10", names[half:]))
        if part
    }
    return Reproduced(values, finding(results, table), {"figures9_10": table}, figures)


def judged(assembly: Assembly) -> Iterator[Result]:
    """By the configured learner, on spectra and on the abundance subset."""
    for on in (assembly.spectra, assembly.abundances("abundance_subset")):
        started = time.perf_counter()
        loco = assembly.judged(on, keep_distances=True)
        yield Result(on, assembly.learner, loco, time.perf_counter() - started)


def setting_of(result: Result) -> str:
    """As published.csv has it."""
    return result.representation.name.replace("_", " ")


def rows_of(result: Result, names: list[str]) -> Iterator[tuple[str, str, int, int, float, float]]:
    """One row a cluster."""
    loco = result.loco
    for name in names:
        numbers = (loco.median_sibling_distance.get(name, np.nan), loco.cluster_rates.get(name, np.nan))
        yield setting_of(result), name, loco.members.get(name, 0), loco.pairs.get(name, 0), *numbers


def published_mean(setting: str) -> float:
    """The mean of the published rates of clusters, weighted by their members."""
    there = published().loc[ITEM, setting]
    return float(np.average(there["value"], weights=there["members"]))


def finding(results: list[Result], table: Table) -> str:
    """The weighted means beside those of the published rates, and which clusters have none."""
    told = []
    for result in results:
        setting = setting_of(result)
        there = f"published: {100 * published_mean(setting):.2f} %"
        told.append(f"{100 * result.loco.rate:.2f} % from {setting} ({there})")
    less = paired_difference(results[1].loco, results[0].loco)
    rates = [result.loco.cluster_rates for result in results]
    both = [(rates[0][name], rates[1][name]) for name in rates[0].keys() & rates[1].keys()]
    lower, higher = sum(a < b for a, b in both), sum(a > b for a, b in both)
    lacking = table[~np.isfinite(table["doppelganger_rate"])]
    without = [f"{row['cluster']} ({row['setting']})" for row in lacking]
    none = f" Without a rate: {', '.join(without)}." if without else ""
    return (
        f"The mean over clusters, weighted by members, is {' and '.join(told)}; the difference is "
        f"{100 * less.value:+.2f} ({100 * less.low:+.2f} to {100 * less.high:+.2f}) %. Of {len(both)} clusters "
        f"spectra have the lower rate in {lower} and the higher in {higher}.{none}"
    )
