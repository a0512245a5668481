"""The paper's headline with the survey's own numbers: spectra against abundances, and how few dimensions suffice.

Source: abstract and sections 4.5 and 4.6 of the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from astropy.table import Table
from matplotlib.figure import Figure

from rsca_torch import InputError
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.drawing.style import COLOURS, rate_axis, titled
from rsca_torch.evaluation.result import LOCOResult, paired_difference
from rsca_torch.report.reproduction import Reproduced, Value, published

ALL, SUBSET = "all dimensions", "abundance subset"
HEAD = "dimensions doppelganger_rate than difference low high significant".split()


def reproduce(assembly: Assembly, dimensions: Sequence[int], level: float) -> Reproduced:
    """The share of pairs as similar as siblings, from spectra and abundances, and how many dimensions that takes.

    N dimensions suffice where their rate is not significantly above that of the other side, paired over clusters. What
    is significant depends on how many clusters there are: with more of them more dimensions may turn out to matter.

    Args:
        assembly: the survey.
        dimensions: N, how many of the most important ones are tried; above the number of components none are.
        level: of the interval of a paired difference, 0 to 1, which lies above 0 where it is significant.

    Raises:
        InputError: for a level out of range, or where the survey has no abundances.
    """
    if not 0 < level < 1:
        raise InputError(f"level={level} must lie between 0 and 1")
    spectra, subset = (assembly.judged(on) for on in (assembly.spectra, assembly.abundances("abundance_subset")))
    tried = {
        number: assembly.judged(assembly.spectra, assembly.keeping(number))
        for number in sorted(dimensions)
        if 1 <= number < assembly.n_components
    }
    tried[assembly.n_components] = spectra
    others = {ALL: spectra, SUBSET: subset}
    table = compared(tried, others, level)
    enough = {than: fewest(table, than) for than in (ALL, SUBSET)}
    values = [
        Value("ablation", "spectra transformed", spectra.rate, *spectra.interval()),
        Value("ablation", "abundance subset transformed", subset.rate, *subset.interval()),
        *(Value("dimensions that suffice", f"as good as {than}", number) for than, number in enough.items()),
    ]
    figures = {"headline": drawing(tried, others)}
    return Reproduced(values, finding(spectra, subset, enough, level), {"headline": table}, figures)


def compared(tried: Mapping[int, LOCOResult], others: Mapping[str, LOCOResult], level: float) -> Table:
    """One row a number of dimensions and other side: the paired difference and its interval of that level."""
    rows = []
    for number, result in tried.items():
        for than, other in others.items():
            less = paired_difference(result, other, level)
            rows.append((number, result.rate, than, less.value, less.low, less.high, less.low > 0))
    return Table(rows=rows, names=HEAD)


def fewest(table: Table, than: str) -> float:
    """The smallest number of dimensions whose rate is not significantly above the other side's; NaN: none."""
    enough = table[(table["than"] == than) & ~table["significant"]]
    return float(enough["dimensions"].min()) if len(enough) else np.nan


def finding(spectra: LOCOResult, subset: LOCOResult, enough: Mapping[str, float], level: float) -> str:
    """The paper's sentence, with what it says."""
    there = published()["value"]
    paper = (
        f"published: {100 * there['ablation', 'spectra transformed', '']:.1f} %, "
        f"{100 * there['top_n', '4', '']:.1f} % with the four most important dimensions, and "
        f"{100 * there['ablation', f'{SUBSET} transformed', '']:.1f} %"
    )
    less = paired_difference(subset, spectra)
    few, match = (f"{number:.0f}" if np.isfinite(number) else "none" for number in enough.values())
    return (
        f"From spectra {_percent(spectra)} of pairs of a member and a field star are as similar as siblings, from the "
        f"abundance subset {_percent(subset)} ({paper}). Abundances minus spectra, cluster by cluster: "
        f"{100 * less.value:+.2f} ({100 * less.low:+.2f} to {100 * less.high:+.2f}) %. The smallest number of "
        f"dimensions whose rate is not significantly above that of all dimensions is {few}, above that of the "
        f"abundances {match} (paired over clusters, {100 * level:g} % intervals)."
    )


def _percent(result: LOCOResult) -> str:
    low, high = result.interval()
    return f"{100 * result.rate:.2f} % ({100 * low:.2f} to {100 * high:.2f})"


def drawing(tried: Mapping[int, LOCOResult], others: Mapping[str, LOCOResult]) -> Figure:
    """The rate of the most important dimensions beside those of all of them and of the abundances, 68 % intervals."""
    figure, body = titled("How many dimensions suffice", 6.5, 4.2)
    axes = body.subplots()
    place = range(len(tried))
    rates = np.array([result.rate for result in tried.values()])
    low, high = np.array([result.interval() for result in tried.values()]).T
    errors, spectra = np.clip([rates - low, high - rates], 0, None), "spectra, the most important dimensions"
    axes.errorbar(place, rates, errors, fmt="o", color=COLOURS[1], label=spectra)
    for (than, other), colour in zip(others.items(), (COLOURS[1], COLOURS[0]), strict=True):
        axes.axhline(other.rate, color=colour, lw=1, ls="--", label=than if than == SUBSET else f"spectra, {than}")
        axes.axhspan(*other.interval(), color=colour, alpha=0.12, lw=0)
    axes.set_yscale("log")
    axes.set_xticks(place, [str(number) for number in tried])
    axes.set_xlabel("most important dimensions kept (bars and bands: 68 %)")
    rate_axis(axes.yaxis)
    axes.legend()
    return figure
