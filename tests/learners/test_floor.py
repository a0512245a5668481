"""The floor under siblings' scatter and members that are none, against plain NumPy and a numerical optimiser."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st

from rsca_torch import (
    InputError,
    NumericalWarning,
    ScaledComponents,
    doppelganger_rate,
    leave_one_cluster_out,
    repeat_scatter,
)
from rsca_torch.learners.floor import Repeats, bounded_scatter, require_floor
from rsca_torch.learners.wrong_members import farthest


def close(actual, expected, rtol=0.0, atol=1e-9):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=atol)


def covariance(rng, size, spread=1.0):
    root = rng.normal(size=(size, size))
    return spread * (root @ root.T / size + 0.1 * np.eye(size))


def drawn(seed, sizes, n_dimensions, spread, wrong=0.0):
    """Field, members, labels and which of them are field stars in truth; the scatter of siblings is (spread)²."""
    rng = np.random.default_rng(seed)
    field = rng.normal(size=(800, n_dimensions))
    labels = np.repeat([f"c{number:02}" for number in range(len(sizes))], sizes)
    centres = np.repeat(rng.normal(size=(len(sizes), n_dimensions)), sizes, axis=0)
    members = centres + rng.normal(size=centres.shape) * spread
    strangers = rng.random(len(labels)) < wrong
    members[strangers] = rng.normal(size=(strangers.sum(), n_dimensions))
    return field, members, labels, strangers


def fitted(learner, problem, **known):
    with warnings.catch_warnings(action="ignore", category=NumericalWarning):
        learner.initialise(*(torch.as_tensor(part) for part in problem[:2]), problem[2], **known)
    return learner


def distances(learner, members):
    return torch.cdist(*[learner(torch.as_tensor(members))] * 2, compute_mode="donot_use_mm_for_euclid_dist")


# The closed form


def test_visits_tell_the_scatter_of_the_co_adds_that_are_their_means():
    """The co-add is the visits' mean: neither V (n - 1) / n, which pooling gives, nor a visit's V."""
    rng = np.random.default_rng(5)
    n_stars, n = 20_000, 3
    truth = rng.normal(size=(n_stars, 1, 2))
    visits = truth + rng.normal(size=(n_stars, n, 2)) * [0.3, 0.6]
    coadds, ids = torch.from_numpy(visits.mean(axis=1)), np.arange(n_stars).astype(str)
    parts, of = torch.from_numpy(visits.reshape(-1, 2)), np.repeat(ids, n)
    found = Repeats.of_some(coadds, ids, parts, of, parts=True)
    assert (found.stars, found.freedom) == (n_stars, n_stars * (n - 1))
    close(found.scatter, np.diag([0.3**2, 0.6**2]) / n, rtol=0.03, atol=2e-3)
    pooled = Repeats.of_some(coadds, ids, parts, of).scatter
    close(pooled, np.diag([0.3**2, 0.6**2]) * (n - 1) / n, rtol=0.03, atol=3e-3)


@pytest.mark.parametrize("seed", range(3))
def test_no_covariance_above_the_floor_is_more_likely(seed):
    """The numerical optimum of the Wishart likelihood over W = floor + L L^T."""
    rng = np.random.default_rng(seed)
    floor, scatter, size = covariance(rng, 4, 0.3), covariance(rng, 4), 4

    def lost(values):  # minus the log likelihood per degree of freedom, times 2
        root = values.reshape(size, size)
        given = floor + root @ root.T
        inverse = np.linalg.inv(given)
        slope = inverse - inverse @ scatter @ inverse
        return np.linalg.slogdet(given)[1] + np.trace(inverse @ scatter), (2 * slope @ root).ravel()

    tries = [
        scipy.optimize.minimize(lost, rng.normal(size=size * size), jac=True, options={"gtol": 1e-11, "maxiter": 5000})
        for _ in range(4)
    ]
    best = min(tries, key=lambda each: each.fun).x.reshape(size, size)
    eigenvalues = scipy.linalg.eigvalsh(scatter, floor)
    assert 0 < (eigenvalues < 1).sum() < size  # the bound is felt, and not by all
    close(bounded_scatter(torch.as_tensor(scatter), torch.as_tensor(floor)), floor + best @ best.T, atol=1e-6)


@given(seed=st.integers(0, 999), exponent=st.floats(-6, 3))
def test_the_bound_holds_and_a_small_floor_changes_nothing(seed, exponent):
    rng = np.random.default_rng(seed)
    scatter, floor = covariance(rng, 5), covariance(rng, 5) * 10**exponent
    bounded = bounded_scatter(torch.as_tensor(scatter), torch.as_tensor(floor)).numpy()
    scale = max(np.abs(scatter).max(), np.abs(floor).max())
    assert np.linalg.eigvalsh(bounded - floor).min() > -1e-10 * scale
    if scipy.linalg.eigvalsh(scatter, floor).min() > 1:
        close(bounded, scatter, atol=1e-9 * scale)
    if scipy.linalg.eigvalsh(scatter, floor).max() < 1:
        close(bounded, floor, atol=1e-9 * scale)


# Repeated observations


def slow_repeat_scatter(latents, stars, rounds=300):
    """Observation by observation, from (13.1)."""
    own = {star: latents[stars == star] for star in sorted(set(stars)) if (stars == star).sum() > 1}
    weights = dict.fromkeys(own, 1.0)
    for _ in range(rounds):
        total, freedom = 0.0, 0.0
        for star, sample in own.items():
            deviation = sample - sample.mean(0)
            total = total + weights[star] * deviation.T @ deviation
            freedom += weights[star] * (len(sample) - 1)
        pooled = total / freedom
        far = {}
        for star, sample in own.items():
            deviation = sample - sample.mean(0)
            far[star] = np.trace(deviation @ np.linalg.inv(pooled) @ deviation.T) / (len(sample) - 1)
        ordered = sorted(far.values())
        median = ordered[(len(ordered) - 1) // 2]  # torch's: the lower of the middle two
        weights = {star: min(1.0, farthest(2.0, latents.shape[1]) * median / far[star]) for star in own}
    return pooled


def observed(seed, n_stars, scatter, binaries=0):
    rng = np.random.default_rng(seed)
    size = rng.integers(1, 4, n_stars)
    stars = np.repeat(np.arange(n_stars), size)
    noise = rng.normal(size=(len(stars), len(scatter))) @ np.linalg.cholesky(scatter).T
    noise[stars < binaries] *= 5
    order = rng.permutation(len(stars))
    return (np.repeat(rng.normal(size=(n_stars, len(scatter))), size, axis=0) + noise)[order], stars[order]


def test_repeats_against_the_oracle():
    latents, stars = observed(0, 40, covariance(np.random.default_rng(9), 3, 0.1), binaries=4)
    close(repeat_scatter(latents, stars), slow_repeat_scatter(latents, stars), atol=1e-9)


def test_repeats_find_what_the_instrument_does_and_binaries_do_not_spoil_it():
    truth = covariance(np.random.default_rng(3), 6, 0.04)
    latents, stars = observed(1, 4000, truth)
    eigenvalues = scipy.linalg.eigvalsh(repeat_scatter(latents, stars).numpy(), truth)
    assert np.abs(eigenvalues - 1).max() < 0.1
    latents, stars = observed(1, 4000, truth, binaries=400)  # whose plain covariance is 3.4 times as large
    found = Repeats.of(latents, stars)
    eigenvalues = scipy.linalg.eigvalsh(found.scatter.numpy(), truth)
    assert eigenvalues.max() < 1.7
    assert 250 < found.weighed_down < 450


@pytest.mark.parametrize("seed", range(3))
def test_repeats_turn_with_the_latents(seed):
    rng = np.random.default_rng(seed)
    latents, stars = observed(seed, 60, covariance(rng, 4, 0.1), binaries=5)
    mapping = rng.normal(size=(4, 4)) + 2 * np.eye(4)
    turned = repeat_scatter(latents @ mapping.T + 3, stars)
    close(turned, mapping @ repeat_scatter(latents, stars).numpy() @ mapping.T, atol=1e-8)


def test_stars_seen_once_say_nothing():
    latents, stars = observed(2, 50, 0.01 * np.eye(3))
    alone = np.random.default_rng(0).normal(size=(9, 3)) * 1e6
    more = repeat_scatter(np.vstack([latents, alone]), np.append(stars, np.arange(900, 909)))
    close(more, repeat_scatter(latents, stars), atol=1e-15)


@pytest.mark.parametrize(
    ("latents", "stars", "said"),
    [
        (np.zeros((4, 3)), [1, 1, 2], r"3 names"),
        (np.zeros((4, 3)), ["a", "a", "", "b"], "1 of 4 observations do not say of which star"),
        (np.full((4, 1), np.nan), [1, 1, 2, 2], "must be finite"),
        (np.eye(4), [1, 1, 2, 2], "2 degrees of freedom from repeated observations of 2 stars .* cannot bound 4 dim"),
        (np.eye(4), [1, 2, 3, 4], "0 degrees of freedom from repeated observations of 0 stars"),
        (np.zeros((4, 1)), [1, 1, 2, 2], "spans fewer than 1 dimensions"),
    ],
    ids=["shapes", "unnamed", "finite", "few", "none", "equal"],
)
def test_repeats_that_cannot_be_used(latents, stars, said):
    with pytest.raises(InputError, match=said):
        repeat_scatter(latents, stars)


# Steps 2 to 4 over a floor


def slow_steps(field, members, labels, floor, robust):
    """(D, K) weights and rising sigma_r: DESIGN's formulas one after the other."""
    centred = np.vstack([members[labels == name] - members[labels == name].mean(0) for name in sorted(set(labels))])
    names = np.concatenate([labels[labels == name] for name in sorted(set(labels))])
    root = scipy.linalg.sqrtm(floor).real
    white = centred @ np.linalg.inv(root)
    _, axes = np.linalg.eigh(white.T @ white)
    pooled, freedom = 0.0, 0
    for name in sorted(set(labels)):
        along = white[names == name] @ axes
        if robust:
            spread = 1.482602218505602 * np.median(np.abs(along - np.median(along, axis=0)), axis=0)
        else:
            spread = along.std(0, ddof=1)
        pooled, freedom = pooled + (len(along) - 1) * spread**2, freedom + len(along) - 1
    scatter = root @ axes @ np.diag(np.maximum(pooled / freedom, 1)) @ axes.T @ root
    eigenvalues, rows = scipy.linalg.eigh(scatter, np.cov(field, rowvar=False))  # rows.T T rows = 1
    weight = np.sqrt(np.maximum(1 / eigenvalues - 1, 0))
    return weight[:, None] * rows.T, 1 / weight


@pytest.mark.parametrize("robust", [True, False])
def test_against_the_formulas(robust):
    problem = drawn(4, [6, 5, 4, 7], 5, [0.1, 0.2, 0.3, 0.4, 0.5])
    floor = covariance(np.random.default_rng(5), 5, 0.05)
    learner = fitted(ScaledComponents(robust=robust, floor=floor), problem)
    weight, sigma_r = slow_steps(*problem[:3], floor, robust)
    close(learner.sigma_r, sigma_r, atol=1e-9)
    close(learner.weight.abs(), np.abs(weight), atol=1e-8)
    assert learner.bounded_by == "given"


@given(seed=st.integers(0, 99), trim=st.sampled_from([None, 2.0]))
def test_distances_survive_an_invertible_map_of_latents_and_floor(seed, trim):
    rng = np.random.default_rng(seed)
    field, members, labels, _ = drawn(seed, [6, 5, 4, 7, 6], 4, [0.1, 0.2, 0.3, 0.4], wrong=0.1)
    floor, mapping = covariance(rng, 4, 0.02), rng.normal(size=(4, 4)) + 3 * np.eye(4)
    learner = fitted(ScaledComponents(floor=floor, trim=trim), (field, members, labels))
    turned = ScaledComponents(floor=mapping @ floor @ mapping.T, trim=trim)
    fitted(turned, (field @ mapping.T, members @ mapping.T - 7, labels))
    expected = distances(learner, members)
    close(distances(turned, members @ mapping.T - 7), expected, atol=1e-7 * float(expected.max()))


def test_with_many_members_the_floor_does_not_matter():
    sizes = [400] * 6
    problem = drawn(6, sizes, 3, [0.2, 0.3, 0.4])
    floor = np.diag([0.15, 0.2, 0.3]) ** 2
    plain, bounded = (fitted(ScaledComponents(robust=False, floor=given), problem) for given in (None, floor))
    close(bounded.sigma_r, plain.sigma_r, rtol=1e-9)


def test_two_stars_a_cluster_carry_any_number_of_dimensions():
    problem = drawn(7, [2, 2, 2], 12, 0.1)
    with pytest.raises(InputError, match="at most 3"):
        fitted(ScaledComponents(), problem)
    learner = fitted(ScaledComponents(floor=0.01 * np.eye(12)), problem)
    assert learner.weight.shape == (12, 12)
    assert (learner.sigma_r < 0.5).all()  # 0.1 in truth; as many degrees of freedom as clusters


FLOORS = {
    "size": (np.eye(3), r"a floor \(5, 5\) of these latents expected, got \(3, 3\)"),
    "symmetric": (np.eye(5) + np.triu(np.full((5, 5), 0.1), 1), "finite and symmetric"),
    "finite": (np.diag([1, 1, 1, 1, np.nan]), "finite and symmetric"),
    "positive": (np.diag([1.0, 1, 1, 1, -1]), "positive definite expected"),
    "singular": (np.diag([1.0, 1, 1, 1, 0]), "positive definite expected"),
    "word": ("sky", 'floor must be "none", "noise", "repeats" or "auto"'),
    "repeats": ("repeats", "floor=repeats needs repeated observations of stars, and there are none"),
    "noise": ("noise", "floor=noise needs the errors of the members, which are not known"),
}


@pytest.mark.parametrize("name", FLOORS)
def test_floors_that_cannot_be_used(name):
    floor, said = FLOORS[name]
    with pytest.raises(InputError, match=said):
        fitted(ScaledComponents(floor=floor), drawn(8, [5, 5, 5], 5, 0.3))


def test_a_trim_below_one_is_refused():
    with pytest.raises(InputError, match="trim must be at least 1"):
        ScaledComponents(trim=0.5)


def test_the_floor_of_noise_is_the_mean_over_the_members():
    problem = drawn(9, [5, 6, 7], 4, 0.05)
    noise = np.stack([covariance(np.random.default_rng(star), 4, 0.05) for star in range(18)])
    learner = fitted(ScaledComponents(floor="noise"), problem, noise=noise)
    given = fitted(ScaledComponents(floor=noise.mean(0)), problem)
    close(learner.weight, given.weight, rtol=1e-10)
    assert (learner.bounded_by, given.bounded_by) == ("noise", "given")


@pytest.mark.parametrize(("n_stars", "noise", "taken"), [(40, True, "repeats"), (8, True, "noise"), (8, False, "none")])
def test_auto_takes_repeats_where_there_are_enough(n_stars, noise, taken):
    problem = drawn(10, [5, 6, 7], 4, 0.05)
    learner = ScaledComponents(floor="auto")
    learner.repeats = Repeats.of(*observed(0, n_stars, 0.01 * np.eye(4)))
    fitted(learner, problem, **({"noise": np.broadcast_to(0.01 * np.eye(4), (18, 4, 4))} if noise else {}))
    assert learner.bounded_by == taken


# Members that are none


@pytest.mark.parametrize("floor", [None, 0.01])
def test_wrong_members_are_found_and_right_ones_kept(floor):
    problem = drawn(11, [9] * 12, 10, 0.12, wrong=0.1)
    bound = None if floor is None else floor * np.eye(10)
    learner = fitted(ScaledComponents(floor=bound, trim=2.0), problem)
    wrong = problem[3]
    assert wrong.sum() == 13
    assert learner.limit == learner.far[learner.kept].median() * farthest(2.0, 10)
    assert torch.equal(learner.kept, learner.far <= learner.limit)
    assert (~learner.kept.numpy() & wrong).sum() >= 12
    assert (~learner.kept.numpy() & ~wrong).sum() <= 2
    clean = fitted(ScaledComponents(floor=bound), (problem[0], problem[1][~wrong], problem[2][~wrong]))
    plain = fitted(ScaledComponents(floor=bound), problem)
    error = [float((each.sigma_r.log() - clean.sigma_r.log()).abs().mean()) for each in (learner, plain)]
    assert error[0] < 0.3 * error[1]


def test_who_is_kept_is_within_the_limit_and_nobody_else():
    problem = drawn(15, [9] * 8, 5, 0.3, wrong=0.12)
    learner = fitted(ScaledComponents(floor=0.09 * np.eye(5), trim=2.0), problem)
    assert (learner.far > learner.limit).sum() == 12
    assert learner.far.max() < 9 * learner.limit  # nobody by far
    assert torch.equal(learner.kept, learner.far <= learner.limit)


def test_trimming_leaves_a_list_without_wrong_members_as_it_is():
    problem = drawn(12, [9] * 8, 10, 0.2)
    trimmed, plain = (fitted(ScaledComponents(floor=0.01 * np.eye(10), trim=trim), problem) for trim in (2.0, None))
    assert trimmed.kept.sum() >= len(problem[2]) - 1
    if trimmed.kept.all():
        assert torch.equal(trimmed.weight, plain.weight)


def test_squared_distances_have_the_expectation_of_their_dimensions():
    problem = drawn(13, [2] * 200 + [5] * 200, 3, 0.3)
    learner = fitted(ScaledComponents(floor=1e-4 * np.eye(3), trim=50.0), problem)
    of_two, of_five = learner.far[:400].mean(), learner.far[400:].mean()
    assert 2.7 < of_two < 3.3
    assert 2.7 < of_five < 3.9


# No judged star has a part in what judges it


@pytest.mark.parametrize("floor", ["noise", "given"])
def test_no_bit_changes_with_what_the_judged_cluster_holds(floor):
    field, members, labels, _ = drawn(14, [5] * 5, 4, 0.1)
    noise = np.stack([covariance(np.random.default_rng(star), 4, 0.02) for star in range(25)])
    fits = []

    class Kept(ScaledComponents):
        def initialise(self, field, members, clusters, summary=None, noise=None):
            super().initialise(field, members, clusters, summary, noise)
            fits.append((self.trained_on, self.weight))

    def make():
        return Kept(floor="noise" if floor == "noise" else noise.mean(0), trim=2.0)

    judged = labels == "c02"
    for poisoned in (False, True):
        huge, bad = np.where(judged[:, None], 1e30 * poisoned + members, members), noise.copy()
        bad[judged] += 1e30 * poisoned * np.eye(4)
        with warnings.catch_warnings(action="ignore", category=NumericalWarning):
            leave_one_cluster_out(make, field, huge, labels, noise=bad)
    without = [weight for clusters, weight in fits if "c02" not in clusters]
    assert len(without) == 2
    assert torch.equal(*without)


def test_a_floor_is_asked_for_once():
    assert torch.equal(require_floor(np.eye(2), 2), torch.eye(2, dtype=torch.float64))


def test_a_cluster_that_was_not_seen_is_judged_by_the_scatter_of_the_others():
    problem = drawn(11, [9] * 12, 10, 0.12, wrong=0.1)
    unseen = problem[2] == "c03"
    field, members, labels, wrong = problem
    learner = fitted(ScaledComponents(floor=0.01 * np.eye(10), trim=2.0), (field, members[~unseen], labels[~unseen]))
    far, kept = learner.set_apart(members[unseen], labels[unseen])
    assert ((far <= learner.limit) == kept).all()
    assert (~kept.numpy() == wrong[unseen]).mean() > 0.85
    seen_far, seen_kept = learner.set_apart(members[~unseen], labels[~unseen])
    close(seen_far, learner.far)
    assert torch.equal(seen_kept, learner.kept)
    with pytest.raises(InputError, match="after a fit with trim"):
        fitted(ScaledComponents(), problem[:3]).set_apart(members, labels)


def test_the_rate_without_suspects_stands_beside_the_rate():
    field, members, labels, wrong = drawn(15, [9] * 8, 5, 0.3, wrong=0.12)
    make = partial(ScaledComponents, floor=0.09 * np.eye(5), trim=2.0)
    result = leave_one_cluster_out(make, field, members, labels)
    spoilt = sorted({*labels[wrong].tolist()})
    assert spoilt
    for name in result.cluster_rates:
        training = labels != name
        learner = fitted(make(), (field, members[training], labels[training]))
        _, kept = learner.set_apart(members[~training], labels[~training])
        right = learner(members[~training][kept.numpy()])
        expected = doppelganger_rate(right, learner(field))
        assert result.merits["rate_without_suspects"][name] == expected
        if name not in spoilt and kept.all():
            assert expected == result.cluster_rates[name]
    assert result.merit("rate_without_suspects") < result.rate
    assert "rate_without_suspects" not in leave_one_cluster_out(ScaledComponents, field, members, labels).merits
