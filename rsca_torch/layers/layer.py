"""What fitted layers share: step 1, what is removed before it, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, ClassVar

from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.learners.learner import Labels
from rsca_torch.ppca.frozen import Frozen
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.removal import Removal
from rsca_torch.spectra.bins import grid_told
from rsca_torch.spectra.blocks import Arrays

__all__ = ["Layer"]


class Layer(Frozen):
    """Spectra in, features out, by way of the latents of step 1.

    Args:
        ppca: step 1.
        wavelength: (P,) vacuum Angstrom.
        removal: what is taken out of every spectrum before step 1. None: nothing.
        clusters: those on whose members it was fitted; empty: not known.
        sources: what the stores say of themselves whose spectra it was fitted on; {}: in memory; empty: not known.
    """

    wavelength: Tensor
    told: ClassVar[tuple[str, ...]] = ("clusters", "version", "sources")

    def __init__(
        self,
        ppca: MaskedPPCA,
        wavelength: Tensor,
        removal: Removal | None,
        clusters: Labels,
        sources: Sequence[Mapping[str, Any]],
    ) -> None:
        super().__init__()
        self.ppca, self.removal, self.clusters = ppca, removal, tuple(map(str, clusters))
        self.version, self.sources = version("rsca_torch"), tuple(map(dict, sources))
        self.register_buffer("wavelength", wavelength)

    def _latents(self, source: Arrays) -> Tensor:
        """(N, K) float64 latents of flux from which what is to be removed, read from the same bins, is taken."""
        if self.removal is not None:
            flux, valid, sigma = source.read(slice(None))
            source = Arrays(self.removal.minus(flux, self.removal.coordinates(source)), valid, sigma)
        return self.ppca.latents(source)

    def _require_bins(self, shape: Sequence[int]) -> None:
        """Raises InputError for a flux of another shape than (N, P); it says which bins are the model's."""
        if len(shape) != 2 or shape[1] != len(self.wavelength):
            raise InputError(
                f"flux must have shape (N, {len(self.wavelength)}), got {tuple(shape)}; the model has "
                f"{grid_told(self.wavelength)}: embed(Spectra(flux, valid, sigma, wavelength)) finds them among others"
            )

    @property
    def uses_sigma(self) -> bool:
        """Whether the errors of the flux matter to it."""
        models = [self.ppca] if self.removal is None else [self.ppca, self.removal.ppca]
        return any(model.noise_variance is None for model in models)

    def set_extra_state(self, state: Tensor) -> None:
        """Take what `get_extra_state` told."""
        super().set_extra_state(state)
        self.clusters, self.sources = tuple(self.clusters), tuple(self.sources)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """What is loaded says whether something is removed."""
        if any(name.startswith(f"{prefix}removal.") for name in state_dict):
            self.removal = self.removal or Removal.blank().to(self.wavelength.device)
        elif f"{prefix}wavelength" in state_dict:
            self.removal = None
        super()._load_from_state_dict(state_dict, prefix, *args)
