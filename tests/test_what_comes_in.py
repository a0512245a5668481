"""Whatever holds the spectra, the numbers are those of the plain float64 call with `valid`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from astropy import units
from astropy.table import MaskedColumn
from astropy.utils.masked import Masked
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rsca_torch import RSCA, Removal, Spectra, fit_ppca

N_STARS, N_BINS = 7, 9
RANDOM = np.random.default_rng(0)
LOADINGS = RANDOM.normal(size=(2, N_BINS))
FIELD = 1 + RANDOM.normal(size=(50, 2)) @ LOADINGS + RANDOM.normal(size=(50, N_BINS)) / 10
SIGMA = np.full(FIELD.shape, 0.1)

#: Each takes flux (float64) and valid, and gives what a user may have of them: one array, holes marked its own way.
HOLED = {
    "torch": lambda flux, valid: torch.from_numpy(np.where(valid, flux, np.nan)),
    "infinite": lambda flux, valid: np.where(valid, flux, np.inf),
    "big-endian": lambda flux, valid: np.where(valid, flux, np.nan).astype(">f8"),
    "fortran": lambda flux, valid: np.asfortranarray(np.where(valid, flux, np.nan)),
    "reversed": lambda flux, valid: np.where(valid, flux, np.nan)[::-1].copy()[::-1],
    "long double": lambda flux, valid: np.where(valid, flux, np.nan).astype(np.longdouble),
    "masked": lambda flux, valid: np.ma.array(np.where(valid, flux, 1e20), mask=~valid),
    "column": lambda flux, valid: MaskedColumn(np.where(valid, flux, -1.0), mask=~valid),
    "astropy": lambda flux, valid: Masked(flux * units.dimensionless_unscaled, mask=~valid),
    "percent": lambda flux, valid: np.where(valid, flux, np.nan) * 100 * units.percent,
    "pandas": lambda flux, valid: pd.DataFrame(flux).where(valid),
    "nullable": lambda flux, valid: pd.DataFrame(flux).astype("Float64").where(valid),
    "objects": lambda flux, valid: np.where(valid, flux.astype(object), None),
    "list": lambda flux, valid: np.where(valid, flux.astype(object), None).tolist(),
}
#: As above, of whole numbers.
WHOLE = {
    **{
        str(dtype): lambda flux, _, d=dtype: torch.from_numpy(flux).to(d)
        for dtype in (torch.int16, torch.uint8, torch.int64)
    },
    "unsigned": lambda flux, _: flux.astype(np.uint16),
    "list": lambda flux, _: flux.astype(int).tolist(),
    "masked": lambda flux, valid: np.ma.array(flux.astype(int), mask=~valid),
    "nullable": lambda flux, valid: pd.DataFrame(flux).astype("Int64").where(valid),
}
SOME_FLUX = arrays(np.float64, (N_STARS, N_BINS), elements=st.floats(0.25, 2, width=16))
SOME_VALID = arrays(np.bool_, (N_STARS, N_BINS))


def made(noise, clip, removing):
    step_1 = fit_ppca(FIELD, None, 2, SIGMA, noise, 1e-4, clip=clip)
    removal = None
    if removing:
        centre, shares = torch.zeros(2).double(), torch.ones(1).double()
        removal = Removal(step_1, step_1.loadings[:, :1], torch.eye(1, 2).double(), centre, shares)
    turn = torch.tensor([[2.0, 1.0], [-0.5, 3.0]]).double()
    return RSCA(step_1, turn, torch.ones(2).double(), torch.ones(2).double(), torch.arange(N_BINS).double(), removal)


MODELS = [made("isotropic", None, False), made("measured", None, False), made("measured", 5.0, True)]


def marginalised(model, flux, valid, sigma=None):
    """The plain call: float64 and valid."""
    return model(torch.from_numpy(flux), torch.from_numpy(valid), None if sigma is None else torch.from_numpy(sigma))


def same(got, right, rtol=1e-9):
    np.testing.assert_allclose(got.double(), right, rtol=rtol, atol=rtol)


def agree(model, own, flux, valid):
    """Every public call on what a user has, against the plain one."""
    right, everywhere = marginalised(model, flux, valid), np.ones(valid.shape, dtype=bool)
    whole = valid.all(1)
    linear = torch.from_numpy(np.where(valid, flux, 0)) @ model.weight.T + model.bias
    same(model(own), torch.where(torch.from_numpy(whole)[:, None], linear, right))
    same(model(own, valid), right)
    same(model.ppca(own), model.ppca(flux, valid))
    same(model.ppca.reconstruct(own), model.ppca.reconstruct(flux, valid))
    spectra = Spectra(own)
    assert torch.equal(spectra.valid, torch.from_numpy(valid))
    assert spectra.flux.dtype == torch.float64
    same(model.embed(spectra), right)
    sigma = np.full(flux.shape, 0.2)
    same(model(own, None, np.ma.array(sigma, mask=~valid)), marginalised(model, flux, valid, sigma))
    same(
        model(flux, np.ma.array(everywhere, mask=~valid), pd.DataFrame(sigma)), marginalised(model, flux, valid, sigma)
    )
    same(model(flux, pd.DataFrame(everywhere, dtype="boolean").mask(~valid)), right)


@pytest.mark.parametrize("kind", HOLED)
@given(flux=SOME_FLUX, valid=SOME_VALID, model=st.sampled_from(MODELS))
@settings(max_examples=10, deadline=None)
def test_numbers(kind, flux, valid, model):
    agree(model, HOLED[kind](flux, valid), flux, valid)


@pytest.mark.parametrize("kind", WHOLE)
@given(flux=SOME_FLUX.map(np.rint), valid=SOME_VALID, model=st.sampled_from(MODELS))
@settings(max_examples=10, deadline=None)
def test_whole_numbers(kind, flux, valid, model):
    if kind not in ("masked", "nullable"):  # they cannot say what is not valid
        valid = np.ones_like(valid)
    agree(model, WHOLE[kind](flux, valid), flux, valid)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn], ids=str)
@given(flux=SOME_FLUX, valid=SOME_VALID, model=st.sampled_from(MODELS))
@settings(max_examples=10, deadline=None)
def test_lower_precision(dtype, flux, valid, model):
    """Features of the numbers that came in, rounded once at the end."""
    own = torch.from_numpy(np.where(valid, flux, np.nan)).to(dtype)
    exact, flags = own.double(), torch.from_numpy(valid)
    for arguments in ((), (flags,), (flags, torch.full(flags.shape, 0.2))):
        got, right = model(own, *arguments), model(exact, *arguments)
        assert got.dtype == dtype
        rounding = torch.finfo(dtype).eps
        close = (got.double() - right).abs() <= 2 * rounding * right.abs().clamp(min=0.1) + 1e-5
        assert (close | (right.abs() > torch.finfo(dtype).max)).all()
