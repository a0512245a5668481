"""RSCA: masked PPCA and the three steps after it as one frozen linear layer (paper, section 3; docs/maths.md, 6)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from rsca_torch.errors import InputError
from rsca_torch.files import atomic_file
from rsca_torch.learners.learner import Labels
from rsca_torch.learners.scaled_components import ScaledComponents, require_dimensions
from rsca_torch.ppca.fit import Basis, Products, compress
from rsca_torch.ppca.initialisation import MAD_TO_SIGMA
from rsca_torch.ppca.model import Embedding, MaskedPPCA
from rsca_torch.removal import Removal, without
from rsca_torch.spectra.arrays import Array, as_tensor
from rsca_torch.spectra.blocks import Noise
from rsca_torch.spectra.view import AnySpectra

__all__ = ["RSCA"]

SCHEMA = 4  # of model files
STEP_1 = ("noise_variance", "history", "converged", "clip")  # what a file says of step 1 besides its tensors
CONVERTED_AT_ONCE = 256  # stars, so that their float64 copy stays in the processor's cache


class RSCA(nn.Module):
    """Spectra in, features out, whose Euclidean distance says how likely two stars were born together.

    A frozen layer: buffers only, nothing to train, gradients pass through to the flux. It computes in float64 and
    gives back the dtype that came in. Rows are ordered by importance; the largest weight of a row is positive.

    Attributes:
        weight: (K, P) float64; a dimension that tells nothing about siblings is a row of zeros.
        bias: (K,) float64; an average field star has features near 0.
        sigma_r: (K,) float64 rising, eq. 4 of the paper; inf where a dimension tells nothing.
        wavelength: (P,) float64, vacuum Angstrom.
        ppca: step 1, which takes over where bins are censored or their noise is given.
        removal: what is taken out of every spectrum before it; None: nothing. `weight` and `bias` have it in them.
        clusters: those on whose members it was fitted; empty: not known.

    Example:
        >>> import numpy as np
        >>> from rsca_torch import Spectra
        >>> random = np.random.default_rng(0)
        >>> axes, centres = random.normal(size=(2, 20)), np.repeat(random.normal(size=(3, 2)), 4, axis=0)
        >>> def drawn(latents, **stars):
        ...     flux = 1 + latents @ axes + random.normal(size=(len(latents), 20)) / 10
        ...     return Spectra(flux, sigma=np.full(flux.shape, 0.1), stars=stars)
        >>> field = drawn(random.normal(size=(60, 2)), id=np.arange(60))
        >>> siblings = centres + random.normal(size=(12, 2)) / 5
        >>> members = drawn(siblings, id=np.arange(60, 72), group=np.repeat(["A", "B", "C"], 4))
        >>> rsca = RSCA.fit(field, members, n_components=2)
        >>> rsca
        RSCA of 20 bins: 2 features, 2 of which tell siblings apart; trained on 3 clusters
          step 1: MaskedPPCA(K=2, P=20, noise=measured+scatter, clip=5, converged in ... iterations)
        >>> rsca.embed(members).shape
        torch.Size([12, 2])
    """

    weight: Tensor
    bias: Tensor
    rotation: Tensor
    centre: Tensor
    sigma_r: Tensor
    wavelength: Tensor

    def __init__(
        self,
        ppca: MaskedPPCA,
        rotation: Tensor,
        centre: Tensor,
        sigma_r: Tensor,
        wavelength: Tensor,
        removal: Removal | None = None,
        clusters: Labels = (),
    ) -> None:
        super().__init__()
        self.ppca, self.removal, self.clusters = ppca, removal, tuple(map(str, clusters))
        weight, shift = rotation @ ppca.linear_map(), -rotation @ centre
        shift = shift - weight @ ppca.mean.nan_to_num()
        if removal is not None:  # eq. 12.4: x minus directions (read x + offset)
            read, offset = removal.linear_map()
            along = weight @ removal.directions
            weight, shift = weight - along @ read, shift - along @ offset
        flip = weight.gather(1, weight.abs().argmax(1, keepdim=True)) < 0
        self.register_buffer("weight", torch.where(flip, -weight, weight).contiguous())
        self.register_buffer("rotation", torch.where(flip, -rotation, rotation).contiguous())
        self.register_buffer("bias", torch.where(flip[:, 0], -shift, shift))
        self.register_buffer("centre", centre)
        self.register_buffer("sigma_r", sigma_r)
        self.register_buffer("wavelength", wavelength)

    @classmethod
    def fit(
        cls,
        field: AnySpectra,
        members: AnySpectra,
        clusters: Labels | None = None,
        n_components: int = 30,
        noise: Noise | None = None,
        *,
        clip: float | Literal["usual"] | None = "usual",
        tolerance: float = 1e-4,
        max_iterations: int = 500,
        products: Products = "float32",
        basis: Basis = "inductive",
        fitted_components: int | None = None,
        random_start: int | None = None,
        start: MaskedPPCA | None = None,
        robust: bool = True,
        pooled: bool = True,
        top: int | None = None,
        mad_factor: float = MAD_TO_SIGMA,
        clamp: float | None = None,
        removal: Removal | None = None,
        progress: Callable[[int, float], None] | None = None,
    ) -> RSCA:
        """Learn the map from field stars and the members of open clusters; without options as `rsca fit` does.

        Args:
            field: F spectra, in memory or in a store.
            members: M spectra of the same bins.
            clusters: M labels. None: the members' role group.
            n_components: as in `compress`, and so for what follows up to start.
            noise: see there.
            clip: see there.
            tolerance: see there.
            max_iterations: see there.
            products: see there.
            basis: see there.
            fitted_components: see there.
            random_start: see there.
            start: see there.
            robust: as in `ScaledComponents`, and so for what follows up to clamp.
            pooled: see there.
            top: see there.
            mad_factor: see there.
            clamp: see there.
            removal: what is taken out of all spectra first, as `Grouping.find` finds it in the field. None: nothing.
            progress: called with (iteration, mean log-likelihood per valid bin) after each iteration of step 1.

        Raises:
            InputError: as `compress` and `ScaledComponents.initialise` do, and where the members have no labels.
        """
        if clusters is None and not members.stars.has("group"):
            raise InputError("no column of the members' table plays the role group: give their labels as clusters=")
        labels = members.stars.group if clusters is None else clusters
        require_dimensions(n_components, len(field), labels)  # before the hard work
        field, members = (without(part, removal) for part in (field, members))
        ppca = compress(
            field,
            members,
            n_components,
            noise,
            clip=clip,
            tolerance=tolerance,
            max_iterations=max_iterations,
            products=products,
            basis=basis,
            fitted_components=fitted_components,
            random_start=random_start,
            start=start,
            progress=progress,
        )
        learner = ScaledComponents(robust, pooled, top, mad_factor, clamp)
        learner.initialise(ppca.latents(field), ppca.latents(members), labels)
        steps = learner.weight, learner.centre, learner.sigma_r
        return cls(ppca, *steps, field.wavelength, removal, np.unique(np.asarray(labels, dtype=str)))

    def forward(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> Tensor:
        """(N, K) features, in the dtype of the flux.

        Without `valid` and `sigma` this is exactly flux @ weight.T + bias. With either, censored bins are marginalised
        and noisy ones weigh less: the posterior mean of step 1, star by star (eq. 1.4), then steps 2 to 4. What is to
        be removed is read from the same bins first.

        Args:
            flux: (N, P) continuum-normalised.
            valid: (N, P) bool, True = use.
            sigma: (N, P) standard errors; they matter where the model was fitted with measured noise.
        """
        flux = as_tensor(flux)
        if flux.ndim != 2 or flux.shape[1] != self.weight.shape[1]:
            raise InputError(f"flux must have shape (N, {self.weight.shape[1]}), got {tuple(flux.shape)}")
        if valid is None and sigma is None:
            parts = [flux] if flux.dtype == self.weight.dtype else torch.split(flux, CONVERTED_AT_ONCE)
            return torch.cat([part.to(self.weight.dtype) @ self.weight.T + self.bias for part in parts]).to(flux.dtype)
        left = flux if self.removal is None else self.removal(flux, valid, sigma)
        return self.from_latents(self.ppca(left, valid, sigma)).to(flux.dtype)

    def __repr__(self) -> str:
        """What a person wants to know, in two lines."""
        telling = int(self.sigma_r.isfinite().sum())
        return (
            f"RSCA of {self.weight.shape[1]} bins: {len(self.sigma_r)} features, {telling} of which tell siblings "
            f"apart; trained on {len(self.clusters) or 'unknown'} clusters\n  step 1: {self.ppca!r}"
        )

    def from_latents(self, latents: Tensor) -> Tensor:
        """(N, K) features of the latents of step 1 (N, K)."""
        features: Tensor = (latents - self.centre) @ self.rotation.to(latents.dtype).T
        return features

    def embed(self, spectra: AnySpectra) -> Tensor:
        """(N, K) features of spectra in memory or in a store, read block by block; in the dtype of the flux.

        Args:
            spectra: on any bins of the same grid: bins that they lack are censored.

        Raises:
            InputError: where not a single bin is the model's.
        """
        flux, _, _ = spectra.read(slice(0, 0))
        return self.from_latents(self.embedding(spectra).latents).to(flux.dtype)

    def embedding(self, spectra: AnySpectra) -> Embedding:
        """The latents of step 1 that `embed` is made of, and the bins that were set aside for them."""
        return self.ppca.embed(without(spectra.on(self.wavelength), self.removal))

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, whole or not at all."""
        header = {
            "format": "rsca_torch",
            "schema": SCHEMA,
            "clusters": list(self.clusters),
            **_header(self.ppca),
            "removal": None if self.removal is None else _header(self.removal.ppca),
        }
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        header["sha256"] = _digest(tensors)
        with atomic_file(Path(path)) as part:
            part.write_bytes(save(tensors, metadata={"rsca_torch": json.dumps(header)}))

    @classmethod
    def load(cls, path: str | Path) -> RSCA:
        """Read what `save` wrote.

        Raises:
            InputError: where the file is missing, is no RSCA model, or is of another schema.
        """
        if not Path(path).is_file():
            raise InputError(f"no model at {path}: give a file that RSCA.save or `rsca fit` wrote")
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get("rsca_torch", "null"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        except SafetensorError as error:
            raise InputError(f"{path} is no safetensors file ({error}): give one that `rsca fit` wrote") from error
        schema = header.get("schema") if isinstance(header, dict) and header.get("format") == "rsca_torch" else None
        if schema != SCHEMA:
            raise InputError(
                f"{path} is no RSCA model of schema {SCHEMA}, but {schema}: fit it again with this version's `rsca fit`"
            )
        if header.get("sha256") != _digest(tensors):
            raise InputError(f"{path} is damaged: its numbers are not those that were saved; fit or copy it again")
        removal = None
        if header.get("removal") is not None:
            buffers = (tensors[f"removal.{name}"] for name in ("directions", "reading", "centre", "shares"))
            removal = Removal(_step_1(header["removal"], tensors, "removal.ppca"), *buffers)
        rotation, centre, sigma_r, bins = (tensors[name] for name in ("rotation", "centre", "sigma_r", "wavelength"))
        step_1 = _step_1(header, tensors, "ppca")
        model = cls(step_1, rotation, centre, sigma_r, bins, removal, header["clusters"])
        model.load_state_dict(tensors)  # bit for bit what was saved
        return model


def _header(ppca: MaskedPPCA) -> dict[str, Any]:
    """What a file says of a step 1 besides its tensors."""
    return {name: getattr(ppca, name) for name in STEP_1}


def _step_1(header: dict[str, Any], tensors: dict[str, Tensor], name: str) -> MaskedPPCA:
    given: dict[str, Any] = {argument: header[argument] for argument in STEP_1}
    given |= {buffer: tensors[f"{name}.{buffer}"] for buffer in ("loadings", "mean", "bin_variance", "scatter")}
    return MaskedPPCA(**given)


def _digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of names and numbers."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode() + tensors[name].cpu().numpy().tobytes())
    return total.hexdigest()
