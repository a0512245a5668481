"""Beyond the paper: how wrong members in the list raise the rate, with spreads by MAD and by standard deviation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from astropy.table import Table
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import sem

from rsca_torch import InputError, NumericalWarning
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.representation import Representation
from rsca_torch.comparison.teachers import MakeLearner
from rsca_torch.drawing.style import COLOURS, MARKS, rate_axis, titled
from rsca_torch.evaluation.folds import Task
from rsca_torch.evaluation.result import LOCOResult
from rsca_torch.learners import Learner, ScaledComponents
from rsca_torch.report.reproduction import Reproduced, Value
from rsca_torch.training.members import Members

SPREADS = {"MAD": partial(ScaledComponents, robust=True), "standard deviation": partial(ScaledComponents, robust=False)}
MISTAKES = FIELD, SHUFFLED = "field", "shuffled"
TITLES = {FIELD: "field stars in their place", SHUFFLED: "labels shuffled"}
DRAW = "mistake share wrong spread draw doppelganger_rate".split()
MEAN = "mistake share wrong spread doppelganger_rate low high standard_error".split()


def reproduce(assembly: Assembly, shares: Sequence[float], mistakes: Sequence[str], draws: int) -> Reproduced:
    """Rates of the true clusters, by learners that are trained on clusters some of whose members are wrong.

    A true cluster is judged by a learner that saw none of its stars, whatever their labels. Wrong members, the same for
    both kinds of spread, are drawn at random among all; a larger share holds those of a smaller one.

    Args:
        assembly: the survey.
        shares: of the members that are wrong, 0 to 1.
        mistakes: "field": in the place of a wrong member is a star of the field. "shuffled": wrong members have each
            other's labels, a few by chance their own.
        draws: of wrong members, for each share but 0.

    Raises:
        InputError: for a share or a mistake that cannot be.
    """
    if not all(0 <= share <= 1 for share in shares) or not set(mistakes) <= set(MISTAKES):
        raise InputError(
            f"shares from 0 to 1 and mistakes among {', '.join(MISTAKES)} expected, got "
            f"{', '.join(map(str, [*shares, *mistakes]))}"
        )
    on, summary = assembly.spectra, {}
    rows, means = [], []
    for mistake in mistakes:
        for share in shares:
            wrong = round(share * len(on.members))
            believed = [
                believed_members(on, mistake, wrong, (assembly.seed, draw)) for draw in range(draws if wrong else 1)
            ]
            for spread, make_learner in SPREADS.items():
                results = [judged(assembly, on, make_learner, members, summary) for members in believed]
                rates = [result.rate for result in results]
                rows += [(mistake, share, wrong, spread, draw, rate) for draw, rate in enumerate(rates)]
                error = sem(rates) if len(rates) > 1 else 0.0
                means.append((mistake, share, wrong, spread, np.mean(rates), *mean_of(results).interval(), error))
    of_draws, table = Table(rows=rows, names=DRAW), Table(rows=means, names=MEAN)
    values = [
        Value.of(f"memberships {row['mistake']}", f"{row['spread']}, {row['share']:.0%} wrong", row) for row in table
    ]
    tables = {"memberships": table, "memberships_draws": of_draws}
    return Reproduced(values, finding(table, of_draws), tables, {"memberships": drawing(table)})


@dataclass
class Mistaken(Task):
    """A fold whose learner is trained on what is believed of the members, and which judges by what is true.

    Attributes:
        believed: members in the places of the true ones.
    """

    believed: Members | None = None

    def fitted(self, chosen: NDArray[np.bool_], name: str) -> tuple[Learner, str]:
        """Trained on what is believed to be in the chosen places."""
        assert self.believed is not None
        task = Task(self.make_learner, self.field, self.believed, seed=self.seed, summary=self.summary)
        return task.fitted(chosen, name)


def believed_members(on: Representation, mistake: str, wrong: int, seed: tuple[int, int]) -> Members:
    """The members (M, K) and their M labels, some of them wrong."""
    random = np.random.default_rng(seed)
    z, labels = on.members.double().clone(), on.clusters.copy()
    places = random.permutation(len(labels))[:wrong]
    if mistake == FIELD:
        in_their_place = random.permutation(len(on.field))[:wrong]
        z[torch.from_numpy(places)] = on.field[torch.from_numpy(in_their_place)].double()
    else:
        labels[places] = labels[random.permutation(places)]
    return Members(z, labels)


def judged(
    assembly: Assembly, on: Representation, make_learner: MakeLearner, believed: Members, summary: dict[str, Any]
) -> LOCOResult:
    """Rates of the true clusters; `summary` is of the field, the same for all draws."""
    members = Members(on.members.double(), on.clusters, on.allowed(assembly.pairs))
    names, sizes = np.unique(on.clusters, return_counts=True)
    names, sizes = names[sizes > 1], sizes[sizes > 1]
    several = np.isin(on.clusters, names)
    task = Mistaken(
        make_learner,
        on.field.double(),
        members[several],
        seed=assembly.seed,
        summary=summary,
        believed=believed[several],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing, once a fold
        folds = {str(name): task((name,))[0] for name in names}
    return LOCOResult(
        {name: fold.rate for name, fold in folds.items()},
        {name: fold.members for name, fold in folds.items()},
        {name: fold.pairs for name, fold in folds.items()},
        {name: fold.median_sibling_distance for name, fold in folds.items()},
    )


def mean_of(results: Sequence[LOCOResult]) -> LOCOResult:
    """Each cluster's mean rate over draws."""
    rates = {name: float(np.mean([one.cluster_rates[name] for one in results])) for name in results[0].cluster_rates}
    return replace(results[0], cluster_rates=rates)


def finding(table: Table, of_draws: Table) -> str:
    """The rates with fewest and most mistakes, and how much higher those by standard deviation are, draw by draw."""
    said = {}
    for mistake in dict.fromkeys(table["mistake"]):
        own, draws = (each[each["mistake"] == mistake] for each in (table, of_draws))
        for share in (own["share"].min(), own["share"].max()):
            robust, usual = (
                100 * np.asarray(draws["doppelganger_rate"][(draws["share"] == share) & (draws["spread"] == spread)])
                for spread in SPREADS
            )
            more = usual - robust
            error = f" +- {sem(more):.2f}" if len(more) > 1 else ""
            kind = f" ({TITLES[mistake]})" if share else ""
            said[f"with {100 * share:.0f} % of the members wrong{kind}"] = (
                f"{robust.mean():.2f} % by MAD and {usual.mean():.2f} % by standard deviation "
                f"({more.mean():+.2f}{error})"
            )
    return f"The rate of the true clusters is {'; '.join(f'{rates} {when}' for when, rates in said.items())}."


def drawing(table: Table) -> Figure:
    """A curve for each kind of spread, with standard errors of the mean over draws."""
    mistakes = list(dict.fromkeys(table["mistake"]))
    figure, body = titled("When listed members are none", 3.9 * len(mistakes) + 0.5, 3.9)
    panels = body.subplots(1, len(mistakes), sharey=True, squeeze=False)[0]
    for axes, mistake in zip(panels, mistakes, strict=True):
        for place, spread in enumerate(SPREADS):
            own = table[(table["mistake"] == mistake) & (table["spread"] == spread)]
            x, y, error = (np.asarray(own[name]) for name in ("share", "doppelganger_rate", "standard_error"))
            axes.errorbar(100 * x, y, error, fmt=f"{MARKS[place]}-", color=COLOURS[place], label=spread)
        axes.set_xlabel("wrong members, %")
        axes.set_title(TITLES[mistake])
        axes.set_ylim(bottom=0)
    rate_axis(panels[0].yaxis, "rate of the true clusters")
    panels[0].legend(title="spread by (bars: standard error)")
    return figure
