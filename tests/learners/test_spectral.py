"""Learners of spectra: packed spectra, the spectral network against slow NumPy, and how they are judged."""

from __future__ import annotations

import copy
import json
import pickle
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.table import Table

from rsca_torch import (
    Identity,
    InputError,
    NumericalWarning,
    ScaledComponents,
    Spectra,
    allowed_pairs,
    fit_ppca,
    leave_one_cluster_out,
)
from rsca_torch.cli.main import main
from rsca_torch.comparison.comparison import compare
from rsca_torch.comparison.representation import Representation, represent
from rsca_torch.comparison.several_models import side_by_side
from rsca_torch.comparison.training_options import TrainingOptions
from rsca_torch.evaluation.fold_files import FoldFiles
from rsca_torch.learners import Recipe, Siamese, SpectralSiamese
from rsca_torch.learners.spectral import Step1
from rsca_torch.spectra import packed as packing
from rsca_torch.spectra.packed import pack, packed, require_room, unpack, with_noise
from rsca_torch.spectra.stars import Stars
from rsca_torch.testing import LearnerContract, drawn_spectra
from rsca_torch.training.fitting import fitted

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
SOURCES = dict(re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL))
UNTRAINED = Recipe(epochs=0)
BRIEF = Recipe(epochs=3, inner=1)
BINS, CLUSTERS = 40, np.repeat([f"NGC {number}" for number in range(6)], 6)


def stars(prefix, clusters, seed):
    rng = np.random.default_rng(seed)
    n = len(clusters)
    table = Table({"APOGEE_ID": [f"{prefix}{i}" for i in range(n)], "CLUSTER": np.array(clusters, dtype=str)})
    table["VHELIO_AVG"], table["AK_TARG"] = rng.uniform(-4, 4, n), rng.uniform(0, 0.08, n)
    return Stars.of(table, id="APOGEE_ID", group="CLUSTER", velocity="VHELIO_AVG", extinction="AK_TARG")


def observed(latents, loadings, rng, prefix, clusters):
    """Spectra about 1 with errors of their own, a sixth of the bins censored, one bin in a hundred spoilt."""
    flux = 1 + latents @ loadings
    sigma = rng.uniform(0.01, 0.03, size=flux.shape)
    flux = flux + sigma * rng.normal(size=flux.shape)
    flux[rng.random(flux.shape) < 0.01] += 0.5
    return Spectra(
        torch.from_numpy(flux),
        torch.from_numpy(rng.random(flux.shape) < 5 / 6),
        torch.from_numpy(sigma),
        stars=stars(prefix, clusters, 1),
    )


@pytest.fixture(scope="module")
def survey():
    """(field, members) of 4 latents, and a step 1 that sets the spoilt bins aside."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(4, BINS)) * 0.05
    field = observed(rng.normal(size=(200, 4)), loadings, rng, "f", [""] * 200)
    centres = rng.normal(size=(6, 4)).repeat(6, axis=0)
    spread = np.array([0.2, 0.3, 0.5, 0.6])
    members = observed(centres + spread * rng.normal(size=(36, 4)), loadings, rng, "m", CLUSTERS)
    return field, members


def step_1(field, _=None, n_components=4, noise="measured+scatter", clip=5.0):
    sigma = None if noise == "isotropic" else field.sigma
    return fit_ppca(field.flux, field.valid, n_components, sigma, noise, tolerance=1e-6, clip=clip)


@pytest.fixture(scope="module")
def on(survey):
    return represent(*survey, step_1)


def make(on, **options):
    """What makes the learner, started from step 1."""
    return on.seen_by(partial(SpectralSiamese, **options)).make_learner


def initialised(on, seed=0, **options):
    learner, seen = make(on, **options)(), on.seen_by(SpectralSiamese)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner.initialise(seen.field, seen.members, on.clusters)
    return learner.eval(), seen


def moved(learner):
    """Away from the start, all parameters."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator)
    return learner


# ---- packed spectra


def test_packed_spectra_say_flux_and_what_it_weighs(survey):
    field, _ = survey
    z = packed(field)
    assert z.shape == (200, 2, BINS)
    assert z.dtype == torch.float64
    assert torch.equal(z[:, 1] > 0, field.valid)
    assert torch.equal(z[:, 0], field.flux.nan_to_num(0))
    flux, valid, sigma = unpack(z)
    assert torch.equal(valid, field.valid)
    assert torch.equal(flux[valid], field.flux[valid])
    torch.testing.assert_close(sigma[valid], field.sigma[valid], rtol=1e-15, atol=0)
    assert not flux[~valid].any()
    assert sigma[~valid].isinf().all()


def test_packed_in_blocks_is_packed_at_once(survey, monkeypatch):
    expected = packed(survey[0])
    monkeypatch.setattr(packing, "AT_ONCE", 7)
    assert torch.equal(packed(survey[0]), expected)


def test_what_stands_in_a_censored_bin_is_not_packed():
    flux, valid = torch.tensor([[1.0, torch.nan, 1e30]]), torch.tensor([[True, False, False]])
    z = pack(flux, valid, torch.tensor([[0.5, 0.0, -1.0]]))
    assert z.tolist() == [[[1, 0, 0], [2, 0, 0]]]
    z[0, 0, 1:] = torch.nan
    assert unpack(z)[0].tolist() == [[1, 0, 0]]


@pytest.mark.parametrize(
    ("flux", "sigma"), [(torch.nan, 0.1), (1.0, torch.nan), (1.0, 0.0), (1.0, -0.1), (1.0, torch.inf)]
)
def test_a_valid_bin_must_have_flux_and_error(flux, sigma):
    with pytest.raises(InputError, match="1 valid bins have no finite flux or no positive, finite error: mark them"):
        pack(torch.tensor([[flux, 1.0]]), torch.ones(1, 2), torch.tensor([[sigma, 0.1]]))


def test_other_shapes_are_refused():
    with pytest.raises(InputError, match=r"of one shape \(N, P\) expected, got \(2, 3\), \(2, 3\), \(3,\)"):
        pack(torch.ones(2, 3), torch.ones(2, 3), torch.ones(3))
    for shape in ((5, 4), (5, 3, 4)):
        with pytest.raises(InputError, match=rf"spectra \(N, 2, P\), .* expected, got \({shape[0]}, {shape[1]}"):
            unpack(torch.ones(shape))


def test_what_cannot_be_packed_is_refused(survey, monkeypatch):
    field, _ = survey
    with pytest.raises(InputError, match="learners of spectra see their errors: give sigma"):
        packed(Spectra(field.flux, field.valid))
    require_room(field)
    monkeypatch.setattr(packing, "MOST_BYTES", 16 * 199 * BINS)
    with pytest.raises(
        InputError, match=r"200 spectra of 40 bins need .* select fewer field stars, or choose a learner"
    ):
        packed(field)


def test_noise_is_drawn_from_the_errors_and_censored_bins_stay(survey):
    z = packed(survey[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        noisy = torch.stack([with_noise(z) for _ in range(50)])
    there = z[:, 1] > 0
    deviation = ((noisy - z)[:, :, 0] * z[:, 1])[:, there]
    assert abs(float(deviation.mean())) < 5 / deviation.numel() ** 0.5
    assert float(deviation.std()) == pytest.approx(1, abs=5 / (2 * deviation.numel()) ** 0.5)
    assert torch.equal(noisy[:, :, 1], z[:, 1].expand(50, -1, -1))
    assert not noisy[:, :, 0][:, ~there].any()


# ---- the network


def by_hand(learner, ppca, z, clip):
    """Embeddings star by star, in NumPy, by eqs. 1.2 to 1.4, 1.12 and 8.9."""
    loadings, mean, scatter = ppca.loadings.numpy(), ppca.mean.numpy(), ppca.scatter.numpy()
    measured = ppca.noise_variance is None
    layers = [layer for layer in learner.network if isinstance(layer, torch.nn.Linear)]
    embeddings = []
    for flux, inverse in z.numpy():
        valid = inverse > 0
        variance = np.where(valid, scatter + (1 / np.where(valid, inverse, 1) ** 2 if measured else 0), np.inf)
        used, before = valid, None
        while before is None or (used != before).any():
            w, weight = loadings[used], 1 / variance[used]
            precision = np.eye(w.shape[1]) + w.T @ (w * weight[:, None])
            latents = np.linalg.solve(precision, w.T @ ((flux - mean)[used] * weight))
            left = flux - mean - loadings @ latents
            used, before = valid & (left**2 <= clip**2 * variance), used
        axes = learner.axes.detach().numpy()[:, used] * learner.error.numpy()[used] / len(flux) ** 0.5
        h = np.array([np.sum(axis * left[used] * weight) / (1 + np.sum(axis**2 * weight)) for axis in axes])
        deviation = latents * np.linalg.norm(loadings, axis=0) - learner.centre.numpy()
        network = torch.from_numpy(np.concatenate([learner.sphere.numpy() @ deviation, h]))
        network = layers[1](torch.nn.functional.gelu(layers[0](network))).detach().numpy()
        embeddings.append(learner.weight.detach().numpy() @ deviation + network)
    return np.array(embeddings)


@pytest.mark.parametrize(
    ("noise", "clip"), [("measured+scatter", None), ("measured+scatter", 5.0), ("isotropic", None)]
)
def test_the_embedding_is_that_of_the_equation(survey, noise, clip):
    ppca = step_1(survey[0], noise=noise, clip=clip)
    learner, seen = initialised(represent(*survey, lambda *_: ppca), n_features=3, hidden=(5,))
    moved(learner)
    expected = by_hand(learner, ppca, seen.members, np.inf if clip is None else clip)
    np.testing.assert_allclose(learner(seen.members).detach(), expected, rtol=1e-4, atol=1e-4)  # h is in float32


def test_errors_of_a_typical_star(survey):
    ppca = step_1(survey[0], clip=None)
    learner, _ = initialised(represent(*survey, lambda *_: ppca))
    variance = ppca.scatter + survey[0].sigma ** 2
    weight = torch.where(survey[0].valid, 1 / variance, 0).mean(0)
    torch.testing.assert_close(learner.error, weight**-0.5, rtol=1e-6, atol=0)


def test_untrained_it_is_rsca(on):
    learner, seen = initialised(on)
    rsca = ScaledComponents()
    rsca.initialise(on.field, on.members, on.clusters)
    torch.testing.assert_close(learner(seen.field), rsca(on.field), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(learner(seen.members), rsca(on.members), rtol=1e-10, atol=1e-10)


def test_a_random_start_is_another_one(on):
    learner, seen = initialised(on, init="random")
    assert not learner.start.any()
    assert learner.network[-1].weight.any()
    assert not torch.equal(learner(seen.members), initialised(on, seed=1, init="random")[0](seen.members))


def test_a_bin_that_step_1_leaves_out_is_never_used(survey):
    field, members = survey
    valid = field.valid.clone()
    valid[:, 7] = False
    rare = Spectra(field.flux, valid, field.sigma, stars=field.stars)
    with pytest.warns(NumericalWarning, match="1 of 40 bins have fewer valid stars"):
        ppca = step_1(rare)
    learner, seen = initialised(represent(rare, members, lambda *_: ppca))
    assert learner.error[7] == torch.inf
    moved(learner)
    z = seen.members.clone()
    z[:, 0, 7] += 100
    assert torch.equal(learner(z), learner(seen.members))


def test_step_1_is_fitted_where_none_is_given(survey):
    field, members = (packed(part) for part in survey)
    learner = SpectralSiamese(n_components=3)
    learner.initialise(field, members, CLUSTERS)
    assert learner.loadings.shape == (BINS, 3)
    fit = fit_ppca(*unpack(field)[:2], 3, unpack(field)[2], "measured+scatter", tolerance=1e-4)
    torch.testing.assert_close(learner.loadings, fit.loadings)
    learner.initialise(field[:100], members, CLUSTERS)  # another field, another step 1
    assert not torch.allclose(learner.loadings, fit.loadings)


def test_what_step_1_said_is_kept_until_the_spectra_change(on, monkeypatch):
    learner, seen = initialised(on)
    moved(learner)
    said, explained = [], Step1.explained
    monkeypatch.setattr(Step1, "explained", lambda step, z: said.append(len(z)) or explained(step, z))
    z = seen.members.clone()
    first = learner(z)
    learner.loss(z, on.clusters)
    assert said == [36]
    z[0, 0] *= 1.1
    second = learner(z)
    assert said == [36, 36]
    assert torch.equal(second[1:], first[1:])
    assert not torch.equal(second[0], first[0])
    assert torch.equal(copy.deepcopy(learner)(z), second)
    assert torch.equal(pickle.loads(pickle.dumps(learner))(z), second)
    learner.load_state_dict(initialised(on, seed=3)[0].state_dict())
    assert said.count(36) >= 4
    assert torch.equal(learner(z), initialised(on, seed=3)[0](z))
    with torch.inference_mode():
        assert torch.equal(learner(z * 1), learner(z))
    for _ in range(10):
        learner(z.clone())
    assert len(learner._said) <= 4  # and of those no tensor is alive but one


def test_many_spectra_are_mapped_in_parts(on, monkeypatch):
    learner, seen = initialised(on)
    moved(learner)
    expected = learner(seen.field)
    monkeypatch.setattr("rsca_torch.learners.spectral.REMEMBERED", 64)
    monkeypatch.setattr("rsca_torch.learners.spectral.AT_ONCE", 9)
    torch.testing.assert_close(learner(seen.field), expected, rtol=1e-5, atol=1e-6)


def test_negatives_are_spectra(on):
    learner, seen = initialised(on, negatives=5, criterion="triplet")
    assert learner.strangers.shape == (5, 2, BINS)
    assert learner.loss(seen.members, on.clusters).isfinite()
    assert all(any(torch.equal(one, other) for other in seen.field) for one in learner.strangers)


def test_options_and_spectra_that_cannot_be(on):
    with pytest.raises(InputError, match="hidden: a layer at least expected, got none"):
        SpectralSiamese(hidden=())
    for name in ("n_features", "n_components"):
        for value in (0, 1.5):
            with pytest.raises(InputError, match=f"{name} must be a whole number of at least 1, got {value}"):
                SpectralSiamese(**{name: value})
    with pytest.raises(InputError, match="SpectralSiamese is not fitted"):
        SpectralSiamese()(torch.ones(1, 2, BINS))
    learner, seen = initialised(on)
    with pytest.raises(InputError, match="step 1 has 40 bins, the spectra 39: bring the spectra to those of step 1"):
        learner(seen.members[:, :, 1:])
    with pytest.raises(InputError, match=r"spectra \(N, 2, P\), .* expected, got \(36, 4\)"):
        learner(on.members)
    with pytest.raises(InputError, match=r"spectra of M stars and M labels expected, got \(36, 2, 40\) and 35 labels"):
        learner.loss(seen.members, on.clusters[1:])
    siamese = Siamese()
    siamese.initialise(on.field, on.members, on.clusters)
    with pytest.raises(InputError, match=r"latents of M stars and M labels expected, got \(36, 2, 40\) and 36 labels"):
        siamese.loss(seen.members, on.clusters)


# ---- what training finds


def beyond_step_1(tells):
    """Step 1 has 2 components. A third, weak direction is the same for all members of a cluster, or not."""
    rng = np.random.default_rng(4)
    loadings = rng.normal(size=(3, BINS)) * [[0.1], [0.1], [0.012]]
    field = observed(rng.normal(size=(200, 3)), loadings, rng, "f", [""] * 200)
    clusters = np.repeat([f"NGC {number}" for number in range(12)], 8)
    latents = rng.normal(size=(96, 3)) * [0.8, 0.8, 1]
    weak = rng.normal(size=12).repeat(8)
    if tells:
        latents[:, 2] = weak
    members = observed(latents, loadings, rng, "m", clusters)
    return represent(field, members, partial(step_1, n_components=2))


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
@pytest.mark.parametrize("tells", [True, False])
def test_training_finds_what_step_1_leaves(tells):
    """Judged by clusters that no training saw: the last three."""
    on = beyond_step_1(tells)
    seen = on.seen_by(SpectralSiamese)
    inside = on.clusters < "NGC 4"  # 0, 1, 10, 11, 2, 3
    rates = []
    for recipe in (UNTRAINED, Recipe(epochs=60, inner=0)):
        learner = fitted(make(on, recipe=recipe), seen.field, seen.members[inside], on.clusters[inside], 0)
        with torch.no_grad():
            embedded = learner(seen.members[~inside])
        labels = on.clusters[~inside]
        distances = torch.cdist(embedded, embedded)
        siblings = torch.from_numpy(labels[:, None] == labels).fill_diagonal_(False)
        strangers = torch.from_numpy(labels[:, None] != labels)
        rising = distances[strangers].sort().values
        rates.append(float(torch.searchsorted(rising, distances[siblings]).double().mean() / len(rising)))
    before, after = rates
    assert (after < before - 0.05) == tells


# ---- how they are judged


def judged(comparison, representation, learner, held_out=True):
    (found,) = (
        result
        for result in comparison.results
        if (result.representation.name, result.learner, result.loco.held_out) == (representation, learner, held_out)
    )
    return found


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
def test_untrained_it_has_the_rates_of_rsca_cluster_by_cluster(on):
    untrained = partial(SpectralSiamese, recipe=UNTRAINED)
    comparison = compare([on], [untrained, ScaledComponents, Identity], allowed_pairs)
    ours, rsca = (judged(comparison, "spectra", name).loco for name in ("spectral", "rsca"))
    assert ours.cluster_rates == rsca.cluster_rates
    assert ours.pairs == rsca.pairs
    assert 0 < rsca.rate < judged(comparison, "spectra", "raw").loco.rate
    assert judged(comparison, "spectra", "spectral", held_out=False).representation.ppca is on.ppca
    assert comparison.difference(judged(comparison, "spectra", "rsca")).value == 0


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
def test_training_changes_the_rates_and_noise_changes_the_training(on):
    recipes = (UNTRAINED, Recipe(epochs=60, inner=0), Recipe(epochs=1, inner=0, noise=True))
    untrained, plain, noisy = (
        compare([on], [partial(SpectralSiamese, recipe=recipe)], allowed_pairs).results[0].loco for recipe in recipes
    )
    assert plain.median_sibling_distance != untrained.median_sibling_distance
    for cluster, trained in plain.trained.items():
        assert trained.losses[-1] < trained.losses[0]
        assert noisy.trained[cluster].losses[0] != trained.losses[0]  # both of the start


def abundances_of(on):
    return Representation("abundances", on.field[:, :2], on.members[:, :2], on.field_stars, on.member_stars)


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
def test_it_is_not_judged_on_abundances_and_its_baselines_are(on):
    learners = [partial(SpectralSiamese, recipe=UNTRAINED), ScaledComponents]
    with pytest.warns(NumericalWarning, match="not judged on abundances, which are no spectra: spectral"):
        comparison = compare([on, abundances_of(on)], learners, allowed_pairs)
    judged = [(result.representation.name, result.learner) for result in comparison.results if result.loco.held_out]
    assert judged == [("spectra", "spectral"), ("spectra", "rsca"), ("abundances", "rsca")]
    with pytest.raises(InputError, match="abundances are no spectra, which is what this learner sees"):
        compare([abundances_of(on)], learners, allowed_pairs)


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
def test_several_models_are_refused(survey):
    each = {number: represent(*survey, partial(step_1, n_components=number)) for number in (3, 4)}
    with pytest.raises(InputError, match="starts from one step 1: give one n_components, not candidates"):
        compare([each], [SpectralSiamese], allowed_pairs)
    with pytest.raises(InputError, match="starts from one step 1: give one n_components, not several"):
        compare([side_by_side([each[3], each[4]])], [SpectralSiamese], allowed_pairs)


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
def test_finished_folds_are_kept_for_this_step_1_alone(on, survey, tmp_path, monkeypatch):
    learner = partial(SpectralSiamese, recipe=BRIEF)
    expected = compare([on], [learner], allowed_pairs).results[0].loco
    first = TrainingOptions(tmp_path)
    kept = FoldFiles.put

    def dies(files, cluster, fold):
        kept(files, cluster, fold)
        if len(list(files.folder.iterdir())) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(FoldFiles, "put", dies)
    with pytest.raises(KeyboardInterrupt):
        compare([on], [learner], allowed_pairs, training=first)
    done = []
    monkeypatch.setattr(
        FoldFiles, "put", lambda files, cluster, fold: done.append(cluster) or kept(files, cluster, fold)
    )
    again = compare([on], [learner], allowed_pairs, training=TrainingOptions(tmp_path)).results[0].loco
    assert len(done) == 4 + 6  # held out, and then in-sample
    assert again.cluster_rates == expected.cluster_rates
    other = represent(*survey, partial(step_1, n_components=3))
    done.clear()
    compare([other], [learner], allowed_pairs, training=TrainingOptions(tmp_path))
    assert len(done) == 12


# ---- the page's learner, and the command


def bands():
    names = {"__name__": "bands"}
    exec(SOURCES["bands.py"], names)
    return names["Bands"]


class TestBands(LearnerContract):
    make = lambda: bands()(width=5)  # noqa: E731


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
def test_the_page_s_learner_is_judged_on_spectra(on):
    comparison = compare([on], [partial(bands(), width=1), ScaledComponents], allowed_pairs)
    assert 0 < judged(comparison, "spectra", "bands").loco.rate < 0.5
    z = packed(Spectra(torch.tensor([[1.0, 3.0, torch.nan, 5.0]]), sigma=torch.tensor([[1.0, 2.0, 1.0, 1.0]])))
    learner = bands()(width=3)
    learner.centre, learner.weight = torch.zeros(4).double(), torch.tensor([1.0, 10.0]).double()
    assert learner(z).tolist() == [[(1 + 3 / 4) / (1 + 1 / 4), 50.0]]


def test_the_drawn_spectra():
    problem = drawn_spectra()
    assert (tuple(problem.field.shape), tuple(problem.members.shape)) == ((300, 2, 40), (30, 2, 40))
    share = (problem.field[:, 1] == 0).double().mean()
    assert 0.14 < share < 0.19
    assert torch.equal(problem.members, drawn_spectra().members)
    leave_one_cluster_out(partial(SpectralSiamese, recipe=UNTRAINED), *problem)


SMALL = [
    *("simulation.n_field=150", "simulation.stars.clusters=8"),
    *("compressor.n_components=6", "compressor.max_iterations=30"),
    *("figures=false", "calibration=null"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a finished comparison in `first`, its survey and its store."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        brief = ["learner.recipe.epochs=1", "learner.recipe.inner=0", "+learner@baselines.rsca=rsca"]
        assert main(["compare", *SMALL, "learner=spectral", *brief, "out=first"]) == 0
    yield folder
    shutil.rmtree(folder / "rsca_simulated")


@pytest.fixture
def work(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra")


@pytest.mark.filterwarnings("default::rsca_torch.NumericalWarning")
def test_the_command_judges_it(work):
    results = json.loads((work / "first" / "results.json").read_text())["results"]
    assert [(r["representation"], r["learner"]) for r in results if r["held_out"]] == [
        ("spectra", "spectral"),
        *((name, learner) for name in ("spectra", "abundances", "abundance_subset") for learner in LEARNERS),
    ]
    assert results[0]["compressor"]["n_components"] == 6
    assert set(results[0]["training"]) == {cluster["cluster"] for cluster in results[0]["clusters"]}
    state = torch.load(work / "first" / "learner.pt", weights_only=True)
    learner = SpectralSiamese()
    learner.load_state_dict(state)
    assert learner.loadings.shape == (state["mean"].shape[0], 6)


LEARNERS = ("raw", "scaled", "rsca")


@pytest.mark.filterwarnings("default::rsca_torch.NumericalWarning")
@pytest.mark.parametrize("numbers", ["auto", "[4,6]"])
def test_the_command_refuses_several_numbers_before_step_1(work, capfd, numbers):
    given = ["compare", *SMALL, f"compressor.n_components={numbers}", "compressor.candidates=[4,6]", "out=none"]
    for chosen in (["learner=spectral"], ["+learner@baselines.other=spectral"]):
        assert main([*given, *chosen]) == 2
        said = " ".join(capfd.readouterr().err.split())
        assert "spectral sees spectra and starts from one step 1: one compressor.n_components expected, got" in said
        assert "step 1: masked PPCA" not in said
    assert not (work / "none").exists()
