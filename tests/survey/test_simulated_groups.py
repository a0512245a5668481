"""Siblings outside clusters in the simulated survey: wide binaries and moving groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table
from test_simulated_hard import DR16, PLAIN, observed

from rsca_torch.errors import InputError
from rsca_torch.survey.simulated import Groups, Population, SimulatedSurvey

GROUPED = replace(PLAIN, groups=Groups(pairs=30, moving_groups=3, members=6))


def test_siblings_outside_clusters_change_nothing_of_the_others():
    plain, stars, *spectra = replace(PLAIN, repeats=20), *observed(replace(GROUPED, repeats=20))
    without = observed(plain)
    others = stars["GROUP"] == ""
    assert (~others).sum() == 30 * 2 + 3 * 6
    assert (stars["APOGEE_ID"][others] == without[0]["APOGEE_ID"]).all()
    for some, all_of in zip(spectra, without[1:], strict=True):
        np.testing.assert_array_equal(some[others], all_of)
    measured = [
        survey._measure(table, DR16, np.random.default_rng(0))["X_H"]
        for survey, table in ((GROUPED, stars), (plain, without[0]))
    ]
    np.testing.assert_array_equal(measured[0][others], measured[1])


def test_siblings_share_their_birth_and_binaries_their_place():
    stars = replace(PLAIN, groups=Groups(pairs=300, moving_groups=20)).draw(np.random.default_rng(2))
    for role, size, velocity in (("wide_binary", 2, 0.5), ("moving_group", 10, 1.5)):
        some = stars[stars["ROLE"] == role]
        some.sort("GROUP")
        born, speed, ak = (np.asarray(some[name]) for name in ("BIRTH_X_H", "VHELIO", "AK"))

        def inside(values, size=size):
            return values.reshape(-1, size, *values.shape[1:]).std(1, ddof=1)

        assert np.sqrt((inside(born) ** 2).mean()) == pytest.approx(0.018, rel=0.1)
        assert born.std(0).min() > 0.05
        assert np.sqrt((inside(speed) ** 2).mean()) == pytest.approx(velocity, rel=0.15)
        assert speed.std() > 20
        assert (np.median(inside(ak)) < 0.01) == (role == "wide_binary")
        fields = [len(set(row)) for row in np.asarray(some["FIELD"]).reshape(-1, size)]
        assert (max(fields) == 1) == (role == "wide_binary")
        assert len(set(some["APOGEE_ID"])) == len(some)


def test_hidden_abundances_are_shared_at_birth_too():
    hard = replace(GROUPED.faint_lines, number=10, mixing=0.0)
    survey = replace(GROUPED, faint_lines=hard, groups=Groups(pairs=300), stars=Population(interlopers=0.1))
    stars = survey.draw(np.random.default_rng(2))
    some = stars[stars["ROLE"] == "wide_binary"]
    some.sort("GROUP")
    hidden = np.asarray(some["HIDDEN_X_H"])[:, 0]
    assert hidden.reshape(-1, 2).std(1).mean() < 0.6 * hidden.std()
    assert set(some["CLUSTER"]) == {""}
    assert not some["INTERLOPER"].any()


def test_the_lists_lie_beside_the_tree(tmp_path):
    survey = SimulatedSurvey(n_field=6, stars=Population(traps=1), groups=Groups(pairs=3, moving_groups=1, members=4))
    truth = survey.write(tmp_path / "tree", seed=0)
    binaries, moving = (Table.read(tmp_path / "tree" / f"{name}.csv") for name in ("binaries", "moving_groups"))
    assert sorted(set(binaries["GROUP"])) == ["B0001", "B0002", "B0003"]
    assert set(moving["GROUP"]) == {"MG01"}
    assert len(moving) == 4
    listed = {*binaries["APOGEE_ID"], *moving["APOGEE_ID"]}
    assert listed == {*truth["APOGEE_ID"][truth["GROUP"] != ""]}
    SimulatedSurvey(n_field=6, stars=Population(traps=1)).write(tmp_path / "plain", seed=0)
    assert not list((tmp_path / "plain").glob("*.csv"))


@pytest.mark.parametrize("options", [{"pairs": -1}, {"moving_groups": -2}, {"members": 1}], ids=str)
def test_impossible_groups_are_refused(options):
    with pytest.raises(InputError, match="must not be negative, and members at least 2"):
        Groups(**options)
