"""Frozen layers keep their precision, and their state says all that they are."""

from __future__ import annotations

import copy
import io
import pickle
from importlib.metadata import version

import numpy as np
import pytest
import torch

from rsca_torch import RSCA, MaskedPPCA, Removal, Spectra
from rsca_torch.layers.encoder import Encoder
from rsca_torch.layers.layer import Layer
from rsca_torch.ppca.frozen import Frozen
from rsca_torch.ppca.shown_model import ShownModel

N_BINS = 12
NOISES = {
    "isotropic": {"noise": "isotropic"},
    "measured": {"noise": "measured", "clip": None},
    "clipped": {"noise": "measured+scatter", "clip": 6.0},
}


def drawn(seed, n_stars, clusters=None):
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(99).normal(size=(N_BINS, 3))
    centres = rng.normal(size=(n_stars, 3))
    if clusters is not None:
        centres = np.repeat(rng.normal(size=(4, 3)), n_stars // 4, axis=0) + 0.2 * rng.normal(size=(n_stars, 3))
    sigma = rng.uniform(0.05, 0.1, size=(n_stars, N_BINS))
    flux = 1 + centres @ loadings.T + sigma * rng.normal(size=sigma.shape)
    names = {} if clusters is None else {"group": clusters}
    stars = {"id": [f"{seed}-{n}" for n in range(n_stars)], **names}
    return Spectra(flux, rng.random(flux.shape) > 0.1, sigma, 15000 + np.arange(N_BINS), stars)


FIELD, MEMBERS = drawn(0, 100), drawn(1, 20, np.repeat(list("ABCD"), 5))


def removing(ppca):
    """A removal along the first axis of a step 1."""
    reading = torch.eye(1, ppca.n_components, dtype=torch.float64)
    centre = torch.zeros(ppca.n_components, dtype=torch.float64)
    return Removal(ppca, ppca.loadings[:, :1], reading, centre, torch.tensor([0.5]).double())


@pytest.fixture(scope="module")
def models():
    """RSCA of every noise, of other numbers of features, with something removed and without."""
    made = {
        name: RSCA.fit(FIELD, MEMBERS, n_components=2 + (name == "clipped"), tolerance=1e-3, **options)
        for name, options in NOISES.items()
    }
    made["removing"] = RSCA.fit(
        FIELD, MEMBERS, n_components=2, removal=removing(made["clipped"].ppca), **NOISES["measured"]
    )
    return made


def features(model):
    return model(MEMBERS.flux, MEMBERS.valid, MEMBERS.sigma)


@pytest.mark.parametrize("source", [*NOISES, "removing"])
@pytest.mark.parametrize("target", [*NOISES, "removing"])
def test_the_state_is_all_that_a_layer_is(models, source, target):
    """Whatever it is loaded into: noise, clip, shapes, what is removed, clusters."""
    other, right = copy.deepcopy(models[target]), models[source]
    other.load_state_dict(right.state_dict())
    assert torch.equal(features(other), features(right))
    assert torch.equal(other(MEMBERS.flux), right(MEMBERS.flux))
    assert repr(other) == repr(right)
    assert (other.clusters, other.ppca.history) == (right.clusters, right.ppca.history)
    assert (other.ppca.converged, other.ppca.clip) == (right.ppca.converged, right.ppca.clip)


@pytest.mark.parametrize("name", [*NOISES, "removing"])
def test_a_layer_of_its_state_alone(models, name):
    """Through a file that holds tensors alone, of a whole network."""
    file = io.BytesIO()
    torch.save(torch.nn.Sequential(models[name], torch.nn.Linear(2, 1)).state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    own = {key.removeprefix("0."): value for key, value in state.items() if key.startswith("0.")}
    for other in (RSCA.from_state_dict(own), pickle.loads(pickle.dumps(models[name]))):
        assert torch.equal(features(other), features(models[name]))
    step_1 = MaskedPPCA.from_state_dict(models[name].ppca.state_dict())
    assert repr(step_1) == repr(models[name].ppca)
    if name == "removing":
        removal = Removal.from_state_dict(models[name].removal.state_dict())
        flux = MEMBERS.flux.nan_to_num(1)
        assert torch.equal(removal(flux, MEMBERS.valid), models[name].removal(flux, MEMBERS.valid))


def test_a_model_says_what_made_it(models, tmp_path):
    """In its file and in its state: the program's version, and spectra in memory or the stores' own words."""
    model = copy.deepcopy(models["removing"])
    assert model.sources == ({},)
    assert repr(model).endswith(f"fitted by rsca_torch {version('rsca_torch')} on spectra in memory")
    model.version, model.sources = "0.0.7", ({"store": "0123456789abcdef01", "survey": "toy"}, {})
    model.save(tmp_path / "model")
    for other in (RSCA.load(tmp_path / "model"), RSCA.from_state_dict(model.state_dict())):
        assert (other.version, other.sources) == (model.version, model.sources)
        assert repr(other).endswith("by rsca_torch 0.0.7 on store 0123456789abcdef (toy) and spectra in memory")
    by_hand = RSCA(model.ppca, model.rotation, model.centre, model.sigma_r, model.wavelength)
    assert repr(by_hand).endswith("on unknown spectra")


def test_a_state_without_the_noise_is_refused(models):
    state = {key: value for key, value in models["measured"].state_dict().items() if "extra" not in key}
    with pytest.raises(RuntimeError, match=r"Missing key.*ppca._extra_state"):
        copy.deepcopy(models["isotropic"]).load_state_dict(state)


def test_loading_does_not_touch_what_shares_a_buffer():
    """The isotropic one's scatter and bin_variance are one tensor: it is not written to twice."""
    ppca = MaskedPPCA(torch.ones(2, 1).double(), torch.ones(2).double(), torch.ones(2).double(), 1.0)
    assert ppca.scatter is ppca.bin_variance
    other = MaskedPPCA(torch.ones(2, 1), torch.ones(2), torch.full((2,), 3.0), None, scatter=torch.full((2,), 2.0))
    ppca.load_state_dict(other.state_dict())
    assert (ppca.scatter.tolist(), ppca.bin_variance.tolist(), ppca.noise) == ([2, 2], [3, 3], "measured+scatter")
    assert ppca.loadings.dtype == torch.float64


CASTS = {
    "half": lambda layer: layer.half(),
    "bfloat16": lambda layer: layer.to(torch.bfloat16),
    "float": lambda layer: layer.float(),
    "type": lambda layer: layer.type(torch.float16),
    "device and dtype": lambda layer: layer.to("cpu", torch.float16),
    "inside a network": lambda layer: torch.nn.Sequential(layer, torch.nn.Linear(2, 1)).half()[0],
}


@pytest.mark.parametrize("cast", CASTS)
@pytest.mark.parametrize("name", [*NOISES, "removing"])
def test_no_cast_changes_a_layer(models, name, cast):
    layer = CASTS[cast](copy.deepcopy(models[name]))
    assert torch.equal(features(layer), features(models[name]))
    assert torch.equal(layer.embed(MEMBERS), models[name].embed(MEMBERS))
    assert {buffer.dtype for buffer in layer.buffers()} == {torch.float64}


def test_devices_still_move(models):
    layer = copy.deepcopy(models["removing"]).to("meta")
    assert all(buffer.is_meta and buffer.dtype == torch.float64 for buffer in layer.buffers())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", [*NOISES, "removing"])
def test_features_of_lower_precision_are_those_of_the_same_numbers(models, name, dtype):
    """Computed in float64 from what came in, and rounded once."""
    flux, model = MEMBERS.flux.nan_to_num(1).to(dtype), models[name]
    for arguments in ((), (MEMBERS.valid,), (MEMBERS.valid, MEMBERS.sigma)):
        got, right = model(flux, *arguments), model(flux.double(), *arguments)
        assert got.dtype == dtype
        np.testing.assert_allclose(got.double(), right, rtol=2 * torch.finfo(dtype).eps, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.uint8, torch.bool])
def test_integers_give_floats(models, dtype):
    flux = torch.ones(2, N_BINS, dtype=dtype)
    for model in models.values():
        for arguments in ((), (torch.ones(2, N_BINS, dtype=torch.bool),)):
            got = model(flux, *arguments)
            assert got.dtype == torch.float64
            assert torch.equal(got, model(flux.double(), *arguments))


def test_what_is_frozen_is_a_layer_of_buffers():
    assert {kind.__name__ for kind in Frozen.__subclasses__()} == {"ShownModel", "Removal", "Layer"}
    assert ShownModel.__subclasses__() == [MaskedPPCA]
    assert {*Layer.__subclasses__()} == {RSCA, Encoder}
