"""Step 1, masked probabilistic PCA: exact EM with every invalid bin marginalised (docs/maths.md, section 1)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from rsca_torch.arrays import Array
from rsca_torch.blocks import Block, Blocks, Noise, bin_sums
from rsca_torch.em import Parameters, Posterior, maximise, start
from rsca_torch.errors import InputError, NumericalWarning

__all__ = ["MaskedPPCA", "Noise", "fit_ppca"]


class MaskedPPCA(nn.Module):
    """x_n = mean + loadings z_n + noise, z_n ~ N(0, I): spectra in, posterior means of the latents out.

    Made by `fit_ppca`. The columns of the loadings are orthogonal, ordered by the variance that they explain, the
    largest entry of each positive. A bin that no star of the fit had has loading 0 and mean NaN and is never used.

    Attributes:
        loadings: (P, K) float64, flux per unit latent.
        mean: (P,) float64.
        bin_variance: (P,) float64, the noise of a bin where a star's own is not given: the fitted variance
            (isotropic) or the harmonic mean of the stars' sigma^2 (measured).
        noise_variance: the fitted variance of every bin (isotropic), None (measured).
        history: mean log-likelihood per valid bin (nats), one an iteration, never falling.
        converged: whether the last iterations gained less than the tolerance.
    """

    loadings: Tensor
    mean: Tensor
    bin_variance: Tensor

    def __init__(
        self,
        loadings: Tensor,
        mean: Tensor,
        bin_variance: Tensor,
        noise_variance: float | None,
        history: list[float] | None = None,
        converged: bool = True,
    ) -> None:
        super().__init__()
        self.register_buffer("loadings", loadings.contiguous())
        self.register_buffer("mean", mean)
        self.register_buffer("bin_variance", bin_variance)
        self.noise_variance = noise_variance
        self.history = history or []
        self.converged = converged

    @property
    def n_components(self) -> int:
        """K."""
        return self.loadings.shape[1]

    @property
    def scales(self) -> Tensor:
        """(K,) lengths of the loadings' columns: |scales * (z - z')| is the distance of two stars' model spectra."""
        lengths: Tensor = self.loadings.norm(dim=0)
        return lengths

    def forward(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> Tensor:
        """(N, K) float64 posterior mean of the latents, eq. 1.4; 0, the prior's, for a star with no valid bin.

        Args:
            flux: (N, P); what stands in an invalid bin never matters.
            valid: (N, P) bool, True = use. None: every finite flux.
            sigma: (N, P) standard errors, used where the model was fitted with measured noise. None: bin_variance.

        Raises:
            InputError: where shapes disagree, or a valid bin is not finite or has no positive error.
        """
        none = self.loadings.new_zeros(0, self.n_components, dtype=torch.float64)
        return torch.cat([none, *(posterior.mean for posterior in self._posteriors(flux, valid, sigma))])

    def posterior(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> tuple[Tensor, Tensor]:
        """((N, K) mean, (N, K, K) covariance) of the latents given the valid bins, eqs. 1.3 and 1.4."""
        none = self.loadings.new_zeros(0, self.n_components, dtype=torch.float64)
        posteriors = list(self._posteriors(flux, valid, sigma))
        means, covariances = ([p.mean for p in posteriors], [p.covariance() for p in posteriors])
        return torch.cat([none, *means]), torch.cat([none[:, :, None] * none[:, None], *covariances])

    def log_likelihood(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> float:
        """Log-likelihood of all valid bins of all stars together, nats, eq. 1.5."""
        return math.fsum(posterior.log_likelihood() for posterior in self._posteriors(flux, valid, sigma))

    def reconstruct(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> Tensor:
        """(N, P) loadings zbar + mean: the model's flux in every bin (NaN where no star of the fit had the bin)."""
        latents: Tensor = self(flux, valid, sigma)
        return latents @ self.loadings.double().T + self.mean.double()

    def linear_map(self) -> Tensor:
        """(K, P) A with zbar = A (x - mean) for a star whose bins are all valid and have the noise bin_variance."""
        scaled = self.loadings / self.bin_variance[:, None]
        precision = torch.eye(self.n_components).to(scaled) + scaled.T @ self.loadings
        return torch.cholesky_solve(scaled.T, torch.linalg.cholesky(precision))

    def _posteriors(self, flux: Array, valid: Array | None, sigma: Array | None) -> Iterator[Posterior]:
        if flux.ndim != 2 or flux.shape[1] != len(self.mean):
            raise InputError(f"the model has {len(self.mean)} bins, flux has shape {tuple(flux.shape)}: bring it there")
        measured = self.noise_variance is None and sigma is not None
        blocks = Blocks(flux, valid, sigma if measured else None, "measured" if measured else "isotropic")
        known = self.mean.isfinite()
        parameters = Parameters(self.loadings.double(), self.mean.double().nan_to_num(), 1.0)
        for block in blocks:
            weight = block.weight * known
            yield Posterior(Block(block.flux, weight if measured else weight / self.bin_variance), parameters)


def fit_ppca(
    flux: Array,
    valid: Array | None = None,
    n_components: int = 30,
    sigma: Array | None = None,
    noise: Noise | None = None,
    tolerance: float = 1e-7,
    max_iterations: int = 1000,
    progress: Callable[[int, float], None] | None = None,
) -> MaskedPPCA:
    """Maximum-likelihood PPCA of spectra with invalid bins (docs/maths.md, section 1).

    Exact EM with parameter expansion and accelerated by extrapolation, from a deterministic start. Spectra are
    read in blocks, so `flux` may be memory-mapped; nothing of size stars x bins x components is made.

    Args:
        flux: (N, P) floating point; what stands in an invalid bin never matters, NaN and inf included.
        valid: (N, P) bool, True = use. None: every finite flux (and error, where given).
        n_components: K, less than N - 1 and P.
        sigma: (N, P) standard errors of the flux: the noise of every bin is known.
        noise: "isotropic" (one unknown variance) or "measured" (sigma^2). None: measured where sigma is given.
        tolerance: stop when an iteration gains less than this in mean log-likelihood per valid bin (nats).
        max_iterations: at most so many EM iterations, each a pass over the spectra.
        progress: called with (iteration, mean log-likelihood per valid bin) after each iteration.

    Raises:
        InputError: for shapes that disagree, valid bins that are not finite, K beyond what the data can carry,
            or spectra that K components fit without any noise.

    Warns:
        NumericalWarning: where bins without a valid star are left out, or EM has not converged.
    """
    noise = noise or ("isotropic" if sigma is None else "measured")
    if not isinstance(n_components, int):
        raise InputError(f"n_components must be a whole number, got {n_components!r}")
    if max_iterations < 1 or not tolerance >= 0:
        raise InputError(f"max_iterations >= 1 and tolerance >= 0 expected, got {max_iterations} and {tolerance}")
    blocks = Blocks(flux, valid, sigma, noise)
    limit = min(blocks.n_stars - 1, blocks.n_bins) - 1
    if not 1 <= n_components <= limit:
        raise InputError(
            f"n_components={n_components}, but {blocks.n_stars} stars with {blocks.n_bins} bins "
            f"can carry between 1 and {max(limit, 0)}"
        )
    blocks.keep()
    sums = bin_sums(blocks)
    if not sums.count.any():
        raise InputError(f"none of the {blocks.n_stars} x {blocks.n_bins} bins is valid: there is nothing to fit")
    unseen = int((sums.count == 0).sum())
    if unseen:
        _warn(f"{unseen} of {blocks.n_bins} bins have no valid star: left out (loading 0, mean NaN)")
    theta = start(blocks, sums, n_components)
    theta, history, converged = maximise(blocks, sums, theta, tolerance, max_iterations, progress)
    if not converged:
        _warn(f"PPCA has not converged in {len(history)} iterations (tolerance {tolerance:g}): raise max_iterations")
    seen = sums.count > 0
    bin_variance = torch.where(seen, theta.variance * sums.count / sums.weight, 1.0)
    return MaskedPPCA(
        _principal_axes(theta.loadings),
        torch.where(seen, theta.mean, torch.nan),
        bin_variance,
        theta.variance if noise == "isotropic" else None,
        history,
        converged,
    )


def _warn(message: str) -> None:
    warnings.warn(message, NumericalWarning, stacklevel=3)


def _principal_axes(loadings: Tensor) -> Tensor:
    """The same W W^T with orthogonal columns, the longest first, the largest entry of each positive."""
    left, lengths, _ = torch.linalg.svd(loadings, full_matrices=False)
    axes: Tensor = left * lengths
    return axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
