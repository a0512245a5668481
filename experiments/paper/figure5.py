"""Figure 5: the more clusters a learner is trained on, the lower the rate. Source: section 4.7 of the paper."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from astropy.table import Table
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import sem

from rsca_torch import InputError, NumericalWarning
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.representation import Representation
from rsca_torch.drawing.style import COLOURS, MARKS, rate_axis, titled
from rsca_torch.evaluation.folds import Task
from rsca_torch.report.reproduction import Reproduced, Value
from rsca_torch.training.members import Members

RESAMPLES = 10_000
DRAW = "n_components training_clusters draw members doppelganger_rate clusters".split()
MEAN = "n_components training_clusters draws left_out doppelganger_rate standard_error spread low high".split()


def reproduce(
    assembly: Assembly, n_components: Sequence[int], training_clusters: Sequence[int], draws: int
) -> Reproduced:
    """Rates of learners that are trained on some of the clusters, the mean over random choices of these.

    As in the authors' program (section 4.7 of the paper): for n training clusters, n + 1 of all clusters are drawn at
    random, and each of them is judged by a learner that is trained on the other n. The rate of a draw is the mean over
    its clusters weighted by members, and the draws are averaged. Every number of components sees the same draws. A draw
    in which a learner cannot be fitted, as where members minus clusters are fewer than components, is left out and
    counted.

    `standard_error` is that of the mean over draws. Draws share clusters, those of 21 in 22 nearly all of them, so it
    says nothing of other clusters: the interval from `low` to `high`, a bootstrap over clusters, does.

    Args:
        assembly: the survey.
        n_components: of step 1.
        training_clusters: n.
        draws: of each n.

    Raises:
        InputError: where the survey has too few clusters, or none of the draws can be done.
    """
    labels, counts = np.unique(assembly.spectra.clusters, return_counts=True)
    names, members = labels[counts > 1], counts[counts > 1]
    if min(training_clusters) < 1 or max(training_clusters) >= len(names):
        raise InputError(
            f"training_clusters from 1 to {len(names) - 1} expected, {len(names)} clusters have two members and one is "
            f"judged; got {', '.join(map(str, training_clusters))}"
        )
    random = np.random.default_rng(assembly.seed)
    drawn = {training: _drawn(len(names), training + 1, draws, random) for training in training_clusters}
    rows, means = [], []
    for number in sorted(n_components, reverse=True):
        judge = Judge(assembly, assembly.compressed(number, among=n_components), names)
        for training, chosen in drawn.items():
            rates = judge(chosen)
            weights = np.where(np.isfinite(rates), members, 0)
            done = weights.any(axis=1)
            if not done.any():
                raise InputError(
                    f"{number} components, {training} training clusters: no draw can be done: {judge.note}"
                )
            of_draws = np.full(draws, np.nan)
            of_draws[done] = (np.nan_to_num(rates) * weights)[done].sum(1) / weights[done].sum(1)
            for place, (draw, rate) in enumerate(zip(chosen, of_draws, strict=True)):
                rows.append((number, training, place, members[draw].sum(), rate, "; ".join(names[draw])))
            interval = _interval(rates[done], weights[done], assembly.seed)
            means.append((number, training, done.sum(), (~done).sum(), *_mean(of_draws[done]), *interval))
    table = Table(rows=means, names=MEAN)
    tables = {"figure5": table, "figure5_draws": Table(rows=rows, names=DRAW)}
    return Reproduced([_value(row) for row in table], finding(table), tables, {"figure5": drawing(table)})


def _drawn(of: int, number: int, draws: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """(draws, of) bool, so many True in each row."""
    return random.permuted(np.tile(np.arange(of) < number, (draws, 1)), axis=1)


class Judge:
    """Judges every cluster of a draw by a learner trained on the others of that draw.

    What a learner needs of the field and which pairs may be compared is worked out once for all draws.

    Attributes:
        note: why some draw could not be done.
    """

    def __init__(self, assembly: Assembly, on: Representation, names: NDArray[np.str_]) -> None:
        self.assembly, self.names, self.note = assembly, names, ""
        seen = on.seen_by(assembly.make_learner)
        self.make_learner, self.field = seen.make_learner, seen.field
        self.members = Members(seen.members, on.clusters, on.allowed(assembly.pairs), seen.roots, seen.noise)
        self.summary: dict[str, Any] = {}

    def __call__(self, draws: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(draws, clusters) rates, NaN where a cluster is not drawn and all over a draw that cannot be done."""
        different, place = np.unique(draws, axis=0, return_inverse=True)
        rates = np.full(different.shape, np.nan)
        for row, draw in enumerate(different):
            try:
                rates[row, draw] = list(self._rates(self.names[draw]))
            except InputError as error:
                self.note = str(error)
        return rates[place]

    def _rates(self, names: NDArray[np.str_]) -> Iterator[float]:
        members = self.members[np.isin(self.members.labels, names)]
        task = Task(self.make_learner, self.field, members, seed=self.assembly.seed, summary=self.summary)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing, once a fold
            for name in names:
                yield task((name,))[0].rate


def _mean(of_draws: NDArray[np.float64]) -> tuple[float, float, float]:
    """The mean, its standard error and the standard deviation."""
    error, spread = (sem(of_draws), of_draws.std(ddof=1)) if len(of_draws) > 1 else (np.nan, np.nan)
    return of_draws.mean(), error, spread


def _interval(rates: NDArray[np.float64], weights: NDArray[np.int64], seed: int) -> tuple[float, float]:
    """68 % interval of the mean over draws (draws, clusters), from a bootstrap over clusters."""
    clusters = rates.shape[1]
    times = np.random.default_rng(seed).multinomial(clusters, np.full(clusters, 1 / clusters), RESAMPLES)
    resampled = times @ (np.nan_to_num(rates) * weights).T / np.maximum(1, times @ weights.T)
    low, high = np.quantile(resampled.mean(1), [0.16, 0.84])
    return low, high


def _value(row: Table.Row) -> Value:
    item = f"training_clusters K={row['n_components']}"
    return Value.of(item, str(row["training_clusters"]), row)


def finding(table: Table) -> str:
    """What becomes of the rate from the fewest to the most training clusters."""
    few, most = (table[table["training_clusters"] == pick(table["training_clusters"])] for pick in (np.min, np.max))
    said = [
        f"{_percent(first)} to {_percent(last)} with {first['n_components']} components"
        for first, last in zip(few, most, strict=True)
    ]
    left_out = int(table["left_out"].sum())
    draws = left_out + int(table["draws"].sum())
    return (
        f"From {few['training_clusters'][0]} to {most['training_clusters'][0]} training clusters the mean rate goes "
        f"from {', '.join(said)} (standard errors of the mean over draws). {left_out} of {draws} draws have too few "
        "members for that many components and are left out."
    )


def _percent(row: Table.Row) -> str:
    return f"{100 * row['doppelganger_rate']:.2f} +- {100 * row['standard_error']:.2f} %"


def drawing(table: Table) -> Figure:
    """A curve for each number of components: standard errors as bars, the spread of draws as bands."""
    figure, body = titled("More clusters to learn from", 6, 4)
    axes = body.subplots()
    for place, number in enumerate(np.unique(table["n_components"])[::-1]):
        own = table[table["n_components"] == number]
        own = own[np.argsort(own["training_clusters"])]
        x, y, error, spread = (
            np.asarray(own[name]) for name in ("training_clusters", "doppelganger_rate", "standard_error", "spread")
        )
        colour = COLOURS[place % len(COLOURS)]
        axes.errorbar(x, y, error, fmt=f"{MARKS[place % len(MARKS)]}-", color=colour, label=f"{number} components")
        axes.fill_between(x, np.maximum(0, y - spread), y + spread, color=colour, alpha=0.15, lw=0)
    axes.set_xticks(np.unique(table["training_clusters"]))
    axes.set_xlabel("number of training clusters (bands: spread of the draws)")
    axes.set_ylim(bottom=0)
    rate_axis(axes.yaxis)
    axes.legend()
    return figure
