"""Step 1 as a survey needs it: a field and the members of its clusters in, one model out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.ppca.extrapolation import run_em
from rsca_torch.ppca.fit import EMLoop, Products, fit_source
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.spectra.blocks import Joined, Noise, Source

__all__ = ["Basis", "compress"]

Basis = Literal["inductive", "transductive"]
USUAL_CLIP = 5.0  # standard deviations


class OnWavelengths(Source, Protocol):
    """Spectra whose wavelengths are known."""

    @property
    def wavelength(self) -> Tensor:
        """(P,) float64, vacuum Angstrom."""


def compress(
    field: OnWavelengths,
    members: OnWavelengths,
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
    progress: Callable[[int, float], None] | None = None,
    em_loop: EMLoop = run_em,
) -> MaskedPPCA:
    """Step 1 for a field and its clusters.

    Args:
        field: F spectra, in memory or in a store.
        members: M spectra of the same bins.
        n_components: K.
        noise: "measured" and "measured+scatter" need the spectra's sigma; "isotropic" does not use it and is the
            paper's. None: "isotropic" where no sigma is known, else "measured+scatter".
        clip: as in `fit_ppca`. "usual": 5 where the noise is measured, none where it is isotropic.
        tolerance: as in `fit_ppca`, and so for max_iterations, products, start and progress.
        max_iterations: see there.
        products: see there.
        basis: "inductive": fitted on the field alone, as the paper's Algorithm 1 has it, so that no member that is
            judged later takes part. "transductive": on the members too (unlabelled), as the authors' program does.
        fitted_components: fit with so many, of which the n_components longest axes are kept. None: with n_components.
        random_start: as in `fit_source`.
        start: see `fit_ppca`.
        progress: see `fit_ppca`.
        em_loop: as in `fit_source`.

    Raises:
        InputError: as `fit_ppca`, and where the bins differ, sigma is missing, basis is neither, or fewer components
            are fitted than kept.
    """
    if not torch.equal(field.wavelength, members.wavelength):
        raise InputError("field and members must have the same bins: bring one there with Spectra.on(wavelength)")
    if basis not in ("inductive", "transductive"):
        raise InputError(f"basis must be inductive or transductive, got {basis!r}")
    noise = noise or ("measured+scatter" if field.has_sigma or members.has_sigma else "isotropic")
    if noise != "isotropic" and not (field.has_sigma and members.has_sigma):
        raise InputError(f"{noise} noise needs the spectra's sigma: give it, or noise='isotropic'")
    if clip == "usual":
        clip = None if noise == "isotropic" else USUAL_CLIP
    if fitted_components is not None and fitted_components < n_components:
        raise InputError(f"fitted_components={fitted_components}: at least n_components={n_components} expected")
    model = fit_source(
        field if basis == "inductive" else Joined(field, members),
        fitted_components or n_components,
        noise,
        tolerance,
        max_iterations,
        clip=clip,
        products=products,
        start=start,
        progress=progress,
        wavelength=field.wavelength,
        em_loop=em_loop,
        random_start=random_start,
    )
    return model if fitted_components is None else model.leading(n_components)
