"""Which library resamples spectra to a survey's grid: what each does to equivalent widths and errors, and its speed.

    python experiments/surveys/resampling.py

Candidates that are not installed are left out (``pip install spectres numba specutils``); none of ours is imported, so
that those with heavy dependencies can be run in an environment of their own. Per candidate and kind of spectrum: the
largest error of a line's equivalent width, chi^2 per bin of repeated noise draws about the spectrum without noise, the
share of bins that touch a bad pixel and come out as if they did not, and seconds per spectrum of 4,096 pixels.
"""

from __future__ import annotations

import argparse
import importlib
import time
from importlib.util import find_spec

import numpy as np

DRAWS = 50
LINES = (0.15, 0.03)  # standard deviation [A] of lines: resolved by pixels of 0.05 A, and not
STEPS = (2e-6, 5e-6, 1e-5)  # of the new grid [dex]: 0.03, 0.075 and 0.15 A


def of_spectres(numba: bool):
    """SpectRes (Carnall 2017), in Python or compiled."""
    name = "spectres.spectral_resampling_numba" if numba else "spectres"
    module = importlib.import_module(name)
    resample = module.spectres_numba if numba else module.spectres
    return lambda new, old, flux, error: resample(new, old, flux, error, fill=np.nan, verbose=False)


def of_specutils():
    """FluxConservingResampler of specutils."""
    units = importlib.import_module("astropy.units")
    nddata = importlib.import_module("astropy.nddata")
    specutils = importlib.import_module("specutils")
    manipulation = importlib.import_module("specutils.manipulation")

    def resample(new, old, flux, error):
        uncertainty = nddata.StdDevUncertainty(error)
        spectrum = specutils.Spectrum(
            spectral_axis=old * units.AA, flux=flux * units.dimensionless_unscaled, uncertainty=uncertainty
        )
        given = manipulation.FluxConservingResampler()(spectrum, new * units.AA)
        return given.flux.value, given.uncertainty.represent_as(nddata.StdDevUncertainty).array

    return resample


def interpolated(new, old, flux, error):
    """The baseline: flux and variance of the two nearest pixels."""
    return np.interp(new, old, flux, np.nan, np.nan), np.sqrt(np.interp(new, old, error**2, np.nan, np.nan))


CANDIDATES = {
    "linear interpolation": ("numpy", lambda: interpolated),
    "spectres": ("spectres", lambda: of_spectres(False)),
    "spectres with numba": ("numba", lambda: of_spectres(True)),
    "specutils": ("specutils", of_specutils),
}


def bin_edges(centres):
    """Midway between centres."""
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def drawn(width, rng, pixels=4096):
    """Pixels of 0.05 A from 6500 A, lines of 0.02 to 0.5 A equivalent width, each pixel the mean over its width."""
    erf = np.vectorize(importlib.import_module("math").erf)
    wavelength = 6500 + 0.05 * np.arange(pixels)
    edges = bin_edges(wavelength)
    centres = np.linspace(6510, wavelength[-1] - 10, 20) + rng.uniform(-1, 1, 20)
    areas = rng.uniform(0.02, 0.2, 20)
    flux = np.ones(pixels)
    for centre, area in zip(centres, areas, strict=True):
        flux -= area * np.diff(0.5 * (1 + erf((edges - centre) / (np.sqrt(2) * width)))) / np.diff(edges)
    return wavelength, flux, centres, areas


def measured(resample, width, step):
    """(worst error of an equivalent width, chi^2 a bin, share of bad bins that look good, seconds a spectrum)."""
    rng = np.random.default_rng(0)
    old, flux, centres, areas = drawn(width, rng)
    new = 10 ** (np.log10(6501) + step * np.arange(int(np.log10(old[-2] / 6501) / step)))
    error = rng.uniform(0.005, 0.02, len(old))
    clean, sigma = resample(new, old, flux, error)  # numba compiles here, once
    widths = np.diff(bin_edges(new))
    worst = 0.0
    for centre, area in zip(centres, areas, strict=True):
        near = np.abs(new - centre) < 4
        worst = max(worst, abs(((1 - clean[near]) * widths[near]).sum() / area - 1))
    began = time.perf_counter()
    chi2 = [
        np.nanmean(((resample(new, old, flux + error * rng.normal(size=len(old)), error)[0] - clean) / sigma) ** 2)
        for _ in range(DRAWS)
    ]
    seconds = (time.perf_counter() - began) / DRAWS
    bad = np.zeros(len(old), dtype=bool)
    bad[rng.integers(100, len(old) - 100, 40)] = True
    holed, _ = resample(new, old, np.where(bad, np.nan, flux), error)
    low, high = bin_edges(new)[:-1], bin_edges(new)[1:]
    ends = bin_edges(old)
    touched = np.array(
        [(bad & (ends[1:] > a + 1e-9) & (ends[:-1] < b - 1e-9)).any() for a, b in zip(low, high, strict=True)]
    )
    leaked = np.isfinite(holed[touched]).mean()
    return worst, np.mean(chi2), leaked, seconds


def main():
    """Measure all candidates that are there."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.parse_args()
    print(f"{'candidate':22}{'line':>10}{'bins [dex]':>12}{'EW error':>11}{'chi^2':>8}{'leaked':>9}{'s/spectrum':>12}")
    for name, (package, make) in CANDIDATES.items():
        if find_spec(package) is None:
            print(f"{name:22} not installed")
            continue
        resample = make()
        for width in LINES:
            for step in STEPS:
                worst, chi2, leaked, seconds = measured(resample, width, step)
                print(f"{name:22}{width:8.2f} A{step:12.0e}{worst:11.1e}{chi2:8.3f}{leaked:9.2f}{seconds:12.5f}")


if __name__ == "__main__":
    main()
