"""Step 1, masked probabilistic PCA, as it was fitted: every invalid bin is marginalised (docs/maths.md, section 1)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.ppca.answers import Embedding, Misfit
from rsca_torch.ppca.e_step import ROUNDS, Model, Parameters, Posterior
from rsca_torch.ppca.graph import graph_latents, in_graph
from rsca_torch.ppca.shown_model import ShownModel
from rsca_torch.spectra.arrays import Array
from rsca_torch.spectra.blocks import Arrays, Blocks, Source

__all__ = ["MaskedPPCA"]


class MaskedPPCA(ShownModel):
    """x_n = mean + loadings z_n + noise, z_n ~ N(0, I): spectra in, posterior means of the latents out.

    Made by `fit_ppca`. The columns of the loadings are orthogonal, ordered by the variance that they explain, the
    largest entry of each positive. A bin that was left out has loading 0 and mean NaN and is never used. A `Frozen`.

    Attributes:
        loadings: (P, K) float64, flux per unit latent.
        mean: (P,) float64.
        scatter: (P,) float64, variance that is added to a star's own sigma^2: the fitted one of every bin (isotropic,
            where sigma plays no part), of each bin (measured+scatter), or 0 (measured).
        bin_variance: (P,) float64, the noise of a bin where a star's own is not given: the scatter and the harmonic
            mean of the stars' sigma^2.
        noise_variance: the fitted variance of every bin (isotropic), None (measured).
        clip: bins farther than so many standard deviations from the model are set aside; None: none are.
        history: mean log-likelihood per valid bin (nats), one an iteration, never falling.
        converged: whether the last iterations gained less than the tolerance.

    Example:
        >>> model = MaskedPPCA(torch.tensor([[3.0], [4.0]]), torch.ones(2), torch.ones(2), noise_variance=1.0)
        >>> model
        MaskedPPCA(K=1, P=2, noise=isotropic, converged)
        >>> model(torch.tensor([[4.0, 5.0]]))  # (3, 4) above the mean: 25 / (25 + 1)
        tensor([[0.9615]], dtype=torch.float64)
    """

    loadings: Tensor
    mean: Tensor
    scatter: Tensor
    bin_variance: Tensor
    told: ClassVar[tuple[str, ...]] = ("noise_variance", "history", "converged", "clip")

    def __init__(
        self,
        loadings: Tensor,
        mean: Tensor,
        bin_variance: Tensor,
        noise_variance: float | None,
        history: list[float] | None = None,
        converged: bool = True,
        scatter: Tensor | None = None,
        clip: float | None = None,
    ) -> None:
        super().__init__()
        if scatter is None:
            scatter = torch.zeros_like(bin_variance) if noise_variance is None else bin_variance
        self.register_buffer("loadings", loadings.contiguous())
        self.register_buffer("mean", mean)
        self.register_buffer("scatter", scatter)
        self.register_buffer("bin_variance", bin_variance)
        self.noise_variance = noise_variance
        self.history = history or []
        self.converged = converged
        self.clip = clip

    @classmethod
    def _blank(cls) -> MaskedPPCA:
        return cls(torch.ones(1, 1).double(), torch.ones(1).double(), torch.ones(1).double(), None)

    def extra_repr(self) -> str:
        """What stands between the brackets of `repr`."""
        clip = "" if self.clip is None else f", clip={self.clip:g}"
        end = ("" if self.converged else "not ") + "converged"
        end += f" in {len(self.history)} iterations" if self.history else ""
        return f"K={self.n_components}, P={len(self.mean)}, noise={self.noise}{clip}, {end}"

    @property
    def scales(self) -> Tensor:
        """(K,) lengths of the loadings' columns: |scales * (z - z')| is the distance of two stars' model spectra.

        >>> MaskedPPCA(torch.tensor([[3.0], [4.0]]), torch.ones(2), torch.ones(2), 1.0).scales
        tensor([5.])
        """
        lengths: Tensor = self.loadings.norm(dim=0)
        return lengths

    def leading(self, n_components: int) -> MaskedPPCA:
        """The same with its longest axes alone.

        Raises:
            InputError: where there are not so many.

        Example:
            >>> MaskedPPCA(torch.eye(4)[:, :3], torch.ones(4), torch.ones(4), 1.0).leading(2).n_components
            2
        """
        if not 1 <= n_components <= self.n_components:
            raise InputError(
                f"{self.n_components} components were fitted: 1 to as many can be kept, not {n_components}"
            )
        loadings, told = self.loadings[:, :n_components], (self.noise_variance, self.history, self.converged)
        return MaskedPPCA(loadings, self.mean, self.bin_variance, *told, self.scatter, self.clip)

    def forward(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> Tensor:
        """(N, K) float64 posterior mean of the latents, eq. 1.4; 0, the prior's, for a star with no valid bin.

        Args:
            flux: (N, P); what stands in an invalid bin never matters.
            valid: (N, P) bool, True = use. None: every finite flux.
            sigma: (N, P) standard errors, used where the model was fitted with measured noise. None: bin_variance.

        Raises:
            InputError: where shapes disagree, or a valid bin is not finite or has no positive error.

        Example:
            >>> model = MaskedPPCA(torch.tensor([[3.0], [4.0]]), torch.ones(2), torch.ones(2), 1.0)
            >>> model(torch.tensor([[4.0, 5.0], [4.0, torch.nan]]))  # 25 / (25 + 1), and 9 / (9 + 1) of one bin alone
            tensor([[0.9615],
                    [0.9000]], dtype=torch.float64)
        """
        return self.latents(Arrays(flux, valid, sigma))

    def latents(self, source: Source) -> Tensor:
        """(N, K) as `forward`, of spectra that are read block by block.

        >>> MaskedPPCA(torch.eye(2, 1), torch.ones(2), torch.ones(2), 1.0).latents(Arrays(torch.tensor([[3.0, 1.0]])))
        tensor([[1.]], dtype=torch.float64)
        """
        return graph_latents(self, source.read(slice(None))) if in_graph() else self.embed(source).latents

    def embed(self, source: Source, covariances: bool = False) -> Embedding:
        """The latents of N stars, read block by block, and the bins that were set aside on the way (eq. 1.12).

        Args:
            source: N spectra of P bins.
            covariances: of each star's latents too (eq. 1.3); N K^2 numbers.

        Raises:
            InputError: as `forward`.

        Example:
            >>> model = MaskedPPCA(torch.tensor([[3.0], [4.0]]), torch.ones(2), torch.ones(2), 1.0)
            >>> model.embed(Arrays(torch.tensor([[4.0, 5.0]])), covariances=True).covariances  # 1 / (25 + 1)
            tensor([[[0.0385]]], dtype=torch.float64)
        """
        zeros, k = self.loadings.new_zeros(0, dtype=torch.float64), self.n_components
        none = zeros.view(0, k, k)
        parts = [(zeros.view(0, k), zeros.long().cpu(), zeros.long().cpu(), zeros.cpu(), none)]
        first = 0
        for posterior in self.posteriors(source):
            aside = posterior.set_aside.stars.cpu() + first, posterior.set_aside.bins.cpu()
            covariance = posterior.covariance() if covariances else none
            parts.append((posterior.mean, *aside, posterior.deviations().cpu(), covariance))
            first += len(posterior.mean)
            del posterior  # before the next block is read
        latents, stars, bins, deviations, of_all = (torch.cat(part) for part in zip(*parts, strict=True))
        return Embedding(latents, stars, bins, deviations, of_all if covariances else None)

    def posterior(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> tuple[Tensor, Tensor]:
        """((N, K) mean, (N, K, K) covariance) of the latents given the valid bins, eqs. 1.3 and 1.4; see `forward`.

        >>> model = MaskedPPCA(torch.tensor([[3.0], [4.0]]), torch.ones(2), torch.ones(2), 1.0)
        >>> model.posterior(torch.tensor([[4.0, 5.0]]))
        (tensor([[0.9615]], dtype=torch.float64), tensor([[[0.0385]]], dtype=torch.float64))
        """
        found = self.embed(Arrays(flux, valid, sigma), covariances=True)
        assert found.covariances is not None
        return found.latents, found.covariances

    def log_likelihood(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> float:
        """Log-likelihood of all valid bins of all stars together, nats, eq. 1.5 (with clip: eq. 1.12); see `forward`.

        >>> model = MaskedPPCA(torch.tensor([[3.0], [4.0]]), torch.ones(2), torch.ones(2), 1.0)
        >>> round(model.log_likelihood(torch.ones(1, 2)), 4)  # -ln(2 pi) - ln(26) / 2
        -3.4669
        """
        return math.fsum(map(Posterior.log_likelihood, self.posteriors(Arrays(flux, valid, sigma))))

    def reconstruct(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> Tensor:
        """(N, P) loadings zbar + mean: the model's flux in every bin (NaN where a bin was left out); see `forward`.

        >>> model = MaskedPPCA(torch.tensor([[3.0], [4.0]]), torch.ones(2), torch.ones(2), 1.0)
        >>> model.reconstruct(torch.tensor([[4.0, torch.nan]]))  # a bin that is missing is filled in
        tensor([[3.7000, 4.6000]], dtype=torch.float64)
        """
        latents: Tensor = self(flux, valid, sigma)
        return latents @ self.loadings.double().T + self.mean.double()

    def set_aside(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> Tensor:
        """(N, P) bool: the bins of each star that the model cannot explain and does not use, eq. 1.12; see `forward`.

        >>> model = MaskedPPCA(torch.tensor([[0.3], [0.4]]), torch.ones(2), torch.ones(2), 1.0, clip=5.0)
        >>> model.set_aside(torch.tensor([[1.0, 99.0]]))
        tensor([[False,  True]])
        """
        found = self.embed(Arrays(flux, valid, sigma))
        aside = torch.zeros(len(flux), len(self.mean), dtype=torch.bool)
        aside[found.stars, found.bins] = True
        return aside

    def misfits(self, source: Source) -> Iterator[Misfit]:
        """What is left of spectra that are read block by block; bins that were set aside (eq. 1.12) are shown too.

        >>> model = MaskedPPCA(torch.tensor([[3.0], [4.0]]), torch.ones(2), torch.ones(2), 1.0)
        >>> [misfit.residual for misfit in model.misfits(Arrays(torch.tensor([[4.0, torch.nan]])))]
        [tensor([[0.3000, 0.0000]], dtype=torch.float64)]
        """
        for posterior in self.posteriors(source):
            block, model = posterior.block, posterior.model
            residual = torch.addmm(posterior.residual, posterior.mean, model.loadings.T, alpha=-1)
            noise = model.scatter if block.noise is None else block.noise + model.scatter
            sigma = noise.expand_as(residual).masked_fill(block.unused, torch.inf).sqrt()
            yield Misfit(residual.masked_fill(block.unused, 0), ~block.unused, sigma)

    def linear_map(self) -> Tensor:
        """(K, P) A with zbar = A (x - mean) for a star whose bins are all valid and have the noise bin_variance.

        >>> MaskedPPCA(torch.tensor([[3.0], [4.0]]), torch.ones(2), torch.ones(2), 1.0).linear_map()
        tensor([[0.1154, 0.1538]])
        """
        order = self.bin_variance.argsort()  # QR keeps the digits of all rows if the heaviest come first
        root = self.bin_variance[order].rsqrt()
        prior = torch.eye(self.n_components).to(self.loadings)
        whole, triangle = torch.linalg.qr(torch.cat([root[:, None] * self.loadings[order], prior]))
        found = torch.empty_like(self.loadings.T)
        found[:, order] = torch.linalg.solve_triangular(triangle, whole[: len(root)].T * root, upper=True)
        return found

    def posteriors(self, source: Source) -> Iterator[Posterior]:
        """The stars' latents, block by block (eqs. 1.2 to 1.5); their own errors where this was fitted with errors.

        >>> model = MaskedPPCA(torch.ones(2, 1), torch.ones(2), torch.ones(2), 1.0)
        >>> [posterior.mean.shape for posterior in model.posteriors(Arrays(torch.ones(5, 2)))]
        [torch.Size([5, 1])]
        """
        if source.n_bins != len(self.mean):
            shape = (len(source), source.n_bins)
            raise InputError(f"the model has {len(self.mean)} bins, flux has shape {shape}: bring it to these bins")
        known = self.mean.isfinite()
        measured = self.noise_variance is None and source.has_sigma
        blocks = Blocks(source, "measured" if measured else "isotropic", used=known.cpu())
        scatter = torch.where(known, self.scatter if measured else self.bin_variance, 1.0)
        model = Model(Parameters(self.loadings, self.mean.nan_to_num(), scatter), self.loadings.double())
        for block in blocks:
            yield Posterior(block.to(self.loadings.device), model, self.clip)
        if model.unsettled:
            said = f"{model.unsettled} of {len(source)} stars: bins set aside were not settled in {ROUNDS} rounds"
            warnings.warn(f"{said}; those of the last are taken", NumericalWarning, stacklevel=3)
