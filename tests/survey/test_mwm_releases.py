"""One drawn survey in the files of every release: the same stars, the same spectra but for what releases differ in."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "surveys" / "releases.py"


@pytest.fixture(scope="module")
def releases():
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


@pytest.fixture(scope="module")
def stores(releases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("releases")
    return {name: releases.store_of(name, folder, 24, 3) for name in releases.RELEASES}


@pytest.mark.parametrize("name", ["DR13", "DR14", "DR16, Lite", "DR17", "DR19"])
def test_every_release_has_the_same_stars_with_the_same_spectra(releases, stores, name):
    first, other = releases.read(stores["DR16"]), releases.read(stores[name])
    told = releases.differences(first, other)
    assert told["stars"] > 200
    assert told["regrouped"] == 0
    assert told["only_here"] == 0
    # Of DR19 one star's file is missing, as one in 331 is.
    assert told["not_here"] == (1 if name == "DR19" else 0)
    # Only what is divided by a continuum and stored in float32 is rounded.
    assert told["largest"] <= (3e-7 if name == "DR19" else 0)
    assert told["error"] <= (3e-7 if name == "DR19" else 0)
    # DR13 trusts no flux above 1.1; DR17 and DR19 mark a sky line's sides in full; NMF lacks 8 pixels of the blue chip.
    assert told["trusted"] == pytest.approx({"DR17": 0.989, "DR19": 0.988}.get(name, 1), abs=2e-3)


def test_extinction_velocity_and_abundances_are_the_same_too(stores):
    dr16, dr19 = stores["DR16"].members.stars, stores["DR19"].members.stars
    row = {str(star): n for n, star in enumerate(dr16.id)}
    of = [row[str(name)] for name in dr19["obj"]]
    np.testing.assert_allclose(dr19.extinction, dr16.extinction[of], rtol=1e-6)
    np.testing.assert_allclose(dr19.velocity, dr16.velocity[of], rtol=1e-6)
    for column in ("FE_H", "TIII_H", "CU_H", "CE_H_ERR"):
        np.testing.assert_allclose(dr19[column], np.asarray(dr16[column])[of], rtol=1e-6)
