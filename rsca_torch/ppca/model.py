"""Step 1, masked probabilistic PCA: exact EM with every invalid bin marginalised (docs/maths.md, section 1)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.ppca.e_step import Model, Parameters, Posterior
from rsca_torch.ppca.extrapolation import Climb, climb
from rsca_torch.ppca.initialisation import first_guess, random_guess
from rsca_torch.spectra.arrays import Array
from rsca_torch.spectra.blocks import Arrays, BinSums, Blocks, Noise, Source, bin_sums

__all__ = ["Embedding", "MaskedPPCA", "Misfit", "Noise", "Products", "fit_ppca", "fit_source"]

Products = Literal["float64", "float32"]
Engine = Callable[[Blocks, Parameters, float, int, float | None, Callable[[int, float], None] | None], Climb]

LEAST_CLIP = (5.0, 3.0)  # isotropic, measured: below it noise is set aside, and one variance shrinks to nothing
FEW = 0.1  # of the stars: bins that fewer lack are summed over all stars, less what is lacking
COUNTED_STARS = 2048  # that tell which bins are used, where each has enough of them
MUCH = 0.01  # of all valid bins set aside: more than cosmic rays


class Embedding(NamedTuple):
    """N stars in latents, and what was set aside for it: m bins."""

    latents: Tensor  # (N, K) float64
    stars: Tensor  # (m,) rows
    bins: Tensor  # (m,)
    deviations: Tensor  # (m,) float64, flux less the model's, in standard deviations


class Misfit(NamedTuple):
    """What the model leaves of n stars, float64."""

    residual: Tensor  # (n, P) flux less the model's, 0 where not valid
    valid: Tensor  # (n, P) bool; bins that were only set aside are valid
    sigma: Tensor  # (n, P) standard deviation of the noise; inf where not valid


class MaskedPPCA(nn.Module):
    """x_n = mean + loadings z_n + noise, z_n ~ N(0, I): spectra in, posterior means of the latents out.

    Made by `fit_ppca`. The columns of the loadings are orthogonal, ordered by the variance that they explain, the
    largest entry of each positive. A bin that was left out has loading 0 and mean NaN and is never used.

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
    """

    loadings: Tensor
    mean: Tensor
    scatter: Tensor
    bin_variance: Tensor

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

    @property
    def n_components(self) -> int:
        """K."""
        return self.loadings.shape[1]

    @property
    def scales(self) -> Tensor:
        """(K,) lengths of the loadings' columns: |scales * (z - z')| is the distance of two stars' model spectra."""
        lengths: Tensor = self.loadings.norm(dim=0)
        return lengths

    def leading(self, n_components: int) -> MaskedPPCA:
        """The same with its longest axes alone.

        Raises:
            InputError: where there are not so many.
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
        """
        return self.latents(Arrays(flux, valid, sigma))

    def latents(self, source: Source) -> Tensor:
        """(N, K) as `forward`, of spectra that are read block by block."""
        return self.embed(source).latents

    def embed(self, source: Source) -> Embedding:
        """The latents of N stars, read block by block, and the bins that were set aside on the way (eq. 1.12)."""
        none = torch.zeros(0, dtype=torch.long)
        latents = [self.loadings.new_zeros(0, self.n_components, dtype=torch.float64)]
        stars, bins, deviations = [none], [none], [none.double()]
        first = 0
        for posterior in self.posteriors(source):
            latents.append(posterior.mean)
            stars.append(posterior.aside.star.cpu() + first)
            bins.append(posterior.aside.place.cpu())
            deviations.append(posterior.deviations().cpu())
            first += len(posterior.mean)
        return Embedding(torch.cat(latents), torch.cat(stars), torch.cat(bins), torch.cat(deviations))

    def posterior(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> tuple[Tensor, Tensor]:
        """((N, K) mean, (N, K, K) covariance) of the latents given the valid bins, eqs. 1.3 and 1.4."""
        none = self.loadings.new_zeros(0, self.n_components, dtype=torch.float64)
        posteriors = [(p.mean, p.covariance()) for p in self.posteriors(Arrays(flux, valid, sigma))]
        means, covariances = [mean for mean, _ in posteriors], [covariance for _, covariance in posteriors]
        return torch.cat([none, *means]), torch.cat([none[:, :, None] * none[:, None], *covariances])

    def log_likelihood(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> float:
        """Log-likelihood of all valid bins of all stars together, nats, eq. 1.5 (with clip: eq. 1.12)."""
        return math.fsum(float(p.log_likelihood()) for p in self.posteriors(Arrays(flux, valid, sigma)))

    def reconstruct(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> Tensor:
        """(N, P) loadings zbar + mean: the model's flux in every bin (NaN where a bin was left out)."""
        latents: Tensor = self(flux, valid, sigma)
        return latents @ self.loadings.double().T + self.mean.double()

    def set_aside(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> Tensor:
        """(N, P) bool: the bins of each star that the model cannot explain and does not use, eq. 1.12."""
        found = self.embed(Arrays(flux, valid, sigma))
        aside = torch.zeros(len(flux), len(self.mean), dtype=torch.bool)
        aside[found.stars, found.bins] = True
        return aside

    def misfits(self, source: Source) -> Iterator[Misfit]:
        """What is left of spectra that are read block by block; bins that were set aside (eq. 1.12) are shown too."""
        blocks, theta = self.prepare(source)
        model = Model(theta, self.loadings.double())
        for block in blocks:
            here = block.to(self.loadings.device)
            posterior = Posterior(here, model, self.clip)
            residual = torch.addmm(posterior.residual, posterior.mean, model.loadings.T, alpha=-1)
            noise = model.scatter if here.noise is None else here.noise + model.scatter
            sigma = noise.expand_as(residual).masked_fill(here.unused, torch.inf).sqrt()
            yield Misfit(residual.masked_fill(here.unused, 0), ~here.unused, sigma)

    def linear_map(self) -> Tensor:
        """(K, P) A with zbar = A (x - mean) for a star whose bins are all valid and have the noise bin_variance."""
        scaled = self.loadings / self.bin_variance[:, None]
        precision = torch.eye(self.n_components).to(scaled) + scaled.T @ self.loadings
        return torch.cholesky_solve(scaled.T, torch.linalg.cholesky(precision))

    def posteriors(self, source: Source) -> Iterator[Posterior]:
        """The stars' latents, block by block (eqs. 1.2 to 1.5)."""
        blocks, theta = self.prepare(source)
        model = Model(theta, self.loadings.double())
        for block in blocks:
            yield Posterior(block.to(self.loadings.device), model, self.clip)

    def prepare(self, source: Source) -> tuple[Blocks, Parameters]:
        """(The spectra as blocks, the parameters that their posteriors take): their own errors where this uses them."""
        if source.n_bins != len(self.mean):
            shape = (len(source), source.n_bins)
            raise InputError(f"the model has {len(self.mean)} bins, flux has shape {shape}: bring it there")
        known = self.mean.isfinite()
        measured = self.noise_variance is None and source.has_sigma
        blocks = Blocks(source, "measured" if measured else "isotropic", used=known.cpu())
        scatter = torch.where(known, self.scatter if measured else self.bin_variance, 1.0)
        return blocks, Parameters(self.loadings, self.mean.nan_to_num(), scatter)


def fit_ppca(
    flux: Array,
    valid: Array | None = None,
    n_components: int = 30,
    sigma: Array | None = None,
    noise: Noise | None = None,
    tolerance: float = 1e-7,
    max_iterations: int = 1000,
    progress: Callable[[int, float], None] | None = None,
    *,
    clip: float | None = None,
    products: Products = "float64",
    start: MaskedPPCA | None = None,
) -> MaskedPPCA:
    """Maximum-likelihood PPCA of spectra with invalid bins (docs/maths.md, section 1).

    Exact EM with parameter expansion and accelerated by extrapolation, from a deterministic start. Spectra are
    read in blocks, so `flux` may be memory-mapped; nothing of size stars x bins x components is made.

    Args:
        flux: (N, P) floating point; what stands in an invalid bin never matters, NaN and inf included.
        valid: (N, P) bool, True = use. None: every finite flux (and error, where given).
        n_components: K, less than N - 1 and P.
        sigma: (N, P) standard errors of the flux: the noise of every bin is known.
        noise: "isotropic" (one unknown variance), "measured" (sigma^2) or "measured+scatter" (sigma^2 and an unknown
            variance of each bin). None: measured where sigma is given.
        tolerance: stop when an iteration gains less than this in mean log-likelihood per valid bin (nats).
        max_iterations: at most so many EM iterations; each is a pass over the spectra, or two where an extrapolation is
            thrown away.
        progress: called with (iteration, mean log-likelihood per valid bin) after each iteration.
        clip: set aside bins farther than so many standard deviations from the model, here and in the model's own use
            (unflagged cosmic rays; eq. 1.12). None: none are.
        products: dtype of the large matrix products; all else, and sums over blocks, are float64. "float32" takes half
            the time and memory (docs/performance.md has the error).
        start: a model of these bins with at least n_components to start from. None: the spectra's leading axes.

    Raises:
        InputError: for shapes that disagree, valid bins that are not finite, K beyond what the data can carry,
            or spectra that K components fit without any noise.

    Warns:
        NumericalWarning: where bins with fewer valid stars than K + 1 are left out, EM has not converged, or more
            than 1 % of the valid bins are set aside.
    """
    noise = noise or ("isotropic" if sigma is None else "measured")
    source = Arrays(flux, valid, sigma)
    options = {"clip": clip, "products": products, "start": start, "progress": progress}
    return fit_source(source, n_components, noise, tolerance, max_iterations, **options)  # type: ignore[arg-type]


def fit_source(
    source: Source,
    n_components: int,
    noise: Noise,
    tolerance: float = 1e-7,
    max_iterations: int = 1000,
    *,
    clip: float | None = None,
    products: Products = "float64",
    start: MaskedPPCA | None = None,
    progress: Callable[[int, float], None] | None = None,
    wavelength: Tensor | None = None,
    engine: Engine = climb,
    random_start: int | None = None,
) -> MaskedPPCA:
    """As `fit_ppca`, of spectra that are read block by block.

    Args:
        source: N spectra of P bins.
        n_components: as in `fit_ppca`, and so for what follows up to progress.
        noise: see there.
        tolerance: see there.
        max_iterations: see there.
        clip: see there.
        products: see there.
        start: see there.
        progress: see there.
        wavelength: (P,) Angstrom, to name bins that are left out. None: their numbers.
        engine: what runs EM from the first guess to its end; takes the arguments of `climb.climb`.
        random_start: seed of loadings to start from, whatever `start` is, as the authors' program does; isotropic noise
            alone. None: a start without chance.

    Raises:
        InputError: as `fit_ppca`.
    """
    if not isinstance(n_components, int):
        raise InputError(f"n_components must be a whole number, got {n_components!r}")
    if max_iterations < 1 or not tolerance >= 0:
        raise InputError(f"max_iterations >= 1 and tolerance >= 0 expected, got {max_iterations} and {tolerance}")
    if products not in ("float64", "float32"):
        raise InputError(f"products must be float64 or float32, got {products!r}")
    least = LEAST_CLIP[noise != "isotropic"]
    if clip is not None and not (isinstance(clip, int | float) and clip >= least):
        raise InputError(f"clip must be at least {least:g} standard deviations, or None for none, got {clip!r}")
    blocks = Blocks(source, noise, getattr(torch, products)).keep()
    _require_components(n_components, blocks.n_stars, blocks.n_bins)
    sums = bin_sums(blocks.sample(COUNTED_STARS))
    if noise != "isotropic" or not (sums.stars > n_components).all():  # else they tell enough
        sums = bin_sums(blocks)
    used = sums.stars > n_components
    if not sums.stars.any():
        raise InputError(f"none of the {blocks.n_stars} x {blocks.n_bins} bins is valid: there is nothing to fit")
    if not used.all():
        _warn(
            f"{int((~used).sum())} of {blocks.n_bins} bins have fewer valid stars than components + 1 = "
            f"{n_components + 1}: left out (loading 0, mean NaN): {_named(~used, wavelength)}"
        )
        _require_components(n_components, blocks.n_stars, int(used.sum()))
        blocks = blocks.using(used)
    if noise == "isotropic":
        blocks.rare = sums.stars > (1 - FEW) * sums.stars.max()
    theta = None
    if random_start is not None:
        theta = random_guess(blocks, sums, n_components, random_start)
    elif start is not None:
        theta = _start_from(start, n_components, noise, used)
    if theta is None:
        theta = first_guess(blocks, sums, n_components, tolerance, clip)
    ascent = engine(blocks, theta, tolerance, max_iterations, clip, progress)
    if not ascent.converged and len(ascent.history) >= max_iterations:
        gained = ascent.history[-1] - ascent.history[-2] if len(ascent.history) > 1 else math.nan
        _warn(
            f"PPCA has not converged in {len(ascent.history)} iterations: the last gained {gained:.2g} nats a bin, "
            f"the tolerance is {tolerance:g}: raise max_iterations"
        )
    elif not ascent.converged:
        _warn(
            f"PPCA has not converged: after {len(ascent.history)} iterations what is set aside still changes the "
            f"likelihood by more than the tolerance of {tolerance:g}: use noise='measured+scatter', or a larger clip"
        )
    if ascent.aside > MUCH:
        _warn(
            f"{ascent.aside:.1%} of the valid bins are farther than {clip:g} standard deviations from the model and "
            "are set aside, more than cosmic rays are: use noise='measured+scatter', more n_components, a larger clip"
        )
    return _model(ascent, sums, used, noise, clip)


def _require_components(n_components: int, n_stars: int, n_bins: int) -> None:
    limit = min(n_stars - 1, n_bins) - 1
    if not 1 <= n_components <= limit:
        raise InputError(
            f"n_components={n_components}, but {n_stars} stars with {n_bins} bins "
            f"can carry between 1 and {max(limit, 0)}"
        )


def _named(bins: Tensor, wavelength: Tensor | None, most: int = 20) -> str:
    """The bins by wavelength, or by number."""
    names = [str(p) for p in bins.nonzero()[:, 0].tolist()]
    if wavelength is not None:
        names = [f"{angstrom:.2f}" for angstrom in wavelength[bins].tolist()]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{'bins' if wavelength is None else 'Angstrom'} {', '.join(names[:most])}{more}"


def _start_from(model: MaskedPPCA, n_components: int, noise: Noise, used: Tensor) -> Parameters | None:
    """The leading axes of a model with at least as many; None where it has left out bins that are used."""
    n_bins = len(used)
    if len(model.mean) != n_bins or model.n_components < n_components:
        raise InputError(
            f"start must have {n_bins} bins and at least {n_components} components, "
            f"got {len(model.mean)} and {model.n_components}"
        )
    if not model.mean.isfinite()[used].all():
        return None
    dropped = model.loadings[:, n_components:].square().sum(1)
    known, none = model.mean.isfinite(), dropped.new_tensor(0.0)
    positive = torch.where(model.scatter > 0, model.scatter, 0.1 * model.bin_variance)  # measured noise alone has none
    isotropic = (model.bin_variance + dropped)[known].mean()
    scatter = {"isotropic": isotropic, "measured": none, "measured+scatter": positive + dropped}[noise]
    return Parameters(model.loadings[:, :n_components], model.mean.nan_to_num(), scatter)


def _model(ascent: Climb, sums: BinSums, used: Tensor, noise: Noise, clip: float | None) -> MaskedPPCA:
    loadings, mean, scatter = (tensor.cpu() for tensor in ascent.reached)
    scatter = torch.where(used, scatter, 0.0)
    known = torch.where(used, sums.stars / sums.precision, 0.0)  # 0 for isotropic noise
    return MaskedPPCA(
        _principal_axes(torch.where(used[:, None], loadings, 0.0)),
        torch.where(used, mean, torch.nan),
        torch.where(used, scatter + known, 1.0),
        float(ascent.reached.scatter) if noise == "isotropic" else None,
        ascent.history,
        ascent.converged,
        scatter,
        clip,
    )


def _warn(message: str) -> None:
    warnings.warn(message, NumericalWarning, stacklevel=4)


def _principal_axes(loadings: Tensor) -> Tensor:
    """The same W W^T with orthogonal columns, the longest first, the largest entry of each positive."""
    left, lengths, _ = torch.linalg.svd(loadings, full_matrices=False)
    axes: Tensor = left * lengths
    return axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
