"""RSCA and Encoder as layers of somebody's network: fine-tuned, compiled, in checkpoints, with any learner."""

from __future__ import annotations

import copy
import pickle
import warnings

import lightning
import numpy as np
import pytest
import torch
from torch import nn

from rsca_torch import LDA, NCA, RSCA, Encoder, InputError, MaskedPPCA, Removal, Scaled, Spectra
from rsca_torch.learners import Identity

N_BINS, K = 14, 3


def drawn():
    """Spectra of a model with noise of every bin, and the model."""
    rng = np.random.default_rng(3)
    loadings = torch.from_numpy(rng.normal(size=(N_BINS, K)) * [0.3, 0.2, 0.1])
    scatter = torch.from_numpy(rng.uniform(1e-4, 1e-3, N_BINS))
    mean = torch.ones(N_BINS, dtype=torch.float64)
    ppca = MaskedPPCA(loadings, mean, scatter + 4e-4, None, scatter=scatter, clip=5.0)
    flux = (
        mean
        + torch.from_numpy(rng.normal(size=(9, K))) @ loadings.T
        + 0.02 * torch.from_numpy(rng.normal(size=(9, N_BINS)))
    )
    return ppca, flux, torch.from_numpy(rng.random(flux.shape) > 0.1), torch.full_like(flux, 0.02)


@pytest.fixture(scope="module")
def rsca():
    ppca = drawn()[0]
    half, ones = torch.full((K,), 0.5).double(), torch.ones(K).double()
    return RSCA(ppca, torch.eye(K).double() * 2, half, ones, torch.arange(N_BINS).double(), clusters=["A", "B"])


def removal_of(ppca):
    reading = torch.eye(1, K).double()
    return Removal(ppca, ppca.loadings[:, :1], reading, torch.zeros(K).double(), torch.tensor([0.5]).double())


def fitted(make_learner):
    """A learner that knows the latents of `drawn`, in units of flux."""
    rng, ppca = np.random.default_rng(4), drawn()[0]
    z = torch.from_numpy(rng.normal(size=(50, K))) * ppca.scales
    learner = make_learner()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learner.initialise(z, z[:12], np.repeat(["A", "B", "C"], 4))
    return learner


class TestTrainable:
    def test_is_the_same_map(self, rsca):
        flux = drawn()[1]
        linear = rsca.trainable(torch.float64)
        assert type(linear) is nn.Linear
        torch.testing.assert_close(linear(flux), rsca(flux), rtol=1e-13, atol=1e-13)
        single = rsca.trainable()
        assert single.weight.dtype == torch.get_default_dtype() == torch.float32
        torch.testing.assert_close(single(flux.float()).double(), rsca(flux), rtol=1e-4, atol=1e-4)

    def test_learns_and_leaves_the_layer_alone(self, rsca):
        flux, before = drawn()[1], copy.deepcopy(rsca.state_dict())
        linear = rsca.trainable(torch.float64)
        optimiser = torch.optim.SGD(linear.parameters(), lr=0.1)
        linear(flux).square().mean().backward()
        optimiser.step()
        assert not torch.equal(linear.weight, rsca.weight)
        assert not torch.equal(linear.bias, rsca.bias)
        for name, tensor in rsca.state_dict().items():
            torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, equal_nan=True)
        assert not list(rsca.parameters())

    def test_a_censored_bin_makes_it_nan(self, rsca):
        flux = drawn()[1].clone()
        flux[0, 3] = torch.nan
        assert rsca.trainable(torch.float64)(flux).isfinite().all(1).tolist() == [False, *[True] * 8]


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own, of what it compiles after a break
@pytest.mark.parametrize("given", ["flux", "flux with holes", "valid and sigma"])
def test_a_compiled_layer_is_the_layer(rsca, given):
    _, flux, valid, sigma = drawn()
    if given == "flux with holes":
        flux = torch.where(valid, flux, torch.nan)
    rest = (valid, sigma) if given == "valid and sigma" else ()
    compiled = torch.compile(rsca, backend="aot_eager")
    for some in (slice(None), slice(4)):
        part, own = flux[some].clone().requires_grad_(), flux[some].clone().requires_grad_()
        others = [each[some] for each in rest]
        made, expected = compiled(part, *others), rsca(own, *others)
        assert torch.equal(made, expected)
        made.sum().backward()
        expected.sum().backward()
        assert torch.equal(part.grad, own.grad)


class Network(lightning.LightningModule):
    """As docs/layer.md has it: the frozen layer is part of the checkpoint, so nothing else is needed to load it."""

    def __init__(self, n_features, encoder=None):
        super().__init__()
        self.save_hyperparameters(ignore=["encoder"])
        self.encoder = RSCA.blank() if encoder is None else encoder
        self.head = nn.Linear(n_features, 2)

    def forward(self, *spectra):
        return self.head(self.encoder(*spectra).float())

    def training_step(self, batch):
        return self(*batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.1)


@pytest.mark.parametrize("removing", [False, True])
def test_a_lightning_checkpoint_needs_no_other_file(rsca, removing, tmp_path):
    ppca, *spectra = drawn()
    if removing:
        rsca = RSCA(ppca, rsca.rotation, rsca.centre, rsca.sigma_r, rsca.wavelength, removal_of(ppca))
    network = Network(K, rsca)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, **quiet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Lightning, on few workers and steps
        trainer.fit(network, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*spectra), batch_size=9))
    trainer.save_checkpoint(tmp_path / "one.ckpt", weights_only=True)
    loaded = Network.load_from_checkpoint(tmp_path / "one.ckpt", map_location="cpu", weights_only=True)
    assert torch.equal(loaded.encoder(*spectra), rsca(*spectra))
    assert torch.equal(loaded(*spectra), network(*spectra))
    assert repr(loaded.encoder) == repr(rsca)


MAKERS = {"LDA": LDA, "raw": Identity, "scaled": Scaled, "NCA": NCA}


class TestEncoder:
    @pytest.mark.parametrize("name", MAKERS)
    @pytest.mark.parametrize("removing", [False, True])
    def test_is_step_1_and_the_learner(self, name, removing):
        ppca, flux, valid, sigma = drawn()
        learner = fitted(MAKERS[name])
        removal = removal_of(ppca) if removing else None
        encoder = Encoder(ppca, learner, torch.arange(N_BINS), removal)
        scales = ppca.scales if learner.depends_on_units else 1
        seen = removal(flux, valid, sigma) if removing else flux
        torch.testing.assert_close(encoder(flux, valid, sigma), learner(ppca(seen, valid, sigma) * scales))
        stars = Spectra(flux, valid, sigma, torch.arange(N_BINS).double())
        torch.testing.assert_close(encoder.embed(stars), encoder(flux, valid, sigma))
        assert encoder(flux.float(), valid, sigma).dtype == torch.float32
        assert not any(parameter.requires_grad for parameter in encoder.parameters())

    def test_a_learner_is_evaluated_whatever_it_was_before(self):
        """Not in training mode, in which dropout would draw at random."""
        learner = fitted(lambda: NCA(n_dimensions=2, dropout=0.5)).train()
        ppca, *spectra = drawn()
        encoder = Encoder(ppca, learner, torch.arange(N_BINS))
        assert not learner.training
        assert torch.equal(encoder(*spectra), encoder(*spectra))

    def test_errors_matter_to_a_learner_of_spectra(self):
        class OfSpectra(Identity):
            sees = "spectra"

        ppca = drawn()[0]
        isotropic = MaskedPPCA(ppca.loadings, ppca.mean, ppca.bin_variance, 1e-3)
        learners = OfSpectra(), Identity()
        assert [Encoder(isotropic, each, torch.arange(N_BINS)).uses_sigma for each in learners] == [True, False]
        assert Encoder(ppca, Identity(), torch.arange(N_BINS)).uses_sigma

    def test_units_are_those_that_the_learner_saw(self):
        """As `rsca compare` gives them: latents times the lengths of the loadings."""
        ppca = drawn()[0]
        units, none = (Encoder(ppca, learner, torch.arange(N_BINS)).scales for learner in (Identity(), fitted(LDA)))
        assert torch.equal(units, ppca.scales)
        assert torch.equal(none, ppca.scales if LDA.depends_on_units else torch.ones(K).double())

    @pytest.mark.parametrize("name", MAKERS)
    @pytest.mark.parametrize("removing", [False, True])
    def test_file(self, name, removing, tmp_path):
        ppca, *spectra = drawn()
        removal = removal_of(ppca) if removing else None
        encoder = Encoder(ppca, fitted(MAKERS[name]), torch.arange(N_BINS), removal, ["A", "B"], [{"store": "s"}])
        encoder.save(tmp_path / "encoder")
        loaded = Encoder.load(tmp_path / "encoder", MAKERS[name]())
        assert torch.equal(loaded(*spectra), encoder(*spectra))
        assert loaded.extra_repr() == encoder.extra_repr()
        assert loaded.learner.trained_on == ("A", "B")
        assert (loaded.clusters, loaded.sources, loaded.version) == (("A", "B"), ({"store": "s"},), encoder.version)

    def test_files_that_it_is_not(self, rsca, tmp_path):
        encoder = Encoder(drawn()[0], fitted(LDA), torch.arange(N_BINS))
        encoder.save(tmp_path / "encoder")
        rsca.save(tmp_path / "rsca")
        with pytest.raises(InputError, match=r"holds .*LDA, not .*NCA: give a fresh learner of that class"):
            Encoder.load(tmp_path / "encoder", NCA())
        with pytest.raises(InputError, match="holds an RSCA, no Encoder"):
            Encoder.load(tmp_path / "rsca", LDA())
        with pytest.raises(InputError, match="holds an Encoder, no RSCA"):
            RSCA.load(tmp_path / "encoder")
        altered = bytearray((tmp_path / "encoder").read_bytes())
        altered[-3] ^= 1
        (tmp_path / "encoder").write_bytes(altered)
        with pytest.raises(InputError, match="is damaged"):
            Encoder.load(tmp_path / "encoder", LDA())

    def test_has_the_powers_of_a_layer(self):
        ppca, *spectra = drawn()
        encoder = Encoder(ppca, fitted(LDA), torch.arange(N_BINS))
        expected = encoder(*spectra)
        for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder).half()):
            assert torch.equal(other(*spectra), expected)
        blank = Encoder(MaskedPPCA.blank(), LDA(), torch.ones(1))
        blank.load_state_dict(encoder.state_dict())
        assert torch.equal(blank(*spectra), expected)
        flux = spectra[0].clone().requires_grad_()
        encoder(flux, *spectra[1:]).sum().backward()
        assert flux.grad.abs().sum() > 0

    def test_can_be_exported(self, monkeypatch):
        monkeypatch.setattr("rsca_torch.ppca.graph.ROUNDS", 2)
        ppca, *spectra = drawn()
        encoder = Encoder(ppca, fitted(LDA), torch.arange(N_BINS))
        sizes = ({0: torch.export.Dim("stars")},) * 3
        program = torch.export.export(encoder, tuple(spectra), dynamic_shapes=sizes).module()
        for some in (slice(None), slice(1)):
            part = [each[some] for each in spectra]
            torch.testing.assert_close(program(*part), encoder(*part))

    def test_a_learner_of_spectra_sees_them(self):
        class Depth(Identity):
            sees = "spectra"

            def forward(self, z):
                return ((1 - z[:, 0]) * (z[:, 1] > 0)).sum(1, keepdim=True)

        ppca, flux, valid, sigma = drawn()
        encoder = Encoder(ppca, Depth(), torch.arange(N_BINS))
        torch.testing.assert_close(encoder(flux, valid, sigma)[:, 0], ((1 - flux) * valid).sum(1))
        stars = Spectra(flux, valid, sigma, torch.arange(N_BINS).double())
        torch.testing.assert_close(encoder.embed(stars), encoder(flux, valid, sigma))
        with pytest.raises(InputError, match="sees spectra with their errors: give sigma"):
            encoder(flux)
        with pytest.raises(InputError, match="no removal can come before it"):
            Encoder(ppca, Depth(), torch.arange(N_BINS), removal_of(ppca))

    def test_other_bins(self):
        encoder = Encoder(drawn()[0], fitted(LDA), torch.arange(N_BINS))
        with pytest.raises(InputError, match=r"flux must have shape \(N, 14\), got \(2, 5\)"):
            encoder(torch.ones(2, 5))
