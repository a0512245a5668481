"""Beyond the paper: what the embedding tells of temperature, velocity, fibre and the like, which are not chemistry."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from astropy.table import Table
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rsca_torch import InputError, NumericalWarning
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.drawing.style import COLOURS, titled
from rsca_torch.evaluation.explained_variance import RESAMPLES, Explained, explained, predicted
from rsca_torch.learners.groups import Groups
from rsca_torch.report.reproduction import Reproduced, Value
from rsca_torch.survey.visits import visits_of

SOURCES = EMBEDDING, DISTANCES, ABUNDANCES, BEYOND = "embedding", "distances", "abundances", "beyond abundances"
SQUARES = "beyond, with squares"
KINDS = CHEMISTRY, NUISANCE = "chemistry", "nuisance"
NIGHT, DATE, OFF_CENTRE = "first night", "first date", "fibre off centre"
MIDDLE = 150.5  # of the 300 fibres
SHOWN = {
    "TEFF": "temperature",
    "LOGG": "gravity",
    "VHELIO_AVG": "velocity",
    "AK_TARG": "extinction",
    "SNR": "S/N",
    "MEANFIB": "fibre",
    "ALPHA_M": r"[$\alpha$/M]",
}


def reproduce(
    assembly: Assembly, chemistry: Sequence[str], nuisances: Sequence[str], folds: int, tolerated: float
) -> Reproduced:
    """R^2 of linear probes from the embedding of field stars to their labels, on stars that no probe was fitted on.

    Four numbers for a label:

    - embedding: what any linear reading finds; a dimension that weighs little counts as much as any other.
    - distances: what is found where differences smaller than those between siblings are noise, by a ridge whose
      penalty is the scatter of siblings. This is what Euclidean distances see.
    - abundances: what the survey's own abundances tell. Stars of another composition are on another giant branch, and
      the catalogue has trends of its own.
    - beyond abundances: the share of what the abundances leave open that the embedding adds, as distances see it. Where
      the lower end of its interval is above `tolerated`, the embedding leaks. Abundances have errors, so that a part
      of it may still be composition.

    - beyond, with squares: the same with the square of every feature beside it. It sees what moves no star one way but
      spreads some wider: S/N, say. Its verdict stands beside that of the linear probe, and the table leaks_spread has
      the spread by S/N.

    Nights have no order. In place of R^2 stands the share of the variance that stars of the same first night have in
    common (intraclass correlation): of the embedding, of the abundances, and of what these leave of the embedding.

    Args:
        assembly: the survey.
        chemistry: columns that the embedding should tell.
        nuisances: columns that it should not. MEANFIB is also looked at as distance from the middle of the fibres,
            VISITS as the night and the date of the first one. What the store lacks is named and left out.
        folds: of the cross-validation over stars.
        tolerated: R^2.

    Raises:
        InputError: where the survey has no abundances, or none of the columns.
    """
    labels, nights, lacking = labels_of(assembly, [*chemistry, *nuisances])
    known, abundances = known_abundances(assembly)
    field, scatter = embedded(assembly)
    field, fold = field[known], np.random.default_rng(assembly.seed).integers(folds, size=len(abundances))
    told: dict[tuple[str, str], dict[str, Explained]] = {}
    for name, values in labels.items():
        there = np.isfinite(values[known])
        probe = probed(field[there], abundances[there], values[known][there], fold[there], scatter, assembly.seed)
        kind = CHEMISTRY if name in chemistry else NUISANCE
        told[kind, name] = {s: probe[s] for s in ((*SOURCES, SQUARES) if kind == NUISANCE else SOURCES[:2])}
    if nights is not None and not shared_by_some(nights[known]):
        nights, lacking = None, [*lacking, f"{NIGHT} (of which hardly two stars have the same)"]
    if nights is not None:
        left = field - predicted(abundances, field, fold)
        parts = {DISTANCES: field, ABUNDANCES: abundances / abundances.std(0), BEYOND: left}
        told[NUISANCE, NIGHT] = {s: in_common(part, nights[known], assembly.seed) for s, part in parts.items()}
    rows = [(*label, source, *numbers) for label, sources in told.items() for source, numbers in sources.items()]
    table = Table(rows=rows, names="kind label source r2 low high".split())
    values = [
        Value(f"leaks {name}", source, *sources[source])
        for (kind, name), sources in told.items()
        for source in (DISTANCES, BEYOND)
        if source in sources
    ]
    verdict = verdict_of(table, tolerated)
    tables = {"leaks": table, "leaks_verdict": verdict}
    said = finding(table, verdict, tolerated, lacking)
    if "SNR" in labels:
        tables["leaks_spread"] = spread_of(field - predicted(abundances, field, fold), labels["SNR"][known])
        first, last = tables["leaks_spread"]["spread"][[0, -1]]
        said += (
            f" What the abundances leave of the embedding spreads {first / last:.2f} times as much among the quarter "
            "of the stars with the lowest S/N as among that with the highest (leaks_spread)."
        )
    return Reproduced(values, said, tables, {"leaks": drawing(table)})


def embedded(assembly: Assembly) -> tuple[NDArray[np.float64], float]:
    """(F, D) the field by a learner fitted on all clusters, without dimensions of weight 0; siblings' mean variance."""
    field, members = assembly.embedded(assembly.spectra)
    groups = Groups(assembly.spectra.clusters)
    scatter = groups.centred(members).square().sum() / (len(members) - len(groups))
    told = field[:, field.var(0) > 0].numpy()
    return told, float(scatter) / told.shape[1]


def known_abundances(assembly: Assembly) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """(F,) which field stars have abundances, and the (n, elements) abundances of those, dex."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)  # stars that lack one are left out
        on = assembly.abundances()
    ids, known_ids = (np.asarray(stars["APOGEE_ID"], dtype=str) for stars in (assembly.field.stars, on.field_stars))
    known = np.isin(ids, known_ids)
    if known.sum() != len(known_ids):
        raise InputError(f"{len(known_ids)} field stars have abundances, but their ids stand in {known.sum()} rows")
    return known, on.field.numpy()


def labels_of(
    assembly: Assembly, names: Sequence[str]
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.str_] | None, list[str]]:
    """Labels (F,) by name, plate and night of the first visits (F,), and the columns that say nothing.

    Raises:
        InputError: where none of them says anything.
    """
    labels: dict[str, NDArray[np.float64]] = {}
    nights, lacking = None, []
    for name in names:
        try:
            column = assembly.column(name)
        except InputError:
            lacking.append(name)
            continue
        if name == "VISITS":
            nights, labels[DATE] = first_visits(column, assembly.column("TELESCOPE"))
        else:
            labels[name] = column
        if name == "MEANFIB":
            labels[OFF_CENTRE] = np.abs(column - MIDDLE)
    lacking += [name for name, values in labels.items() if not np.nanstd(values) > 0]
    labels = {name: values for name, values in labels.items() if name not in lacking}
    if not labels:
        raise InputError(f"the star table has none of {', '.join(names)}, or the same value for all stars")
    return labels, nights, lacking


def first_visits(
    visits: NDArray[np.str_], telescopes: NDArray[np.str_]
) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """Plate and night of the first visit ('' where unknown, as at the 1 m telescope), and its date (MJD)."""
    first = [next(iter(visits_of(*star)), None) for star in zip(visits, telescopes, strict=True)]
    nights = [f"{visit.plate}-{visit.night}" if visit and visit.plate else "" for visit in first]
    return np.array(nights), np.array([visit.night if visit else np.nan for visit in first], dtype=float)


def probed(
    field: NDArray[np.float64],
    abundances: NDArray[np.float64],
    label: NDArray[np.float64],
    fold: NDArray[np.int64],
    scatter: float,
    seed: int,
) -> dict[str, Explained]:
    """What each source tells of a label (n,)."""

    def error(features: NDArray[np.float64], penalty: NDArray[np.float64] | float = 0.0) -> NDArray[np.float64]:
        return np.square(label - predicted(features, label[:, None], fold, penalty)[:, 0])

    both = np.hstack([abundances, field])
    of_both = np.repeat([0.0, scatter], [abundances.shape[1], field.shape[1]])
    of_mean, left = np.square(label - label.mean()), error(abundances)
    return {
        EMBEDDING: explained(error(field), of_mean, seed),
        DISTANCES: explained(error(field, scatter), of_mean, seed),
        ABUNDANCES: explained(left, of_mean, seed),
        BEYOND: explained(error(both, of_both), left, seed),
        SQUARES: explained(error(*_with_squares(both, of_both)), error(*_with_squares(abundances, 0.0)), seed),
    }


def _with_squares(
    features: NDArray[np.float64], penalty: NDArray[np.float64] | float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Deviations of features (n, D) and their squares side by side, and the penalties of both.

    Noise of variance s adds 4 var s + 2 s^2 to the variance of a square.
    """
    deviations, noise = features - features.mean(0), penalty + np.zeros(features.shape[1])
    of_squares = 4 * deviations.var(0) * noise + 2 * noise**2
    return np.hstack([deviations, deviations**2]), np.concatenate([noise, of_squares])


def spread_of(left: NDArray[np.float64], snr: NDArray[np.float64]) -> Table:
    """One row a quarter of the stars by S/N: its range, its stars, and the spread of left (n, D).

    The spread is the root of the mean over stars and dimensions of the squared deviation from the quarter's mean, each
    dimension in units of its standard deviation over all stars; 1 where S/N makes no difference.
    """
    known = np.isfinite(snr)
    left, snr = left[known] / left[known].std(0), snr[known]
    quarters = np.array_split(np.argsort(snr, kind="stable"), 4)
    rows = [(snr[of].min(), snr[of].max(), len(of), np.sqrt(left[of].var(0).mean())) for of in quarters]
    return Table(rows=rows, names="snr_from snr_to stars spread".split())


def shared_by_some(nights: NDArray[np.str_]) -> bool:
    """Whether two nights at least have two stars each, without which nothing can be told of nights."""
    _, counts = np.unique(nights[nights != ""], return_counts=True)
    return bool((counts > 1).sum() > 1)


def in_common(sample: NDArray[np.float64], nights: NDArray[np.str_], seed: int) -> Explained:
    """Share of the variance of sample (n, D) that stars of the same night have in common; a bootstrap over nights.

    The intraclass correlation of a one-way analysis of variance, summed over dimensions: about 0 where nights say
    nothing. Nights with one star, and stars whose night is not known, take no part.
    """
    names, number, counts = np.unique(nights, return_inverse=True, return_counts=True)
    together = ((counts > 1) & (names != ""))[number]
    groups, of_nights = Groups(nights[together]), torch.from_numpy(sample[together])
    size = groups.size.double().numpy()
    means = (groups.means(of_nights) - of_nights.mean(0)).numpy()
    within = groups.sums(groups.centred(of_nights).square()).sum(1).numpy()
    drawn = np.random.default_rng(seed).multinomial(len(size), np.full(len(size), 1 / len(size)), RESAMPLES)
    times = np.vstack([np.ones(len(size)), drawn])  # (1 + resamples, nights), the first as they are
    stars, nights_less_one = times @ size, times.sum(1) - 1
    centre = (times * size) @ means / stars[:, None]
    between = times @ (size * (means**2).sum(1)) - stars * (centre**2).sum(1)
    between_nights, between_stars = between / nights_less_one, times @ within / (stars - nights_less_one - 1)
    typical = (stars - times @ size**2 / stars) / nights_less_one  # stars a night
    shares = (between_nights - between_stars) / (between_nights + (typical - 1) * between_stars)
    return Explained(float(shares[0]), *(float(end) for end in np.quantile(shares[1:], [0.16, 0.84])))


def verdict_of(table: Table, tolerated: float) -> Table:
    """One row a nuisance: what each source tells of it, and whether the embedding leaks it."""
    rows = []
    for name in dict.fromkeys(table["label"][table["kind"] == NUISANCE]):
        own = {row["source"]: row for row in table[table["label"] == name]}
        told = [own[source]["r2"] if source in own else np.nan for source in SOURCES]
        beyond = own[BEYOND]
        squares = own[SQUARES]["low"] if SQUARES in own else np.nan  # of nights there is none
        verdicts = ["leak" if low > tolerated else "no leak" for low in (beyond["low"], squares)]
        rows.append((name, *told, beyond["low"], beyond["high"], verdicts[0], squares, verdicts[1]))
    names = [*(source.replace(" ", "_") for source in SOURCES), "low", "high", "verdict"]
    names += ["with_squares_low", "verdict_with_squares"]
    return Table(rows=rows, names=["label", *names])


def finding(table: Table, verdict: Table, tolerated: float, lacking: Sequence[str]) -> str:
    """What leaks, what does not, and how well chemistry is told."""
    beyond = BEYOND.replace(" ", "_")
    leaks = [f"{row['label']} ({100 * row[beyond]:.0f} %)" for row in verdict if row["verdict"] == "leak"]
    wider = [str(row["label"]) for row in verdict if row["verdict_with_squares"] == "leak"]
    none = [str(row["label"]) for row in verdict if row["verdict"] != "leak"]
    chemistry = table[(table["kind"] == CHEMISTRY) & (table["source"] == DISTANCES)]
    told = (
        f"Distances see {100 * chemistry['r2'].min():.0f} to {100 * chemistry['r2'].max():.0f} % of the variance of "
        f"{', '.join(chemistry['label'])}. "
        if len(chemistry)
        else ""
    )
    return (
        f"{told}Of what the abundances leave open they see more than {100 * tolerated:.0f} % of "
        f"{', '.join(leaks) or 'no nuisance'}, and not of {', '.join(none) or 'any other'}. "
        f"With squares of the features beside them: {', '.join(wider) or 'no nuisance'}."
        + (f" Left out, as the store lacks them or they are the same for all: {', '.join(lacking)}." if lacking else "")
    )


def drawing(table: Table) -> Figure:
    """What each source tells of every label, with 68 % intervals."""
    figure, body = titled("What the embedding tells that it should not", 10, 4.4)
    numbers = [max(1, len(set(table["label"][table["kind"] == kind]))) for kind in KINDS]
    panels = body.subplots(1, 2, sharey=True, width_ratios=numbers)
    for axes, kind in zip(panels, KINDS, strict=True):
        labels = list(dict.fromkeys(table["label"][table["kind"] == kind]))
        shown = [source for source in SOURCES if source in table["source"][table["kind"] == kind]]
        for place, source in enumerate(shown):
            own = table[(table["kind"] == kind) & (table["source"] == source)]
            x = np.array([labels.index(label) for label in own["label"]]) + 0.2 * (place - (len(shown) - 1) / 2)
            r2, low, high = (np.asarray(own[name]) for name in ("r2", "low", "high"))
            errors = np.clip([r2 - low, high - r2], 0, None)
            axes.bar(x, r2, 0.19, color=COLOURS[place], alpha=0.8, label=source)
            axes.errorbar(x, r2, errors, fmt="none", ecolor="0.2", elinewidth=1)
        axes.axhline(0, color="0.3", lw=0.8)
        axes.set_xticks(range(len(labels)), [_shown(label) for label in labels], rotation=35, ha="right")
        axes.set_title(kind)
    panels[0].set_ylabel("$R^2$ on held-out stars (68 %)")
    panels[1].legend(title="told by")
    return figure


def _shown(label: str) -> str:
    return f"[{label[:-2].capitalize()}/H]" if label.endswith("_H") else SHOWN.get(label, label)
