"""Steps 2 to 4 and the rates against the results of the authors' own program (shared/README.md)."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch

from rsca_torch import Identity, NumericalWarning, Scaled, ScaledComponents, allowed_pairs, leave_one_cluster_out

# On this random problem three dimensions tell nothing, which is said in every fold.
pytestmark = pytest.mark.filterwarnings(r"ignore:.*dimensions spread as much:rsca_torch.NumericalWarning")

LIVE = 5
CEILING = 0.9999999  # where the authors clamp sigma_c: a weight of 1 / 2236 in place of 0


@pytest.fixture(scope="module")
def data(shared):
    return dict(np.load(shared / "reference" / "rsca_reference.npz"))


@pytest.fixture(scope="module")
def allowed(data):
    names = ("member_vhelio", "field_vhelio", "member_ak", "field_ak")
    return allowed_pairs(*(data[name] for name in names))


@pytest.fixture(scope="module")
def learner(data):
    fitted = ScaledComponents()
    with pytest.warns(NumericalWarning, match="3 of 8 dimensions"):
        fitted.initialise(data["field"], data["members"], data["clusters"])
    return fitted


@pytest.fixture(scope="module")
def dead(data, learner):
    """(3, K) the rows of the dimensions that tell nothing, as the authors keep them: weight 1 / 2236."""
    basis = reference.reparametrised(data["field"], data["members"], data["clusters"].tolist())
    weight, sigma_r = reference.rescaled(basis, data["members"], data["clusters"].tolist(), ceiling=CEILING)
    np.testing.assert_allclose(sigma_r, data["scaling"], rtol=1e-8)
    np.testing.assert_allclose(learner.weight[:LIVE].numpy(), weight[:LIVE], rtol=1e-8, atol=1e-10)
    return weight[LIVE:]


def rates(data, allowed, make_learner, **options):
    return leave_one_cluster_out(make_learner, data["field"], data["members"], data["clusters"], allowed, **options)


@pytest.mark.parametrize(
    ("name", "make_learner", "options"),
    [
        ("rsca", ScaledComponents, {}),
        ("scaled", Scaled, {}),
        ("raw", Identity, {}),
        ("rsca_std", lambda: ScaledComponents(robust=False), {}),
        ("rsca_unpooled", lambda: ScaledComponents(pooled=False), {}),
        ("rsca_no_loco", ScaledComponents, {"held_out": False}),
    ],
)
def test_rates(data, allowed, name, make_learner, options):
    result = rates(data, allowed, make_learner, **options)
    assert list(result.cluster_rates) == data["cluster_order"].tolist()
    np.testing.assert_allclose(list(result.cluster_rates.values()), data[f"rates_{name}"], rtol=0, atol=1e-6)
    assert result.rate == pytest.approx(float(data[f"global_{name}"]), abs=1e-6)


def test_the_most_important_dimensions(data, allowed):
    got = [rates(data, allowed, lambda top=n: ScaledComponents(top=top)).rate for n in range(1, 9)]
    np.testing.assert_allclose(got, data["global_top_n"], rtol=0, atol=1e-6)


def test_sigma_r(data, learner):
    assert (data["scaling"][:LIVE] < 2).all()
    assert (data["scaling"][LIVE:] > 2236).all()
    np.testing.assert_allclose(learner.sigma_r[:LIVE].numpy(), data["scaling"][:LIVE], rtol=1e-8)
    assert learner.sigma_r[LIVE:].isinf().all()


def squared_distances(a, b):
    return np.square(a[:, None] - b[None]).sum(-1)


@pytest.mark.parametrize("other", ["member_distances", "member_field_distances"])
def test_distances(data, learner, dead, other):
    """Theirs squared is ours squared and the dead dimensions' share, of order 1e-6, which is added here."""
    members = data["members"]
    others = members if other == "member_distances" else data["field"][:200]
    ours = [learner(torch.from_numpy(z)).numpy() for z in (members, others)]
    expected = np.sqrt(squared_distances(*ours) + squared_distances(members @ dead.T, others @ dead.T))
    np.testing.assert_allclose(expected, data[other], rtol=1e-8, atol=1e-12)


def test_embedding(data, learner, dead):
    embedded = learner(torch.from_numpy(data["members"])).numpy()
    got = np.abs(embedded - embedded.mean(0))
    np.testing.assert_allclose(got[:, :LIVE], data["abs_embedding_members"][:, :LIVE], rtol=0, atol=1e-8)
    assert (got[:, LIVE:] == 0).all()
    theirs = np.abs((data["members"] - data["members"].mean(0)) @ dead.T)
    np.testing.assert_allclose(
        np.sort(theirs, axis=1), np.sort(data["abs_embedding_members"][:, LIVE:], axis=1), rtol=0, atol=1e-8
    )
