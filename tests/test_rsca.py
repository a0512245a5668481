"""The frozen layer: one affine map, its file, its gradients, and whose spectra it saw."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import reference
import torch
from astropy.table import Table
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file, save_file

from rsca_torch import RSCA, InputError, MaskedPPCA, NumericalWarning, ScaledComponents, Spectra, fit_ppca
from rsca_torch.cli.main import CONFIG
from rsca_torch.ppca import graph
from rsca_torch.ppca.fit import compress

N_BINS = 16
#: As `fit_ppca` has it where nothing is said.
EXACT = {"clip": None, "tolerance": 1e-7, "max_iterations": 1000, "products": "float64"}
#: Steps 2 to 4 as the paper and the oracle have them.
PAPER = {"robust": True, "floor": None, "trim": None}


def spectra(rng, latents, loadings, clusters=None):
    """Spectra of the model with errors of their own and censored bins, on wavelengths 15100, 15101, ..."""
    sigma = rng.uniform(0.02, 0.06, size=(len(latents), N_BINS))
    flux = 1 + latents @ loadings.T + sigma * rng.normal(size=sigma.shape)
    columns = {"APOGEE_ID": [f"{'M' if clusters is not None else 'F'}{n}" for n in range(len(latents))]}
    roles = {"id": "APOGEE_ID"}
    if clusters is not None:
        columns["CLUSTER"], roles["group"] = clusters, "CLUSTER"
    valid = rng.random(flux.shape) > 0.1
    return Spectra(*map(torch.from_numpy, (flux, valid, sigma)), 15100 + torch.arange(N_BINS), Table(columns), **roles)


@pytest.fixture(scope="module")
def survey():
    """Field and members of four clusters whose stars are alike along three directions."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(N_BINS, 3)) * [0.3, 0.2, 0.15]
    clusters = np.repeat(["A", "B", "C", "D"], 5)
    siblings = np.repeat(rng.normal(size=(4, 3)), 5, axis=0) + rng.normal(size=(20, 3)) * [0.1, 0.3, 0.2]
    return spectra(rng, rng.normal(size=(120, 3)), loadings), spectra(rng, siblings, loadings, clusters)


@pytest.fixture(scope="module", params=["measured", "isotropic"])
def model(request, survey):
    return RSCA.fit(*survey, n_components=3, noise=request.param, **PAPER, **EXACT)


def complete(stars):
    """The flux with the model's own wavelengths and no gaps, float64."""
    return torch.where(stars.valid, stars.flux, 1.0)


def close(actual, expected, rtol, atol):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=atol)


def test_forward_is_one_affine_map(model, survey):
    flux = complete(survey[0])
    assert torch.equal(model(flux), flux @ model.weight.T + model.bias)
    assert model.weight.shape == (3, N_BINS)
    assert model.bias.shape == (3,)


def test_against_the_oracle(survey, model, tolerance):
    """The oracle's posteriors and steps 2 to 4 on the fitted step 1; features up to the field's centre and signs."""
    members = survey[1]
    variance = [
        part.sigma.numpy() ** 2
        if model.ppca.noise_variance is None
        else np.full(part.flux.shape, model.ppca.noise_variance)
        for part in survey
    ]
    loadings, mean = model.ppca.loadings.numpy(), model.ppca.mean.numpy()
    latents = [
        reference.ppca_posterior(part.flux.numpy(), part.valid.numpy(), v, loadings, mean)[0]
        for part, v in zip(survey, variance, strict=True)
    ]
    weight, sigma_r = reference.scaled_components(*latents, members.stars["CLUSTER"].tolist())
    close(model.sigma_r, sigma_r, **tolerance[torch.float64])
    bin_variance = model.ppca.bin_variance.numpy()
    scaled = loadings.T / bin_variance  # eq. 1.13
    expected = weight @ np.linalg.inv(np.eye(3) + scaled @ loadings) @ scaled
    expected *= np.sign(expected[range(3), np.abs(expected).argmax(1)])[:, None]
    close(model.weight, expected, **tolerance[torch.float64])
    features = model.embed(members).numpy()
    signs = np.sign((features * ((latents[1] - latents[0].mean(0)) @ weight.T)).sum(0))
    close(features, (latents[1] - latents[0].mean(0)) @ weight.T * signs, **tolerance[torch.float64])


def test_the_unmasked_and_masked_path_agree_in_sign_and_order(model, survey, tolerance):
    """A complete star whose bins have the noise bin_variance has the same features both ways, eq. 1.13."""
    flux = complete(survey[1])
    valid = torch.ones_like(survey[1].valid)
    close(model(flux, valid), model(flux), **tolerance[torch.float64])
    sigma = model.ppca.bin_variance.sqrt().expand_as(flux)
    close(model(flux, valid, sigma), model(flux), **tolerance[torch.float64])
    close(model(flux, None, sigma), model(flux), **tolerance[torch.float64])


def test_errors_matter_only_to_a_measured_model(model, survey):
    flux, sigma = complete(survey[1]), torch.full((20, N_BINS), 0.3, dtype=torch.float64)
    assert torch.allclose(model(flux, None, sigma), model(flux)) == (model.ppca.noise_variance is not None)


def test_rows_are_ordered_and_signed(model):
    assert (model.sigma_r.diff() > 0).all()
    assert (model.weight[range(3), model.weight.abs().argmax(1)] > 0).all()


def test_the_average_field_star_is_at_zero(model, survey, tolerance):
    close(model.embed(survey[0]).mean(0), np.zeros(3), **tolerance[torch.float64])


def test_options_reach_the_learner_and_step_1(survey):
    field, members = survey
    options = {"robust": True, "pooled": False, "top": 2, "floor": None, "trim": 4.0}
    model = RSCA.fit(*survey, n_components=3, noise="measured", **options, **EXACT)
    ppca = compress(*survey, 3, "measured", **EXACT)
    assert torch.equal(ppca.loadings, fit_ppca(field.flux, field.valid, 3, field.sigma).loadings)
    learner = ScaledComponents(**options)
    latents = [ppca(part.flux, part.valid, part.sigma) for part in survey]
    learner.initialise(*latents, members.stars["CLUSTER"])
    assert torch.equal(model.sigma_r, learner.sigma_r)
    assert model(complete(field)).shape == (120, 2)
    seen = []
    RSCA.fit(*survey, n_components=3, noise="measured", clip=None, tolerance=1e-3, progress=lambda *e: seen.append(e))
    assert 0 < len(seen) < len(ppca.history)


def test_without_options_it_is_what_the_commands_do(survey):
    """The noise of the members' spectra is the floor, members far from their cluster are left out."""
    signature = inspect.signature(RSCA.fit).parameters
    with initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = compose("fit", ["out=x"])
    for part in (config.compressor, config.learner):
        for name, value in part.items():
            if name in signature and name not in ("noise", "clip"):  # these two say "usual"
                assert signature[name].default == value, name
    assert not torch.equal(RSCA.fit(*survey, n_components=3).weight, RSCA.fit(*survey, n_components=3, **PAPER).weight)


def test_clusters_default_to_the_members_column(survey):
    field, members = survey
    labels = ["A"] * 10 + ["B"] * 10
    with pytest.warns(NumericalWarning, match="2 of 3 dimensions"):  # two clusters in one: siblings differ more
        other = RSCA.fit(field, members, labels, n_components=3, **PAPER)
    assert not torch.equal(other.weight, RSCA.fit(*survey, n_components=3).weight)
    assert torch.equal(
        RSCA.fit(*survey, np.repeat(["A", "B", "C", "D"], 5), n_components=3).weight,
        RSCA.fit(*survey, n_components=3).weight,
    )


def test_float32_in_float32_out(model, survey, tolerance):
    flux, valid = complete(survey[1]), survey[1].valid
    for arguments in ((), (valid,), (valid, complete(survey[1]).abs())):
        got = model(flux.float(), *arguments)
        assert got.dtype == torch.float32
        close(got, model(flux, *arguments), **tolerance[torch.float32])


def test_a_frozen_layer(model):
    assert list(model.parameters()) == []
    assert {"weight", "bias", "ppca.loadings"} <= set(model.state_dict())


def test_gradients_pass_to_the_flux(model, survey, tolerance):
    flux = complete(survey[1]).requires_grad_()
    model(flux).sum().backward()
    close(flux.grad, model.weight.sum(0).expand_as(flux), **tolerance[torch.float64])
    flux = complete(survey[1]).requires_grad_()
    model(flux, survey[1].valid, survey[1].sigma.nan_to_num(1.0)).sum().backward()
    assert (flux.grad[~survey[1].valid] == 0).all()
    assert (flux.grad[survey[1].valid] != 0).any()


def test_inside_a_float32_network(model, survey):
    flux = complete(survey[1]).float()
    network = torch.nn.Sequential(model, torch.nn.Linear(3, 1))
    network(flux).sum().backward()
    assert network[1].weight.grad.isfinite().all()


def test_the_whole_module_may_be_cast(survey, tolerance):
    model, stars = RSCA.fit(*survey, n_components=3), survey[1]
    expected = model(complete(stars)), model.embed(stars)
    model.float()
    flux = complete(stars).float()
    close(model(flux), expected[0], **tolerance[torch.float32])
    close(model(flux, stars.valid, stars.sigma), expected[1], **tolerance[torch.float32])


def test_a_cast_model_still_reconstructs(survey, tolerance):
    ppca, stars = compress(*survey, n_components=3), survey[1]
    expected = ppca.reconstruct(stars.flux, stars.valid, stars.sigma)
    got = ppca.float().reconstruct(stars.flux, stars.valid, stars.sigma)
    close(got, expected, **tolerance[torch.float32])


def test_it_can_be_exported(model, survey):
    flux = complete(survey[1])
    exported = torch.export.export(model, (flux,))
    assert torch.equal(exported.module()(flux), model(flux))


def test_numpy_input(model, survey):
    flux = complete(survey[1])
    assert torch.equal(model(flux.numpy()), model(flux))
    assert torch.equal(model(flux.numpy(), survey[1].valid.numpy()), model(flux, survey[1].valid))


def test_what_stands_in_an_invalid_bin_does_not_matter(model, survey):
    stars = survey[1]
    expected = model(complete(stars), stars.valid, stars.sigma)
    for junk in (torch.nan, torch.inf, 1e30):
        flux = torch.where(stars.valid, stars.flux, junk)
        assert torch.equal(model(flux, stars.valid, stars.sigma), expected)
    assert torch.equal(model.embed(stars), expected)


class TestFile:
    def test_bit_for_bit(self, model, survey, tmp_path):
        path = tmp_path / "model.safetensors"
        model.save(path)
        loaded = RSCA.load(str(path))
        assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]
        assert set(loaded.state_dict()) == set(model.state_dict())
        for name, tensor in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor)
            assert loaded.state_dict()[name].dtype == tensor.dtype
        assert loaded.ppca.noise_variance == model.ppca.noise_variance
        assert loaded.ppca.history == model.ppca.history
        assert loaded.ppca.converged is model.ppca.converged is True
        assert torch.equal(loaded(complete(survey[1])), model(complete(survey[1])))

    def test_the_masked_path_is_bit_for_bit(self, model, survey, tmp_path):
        model.save(tmp_path / "model")
        assert torch.equal(RSCA.load(tmp_path / "model").embed(survey[1]), model.embed(survey[1]))

    def test_dropped_bins_dimensions_and_no_convergence_are_kept(self, survey, tmp_path, tolerance):
        field, members = survey
        valid = field.valid.clone()
        valid[:, 5] = False
        field = Spectra(field.flux, valid, field.sigma, field.wavelength, field.stars)
        labels = np.tile(["A", "B", "C", "D"], 5)  # no clusters at all: some dimensions tell nothing
        with pytest.warns(NumericalWarning) as record:
            model = RSCA.fit(field, members, labels, n_components=3, max_iterations=3, tolerance=1e-12)
        said = " ".join(str(entry.message) for entry in record)
        assert "fewer valid stars than components + 1 = 4: left out" in said
        assert "not converged" in said
        assert "weight 0" in said
        model.save(tmp_path / "model")
        loaded = RSCA.load(tmp_path / "model")
        assert loaded.ppca.converged is False
        assert (loaded.weight[:, 5] == 0).all()
        assert loaded.sigma_r.isinf().any()
        assert torch.equal(loaded.weight, model.weight)
        assert torch.equal(loaded.ppca.mean.isnan(), torch.arange(N_BINS) == 5)
        close(loaded.embed(members), model.embed(members), **tolerance[torch.float64])
        assert loaded(complete(members)).isfinite().all()

    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match=r"no model at .*nowhere"):
            RSCA.load(tmp_path / "nowhere")

    def test_not_safetensors(self, tmp_path):
        (tmp_path / "text").write_text("not a model")
        with pytest.raises(InputError, match="text is no safetensors file"):
            RSCA.load(tmp_path / "text")
        (tmp_path / "empty").touch()
        with pytest.raises(InputError, match="empty is no safetensors file"):
            RSCA.load(tmp_path / "empty")

    def test_cut_short(self, model, tmp_path):
        model.save(tmp_path / "model")
        (tmp_path / "model").write_bytes((tmp_path / "model").read_bytes()[:-100])
        with pytest.raises(InputError, match="model is no safetensors file"):
            RSCA.load(tmp_path / "model")

    @pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
    def test_other_safetensors(self, metadata, tmp_path):
        save_file({"weight": torch.zeros(2)}, tmp_path / "other", metadata)
        with pytest.raises(InputError, match="other is no RSCA model"):
            RSCA.load(tmp_path / "other")

    @pytest.mark.parametrize("header", ["{}", '{"schema": 1}'])
    def test_a_broken_header(self, header, tmp_path):
        save_file({"weight": torch.zeros(2)}, tmp_path / "broken", {"rsca_torch": header})
        with pytest.raises(InputError, match="broken is no RSCA model"):
            RSCA.load(tmp_path / "broken")

    def test_no_bit_is_altered_unseen(self, tmp_path):
        """Of numbers and header alike: one bit of every third byte of a small file."""
        one = torch.ones(1).double()
        small = RSCA(MaskedPPCA(one[:, None], one, one, None), one[:, None], one, one, one)
        small.save(tmp_path / "model")
        content = (tmp_path / "model").read_bytes()
        for place in range(0, len(content), 3):
            altered = bytearray(content)
            altered[place] ^= 1 << place % 8
            (tmp_path / "altered").write_bytes(altered)
            with pytest.raises(InputError, match=r"altered is (damaged|no)"):
                RSCA.load(tmp_path / "altered")

    @pytest.mark.parametrize("schema", [1, 2, 3, 4, 5, 99])
    def test_another_schema(self, model, tmp_path, schema):
        model.save(tmp_path / "model")
        save_file(
            load_file(tmp_path / "model"),
            tmp_path / "other",
            {"rsca_torch": json.dumps({"format": "rsca_torch", "schema": schema})},
        )
        cure = ", of a newer rsca_torch: update" if schema == 99 else ": make it again"
        with pytest.raises(InputError, match=f"no RSCA model of schema 6, but {schema}{cure}"):
            RSCA.load(tmp_path / "other")


def test_the_state_goes_into_another_model(model, survey):
    noise = "measured" if model.ppca.noise_variance is None else "isotropic"
    other = RSCA.fit(*survey, n_components=3, noise=noise, robust=False)
    assert not torch.equal(other.weight, model.weight)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(complete(survey[1])), model(complete(survey[1])))
    assert torch.equal(other.embed(survey[1]), model.embed(survey[1]))


class TestEmbed:
    def test_is_the_masked_path(self, model, survey):
        stars = survey[1]
        assert torch.equal(model.embed(stars), model(stars.flux, stars.valid, stars.sigma))

    def test_on_other_bins(self, model, survey):
        """Bins that the spectra lack are censored; bins that the model lacks do not matter."""
        stars = survey[1]
        extra = torch.cat([stars.wavelength[2:9], stars.wavelength[11:], torch.tensor([15200.0, 15300.0]).double()])
        pad = torch.full((20, 2), 7.0, dtype=torch.float64)

        def cut(values, padding):
            return torch.cat([values[:, 2:9], values[:, 11:], padding], dim=1)

        other = Spectra(cut(stars.flux, pad), cut(stars.valid, pad > 0), cut(stars.sigma, pad), extra, stars.stars)
        censored = stars.valid.clone()
        censored[:, [0, 1, 9, 10]] = False
        expected = model(stars.flux, censored, stars.sigma)
        assert torch.equal(model.embed(other), expected)
        assert not torch.allclose(expected, model.embed(stars))

    def test_on_another_grid(self, model, survey):
        stars = survey[1]
        shifted = Spectra(stars.flux, stars.valid, stars.sigma, stars.wavelength + 0.5, stars.stars)
        with pytest.raises(InputError, match=r"another wavelength grid: .* 16 bins .* none is the same"):
            model.embed(shifted)


@pytest.mark.parametrize("basis", ["inductive", "transductive"])
@pytest.mark.parametrize("noise", ["measured", "isotropic"])
def test_poison_of_step_1(survey, basis, noise):
    """Inductive: what the members are does not touch step 1 by one bit. Transductive: it does."""
    field, members = survey
    poisoned = Spectra(
        members.flux + 10 * torch.randn(members.flux.shape, generator=torch.Generator().manual_seed(0)),
        members.valid,
        members.sigma,
        members.wavelength,
        members.stars,
    )
    clean, dirty = (compress(field, part, 3, noise, basis=basis, **EXACT) for part in (members, poisoned))
    untouched = all(
        torch.equal(a, b) for a, b in zip(clean.state_dict().values(), dirty.state_dict().values(), strict=True)
    )
    assert untouched == (basis == "inductive")
    if basis == "transductive":
        both = [torch.cat([getattr(part, name) for part in survey]) for name in ("flux", "valid", "sigma")]
        expected = fit_ppca(*both[:2], 3, both[2] if noise == "measured" else None)
        assert torch.equal(clean.loadings, expected.loadings)


def without_sigma(stars):
    return Spectra(stars.flux, stars.valid, None, stars.wavelength, stars.stars)


def test_what_cannot_be_fitted(survey):
    field, members = survey
    for parts in ((without_sigma(field), members), (field, without_sigma(members))):
        with pytest.raises(InputError, match=r"measured\+scatter noise needs the spectra's sigma.*noise='isotropic'"):
            RSCA.fit(*parts, n_components=3)
    RSCA.fit(without_sigma(field), without_sigma(members), n_components=3, noise="isotropic")
    with pytest.raises(InputError, match="basis must be inductive or transductive, got 'both'"):
        RSCA.fit(*survey, n_components=3, basis="both")
    with pytest.raises(InputError, match="must have the same bins"):
        RSCA.fit(field, members.on(members.wavelength[:-1]), n_components=3)
    with pytest.raises(InputError, match="4 members of 2 clusters can carry at most 2"):
        RSCA.fit(field, members.take([0, 1, 5, 6]), n_components=3, **PAPER)
    with pytest.raises(InputError, match="n_components=16"):
        RSCA.fit(*survey, n_components=16)


def test_what_cannot_be_embedded(model):
    with pytest.raises(InputError, match=r"flux must have shape \(N, 16\), got \(5, 15\)"):
        model(torch.ones(5, 15))
    with pytest.raises(InputError, match=r"flux must have shape \(N, 16\), got \(16,\)"):
        model(torch.ones(16))
    with pytest.raises(InputError, match=r"valid must have the shape of flux \(5, 16\), got \(4, 16\)"):
        model(torch.ones(5, 16), torch.ones(4, 16, dtype=torch.bool))


def test_gradients_pass_through_a_model_that_sets_bins_aside(make_spectra):
    data = make_spectra(31, measured=True)
    model = fit_ppca(data.flux, data.valid, 2, data.sigma, clip=5.0)
    flux = torch.tensor(data.flux[:4])
    flux[0, 0] += 50
    flux.requires_grad_()
    valid, sigma = torch.ones(4, 12, dtype=torch.bool), torch.tensor(data.sigma[:4])
    assert model.set_aside(flux.detach(), valid, sigma)[0, 0]
    model(flux, valid, sigma).sum().backward()
    assert flux.grad.isfinite().all()
    assert abs(flux.grad[0, 0]) < 1e-12  # rounding of what was added and taken out again
    assert (flux.grad[1:] != 0).all()


@pytest.mark.parametrize("hole", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_bin_that_is_not_finite_is_censored(model, survey, hole, dtype, tolerance):
    """Complete rows by the linear map, the others by the posterior: row by row as with `valid`."""
    flux, valid = complete(survey[1]).to(dtype), survey[1].valid.clone()
    valid[:5] = True
    got = model(torch.where(valid, flux, hole))
    whole = valid.all(1)
    assert whole.sum() >= 5
    assert not whole.all()
    close(got[whole], model(flux[whole]), **tolerance[dtype])
    close(got[~whole], model(flux[~whole], valid[~whole]), **tolerance[dtype])
    assert got.dtype == dtype
    one_by_one = torch.cat([model(row[None]) for row in torch.where(valid, flux, hole)])
    close(got, one_by_one, **tolerance[dtype])


def test_a_star_without_any_bin_is_at_the_prior(model):
    nothing = torch.full((2, N_BINS), torch.nan).double()
    assert torch.equal(model(nothing), model(torch.ones(2, N_BINS).double(), torch.zeros(2, N_BINS, dtype=torch.bool)))


def test_a_network_on_spectra_as_they_are(model, survey):
    """README's: the flux of Spectra marks censored bins by NaN. Gradients reach the head and the flux."""
    flux = survey[1].flux.float().requires_grad_()
    network = torch.nn.Sequential(model, torch.nn.Linear(3, 1))
    network(flux).sum().backward()
    assert network[1].weight.grad.isfinite().all()
    assert flux.grad.isfinite().all()
    assert (flux.grad[~survey[1].valid] == 0).all()
    assert (flux.grad[survey[1].valid] != 0).float().mean() > 0.9


def test_complete_flux_is_the_linear_map_to_the_bit(model, survey):
    flux = complete(survey[0])
    assert torch.equal(model(flux), flux @ model.weight.T + model.bias)
    wide = torch.cat([flux] * 5).float()
    parts = [part.double() @ model.weight.T + model.bias for part in torch.split(wide, 256)]
    assert torch.equal(model(wide), torch.cat(parts).float())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_graph_serves_any_number_of_stars(model, survey, dtype):
    flux = complete(survey[0]).to(dtype)
    sizes = ({0: torch.export.Dim("stars")},)
    exported = torch.export.export(model, (flux[:10],), dynamic_shapes=sizes).module()
    for some in (flux, flux[:7]):
        close(exported(some), model(some), 1e-6, 1e-6)


@pytest.mark.parametrize("inputs", ["valid and sigma", "valid", "sigma"])
@pytest.mark.parametrize("noise", ["measured+scatter", "isotropic"])
def test_a_graph_leaves_out_censored_bins_of_any_number_of_stars(survey, noise, inputs, monkeypatch):
    monkeypatch.setattr(graph, "ROUNDS", 3)  # which are enough here, and quicker to follow
    model = RSCA.fit(*survey, n_components=3, noise=noise, clip=5.0, tolerance=1e-2)
    spectra = survey[1]
    flux, given = spectra.flux.clone(), {}
    flux[0, 2] += 100 * float(spectra.sigma.nan_to_num(0).max())  # step 1 cannot explain it
    if "valid" in inputs:
        given["valid"] = spectra.valid
    if "sigma" in inputs:
        given["sigma"] = spectra.sigma
    stars = torch.export.Dim("stars")
    sizes = {name: {0: stars} for name in ("flux", *given)}
    first = {name: part[:5] for name, part in given.items()}
    exported = torch.export.export(model, (flux[:5],), first, dynamic_shapes=sizes, strict=False).module()
    assert model.ppca.set_aside(flux, **given)[0, 2]
    for some in (slice(None), slice(7), slice(1)):
        part = {name: value[some] for name, value in given.items()}
        close(exported(flux[some], **part), model(flux[some], **part), 1e-9, 1e-9)
