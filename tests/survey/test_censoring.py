from __future__ import annotations

import numpy as np
import pytest
import torch
from mini_archive import AUTHORS

from rsca_torch.errors import InputError
from rsca_torch.survey.apogee import GRID
from rsca_torch.survey.censoring import Censoring


def test_trusted_bins_are_the_chips_without_the_authors_ranges():
    trusted = AUTHORS.trusted_bins(GRID)
    assert trusted.sum() == 6774
    edges = np.flatnonzero(np.diff(np.r_[0, trusted.astype(int), 0])).reshape(-1, 2).tolist()
    assert edges == [
        [246, 720], [910, 2370], [2470, 2600], [2750, 3274], [3585, 4300], [4600, 6080], [6344, 8335],
    ]  # fmt: skip
    assert Censoring(interstellar_pixels=()).trusted_bins(GRID).sum() == 7514


def test_ranges_in_angstrom_are_added():
    bins = Censoring(interstellar_pixels=(), interstellar_angstrom=((16000, 16010),)).trusted_bins(GRID)
    removed = np.flatnonzero(Censoring(interstellar_pixels=()).trusted_bins(GRID) & ~bins)
    angstrom = GRID.wavelength
    assert 16000 <= angstrom[removed[0]] < 16000.3
    assert 16009.7 < angstrom[removed[-1]] < 16010
    assert (np.diff(removed) == 1).all()


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_valid(dtype, kind):
    cases = [
        (0.9, 0.01, True), (0.9, 0.05, True), (0.9, 0.0500001, False), (0.9, 0.0, False), (0.9, -0.01, False),
        (0.9, np.nan, False), (0.9, np.inf, False), (0.9, -np.inf, False), (-np.inf, 0.01, False),
        (np.nan, 0.01, False), (np.inf, 0.01, False), (0.0, 0.01, False),
        (1e-4, 0.01, False), (1e-4, 1e10, False), (0.0, 10.0, False), (0.001, 0.01, False), (0.0011, 0.01, True),
        (-0.1, 0.01, False), (0.0, 0.0, False), (2.0, 0.005, True),
    ]  # fmt: skip
    flux, error = (kind(np.array([case[i] for case in cases], dtype=dtype)) for i in (0, 1))
    assert Censoring().valid(flux, error).tolist() == [case[2] for case in cases]


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_an_error_of_exactly_the_bound_counts_in_the_precision_of_the_file(kind):
    stored = np.array([0.05], dtype=np.float32)
    assert float(stored[0]) > 0.05  # a comparison in float64 would drop it
    larger = np.nextafter(stored, np.float32(1))
    assert Censoring().valid(kind(np.ones(1, np.float32)), kind(stored)).tolist() == [True]
    assert Censoring().valid(kind(np.ones(1, np.float32)), kind(larger)).tolist() == [False]


def test_faulty_errors_are_counted_where_there_is_a_flux():
    faulty = [0, -0.0, -0.01, -1e30, -1, np.nan, np.inf, -np.inf, np.nan]
    normal = [0.005, 0.05, 0.06, 10, 1e10, 1e-30]
    error = np.array(faulty + normal, dtype=np.float32)
    assert Censoring().faulty_errors(np.full(error.shape, 0.9, np.float32), error) == (2, 3, 4)
    for flux in (0, 1e-4, 0.001, -0.5, np.nan, np.inf, -np.inf):
        assert Censoring().faulty_errors(np.full(error.shape, flux, np.float32), error) == (0, 0, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"max_error": 0},
        {"min_flux": -1},
        {"interstellar_pixels": [[5, 5]]},
        {"interstellar_pixels": [[0, 9000]]},
        {"interstellar_pixels": [[1, 2, 3]]},
        {"interstellar_angstrom": [[1, 2]]},
    ],
)
def test_impossible_rules(options):
    with pytest.raises(InputError, match=r"censoring needs|an interstellar range is"):
        Censoring(**options).trusted_bins(GRID)
