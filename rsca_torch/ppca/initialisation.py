"""Where EM starts: leading axes that no outlier makes, then EM on some of the stars (docs/maths.md, section 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.ppca.e_step import LEAST_SCATTER, Parameters
from rsca_torch.ppca.extrapolation import run_em
from rsca_torch.ppca.m_step import require_noise
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.ppca.online_em import online_em
from rsca_torch.spectra.blocks import BinSums, Blocks, Noise

__all__ = ["MAD_TO_SIGMA", "first_guess", "guess_of", "random_guess"]

OVERSAMPLING = 10  # of the range finder that gives the start
START_READINGS = 3
START_STARS = 2048  # that are enough for the leading axes
START_LEVELS = {  # stars that are fitted before many more are, in so many iterations at most
    "isotropic": ((4096, 10),),  # then all, once, by online_em
    "measured": ((4096, 20), (16384, 12)),
    "measured+scatter": ((4096, 20), (16384, 12)),
}
ONLINE_STARS = 16384  # that are worth a look at all of them on the way
LEAST_SHARE = 0.5  # of the stars, below which a bin's loading is not scaled up further
BOUND_STARS = 512  # that are enough for the medians of the bins
START_BOUND = 4.0  # robust standard deviations of a bin, beyond which a star does not pull more at the start
MAD_TO_SIGMA = 1.482602218505602  # 1 / the upper quartile of a normal distribution; the paper's eq. 7 omits it


def first_guess(blocks: Blocks, sums: BinSums, n_components: int, tolerance: float, clip: float | None) -> Parameters:
    """Where EM starts: the leading axes of the spectra, and where stars are many, EM on some of them.

    >>> from rsca_torch.spectra.blocks import Arrays, bin_sums
    >>> blocks = Blocks(Arrays(torch.randn(60, 9, generator=torch.Generator().manual_seed(0))), "isotropic")
    >>> first_guess(blocks, bin_sums(blocks), n_components=2, tolerance=1e-7, clip=None).loadings.shape
    torch.Size([9, 2])
    """
    theta = _leading_axes(blocks.sample(START_STARS), sums, n_components)
    for stars, iterations in START_LEVELS[blocks.noise]:
        if 4 * stars <= blocks.n_stars:
            theta = run_em(blocks.sample(stars), theta, tolerance, iterations, clip).reached
    if blocks.noise == "isotropic" and clip is None and blocks.n_stars >= ONLINE_STARS:
        theta = online_em(blocks, theta)
    return theta


def random_guess(blocks: Blocks, sums: BinSums, n_components: int, seed: int) -> Parameters:
    """Where the authors' program starts: loadings that are standard normal numbers, about the mean of each bin.

    Raises:
        InputError: for noise that is not isotropic.

    Example:
        >>> from rsca_torch.spectra.blocks import Arrays, bin_sums
        >>> blocks = Blocks(Arrays(torch.ones(60, 9)), "isotropic")
        >>> random_guess(blocks, bin_sums(blocks), n_components=2, seed=0).loadings.shape
        torch.Size([9, 2])
    """
    if blocks.noise != "isotropic":
        raise InputError(f"random_start goes with noise='isotropic', as in the authors' program, got {blocks.noise}")
    generator = torch.Generator().manual_seed(seed)
    loadings = torch.randn(blocks.n_bins, n_components, generator=generator, dtype=torch.float64)
    mean = sums.flux / sums.stars.clamp(min=1)
    squares, n_valid = torch.zeros((), dtype=torch.float64), 0
    for block in blocks.sample(START_STARS):
        squares += (block.flux - mean.to(block.flux)).masked_fill_(block.unused, 0).square_().sum()
        n_valid += block.n_valid
    return Parameters(loadings, mean, squares / n_valid)


def guess_of(model: MaskedPPCA, n_components: int, noise: Noise, used: Tensor) -> Parameters | None:
    """The leading axes of a model with at least as many; None where it has left out bins that are used.

    Args:
        model: of all P bins.
        n_components: K.
        noise: as in `fit_ppca`.
        used: (P,) bool, the bins that are used.

    Raises:
        InputError: where it has other bins, or fewer components.

    Example:
        >>> model = MaskedPPCA(torch.eye(4)[:, :3], torch.ones(4), torch.ones(4), noise_variance=1.0)
        >>> guess_of(model, 2, "isotropic", used=torch.ones(4, dtype=torch.bool)).scatter  # the third axis is noise
        tensor(1.2500)
    """
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


def _robust_bounds(blocks: Blocks, mean: Tensor) -> tuple[Tensor, Tensor]:
    """(P,) centre of each bin and how far from it a star may pull at the start, of medians: no outlier moves them."""
    flux = torch.cat([block.flux.masked_fill(block.unused, torch.nan) for block in blocks])
    median = flux.nanmedian(0).values
    bound = START_BOUND * MAD_TO_SIGMA * (flux - median).abs_().nanmedian(0).values
    known = bound > 0  # false where no star has the bin
    return torch.where(known, median, mean), torch.where(known, bound.double(), torch.inf)


def _leading_axes(blocks: Blocks, sums: BinSums, n_components: int) -> Parameters:
    """Of the spectra with the bin's mean where invalid, by a randomised range finder of fixed seed."""
    count = sums.stars.clamp(min=1)
    mean = sums.flux / count
    size = min(n_components + OVERSAMPLING, blocks.n_bins)
    generator = torch.Generator().manual_seed(0)
    axes = torch.randn(blocks.n_bins, size, generator=generator, dtype=torch.float64)
    mean, bound = _robust_bounds(blocks.sample(BOUND_STARS), mean)
    for number in range(START_READINGS):
        axes, _ = torch.linalg.qr(axes)
        product, squares, seen = torch.zeros_like(axes), torch.zeros_like(mean), torch.zeros_like(mean)
        for flux, unused, *_ in blocks:
            residual = (flux - mean.to(flux)).masked_fill_(unused, 0)
            residual = residual.clamp_(-bound.to(flux), bound.to(flux))
            product += residual.T @ (residual @ axes.to(flux))
            if number == START_READINGS - 1:
                squares += residual.square_().sum(0)
                seen += len(flux) - unused.sum(0)
        axes, covariance = product, axes.T @ product
    if not (covariance.isfinite().all() and squares.isfinite().all()):
        raise InputError(
            f"the squares of the flux are no numbers of {str(blocks.dtype).removeprefix('torch.')}: give flux and "
            "errors in another unit, and mark bins invalid that hold no measurement"
        )
    eigenvalues, rotation = torch.linalg.eigh(covariance / blocks.n_stars)
    leading = slice(-n_components, None)
    basis, _ = torch.linalg.qr(axes @ rotation.flip(1)[:, :n_components])
    left = float(squares.sum() / blocks.n_stars - eigenvalues[leading].sum())
    noise_variance = left / (blocks.n_bins - n_components)
    require_noise(noise_variance, float(squares.sum() / seen.sum()))
    scale = (eigenvalues[leading].flip(0) - noise_variance).clamp(min=noise_variance).sqrt()
    share = (seen / blocks.n_stars).clamp(min=LEAST_SHARE)  # a loading is seen as small as its bin is rarely valid
    loadings = basis * scale / share[:, None]
    if blocks.noise == "isotropic":
        return Parameters(loadings, mean, torch.tensor(noise_variance, dtype=torch.float64))
    if blocks.noise == "measured":
        return Parameters(loadings, mean, torch.tensor(0.0, dtype=torch.float64))
    known = sums.noise / count
    left = squares / seen.clamp(min=1) - loadings.square().sum(1) - known
    return Parameters(loadings, mean, left.maximum(0.1 * known).clamp(min=LEAST_SCATTER * float(left.abs().max())))
