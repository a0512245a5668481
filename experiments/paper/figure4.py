"""Figure 4: spectra tell siblings from strangers better than abundances do, and RSCA better than raw distances.

Rates on spectra, all abundances and a subset: raw, scaled and transformed by RSCA. Source: section 4.5 of the paper.
"""

from __future__ import annotations

import numpy as np
from astropy.table import Table

from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.comparison import Comparison, compare
from rsca_torch.learners import Identity, Scaled
from rsca_torch.report.pictures import draw_rates
from rsca_torch.report.reproduction import Reproduced, Value

NAMES = {"spectra": "spectra", "abundances": "all abundances", "abundance_subset": "abundance subset"}
KINDS = "transformed", "raw", "scaled"
DIFFERENCE = "difference difference_low difference_high".split()
HEAD = [*"representation kind doppelganger_rate low high".split(), *DIFFERENCE, "clusters", "stars"]


def reproduce(assembly: Assembly) -> Reproduced:
    """Rates on every representation, and each minus that of transformed spectra, paired over clusters.

    "Transformed" is by the configured learner, RSCA as a rule; section 4.5 and Figure 4 of the paper.

    Raises:
        InputError: where the survey has no abundances.
    """
    others = [assembly.abundances(name) for name in list(NAMES)[1:]]
    comparison = compare(
        [assembly.spectra, *others], [assembly.make_learner, Identity, Scaled], assembly.pairs, assembly.seed
    )
    table = rates_of(comparison)
    values = [Value.of("ablation", f"{row['representation']} {row['kind']}", row) for row in table]
    values += [
        Value.of("ablation minus spectra transformed", f"{row['representation']} {row['kind']}", row, DIFFERENCE)
        for row in table
        if np.isfinite(row["difference"])
    ]
    return Reproduced(values, finding(table), {"figure4": table}, {"figure4": draw_rates(comparison)})


def rates_of(comparison: Comparison) -> Table:
    """One row a representation and kind."""
    rows = []
    held_out = [result for result in comparison.results if result.loco.held_out]
    for place, result in enumerate(held_out):
        less = comparison.difference(result)
        difference = (np.nan,) * 3 if less is None else (less.value, less.low, less.high)
        counts = len(result.loco.members), sum(result.loco.members.values())
        name, kind = NAMES[result.representation.name], KINDS[place % len(KINDS)]
        rows.append((name, kind, result.loco.rate, *result.loco.interval(), *difference, *counts))
    return Table(rows=rows, names=HEAD)


def finding(table: Table) -> str:
    """What each representation comes to, and how far it is from transformed spectra."""
    rates = {(row["representation"], row["kind"]): row for row in table}
    told = [
        f"{name} " + ", ".join(f"{100 * rates[name, kind]['doppelganger_rate']:.2f} % {kind}" for kind in KINDS)
        for name in NAMES.values()
    ]
    others = [row for row in table if np.isfinite(row["difference"])]
    worse, better = (
        [f"{row['representation']} {row['kind']}" for row in others if clear(row)]
        for clear in (lambda row: row["difference_low"] > 0, lambda row: row["difference_high"] < 0)
    )
    return (
        f"Rates: {'; '.join(told)}. Cluster by cluster {len(worse)} of the {len(others)} others have a higher rate "
        f"than transformed spectra, the 68 % interval of the difference being above 0, and {len(better)} a lower one"
        f"{': ' + ', '.join(better) if better else ''}."
    )
