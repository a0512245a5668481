from __future__ import annotations

import numpy as np
import pytest

from rsca_torch.errors import InputError
from rsca_torch.survey.apogee import wavelength
from rsca_torch.survey.censoring import Censoring


def test_trusted_bins_are_the_chips_without_the_authors_ranges():
    trusted = Censoring().trusted_bins()
    assert trusted.sum() == 6774
    edges = np.flatnonzero(np.diff(np.r_[0, trusted.astype(int), 0])).reshape(-1, 2).tolist()
    assert edges == [
        [246, 720], [910, 2370], [2470, 2600], [2750, 3274], [3585, 4300], [4600, 6080], [6344, 8335],
    ]  # fmt: skip
    assert Censoring(interstellar_pixels=()).trusted_bins().sum() == 7514


def test_ranges_in_angstrom_are_added():
    bins = Censoring(interstellar_pixels=(), interstellar_angstrom=((16000, 16010),)).trusted_bins()
    removed = np.flatnonzero(Censoring(interstellar_pixels=()).trusted_bins() & ~bins)
    grid = wavelength()
    assert 16000 <= grid[removed[0]] < 16000.3
    assert 16009.7 < grid[removed[-1]] < 16010
    assert (np.diff(removed) == 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_valid(dtype):
    cases = [
        (0.9, 0.01, True), (0.9, 0.05, True), (0.9, 0.0500001, False), (0.9, 0.0, False), (0.9, -0.01, False),
        (0.9, np.nan, False), (0.9, np.inf, False), (np.nan, 0.01, False), (np.inf, 0.01, False), (0.0, 0.01, False),
        (1e-4, 0.01, False), (1e-4, 1e10, False), (0.0, 10.0, False), (0.001, 0.01, False), (0.0011, 0.01, True),
        (-0.1, 0.01, False), (0.0, 0.0, False), (2.0, 0.005, True),
    ]  # fmt: skip
    flux, error = (np.array([case[i] for case in cases], dtype=dtype) for i in (0, 1))
    assert Censoring().valid(flux, error).tolist() == [case[2] for case in cases]


def test_an_error_of_exactly_the_bound_counts_in_the_precision_of_the_file():
    stored = np.array([0.05], dtype=np.float32)
    assert float(stored[0]) > 0.05  # a comparison in float64 would drop it
    assert Censoring().valid(np.ones(1, np.float32), stored).all()
    assert not Censoring().valid(np.ones(1, np.float32), np.nextafter(stored, np.float32(1))).any()


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
        Censoring(**options)
