"""Spectra: valid by construction, moved by one method."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch
from astropy.table import Table
from omegaconf import OmegaConf

from rsca_torch import InputError, Spectra
from rsca_torch.spectra.bins import same_bins
from rsca_torch.survey.described.parts import Resample

FLUX = torch.arange(12, dtype=torch.float64).reshape(3, 4) + 1
VALID = torch.tensor([[True, True, False, True], [True, True, True, True], [False, False, False, False]])
WAVELENGTH = torch.tensor([15100.0, 15101.0, 15103.0, 15104.0], dtype=torch.float64)


@pytest.fixture
def spectra():
    stars = Table({"APOGEE_ID": ["a", "b", "c"], "SNR": [10.0, 20.0, 30.0]})
    return Spectra(FLUX, VALID, FLUX / 100, WAVELENGTH, stars, id="APOGEE_ID")


def test_invalid_bins_are_nan(spectra):
    assert torch.equal(spectra.flux.isnan(), ~VALID)
    assert torch.equal(spectra.sigma.isnan(), ~VALID)
    assert torch.equal(spectra.flux[VALID], FLUX[VALID])
    assert torch.equal(spectra.sigma[VALID], FLUX[VALID] / 100)
    assert FLUX.isfinite().all()  # what was given is left alone


@pytest.mark.parametrize("junk", [torch.nan, torch.inf, -1.0, 0.0])
def test_what_stands_in_an_invalid_bin_does_not_matter(junk):
    sigma = torch.where(VALID, FLUX / 100, junk)
    spectra = Spectra(torch.where(VALID, FLUX, junk), VALID, sigma)
    assert torch.equal(spectra.flux[VALID], FLUX[VALID])
    assert spectra.flux[~VALID].isnan().all()
    assert spectra.sigma[~VALID].isnan().all()


def test_defaults():
    holed = FLUX.clone()
    holed[0, 1], holed[1, 2] = torch.nan, torch.inf
    spectra = Spectra(holed)
    assert torch.equal(spectra.valid, holed.isfinite())
    assert spectra.flux[1, 2].isnan()
    assert spectra.sigma is None
    assert spectra.wavelength.tolist() == [0, 1, 2, 3]
    assert spectra.wavelength.dtype == torch.float64
    assert spectra.star_id.tolist() == ["0", "1", "2"]
    assert len(spectra) == 3
    sigma = torch.ones(3, 4)
    sigma[2, 3] = torch.inf
    assert torch.equal(Spectra(holed, sigma=sigma).valid, holed.isfinite() & sigma.isfinite())


def test_dtype_and_numpy():
    spectra = Spectra(FLUX.numpy().astype(np.float32), VALID.numpy(), FLUX.numpy())
    assert spectra.flux.dtype == spectra.sigma.dtype == torch.float32
    assert torch.equal(spectra.valid, VALID)


def test_frozen(spectra):
    with pytest.raises(dataclasses.FrozenInstanceError):
        spectra.flux = FLUX


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([2, 0], [2, 0]),
        (np.array([True, False, True]), [0, 2]),
        (torch.tensor([False, True, False]), [1]),
        (slice(1, None), [1, 2]),
        pytest.param(
            slice(None, None, -1),
            [2, 1, 0],
        ),
        (np.array([-1]), [2]),
    ],
    ids=str,
)
def test_take_moves_everything_together(spectra, rows, expected):
    taken = spectra.take(rows)
    assert len(taken) == len(expected)
    for name in ("flux", "sigma"):
        assert torch.equal(getattr(taken, name).nan_to_num(-1), getattr(spectra, name)[expected].nan_to_num(-1))
    assert torch.equal(taken.valid, VALID[expected])
    assert torch.equal(taken.wavelength, WAVELENGTH)
    assert taken.star_id.tolist() == [["a", "b", "c"][n] for n in expected]
    assert taken.stars["SNR"].tolist() == [[10.0, 20.0, 30.0][n] for n in expected]


def test_take_refuses_a_star_twice(spectra):
    with pytest.raises(InputError, match=r"1 star ids come more than once \(first: b\)"):
        spectra.take([1, 1])


def test_take_without_sigma():
    assert Spectra(FLUX).take([0]).sigma is None


def test_on_the_same_bins_is_the_same(spectra):
    assert spectra.on(WAVELENGTH.clone()) is spectra


def test_on_other_bins(spectra):
    wanted = torch.tensor([15099.0, 15101.0, 15102.0, 15104.0, 15110.0], dtype=torch.float64)
    other = spectra.on(wanted)
    assert torch.equal(other.wavelength, wanted)
    assert torch.equal(other.valid[:, [1, 3]], VALID[:, [1, 3]])
    assert not other.valid[:, [0, 2, 4]].any()
    for values, given in ((other.flux, FLUX), (other.sigma, FLUX / 100)):
        assert torch.equal(values[:, 1][VALID[:, 1]], given[:, 1][VALID[:, 1]])
        assert torch.equal(values[:, 3][VALID[:, 3]], given[:, 3][VALID[:, 3]])
        assert values[~other.valid].isnan().all()
    assert other.star_id.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("offset", [-0.0014, 0.0014])
def test_on_tolerates_rounding_of_the_wavelength(spectra, offset):
    """Within 1e-7 of the wavelength (0.0015 Angstrom here), from either side."""
    assert torch.equal(spectra.on(WAVELENGTH + offset).valid, VALID)


@pytest.mark.parametrize("offset", [-0.0016, 0.0016, 0.4, 1000.0])
def test_on_another_grid(spectra, offset):
    message = (
        r"another wavelength grid: the spectra have 4 bins from 15100 to 15104 Angstrom, wanted are 4 bins from "
        rf"{15100 + offset:.7g} to {15104 + offset:.7g} Angstrom, of which none is the same"
    )
    with pytest.raises(InputError, match=message):
        spectra.on(WAVELENGTH + offset)


def test_bins_that_coincide_by_chance_make_no_grid():
    """Of a grid with another step some bins are the same; the others would count as censored."""
    own, wanted = (torch.from_numpy(15000 * 10 ** (step * np.arange(3000))) for step in (6e-6, 6.02e-6))
    with pytest.raises(InputError, match=r"another wavelength grid: .* [1-9]\d* of which are the same: ingest them"):
        same_bins(own, wanted)
    assert same_bins(own, own[100:3000:7])[1].all()
    assert same_bins(own[::7], own)[1].sum() == 429  # a part of the same grid


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_another_grid_is_told_to_resample_to_has_its_bins(log, dtype):
    whole = 15100.8017 * 10 ** (6e-6 * np.arange(8575)) if log else 4000.123 + 0.7 * np.arange(8575)
    kept = torch.from_numpy(whole[np.r_[246:3274, 3585:6080, 6344:8335]]).to(dtype)  # gaps between detectors
    told = re.search(r"grid: (\{resample: .*\}) in the survey's description", refusal(kept.double() * 1.000002, kept))
    resample = Resample(**OmegaConf.create(told[1]).resample)
    assert same_bins(torch.from_numpy(resample.wavelength()), kept.double())[1].all()
    assert resample.n == 8335 - 246


def refusal(own, wanted):
    with pytest.raises(InputError) as error:
        same_bins(own, wanted)
    return str(error.value)


def test_a_grid_that_is_none_is_not_told():
    uneven = torch.tensor([5000.0, 5001.0, 5003.5]).double()
    assert "resample" not in refusal(uneven + 0.3, uneven)


def test_on_one_bin(spectra):
    other = spectra.on(WAVELENGTH[1:2])
    assert torch.equal(other.valid, VALID[:, 1:2])


TABLE = Table({"id": ["a", "b", "b"]})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"flux": FLUX[0]}, r"flux must be a floating-point array.*got torch.float64 \(4,\)"),
        ({"flux": FLUX.to(torch.complex128)}, "real numbers expected, got torch.complex128"),
        ({"flux": FLUX, "valid": VALID[:2]}, r"valid must be bool \(3, 4\), got torch.bool \(2, 4\)"),
        ({"flux": FLUX, "valid": VALID.int()}, r"valid must be bool \(3, 4\), got torch.int32 \(3, 4\)"),
        (
            {"flux": FLUX, "valid": VALID, "sigma": FLUX[:, 0]},
            r"sigma must have the shape of flux \(3, 4\), got \(3,\)",
        ),
        ({"flux": FLUX, "wavelength": WAVELENGTH[:3]}, r"wavelength must have shape \(4,\), got \(3,\)"),
        ({"flux": FLUX, "stars": TABLE[:2]}, "stars must have 3 rows, one a spectrum, got 2"),
        (
            {"flux": FLUX, "stars": Table({"ID": [1, 2, 3]})},
            "no column plays the role id, which names a star; there are ID: give id=NAME",
        ),
        ({"flux": FLUX, "stars": TABLE}, r"1 star ids come more than once \(first: b\); keep one row a star"),
        ({"flux": FLUX / 0, "valid": VALID}, "7 valid bins have a flux that is not finite"),
        (
            {"flux": FLUX, "valid": VALID, "sigma": FLUX - 1},
            "1 valid bins have an error that is not positive and finite",
        ),
        ({"flux": FLUX, "valid": VALID, "sigma": -FLUX}, "7 valid bins have an error that is not positive"),
        (
            {"flux": FLUX, "valid": VALID, "sigma": FLUX / 0},
            "7 valid bins have an error that is not positive and finite",
        ),
        pytest.param(
            {"flux": FLUX, "wavelength": WAVELENGTH.flip(0)},
            "wavelength must rise",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Spectra(**arguments)


def test_roles_of_the_star_table():
    table = Table({"sobject_id": [5, 6, 7], "set": ["", "b", "b"], "rv": [1.0, 2.0, 3.0]})
    spectra = Spectra(FLUX, stars=table, id="sobject_id", group="set", velocity="rv")
    assert spectra.star_id.tolist() == ["5", "6", "7"]
    assert spectra.take([2, 1]).stars.group.tolist() == ["b", "b"]
    assert spectra.on(torch.tensor([1.0, 2.0])).stars.velocity.tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(InputError, match=r"role group=cluster: the star table has no such column, but sobject_id, set"):
        Spectra(FLUX, stars=table, id="sobject_id", group="cluster")


def test_repr_says_what_is_there(spectra):
    told = "3 stars, 4 bins from 15100.00 to 15104.00 Angstrom, 58.3 % valid, errors known"
    assert repr(spectra) == f"Spectra: {told}"
    none = told.replace("3 stars", "0 stars").replace("58.3", "0.0")
    assert repr(spectra.take(slice(0))) == f"Spectra: {none}"
