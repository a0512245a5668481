"""RSCA: masked PPCA and the three steps after it as one frozen linear layer (paper, section 3; docs/maths.md, 6)."""

from __future__ import annotations

import hashlib
import json
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
from rsca_torch.ppca.initialisation import MAD_TO_SIGMA
from rsca_torch.ppca.model import MaskedPPCA, Noise, fit_source
from rsca_torch.removal import AnySpectra, Removal, without
from rsca_torch.spectra.arrays import Array, as_tensor
from rsca_torch.spectra.blocks import Joined
from rsca_torch.spectra.spectra import Spectra

__all__ = ["RSCA", "AnySpectra", "Basis", "compress"]

Basis = Literal["inductive", "transductive"]
SCHEMA = 3
CONVERTED_AT_ONCE = 256  # stars, so that their float64 copy stays in the processor's cache
SCHEMAS = range(1, SCHEMA + 1)  # that load reads


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
    ) -> None:
        super().__init__()
        self.ppca, self.removal = ppca, removal
        weight, shift = rotation @ ppca.linear_map(), -rotation @ centre
        shift = shift - weight @ ppca.mean.nan_to_num()
        if removal is not None:  # eq. 12.4: x less directions (read x + offset)
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
        noise: Noise = "measured",
        *,
        robust: bool = True,
        pooled: bool = True,
        top: int | None = None,
        mad_factor: float = MAD_TO_SIGMA,
        clamp: float | None = None,
        basis: Basis = "inductive",
        removal: Removal | None = None,
        **ppca: Any,
    ) -> RSCA:
        """Learn the map from field stars and the members of open clusters.

        Args:
            field: F spectra.
            members: M spectra of the same bins.
            clusters: M labels. None: the members' column CLUSTER.
            n_components: K of step 1.
            noise: "measured" and "measured+scatter" need the spectra's sigma; "isotropic" is the paper's.
            robust: as in ScaledComponents.
            pooled: as in ScaledComponents.
            top: as in ScaledComponents.
            mad_factor: as in ScaledComponents.
            clamp: as in ScaledComponents.
            basis: as in `compress`.
            removal: what is taken out of all spectra first, as `Grouping.find` finds it in the field. None: nothing.
            **ppca: as in `compress`.

        Raises:
            InputError: as `fit_ppca` and `ScaledComponents.initialise` do, and where the bins of the two differ.
        """
        if clusters is None and "CLUSTER" not in members.stars.colnames:
            raise InputError("the members have no column CLUSTER: give their labels as clusters=")
        labels = np.asarray(members.stars["CLUSTER"], dtype=str) if clusters is None else clusters
        require_dimensions(n_components, len(field), labels)  # before the hard work
        field, members = (without(part, removal) for part in (field, members))
        compressor = compress(field, members, n_components, noise, basis=basis, **ppca)
        scaling = ScaledComponents(robust, pooled, top, mad_factor, clamp)
        scaling.initialise(_latents(compressor, field), _latents(compressor, members), labels)
        return cls(compressor, scaling.weight, scaling.centre, scaling.sigma_r, field.wavelength, removal)

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

    def from_latents(self, latents: Tensor) -> Tensor:
        """(N, K) features of the latents of step 1 (N, K)."""
        features: Tensor = (latents - self.centre) @ self.rotation.to(latents.dtype).T
        return features

    def embed(self, spectra: Spectra) -> Tensor:
        """(N, K) features of spectra on any bins of the same grid: bins that they lack are censored."""
        spectra = spectra.on(self.wavelength)
        features: Tensor = self(spectra.flux, spectra.valid, spectra.sigma)
        return features

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, whole or not at all."""
        target = Path(path)
        header = {
            "format": "rsca_torch",
            "schema": SCHEMA,
            **_header(self.ppca),
            "removal": None if self.removal is None else _header(self.removal.ppca),
        }
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        header["sha256"] = _digest(tensors)
        with atomic_file(target) as part:
            part.write_bytes(save(tensors, metadata={"rsca_torch": json.dumps(header)}))

    @classmethod
    def load(cls, path: str | Path) -> RSCA:
        """Read what `save` wrote.

        Raises:
            InputError: where the file is missing, is no RSCA model, or is of a newer schema.
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
        if schema not in SCHEMAS:
            raise InputError(
                f"{path} is no RSCA model of schema {SCHEMA} or earlier, but {schema}: give one that `rsca fit` wrote"
            )
        if header.get("sha256") != _digest(tensors):
            raise InputError(f"{path} is damaged: its numbers are not those that were saved; fit or copy it again")
        removal = None
        if header.get("removal") is not None:
            buffers = (tensors[f"removal.{name}"] for name in ("directions", "reading", "centre", "shares"))
            removal = Removal(_step_1(header["removal"], tensors, "removal.ppca"), *buffers)
        rotation, centre, sigma_r, bins = (tensors[name] for name in ("rotation", "centre", "sigma_r", "wavelength"))
        model = cls(_step_1(header, tensors, "ppca"), rotation, centre, sigma_r, bins, removal)
        model.load_state_dict(tensors, strict=header["schema"] > 1)  # bit for bit what was saved
        return model


def compress(
    field: AnySpectra,
    members: AnySpectra,
    n_components: int = 30,
    noise: Noise = "measured",
    *,
    basis: Basis = "inductive",
    fitted_components: int | None = None,
    **ppca: Any,
) -> MaskedPPCA:
    """Step 1 for a field and its clusters.

    Args:
        field: F spectra, in memory or in a store.
        members: M spectra of the same bins.
        n_components: K.
        noise: "measured" and "measured+scatter" need the spectra's sigma; "isotropic" does not use it.
        basis: "inductive": fitted on the field alone, as the paper's Algorithm 1 has it, so that no member that is
            judged later takes part. "transductive": on the members too (unlabelled), as the authors' program does.
        fitted_components: fit with so many, of which the n_components longest axes are kept. None: with n_components.
        **ppca: tolerance, max_iterations, clip, products, start, random_start, progress, engine of `fit_source`.

    Raises:
        InputError: as `fit_ppca`, and where the bins differ, sigma is missing, basis is neither, or fewer components
            are fitted than kept.
    """
    if not torch.equal(field.wavelength, members.wavelength):
        raise InputError("field and members must have the same bins: bring one there with Spectra.on(wavelength)")
    if basis not in ("inductive", "transductive"):
        raise InputError(f"basis must be inductive or transductive, got {basis!r}")
    if noise != "isotropic" and not (field.has_sigma and members.has_sigma):
        raise InputError(f"{noise} noise needs the spectra's sigma: give it, or noise='isotropic'")
    source = field if basis == "inductive" else Joined(field, members)
    if fitted_components is not None and fitted_components < n_components:
        raise InputError(f"fitted_components={fitted_components}: at least n_components={n_components} expected")
    model = fit_source(source, fitted_components or n_components, noise, wavelength=field.wavelength, **ppca)
    return model if fitted_components is None else model.leading(n_components)


def _header(ppca: MaskedPPCA) -> dict[str, Any]:
    """What a file says of a step 1 besides its tensors."""
    return {name: getattr(ppca, name) for name in ("noise_variance", "history", "converged", "clip")}


def _step_1(header: dict[str, Any], tensors: dict[str, Tensor], name: str) -> MaskedPPCA:
    return MaskedPPCA(
        tensors[f"{name}.loadings"],
        tensors[f"{name}.mean"],
        tensors[f"{name}.bin_variance"],
        header["noise_variance"],
        header["history"],
        header["converged"],
        tensors.get(f"{name}.scatter"),
        header.get("clip"),
    )


def _digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of names and numbers."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode() + tensors[name].cpu().numpy().tobytes())
    return total.hexdigest()


def _latents(ppca: MaskedPPCA, spectra: AnySpectra) -> Tensor:
    return ppca.latents(spectra)
