"""The reliability picture's numbers are those of the calibration itself."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from rsca_torch import ScaledComponents, leave_one_cluster_out
from rsca_torch.report.reliability import draw_reliability, reliability_of
from rsca_torch.testing import drawn_problem


@pytest.fixture(scope="module")
def told():
    stars, make = drawn_problem(), partial(ScaledComponents, score="likelihood")
    told = leave_one_cluster_out(make, stars.field, stars.members, stars.clusters, calibrate=True).calibrated
    return replace(told, members={name: 2 + number for number, name in enumerate(told.members)})  # unlike sizes weigh


@pytest.mark.parametrize("prior", [0.5, 0.01])
def test_one_survey(told, prior):
    found, expected = reliability_of([told], prior), told.reliability(prior)
    np.testing.assert_allclose(found[:, :2], [(each.probability, each.siblings) for each in expected], rtol=1e-12)
    assert (found[:, 2] <= found[:, 3]).all()
    assert (found[:, 2:] >= 0).all()
    assert (found[:, 2:] <= 1).all()


def test_two_surveys_are_as_one_of_all_their_clusters(told):
    first, *others = told.scores
    parts = [replace(told, scores={name: told.scores[name] for name in names}) for names in ([first], others)]
    np.testing.assert_allclose(reliability_of(parts, 0.5), reliability_of([told], 0.5), rtol=1e-12)


def test_a_panel_for_each_prior(told):
    panels = draw_reliability({"rsca": told}, [0.5, 0.01]).axes
    assert [panel.get_title(loc="left") for panel in panels] == ["prior 0.5", "prior 0.01"]
