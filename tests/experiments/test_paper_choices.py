"""The authors' choices as options: theirs to the digit where their results are known, and each does what it says."""

from __future__ import annotations

import hydra
import numpy as np
import pytest
import reference
import torch
from astropy.table import Table
from omegaconf import OmegaConf
from paper_assembly import configured as composed
from scripts import script

from rsca_torch import (
    RSCA,
    Identity,
    InputError,
    NumericalWarning,
    Scaled,
    ScaledComponents,
    Spectra,
    allowed_pairs,
    doppelganger_rate,
    fit_ppca,
    leave_one_cluster_out,
)
from rsca_torch.cli.main import CONFIG
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.compression import NOT_OF_COMPRESS
from rsca_torch.learners.groups import Groups
from rsca_torch.learners.registry import builtin, maker
from rsca_torch.learners.weighing import within_cluster_spread
from rsca_torch.ppca.fit import compress
from rsca_torch.survey.simulated.store import simulated_store

pytestmark = [
    pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning"),  # dimensions that tell nothing, in every fold
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]

choices = script("choices")


def configured(*overrides):
    return composed("reproduce", *overrides)


@pytest.fixture(scope="module")
def data(shared):
    return dict(np.load(shared / "reference" / "rsca_reference.npz"))


def test_the_paper_s_learner_has_the_authors_distances(data):
    learner = maker(configured("learner=paper").learner)()
    with pytest.warns(NumericalWarning, match="3 of 8 dimensions spread as much .*: weight 0.000447"):
        learner.initialise(data["field"], data["members"], data["clusters"])
    members, field = (learner(torch.from_numpy(data[name])) for name in ("members", "field"))
    for others, name in ((members, "member_distances"), (field[:200], "member_field_distances")):
        distances = (members[:, None] - others).norm(dim=2)
        np.testing.assert_allclose(distances.numpy(), data[name], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(learner.sigma_r.numpy(), data["scaling"], rtol=1e-7)
    embedding = np.sort((members - members.mean(0)).abs().numpy()[:, 5:], axis=1)  # of equal weights in any order
    np.testing.assert_allclose(embedding, np.sort(data["abs_embedding_members"][:, 5:], axis=1), rtol=0, atol=1e-9)


def test_the_default_learner_has_them_but_for_the_clamped_dimensions(data):
    learner = ScaledComponents()
    learner.initialise(data["field"], data["members"], data["clusters"])
    members = learner(torch.from_numpy(data["members"]))
    distances = (members[:, None] - members).norm(dim=2).numpy()
    off = np.abs(distances / np.where(data["member_distances"] > 0, data["member_distances"], np.nan) - 1)
    assert 1e-8 < np.nanmax(off) < 1e-5


def test_the_paper_s_learner_has_the_authors_rates_with_theirs_nearer_than_the_median(data):
    names = ("member_vhelio", "field_vhelio", "member_ak", "field_ak")
    allowed = allowed_pairs(*(data[name] for name in names))
    make, of = maker(configured("learner=paper").learner), (data["field"], data["members"], data["clusters"], allowed)
    result = leave_one_cluster_out(make, *of, strict=True)
    np.testing.assert_allclose(list(result.cluster_rates.values()), data["rates_rsca"], rtol=0, atol=1e-12)


def problem(seed=0):
    random = np.random.default_rng(seed)
    clusters = np.repeat(["a", "b", "c"], [7, 9, 5])
    spread = np.array([0.1, 0.3, 0.6, 2.0])
    members = random.normal(size=(21, 4)) * spread + np.repeat(random.normal(size=(3, 4)), [7, 9, 5], axis=0)
    return torch.from_numpy(random.normal(size=(400, 4))), torch.from_numpy(members), clusters


def test_a_factor_of_mad_is_a_factor_of_the_spread():
    field, members, clusters = problem()
    learner, printed = ScaledComponents(), ScaledComponents(mad_factor=1.0)
    for each in (learner, printed):
        each.initialise(field, members, clusters)
    sigma_c = (1 + learner.sigma_r**-2) ** -0.5
    tells = learner.sigma_r.isfinite()
    assert int(tells.sum()) == 3
    smaller = (1 + printed.sigma_r**-2) ** -0.5
    torch.testing.assert_close(smaller[:3], sigma_c[:3] / 1.482602218505602, rtol=1e-9, atol=0)
    centred = members - torch.stack([members[clusters == name].mean(0) for name in clusters])
    assert within_cluster_spread(centred, Groups(clusters))[0] == pytest.approx(
        reference.sigma_c(centred.numpy(), clusters.tolist())[0]
    )


@pytest.mark.parametrize(
    ("make", "weights"), [(Scaled, reference.scaled), (ScaledComponents, reference.scaled_components)]
)
def test_a_clamp_replaces_a_spread_of_one_or_more(make, weights):
    field, members, clusters = problem()
    learner = make(clamp=0.9999)
    learner.initialise(field, members, clusters)
    weight, sigma_r = weights(field.numpy(), members.numpy(), clusters.tolist(), ceiling=0.9999)
    np.testing.assert_allclose(learner.sigma_r.numpy(), sigma_r, rtol=1e-9)
    np.testing.assert_allclose(np.abs(learner.weight.numpy()), np.abs(weight), rtol=1e-8, atol=1e-12)
    assert learner.dropped == 1
    assert float(learner.sigma_r[-1]) == pytest.approx(1 / np.sqrt(1 / 0.9999**2 - 1))


def test_options_out_of_range():
    with pytest.raises(InputError, match=r"clamp must lie between 0 and 1, the spread of the field, got 1\.5"):
        ScaledComponents(clamp=1.5)
    with pytest.raises(InputError, match="mad_factor must be positive, got 0"):
        Scaled(mad_factor=0)


def test_strict_leaves_out_what_is_just_as_far():
    members, field = torch.tensor([[0.0], [1.0]]), torch.tensor([[-1.0], [2.0], [0.5], [5.0]])
    # distances 1 2 .5 5 and 2 1 .5 4, median 1
    assert doppelganger_rate(members, field) == 4 / 8
    assert doppelganger_rate(members, field, strict=True) == 2 / 8
    both, labels = torch.cat([members, members + 10]), ["a", "a", "b", "b"]
    rates = [
        leave_one_cluster_out(Identity, field, both, labels, strict=strict).cluster_rates["a"]
        for strict in (False, True)
    ]
    assert rates == [4 / 8, 2 / 8]


def spectra(seed=0, stars=150, bins=30):
    random = np.random.default_rng(seed)
    flux = 1 + random.normal(size=(stars, 5)) @ (random.normal(size=(5, bins)) * [[5], [4], [3], [2], [1]])
    flux += 0.3 * random.normal(size=flux.shape)
    return flux, random.random(flux.shape) > 0.1


def test_a_random_start_leads_to_the_same_likelihood_when_it_is_not_stopped():
    flux, valid = spectra()
    settings = {"tolerance": 1e-9, "max_iterations": 3000}
    usual = fit_ppca(flux, valid, 5, **settings)
    fits = [fit_ppca(flux, valid, 5, random_start=seed, **settings) for seed in (0, 1)]
    for fit in fits:
        assert fit.history[-1] == pytest.approx(usual.history[-1], abs=1e-6)
        assert fit.history[0] < usual.history[0]


def test_a_random_start_has_its_seed_and_no_other_start():
    flux, valid = spectra()
    usual = fit_ppca(flux, valid, 6)
    early = {"tolerance": 0.1}
    first, again, other = (
        fit_ppca(flux, valid, 5, random_start=seed, start=start, **early)
        for seed, start in ((0, None), (0, usual), (1, None))
    )
    assert torch.equal(first.loadings, again.loadings)
    assert not torch.equal(first.loadings, other.loadings)
    with pytest.raises(InputError, match=r"random_start goes with noise='isotropic', .* got measured"):
        fit_ppca(flux, valid, 5, np.ones_like(flux), random_start=0)


def test_the_leading_axes_of_more():
    flux, _ = spectra()
    most = fit_ppca(flux, None, 5)
    kept = most.leading(3)
    assert kept.loadings.shape == (30, 3)
    torch.testing.assert_close(kept(flux), most(flux)[:, :3], rtol=1e-9, atol=1e-9)  # all bins valid: no cross-talk
    assert (kept.history, kept.noise_variance) == (most.history, most.noise_variance)
    with pytest.raises(InputError, match="5 components were fitted: 1 to as many can be kept, not 6"):
        most.leading(6)


def survey(seed=0):
    flux, valid = spectra(seed, 180)
    wavelength = torch.arange(30, dtype=torch.float64)
    stars = Table({"APOGEE_ID": [f"star{number}" for number in range(180)]})
    both = Spectra(torch.from_numpy(flux), torch.from_numpy(valid), None, wavelength, stars, id="APOGEE_ID")
    return both.take(slice(150)), both.take(slice(150, None)), both


def test_more_components_fitted_than_kept():
    field, members, _ = survey()
    kept = compress(field, members, 3, "isotropic", fitted_components=6)
    most = compress(field, members, 6, "isotropic")
    assert torch.equal(kept.loadings, most.loadings[:, :3])
    with pytest.raises(InputError, match="fitted_components=2: at least n_components=3 expected"):
        compress(field, members, 3, "isotropic", fitted_components=2)


def test_the_paper_s_compressor_is_fitted_on_all_stars_from_a_random_start():
    field, members, both = survey()
    config = configured("compressor=paper", "compressor.n_components=4").compressor
    fitted = hydra.utils.instantiate({k: v for k, v in config.items() if k not in NOT_OF_COMPRESS})(field, members)
    expected, longer = (
        fit_ppca(both, n_components=4, noise="isotropic", tolerance=tolerance, random_start=0)
        for tolerance in (config.tolerance, 1e-9)
    )
    torch.testing.assert_close(fitted.loadings, expected.loadings)
    assert len(fitted.history) < len(longer.history)


def test_both_yamls_differ_from_the_text_s_in_what_they_say():
    """Every option that they set, and no other."""
    text, code = (OmegaConf.load(CONFIG / "compressor" / f"{name}.yaml") for name in ("isotropic", "paper"))
    assert {key for key in code if code[key] != text.get(key)} == {"basis", "random_start", "tolerance"}
    text, code = (OmegaConf.load(CONFIG / "learner" / f"{name}.yaml") for name in ("paper_text", "paper"))
    assert {key for key in code if code[key] != text[key]} == {"clamp"}
    assert text.keys() == code.keys()


def test_the_paper_s_learner_is_listed_and_makes_a_layer():
    (listed,) = (plugin for plugin in builtin() if plugin.name == "paper")
    assert (listed.source, listed.paper, listed.problem) == ("built in", "de Mijolla & Ness 2022", "")
    field, members, _ = survey()
    labels = np.repeat(["a", "b"], 15)
    settings = {key: value for key, value in configured("learner=paper").learner.items() if key != "_target_"}
    learner = ScaledComponents(**settings)
    del settings["unspanned"], settings["score"]  # `fit` refuses fewer members than dimensions; a layer gives no score
    layer = RSCA.fit(field, members, labels, 4, "isotropic", **settings)
    learner.initialise(layer.ppca.latents(field), layer.ppca.latents(members), labels)
    torch.testing.assert_close(layer.sigma_r, learner.sigma_r)
    assert float(layer.sigma_r.max()) < 2237  # clamped, not dropped: these clusters tell nothing


@pytest.fixture(scope="module")
def assembly(surveys):
    overrides = ["compressor=paper", "learner=paper", "compressor.n_components=8", "compressor.products=float32"]
    config = configured(f"simulated={surveys}/of-300", "simulation.n_field=300", "checkpoints=null", *overrides)
    return Assembly(config, simulated_store(config))


@pytest.fixture(scope="module")
def reproduced(assembly):
    return choices.reproduce(assembly, 8, 10, 1e-3, "float32")


def test_every_choice_beside_the_text(assembly, reproduced):
    table = reproduced.tables["choices"]
    spectra = table[table["representation"] == "spectra"]
    assert list(spectra["choice"]) == [
        "as in the text",
        "random start, stopped early",
        "members take part in step 1",
        "first 8 of 10 components",
        "MAD times 1.4826",
        "spread clamped",
        "< in place of <=",
        "as in the code, 8 fitted",
    ]
    rates = dict(zip(spectra["choice"], spectra["doppelganger_rate"], strict=True))
    assert rates["as in the code, 8 fitted"] == assembly.judged(assembly.spectra).rate
    assert rates["< in place of <="] == rates["as in the text"]  # no two distances are equal
    assert len({round(rate, 9) for rate in rates.values()}) >= 5
    np.testing.assert_allclose(
        spectra["difference"], spectra["doppelganger_rate"] - rates["as in the text"], atol=1e-12
    )
    assert [value.value for value in reproduced.values] == list(table["doppelganger_rate"])


def test_abundances_relative_to_iron_are_the_same_to_rsca_and_not_to_scaled(reproduced):
    table = reproduced.tables["choices"]
    (scaled,), (rsca,) = (
        table["difference"][(table["representation"] == f"abundance subset, {name}") & (table["code"] == "[X/H]")][1:]
        for name in ("scaled", "rsca")
    )
    assert abs(scaled) > 1e-3
    assert rsca == pytest.approx(0, abs=1e-9)


def test_without_more_components(assembly):
    with pytest.raises(InputError, match="fitted_components=8: more than n_components=8 expected"):
        choices.reproduce(assembly, 8, 8, 1e-3, "float32")
