"""Whatever holds numbers comes in with its masks and units."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from astropy import units
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.utils.masked import Masked

from rsca_torch import RSCA, InputError, MaskedPPCA, Spectra, allowed_pairs, fit_ppca, leave_one_cluster_out
from rsca_torch.learners import ScaledComponents
from rsca_torch.spectra.arrays import as_floats, as_tensor, in_unit
from rsca_torch.spectra.view import View
from rsca_torch.testing import drawn_problem

HOLES = np.array([[False, True, False], [False, False, False]])
NUMBERS = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
MASKED = {
    "numpy": np.ma.array(NUMBERS, mask=HOLES),
    "integers": np.ma.array(NUMBERS.astype(int), mask=HOLES),
    "big-endian": np.ma.array(NUMBERS.astype(">f4"), mask=HOLES),
    "column": MaskedColumn(NUMBERS, mask=HOLES),
    "astropy": Masked(NUMBERS, mask=HOLES),
    "quantity": Masked(NUMBERS * 100 * units.percent, mask=HOLES),
    "pandas": pd.DataFrame(NUMBERS).mask(pd.DataFrame(HOLES)),
    "nullable": pd.DataFrame(NUMBERS).astype("Int64").mask(pd.DataFrame(HOLES)),
    "objects": np.where(HOLES, None, NUMBERS.astype(object)),
    "list": [[1, None, 3], [4, 5, 6]],
    "list of masked": [np.ma.array([1, 2, 3], mask=[0, 1, 0]), np.ma.array([4, 5, 6])],
    "list of tensors": [torch.tensor([1, torch.nan, 3]), torch.tensor([4.0, 5, 6])],
}


@pytest.mark.parametrize("given", MASKED.values(), ids=MASKED)
def test_what_is_under_a_mask_is_nan(given):
    got = as_tensor(given)
    assert got.is_floating_point()
    np.testing.assert_array_equal(got, np.where(HOLES, np.nan, NUMBERS))


@pytest.mark.parametrize(
    "given",
    [
        np.ma.array([True, True, False], mask=[False, True, False]),
        MaskedColumn([True, True, False], mask=[False, True, False]),
        pd.Series([True, None, False], dtype="boolean"),
        pd.Series([True, None, False], dtype=object),
        [True, None, False],
    ],
)
def test_flags_under_a_mask_are_false(given):
    assert as_tensor(given).tolist() == [True, False, False]


NO_NUMBERS = {"text": np.array(["a"]), "texts": [["a", "b"]], "ragged": [[1, 2], [3]], "objects": np.array([object()])}


@pytest.mark.parametrize("given", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_what_is_no_numbers(given):
    with pytest.raises(InputError, match="expected"):
        as_tensor(given)


def test_what_was_given_is_left_alone():
    given = np.ma.array(NUMBERS, mask=HOLES)
    as_tensor(given).add_(1)
    np.testing.assert_array_equal(given.data, NUMBERS)
    plain = NUMBERS.copy()
    assert as_tensor(plain).data_ptr() == plain.ctypes.data  # no copy where none is needed
    assert as_tensor(np.longdouble([1.5])).tolist() == [1.5]
    assert as_floats(torch.ones(2, dtype=torch.float8_e4m3fn)).dtype == torch.float32


FLUX = 1 + np.random.default_rng(0).normal(size=(60, 8)) @ np.random.default_rng(1).normal(size=(8, 8)) / 10
VALID = np.random.default_rng(2).random(FLUX.shape) > 0.1


def test_a_mask_censors_in_every_public_function():
    """As `valid` does; and where `valid` says otherwise, the mask of flux or error has the last word."""
    flux = np.ma.array(np.where(VALID, FLUX, 1e6), mask=~VALID)
    sigma, everywhere = np.ma.array(np.full(FLUX.shape, 0.1), mask=~VALID), np.ones(FLUX.shape, dtype=bool)
    model = fit_ppca(FLUX, VALID, 2)
    measured = fit_ppca(FLUX, VALID, 2, sigma.data)
    for got in (
        fit_ppca(flux, n_components=2),
        fit_ppca(flux, everywhere, 2),
        fit_ppca(pd.DataFrame(FLUX).where(VALID), n_components=2),
    ):
        assert torch.equal(got.loadings, model.loadings)
    assert torch.equal(fit_ppca(flux.data, everywhere, 2, sigma).loadings, measured.loadings)
    assert torch.equal(fit_ppca(FLUX, np.ma.array(everywhere, mask=~VALID), 2).loadings, model.loadings)
    right = model(FLUX, VALID)
    rsca = RSCA(model, torch.eye(2).double(), torch.zeros(2).double(), torch.ones(2).double(), torch.arange(8.0))
    for got in (
        model(flux),
        model(flux, everywhere),
        model(flux.data, everywhere, sigma),
        model(flux.filled(np.nan).tolist()),
    ):
        assert torch.equal(got, right)
    for name in ("posterior", "reconstruct", "set_aside", "log_likelihood"):
        got, other = getattr(model, name)(flux), getattr(model, name)(FLUX, VALID)
        assert (
            got == other
            if name == "log_likelihood"
            else torch.equal(torch.as_tensor(got[0]), torch.as_tensor(other[0]))
        )
    assert torch.equal(rsca(flux, everywhere), rsca(FLUX, VALID))
    holed = ~VALID.all(1)
    np.testing.assert_allclose(rsca(flux)[holed], rsca(FLUX, VALID)[holed], rtol=1e-12)
    for spectra in (Spectra(flux), Spectra(flux, everywhere), Spectra(flux.data, everywhere, sigma)):
        assert torch.equal(spectra.valid, torch.from_numpy(VALID))
        assert torch.equal(rsca.ppca.latents(spectra), right)


def test_masked_latents_are_refused():
    stars = drawn_problem()
    mask = torch.zeros_like(stars.members, dtype=torch.bool).numpy()
    mask[3, 1] = True
    for members in (np.ma.array(stars.members.numpy(), mask=mask), pd.DataFrame(stars.members.numpy()).mask(mask)):
        with pytest.raises(InputError, match="not finite"):
            leave_one_cluster_out(ScaledComponents, stars.field, members, stars.clusters)


def test_masked_pairs_are_not_allowed():
    velocity = np.ma.array([10.0, 12.0], mask=[False, True])
    assert allowed_pairs([10.0], velocity, [0.1], [0.1, 0.1]).tolist() == [[True, False]]
    assert allowed_pairs(
        [10.0] * units.km / units.s, [10000.0, 90000.0] * units.m / units.s, [0.1], [0.1, 0.1]
    ).tolist() == [[True, False]]
    stars = drawn_problem()
    allowed = np.ones((len(stars.members), len(stars.field)), dtype=bool)
    mask = np.random.default_rng(0).random(allowed.shape) < 0.5
    got, right = (
        leave_one_cluster_out(ScaledComponents, stars.field, stars.members, stars.clusters, flags).cluster_rates
        for flags in (np.ma.array(allowed, mask=mask), ~mask)
    )
    assert got == right


ANGSTROM = 15000 + np.arange(8.0)


@pytest.mark.parametrize(
    "given",
    [
        ANGSTROM / 1e4 * units.micron,
        ANGSTROM / 10 * units.nm,
        Column(ANGSTROM / 1e4, unit="micron"),
        QTable({"wave": ANGSTROM / 10 * units.nm})["wave"],
        Table({"wave": MaskedColumn(ANGSTROM, unit="Angstrom")})["wave"],
        Column(ANGSTROM, unit=units.Unit("Angstroms", parse_strict="silent")),
        (ANGSTROM * units.AA).to(units.eV, units.spectral()),
        pd.Series(ANGSTROM),
        ANGSTROM.tolist(),
    ],
    ids=["micron", "nm", "column", "qtable", "masked", "misspelt", "eV", "pandas", "list"],
)
def test_a_wavelength_with_a_unit_is_converted(given):
    spectra = Spectra(FLUX, wavelength=given)
    np.testing.assert_allclose(spectra.wavelength, ANGSTROM, rtol=1e-12)
    for source in (spectra, View(spectra)):
        np.testing.assert_allclose(source.on(given[2:4]).wavelength, ANGSTROM[2:4], rtol=1e-12)
    rsca = RSCA(
        fit_ppca(FLUX, n_components=2),
        torch.eye(2).double(),
        torch.zeros(2).double(),
        torch.ones(2).double(),
        torch.from_numpy(ANGSTROM),
    )
    np.testing.assert_allclose(rsca.embed(spectra), rsca.ppca(FLUX), rtol=1e-12)


def test_units_that_cannot_be_meant():
    with pytest.raises(InputError, match=r"wavelength in Angstrom expected, got km / s"):
        Spectra(FLUX, wavelength=ANGSTROM * units.km / units.s)
    for wrong in (
        lambda: Spectra(FLUX * units.Jy),
        lambda: fit_ppca(FLUX * units.Jy, n_components=2),
        lambda: as_tensor([1.0] * units.m),
    ):
        with pytest.raises(InputError, match=r"numbers without a unit expected, got a Quantity in (Jy|m): divide it"):
            wrong()
    assert torch.equal(Spectra(FLUX * units.dimensionless_unscaled).flux, torch.from_numpy(FLUX))
    with pytest.raises(InputError, match="velocity in km/s expected, got m"):
        in_unit([1.0] * units.m, "km/s", "velocity")


@pytest.mark.parametrize("factor", [1e-4, 0.1, 1e4])
def test_a_bare_wavelength_in_another_unit_is_named(factor):
    model = MaskedPPCA(torch.ones(8, 1).double(), torch.ones(8).double(), torch.ones(8).double(), 1.0)
    rsca = RSCA(
        model, torch.eye(1).double(), torch.zeros(1).double(), torch.ones(1).double(), torch.from_numpy(ANGSTROM)
    )
    spectra = Spectra(FLUX, wavelength=ANGSTROM * factor)
    ends = f"{ANGSTROM[0] * factor:.7g} to {ANGSTROM[-1] * factor:.7g}".replace("+", r"\+")
    message = rf"another wavelength grid: .* from {ends} Ang.* from 15000 to 15007 Ang.*: .* micron or nm\?"
    with pytest.raises(InputError, match=message):
        rsca.embed(spectra)
    with pytest.raises(InputError, match=message):
        View(spectra).on(rsca.wavelength)
