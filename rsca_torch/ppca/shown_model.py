"""What a notebook shows of step 1, and its pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.ppca.frozen import Frozen
from rsca_torch.spectra.arrays import Array, as_tensor
from rsca_torch.spectra.blocks import Noise
from rsca_torch.spectra.shown import card, plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ShownModel"]


class ShownModel(Frozen):
    """Shows itself in notebooks; `MaskedPPCA` says what these are."""

    loadings: Tensor
    mean: Tensor
    scatter: Tensor
    noise_variance: float | None
    history: list[float]
    converged: bool
    clip: float | None

    @property
    def noise(self) -> Noise:
        """The noise that it was fitted with.

        >>> from rsca_torch import MaskedPPCA
        >>> MaskedPPCA(torch.ones(2, 1), torch.ones(2), torch.ones(2), noise_variance=None).noise
        'measured'
        """
        measured: Noise = "measured+scatter" if self.scatter.any() else "measured"
        return measured if self.noise_variance is None else "isotropic"

    @property
    def n_components(self) -> int:
        """K."""
        return self.loadings.shape[1]

    def _repr_html_(self) -> str:
        rows = {
            "components": self.n_components,
            "bins": f"{len(self.mean):,}",
            "left out": f"{int(self.mean.isnan().sum()):,} bins" if self.mean.isnan().any() else None,
            "noise": self.noise,
            "set aside": None if self.clip is None else f"bins beyond {self.clip:g} standard deviations",
            "iterations": len(self.history) or None,
            "log-likelihood": f"{self.history[-1]:.6g} nats a bin" if self.history else None,
            "converged": "yes" if self.converged else "no",
        }
        return card("MaskedPPCA (step 1)", rows)

    def plot(self, ax: Axes | None = None, component: int = 1, wavelength: Array | None = None) -> Axes:
        """Draw the mean spectrum, and what a star has that is one unit up or down a component.

        Args:
            ax: to draw on. None: new ones of `matplotlib.pyplot`.
            component: its number, from 1, that which explains most.
            wavelength: (P,) Angstrom, which this model does not know. None: the numbers of the bins.

        Returns:
            The axes.

        Raises:
            InputError: there is no such component.

        Example:
            >>> from rsca_torch import MaskedPPCA
            >>> model = MaskedPPCA(torch.tensor([[3.0], [4.0]]), torch.ones(2), torch.ones(2), 1.0)
            >>> [line.get_label() for line in model.plot().lines]
            ['mean', 'one unit up component 1', 'one unit down']
        """
        if not 1 <= component <= self.n_components:
            raise InputError(f"component {component}: the model has 1 to {self.n_components}")
        mean, along = (each.double().cpu().numpy() for each in (self.mean, self.loadings[:, component - 1]))
        curves = {"mean": mean, f"one unit up component {component}": mean + along, "one unit down": mean - along}
        x = torch.arange(len(mean)) if wavelength is None else as_tensor(wavelength)
        said = "bin" if wavelength is None else "wavelength in vacuum, Angstrom", "flux"
        axes: Axes = plots().plot_curves(ax, x.double().cpu().numpy(), curves, said)
        return axes

    def plot_convergence(self, ax: Axes | None = None) -> Axes:
        """Draw what each iteration gained; of a model that knows no history, nothing.

        >>> from rsca_torch import MaskedPPCA
        >>> MaskedPPCA(torch.ones(2, 1), torch.ones(2), torch.ones(2), 1.0, [-2.0, -1.5, -1.4]).plot_convergence()
        <Axes: xlabel='iteration', ylabel='gain, nats a bin'>
        """
        axes: Axes = plots().plot_convergence(ax, self.history)
        return axes
