"""Continua of spectra that are not normalised, by two methods with known faults (docs/own-data.md)."""

from __future__ import annotations

import numpy as np
import pandas
from numpy.polynomial import Chebyshev
from numpy.typing import NDArray

from rsca_torch.survey.described.parts import Continuum

__all__ = ["continuum_of"]

Floats = NDArray[np.float64]


def continuum_of(wavelength: Floats, flux: Floats, good: NDArray[np.bool_], rule: Continuum) -> Floats:
    """(P,) the continuum of one arm; NaN where it cannot be told.

    Args:
        wavelength: (P,) Angstrom, rising.
        flux: (P,).
        good: (P,) which pixels count.
        rule: how.
    """
    if rule.method == "running_quantile":
        return _running_quantile(wavelength, flux, good, rule)
    return _polynomial(wavelength, flux, good, rule)


def _running_quantile(wavelength: Floats, flux: Floats, good: NDArray[np.bool_], rule: Continuum) -> Floats:
    """The quantile of the good pixels in a window, then their mean in one, as quantiles come in steps."""
    pixels = max(3, round(rule.width / float(np.median(np.diff(wavelength)))))
    window = {"window": pixels, "center": True, "min_periods": max(1, pixels // 8)}
    envelope = pandas.Series(np.where(good, flux, np.nan)).rolling(**window).quantile(rule.quantile)
    smooth: Floats = envelope.rolling(**window).mean().to_numpy(dtype=np.float64)
    return smooth


def _polynomial(wavelength: Floats, flux: Floats, good: NDArray[np.bool_], rule: Continuum) -> Floats:
    """Chebyshev's, fitted again without what lies below it (lines) or far above (cosmic rays)."""
    used = good.copy()
    fitted = np.full(len(flux), np.nan)
    for _ in range(rule.iterations + 1):
        if used.sum() <= rule.degree + 1:
            break
        domain = (wavelength[0], wavelength[-1])
        fitted = Chebyshev.fit(wavelength[used], flux[used], rule.degree, domain=domain)(wavelength)
        residual = flux - fitted
        scatter = np.std(residual[used])
        kept = good & (residual > -rule.below * scatter) & (residual < rule.above * scatter)
        if (kept == used).all():
            break
        used = kept
    return fitted
