"""Figure 7: where spectra depend on radial velocity, as residuals of fast stars about a plane of slow ones.

Source: Appendix B of the paper.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from astropy.table import Table
from matplotlib.figure import Figure
from scipy.stats import sem
from torch import Tensor

from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.variants import read_uncensored
from rsca_torch.drawing.style import COLOURS, titled
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.report.reproduction import Reproduced, Value
from rsca_torch.spectra.view import AnySpectra
from rsca_torch.survey.apogee import CHIPS, wavelength
from rsca_torch.survey.interstellar import Residuals, require_apart, residuals, side

REGION = "region first end excess error".split()


def reproduce(
    assembly: Assembly,
    uncensored: str | None,
    n_components: int,
    slow: float,
    fast: float,
    fewest_slow: int,
    fewest_fast: int,
    make_up: bool,
    fewest_stars: int,
    air: Sequence[tuple[str, float, float]],
    bands: Sequence[float],
    reach: float,
) -> Reproduced:
    """Mean absolute residual of fast stars about the plane of slow stars, and in which regions it is large.

    Noise, too, leaves residuals. So each is taken in units of the noise, its size in a region relative to elsewhere,
    star by star, and what slow stars show is subtracted: the excess is 0 where velocity plays no part.

    Args:
        assembly: the survey.
        uncensored: a store of it that leaves no interstellar range out; None: of a simulated survey one is made, of
            another the store is taken as it is.
        n_components: of the plane.
        slow: km/s, of the absolute velocity.
        fast: km/s.
        fewest_slow: stars that are needed.
        fewest_fast: likewise.
        make_up: where a cut leaves fewer, take so many of the slowest or fastest.
        fewest_stars: that must have a bin for it to be drawn.
        air: name, first and last wavelength of what air absorbs, Angstrom.
        bands: centres of diffuse interstellar bands, Angstrom.
        reach: Angstrom on either side of a centre that belong to the band.

    Raises:
        InputError: no velocities, or too few slow or fast stars.
    """
    own = uncensored is None and assembly.config.store is not None
    on = assembly if own else read_uncensored(assembly, uncensored)
    velocity = on.column("VHELIO_AVG")
    few = side(np.abs(velocity), "|VHELIO_AVG|", slow, fewest_slow, make_up)
    many = side(velocity, "VHELIO_AVG", fast, fewest_fast, make_up, above=True)
    require_apart(few, many)
    plane = on.compression.fit_some(on.field.take(few.rows), n_components)
    angstrom = on.field.wavelength
    regions = [(f"{name} {first:.0f}-{end:.0f} A", first, end) for name, first, end in air]
    regions += [(f"diffuse band {band:.2f} A", band - reach, band + reach) for band in bands]
    parts = {"slow": on.field.take(few.rows), "fast": on.field.take(many.rows)}
    told = {name: residuals(plane, part, angstrom, 0.0) for name, part in parts.items()}
    table = excesses(plane, parts, angstrom, regions)
    values = [
        Value(
            "velocity features",
            row["region"],
            row["excess"],
            row["excess"] - row["error"],
            row["excess"] + row["error"],
        )
        for row in table
    ]
    largest = sorted(table, key=lambda row: -row["excess"])[:3]
    unseen = int((~plane.mean.isfinite()).sum())
    shares = ", ".join(f"{row['region']} ({100 * row['excess']:+.1f} +- {100 * row['error']:.1f} %)" for row in largest)
    said = (
        f"A plane of {few.said}; residuals of {many.said} (km/s). In units of the noise, and relative to the rest of "
        f"the spectrum, the mean absolute residual of fast stars exceeds that of slow ones most in {shares}. "
        f"{unseen} of {len(angstrom)} bins cannot be compared: nearly all slow stars have them censored, "
        "as the lines of the night sky stay put."
    )
    curves = Table({"wavelength": angstrom.numpy()})
    for name, found in told.items():
        curves[f"stars_{name}"] = found.stars.long().numpy()
        curves[f"absolute_residual_{name}"] = found.absolute.numpy()
    tables = {"figure7_regions": table, "figure7": curves}
    return Reproduced(values, said, tables, {"figure7": drawing(told, angstrom.numpy(), fewest_stars, air, bands)})


def excesses(
    plane: MaskedPPCA, parts: Mapping[str, AnySpectra], angstrom: Tensor, regions: Sequence[tuple[str, float, float]]
) -> Table:
    """How much larger residuals in each region are for fast stars than for slow ones, with standard errors.

    Args:
        plane: of the slow stars.
        parts: spectra of slow and of fast stars.
        angstrom: (P,) of the bins.
        regions: name, first and last wavelength.
    """
    within = torch.stack([(angstrom >= first) & (angstrom <= end) for _, first, end in regions])
    sizes = {name: relative_sizes(plane, part, within) for name, part in parts.items()}
    rows = []
    for place, (name, first, end) in enumerate(regions):
        fast, slow = (own[own.isfinite()] for own in (sizes[kind][:, place] for kind in ("fast", "slow")))
        if min(len(fast), len(slow)) > 1:  # else the survey's censoring leaves the region out
            error = float(np.hypot(sem(fast), sem(slow)))
            rows.append((name, first, end, float(fast.mean() - slow.mean()), error))
    return Table(rows=rows or None, names=REGION, dtype=[str, float, float, float, float])


def relative_sizes(plane: MaskedPPCA, source: AnySpectra, within: Tensor) -> Tensor:
    """(N, R) mean absolute residual of each star in each region, in units of its noise, over that in no region.

    Args:
        plane: of the slow stars.
        source: N spectra.
        within: (R, P) bool, the regions.
    """
    each = torch.cat([within, ~within.any(0, keepdim=True)]).double()
    sizes = []
    for residual, valid, sigma in plane.misfits(source):
        means = (residual / sigma).abs() @ each.T / (valid.double() @ each.T)
        sizes.append(means[:, :-1] / means[:, -1:])
    return torch.cat(sizes)


def drawing(
    told: Mapping[str, Residuals],
    angstrom: np.ndarray,
    fewest_stars: int,
    air: Sequence[tuple[str, float, float]],
    bands: Sequence[float],
) -> Figure:
    """Both mean absolute residuals, chip by chip, with what is known to move with velocity."""
    figure, body = titled("Where spectra depend on radial velocity", 10, 6.8)
    panels = body.subplots(len(CHIPS), 1, sharey=True)
    grid = wavelength()
    enough = torch.stack([found.stars for found in told.values()]).amin(0) >= fewest_stars
    sizes = {name: torch.where(enough, found.absolute, torch.nan).numpy() for name, found in told.items()}
    for axes, (chip, (first, end)) in zip(panels, CHIPS.items(), strict=True):
        there = (angstrom >= grid[first]) & (angstrom < grid[end])
        for (name, size), colour in zip(sizes.items(), ("0.6", COLOURS[1]), strict=True):
            label = f"{name} stars"
            axes.plot(angstrom[there], size[there], lw=0.6, color=colour, label=label)
        axes.set_xlim(grid[first], grid[end])
        for name, begin, stop in air:
            axes.axvspan(begin, stop, color="#f4d35e", alpha=0.3, lw=0, label="bands of the air")
            if grid[first] <= begin < grid[end]:
                formula = re.sub(r"(\d)", r"$_\1$", name)
                axes.text(begin, 0.96, f" {formula}", va="top", fontsize=10, transform=axes.get_xaxis_transform())
        for band in bands:
            axes.axvline(band, color="0.35", lw=0.8, ls=":", label="diffuse interstellar bands")
        axes.set_title(f"{chip} chip")
    panels[0].set_ylim(0, 1.1 * np.nanmax(sizes["fast"]))
    handles, labels = panels[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    body.legend(unique.values(), unique.keys(), loc="outside upper left", ncols=4)
    body.supxlabel("wavelength in the star's rest frame, vacuum, Angstrom", fontsize=11)
    body.supylabel("mean absolute residual, share of the continuum", fontsize=11)
    return figure
