"""Appendix B, last paragraph: what stars of equal radial velocity share, taken out of spectra, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from astropy.table import Table
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from rsca_torch import InputError, Removal
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.compression import grouping_of
from rsca_torch.comparison.representation import Representation, represent
from rsca_torch.drawing.style import COLOURS, MARKS, titled
from rsca_torch.evaluation.explained_variance import Explained, explained, explained_by_groups
from rsca_torch.evaluation.result import LOCOResult, paired_difference
from rsca_torch.removal import without
from rsca_torch.report.reproduction import Reproduced, Value
from rsca_torch.spectra.blocks import Rows
from rsca_torch.spectra.view import AnySpectra

LIGHT = 299_792.458  # km/s
OBSERVED, PLANTED = "as observed", "with a planted band"
BEFORE, AFTER = "before", "after"
COLUMNS = "survey spectra dimensions r2 r2_low r2_high largest_share doppelganger_rate low high".split()


def reproduce(assembly: Assembly, remove: str, planted: Mapping[str, float], folds: int) -> Reproduced:
    """What the embedding tells of velocity, and the rate, before and after the projection.

    Of the survey as it is, and with a band planted in every spectrum that does not move with the star. Where stars of
    equal velocity have no more in common than chance, nothing is removed and after is before.

    Args:
        assembly: the survey.
        remove: as `compressor.remove`.
        planted: wavelength and width (Angstrom) and depth of the band.
        folds: of the cross-validation of the probes, over stars.

    Raises:
        InputError: where the assembly itself removes something, or the column is not there.
    """
    if assembly.removal is not None:
        raise InputError("compressor.remove: this experiment removes velocities itself; leave it out")
    grouping = grouping_of(remove)
    velocity = assembly.column(grouping.column)
    surveys = {
        OBSERVED: (assembly.field, assembly.members, assembly.spectra),
        PLANTED: (planted_in(assembly.field, planted), planted_in(assembly.members, planted), None),
    }
    results: dict[tuple[str, str], tuple[Representation, LOCOResult, int]] = {}
    for survey, (field, members, spectra) in surveys.items():
        before = spectra or compressed(assembly, field, members)
        results[survey, BEFORE] = before, assembly.judged(before), 0
        removal, _ = grouping.find(before.ppca, field)  # type: ignore[arg-type]  # one model
        after = compressed(assembly, field, members, removal) if len(removal) else before
        results[survey, AFTER] = after, assembly.judged(after), len(removal)
    rows, shares = [], []
    for (survey, spectra), (on, loco, dimensions) in results.items():
        embedded = embedded_field(assembly, on)
        told = r2_of(embedded, velocity, folds, assembly.seed)
        together, labels = grouping.groups(assembly.field.stars)
        common = explained_by_groups(embedded[together], labels)
        rows.append((survey, spectra, dimensions, *told, common.max(), loco.rate, *loco.interval()))
        shares += [(survey, spectra, number + 1, share) for number, share in enumerate(common.tolist())]
    table = Table(rows=rows, names=COLUMNS)
    features = Table(rows=shares, names="survey spectra feature share".split())
    values = [
        Value.of("velocity removed", f"{row['survey']}, {row['spectra']}: {what}", row, names)
        for row in table
        for what, names in {"R^2": COLUMNS[3:6], "rate": COLUMNS[7:]}.items()
    ]
    for what, other in {"before": (PLANTED, BEFORE), "as observed": (OBSERVED, BEFORE)}.items():
        cost = paired_difference(results[PLANTED, AFTER][1], results[other][1])
        values.append(Value("velocity removed", f"planted, after minus {what}: rate", cost.value, cost.low, cost.high))
    tables = {"velocity_removed": table, "velocity_removed_features": features}
    return Reproduced(values, finding(table), tables, {"velocity_removed": drawing(table, features)})


class Planted:
    """Stored spectra with a band that does not move with the star, planted as they are read."""

    has_sigma = checked = True
    removal = None

    def __init__(self, source: AnySpectra, wavelength: float, width: float, depth: float) -> None:
        self.source, self.band = source, (wavelength, width, depth)
        self.stars, self.wavelength, self.n_bins = source.stars, source.wavelength, source.n_bins

    def __len__(self) -> int:
        return len(self.source)

    def read(self, stars: slice) -> Rows:
        """(flux, valid, sigma) of some stars, each (n, P)."""
        flux, valid, sigma = self.source.read(stars)
        velocity = torch.from_numpy(np.asarray(self.stars["VHELIO_AVG"][stars], dtype=float))
        wavelength, width, depth = self.band
        away = (self.wavelength * (1 + velocity[:, None] / LIGHT) - wavelength) / width
        return flux * (1 - depth * torch.exp(-away.square() / 2)).nan_to_num(1).to(flux), valid, sigma


def planted_in(source: AnySpectra, planted: Mapping[str, float]) -> Any:
    """The spectra with the band.

    Raises:
        InputError: where no bin of the store is within its width.
    """
    nearest = float((source.wavelength - planted["wavelength"]).abs().min())
    if nearest > planted["width"]:
        raise InputError(f"planted.wavelength={planted['wavelength']} Angstrom is not among the bins: choose another")
    return Planted(source, **planted)


def compressed(assembly: Assembly, field: Any, members: Any, removal: Removal | None = None) -> Representation:
    """Step 1 as configured, of other spectra than the assembly's."""
    return represent(without(field, removal), without(members, removal), assembly.compression.fit_unkept)


def embedded_field(assembly: Assembly, on: Representation) -> NDArray[np.float64]:
    """(F, D) the field by a learner fitted on all clusters, without dimensions of weight 0."""
    field, _ = assembly.embedded(on)
    return np.asarray(field[:, field.var(0) > 0])


def r2_of(embedded: NDArray[np.float64], label: NDArray[np.float64], folds: int, seed: int) -> Explained:
    """R^2 of a linear probe (F, D) -> (F,) on stars that it was not fitted on, and its 68 % interval."""
    known = np.isfinite(label)
    target, fold = label[known], np.random.default_rng(seed).integers(folds, size=known.sum())
    told = cross_val_predict(LinearRegression(), embedded[known], target, cv=PredefinedSplit(fold))
    return explained(np.square(target - told), np.square(target - target.mean()), seed)


def finding(table: Table) -> str:
    """What was told before and after, and what the projection costs."""
    said = []
    for survey in (OBSERVED, PLANTED):
        before, after = (table[(table["survey"] == survey) & (table["spectra"] == when)][0] for when in (BEFORE, AFTER))
        rate, left = before["doppelganger_rate"], after["doppelganger_rate"]
        said.append(
            f"{survey.capitalize()}, {after['dimensions']} dimensions are removed: R^2 of velocity {before['r2']:.2f} "
            f"before and {after['r2']:.2f} after, rate {rate:.2%} and {left:.2%} ({left / rate - 1:+.0%})."
            if after["dimensions"]
            else f"{survey.capitalize()}, stars of equal velocity have no more in common than chance and nothing is "
            f"removed (R^2 of velocity {before['r2']:.2f}, rate {rate:.2%})."
        )
    return " ".join(said)


def drawing(table: Table, features: Table) -> Figure:
    """What stars of equal velocity have in common along each feature, and the rates."""
    figure, body = titled("Velocity, before and after it is projected out", 10, 4)
    left, right, rates = body.subplots(1, 3, width_ratios=[3, 3, 2])
    for axes, survey in ((left, OBSERVED), (right, PLANTED)):
        for place, spectra in enumerate((BEFORE, AFTER)):
            own = features[(features["survey"] == survey) & (features["spectra"] == spectra)]
            axes.plot(own["feature"], own["share"], f"{MARKS[place]}-", color=COLOURS[place], ms=4, lw=1, label=spectra)
        axes.set_xlabel("feature, the most telling first")
        axes.set_title(survey)
        axes.axhline(0, color="0.3", lw=0.8)
        axes.set_ylim(-0.05, max(0.2, 1.1 * features["share"].max()))
    left.set_ylabel("share of variance in common\nof stars of equal velocity")
    left.legend(title="projection")
    for place, spectra in enumerate((BEFORE, AFTER)):
        own = table[table["spectra"] == spectra]
        rate, low, high = (100 * np.asarray(own[name]) for name in COLUMNS[7:])
        x = np.arange(len(own)) + 0.16 * (2 * place - 1)
        rates.bar(x, rate, 0.3, color=COLOURS[place], alpha=0.8)
        rates.errorbar(x, rate, [rate - low, high - rate], fmt="none", ecolor="0.2", elinewidth=1)
    rates.set_xticks(range(2), ["as observed", "planted"])
    rates.set_title("rates (68 %)")
    rates.set_ylabel("doppelganger rate, %")
    return figure
