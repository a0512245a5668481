"""Learners with a loss against slow NumPy and scikit-learn, and what they share: start, penalty, dropout, negatives."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pytorch_metric_learning import losses, miners
from pytorch_metric_learning.distances import LpDistance
from scipy.optimize import minimize
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from torch import nn

from rsca_torch import InputError, ScaledComponents, doppelganger_rate
from rsca_torch.learners import NCA, GradientLearner, LargeMargin, Siamese
from rsca_torch.learners.moments import FieldMoments
from rsca_torch.learners.siamese import Euclidean
from rsca_torch.training.fitting import fitted

MAKERS = {
    "nca": NCA,
    "nca log": partial(NCA, objective="log"),
    "lmnn": LargeMargin,
    "contrastive": Siamese,
    "triplet": partial(Siamese, criterion="triplet"),
    "supcon": partial(Siamese, criterion="supcon"),
    "hidden": partial(Siamese, hidden=(5, 3)),
}
EACH = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def fit(learner, problem, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner.initialise(torch.from_numpy(problem.field), torch.from_numpy(problem.members), problem.clusters)
    return learner


def moved(learner, seed=1):
    """Away from the start, all parameters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator)
    return learner


def loss_of(learner, problem):
    return learner.loss(torch.from_numpy(problem.members), problem.clusters)


def embedded_stars(learner, problem):
    """NumPy embedding of the members, then of the negatives, by the equation."""
    stars = np.concatenate([problem.members, learner.strangers.numpy()])
    moved = learner.unit.item() * learner.change.detach().numpy() @ learner.sphere.numpy()
    weight = learner.start.numpy() + moved
    return (stars - problem.field.mean(0)) @ weight.T


def gradients(learner, problem):
    learner.zero_grad()
    loss_of(learner, problem).backward()
    return [parameter.grad.clone() for parameter in learner.parameters()]


# ---- what all share


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_dimensions", [None, 2])
def test_untrained_it_is_rsca_bit_for_bit(small, make, dtype, n_dimensions):
    learner = fit(make(n_dimensions=n_dimensions), small).eval()
    rsca = fit(ScaledComponents(top=n_dimensions), small)
    for z in (small.field, small.members, small.members[:1]):
        z = torch.from_numpy(z).to(dtype)
        assert learner(z).dtype == dtype
        assert torch.equal(learner(z), rsca(z))


@EACH
def test_untrained_it_is_rsca_in_thirty_dimensions_some_of_them_dropped(make_clusters, make):
    problem = make_clusters(3, spreads=(*np.linspace(0.1, 0.6, 28), 7.0, 9.0), sizes=(12,) * 5, n_field=400)
    learner = fit(make(), problem).eval()  # without a warning
    with pytest.warns(match="of 30 dimensions spread as much inside clusters"):
        rsca = fit(ScaledComponents(), problem)
    assert rsca.dropped > 0
    assert torch.equal(learner(torch.from_numpy(problem.field)), rsca(torch.from_numpy(problem.field)))


@EACH
def test_a_summary_takes_the_place_of_the_field_and_stays_as_it_is(small, make_clusters, make):
    summary = FieldMoments.of(small.field)
    kept = [summary.mean.clone(), summary.sphere.clone()]
    learner = make()
    learner.initialise(small.field, small.members, small.clusters, summary)
    assert torch.equal(learner.start, fit(make(), small).start)
    learner.load_state_dict(fit(make(), make_clusters(5)).state_dict())
    assert torch.equal(summary.mean, kept[0])
    assert torch.equal(summary.sphere, kept[1])


@EACH
def test_the_map_and_its_random_start(small, make, tolerance):
    learner = fit(make(init="random", n_dimensions=3), small)
    assert learner.change.shape == (3, 4)
    assert not learner.start.any()
    assert torch.equal(learner.change, fit(make(init="random", n_dimensions=3), small).change)
    assert not torch.equal(learner.change, fit(make(init="random", n_dimensions=3), small, seed=1).change)
    if not getattr(learner, "hidden", ()):
        expected = embedded_stars(learner, small)
        got = learner(torch.from_numpy(small.members)).detach()
        np.testing.assert_allclose(got, expected, **tolerance[torch.float64])


def test_the_spread_of_a_random_start(make_clusters):
    problem = make_clusters(0, spreads=(0.3,) * 60, sizes=(40, 40), n_field=300)
    learner = fit(NCA(init="random"), problem)
    # 3,600 normal numbers: 5 standard errors
    weights = learner.unit * learner.change
    assert weights.std().item() == pytest.approx(60**-0.5, rel=5 / (2 * 3600) ** 0.5)
    field = torch.from_numpy(problem.field)
    assert learner(field).var(0).mean().item() == pytest.approx(1, rel=0.2)  # of the order of the sphered field's


@EACH
def test_a_random_start_moves_in_units_of_the_largest_weight_of_rsca(make_clusters, make):
    """So that a step of an optimiser matters where siblings are alike; never less than the field's own spread."""
    for spreads, expected in (((0.02, 0.3, 0.8), (1 / 0.02**2 - 1) ** 0.5), ((0.9, 0.95, 1.2), 1.0)):
        problem = make_clusters(1, spreads=spreads, sizes=(60,) * 6, n_field=3000)
        learner = fit(make(init="random", n_dimensions=2), problem)
        assert learner.unit.item() == pytest.approx(expected, rel=0.1)
        assert fit(make(), problem).unit.item() == 1


@pytest.mark.parametrize("name", ["lmnn", "supcon", "hidden"])
def test_by_the_default_recipe_a_random_start_comes_close_to_rsca(make_clusters, name):
    """Two directions of eight, not along the axes, tell siblings, and need weights of tens."""
    problem = make_clusters(4, spreads=(0.02, 0.03, *[0.7] * 6), sizes=(8,) * 12, n_field=1000)
    judging = ("NGC 1", "NGC 10", "NGC 11")
    seen = ~np.isin(problem.clusters, judging)
    field, members = torch.from_numpy(problem.field), torch.from_numpy(problem.members[seen])
    rates = []
    for make in (ScaledComponents, partial(MAKERS[name], init="random")):
        learner = fitted(make, field, members, problem.clusters[seen], seed=0)
        with torch.no_grad():
            judged = [learner(torch.from_numpy(problem.members[problem.clusters == cluster])) for cluster in judging]
        rates.append(np.mean([doppelganger_rate(stars, learner(field)) for stars in judged]))
    assert rates[1] < rates[0] + 0.005


@EACH
def test_parameters_are_what_is_trained(small, make):
    learner = fit(make(), small)
    before = loss_of(learner, small).item()
    optimiser = torch.optim.AdamW(learner.parameters(), lr=0.02)
    for _ in range(30):
        optimiser.zero_grad()
        loss_of(learner, small).backward()
        optimiser.step()
    assert loss_of(learner, small).item() < before
    assert torch.equal(learner.start, fit(make(), small).start)
    assert all(parameter.grad.isfinite().all() for parameter in learner.parameters())


@EACH
@pytest.mark.parametrize("negatives", [0, 7])
def test_gradients(small, make, negatives):
    learner = moved(fit(make(negatives=negatives), small))
    members = torch.from_numpy(small.members).requires_grad_()
    torch.autograd.gradcheck(lambda z: learner.loss(z, small.clusters), members)
    change = learner.change.detach().clone().requires_grad_()
    del learner.change

    def of_change(value):
        learner.change = value
        return loss_of(learner, small)

    torch.autograd.gradcheck(of_change, change)


@EACH
@pytest.mark.parametrize("init", ["rsca", "random"])
def test_the_penalty(small, make, init, tolerance):
    free, held = (moved(fit(make(init=init, penalty=penalty), small)) for penalty in (0.0, 2.5))
    expected = 2.5 * sum(float((p.detach().numpy() ** 2).sum()) for name, p in held.named_parameters() if name in KEPT)
    got = loss_of(held, small).item() - loss_of(free, small).item()
    np.testing.assert_allclose(got, expected, **tolerance[torch.float64])
    assert loss_of(fit(make(penalty=2.5), small), small).item() == loss_of(fit(make(), small), small).item()


KEPT = ("change", "network.4.weight")  # of hidden=(5, 3) the last layer


@EACH
def test_dropout_of_the_sphered_inputs_in_training_only(small, make, tolerance):
    learner = moved(fit(make(dropout=0.4), small))
    z = torch.from_numpy(small.members)
    assert torch.equal(learner.eval()(z), moved(fit(make(), small)).eval()(z))
    learner.train()
    torch.manual_seed(3)
    got = learner(z).detach().numpy()
    torch.manual_seed(3)
    kept = nn.functional.dropout(torch.ones_like(z), 0.4).numpy()
    assert set(np.unique(kept)) == {0, 1 / 0.6}
    sphere = learner.sphere.numpy()
    dropped = ((small.members - small.field.mean(0)) @ sphere.T * kept) @ np.linalg.inv(sphere).T
    expected = learner.eval()(torch.from_numpy(dropped + small.field.mean(0))).detach().numpy()
    np.testing.assert_allclose(got, expected, **tolerance[torch.float64])


@EACH
def test_negatives_are_field_stars(small, make):
    learner = fit(make(negatives=40), small)
    places = [np.flatnonzero((small.field == star.numpy()).all(1)) for star in learner.strangers]
    assert all(len(place) == 1 for place in places)
    assert len(np.unique(places)) == 40
    assert torch.equal(learner.strangers, fit(make(negatives=40), small).strangers)
    assert not torch.equal(learner.strangers, fit(make(negatives=40), small, seed=1).strangers)
    assert loss_of(learner, small).item() != loss_of(fit(make(), small), small).item()
    assert "strangers" not in learner.state_dict()


@EACH
@pytest.mark.parametrize("options", [{}, {"init": "random", "n_dimensions": 2, "penalty": 1.0}], ids=str)
def test_the_state_goes_into_a_fresh_and_into_a_fitted_learner(small, make_clusters, make, options):
    learner = moved(fit(make(**options), small)).eval()
    z = torch.from_numpy(small.members)
    fresh, fitted = make(**options).eval(), fit(make(**options), make_clusters(5)).eval()
    assert not torch.equal(fitted(z), learner(z))
    held = list(fitted.parameters())
    for other in (fresh, fitted):
        other.load_state_dict(learner.state_dict())
        assert torch.equal(other(z), learner(z))
        assert loss_of(other, small).item() == loss_of(learner, small).item()
        assert [parameter.requires_grad for parameter in other.parameters()] == [True] * len(held)
    assert all(a is b for a, b in zip(held, fitted.parameters(), strict=True))  # an optimiser goes on


def test_the_state_has_no_negatives(small):
    learner, fresh = fit(NCA(negatives=3), small), NCA(negatives=3)
    fresh.load_state_dict(learner.state_dict())
    assert fresh(torch.from_numpy(small.members)).isfinite().all()
    with pytest.raises(InputError, match=r"3 negatives expected, got 0.*call initialise"):
        loss_of(fresh, small)


@EACH
@given(order=st.permutations(range(20)))
def test_the_order_of_members_and_the_names_of_clusters_do_not_matter(small, make, order, tolerance):
    learner = moved(fit(make(negatives=5), small))
    names = dict(zip(np.unique(small.clusters), "zyxwv", strict=True))
    members = torch.from_numpy(small.members[order])
    got = learner.loss(members, [names[small.clusters[n]] for n in order])
    np.testing.assert_allclose(got.item(), loss_of(learner, small).item(), **tolerance[torch.float64])


@given(seed=st.integers(0, 2**16), scale=st.lists(st.floats(0.1, 10), min_size=4, max_size=4), shift=st.floats(-10, 10))
@pytest.mark.parametrize("make", [NCA, LargeMargin, Siamese], ids=lambda kind: kind.__name__)
def test_the_loss_at_the_start_survives_an_invertible_linear_map(small, make, seed, scale, shift):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))
    mapping = rotation * np.array(scale)
    learner, other = fit(make(), small), make()
    field, members = (torch.from_numpy(part @ mapping.T + shift) for part in (small.field, small.members))
    other.initialise(field, members, small.clusters)
    assert other.loss(members, small.clusters).item() == pytest.approx(loss_of(learner, small).item(), rel=1e-6)


@EACH
def test_far_away_and_identical_stars(small, make):
    learner = fit(make(), small)
    members = small.members.copy()
    members[3] += 1e8
    members[4] = members[5]
    members[np.flatnonzero(small.clusters == "NGC 1")] = 7.0  # siblings that are the same
    loss = learner.loss(torch.from_numpy(members), small.clusters)
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in learner.parameters())


@pytest.mark.parametrize("make", [MAKERS[name] for name in ("nca", "nca log", "lmnn")], ids=["nca", "log", "lmnn"])
def test_a_loss_in_parts_is_the_same_and_holds_less(small, make, monkeypatch, tolerance):
    learner = moved(fit(make(negatives=30), small))
    whole, held = loss_of(learner, small).item(), saved(learner, small)
    expected = gradients(learner, small)
    monkeypatch.setattr("rsca_torch.learners.gradient.HELD", 150)  # one or three rows
    np.testing.assert_allclose(loss_of(learner, small).item(), whole, **tolerance[torch.float64])
    for got, gradient in zip(gradients(learner, small), expected, strict=True):
        np.testing.assert_allclose(got, gradient, **tolerance[torch.float64])
    assert held > 20 * 50  # M (M + negatives)
    assert saved(learner, small) < 3 * 50 * 4  # (M + negatives) D, not M (M + negatives)


def saved(learner, problem):
    """How many numbers are held for the gradient."""
    sizes = []

    def pack(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss_of(learner, problem)
    return sum(sizes)


# ---- NCA


def slow_nca(embedded, clusters):
    """p of every member, one pair after the other; the rows after the members are negatives."""
    probabilities = []
    for i, cluster in enumerate(clusters):
        squared = ((embedded - embedded[i]) ** 2).sum(1)
        squared[i] = np.inf
        closeness = np.exp(squared.min() - squared)
        siblings = [closeness[j] for j, other in enumerate(clusters) if other == cluster]
        probabilities.append(sum(siblings) / sum(closeness))
    return np.array(probabilities)


@pytest.mark.parametrize("negatives", [0, 9])
def test_nca_against_slow_numpy(small, negatives, tolerance):
    learner = moved(fit(NCA(negatives=negatives), small))
    p = slow_nca(embedded_stars(learner, small), small.clusters)
    assert 0.05 < p.mean() < 0.95
    np.testing.assert_allclose(loss_of(learner, small).item(), -p.mean(), **tolerance[torch.float64])
    learner.objective = "log"
    np.testing.assert_allclose(loss_of(learner, small).item(), -np.log(p).mean(), **tolerance[torch.float64])


def test_nca_of_a_member_without_a_sibling(small, tolerance):
    learner = moved(fit(NCA(), small))
    clusters = small.clusters.copy()
    first, second = np.flatnonzero(clusters == "NGC 0")[:2]
    clusters[first], clusters[second] = "alone", "also alone"
    p = slow_nca(embedded_stars(learner, small), clusters)
    assert p[first] == p[second] == 0
    loss = learner.loss(torch.from_numpy(small.members), clusters)
    np.testing.assert_allclose(loss.item(), -p.mean(), **tolerance[torch.float64])
    loss.backward()
    assert learner.change.grad.isfinite().all()
    learner.objective = "log"
    with pytest.raises(InputError, match="needs a sibling for every member, 2 of 20 have none"):
        learner.loss(torch.from_numpy(small.members), clusters)


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("n_dimensions", [None, 2])
def test_nca_reaches_the_objective_of_scikit_learn(make_clusters, n_dimensions, seed):
    """Like irises: three kinds of 50 in four dimensions; from the same start."""
    problem = make_clusters(seed, spreads=(0.3, 0.3, 0.3, 0.3), sizes=(50, 50, 50), n_field=300)
    learner = fit(NCA(n_dimensions=n_dimensions, init="random"), problem)
    start = learner.weight.detach().numpy()
    theirs = NeighborhoodComponentsAnalysis(n_components=n_dimensions, init=start, max_iter=1000, tol=1e-9)
    reached = picked(theirs.fit(problem.members, problem.clusters).components_, problem)
    optimiser = torch.optim.LBFGS(learner.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = loss_of(learner, problem)
        loss.backward()
        return loss

    optimiser.step(closure)
    assert picked(start, problem) < 0.97 * reached
    assert picked(learner.weight.detach().numpy(), problem) == pytest.approx(reached, rel=0.01)


@pytest.mark.parametrize("n_dimensions", [None, 2])
def test_nca_takes_the_path_of_scikit_learn(make_clusters, n_dimensions):
    """Kinds that overlap have many optima, and the path decides. In a sphered field `change` is a rotated weight."""
    problem = make_clusters(4, spreads=(0.8, 1.0, 1.2, 0.9), sizes=(50, 50, 50), n_field=300)
    sphere = FieldMoments.of(problem.field).sphere.numpy()
    problem.field, problem.members = problem.field @ sphere.T, problem.members @ sphere.T
    learner = fit(NCA(n_dimensions=n_dimensions, init="random"), problem)
    start = learner.weight.detach().numpy()
    theirs = NeighborhoodComponentsAnalysis(n_components=n_dimensions, init=start, max_iter=20, tol=1e-9)
    reached = picked(theirs.fit(problem.members, problem.clusters).components_, problem)

    def cost(values):
        with torch.no_grad():
            learner.change.copy_(torch.from_numpy(values.reshape(learner.change.shape)))
        (gradient,) = gradients(learner, problem)
        return 150 * loss_of(learner, problem).item(), 150 * gradient.numpy().ravel()

    first = learner.change.detach().numpy().ravel().copy()
    found = minimize(cost, first, jac=True, method="L-BFGS-B", tol=1e-9, options={"maxiter": 20})
    assert picked(start, problem) < 0.9 * reached
    assert -found.fun == pytest.approx(reached, rel=1e-4)  # the same but for rounding


def picked(components, problem):
    """The objective of scikit-learn: the sum of p."""
    return slow_nca(problem.members @ components.T, problem.clusters).sum()


# ---- large margin


def slow_lmnn(learner, problem, begun, k=3, margin=1.0, push=0.5):
    y, clusters = embedded_stars(learner, problem), [*problem.clusters, *range(learner.negatives)]
    total, far = 0.0, margin * 2 * y.shape[1]
    for i, cluster in enumerate(problem.clusters):
        siblings = [j for j, other in enumerate(problem.clusters) if other == cluster and j != i]
        siblings.sort(key=lambda j: ((begun[i] - begun[j]) ** 2).sum())
        for j in siblings[:k]:
            pulled = ((y[i] - y[j]) ** 2).sum()
            total += (1 - push) * pulled
            for n, other in enumerate(clusters):
                if other != cluster:
                    total += push * max(0.0, far + pulled - ((y[i] - y[n]) ** 2).sum())
    return total / len(problem.members)


@pytest.mark.parametrize("negatives", [0, 9])
@pytest.mark.parametrize("options", [{}, {"k": 1}, {"k": 50, "margin": 0.1}, {"push": 0.9}, {"push": 1.0}], ids=str)
@pytest.mark.parametrize("init", ["rsca", "random"])
def test_large_margin_against_slow_numpy(small, negatives, options, init, tolerance):
    learner = moved(fit(LargeMargin(negatives=negatives, init=init, **options), small))
    # neighbours where training started, not where the map is now
    begun = (small.members - small.field.mean(0)) @ (learner.start if init == "rsca" else learner.sphere).numpy().T
    expected = slow_lmnn(learner, small, begun, **options)
    np.testing.assert_allclose(loss_of(learner, small).item(), expected, **tolerance[torch.float64])
    if options == {"k": 1}:
        here = embedded_stars(learner, small)
        assert slow_lmnn(learner, small, here, **options) != pytest.approx(expected)


# ---- siamese


def slow_siamese(learner, problem, criterion, margin=1.0, temperature=4.0):
    y, clusters = embedded_stars(learner, problem), [*problem.clusters, *range(learner.negatives)]
    members, everyone = range(len(problem.members)), range(len(y))
    distance = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in y] for a in y])
    pairs = [(i, j) for i in members for j in members if i != j and clusters[i] == clusters[j]]
    others = [(i, n) for i in members for n in everyone if clusters[i] != clusters[n]]
    unit = np.sqrt(2 * y.shape[1])
    if criterion == "contrastive":
        pull, push = (np.array([distance[pair] / unit for pair in chosen]) for chosen in (pairs, others))
        return pull.mean() + np.maximum(0, margin - push).mean()
    if criterion == "triplet":
        costs = [
            max(0, distance[i, j] / unit - distance[i, n] / unit + margin)
            for i, j in pairs
            for n in everyone
            if clusters[n] != clusters[i]
        ]
        return np.mean(costs)
    similar = -(distance**2) / temperature
    log_p = {pair: similar[pair] - np.log(sum(np.exp(similar[pair[0], n]) for n in everyone if n != pair[0]))
             for pair in pairs}  # fmt: skip
    anchors = sorted({i for i, _ in pairs})
    return -np.mean([np.mean([value for (i, _), value in log_p.items() if i == anchor]) for anchor in anchors])


@pytest.mark.parametrize("negatives", [0, 9])
@pytest.mark.parametrize("criterion", ["contrastive", "triplet", "supcon"])
@pytest.mark.parametrize("options", [{}, {"margin": 2.0, "temperature": 0.5}], ids=str)
def test_siamese_against_slow_numpy(small, negatives, criterion, options, tolerance):
    learner = moved(fit(Siamese(criterion=criterion, negatives=negatives, **options), small))
    expected = slow_siamese(learner, small, criterion, **options)
    assert expected > 0.01
    np.testing.assert_allclose(loss_of(learner, small).item(), expected, **tolerance[torch.float64])


@pytest.mark.parametrize("criterion", ["contrastive", "triplet", "supcon"])
def test_siamese_with_a_member_alone(small, criterion, tolerance):
    learner = moved(fit(Siamese(criterion=criterion), small))
    small = type(small)(**{**vars(small), "clusters": small.clusters.copy()})
    small.clusters[4] = "alone"
    expected = slow_siamese(learner, small, criterion)
    np.testing.assert_allclose(loss_of(learner, small).item(), expected, **tolerance[torch.float64])


def test_hidden_layers_are_added_to_the_linear_map(small, tolerance):
    learner = moved(fit(Siamese(hidden=(5, 3)), small)).eval()
    sphered = (small.members - small.field.mean(0)) @ learner.sphere.numpy().T
    first, _, second, _, last = learner.network
    layer = sphered
    for linear in (first, second):
        layer = layer @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
        layer = nn.functional.gelu(torch.from_numpy(layer)).numpy()
    assert last.bias is None
    expected = embedded_stars(learner, small) + layer @ last.weight.detach().numpy().T
    got = learner(torch.from_numpy(small.members)).detach()
    np.testing.assert_allclose(got, expected, **tolerance[torch.float64])
    assert fit(Siamese(hidden=(5,), init="random"), small).network[-1].weight.any()


def test_any_loss_of_the_library(small, tolerance):
    """It is given the embedding as it is, in float64, and labels."""
    learner = moved(fit(Siamese(criterion=losses.TripletMarginLoss(margin=3.0, distance=Euclidean())), small))
    y = embedded_stars(learner, small)
    costs = [
        np.linalg.norm(y[i] - y[j]) - np.linalg.norm(y[i] - y[n]) + 3
        for i in range(20)
        for j in range(20)
        for n in range(20)
        if i != j and small.clusters[i] == small.clusters[j] != small.clusters[n]
    ]
    expected = np.mean([cost for cost in costs if cost > 0])  # the library's own mean
    np.testing.assert_allclose(loss_of(learner, small).item(), expected, **tolerance[torch.float64])
    several = losses.MultipleLosses([losses.NTXentLoss(distance=Euclidean()), losses.MarginLoss(distance=Euclidean())])
    assert loss_of(fit(Siamese(criterion=several, negatives=3), small), small).isfinite()


def test_a_miner_chooses(small, tolerance):
    """Of every anchor the farthest sibling and the nearest stranger."""
    miner = miners.BatchHardMiner(distance=Euclidean())
    learner = moved(fit(Siamese(criterion="triplet", miner=miner), small))
    y = embedded_stars(learner, small)
    distance = np.linalg.norm(y[:, None] - y, axis=2) / np.sqrt(8)
    same = small.clusters[:, None] == small.clusters
    hard = np.where(same, distance, -np.inf).max(1) - np.where(same, np.inf, distance).min(1) + 1
    np.testing.assert_allclose(loss_of(learner, small).item(), np.maximum(0, hard).mean(), **tolerance[torch.float64])
    supcon = moved(fit(Siamese(criterion="supcon", miner=miner), small))
    assert loss_of(supcon, small).isfinite()


def test_a_criterion_is_each_learners_own(small):
    proxies = losses.ProxyAnchorLoss(num_classes=5, embedding_size=4, distance=Euclidean())
    one, other = (fit(Siamese(criterion=proxies), small) for _ in range(2))
    assert one.criterion is not other.criterion
    names = dict(one.named_parameters())
    assert set(names) == {"change", "criterion.proxies"}
    assert names["criterion.proxies"].dtype == torch.float64
    loss_of(one, small).backward()
    assert names["criterion.proxies"].grad.abs().sum() > 0
    with pytest.raises(InputError, match=r"ProxyAnchorLoss has parameters for each of its classes.*negatives=0, got 2"):
        Siamese(criterion=proxies, negatives=2)


def test_a_cluster_has_one_class_in_every_batch(small):
    class Seen(nn.Module):
        def forward(self, embeddings, labels, indices):
            assert indices is None
            self.labels = labels
            return embeddings.sum()

    learner = fit(Siamese(criterion=Seen(), negatives=3), small)
    loss_of(learner, small)
    everyone = learner.criterion.labels
    assert everyone[:20].tolist() == [int(name.removeprefix("NGC ")) for name in small.clusters]
    assert everyone[20:].tolist() == [5, 6, 7]
    part = np.flatnonzero(np.isin(small.clusters, ["NGC 2", "NGC 4"]))
    renamed = np.where(small.clusters[part] == "NGC 4", "new", small.clusters[part])
    learner.loss(torch.from_numpy(small.members[part]), renamed)
    assert learner.criterion.labels[:-3].tolist() == [5 if name == "new" else 2 for name in renamed]
    assert learner.criterion.labels[-3:].tolist() == [6, 7, 8]


NORMALISING = {
    "loss": {"criterion": losses.SupConLoss()},
    "loss, distance by default": {"criterion": losses.ContrastiveLoss()},
    "inside another": {"criterion": losses.MultipleLosses([losses.ContrastiveLoss(distance=LpDistance())])},
    "miner": {"miner": miners.TripletMarginMiner()},
}


@pytest.mark.parametrize("options", NORMALISING.values(), ids=NORMALISING)
def test_nothing_is_normalised_unasked(small, options):
    with pytest.raises(InputError, match=r"sets to length 1.*siamese\.Euclidean\(\), or set normalise=True"):
        Siamese(**options)
    assert loss_of(fit(Siamese(**options, normalise=True), small), small).isfinite()


@pytest.mark.parametrize("criterion", ["contrastive", "triplet", "supcon"])
def test_normalised_where_asked(small, criterion, tolerance):
    plain, learner = (moved(fit(Siamese(criterion=criterion, normalise=on), small)) for on in (False, True))
    y = embedded_stars(plain, small)
    z = torch.from_numpy(small.members)
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    np.testing.assert_allclose(learner(z).detach(), y, **tolerance[torch.float64])
    if criterion == "contrastive":
        distance = np.linalg.norm(y[:, None] - y, axis=2) / np.sqrt(2)
        same = small.clusters[:, None] == small.clusters
        expected = distance[same & ~np.eye(20, dtype=bool)].mean() + np.maximum(0, 1 - distance[~same]).mean()
        np.testing.assert_allclose(loss_of(learner, small).item(), expected, **tolerance[torch.float64])


@pytest.mark.parametrize("power", [1, 2])
def test_distances_do_not_cancel(power):
    """Of more than 25 stars torch.cdist takes products by default."""
    stars = 1e3 + torch.arange(40, dtype=torch.float64)[:, None] * torch.full((1, 5), 1e-7, dtype=torch.float64)
    expected = (stars.numpy()[:, None] - stars.numpy()) ** 2
    expected = expected.sum(2) ** (power / 2)
    for got in (Euclidean(power)(stars), Euclidean(power)(stars, stars)):
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert not np.allclose(LpDistance(normalize_embeddings=False, power=power)(stars), expected, rtol=1e-3, atol=0)


# ---- bad input and configuration


@EACH
def test_not_fitted(make):
    with pytest.raises(InputError, match="is not fitted: call initialise"):
        make()(torch.zeros(3, 2))
    with pytest.raises(InputError, match="is not fitted: call initialise"):
        make().loss(torch.zeros(3, 2), ["a", "a", "b"])


def test_a_subclass_must_define_its_loss(small):
    with pytest.raises(InputError, match="GradientLearner must define _unpenalised"):
        loss_of(fit(GradientLearner(), small), small)


@EACH
def test_what_cannot_be_fitted(small, make):
    with pytest.raises(InputError, match="n_dimensions=5, but the latents have 4 dimensions: lower it to at most 4"):
        fit(make(n_dimensions=5), small)
    with pytest.raises(InputError, match="negatives=151, but there are 150 field stars"):
        fit(make(negatives=151), small)
    with pytest.raises(InputError, match="field and members must be finite"):
        make().initialise(small.field, np.full_like(small.members, np.nan), small.clusters)
    with pytest.raises(InputError, match=r"4 dimensions.*at most 3 \(members minus clusters\)"):
        make().initialise(small.field, small.members[:6], ["a", "a", "b", "b", "c", "c"])
    with pytest.raises(InputError, match=r"4 dimensions.*at most 3 \(members minus clusters\)"):
        make(init="random").initialise(small.field, small.members[:6], ["a", "a", "b", "b", "c", "c"])
    flat = small.field.copy()
    flat[:, 3] = flat[:, 0]
    with pytest.raises(InputError, match="the field spans 3 of 4 dimensions"):
        make(init="random").initialise(flat, small.members, small.clusters)


@EACH
def test_a_batch_that_has_no_loss(small, make):
    learner = fit(make(), small)
    with pytest.raises(InputError, match="no cluster has two of the 3 members: give batches with siblings"):
        learner.loss(torch.from_numpy(small.members[:3]), ["a", "b", "c"])
    with pytest.raises(InputError, match=r"got \(20, 4\) and 19 labels"):
        learner.loss(torch.from_numpy(small.members), small.clusters[:19])
    one = np.flatnonzero(small.clusters == "NGC 0")
    loss = learner.loss(torch.from_numpy(small.members[one]), small.clusters[one])  # no stranger
    loss.backward()
    assert loss.isfinite()
    assert learner.change.grad.isfinite().all()


SHARED = [
    ({"n_dimensions": 0}, "n_dimensions must be a whole number of at least 1, or None"),
    ({"n_dimensions": 2.0}, "n_dimensions must be a whole number"),
    ({"init": "zeros"}, 'init must be "rsca" or "random", got \'zeros\''),
    ({"penalty": -1.0}, "penalty must be a number at least 0 and finite, got -1.0"),
    ({"penalty": np.nan}, "penalty must be a number at least 0 and finite, got nan"),
    ({"penalty": np.inf}, "penalty must be a number at least 0 and finite, got inf"),
    ({"dropout": 1.0}, "dropout must be a number at least 0 and below 1, got 1.0"),
    ({"negatives": -1}, "negatives must be a whole number of at least 0 field stars, got -1"),
    ({"negatives": 0.5}, "negatives must be a whole number"),
    ({"recipe": {"epochs": 3}}, "recipe must be a rsca_torch.learners.Recipe"),
]
OWN = [
    (NCA, {"objective": "exact"}, 'objective must be "expected" or "log"'),
    (LargeMargin, {"k": 0}, "k must be a whole number of at least 1 sibling, got 0"),
    (LargeMargin, {"margin": 0.0}, "margin must be a number above 0 and finite, got 0.0"),
    (LargeMargin, {"push": 0.0}, "push must be a share above 0 and at most 1"),
    (LargeMargin, {"push": 1.1}, "push must be a share above 0 and at most 1"),
    (Siamese, {"hidden": (0,)}, r"hidden must be the widths of layers.*got \(0,\)"),
    (Siamese, {"hidden": "64"}, "hidden must be the widths of layers"),
    (Siamese, {"hidden": 64}, "hidden must be the widths of layers"),
    (Siamese, {"criterion": "cosine"}, "criterion must be one of contrastive, triplet, supcon or a loss object"),
    (Siamese, {"criterion": None}, "criterion must be one of contrastive, triplet, supcon or a loss object"),
    (Siamese, {"miner": "hard"}, "miner must be a miner object"),
    (Siamese, {"margin": -1.0}, "margin must be a number above 0 and finite, got -1.0"),
    (Siamese, {"temperature": 0}, "temperature must be a number above 0 and finite, got 0"),
]


@pytest.mark.parametrize(("options", "message"), SHARED, ids=[str(options) for options, _ in SHARED])
@pytest.mark.parametrize("kind", [NCA, LargeMargin, Siamese])
def test_options_out_of_range(kind, options, message):
    with pytest.raises(InputError, match=message):
        kind(**options)


@pytest.mark.parametrize(("kind", "options", "message"), OWN, ids=[str(options) for _, options, _ in OWN])
def test_own_options_out_of_range(kind, options, message):
    with pytest.raises(InputError, match=message):
        kind(**options)


def test_a_criterion_and_a_miner_from_the_configuration(small):
    euclidean = {"_target_": "rsca_torch.learners.siamese.Euclidean"}
    learner = instantiate(
        OmegaConf.create(
            {
                "_target_": "rsca_torch.learners.Siamese",
                "hidden": [8],
                "criterion": {
                    "_target_": "pytorch_metric_learning.losses.MultiSimilarityLoss",
                    "distance": euclidean,
                },
                "miner": {"_target_": "pytorch_metric_learning.miners.BatchHardMiner", "distance": euclidean},
            }
        )
    )
    assert learner.hidden == (8,)
    assert loss_of(fit(learner, small), small).isfinite()
