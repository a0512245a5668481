"""What stars of like velocity share is found, taken out star by star, and nothing else is."""

from __future__ import annotations

import copy
import json
import pickle
import runpy
from types import SimpleNamespace

import hydra
import numpy as np
import pytest
import reference
import scipy.linalg
import torch
from astropy.table import Table
from omegaconf import OmegaConf

from rsca_torch import RSCA, Grouping, InputError, NumericalWarning, Removal, Spectra
from rsca_torch.cli.main import CONFIG, main
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.compression import grouping_of
from rsca_torch.ppca.fit import compress
from rsca_torch.removal import without
from rsca_torch.report.reproduction import EXPERIMENTS
from rsca_torch.survey.simulated.store import simulated_store

pytestmark = [
    pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning"),  # a small survey drops dimensions and clusters
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]

N_BINS = 14
#: As `fit_ppca` has it where nothing is said.
EXACT = {"noise": "measured", "clip": None, "tolerance": 1e-7, "max_iterations": 1000, "products": "float64"}
VELOCITY = Grouping("VHELIO_AVG", 5.0)


def drawn(feature, seed=0):
    """Field and members with three features of their own, and `feature` times the noise that velocity makes."""
    rng = np.random.default_rng(seed)
    loadings, shapes = rng.normal(size=(3, N_BINS)), rng.normal(size=(2, N_BINS))

    def spectra(latents, velocity, clusters):
        sigma = rng.uniform(0.1, 0.3, size=(len(latents), N_BINS))
        made = np.stack([np.cos(velocity / 15), np.sin(velocity / 15)], axis=1) @ shapes
        flux = 1 + latents @ loadings + 0.2 * feature * made + sigma * rng.normal(size=sigma.shape)
        ids = [f"{'M' if len(set(clusters)) > 1 else 'F'}{n}" for n in range(len(flux))]
        stars = Table({"APOGEE_ID": ids, "VHELIO_AVG": velocity, "CLUSTER": clusters})
        return Spectra(
            *map(torch.from_numpy, (flux, rng.random(flux.shape) > 0.1, sigma)),
            None,
            stars,
            id="APOGEE_ID",
            group="CLUSTER",
            velocity="VHELIO_AVG",
        )

    field = spectra(rng.normal(size=(500, 3)), rng.uniform(-50, 50, 500), [""] * 500)
    of_clusters = [np.repeat(centres, 6, axis=0) for centres in (rng.normal(size=(5, 3)), rng.uniform(-50, 50, (5, 1)))]
    siblings = of_clusters[0] + 0.2 * rng.normal(size=(30, 3))
    return field, spectra(siblings, of_clusters[1][:, 0], np.repeat(list("ABCDE"), 6))


@pytest.fixture(scope="module")
def survey():
    return drawn(4.0)


@pytest.fixture(scope="module")
def step_1(survey):
    return compress(*survey, n_components=5, **EXACT)


@pytest.fixture(scope="module")
def removal(survey, step_1):
    return VELOCITY.find(step_1, survey[0])[0]


@pytest.fixture(scope="module")
def model(survey, removal):
    return RSCA.fit(*survey, n_components=3, removal=removal, **EXACT)


def close(actual, expected, rtol, atol):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=atol)


def complete(stars):
    return torch.where(stars.valid, stars.flux, 1.0)


def oracle(field, others, ppca, least):
    """(share of each dimension, the others' flux less their part): section 12 of docs/maths.md, star by star."""
    loadings, mean = ppca.loadings.numpy(), ppca.mean.numpy()
    latents = [
        reference.ppca_posterior(part.flux.numpy(), part.valid.numpy(), part.sigma.numpy() ** 2, loadings, mean)[0]
        for part in (field, others)
    ]
    groups = [int(np.floor(v / 5)) for v in field.stars["VHELIO_AVG"]]
    within, stars, count = np.zeros((5, 5)), 0, 0
    for group in set(groups):
        own = latents[0][[other == group for other in groups]]
        if len(own) > 1:
            within += (own - own.mean(0)).T @ (own - own.mean(0))
            stars, count = stars + len(own), count + 1
    left, functionals = scipy.linalg.eigh(within / (stars - count), np.cov(latents[0].T))
    flux = others.flux.numpy().copy()
    reading = functionals.T[1 - left > least]
    size = len(reading)
    metric = sum(np.outer(w, w) / v for w, v in zip(loadings, ppca.bin_variance.numpy(), strict=True))
    conditions = np.block([[metric, reading.T], [reading, np.zeros((size, size))]])  # least change, by Lagrange
    for n, z in enumerate(latents[1]):
        coordinates = reading @ (z - latents[0].mean(0))
        change = np.linalg.solve(conditions, np.concatenate([np.zeros(5), coordinates]))[:5]
        flux[n] -= loadings @ change
    return 1 - left, flux


def test_against_the_oracle(survey, step_1, tolerance):
    field, members = survey
    removal = Grouping("VHELIO_AVG", 5.0, least=0.3).find(step_1, field)[0]  # the first round is enough
    shares, expected = oracle(field, members, step_1, 0.3)
    close(removal.shares, shares[:2], **tolerance[torch.float64])
    got = removal(members.flux, members.valid, members.sigma)
    close(got[members.valid], expected[members.valid.numpy()], **tolerance[torch.float64])
    for part in (without(members, removal), pickle.loads(pickle.dumps(without(members, removal)))):
        flux, valid, sigma = part.read(slice(3, 20, 2))
        close(flux[valid], got[3:20:2][valid], **tolerance[torch.float64])
        assert torch.equal(valid, members.valid[3:20:2])
        assert torch.equal(sigma.isnan(), ~valid)


def test_a_planted_feature_is_found_and_taken_out(survey, step_1, removal, tolerance):
    field, members = survey
    assert len(removal) == 3
    assert removal.shares[:2].min() > 0.9 > removal.shares[2] > 0.1  # what the first round leaves
    of_latents = torch.linalg.lstsq(step_1.loadings, removal.directions).solution
    close(removal.reading @ of_latents, np.eye(3), **tolerance[torch.float64])
    left = without(field, removal)
    again = compress(left, without(members, removal), n_components=3, **EXACT)
    assert len(VELOCITY.find(again, left)[0]) == 0
    angle = torch.from_numpy(field.stars["VHELIO_AVG"] / 15)
    waves = torch.stack([angle.cos(), angle.sin()], dim=1)

    def told(latents):
        """R^2 of the feature itself, by its linear regression on the latents."""
        design = torch.cat([latents, torch.ones(500, 1).double()], dim=1)
        error = waves - design @ torch.linalg.lstsq(design, waves).solution
        return 1 - float(error.square().sum() / (waves - waves.mean(0)).square().sum())

    assert told(step_1.latents(field)) > 0.9
    assert told(again.latents(left)) < 0.05


def test_without_a_feature_nothing_is_removed():
    field, members = drawn(0.0)
    found, chance = VELOCITY.find(compress(field, members, n_components=4, **EXACT), field)
    assert len(found) == 0
    assert 0 < chance < 0.2
    assert without(field, found) is field
    plain, other = (RSCA.fit(field, members, n_components=3, removal=each, **EXACT) for each in (None, found))
    assert torch.equal(other.weight, plain.weight)
    assert torch.equal(other.bias, plain.bias)
    assert torch.equal(other.embed(members), plain.embed(members))


def test_less_than_the_least_share_is_left(survey, step_1):
    assert len(Grouping("VHELIO_AVG", 5.0, least=0.99).find(step_1, survey[0])[0]) == 0


def test_the_layer_removes_too(model, survey, removal, step_1, tolerance):
    members = survey[1]
    flux = complete(members)
    plain = RSCA(model.ppca, model.rotation, model.centre, model.sigma_r, model.wavelength)
    coordinates = (flux - step_1.mean) @ (removal.reading @ step_1.linear_map()).T - removal.centre @ removal.reading.T
    close(model(flux), plain(flux - coordinates @ removal.directions.T), **tolerance[torch.float64])
    sigma = step_1.bin_variance.sqrt().expand_as(flux)
    one_noise = copy.deepcopy(model)  # the second step 1 with the noise of the first: a complete star, both ways
    one_noise.ppca.bin_variance.copy_(step_1.bin_variance)
    one_noise = RSCA(one_noise.ppca, model.rotation, model.centre, model.sigma_r, model.wavelength, removal)
    close(one_noise(flux, None, sigma), one_noise(flux), **tolerance[torch.float64])
    left = removal(members.flux, members.valid, members.sigma)
    assert torch.equal(model.embed(members), plain(left, members.valid, members.sigma))
    assert (model.weight[range(3), model.weight.abs().argmax(1)] > 0).all()
    assert not torch.allclose(model.weight, plain.weight)


def test_the_file_holds_what_is_removed(model, survey, tmp_path):
    model.save(tmp_path / "model")
    loaded = RSCA.load(tmp_path / "model")
    assert torch.equal(loaded.weight, model.weight)
    assert torch.equal(loaded.embed(survey[1]), model.embed(survey[1]))
    assert torch.equal(loaded.removal.shares, model.removal.shares)
    assert loaded.removal.ppca.history == model.removal.ppca.history


def test_stars_of_one_value_are_a_group(survey):
    stars = survey[0].stars.copy()
    stars["FIELD"] = np.repeat(["a", "b", "c", ""], 125)
    together, groups = Grouping("FIELD").groups(stars)
    assert list(np.bincount(groups)) == [0, 125, 125, 125] or len(set(groups)) == 3
    assert together.sum() == 375
    stars["VHELIO_AVG"][:7] = [0.0, 4.9, 5.0, -0.1, -5.0, 1e4, np.nan]
    together, groups = VELOCITY.groups(stars[:7])
    assert list(together) == [True, True, False, True, True, False, False]
    assert groups[0] == groups[1] != groups[2] == groups[3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"column": "NO_SUCH"},
            "remove by NO_SUCH: the star table has no such column, but APOGEE_ID, VHELIO_AVG",
        ),
        ({"column": "CLUSTER", "width": 2.0}, "remove by CLUSTER: it holds no numbers for width=2.0 to divide"),
        ({"column": "CLUSTER"}, "remove by CLUSTER: the column has no value"),
        ({"width": 1e-9}, "0 groups have two stars, two are needed: give another width than 1e-09"),
        ({"width": 1e9}, "2 groups|two are needed"),
        ({"width": 0.0}, "a positive width in its units, or none, and least from 0 to below 1 expected, got width=0"),
        ({"width": -5.0}, "got width=-5.0"),
        ({"width": "wide"}, "got width=wide"),
        ({"least": 1.0}, "least=1.0"),
        ({"shuffles": 0}, "at least 1 shuffle tells what is chance, got 0"),
    ],
)
def test_bad_input(survey, step_1, settings, message):
    if settings.get("width") == 1e9:
        field = survey[0].take(survey[0].stars["VHELIO_AVG"] > 0)  # all of them in one group
        message = "1 groups have two stars, two are needed"
    else:
        field = survey[0]
    with pytest.raises(InputError, match=message):
        Grouping(**{"column": "VHELIO_AVG", "width": 5.0 if "column" not in settings else None} | settings).find(
            step_1, field
        )


def test_few_stars_are_looked_at_in_fewer_components(survey):
    stars = survey[0].stars
    assert Grouping("VHELIO_AVG", 5.0).components(stars) == 30
    few = stars[np.abs(stars["VHELIO_AVG"]) < 5]  # two groups
    with pytest.warns(NumericalWarning, match=f"{len(few)} of them in 2 groups, carry {len(few) - 2} components"):
        assert Grouping("VHELIO_AVG", 5.0, n_components=len(few)).components(few) == len(few) - 2


def test_a_column_without_values(survey, step_1):
    stars = survey[0].stars.copy()
    stars["VHELIO_AVG"] = np.nan
    field = Spectra(survey[0].flux, survey[0].valid, survey[0].sigma, None, stars)
    with pytest.raises(InputError, match="remove by VHELIO_AVG: the column has no value"):
        VELOCITY.find(step_1, field)


SMALL = ["compressor.tolerance=1e-3", "compressor.n_components=12"]
#: A band outside the censored ranges, alike in all stars, that stays where the gas is.
BAND = ["simulation.n_field=250", "simulation.synthesis.interstellar=[[15500.0,1.6,1.0]]"]
BAND += ["simulation.stars.extinction=[0.11,0.02]"]


def assembly_of(folder, *overrides):
    with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = hydra.compose("reproduce", [f"simulated={folder}", "checkpoints=null", *SMALL, *overrides])
    return Assembly(config, simulated_store(config))


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """A small survey as it is by default."""
    return assembly_of(tmp_path_factory.mktemp("survey"), "simulation.n_field=450")


def test_a_planted_band_is_projected_out_at_little_cost(usual):
    script = SimpleNamespace(**runpy.run_path(str(EXPERIMENTS / "paper" / "velocity_removed.py")))
    planted = {"wavelength": 15560.0, "width": 1.6, "depth": 0.1}
    reproduced = script.reproduce(usual, "velocity", planted, 5)
    observed, same, before, after = reproduced.tables["velocity_removed"]
    assert (same["dimensions"], after["dimensions"] > 0) == (0, True)
    assert list(same)[3:] == list(observed)[3:]
    assert observed["doppelganger_rate"] == usual.judged(usual.spectra).rate
    assert before["r2"] > 0.5
    assert after["r2"] < 0.1 * before["r2"]
    assert before["largest_share"] > 0.7
    assert after["largest_share"] < 0.2
    # Against the survey without the band: with it siblings are told by their velocity, within the allowed 5 km/s too.
    assert after["doppelganger_rate"] < 1.05 * observed["doppelganger_rate"]
    cost = after["doppelganger_rate"] - observed["doppelganger_rate"]
    assert reproduced.values[-1].value == pytest.approx(cost)
    assert "As observed, stars of equal velocity have no more in common than chance" in reproduced.finding
    with pytest.raises(InputError, match=r"planted.wavelength=15260.0 Angstrom is not among the bins"):
        script.planted_in(usual.field, planted | {"wavelength": 15260.0})


def removing(assembly, **remove):
    """The same survey, with something else to remove."""
    other = copy.copy(assembly)
    other.__dict__.pop("removal", None)
    other.config, other._made = copy.deepcopy(assembly.config), {}
    other.config.compressor.remove = {"column": "VHELIO_AVG", "width": 5.0, "n_components": 12} | remove
    return other


def test_poison(usual):
    """What the members are does not touch by one bit what is removed, even where step 1 sees them."""
    band = SimpleNamespace(**runpy.run_path(str(EXPERIMENTS / "paper" / "velocity_removed.py"))).Planted
    removals = []
    for members in (usual.members, band(usual.members, 15900.0, 50.0, 0.9)):
        assembly = removing(usual, least=0.0)
        assembly.config.compressor.basis = "transductive"
        assembly.field, assembly.members = band(usual.field, 15560.0, 1.6, 0.1), members
        removals.append(assembly.removal)
    first, second = (removal.state_dict() for removal in removals)
    assert len(removals[0]) > 0
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """`rsca compare compressor.remove=velocity` of a survey with a band that moves with velocity."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        arguments = [*BAND, *SMALL, "compressor.remove=velocity", "simulated=survey", "checkpoints=kept"]
        assert main(["compare", *arguments, "figures=false", "out=run"]) == 0
        assert main(["fit", *arguments, "out=fitted"]) == 0
        assert main(["embed", "model=fitted", "store=survey/store", "out=features.fits"]) == 0
    return folder


def test_every_command_removes(compared, monkeypatch):
    monkeypatch.chdir(compared)
    judged, fitted = RSCA.load("run/rsca.safetensors"), RSCA.load("fitted")
    assert len(judged.removal) >= 1
    assert torch.equal(judged.removal.directions, fitted.removal.directions)
    close(judged.weight, fitted.weight, 1e-6, 1e-6)
    settings = json.loads((compared / "run" / "results.json").read_text())
    assert settings["config"]["compressor"]["remove"] == "velocity"
    assert settings["results"][0]["compressor"]["remove"] == "velocity"
    assert settings["results"][0]["compressor"]["removed"] == judged.removal.shares.tolist()
    assembly = assembly_of("survey", *BAND)
    features = Table.read("features.fits")
    members = assembly.store.spectra(assembly.store.is_member)
    close(features["FEATURES"][assembly.store.is_member], fitted.embed(members), 1e-6, 1e-6)
    assert len(list((compared / "kept").glob("*.ckpt"))) == 2  # step 1 with 30 components, and 12 of what is left


def test_what_compressor_remove_may_be(capfd, compared, monkeypatch):
    monkeypatch.chdir(compared)
    for remove, message in {
        "colour": "one of extinction, fibre, velocity expected, or {column: NAME, width: NUMBER} with any of column",
        "{column: NO_SUCH, width: 5}": "remove by NO_SUCH: the star table has no such column",
    }.items():
        assert main(["compare", *BAND, *SMALL, f"compressor.remove={remove}", "simulated=survey", "out=no"]) == 2
        assert message in " ".join(capfd.readouterr().err.split())
    assert not (compared / "no").exists()
    assert grouping_of(OmegaConf.create({"column": "SNR", "width": 5.0})) == Grouping("SNR", 5.0)
    for remove in ({"width": 5}, {"column": "SNR", "size": 5}, [5.0]):
        with pytest.raises(InputError, match="one of extinction, fibre, velocity expected"):
            grouping_of(OmegaConf.create(remove))


def test_fits_are_kept_under_names_that_say_what_was_removed(usual):
    def name(removed, **remove):
        assembly = removing(usual, **remove)
        return assembly.compression.checkpoint_name(SimpleNamespace(removal="something" if removed else None), 12, None)

    assert name(True) != name(False) == name(False, width=3.0)  # where nothing is found the fit is the usual one
    assert name(True) != name(True, width=3.0)


def test_that_nothing_is_removed_is_said(usual):
    with pytest.warns(NumericalWarning, match=r"VHELIO_AVG have no more in common than chance .* nothing is removed"):
        assert removing(usual).removal is None


def test_it_is_a_module_of_buffers_alone(removal):
    assert isinstance(removal, Removal)
    assert not list(removal.parameters())
