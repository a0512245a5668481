"""A siamese network of spectra, whose first layer is masked PPCA and features of what it leaves (docs/maths.md, 8)."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rsca_torch.errors import InputError
from rsca_torch.learners.learner import Labels, Recipe
from rsca_torch.learners.moments import FieldMoments
from rsca_torch.learners.options import require_whole
from rsca_torch.learners.siamese import Siamese
from rsca_torch.ppca.e_step import Model, Parameters, Posterior
from rsca_torch.ppca.fit import fit_ppca
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.spectra.arrays import Array, as_tensor
from rsca_torch.spectra.blocks import Block
from rsca_torch.spectra.packed import unpack

__all__ = ["SpectralSiamese"]

AT_ONCE = 256  # spectra that step 1 explains at once
REMEMBERED = 2048  # spectra of one tensor, at most, of which is kept what step 1 said: 220 MB with 6,774 bins
TENSORS = 4  # so many: members, and of an inner cluster its members and strangers
TOLERANCE = 1e-4  # of step 1, where the learner fits its own: nats a bin


class Explained(NamedTuple):
    """N spectra as step 1 explains them."""

    latents: Tensor  # (N, K) float64, in units of flux
    left: Tensor  # (N, P) float32, what is left of the flux, times its weight
    weight: Tensor  # (N, P) float32, inverse variance; 0 where censored or set aside


class Step1(NamedTuple):
    """Masked PPCA with nothing to train, as buffers of a learner."""

    loadings: Tensor  # (P, K)
    mean: Tensor  # (P,)
    scatter: Tensor  # (P,) variance that is added to sigma^2; inf in a bin that is not used
    measured: Tensor  # () 1: sigma^2 counts; 0: it does not
    clip: Tensor  # () bins farther from the model, in standard deviations, are set aside; inf: none

    @classmethod
    def of(cls, ppca: MaskedPPCA) -> Step1:
        """The same model."""
        measured = ppca.noise_variance is None
        scatter = torch.where(ppca.mean.isfinite(), ppca.scatter if measured else ppca.bin_variance, inf)
        like = ppca.loadings.new_tensor
        return cls(ppca.loadings, ppca.mean.nan_to_num(), scatter, like(float(measured)), like(ppca.clip or inf))

    @torch.no_grad()
    def explained(self, z: Tensor) -> Explained:
        """Packed spectra (N, 2, P), float64."""
        model = Model(Parameters(self.loadings, self.mean, self.scatter), z)
        parts = [self._explained(part, model) for part in torch.split(z, AT_ONCE)]
        return Explained(*(torch.cat(each) for each in zip(*parts, strict=True)))

    def _explained(self, z: Tensor, model: Model) -> Explained:
        flux, valid, sigma = unpack(z)
        if flux.shape[1] != len(self.mean):
            bins, given = len(self.mean), flux.shape[1]
            raise InputError(f"step 1 has {bins} bins, the spectra {given}: bring the spectra to those of step 1")
        noise = (self.measured * sigma.square()).masked_fill_(~valid, inf)
        clip = float(self.clip)
        posterior = Posterior(Block(flux, ~valid, noise, int(valid.sum())), model, clip if isfinite(clip) else None)
        left = posterior.weight * (posterior.residual - posterior.mean @ model.loadings.T)
        scales = model.loadings.norm(dim=0)
        return Explained(posterior.mean * scales, left.float(), posterior.weight.float())


@dataclass(frozen=True)
class ExplainedField(FieldMoments):
    """What all folds share: the field's latents, their moments, and step 1.

    Attributes:
        step_1: as fitted or as given.
        latents: (F, K) float64.
        error: (P,) of a bin's flux in a typical star; inf in one that is never used.
    """

    step_1: Step1
    latents: Tensor
    error: Tensor


class SpectralSiamese(Siamese):
    """y = weight (zbar - centre) + network(sphered zbar, h): twins that see flux, validity and errors (eq. 8.9).

    zbar are the latents of step 1, which is not trained: exact for every star's own censored bins and errors. h are
    features of what step 1 leaves of the flux, by axes that are trained: each the posterior mean of one more latent, a
    sum over the bins that are there, weighted by their inverse variance and normalised by it.

    Args:
        n_features: H, of what step 1 leaves.
        hidden: as in Siamese, of the network; one layer at least. Its last layer is 0 at the start with init="rsca", so
            that without training this is RSCA.
        n_components: K of step 1, where `start_from` gives none and it is fitted to the field here.
        criterion, miner, margin, temperature, normalise: as in Siamese.
        n_dimensions, penalty, dropout, negatives: as in GradientLearner.
        init: as in GradientLearner, of the map and the network: the axes are normal random numbers at the start, and
            step 1 is there, either way.
        recipe: None: at most 100 epochs with a patience of 10, as a step takes longer than on latents.

    Attributes:
        axes: (H, P) float64, trained; in units of the error of a bin in a typical star, over sqrt(P).
        error: (P,) float64, that error; inf in a bin that is never used.

    Raises:
        InputError: for options out of range.

    Examples:
        Step 1 is fitted to the field's spectra, as none was given (`start_from`):

        >>> from rsca_torch.learners import SpectralSiamese
        >>> from rsca_torch.testing import drawn_spectra
        >>> spectra = drawn_spectra()  # of the same stars in 40 bins, a sixth of them censored
        >>> learner = SpectralSiamese(n_features=2, n_components=4)
        >>> learner.initialise(spectra.field, spectra.members, spectra.clusters)
        >>> learner(spectra.members).shape
        torch.Size([30, 4])
    """

    name = "spectral"
    paper = "Bromley et al. 1993, on de Mijolla & Ness 2022"
    sees = "spectra"
    error: Tensor

    def __init__(
        self,
        n_features: int = 8,
        hidden: Sequence[int] = (16,),
        n_components: int = 10,
        criterion: str | nn.Module = "contrastive",
        miner: nn.Module | None = None,
        margin: float = 1.0,
        temperature: float = 4.0,
        normalise: bool = False,
        n_dimensions: int | None = None,
        init: str = "rsca",
        penalty: float = 0.0,
        dropout: float = 0.0,
        negatives: int = 0,
        recipe: Recipe | None = None,
    ) -> None:
        shared = (n_dimensions, init, penalty, dropout, negatives, recipe or Recipe(epochs=100, patience=10))
        super().__init__(hidden, criterion, miner, margin, temperature, normalise, *shared)
        if not self.hidden:
            raise InputError("hidden: a layer at least expected, got none; learner=siamese is linear")
        for name, number in (("n_features", n_features), ("n_components", n_components)):
            require_whole(name, number)
        self.n_features, self.n_components = n_features, n_components
        for name in (*Step1._fields, "error"):
            self.register_buffer(name, torch.empty(0, dtype=torch.float64))
        self.axes = nn.Parameter(torch.empty(0, dtype=torch.float64))
        self._given: Step1 | None = None
        self._said: list[tuple[weakref.ref[Tensor], int, Explained]] = []

    def start_from(self, step_1: MaskedPPCA) -> None:
        """Take this step 1, and fit none."""
        self._given = Step1.of(step_1)

    def summarise(self, field: Array) -> ExplainedField:
        """Step 1, and what it says of the field's packed spectra (F, 2, P)."""
        field = as_tensor(field).double()
        step_1 = self._given
        if step_1 is None:
            flux, valid, sigma = unpack(field)
            fit = fit_ppca(flux, valid, self.n_components, sigma, "measured+scatter", tolerance=TOLERANCE)
            step_1 = Step1.of(fit)
        latents, weights = [], field.new_zeros(field.shape[2])
        for part in torch.split(field, AT_ONCE):
            said = step_1.explained(part)
            latents.append(said.latents)
            weights += said.weight.double().sum(0)
        of_field = torch.cat(latents)
        moments = FieldMoments.of(of_field)
        error = (len(field) / weights).sqrt()
        return ExplainedField(moments.mean, moments.covariance, len(field), step_1, of_field, error)

    def initialise(self, field: Array, members: Array, clusters: Labels, summary: FieldMoments | None = None) -> None:
        """As in Siamese, of packed spectra (F, 2, P) and (M, 2, P); `summary`: what `summarise` gives."""
        field, members = as_tensor(field).double(), as_tensor(members).double()
        seen = summary if isinstance(summary, ExplainedField) else self.summarise(field)
        for name, tensor in seen.step_1._asdict().items():
            setattr(self, name, tensor)
        self.error, self._said = seen.error, []
        self.axes = nn.Parameter(torch.randn(self.n_features, len(self.error)).to(self.error))
        super().initialise(seen.latents, self._explained(members).latents, clusters, seen)
        self.strangers = field[torch.randperm(len(field), device=field.device)[: self.negatives]]

    def forward(self, z: Array) -> Tensor:
        """(N, 2, P) packed spectra -> (N, D), in the dtype of z."""
        self._require_fitted()
        z = as_tensor(z)
        parts = [z] if len(z) <= REMEMBERED else torch.split(z, REMEMBERED)
        return torch.cat([self._map(part.double()) for part in parts]).to(z.dtype)

    def _map(self, z: Tensor) -> Tensor:
        latents, left, weight = self._explained(z)
        axes = (self.axes * (self.error / sqrt(len(self.error))).nan_to_num(posinf=0)).to(left)
        features = (left @ axes.T) / (1 + weight @ axes.square().T)
        return self._embedding(self._deviation(latents), features.to(latents))

    def _explained(self, z: Tensor) -> Explained:
        """What step 1 says of z. Training maps the same tensors in every epoch: of the last few it is kept."""
        self._said = [each for each in self._said if each[0]() is not None][-TENSORS + 1 :]
        for of, version, said in self._said:
            if of() is z and version == z._version:  # a change in place makes another version
                return said
        said = Step1(*(getattr(self, name) for name in Step1._fields)).explained(z)
        if not z.is_inference():  # it has no version
            self._said.append((weakref.ref(z), z._version, said))
        return said

    def _with_strangers(self, z: Tensor) -> Tensor:
        """As in GradientLearner, each tensor by itself, so that step 1 need not explain it anew."""
        return torch.cat([self(z), self(self.strangers)]) if self.negatives else self(z)

    def __getstate__(self) -> dict[str, Any]:
        """For copies and other processes, without what was kept."""
        return {**self.__dict__, "_said": []}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        self._said = []
        super()._load_from_state_dict(state_dict, prefix, *args)
