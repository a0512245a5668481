"""Figure 3: which labels the most important features follow, and which feature parts the two alpha sequences.

Source: section 4.4 of the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import norm, rankdata, spearmanr

from rsca_torch import InputError
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.drawing.style import titled
from rsca_torch.evaluation.explained_variance import explained_by_groups
from rsca_torch.evaluation.result import LEVEL
from rsca_torch.report.pictures import draw_features
from rsca_torch.report.reproduction import Reproduced, Value

ERRORS = norm.ppf((1 + LEVEL) / 2)  # standard errors on either side in a 68 % interval
BINS = 20  # of equally many stars, for what a label explains
FEWEST = 10  # stars that make a sequence
APART = 2.0  # standard deviations between two that can be told apart (Ashman, Bird & Zepf 1994)
NEAR = 0.15  # of the way between the sequences, on either side of where stars are counted
SHOWN = {"FE_H": "[Fe/H]", "ALPHA_M": r"[$\alpha$/M]", "VHELIO_AVG": "velocity", "AK_TARG": "extinction", "SNR": "S/N"}
CORRELATED = "feature label correlation low high explained stars".split()
PARTED = "feature separation low high valley valley_low valley_high parted".split()


class Sequences(NamedTuple):
    """How a feature parts high-alpha from low-alpha stars of the same [Fe/H]; docs/maths.md, section 10.

    Attributes:
        separation: of the sequences, in standard deviations of the stars about them; positive where high-alpha stars
            have more of the feature.
        low: lower end of its 68 % interval.
        high: upper end.
        valley: stars half-way between the sequences for every one in the middle of the sparser of them.
        valley_low: lower end of its 68 % interval.
        valley_high: upper end.
    """

    separation: float
    low: float
    high: float
    valley: float
    valley_low: float
    valley_high: float

    @property
    def parted(self) -> bool:
        """Whether the sequences are apart, and there are clearly fewer stars between them than on them."""
        return abs(self.separation) > APART and self.valley_high < 1


def reproduce(assembly: Assembly, features: int, labels: Sequence[str], high_alpha: Mapping[str, float]) -> Reproduced:
    """What features have to do with labels, over field stars, and how well they part the alpha sequences.

    A rank correlation sees what rises or falls; a feature can also follow a label along a curve that does neither. So
    the label that a feature follows most is the one that explains most of its variance. Features, with their signs, are
    those of the model that `rsca fit` saves, of all clusters. Section 4.4 of the paper.

    Args:
        assembly: the survey.
        features: how many of the most important ones.
        labels: columns of the star table.
        high_alpha: stars are high-alpha where ALPHA_M > at_solar + slope * FE_H, dex.

    Raises:
        InputError: where the survey lacks a label, FE_H, ALPHA_M or VHELIO_AVG, or the learner is not RSCA.
    """
    columns = {name: assembly.column(name) for name in dict.fromkeys([*labels, "FE_H", "ALPHA_M", "VHELIO_AVG"])}
    field, members = assembly.features()
    sample = field[:, field.var(0) > 0][:, :features].double().numpy()
    rows = [
        (number, name, *associated(feature, columns[name]))
        for number, feature in enumerate(sample.T, 1)
        for name in labels
    ]
    table = Table(rows=rows, names=CORRELATED)
    fe_h, alpha_m = columns["FE_H"], columns["ALPHA_M"]
    known = np.isfinite(fe_h) & np.isfinite(alpha_m)
    high = above(fe_h, alpha_m, **high_alpha)[known]
    members_high = above(assembly.column("FE_H", True), assembly.column("ALPHA_M", True), **high_alpha)
    parts = [sequences(feature[known], fe_h[known], high) for feature in sample.T]
    told = f"{followed(table)} {finding(parts, high, members_high)}"
    tables = {
        "figure3": table,
        "figure3_sequences": Table(rows=[(n, *part, part.parted) for n, part in enumerate(parts, 1)], names=PARTED),
    }
    figures = {"figure3": draw_features(assembly.spectra, field, members), "figure3_correlations": drawing(table)}
    return Reproduced(values_of(table, parts), told, tables, figures)


def associated(feature: NDArray[np.float64], label: NDArray[np.float64]) -> tuple[float, float, float, float, int]:
    """Of the stars that have the label: rank correlation, its 68 % interval, what the label explains, how many.

    Args:
        feature: (F,).
        label: (F,) NaN where it is not known.

    Raises:
        InputError: for too few stars, or where the label is the same for all.
    """
    known = np.isfinite(label)
    if known.sum() < 2 * BINS or np.ptp(label[known]) == 0:
        raise InputError(
            f"{2 * BINS} stars and a label that varies expected, got {known.sum()} stars with "
            f"{len(np.unique(label[known]))} values: take it out of labels"
        )
    feature, label = feature[known], label[known]
    return *rank_correlation(feature, label), explained(feature, label), len(feature)


def rank_correlation(feature: NDArray[np.float64], label: NDArray[np.float64]) -> tuple[float, float, float]:
    """Spearman's, and its 68 % interval by the standard error of Bonett & Wright (2000); docs/maths.md, eq. 10.1."""
    correlation = float(spearmanr(feature, label).statistic)
    error = ERRORS * np.sqrt((1 + correlation**2 / 2) / (len(feature) - 3))
    middle = np.arctanh(correlation)
    return correlation, float(np.tanh(middle - error)), float(np.tanh(middle + error))


def explained(feature: NDArray[np.float64], label: NDArray[np.float64]) -> float:
    """Share of a feature's variance that goes with a label, on a curve of whatever shape; docs/maths.md, eq. 10.2."""
    place = (np.ceil(rankdata(label)).astype(int) - 1) * BINS // len(label)
    return float(explained_by_groups(feature[:, None], place)[0])


def above(fe_h: NDArray[np.float64], alpha_m: NDArray[np.float64], at_solar: float, slope: float) -> NDArray[np.bool_]:
    """Which stars are high-alpha; one whose abundances are not known is not."""
    return alpha_m > at_solar + slope * fe_h


def sequences(feature: NDArray[np.float64], fe_h: NDArray[np.float64], high: NDArray[np.bool_]) -> Sequences:
    """Of n stars, eqs. 10.3 to 10.5 of docs/maths.md; NaN where one of the sequences has hardly a star."""
    number = np.array([(~high).sum(), high.sum()])
    if number.min() < FEWEST:
        return Sequences(*[np.nan] * 6)
    parts = np.stack([np.ones_like(fe_h), fe_h, fe_h**2, high], axis=1)
    weight, *_ = np.linalg.lstsq(parts, feature)
    apart = weight[3]
    scatter = np.sqrt(np.square(feature - parts @ weight).sum() / (len(feature) - 4))
    separation = apart / scatter
    error = ERRORS * np.sqrt((1 / number).sum() + separation**2 / (2 * number.sum()))
    way = (feature - parts[:, :3] @ weight[:3]) / apart  # 0 on the low-alpha sequence, 1 on the high-alpha one
    low, between, up = ((np.abs(way - place) < NEAR).sum() + 0.5 for place in (0, 0.5, 1))
    peak = min(low, up)
    factor = np.exp(ERRORS * np.sqrt(1 / between + 1 / peak))
    valley = between / peak
    return Sequences(separation, separation - error, separation + error, valley, valley / factor, valley * factor)


def values_of(table: Table, parts: Sequence[Sequences]) -> list[Value]:
    """The label that each feature follows most, and how it parts the sequences."""
    values = []
    for number, part in enumerate(parts, 1):
        row = strongest(table, number)
        names = ("correlation", "low", "high")
        values.append(Value.of("features follow", f"feature {number}: {row['label']}", row, names))
        if np.isfinite(part.separation):
            values.append(Value("alpha sequences separation", f"feature {number}", *part[:3]))
            values.append(Value("alpha sequences valley", f"feature {number}", *part[3:]))
    return values


def strongest(table: Table, number: int) -> Table.Row:
    """The label that explains most of the feature of that number."""
    own = table[table["feature"] == number]
    return own[np.argmax(own["explained"])]


def followed(table: Table) -> str:
    """For each feature its label."""
    rows = [strongest(table, number) for number in np.unique(table["feature"])]
    told = ", ".join(
        f"{row['feature']} {row['label']} ({100 * row['explained']:.0f} %, {row['correlation']:+.2f})" for row in rows
    )
    return f"Labels that features follow most, with the variance that they explain and Spearman's correlation: {told}."


def finding(parts: Sequence[Sequences], high: NDArray[np.bool_], members_high: NDArray[np.bool_]) -> str:
    """Where the alpha sequences are."""
    there = {number: part for number, part in enumerate(parts, 1) if part.parted}
    counts = (f"{flags.sum()} of {len(flags)}" for flags in (high, members_high))
    stars = "{} field stars and {} members are high-alpha".format(*counts)
    if not there:
        return f"No feature shows two alpha sequences; {stars}."
    best = max(there, key=lambda number: abs(there[number].separation))
    others = [str(number) for number in there if number != best]
    also = f", and also in {' and '.join(others)}" if others else ""
    return (
        f"The alpha sequences appear in feature {best}{also}: at the same [Fe/H] {abs(there[best].separation):.1f} "
        f"standard deviations apart in feature {best}, with {there[best].valley:.2f} stars half-way between them for "
        f"every one in the middle of the sparser; {stars}."
    )


def drawing(table: Table) -> Figure:
    """Every correlation and every share of variance, as a number and a colour."""
    labels, numbers = list(dict.fromkeys(table["label"])), np.unique(table["feature"])
    figure, body = titled("What the features follow", 1.4 * len(labels) + 2, 0.5 * len(numbers) + 1.6)
    panels = body.subplots(1, 2, sharey=True)
    shown = (
        ("correlation", "Spearman's rank correlation", "RdBu_r", -1, "+"),
        ("explained", "share of variance explained", "Blues", 0, ""),
    )
    for axes, (name, title, colours, least, sign) in zip(panels, shown, strict=True):
        cells = np.asarray(table[name]).reshape(len(numbers), len(labels))
        image = axes.imshow(cells, cmap=colours, vmin=least, vmax=1, aspect="auto")
        for (row, column), cell in np.ndenumerate(cells):
            colour = "white" if abs(cell) > 0.6 else "black"
            axes.text(column, row, f"{cell:{sign}.2f}", ha="center", va="center", fontsize=10, color=colour)
        axes.set_xticks(range(len(labels)), [SHOWN.get(label, label) for label in labels], rotation=35, ha="right")
        axes.set_title(title)
        body.colorbar(image, ax=axes)
    panels[0].set_yticks(range(len(numbers)), [f"feature {number}" for number in numbers])
    return figure
