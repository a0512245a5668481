"""The fit of step 1: what the spectra can carry, where EM starts, EM to its end, and the model that it leaves."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.ppca.e_step import Parameters
from rsca_torch.ppca.extrapolation import Ascent, run_em
from rsca_torch.ppca.initialisation import first_guess, guess_of, random_guess
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.spectra.arrays import Array
from rsca_torch.spectra.blocks import Arrays, BinSums, Blocks, Joined, Noise, Source, bin_sums
from rsca_torch.spectra.spectra import as_angstrom
from rsca_torch.spectra.view import AnySpectra

__all__ = ["Basis", "EMLoop", "Products", "compress", "fit_ppca"]

Products = Literal["float64", "float32"]
Basis = Literal["inductive", "transductive"]
#: Runs EM from first parameters to its end; the arguments are those of `run_em`.
EMLoop = Callable[[Blocks, Parameters, float, int, float | None, Callable[[int, float], None] | None], Ascent]

LEAST_CLIP = (5.0, 3.0)  # isotropic, measured: below it noise is set aside, and one variance shrinks to nothing
NEARLY_COMPLETE = 0.9  # of the stars: bins that more of them have are summed over all stars, minus what is lacking
USUAL_CLIP = 5.0  # standard deviations
COUNTED_STARS = 2048  # that tell which bins are used, where each has enough of them
MOST_SET_ASIDE = 0.01  # of all valid bins: more than cosmic rays


def fit_ppca(
    flux: Array | Source,
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
    random_start: int | None = None,
    wavelength: Array | None = None,
    em_loop: EMLoop = run_em,
) -> MaskedPPCA:
    """Maximum-likelihood PPCA of spectra with invalid bins (docs/maths.md, section 1).

    Exact EM with parameter expansion and accelerated by extrapolation, from a deterministic start. Spectra are
    read in blocks, so `flux` may be memory-mapped; nothing of size stars x bins x components is made.

    Args:
        flux: (N, P) numbers, of any one unit; what stands in an invalid bin never matters, NaN and inf included. What
            is under a mask or missing (NumPy, pandas) is invalid. Or spectra that are read block by block, with valid
            and sigma of their own.
        valid: (N, P) bool, True = use. None: every finite flux (and error, where given).
        n_components: K, less than N - 1 and P.
        sigma: (N, P) standard errors in the unit of the flux: the noise of every bin is known.
        noise: "isotropic" (one unknown variance), "measured" (sigma^2) or "measured+scatter" (sigma^2 and an unknown
            variance of each bin). None: measured where sigma is given.
        tolerance: stop when an iteration gains less than this in mean log-likelihood per valid bin (nats).
        max_iterations: at most so many EM iterations; each reads all spectra once, or twice where an extrapolation is
            thrown away.
        progress: called with (iteration, mean log-likelihood per valid bin) after each iteration.
        clip: set aside bins farther than so many standard deviations from the model, here and in the model's own use
            (unflagged cosmic rays; eq. 1.12). None: none are.
        products: dtype of the large matrix products; all else, and sums over blocks, are float64. "float32" takes half
            the time and memory (docs/performance.md has the error).
        start: a model of these bins with at least n_components to start from. None: the spectra's leading axes.
        random_start: seed of loadings to start from, whatever `start` is, as the authors' program does; isotropic noise
            alone. None: a start without chance.
        wavelength: (P,) Angstrom, or with a unit, to name bins that are left out. None: their numbers.
        em_loop: what runs EM from the first guess to its end: `run_em` in this process, `LightningEM` under a Trainer.

    Raises:
        InputError: for shapes that disagree, valid bins that are not finite, K beyond what the data can carry,
            or spectra that K components fit without any noise.

    Warns:
        NumericalWarning: where bins with fewer valid stars than K + 1 are left out, EM has not converged, or more
            than 1 % of the valid bins are set aside.

    Example:
        >>> import torch
        >>> from rsca_torch import fit_ppca
        >>> generator = torch.Generator().manual_seed(0)
        >>> latents, loadings = torch.randn(200, 2, generator=generator), torch.randn(2, 9, generator=generator)
        >>> flux = 1 + latents @ loadings + 0.1 * torch.randn(200, 9, generator=generator)
        >>> flux[3, 5] = torch.nan  # not observed
        >>> model = fit_ppca(flux, n_components=2)
        >>> model  # doctest: +ELLIPSIS
        MaskedPPCA(K=2, P=9, noise=isotropic, converged in ... iterations)
        >>> round(model.noise_variance, 3), model(flux).shape
        (0.01, torch.Size([200, 2]))
    """
    source: Source = flux if hasattr(flux, "read") else Arrays(flux, valid, sigma)  # type: ignore[assignment]
    if source is flux and not (valid is None and sigma is None):
        raise InputError("spectra have valid and sigma of their own: give these with arrays alone")
    noise = noise or ("measured" if source.has_sigma else "isotropic")
    _check_options(n_components, noise, tolerance, max_iterations, clip, products)
    blocks = Blocks(source, noise, getattr(torch, products)).keep()
    _require_components(n_components, blocks.n_stars, blocks.n_bins)
    sums = bin_sums(blocks.sample(COUNTED_STARS))
    if noise != "isotropic" or not (sums.stars > n_components).all():  # else they tell enough
        sums = bin_sums(blocks)
    used = _used_bins(sums, blocks.n_stars, n_components, wavelength)
    if not used.all():
        blocks = blocks.using(used)
    if noise == "isotropic":
        blocks.nearly_complete = sums.stars > NEARLY_COMPLETE * sums.stars.max()
    theta = None
    if random_start is not None:
        theta = random_guess(blocks, sums, n_components, random_start)
    elif start is not None:
        theta = guess_of(start, n_components, noise, used)
    if theta is None:
        theta = first_guess(blocks, sums, n_components, tolerance, clip)
    ascent = em_loop(blocks, theta, tolerance, max_iterations, clip, progress)
    _say_how_it_ended(ascent, tolerance, max_iterations, clip)
    return _model(ascent, sums, used, noise, clip)


def compress(
    field: AnySpectra,
    members: AnySpectra,
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
        tolerance: as in `fit_ppca`, and so for what is explained nowhere else.
        max_iterations: see there.
        products: see there.
        basis: "inductive": fitted on the field alone, as the paper's Algorithm 1 has it, so that no member that is
            judged later takes part. "transductive": on the members too (unlabelled), as the authors' program does.
        fitted_components: fit with so many, of which the n_components longest axes are kept. None: with n_components.
        random_start: see there.
        start: see there.
        progress: see there.
        em_loop: see there.

    Raises:
        InputError: as `fit_ppca`, and where the bins differ, sigma is missing, basis is neither, or fewer components
            are fitted than kept.
    """
    if not torch.equal(field.wavelength, members.wavelength):
        raise InputError("field and members must have the same bins: Spectra.on(wavelength) brings one to the other's")
    if basis not in ("inductive", "transductive"):
        raise InputError(f"basis must be inductive or transductive, got {basis!r}")
    noise = noise or ("measured+scatter" if field.has_sigma or members.has_sigma else "isotropic")
    if noise != "isotropic" and not (field.has_sigma and members.has_sigma):
        raise InputError(f"{noise} noise needs the spectra's sigma: give it, or noise='isotropic'")
    if clip == "usual":
        clip = None if noise == "isotropic" else USUAL_CLIP
    if fitted_components is not None and fitted_components < n_components:
        raise InputError(f"fitted_components={fitted_components}: at least n_components={n_components} expected")
    model = fit_ppca(
        field if basis == "inductive" else Joined(field, members),
        n_components=fitted_components or n_components,
        noise=noise,
        tolerance=tolerance,
        max_iterations=max_iterations,
        clip=clip,
        products=products,
        start=start,
        progress=progress,
        wavelength=field.wavelength,
        em_loop=em_loop,
        random_start=random_start,
    )
    return model if fitted_components is None else model.leading(n_components)


def _check_options(
    n_components: int, noise: Noise, tolerance: float, max_iterations: int, clip: float | None, products: str
) -> None:
    if not isinstance(n_components, int):
        raise InputError(f"n_components must be a whole number, got {n_components!r}")
    if max_iterations < 1 or not tolerance >= 0:
        raise InputError(f"max_iterations >= 1 and tolerance >= 0 expected, got {max_iterations} and {tolerance}")
    if products not in ("float64", "float32"):
        raise InputError(f"products must be float64 or float32, got {products!r}")
    least = LEAST_CLIP[noise != "isotropic"]
    if clip is not None and not (isinstance(clip, int | float) and clip >= least):
        raise InputError(f"clip must be at least {least:g} standard deviations, or None for none, got {clip!r}")


def _require_components(n_components: int, n_stars: int, n_bins: int) -> None:
    limit = min(n_stars - 1, n_bins) - 1
    if not 1 <= n_components <= limit:
        raise InputError(
            f"n_components={n_components}, but {n_stars} stars with {n_bins} bins "
            f"can carry between 1 and {max(limit, 0)}"
        )


def _used_bins(sums: BinSums, n_stars: int, n_components: int, wavelength: Array | None) -> Tensor:
    """(P,) bool: the bins that enough stars have; the others are named."""
    used = sums.stars > n_components
    if not sums.stars.any():
        raise InputError(f"none of the {n_stars} x {len(used)} bins is valid: there is nothing to fit")
    if not used.all():
        _warn(
            f"{int((~used).sum())} of {len(used)} bins have fewer valid stars than components + 1 = "
            f"{n_components + 1}: left out (loading 0, mean NaN): {_names(~used, wavelength)}"
        )
        _require_components(n_components, n_stars, int(used.sum()))
    return used


def _names(bins: Tensor, wavelength: Array | None, most: int = 20) -> str:
    """The bins by wavelength, or by number."""
    names = [str(p) for p in bins.nonzero()[:, 0].tolist()]
    if wavelength is not None:
        names = [f"{angstrom:.2f}" for angstrom in as_angstrom(wavelength)[bins].tolist()]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{'bins' if wavelength is None else 'Angstrom'} {', '.join(names[:most])}{more}"


def _say_how_it_ended(ascent: Ascent, tolerance: float, max_iterations: int, clip: float | None) -> None:
    """Warn of a fit that is not what was asked for."""
    if not ascent.converged and len(ascent.history) >= max_iterations:
        gained = ascent.history[-1] - ascent.history[-2] if len(ascent.history) > 1 else math.nan
        _warn(
            f"PPCA has not converged in {len(ascent.history)} iterations: the last gained {gained:.2g} nats a bin, "
            f"the tolerance is {tolerance:g}: raise max_iterations"
        )
    elif not ascent.converged and clip is None:
        _warn(
            f"PPCA has not converged: after {len(ascent.history)} iterations rounding moves the likelihood by more "
            f"than the tolerance of {tolerance:g}: give products='float64', or raise the tolerance"
        )
    elif not ascent.converged:
        _warn(
            f"PPCA has not converged: after {len(ascent.history)} iterations what is set aside still changes the "
            f"likelihood by more than the tolerance of {tolerance:g}: use noise='measured+scatter', or a larger clip"
        )
    if ascent.share_set_aside > MOST_SET_ASIDE:
        _warn(
            f"{ascent.share_set_aside:.1%} of the valid bins are farther than {clip:g} standard deviations from the "
            "model and are set aside, more than cosmic rays are: use noise='measured+scatter', more n_components, a "
            "larger clip"
        )


def _warn(message: str) -> None:
    warnings.warn(message, NumericalWarning, stacklevel=4)  # who called fit_ppca


def _model(ascent: Ascent, sums: BinSums, used: Tensor, noise: Noise, clip: float | None) -> MaskedPPCA:
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


def _principal_axes(loadings: Tensor) -> Tensor:
    """The same W W^T with orthogonal columns, the longest first, the largest entry of each positive."""
    left, lengths, _ = torch.linalg.svd(loadings, full_matrices=False)
    axes: Tensor = left * lengths
    return axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
