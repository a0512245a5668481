"""Resampling conserves equivalent widths, its errors are calibrated; air and vacuum; continua; lines."""

from __future__ import annotations

import math

import numpy as np
import pytest
from other_surveys import air_of, normalised_flux, vacuum_of

from rsca_torch.survey.described.continuum import continuum_of
from rsca_torch.survey.described.parts import Continuum, Resample, Wavelength
from rsca_torch.survey.described.resampling import resampled
from rsca_torch.survey.described.strong_lines import line_velocity
from rsca_torch.survey.described.wavelength import at_rest, to_air, to_vacuum
from rsca_torch.survey.reader import Measured

GRID = Resample(start=6502.0, step=6.0e-6, n=600).wavelength()
PIXELS = 6500.0 + 0.047 * np.arange(1300)


def widths(wavelength):
    edges = (wavelength[1:] + wavelength[:-1]) / 2
    inner = np.diff(edges)
    return np.concatenate([inner[:1], inner, inner[-1:]])


@pytest.mark.parametrize("sigma", [0.2, 0.05, 0.02])
def test_equivalent_widths_are_conserved_to_a_thousandth(sigma):
    erf, edges = np.vectorize(math.erf), np.append(PIXELS - 0.0235, PIXELS[-1] + 0.0235)
    for centre in (6510.0, 6520.013, 6530.031):
        area = 0.1 * 0.5 * np.diff(erf((edges - centre) / (math.sqrt(2) * sigma))) / 0.047
        new = resampled(PIXELS, 1 - area, np.full(len(PIXELS), 0.01), np.ones(len(PIXELS), dtype=bool), GRID)
        near = abs(GRID - centre) < 3
        assert ((1 - new.flux[near]) * widths(GRID)[near]).sum() == pytest.approx(0.1, rel=1e-3)


def test_errors_are_calibrated():
    rng = np.random.default_rng(0)
    good, sigma = np.ones(len(PIXELS), dtype=bool), rng.uniform(0.005, 0.02, len(PIXELS))
    truth = resampled(PIXELS, np.ones(len(PIXELS)), sigma, good, GRID)
    chi2 = [
        (((resampled(PIXELS, 1 + sigma * rng.normal(size=len(PIXELS)), sigma, good, GRID).flux - 1) / truth.sigma) ** 2)
        for _ in range(40)
    ]
    assert truth.valid.all()
    assert np.mean(chi2) == pytest.approx(1.0, abs=0.05)


def test_a_bad_pixel_takes_every_bin_that_it_has_a_part_in():
    good = np.ones(len(PIXELS), dtype=bool)
    good[200] = False
    flux = np.where(good, 1.0, 1e6)
    new = resampled(PIXELS, flux, np.full(len(PIXELS), 0.01), good, GRID)
    half = widths(GRID) / 2
    touched = (GRID + half > PIXELS[200] - 0.0235) & (GRID - half < PIXELS[200] + 0.0235)
    np.testing.assert_array_equal(~new.valid, touched)
    assert np.nanmax(new.flux) == pytest.approx(1.0)


def test_bins_off_the_old_grid_are_not_valid():
    good = np.ones(100, dtype=bool)
    new = resampled(PIXELS[:100], np.ones(100), np.full(100, 0.01), good, GRID)
    assert new.valid.any()
    assert not new.valid[PIXELS[99] + 0.0235 < GRID].any()


def test_air_and_vacuum_are_each_other_s_inverse_and_the_published_numbers():
    vacuum = np.linspace(3000.0, 17000.0, 2000)
    np.testing.assert_allclose(to_vacuum(to_air(vacuum)), vacuum, rtol=1e-12)
    np.testing.assert_allclose(to_air(vacuum), air_of(vacuum), rtol=1e-12)
    # NIST's air wavelengths of H-beta, Na D2, H-alpha, Ca II; their vacuum ones within 0.01 A.
    np.testing.assert_allclose(
        to_vacuum(np.array([4861.35, 5889.951, 6562.79, 8542.09])), [4862.71, 5891.583, 6564.60, 8544.44], atol=0.01
    )


def test_a_star_in_air_and_barycentric_comes_back_within_a_hundredth_of_an_angstrom():
    rest, speed = np.linspace(4710.0, 7890.0, 500), 57.3
    given = air_of(rest * (1 + speed / 299792.458)) / 10  # nm
    back = at_rest(given, Wavelength("nm", "air", "barycentric", "rv"), speed)
    assert abs(back - rest).max() < 0.01
    np.testing.assert_allclose(vacuum_of(air_of(rest)), rest, atol=1e-6)


@pytest.mark.parametrize(
    "rule", [Continuum("running_quantile", width=80.0, quantile=0.9), Continuum("polynomial", degree=4)]
)
def test_a_continuum_is_found_whatever_the_level(rule):
    rng = np.random.default_rng(0)
    wavelength = np.linspace(6200.0, 6800.0, 1200)
    level = 500 * (1 + 0.3 * ((wavelength - 6500) / 300) ** 2 + 0.2 * (wavelength - 6500) / 300)
    flux = level * (normalised_flux(wavelength, np.zeros(3), 20.0) + 0.01 * rng.normal(size=1200))
    flux[100] = 1e9
    good = np.arange(1200) != 100
    ratio = continuum_of(wavelength, flux, good, rule) / level
    assert np.nanmedian(ratio) == pytest.approx(1.0, abs=0.02)
    assert np.nanstd(ratio[50:-50]) < 0.01
    both = continuum_of(wavelength, 7 * flux, good, rule)
    np.testing.assert_allclose(both, 7 * ratio * level, rtol=1e-6)


@pytest.mark.parametrize(("width", "speed"), [(12.0, 0.0), (80.0, 60.0), (80.0, -83.0)])
def test_the_strong_lines_tell_where_they_are(width, speed):
    wavelength = np.linspace(4800.0, 6700.0, 9000)
    flux = normalised_flux(wavelength / (1 + speed / 299792.458), np.zeros(3), width)
    assert line_velocity(wavelength, Measured(flux, np.full(9000, 0.01))) == pytest.approx(speed, abs=12)
    assert np.isnan(line_velocity(wavelength + 9000, Measured(flux, np.full(9000, 0.01))))
