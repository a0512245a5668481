"""Figure 6: what interstellar gas leaves in spectra, seen as what a plane of stars of low extinction lacks.

Mean residual of stars of high extinction about that plane, and the intervals to censor. Source: Appendix A.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy.table import Table
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.variants import read_uncensored
from rsca_torch.drawing.style import COLOURS, titled
from rsca_torch.learners.registry import CONFIG
from rsca_torch.report.reproduction import Reproduced, Value
from rsca_torch.survey.apogee import CHIPS, wavelength
from rsca_torch.survey.interstellar import Feature, InterstellarFinder, Residuals, residuals

INTERVAL = "first end deepest depth error significance nearest_band overlaps_authors".split()


def reproduce(assembly: Assembly, uncensored: str | None, n_components: int, **finder: Any) -> Reproduced:
    """Mean residual of stars of high extinction about the plane of stars of low extinction, and what is to be censored.

    Args:
        assembly: the survey.
        uncensored: a store of it that leaves no interstellar range out; None: of a simulated survey one is made.
        n_components: of the plane.
        **finder: options of `InterstellarFinder`.

    Raises:
        InputError: no such store, no extinctions, or too few stars of low or of high extinction.
    """
    finding = InterstellarFinder(**finder)
    on = read_uncensored(assembly, uncensored)
    low, high = finding.sides(on.field.stars)
    plane = on.compression.fit_some(on.field.take(low.rows), n_components)
    found = residuals(plane, on.field.take(high.rows), on.field.wavelength, finding.width)
    features = finding.features(found, on.field.wavelength)
    grid = wavelength()
    pixels = OmegaConf.load(CONFIG / "censoring" / "authors.yaml").interstellar_pixels
    authors = [(grid[first], grid[end]) for first, end in pixels]
    bands = {band: at(band, found, on.field.wavelength.numpy()) for band in finding.bands}
    within = {band: any(one.first <= band < one.end for one in features) for band in finding.bands}
    others = [one for one in features if not any(one.first <= band < one.end for band in finding.bands)]
    said = (
        f"A plane of {low.said}; residuals of {high.said}. {sum(within.values())} of {len(bands)} known bands lie in "
        f"the {len(features)} intervals that are proposed"
    )
    said += f" ({', '.join(f'{one.first:.1f}-{one.end:.1f}' for one in features)} A)." if features else "."
    if others:
        widest = max(one.end - one.first for one in others)
        said += f" {len(others)} intervals hold no known band; the widest is {widest:.1f} A."
    values = [
        Value("interstellar bands", f"{band:.2f} A, depth", depth, depth - error, depth + error)
        for band, (depth, error) in bands.items()
    ]
    values.append(Value("interstellar bands", "censored, A", sum(one.end - one.first for one in features)))
    tables = {"figure6_intervals": intervals(features, authors), "figure6": spectrum(found, on.field.wavelength)}
    figure = drawing(found, on.field.wavelength, features, authors, finding)
    return Reproduced(values, said, tables, {"figure6": figure})


def at(band: float, found: Residuals, angstrom: np.ndarray) -> tuple[float, float]:
    """(Depth, its standard error) in the bin of a known band."""
    place = int(np.abs(angstrom - band).argmin())
    return -float(found.smooth[place]), float(found.error[place])


def intervals(features: Sequence[Feature], authors: Sequence[tuple[float, float]]) -> Table:
    """What is proposed, beside the authors' ranges."""
    rows = [
        (*one[:5], one.significance, one.band, any(one.first < end and first < one.end for first, end in authors))
        for one in features
    ]
    kinds = [float] * 7 + [bool]
    return Table(rows=rows or None, names=INTERVAL, dtype=kinds)


def spectrum(found: Residuals, angstrom: Any) -> Table:
    """The curves of the picture."""
    return Table(
        {
            "wavelength": angstrom.numpy(),
            "stars": found.stars.long().numpy(),
            "mean_residual": found.mean.numpy(),
            "smooth": found.smooth.numpy(),
            "standard_error": found.error.numpy(),
        }
    )


def drawing(
    found: Residuals,
    angstrom: Any,
    features: Sequence[Feature],
    authors: Sequence[tuple[float, float]],
    finding: InterstellarFinder,
) -> Figure:
    """The mean residual, chip by chip, with the known bands, the intervals proposed and the authors' ranges."""
    figure, body = titled("What interstellar gas leaves in spectra", 10, 6.5)
    panels = body.subplots(len(CHIPS), 1, sharey=True)
    grid, x, y = wavelength(), angstrom.numpy(), found.mean.numpy()
    low = np.nanmin(y)
    for axes, (chip, (first, end)) in zip(panels, CHIPS.items(), strict=True):
        there = (x >= grid[first]) & (x < grid[end])
        axes.plot(x[there], y[there], lw=0.6, color=COLOURS[1], label="mean residual")
        axes.set_xlim(grid[first], grid[end])
        for begin, stop in authors:
            axes.axvspan(begin, stop, color="#f4d35e", alpha=0.45, lw=0, label="left out by the authors")
        for one in features:
            axes.axvspan(one.first, one.end, ymax=0.06, color=COLOURS[0], lw=0, label="proposed intervals")
        for band in finding.bands:
            axes.axvline(band, color="0.35", lw=0.8, ls=":", label="known diffuse bands")
        axes.set_title(f"{chip} chip")
    panels[0].set_ylim(1.15 * low, max(0.25 * -low, np.nanmax(y)))
    handles, labels = panels[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    body.legend(unique.values(), unique.keys(), loc="outside upper left", ncols=4)
    body.supxlabel("wavelength in the star's rest frame, vacuum, Angstrom", fontsize=11)
    body.supylabel("mean residual at high extinction, share of the continuum", fontsize=11)
    return figure
