"""PCA whitening, RCA, LDA and KISSME: against scikit-learn or plain NumPy, and what they promise."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.linalg
import sklearn
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from rsca_torch import InputError, NumericalWarning, ScaledComponents, leave_one_cluster_out
from rsca_torch.learners import KISSME, LDA, RCA, PCAWhitening

KINDS = pytest.mark.parametrize("kind", [KISSME, LDA, PCAWhitening, RCA])
LEADING = pytest.mark.parametrize("kind", [LDA, PCAWhitening, RCA])
SIBLINGS = pytest.mark.parametrize("kind", [KISSME, LDA, RCA])
POPULATIONS = pytest.mark.parametrize("population", ["field", "members"])


def close(actual, expected, rtol, atol):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=atol)


def fit(learner, problem):
    learner.initialise(torch.from_numpy(problem.field), torch.from_numpy(problem.members), problem.clusters)
    return learner


def metric(learner):
    """(K, K) the matrix of the squared distance."""
    return (learner.weight.T @ learner.weight).numpy()


def distances(embedded):
    return torch.cdist(embedded, embedded, compute_mode="donot_use_mm_for_euclid_dist")


def within(sample, clusters):
    """Covariance inside clusters, pooled by degrees of freedom."""
    scatter = np.zeros((sample.shape[1], sample.shape[1]))
    labels = sorted(set(clusters.tolist()))
    for label in labels:
        own = [star for star, other in zip(sample, clusters, strict=True) if other == label]
        for star in own:
            scatter += np.outer(star - sum(own) / len(own), star - sum(own) / len(own))
    return scatter / (len(sample) - len(labels))


def pairs(sample, clusters, siblings):
    """Half the mean d d^T over all pairs of siblings or of members of two clusters."""
    total, number = np.zeros((sample.shape[1], sample.shape[1])), 0
    for i in range(len(sample)):
        for j in range(i):
            if (clusters[i] == clusters[j]) == siblings:
                total += np.outer(sample[i] - sample[j], sample[i] - sample[j])
                number += 1
    return total / number / 2


def kissme(problem, population):
    """S_w^-1 - S_pop^-1 before anything is clipped."""
    strangers = {
        "field": np.cov(problem.field, rowvar=False),
        "members": pairs(problem.members, problem.clusters, siblings=False),
    }
    siblings = pairs(problem.members, problem.clusters, siblings=True)
    return np.linalg.inv(siblings) - np.linalg.inv(strangers[population])


def scikit_lda(problem, n_dimensions, solver):
    """Members as scikit-learn embeds them, its rows; it divides by M, but by M - C in svd before 1.9: by M - C here."""
    judge = LinearDiscriminantAnalysis(solver=solver, n_components=n_dimensions).fit(problem.members, problem.clusters)
    n_members, n_clusters = len(problem.members), len(set(problem.clusters.tolist()))
    factor = np.sqrt((n_members - n_clusters) / n_members)
    if solver == "svd" and [int(part) for part in sklearn.__version__.split(".")[:2]] < [1, 9]:
        factor = 1
    return torch.from_numpy(judge.transform(problem.members) * factor), judge.scalings_[:, :n_dimensions]


@pytest.fixture(scope="session")
def far_apart(make_clusters):
    """Along every direction siblings spread less than members of two clusters."""
    return make_clusters(0, spreads=(0.1, 0.15, 0.2, 0.25), sizes=(6, 2, 5, 3, 4, 1, 7))


@pytest.mark.parametrize("n_dimensions", [None, 1, 3])
def test_pca_whitening_is_scikit_learns(small, n_dimensions, tolerance):
    learner = fit(PCAWhitening(n_dimensions), small)
    expected = PCA(n_dimensions, whiten=True, svd_solver="full").fit(small.field).transform(small.members)
    got = learner(torch.from_numpy(small.members)).numpy()
    assert got.shape == (20, n_dimensions or 4)
    signs = np.sign((got * expected).sum(0))
    close(got * signs, expected, **tolerance[torch.float64])
    embedded = learner(torch.from_numpy(small.field)).numpy()
    close(np.atleast_2d(np.cov(embedded, rowvar=False)), np.eye(n_dimensions or 4), **tolerance[torch.float64])


def test_pca_whitening_uses_no_labels(small, make_clusters):
    other = PCAWhitening()
    other.initialise(small.field, make_clusters(3).members[:3], ["x", "x", "y"])
    assert torch.equal(other.weight, fit(PCAWhitening(), small).weight)


@pytest.mark.parametrize("n_dimensions", [None, 1, 2, 3, 4])
def test_rca_is_its_definition(small, n_dimensions, tolerance):
    """The paper's ratio of determinants is largest along the leading generalised eigenvectors."""
    learner = fit(RCA(n_dimensions), small)
    inside = within(small.members, small.clusters)
    _, vectors = scipy.linalg.eigh(np.cov(small.field, rowvar=False), inside)
    rows = vectors.T[::-1][:n_dimensions]
    close(metric(learner), rows.T @ rows, **tolerance[torch.float64])
    assert torch.equal(learner.weight, fit(RCA(), small).weight[:n_dimensions])
    if n_dimensions in (None, 4):
        close(metric(learner), np.linalg.inv(inside), **tolerance[torch.float64])


@pytest.mark.parametrize("kind", [LDA, RCA])
@pytest.mark.parametrize("n_dimensions", [None, 2])
@pytest.mark.parametrize("scale", [1, 1e4])
def test_inside_clusters_the_covariance_is_the_identity(small, kind, n_dimensions, scale):
    """Also where one latent has 1e4 times the units of another: the covariance's condition is then above 1e8."""
    stretch = np.array([1, scale, 1, 1])
    learner = kind(n_dimensions)
    learner.initialise(small.field * stretch, small.members * stretch, small.clusters)
    embedded = learner(torch.from_numpy(small.members * stretch)).numpy()
    close(within(embedded, small.clusters), np.eye(n_dimensions or 4), rtol=0, atol=1e-9)


@pytest.mark.parametrize("solver", ["svd", "eigen"])
@pytest.mark.parametrize("n_dimensions", [1, 2, 3, 4])
def test_lda_is_scikit_learns(small, n_dimensions, solver):
    learner = fit(LDA(n_dimensions), small)
    expected, rows = scikit_lda(small, n_dimensions, solver)
    assert scipy.linalg.subspace_angles(learner.weight.T.numpy(), rows).max() < 1e-6
    close(distances(learner(torch.from_numpy(small.members))), distances(expected), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("solver", ["svd", "eigen"])
@pytest.mark.parametrize(
    ("sizes", "spreads"), [((5, 3, 6), (0.1, 0.3, 0.4, 0.6, 0.5)), ((4, 5, 3, 2, 6, 4), (0.2, 0.3))]
)
def test_lda_of_few_and_of_many_clusters(make_clusters, sizes, spreads, solver):
    problem = make_clusters(2, spreads=spreads, sizes=sizes)
    learner = fit(LDA(), problem)
    assert learner.weight.shape == (2, len(spreads))  # min(K, C - 1)
    expected, rows = scikit_lda(problem, 2, solver)
    assert scipy.linalg.subspace_angles(learner.weight.T.numpy(), rows).max() < 1e-6
    close(distances(learner(torch.from_numpy(problem.members))), distances(expected), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("n_dimensions", [1, 2])
def test_lda_with_clusters_of_one_star(small, n_dimensions):
    """Such a star has a mean that counts, and no spread."""
    clusters = small.clusters.copy()
    clusters[np.flatnonzero(clusters == "NGC 1")] = ["alone", "lone"]
    learner = LDA(n_dimensions)
    learner.initialise(small.field, small.members, clusters)
    judge = LinearDiscriminantAnalysis(n_components=n_dimensions).fit(small.members, clusters)
    assert scipy.linalg.subspace_angles(learner.weight.T.numpy(), judge.scalings_[:, :n_dimensions]).max() < 1e-6


@POPULATIONS
def test_kissme_is_its_definition(far_apart, population, tolerance):
    learner = fit(KISSME(population), far_apart)
    expected = kissme(far_apart, population)
    assert np.linalg.eigvalsh(expected).min() > 0
    assert learner.dropped == 0
    close(metric(learner), expected, **tolerance[torch.float64])
    lengths = learner.weight.square().sum(1)
    close(lengths, np.linalg.eigvalsh(expected)[::-1], **tolerance[torch.float64])
    rows = learner.weight / lengths.sqrt()[:, None]
    close(rows @ rows.T, np.eye(4), **tolerance[torch.float64])


@POPULATIONS
def test_kissme_clips_what_is_negative_and_says_so(make_clusters, population, tolerance):
    problem = make_clusters(1, spreads=(0.1, 5.0, 0.4, 8.0), sizes=(6, 2, 5, 3, 4))
    values, vectors = np.linalg.eigh(kissme(problem, population))
    negative = int((values < 0).sum())
    assert 0 < negative < 4
    with pytest.warns(NumericalWarning, match=f"{negative} of 4 eigenvalues of .* are negative: they become 0"):
        learner = fit(KISSME(population), problem)
    assert learner.dropped == negative
    assert learner.weight.shape == (4, 4)
    assert (learner.weight[-negative:] == 0).all()
    assert (learner.weight[:-negative] != 0).all()
    close(metric(learner), vectors * np.maximum(values, 0) @ vectors.T, **tolerance[torch.float64])


@POPULATIONS
def test_how_many_are_clipped_does_not_depend_on_units(make_clusters, population):
    """Sylvester's law of inertia; the distances do, as the directions that are clipped do."""
    problem = make_clusters(1, spreads=(0.1, 5.0, 0.4, 8.0))
    mapping = np.random.default_rng(0).normal(size=(4, 4))
    learner, other = KISSME(population), KISSME(population)
    with pytest.warns(NumericalWarning, match="are negative"):
        fit(learner, problem)
    with pytest.warns(NumericalWarning, match="are negative"):
        other.initialise(problem.field @ mapping.T, problem.members @ mapping.T, problem.clusters)
    assert other.dropped == learner.dropped
    assert not np.allclose(mapping.T @ metric(other) @ mapping, metric(learner))


def test_kissme_of_clusters_of_one_size_is_rsca_of_standard_deviations(make_clusters, tolerance):
    """Then a mean over pairs weighs clusters as degrees of freedom do."""
    problem = make_clusters(4, sizes=(4, 4, 4, 4, 4, 4))
    close(
        metric(fit(KISSME(), problem)), metric(fit(ScaledComponents(robust=False), problem)), **tolerance[torch.float64]
    )


@given(
    seed=st.integers(0, 2**16),
    scale=st.lists(st.floats(0.03, 30), min_size=4, max_size=4),
    shift=st.floats(-100, 100),
)
@pytest.mark.parametrize("kind", [KISSME, LDA, RCA, PCAWhitening])
def test_distances_survive_an_invertible_linear_map(small, kind, seed, scale, shift):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))
    mapping = rotation * np.array(scale)
    learner, other = fit(kind(), small), kind()
    field, members = (torch.from_numpy(part @ mapping.T + shift) for part in (small.field, small.members))
    other.initialise(field, members, small.clusters)
    stars = torch.from_numpy(np.concatenate([small.field, small.members]))
    close(distances(other(torch.cat([field, members]))), distances(learner(stars)), rtol=1e-6, atol=1e-6)


@KINDS
def test_one_dimension(small, kind):
    learner = kind()
    learner.initialise(small.field[:, :1], small.members[:, :1], small.clusters)
    assert learner.weight.shape == (1, 1)
    assert learner.weight.item() > 0


@KINDS
def test_a_judge_never_saw_the_cluster_that_it_judges(small, kind):
    """Then a cluster twice as large has siblings twice as far apart, and only then."""
    far = small.members.copy()
    far[small.clusters == "NGC 2"] *= 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)  # the other judges of KISSME drop dimensions
        usual, poisoned = (
            leave_one_cluster_out(kind, small.field, members, small.clusters, small.allowed)
            for members in (small.members, far)
        )
    assert list(usual.cluster_rates) == [f"NGC {j}" for j in range(5)]
    assert 0 < usual.rate < 0.5
    before, after = usual.median_sibling_distance, poisoned.median_sibling_distance
    close(after["NGC 2"], 2 * before["NGC 2"], rtol=1e-9, atol=0)
    assert (after["NGC 0"] == before["NGC 0"]) == (kind is PCAWhitening)  # the other judges saw it


@LEADING
def test_n_dimensions_are_checked(small, kind):
    for bad in (0, -1, 1.5, "all"):
        with pytest.raises(InputError, match="n_dimensions must be a whole number of at least 1, or None for all"):
            kind(bad)
    with pytest.raises(InputError, match="n_dimensions=5, but the latents have 4 dimensions: lower it to at most 4"):
        fit(kind(5), small)


@SIBLINGS
def test_members_less_clusters_limit_the_dimensions(small, kind):
    rows = np.concatenate([np.flatnonzero(small.clusters == name)[:2] for name in ("NGC 0", "NGC 2", "NGC 3", "NGC 4")])
    rows = rows[:-1]  # one alone: 7 members of 4 clusters
    with pytest.raises(InputError, match=r"7 members of 4 clusters span 3 of 4 dimensions.*lower n_components to 3"):
        kind().initialise(small.field, small.members[rows], small.clusters[rows])


@SIBLINGS
@pytest.mark.parametrize("shift", [0, 1e6])
def test_no_spread_inside_clusters_is_refused(small, kind, shift):
    """Along one dimension, and along a sum of two; what rounding leaves of a spread is none."""
    flat, sums = small.members + shift, small.members + shift
    flat[:, 2] = np.where(small.clusters == "NGC 0", 0.1, 0.7) + shift
    sums[:, 3] = sums[:, 0] + sums[:, 1]
    for members in (flat, sums):
        with pytest.raises(InputError, match=r"20 members of 5 clusters span 3 of 4 dimensions"):
            kind().initialise(small.field + shift, members, small.clusters)


@pytest.mark.parametrize("kind", [KISSME, PCAWhitening])
def test_a_singular_field_is_refused(small, kind):
    flat = small.field.copy()
    flat[:, 3] = flat[:, 0] + flat[:, 1]
    with pytest.raises(InputError, match="the field spans 3 of 4 dimensions: lower n_components to 3"):
        kind().initialise(flat, small.members, small.clusters)


def test_what_asks_nothing_of_the_field_takes_a_singular_one(far_apart, tolerance):
    flat = far_apart.field.copy()
    flat[:, 3] = flat[:, 0] + flat[:, 1]
    for make in (RCA, LDA, lambda: KISSME("members")):
        learner = make()
        learner.initialise(flat, far_apart.members, far_apart.clusters)
        close(metric(learner), metric(fit(make(), far_apart)), **tolerance[torch.float64])


@pytest.mark.parametrize("kind", [KISSME, PCAWhitening, RCA])
def test_one_field_star_has_no_covariance(small, kind):
    with pytest.raises(InputError, match="a covariance of the field needs at least 2 stars, got 1"):
        kind().initialise(small.field[:1], small.members, small.clusters)


def test_means_limit_lda(small):
    alike = small.members.copy()
    for label in sorted(set(small.clusters.tolist())):
        alike[small.clusters == label] -= alike[small.clusters == label].mean(0)
    alike += np.outer(small.clusters == "NGC 2", np.ones(4))  # the means lie on a line
    with pytest.raises(
        InputError, match=r"4 dimensions of LDA expected.*5 clusters span 1: set n_dimensions to at most 1"
    ):
        LDA().initialise(small.field, alike, small.clusters)
    LDA(1).initialise(small.field, alike, small.clusters)
    two = np.isin(small.clusters, ["NGC 0", "NGC 2"])
    with pytest.raises(InputError, match=r"3 dimensions of LDA expected.*2 clusters span 1"):
        LDA(3).initialise(small.field, small.members[two], small.clusters[two])


@pytest.mark.parametrize("learner", [LDA(), LDA(1), KISSME("members")], ids=str)
def test_one_cluster_has_no_strangers(small, learner):
    one = small.clusters == "NGC 0"
    with pytest.raises(InputError, match="at least two clusters are needed, to be told apart, got 1"):
        learner.initialise(small.field, small.members[one], small.clusters[one])


def test_one_cluster_is_enough_for_a_spread(small):
    one = small.clusters == "NGC 0"
    for learner in (RCA(), KISSME()):
        learner.initialise(small.field, small.members[one], small.clusters[one])
        assert learner.weight.shape == (4, 4)


def test_a_population_must_be_known():
    with pytest.raises(InputError, match='population must be "field" or "members", got \'stars\''):
        KISSME("stars")
