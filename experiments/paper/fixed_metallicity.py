"""Beyond the paper: the rate among stars of like metallicity, where it is harder to tell a stranger from a sibling."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from astropy.table import Table
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rsca_torch import InputError, NumericalWarning
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.representation import Representation
from rsca_torch.comparison.training_options import learner_name
from rsca_torch.drawing.style import COLOURS, MARKS, rate_axis, titled
from rsca_torch.evaluation.result import LOCOResult
from rsca_torch.learners import Identity, Scaled
from rsca_torch.report.reproduction import Reproduced, Value

PAIRS = ("all", "like [Fe/H]")
HEAD = "representation learner pairs doppelganger_rate low high clusters number_of_pairs".split()


def reproduce(assembly: Assembly, max_metallicity: float) -> Reproduced:
    """Rates among all pairs that may be compared, and among those of them whose measured [Fe/H] is alike.

    Strangers of another metallicity are easy to tell. What is left is what a learner knows beyond [Fe/H]. Members
    without [Fe/H] take no part in either rate, and strangers without it not in the second.

    Args:
        assembly: the survey.
        max_metallicity: pairs are alike where FE_H differs by less, dex.

    Raises:
        InputError: for a difference that is not positive, or where the survey has no [Fe/H].
    """
    if not max_metallicity > 0:
        raise InputError(f"max_metallicity={max_metallicity} dex must be positive, or no pair is alike")
    unknown = int(np.isnan(assembly.column("FE_H", members=True)).sum())
    makers = {learner_name(make()): make for make in (Identity, Scaled, assembly.make_learner)}
    rows = []
    for on in representations(assembly):
        allowed = on.allowed(assembly.pairs)
        for learner, make in makers.items():
            for pairs, flags in zip(PAIRS, (allowed, allowed & alike(on, max_metallicity)), strict=True):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", NumericalWarning)  # clusters without a pair are counted
                    result = assembly.judged(on, make, allowed=flags)
                rows.append((on.name, learner, pairs, result.rate, *result.interval(), *_counts(result)))
    table = Table(rows=rows, names=HEAD)
    values = [
        Value.of(f"fixed_metallicity {row['representation']}", f"{row['learner']}, {row['pairs']}", row)
        for row in table
    ]
    told = finding(table, max_metallicity, unknown)
    return Reproduced(values, told, {"fixed_metallicity": table}, {"fixed_metallicity": drawing(table)})


def representations(assembly: Assembly) -> Iterator[Representation]:
    """Spectra and abundances of the stars, without the members that lack [Fe/H]."""
    for on in (assembly.spectra, assembly.abundances()):
        known = np.isfinite(np.asarray(on.member_stars["FE_H"], dtype=float))
        rows = torch.from_numpy(known)
        roots = None if on.roots is None else on.roots[rows]
        yield replace(on, members=on.members[rows], member_stars=on.member_stars[known], roots=roots)


def alike(on: Representation, max_metallicity: float) -> NDArray[np.bool_]:
    """(M, F) bool: the pairs whose [Fe/H] differs by less, in dex."""
    member, field = (np.asarray(stars["FE_H"], dtype=float) for stars in (on.member_stars, on.field_stars))
    return np.abs(member[:, None] - field) < max_metallicity


def _counts(result: LOCOResult) -> tuple[int, int]:
    """Clusters with a pair, and pairs."""
    return sum(pairs > 0 for pairs in result.pairs.values()), sum(result.pairs.values())


def finding(table: Table, max_metallicity: float, unknown: int) -> str:
    """How much more alike strangers of like metallicity are, and who tells them best."""
    said = []
    for all_pairs, alike in zip(table[table["pairs"] == PAIRS[0]], table[table["pairs"] == PAIRS[1]], strict=True):
        before, after = (100 * row["doppelganger_rate"] for row in (all_pairs, alike))
        said.append(f"{before:.2f} to {after:.2f} % for {alike['learner']} on {alike['representation']}")
    within = table[table["pairs"] == PAIRS[1]]
    best = within[np.argmin(within["doppelganger_rate"])]
    return (
        f"Among strangers within {max_metallicity} dex of a member in [Fe/H] the rate goes from {', '.join(said)}. "
        f"The lowest is that of {best['learner']} on {best['representation']}. {unknown} members lack [Fe/H] and are "
        "left out."
    )


def drawing(table: Table) -> Figure:
    """Rates of every learner among all pairs and among those of like metallicity, with 68 % intervals."""
    representations = list(dict.fromkeys(table["representation"]))
    figure, body = titled("Strangers of like metallicity", 7.5, 4)
    panels = body.subplots(1, len(representations), sharey=True, squeeze=False)[0]
    for axes, representation in zip(panels, representations, strict=True):
        for side, pairs in enumerate(PAIRS):
            own = table[(table["representation"] == representation) & (table["pairs"] == pairs)]
            place = np.arange(len(own)) + 0.2 * (side - 0.5)
            rates, low, high = (np.asarray(own[name]) for name in ("doppelganger_rate", "low", "high"))
            colour = COLOURS[1 - side]
            errors = np.clip([rates - low, high - rates], 0, None)
            axes.errorbar(place, rates, errors, fmt=MARKS[side], color=colour, label=f"pairs: {pairs} (68 %)")
        axes.set_xticks(range(len(own)), own["learner"])
        axes.set_xlim(-0.5, len(own) - 0.5)
        axes.grid(axis="y")
        axes.set_title(representation)
    panels[0].set_yscale("log")
    rate_axis(panels[0].yaxis)
    panels[0].legend(loc="lower left")
    return figure
