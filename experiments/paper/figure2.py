"""Figure 2: too few components of step 1 lose chemistry, too many learn the training clusters by heart.

The rate against the number of components, with and without cross-validation. Source: section 4.3 of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from astropy.table import Table
from matplotlib.figure import Figure

from rsca_torch.comparison.assembly import Assembly
from rsca_torch.drawing.style import COLOURS, rate_axis, titled
from rsca_torch.report.reproduction import Reproduced, Value

KINDS = {True: "cross-validated", False: "no cross-validation"}


def reproduce(assembly: Assembly, n_components: Sequence[int]) -> Reproduced:
    """Rates with each number of components, judged by learners that saw the cluster and by learners that did not."""
    rows = []
    for number in sorted(n_components, reverse=True):
        on = assembly.compressed(number, among=n_components)
        for held_out, kind in KINDS.items():
            result = assembly.judged(on, held_out=held_out)
            rows.append((number, kind, result.rate, *result.interval()))
    table = Table(rows=rows[::-1], names="n_components kind doppelganger_rate low high".split())
    validated = table[table["kind"] == KINDS[True]]
    best = validated[np.argmin(validated["doppelganger_rate"])]
    largest = validated[np.argmax(validated["n_components"])]
    finding = (
        f"The cross-validated rate is lowest with {best['n_components']} components, "
        f"{100 * best['doppelganger_rate']:.2f} %; with {largest['n_components']} it is "
        f"{100 * largest['doppelganger_rate']:.2f} %. Without cross-validation it looks as if it were "
        f"{100 * table[table['kind'] == KINDS[False]]['doppelganger_rate'].min():.2f} %."
    )
    values = [Value.of(f"pca_dimensions {row['kind']}", str(row["n_components"]), row) for row in table]
    return Reproduced(values, finding, {"figure2": table}, {"figure2": drawing(table)})


def drawing(table: Table) -> Figure:
    """Both curves with their 68 % intervals."""
    figure, body = titled("Rate and number of components", 6, 4)
    axes = body.subplots()
    for kind, colour, marker in zip(KINDS.values(), (COLOURS[1], COLOURS[4]), "os", strict=True):
        own = table[table["kind"] == kind]
        x, y = np.asarray(own["n_components"]), np.asarray(own["doppelganger_rate"])
        errors = np.clip([y - own["low"], own["high"] - y], 0, None)
        axes.errorbar(x, y, errors, fmt=f"{marker}-", color=colour, label=f"{kind} (68 %)")
    axes.set_xlabel("number of PPCA components")
    axes.set_yscale("log")
    rate_axis(axes.yaxis)
    axes.grid(axis="y")
    axes.legend()
    return figure
