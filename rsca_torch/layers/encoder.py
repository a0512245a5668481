"""Step 1 and any fitted learner as one frozen layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.files.whole import atomic_file
from rsca_torch.layers.layer import Layer
from rsca_torch.learners.learner import Labels, Learner
from rsca_torch.ppca.frozen import Frozen, as_bytes
from rsca_torch.ppca.frozen_file import file_of, read_file
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.removal import Removal, without
from rsca_torch.spectra.arrays import Array, as_tensor
from rsca_torch.spectra.blocks import Arrays
from rsca_torch.spectra.packed import pack
from rsca_torch.spectra.view import AnySpectra

__all__ = ["Encoder"]


class Encoder(Layer):
    """Spectra in, the learner's embedding out: for any `Learner` what `RSCA` is for steps 2 to 4.

    It keeps the dtype of all its parts (`Frozen`), and gradients pass to the flux. Parameters of the learner ask for no
    gradient. It can be exported where `torch.export` can follow the learner.

    Args:
        ppca: step 1.
        learner: fitted on its latents, in units of flux (latents * `ppca.scales`) where its results depend on units;
            or a learner of spectra, which sees flux and errors themselves.
        wavelength: (P,) vacuum Angstrom.
        removal: what was taken out of every spectrum before step 1. None: nothing.
        clusters: those on whose members it was fitted; empty: those that the learner knows of.
        sources: as of `RSCA`.

    Raises:
        InputError: where the learner sees abundances of other dimensions than step 1 has, or spectra and a removal.

    Example:
        >>> from rsca_torch import LDA, Spectra, fit_ppca
        >>> flux = 1 + torch.randn(40, 3).double() @ torch.randn(3, 12).double()
        >>> spectra = Spectra(flux + 0.01 * torch.randn(40, 12))
        >>> ppca = fit_ppca(spectra, n_components=3)
        >>> z = ppca.latents(spectra)
        >>> learner = LDA()
        >>> learner.initialise(z, z[:8], list("AAAABBBB"))
        >>> encoder = Encoder(ppca, learner, torch.arange(12) + 15100.0)
        >>> encoder(flux[:2]).shape
        torch.Size([2, 1])
    """

    scales: Tensor
    told: ClassVar[tuple[str, ...]] = (*Layer.told, "learner_class")

    def __init__(
        self,
        ppca: MaskedPPCA,
        learner: Learner,
        wavelength: Array,
        removal: Removal | None = None,
        clusters: Labels = (),
        sources: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        if learner.sees == "spectra" and removal is not None:
            raise InputError("a learner of spectra sees them as they are: no removal can come before it")
        known = clusters if len(clusters) else learner.trained_on
        super().__init__(ppca, as_tensor(wavelength).double(), removal, known, sources)
        self.learner = learner.eval().requires_grad_(False)
        self.learner_class = f"{type(learner).__module__}.{type(learner).__qualname__}"
        ones = torch.ones(ppca.n_components, dtype=torch.float64)
        self.register_buffer("scales", ppca.scales.double() if learner.depends_on_units else ones)

    def forward(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> Tensor:
        """(N, D) embedding, in the dtype of the flux; float64 of integers. Censored bins are marginalised by step 1.

        Args:
            flux: (N, P) continuum-normalised; what is not finite is a censored bin.
            valid: (N, P) bool, True = use. None: every finite flux.
            sigma: (N, P) standard errors; a learner of spectra needs them.

        Raises:
            InputError: where shapes disagree.
        """
        source = Arrays(flux, valid, sigma)
        if source.n_bins != len(self.wavelength):  # a graph must not ask how many stars
            self._require_bins((len(source), source.n_bins))
        given = as_tensor(flux)
        dtype = given.dtype if given.is_floating_point() else torch.float64
        return self._embedded(source).to(dtype)

    def embed(self, spectra: AnySpectra) -> Tensor:
        """(N, D) of spectra in memory or in a store; bins of the model that they lack are censored.

        Raises:
            InputError: where not a single bin is the model's.
        """
        source = spectra.on(self.wavelength)
        flux, _, _ = source.read(slice(0, 0))
        if self.learner.sees == "spectra":
            return self._embedded(Arrays(*source.read(slice(None)))).to(flux.dtype)
        return self._of_latents(self.ppca.latents(without(source, self.removal))).to(flux.dtype)

    def _embedded(self, source: Arrays) -> Tensor:
        if self.learner.sees == "spectra":
            flux, valid, sigma = source.read(slice(None))
            if sigma is None:
                raise InputError("this learner sees spectra with their errors: give sigma")
            packed: Tensor = self.learner(pack(flux, flux.isfinite() if valid is None else valid, sigma))
            return packed
        return self._of_latents(self._latents(source))

    def _of_latents(self, latents: Tensor) -> Tensor:
        embedding: Tensor = self.learner(latents * self.scales)
        return embedding

    @property
    def uses_sigma(self) -> bool:
        """Whether the errors of the flux matter to it."""
        return self.learner.sees == "spectra" or super().uses_sigma

    def extra_repr(self) -> str:
        """What stands between the brackets of `repr`, before its parts."""
        return f"{len(self.wavelength)} bins, {len(self.clusters) or 'unknown'} clusters"

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, whole or not at all. What a learner holds besides its state is not in it."""
        parts = {"": self, "ppca.": self.ppca} | ({} if self.removal is None else _removing(self.removal))
        header = {name: {told: getattr(part, told) for told in part.told} for name, part in parts.items()}
        state = {name: tensor for name, tensor in self.state_dict().items() if not name.endswith("_extra_state")}
        with atomic_file(Path(path)) as part:
            part.write_bytes(file_of("Encoder", {"parts": header}, state))

    @classmethod
    def load(cls, path: str | Path, learner: Learner) -> Encoder:
        """Read what `save` wrote.

        Args:
            path: of the file.
            learner: a fresh one, made as the saved one was: a file names a class, but never imports it.

        Raises:
            InputError: where the file is missing, is no encoder, is of another schema, damaged or of another learner.
        """
        header, state = read_file(path, "Encoder")
        state |= {f"{name}_extra_state": as_bytes(told) for name, told in header["parts"].items()}
        encoder = cls(MaskedPPCA.blank(), learner, torch.ones(1))
        said = header["parts"][""]["learner_class"]
        if said != encoder.learner_class:
            raise InputError(f"{path} holds {said}, not {encoder.learner_class}: give a fresh learner of that class")
        try:
            encoder.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(f"{path}: {said} was made with other options than the learner given: {error}") from error
        encoder.learner.trained_on = encoder.clusters  # which a state does not know
        return encoder


def _removing(removal: Removal) -> dict[str, Frozen]:
    return {"removal.": removal, "removal.ppca.": removal.ppca}
