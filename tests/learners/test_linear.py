"""What closed forms share: the field's moments, checks of what is given, state, dtype, units, how they are shown."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rsca_torch import Identity, InputError, Learner, Scaled, ScaledComponents
from rsca_torch.learners import KISSME, LDA, NCA, RCA, Averaged, PCAWhitening, Siamese
from rsca_torch.learners.moments import FieldMoments
from rsca_torch.learners.registry import builtin, learner_class

CLOSED = [KISSME, LDA, PCAWhitening, RCA, Scaled, ScaledComponents]
KINDS = pytest.mark.parametrize("kind", CLOSED)


def fit(learner, problem):
    learner.initialise(torch.from_numpy(problem.field), torch.from_numpy(problem.members), problem.clusters)
    return learner


def covariance(field):
    """Without rounding, however far from the origin."""
    deviation = (field - [math.fsum(column) / len(field) for column in field.T]).T
    exact = [[math.fsum(row) for row in product] for product in deviation[:, None] * deviation]
    return np.array(exact) / (len(field) - 1)


@pytest.mark.parametrize("block", [1, 7, 4096])
def test_moments_of_the_field(small, monkeypatch, tolerance, block):
    """In blocks, where the mean is a million times the spread, and where the first stars are unlike all others."""
    monkeypatch.setattr("rsca_torch.learners.moments.BLOCK", block)
    for field in (small.field, small.field + 1e6, np.concatenate([small.field[:7] + 1e3, small.field[7:]])):
        moments = FieldMoments.of(field)
        np.testing.assert_allclose(moments.mean, field.mean(0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(moments.covariance, covariance(field), rtol=1e-9, atol=1e-12)
        sphered = moments.sphere @ moments.covariance @ moments.sphere.T
        np.testing.assert_allclose(sphered, np.eye(4), **tolerance[torch.float64])
    single = small.field.astype(np.float32)
    expected = covariance(single.astype(float))
    np.testing.assert_allclose(FieldMoments.of(single).covariance, expected, **tolerance[torch.float64])
    with pytest.raises(InputError, match=r"field \(F, K\) expected, got \(150,\)"):
        FieldMoments.of(small.field[:, 0])
    with pytest.raises(InputError, match="must be finite"):
        FieldMoments.of(np.array([[np.inf, 1.0], [-np.inf, 2.0]]))


@KINDS
def test_latents_that_carry_a_gradient(small, kind):
    """As they leave an encoder in training: a closed form does not go back through them."""
    carry = [torch.tensor(part, requires_grad=True) for part in (small.field, small.members)]
    learner, expected = kind(), kind()
    learner.initialise(*carry, small.clusters)
    expected.initialise(small.field, small.members, small.clusters)
    assert all(
        torch.equal(a, b) and not a.requires_grad for a, b in zip(learner.buffers(), expected.buffers(), strict=True)
    )


@KINDS
def test_a_summary_takes_the_place_of_the_field(small, kind):
    """The field's own moments change nothing; those of another field do, so they are what is used."""
    learner, expected = kind(), fit(kind(), small)
    learner.initialise(small.field, small.members, small.clusters, learner.summarise(torch.from_numpy(small.field)))
    assert all(torch.equal(a, b) for a, b in zip(learner.buffers(), expected.buffers(), strict=True))
    wider = FieldMoments.of(small.field * np.array([1, 2, 3, 4]))
    learner.initialise(small.field, small.members, small.clusters, wider)
    assert torch.equal(learner.centre, wider.mean)
    assert torch.equal(learner.weight, expected.weight) == (kind is LDA)  # which takes but the centre from the field
    assert Identity().summarise(small.field) is None


@KINDS
def test_rows_are_signed_and_the_centre_is_the_fields(small, kind, tolerance):
    learner = fit(kind(), small)
    assert (learner.weight[torch.arange(4), learner.weight.abs().argmax(1)] > 0).all()
    np.testing.assert_allclose(learner.centre, small.field.mean(0), **tolerance[torch.float64])
    assert learner.loss(torch.from_numpy(small.members), small.clusters) is None
    assert list(learner.parameters()) == []
    assert learner.paper[-4:].isdigit()


@given(order=st.permutations(range(20)), field_order=st.randoms(use_true_random=False))
@pytest.mark.parametrize("kind", CLOSED)
def test_the_order_of_stars_and_the_names_of_clusters_do_not_matter(small, kind, order, field_order, tolerance):
    rows = list(range(len(small.field)))
    field_order.shuffle(rows)
    renamed = [{"NGC 0": "z", "NGC 1": "y", "NGC 2": "x", "NGC 3": "w", "NGC 4": "v"}[c] for c in small.clusters]
    other = kind()
    other.initialise(small.field[rows], small.members[order], [renamed[n] for n in order])
    np.testing.assert_allclose(other.weight, fit(kind(), small).weight, **tolerance[torch.float64])


@KINDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_computes_in_float64_and_gives_back_the_dtype(small, kind, dtype, tolerance):
    field, members = (torch.from_numpy(part).to(dtype) for part in (small.field, small.members))
    learner, again = kind(), kind()
    learner.initialise(field, members, small.clusters)
    again.initialise(field.double(), members.double(), small.clusters)
    assert learner.weight.dtype == torch.float64
    assert torch.equal(again.weight, learner.weight)
    assert learner(members).dtype == dtype
    np.testing.assert_allclose(learner(members), again(members.double()), **tolerance[dtype])


@KINDS
def test_the_state_goes_into_a_fresh_and_into_a_fitted_learner(small, make_clusters, kind):
    learner, z = fit(kind(), small), torch.from_numpy(small.members)
    alike = fit(kind(), make_clusters(5))
    assert not torch.equal(alike(z), learner(z))
    for other in (kind(), alike, fit(kind(), make_clusters(5, spreads=(0.1, 0.2, 0.3)))):
        other.load_state_dict(learner.state_dict())
        assert torch.equal(other(z), learner(z))
        assert other.trained_on == ()  # which clusters the loaded state is from is not known


@KINDS
def test_not_fitted(kind):
    with pytest.raises(InputError, match=f"{kind.__name__} is not fitted: call initialise"):
        kind()(torch.zeros(3, 2))


@KINDS
def test_shapes_and_values_are_checked(small, kind):
    with pytest.raises(InputError, match=r"got \(150, 4\), \(20, 3\) and 20 labels"):
        kind().initialise(small.field, small.members[:, :3], small.clusters)
    with pytest.raises(InputError, match=r"got \(150, 4\), \(20, 4\) and 19 labels"):
        kind().initialise(small.field, small.members, small.clusters[:19])
    with pytest.raises(InputError, match="no cluster has two members"):
        kind().initialise(small.field, small.members[:3], ["a", "b", "c"])
    for bad in (np.nan, np.inf):
        holed = small.members.copy()
        holed[3, 1] = bad
        with pytest.raises(InputError, match="must be finite"):
            kind().initialise(small.field, holed, small.clusters)
        with pytest.raises(InputError, match="must be finite"):
            kind().initialise(
                np.where(small.field == small.field[0, 0], bad, small.field), small.members, small.clusters
            )


def test_results_depend_on_the_units_of_the_latents_or_not(small):
    """Those that say they do not need none: every latent in a unit of its own leaves all distances as they are."""
    kinds = {learner_class(plugin.target) for plugin in builtin()}
    unitless = {kind for kind in kinds if not kind.depends_on_units}
    assert unitless == {Scaled, ScaledComponents}
    assert Learner.depends_on_units
    units = np.array([0.1, 1.0, 7.0, 100.0])
    for make in (*unitless, lambda: Averaged([2, 2])):
        learner, other = make(), make()
        learner.initialise(small.field, small.members, small.clusters)
        other.initialise(small.field * units, small.members * units, small.clusters)
        assert not learner.depends_on_units
        got, expected = (torch.pdist(one) for one in (other(small.members * units), learner(small.members)))
        np.testing.assert_allclose(got, expected, rtol=1e-8)
    assert Averaged([2, 2], Identity).depends_on_units


@pytest.mark.parametrize("kind", [*CLOSED, NCA, Siamese])
def test_how_a_learner_is_shown(small, kind):
    assert repr(kind()) == f"{kind.__name__}(not fitted)"
    learner = fit(kind(), small)
    assert repr(learner) == f"{kind.__name__}(4 -> 4, fitted on 5 clusters: NGC 0, NGC 1, NGC 2, ...)"
    learner.initialise(small.field[:, :2], small.members[:, :2], np.where(small.clusters == "NGC 0", "a", "b"))
    shown = repr(learner)
    assert re.fullmatch(rf"{kind.__name__}\(2 -> [12], fitted on 2 clusters: a, b\)", shown), shown
    fresh = kind()
    fresh.load_state_dict(learner.state_dict())
    assert repr(fresh) == shown.replace(", fitted on 2 clusters: a, b", "")
