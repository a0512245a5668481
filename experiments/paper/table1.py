"""Table 1: a few of the most important dimensions give as low a rate as all. Source: section 4.6 of the paper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from astropy.table import Table
from matplotlib.figure import Figure

from rsca_torch import InputError
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.drawing.style import COLOURS, rate_axis, titled
from rsca_torch.evaluation.result import paired_difference
from rsca_torch.report.reproduction import Reproduced, Value

HEAD = "dimensions doppelganger_rate low high spread difference difference_low difference_high".split()


def reproduce(assembly: Assembly, dimensions: Sequence[int]) -> Reproduced:
    """Rates with only the N most strongly scaled dimensions of RSCA, section 4.6 of the paper.

    The order is each fold's own, so no held-out cluster has a say in it. The published spread is over ten random starts
    of PPCA. There is one fit here and no chance in it: `spread` and interval are of a bootstrap over clusters. The
    difference is the rate minus that of all dimensions, paired over clusters.

    Args:
        assembly: the survey.
        dimensions: N; those above the number of components are left out.

    Raises:
        InputError: where none is left, or the learner is not RSCA.
    """
    kept = [number for number in sorted(dimensions) if 1 <= number <= assembly.n_components]
    if not kept:
        raise InputError(
            f"dimensions from 1 to {assembly.n_components}, the number of components, expected, got "
            f"{', '.join(map(str, dimensions))}"
        )
    everything = assembly.judged(assembly.spectra)
    rows = []
    for number in kept:
        result = assembly.judged(assembly.spectra, assembly.keeping(number))
        less = paired_difference(result, everything)
        rows.append((number, result.rate, *result.interval(), result.spread(), less.value, less.low, less.high))
    table = Table(rows=rows, names=HEAD)
    values = [Value.of("top_n", str(row["dimensions"]), row) for row in table]
    left_out = sorted(set(dimensions) - set(kept))
    return Reproduced(values, finding(table, left_out, assembly), {"table1": table}, {"table1": drawing(table)})


def finding(table: Table, left_out: Sequence[int], assembly: Assembly) -> str:
    """How much the first dimensions do, and the rows that are lacking."""
    told = ", ".join(f"{100 * row['doppelganger_rate']:.2f} % with {row['dimensions']}" for row in table)
    best = table[np.argmin(table["doppelganger_rate"])]
    lacking = (
        f" Left out, as there are {assembly.n_components} components: {', '.join(map(str, left_out))}."
        if left_out
        else ""
    )
    return (
        f"The rate is {told} of {assembly.n_components} dimensions; it is lowest with {best['dimensions']}. Intervals "
        f"are of a bootstrap over clusters, the published ones over random starts.{lacking}"
    )


def drawing(table: Table) -> Figure:
    """The rate against the number of dimensions, both in logarithms, with 68 % intervals."""
    figure, body = titled("Rate and number of dimensions", 6, 4)
    axes = body.subplots()
    place = np.arange(len(table))
    rate, low, high = (np.asarray(table[name]) for name in ("doppelganger_rate", "low", "high"))
    errors = np.clip([rate - low, high - rate], 0, None)
    axes.errorbar(place, rate, errors, fmt="o", color=COLOURS[1])
    axes.set_yscale("log")
    axes.set_xticks(place, [str(number) for number in table["dimensions"]])
    axes.set_xlabel("most important dimensions kept (bars: 68 %)")
    rate_axis(axes.yaxis)
    axes.grid(axis="y")
    return figure
