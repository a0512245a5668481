"""How true to life are the simulated spectra? Against an empirical model of real giants and 25 real files.

    python experiments/simulation/judge.py SHARED [--stars 1500] [--seed 0] [--picture docs/images/simulation.png]

SHARED is the folder with data/giant_spectra_dr12.npz and data/aspcapStar_dr13/. Prints a table, draws one picture.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from astropy.io import fits
from matplotlib.axes import Axes
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as Grid
from sklearn.metrics import r2_score

from rsca_torch.drawing.style import COLOURS, in_style
from rsca_torch.survey.apogee import CHIPS, N_PIXELS, wavelength
from rsca_torch.survey.simulated import Population, SimulatedSurvey

Array = NDArray[np.float64]

#: Pixels of the empirical model (DR12's narrower chips).
DR12 = np.r_[322:3242, 3648:6048, 6412:8306]
IN_CHIP = np.r_[tuple(slice(*chip) for chip in CHIPS.values())]
UNTRUSTED = 0.05
SN_BINS = (20, 60, 100, 200, 500)


def empirical(stars: dict[str, Array], shared: Path) -> Array:
    """(stars, 7214) mean flux of real giants with these labels."""
    model = np.load(shared / "data" / "giant_spectra_dr12.npz")
    labels = np.stack([stars[name] for name in ("TEFF", "LOGG", "FE_H", "ALPHA_M")], axis=1) - model["baseline"]
    pairs = [labels[:, i] * labels[:, j] for i in range(4) for j in range(i, 4)]
    return np.column_stack([np.ones(len(labels)), labels, *pairs]) @ model["coef"]


def simulated(n_stars: int, seed: int) -> tuple[dict[str, Array], Array, Array]:
    """Labels, noise-free flux (stars, 7214) and the share of untrusted bins (stars,) of a simulated field."""
    survey = SimulatedSurvey(n_field=n_stars, stars=Population(traps=60))  # 60 of them below S/N 50
    draws, spectra = np.random.SeedSequence(seed).spawn(2)
    stars = survey.stars.draw(n_stars, np.random.default_rng(draws))
    stars = stars[np.isin(stars["ROLE"], ["field", "faint"])]
    blocks = [
        (model[:, DR12], (error[:, IN_CHIP] > UNTRUSTED).mean(axis=1))
        for _, model, _, error in survey.observe(stars, spectra)
    ]
    flux, share = (np.concatenate(part) for part in zip(*blocks, strict=True))
    return (
        {name: np.asarray(stars[name], dtype=float) for name in ("TEFF", "LOGG", "FE_H", "ALPHA_M", "SNR")},
        flux,
        share,
    )


def real_files(shared: Path) -> tuple[Array, Array]:
    """S/N and share of untrusted bins of the real spectra."""
    rows = []
    for path in sorted((shared / "data" / "aspcapStar_dr13").glob("*.fits")):
        with fits.open(path) as hdus:
            rows.append((float(hdus[4].data["SNR"][0]), float((hdus[2].data[IN_CHIP] > UNTRUSTED).mean())))
    return np.array(rows).T[0], np.array(rows).T[1]


def figures(flux: Array, real: Array) -> list[tuple[str, str]]:
    """The comparison in numbers."""
    mean, real_mean = flux.mean(axis=0), real.mean(axis=0)
    spread, real_spread = np.maximum(flux.std(axis=0), 1e-4), real.std(axis=0)
    star_by_star = r2_score(real, flux - mean + real_mean, multioutput="variance_weighted")
    return [
        ("mean spectrum: R2", f"{r2_score(real_mean, mean):.3f}"),
        ("mean spectrum: rms of the difference", f"{np.std(mean - real_mean):.4f}"),
        ("spread of a bin over stars, median: simulated", f"{np.median(spread):.4f}"),
        ("spread of a bin over stars, median: real", f"{np.median(real_spread):.4f}"),
        ("variance summed over bins: simulated / real", f"{np.sum(spread**2) / np.sum(real_spread**2):.2f}"),
        ("correlation of log spread over bins", f"{np.corrcoef(np.log(spread), np.log(real_spread))[0, 1]:.2f}"),
        ("star by star, around the mean: R2", f"{star_by_star:.3f}"),
    ]


def censored(sn: Array, share: Array, real_sn: Array, real_share: Array) -> list[tuple[str, str]]:
    """The share of untrusted bins by S/N: simulated and real."""
    rows = []
    for low, high in pairwise(SN_BINS):
        parts = [s[(n >= low) & (n < high)] for n, s in ((sn, share), (real_sn, real_share))]
        text = [
            "none" if not len(part) else f"{part.mean():.3f} ({part.min():.2f}-{part.max():.2f}, {len(part)} stars)"
            for part in parts
        ]
        rows.append((f"censored, S/N {low}-{high}: simulated / real", " / ".join(text)))
    return rows


@in_style()
def draw(path: Path, flux: Array, real: Array, sn: tuple[Array, Array, Array, Array]) -> None:
    """Mean spectrum, spread of every bin, share of untrusted bins."""
    figure = plt.figure(figsize=(9, 6.2), layout="constrained")
    axes = figure.subplot_mosaic([["mean", "mean"], ["spread", "censored"]])
    angstrom = wavelength()[DR12]
    part = (angstrom > 16180) & (angstrom < 16300)
    for values, label, colour in ((real, "real giants (empirical model)", "black"), (flux, "simulated", COLOURS[0])):
        axes["mean"].plot(angstrom[part], values.mean(axis=0)[part], color=colour, lw=1.2, label=label)
    axes["mean"].set(xlabel="vacuum wavelength (Å)", ylabel="mean flux", title="Mean spectrum of the field")
    axes["mean"].legend(loc="lower right")
    _draw_spread(axes["spread"], real.std(axis=0), flux.std(axis=0))
    axes["censored"].semilogx(sn[0], sn[1], ".", ms=2, color=COLOURS[0], label="simulated", rasterized=True)
    axes["censored"].semilogx(sn[2], sn[3], "ko", ms=4, label="25 real spectra (DR13)")
    axes["censored"].set(xlabel="S/N per pixel", ylabel="share of bins with error > 0.05", ylim=(0, 1), xlim=(8, 1600))
    axes["censored"].set_title("Censored bins")
    axes["censored"].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _draw_spread(axes: Axes, real: Array, flux: Array) -> None:
    axes.loglog(real, flux, ".", ms=1.5, alpha=0.4, color=COLOURS[0], rasterized=True)
    axes.plot([0.002, 0.15], [0.002, 0.15], "k-", lw=0.8)
    axes.set(xlim=(0.001, 0.2), ylim=(0.001, 0.2))
    axes.set(xlabel="real", ylabel="simulated", title="Standard deviation of each bin over stars")


def main() -> None:
    """Compare, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--stars", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, default=Path("docs/images/simulation.png"))
    arguments = parser.parse_args()
    stars, flux, share = simulated(arguments.stars, arguments.seed)
    real = empirical(stars, arguments.shared)
    real_sn, real_share = real_files(arguments.shared)
    grid = Grid("figure", "value", title=f"Simulated against real giants ({len(flux)} stars)")
    for row in figures(flux, real) + censored(stars["SNR"], share, real_sn, real_share):
        grid.add_row(*row)
    Console().print(grid)
    draw(arguments.picture, flux, real, (stars["SNR"], share, real_sn, real_share))
    print(f"picture: {arguments.picture} ({arguments.picture.stat().st_size // 1000} kB), {N_PIXELS} pixels a spectrum")


if __name__ == "__main__":
    main()
