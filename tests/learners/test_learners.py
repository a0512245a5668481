"""Steps 2 to 4 against plain NumPy (reference.py), and what they promise about the embedding."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st

from rsca_torch import Identity, InputError, Learner, NumericalWarning, Scaled, ScaledComponents
from rsca_torch.learners.groups import Groups
from rsca_torch.learners.weighing import within_cluster_spread

FITTED = {Scaled: reference.scaled, ScaledComponents: reference.scaled_components}
KINDS = pytest.mark.parametrize("kind", FITTED, ids=lambda kind: kind.__name__)
OPTIONS = [
    {},
    {"robust": False},
    {"pooled": False},
    {"robust": False, "pooled": False},
    {"top": 2},
    {"top": 9},
]


def close(actual, expected, rtol, atol):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=atol)


def fit(learner, problem):
    learner.initialise(torch.from_numpy(problem.field), torch.from_numpy(problem.members), problem.clusters)
    return learner


@pytest.fixture(scope="session")
def with_a_dead_dimension(make_clusters):
    """Along two directions siblings spread more than strangers."""
    return make_clusters(1, spreads=(0.1, 5.0, 0.4, 8.0))


@KINDS
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_against_the_oracle(small, kind, options, tolerance):
    learner = fit(kind(**options), small)
    weight, sigma_r = FITTED[kind](small.field, small.members, small.clusters.tolist(), **options)
    assert learner.dropped == 0
    close(learner.weight, weight, **tolerance[torch.float64])
    close(learner.sigma_r, sigma_r, **tolerance[torch.float64])
    close(learner.centre, small.field.mean(0), **tolerance[torch.float64])
    expected = (small.members - small.field.mean(0)) @ weight.T
    close(learner(torch.from_numpy(small.members)), expected, **tolerance[torch.float64])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_field_covariance_is_the_identity_and_the_scatter_diagonal(small, options, tolerance):
    learner = fit(ScaledComponents(**options), small)
    unscaled = (learner.weight * learner.sigma_r[:, None]).numpy()  # before step 4
    size = len(unscaled)
    close(np.cov(small.field @ unscaled.T, rowvar=False), np.eye(size), **tolerance[torch.float64])
    centred = reference.centred_on_clusters(small.members @ unscaled.T, small.clusters)
    scatter = centred.T @ centred
    close(scatter, np.diag(np.diag(scatter)), rtol=0, atol=1e-11 * np.trace(scatter))


@KINDS
def test_rows_are_ordered_and_signed(small, kind):
    learner = fit(kind(), small)
    assert (learner.sigma_r.diff() > 0).all()
    rows = torch.arange(4)
    assert (learner.weight[rows, learner.weight.abs().argmax(1)] > 0).all()


@KINDS
def test_top_keeps_the_first_rows(small, kind):
    full, part = fit(kind(), small), fit(kind(top=3), small)
    assert torch.equal(part.weight, full.weight[:3])
    assert torch.equal(part.sigma_r, full.sigma_r[:3])
    assert fit(kind(top=3), small)(torch.from_numpy(small.members)).shape == (20, 3)


def test_a_dimension_that_tells_nothing_has_weight_zero(with_a_dead_dimension, tolerance):
    with pytest.warns(NumericalWarning, match="2 of 4 dimensions spread as much inside clusters as in the field"):
        learner = fit(ScaledComponents(), with_a_dead_dimension)
    assert learner.dropped == 2
    assert (learner.weight[2:] == 0).all()
    assert learner.sigma_r[2:].tolist() == [np.inf, np.inf]
    data = with_a_dead_dimension
    weight, sigma_r = reference.scaled_components(data.field, data.members, data.clusters.tolist())
    close(learner.weight, weight, **tolerance[torch.float64])
    close(learner.sigma_r, sigma_r, **tolerance[torch.float64])
    assert (learner.weight[:2].abs().sum(1) > 0).all()
    assert learner(torch.from_numpy(data.field)).isfinite().all()


def test_scaled_drops_too(with_a_dead_dimension, tolerance):
    data = with_a_dead_dimension
    weight, _ = reference.scaled(data.field, data.members, data.clusters.tolist())
    dead = int((weight == 0).all(1).sum())
    assert dead > 0
    with pytest.warns(NumericalWarning, match=f"{dead} of 4 dimensions"):
        learner = fit(Scaled(), data)
    close(learner.weight, weight, **tolerance[torch.float64])


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("robust", [True, False])
def test_spread_inside_clusters(robust, pooled, tolerance):
    rng = np.random.default_rng(0)
    clusters = ["b", "a", "a", "c", "b", "a", "a", "b", "d"]  # sizes 4, 3, 1, 1
    centred = rng.normal(size=(9, 3))
    got = within_cluster_spread(torch.from_numpy(centred), Groups(clusters), robust, pooled=pooled)
    close(got, reference.sigma_c(centred, clusters, robust, pooled), **tolerance[torch.float64])


@KINDS
def test_standard_deviations_of_few_stars_a_cluster_are_not_too_small(kind):
    """Of 300 pairs of siblings half of all degrees of freedom went into means: M - 1 would lose a factor of 1.41."""
    rng = np.random.default_rng(3)
    field, members = rng.normal(size=(500, 2)), np.repeat(rng.normal(size=(300, 2)), 2, axis=0)
    members += rng.normal(scale=0.5, size=members.shape)
    spreads = []
    for pooled in (True, False):
        learner = kind(robust=False, pooled=pooled)
        learner.initialise(field, members, np.repeat(np.arange(300).astype(str), 2))
        spreads.append((1 / (1 + learner.sigma_r**-2)).sqrt())
    close(spreads[1], spreads[0], rtol=1e-10, atol=0)
    close(spreads[1], [0.5, 0.5], rtol=0.15, atol=0)


def test_spread_of_a_normal_sample_is_its_standard_deviation():
    sample = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    groups = Groups(["a"] * len(sample))
    # the MAD's standard error is 1.17 / sqrt(N) of the standard deviation (asymptotic variance 1.3605): 5 of them
    assert within_cluster_spread(sample, groups).item() == pytest.approx(3, rel=5 * 1.17 / len(sample) ** 0.5)


@given(
    seed=st.integers(0, 2**16),
    scale=st.lists(st.floats(0.01, 100), min_size=4, max_size=4),
    shift=st.floats(-10, 10),
)
def test_distances_survive_an_invertible_linear_map(small, seed, scale, shift):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))
    mapping = rotation * np.array(scale)
    learner = fit(ScaledComponents(), small)
    field, members = (torch.from_numpy(part @ mapping.T + shift) for part in (small.field, small.members))
    other = ScaledComponents()
    other.initialise(field, members, small.clusters)
    close(other.sigma_r, learner.sigma_r, rtol=1e-6, atol=0)  # the map's condition is up to 1e4, its covariance's 1e8
    stars = torch.from_numpy(np.concatenate([small.field, small.members]))
    expected = torch.cdist(learner(stars), learner(stars), compute_mode="donot_use_mm_for_euclid_dist")
    embedded = other(torch.cat([field, members]))
    got = torch.cdist(embedded, embedded, compute_mode="donot_use_mm_for_euclid_dist")
    close(got, expected, rtol=1e-6, atol=1e-6)


def test_identity_gives_back_what_came(small):
    z = torch.from_numpy(small.members)
    assert torch.equal(fit(Identity(), small)(z), z)
    assert Identity().loss(z, small.clusters) is None


def test_a_learner_must_define_forward():
    class Nothing(Learner):
        pass

    with pytest.raises(InputError, match=r"Nothing must define forward\(z\)"):
        Nothing()(torch.zeros(1, 2))


@pytest.mark.parametrize(
    "kind",
    [
        Scaled,
        ScaledComponents,
    ],
)
def test_numpy_and_one_dimension(small, kind, tolerance):
    learner = kind()
    learner.initialise(small.field[:, :1], small.members[:, :1], small.clusters)
    weight, _ = FITTED[kind](small.field[:, :1], small.members[:, :1], small.clusters.tolist())
    close(learner.weight, weight, **tolerance[torch.float64])


def test_members_less_clusters_limit_the_dimensions(small):
    rows = np.concatenate([np.flatnonzero(small.clusters == name)[:2] for name in ("NGC 0", "NGC 2", "NGC 4")])
    with pytest.raises(InputError, match=r"4 dimensions.*150 field stars and 6 members of 3 clusters.*at most 3"):
        ScaledComponents().initialise(small.field, small.members[rows], small.clusters[rows])
    ScaledComponents().initialise(small.field[:, :3], small.members[rows, :3], small.clusters[rows])
    Scaled().initialise(small.field, small.members[rows], small.clusters[rows])  # along axes: no such limit


def test_few_field_stars_limit_the_dimensions(small):
    with pytest.raises(InputError, match=r"4 dimensions, but 4 field stars.*at most 3"):
        ScaledComponents().initialise(small.field[:4], small.members, small.clusters)


@KINDS
def test_clusters_of_one_member_measure_nothing(small, kind):
    with pytest.raises(InputError, match="no cluster has two members"):
        kind().initialise(small.field[:, :1], small.members[:3, :1], ["a", "b", "c"])


def test_a_singular_field_is_refused(small):
    flat = small.field.copy()
    flat[:, 3] = flat[:, 0] + flat[:, 1]
    with pytest.raises(InputError, match="the field spans 3 of 4 dimensions: lower n_components to 3"):
        ScaledComponents().initialise(flat, small.members, small.clusters)
    flat[:, 3] = 2.0
    with pytest.raises(InputError, match="1 of 4 dimensions do not vary in the field"):
        Scaled().initialise(flat, small.members, small.clusters)


def test_no_spread_inside_clusters_is_refused(small):
    members = small.members.copy()
    members[:, 2] = small.clusters == "NGC 0"
    with pytest.raises(InputError, match="1 of 4 dimensions have no spread inside clusters"):
        Scaled().initialise(small.field, members, small.clusters)


@KINDS
def test_at_least_one_dimension_is_kept(kind):
    with pytest.raises(InputError, match="top must be at least 1 dimension, got 0"):
        kind(top=0)
