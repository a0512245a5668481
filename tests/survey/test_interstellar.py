"""The finders by themselves: against slow NumPy, and on what cannot be told apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rsca_torch import InputError, fit_ppca
from rsca_torch.spectra.blocks import Arrays
from rsca_torch.spectra.stars import Stars
from rsca_torch.survey.interstellar import InterstellarFinder, Residuals, require_apart, residuals, side

OPTIONS = {
    "low": 0.1,
    "high": 0.5,
    "fewest_low": 3,
    "fewest_high": 2,
    "make_up": True,
    "width": 1.0,
    "depth": 0.01,
    "significance": 5.0,
    "fewest_stars": 10,
    "padding": 0.5,
    "bands": [15272.42, 15617.0],
}


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")  # a dozen of iterations tell enough
@pytest.mark.parametrize("noise", ["isotropic", "measured", "measured+scatter"])
def test_misfits_are_flux_less_the_model(make_spectra, noise):
    data = make_spectra(measured=True)
    data.flux[3, 4] += 9  # set aside, and yet a misfit
    data.valid[3, 4] = True
    data.flux[~data.valid] = np.nan
    clip = None if noise == "isotropic" else 4.0
    model = fit_ppca(data.flux, data.valid, 2, data.sigma, noise, 1e-3, 12, clip=clip)
    misfits = list(model.misfits(Arrays(data.flux, data.valid, data.sigma)))
    residual, valid, sigma = (torch.cat(part).numpy() for part in zip(*misfits, strict=True))
    if clip:
        assert model.set_aside(data.flux, data.valid, data.sigma)[3, 4]
    expected = data.flux - model.reconstruct(data.flux, data.valid, data.sigma).numpy()
    np.testing.assert_array_equal(valid, data.valid)
    np.testing.assert_allclose(residual, np.where(data.valid, expected, 0), rtol=1e-9, atol=1e-12)
    variance = model.scatter.numpy() + (0 if noise == "isotropic" else data.sigma**2)
    np.testing.assert_allclose(sigma, np.where(data.valid, np.sqrt(variance), np.inf), rtol=1e-12)


def test_residuals_are_means_over_stars(make_spectra, monkeypatch):
    data = make_spectra(missing=0.3)
    data.valid[:, 5] = data.valid[1:, 8] = False  # no star, and a single one
    wavelength = np.cumsum([0, 0.3, 0.3, 0.4, 0.3, 2.0, 0.2, 0.3, 2.0, 2.0, 0.3, 0.2]) + 15000
    model = fit_ppca(make_spectra(seed=1).flux, None, 2, tolerance=1e-3)
    monkeypatch.setattr("rsca_torch.spectra.blocks.BLOCK_STARS", 7)
    found = residuals(model, Arrays(data.flux, data.valid), torch.from_numpy(wavelength), 1.0)
    left = np.where(data.valid, data.flux - model.reconstruct(data.flux, data.valid).numpy(), np.nan)
    for place in range(12):
        own = left[data.valid[:, place], place]
        near = np.abs(wavelength - wavelength[place]) <= 0.5
        windows = np.array([np.nanmean(star[near]) for star in left if not np.isnan(star[near]).all()])
        assert found.stars[place] == len(windows)
        mean, absolute = (own.mean(), np.abs(own).mean()) if len(own) else (np.nan, np.nan)
        smooth = windows.mean() if len(windows) else np.nan
        error = windows.std(ddof=1) / math.sqrt(len(windows)) if len(windows) > 1 else np.nan
        for got, expected in zip(found[1:], (mean, absolute, smooth, error), strict=True):
            assert float(got[place]) == pytest.approx(expected, rel=1e-9, abs=1e-13, nan_ok=True)


def test_the_two_sides_of_a_cut():
    values = np.array([0.3, np.nan, 0.05, 0.7, 0.1, 0.02, -0.1, 0.5, 0.9])
    low, high = side(values, "A", 0.1, 3, False), side(values, "A", 0.5, 2, False, above=True)
    assert (low.rows.tolist(), high.rows.tolist()) == ([2, 5, 6], [3, 8])  # bounds are strict
    assert (low.said, high.said) == ("the 3 stars with A < 0.1", "the 2 stars with A > 0.5")
    low, high = side(values, "A", 0.1, 4, True), side(values, "A", 0.5, 4, True, above=True)
    assert (low.rows.tolist(), high.rows.tolist()) == ([2, 4, 5, 6], [0, 3, 7, 8])
    assert low.said == "the 4 stars with the lowest A, up to 0.1 (A < 0.1 leaves 3)"
    assert high.said == "the 4 stars with the highest A, down to 0.3 (A > 0.5 leaves 2)"
    with pytest.raises(InputError, match=r"A < 0.1 leaves 3 of 9 stars, 4 are needed: move the cut, or give make_up"):
        side(values, "A", 0.1, 4, False)
    with pytest.raises(InputError, match=r"A > 0.5 leaves 2 of 9 stars, 10 are needed: 8 have a value at all"):
        side(values, "A", 0.5, 10, True, above=True)
    require_apart(low, high)
    with pytest.raises(InputError, match=r"1 stars are among both the 5 stars .* and the 4 stars"):
        require_apart(side(values, "A", 0.1, 5, True), high)


def stars_of(columns):
    return Stars.of({"id": np.arange(len(columns["AK_TARG"])), **columns}, extinction="AK_TARG")


def test_sides_of_a_star_table():
    finder = InterstellarFinder(**OPTIONS)
    low, high = finder.sides(stars_of({"AK_TARG": [0.6, 0.05, 0.01, 0.7, 0.09]}))
    assert (low.rows.tolist(), high.rows.tolist()) == ([1, 2, 4], [0, 3])
    with pytest.raises(InputError, match=r"no column of the star table plays the role extinction, .*censoring=found"):
        finder.sides(Stars.of({"id": ["a"], "TEFF": [4500.0]}))
    with pytest.raises(InputError, match="the column AK_TARG of the star table has no value"):
        finder.sides(stars_of({"AK_TARG": [np.nan, np.nan]}))
    with pytest.raises(InputError, match="1 stars are among both"):
        finder.sides(stars_of({"AK_TARG": [0.6, 0.05, 0.01, 0.2]}))


def found_of(depth, error=0.001, stars=50.0):
    depth = torch.tensor(depth, dtype=torch.float64)
    full = torch.full_like(depth, stars)
    return Residuals(full, -depth, depth.abs(), -depth, torch.full_like(depth, error))


def spans(features):
    return [(round(one.first, 3), round(one.end, 3)) for one in features]


def test_the_rule():
    wavelength = torch.arange(20, dtype=torch.float64) * 0.4 + 15270
    depth = [0.0] * 20
    depth[0], depth[5], depth[6], depth[8], depth[12], depth[19] = 0.02, 0.02, 0.1, 0.011, 0.0099, 0.03
    finder = InterstellarFinder(**OPTIONS)
    features = finder.features(found_of(depth), wavelength)
    # 5, 6 and 8 are 0.8 A apart: their intervals meet; 12 is not deep enough; what leaves the grid is cut off.
    assert spans(features) == [(15270, 15270.5), (15271.5, 15273.7), (15277.1, 15277.6)]
    deepest = features[1]
    assert (deepest.deepest, deepest.depth, deepest.band) == pytest.approx((15272.4, 0.1, 15272.42))
    assert deepest.significance == pytest.approx(100)
    assert len(finder.features(found_of(depth, error=0.003), wavelength)) == 3  # 8 is not significant
    assert spans(finder.features(found_of(depth, error=0.003), wavelength))[1] == (15271.5, 15272.9)
    assert finder.features(found_of(depth, error=0.1), wavelength) == []
    assert finder.features(found_of(depth, stars=9.0), wavelength) == []
    assert finder.features(found_of([-d for d in depth]), wavelength) == []  # emission
    assert finder.features(found_of([np.nan] * 20), wavelength) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"low": 0.5}, r"low < high and a positive width, depth and significance expected, got 0.5, 0.5"),
        ({"width": 0}, r"positive width"),
        ({"depth": -1}, r"positive width"),
        ({"significance": 0}, r"positive width"),
        ({"padding": 0}, r"padding > 0, fewest_stars > 1 and some bands expected, got 0, 10"),
        ({"fewest_stars": 1}, r"fewest_stars > 1"),
        ({"bands": []}, r"some bands expected"),
    ],
)
def test_a_finder_that_cannot_be(changed, message):
    with pytest.raises(InputError, match=message):
        InterstellarFinder(**OPTIONS | changed)
