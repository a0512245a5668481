"""Held-out bins of real giants: `python experiments/real/giants_671.py FILE [--splits 10] [--components 5 ... 50]`.

FILE holds `flux`, `err` (N, P) and `snr` (N,) of real spectra (.npz). A share of the valid bins (error of 0.05 at most,
the paper's rule) is held out, step 1 is fitted on the rest with every kind of noise, and each held-out bin is
predicted from the other bins of its star: a normal distribution whose variance is that of the latents and the noise.
Prints, as Markdown, the log-likelihood per held-out bin and how often the flux lies within 1, 2 and 3 standard
deviations of its prediction, mean and standard deviation over random splits; then the same by S/N at K = 30.
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import NumericalWarning
from rsca_torch.ppca.fit import fit_ppca
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.spectra.blocks import Arrays

LARGEST_ERROR = 0.05  # the paper's; above it a bin is invalid
NOISES = ("isotropic", "measured", "measured+scatter")
PAPER = 30  # components
CLIP = 5.0  # standard deviations, as in conf/compressor/ppca.yaml
WITHIN = {1: 0.6827, 2: 0.9545, 3: 0.9973}  # standard deviations: share of normal numbers


@dataclass(frozen=True)
class Giants:
    """Real spectra, (N, P)."""

    flux: Tensor
    sigma: Tensor
    valid: Tensor
    snr: NDArray[np.float64]

    @classmethod
    def of(cls, path: Path) -> Giants:
        """As the file has them."""
        with np.load(path) as kept:
            flux, sigma = (torch.from_numpy(kept[name]).double() for name in ("flux", "err"))
            snr = kept["snr"].astype(float)
        valid = flux.isfinite() & sigma.isfinite() & (sigma > 0) & (sigma <= LARGEST_ERROR)
        return cls(flux, sigma, valid, snr)

    def held_out(self, share: float, seed: int) -> Tensor:
        """(N, P) bool, random valid bins."""
        random = torch.from_numpy(np.random.default_rng(seed).random(self.flux.shape))
        return self.valid & (random < share)


@dataclass(frozen=True)
class Predicted:
    """Of n held-out bins: flux minus the prediction in standard deviations, log-likelihood, and which star it is of."""

    deviation: NDArray[np.float64]
    likelihood: NDArray[np.float64]
    star: NDArray[np.int64]

    def within(self, sigmas: int) -> float:
        """Share of bins no farther than that from their prediction."""
        return float((abs(self.deviation) <= sigmas).mean())


def predicted(model: MaskedPPCA, giants: Giants, held_out: Tensor) -> Predicted:
    """Held-out bins from the other valid ones of the same star: N(W zbar + mean, W C W^T + noise)."""
    found = model.embed(Arrays(giants.flux, giants.valid & ~held_out, giants.sigma), covariances=True)
    assert found.covariances is not None
    loadings = model.loadings
    mean = found.latents @ loadings.T + model.mean
    of_latents = torch.einsum("pk,nkl,pl->np", loadings, found.covariances, loadings)
    own = 0.0 if model.noise == "isotropic" else giants.sigma.square()
    variance = (of_latents + model.scatter + own)[held_out]
    deviation = (giants.flux - mean)[held_out] / variance.sqrt()
    likelihood = -0.5 * (deviation.square() + variance.log() + math.log(2 * math.pi))
    star = held_out.nonzero()[:, 0]
    return Predicted(deviation.numpy(), likelihood.numpy(), star.numpy())


def fitted(giants: Giants, used: Tensor, noise: str, clip: float | None, n_components: int) -> MaskedPPCA:
    """Step 1 of the bins that are used."""
    options = {"clip": clip, "tolerance": 1e-5, "max_iterations": 1000, "products": "float64"}
    return fit_ppca(giants.flux, used, n_components, giants.sigma, noise, **options)


def said(of_each: Sequence[Predicted], number: Callable[[Predicted], float], form: str) -> str:
    """Mean and standard deviation over splits."""
    each = np.array([number(one) for one in of_each])
    return f"{each.mean():{form}} ± {each.std(ddof=1):{form.lstrip('+')}}"


def row(of_each: Sequence[Predicted], likeliest: Sequence[Predicted]) -> str:
    """Likelihood, what it lacks to the likeliest in pairs, coverage."""
    lacking = [
        Predicted(np.zeros(1), one.likelihood - best.likelihood, one.star)
        for one, best in zip(of_each, likeliest, strict=True)
    ]
    numbers = [said(of_each, lambda one: float(one.likelihood.mean()), ".3f")]
    numbers.append("" if of_each is likeliest else said(lacking, lambda one: float(one.likelihood.mean()), "+.3f"))
    numbers += [said(of_each, lambda one, sigmas=sigmas: 100 * one.within(sigmas), ".1f") for sigmas in WITHIN]
    return " | ".join(numbers)


def print_table(of_all: dict[str, list[Predicted]], best: str) -> None:
    """As Markdown."""
    shares = " | ".join(f"within {sigmas} sigma, % ({100 * share:.1f})" for sigmas, share in WITHIN.items())
    print(f"| noise | log-likelihood per held-out bin | minus the likeliest | {shares} |")
    print("|---|---|---|---|---|---|")
    for name, of_each in of_all.items():
        print(f"| {name} | {row(of_each, of_all[best])} |")


def print_by_snr(giants: Giants, of_all: dict[str, list[Predicted]]) -> None:
    """Coverage in thirds of the stars."""
    edges = np.quantile(giants.snr, [0, 1 / 3, 2 / 3, 1])
    shares = " | ".join(f"within {sigmas} sigma, %" for sigmas in WITHIN)
    print(f"\n| noise | S/N | {shares} | spread of (flux - prediction) / sigma |")
    print("|---|---|---|---|---|---|")
    for name, of_each in of_all.items():
        for low, high in pairwise(edges):
            inside = (giants.snr >= low) & ((giants.snr < high) | (high == edges[-1]))
            some = [
                Predicted(one.deviation[here], one.likelihood[here], one.star[here])
                for one in of_each
                for here in [inside[one.star]]
            ]
            numbers = [said(some, lambda one, sigmas=sigmas: 100 * one.within(sigmas), ".1f") for sigmas in WITHIN]
            numbers.append(said(some, lambda one: float(one.deviation.std()), ".2f"))
            print(f"| {name} | {low:.0f} to {high:.0f} | {' | '.join(numbers)} |")


def main() -> None:
    """Fit, predict, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.05, help="of the valid bins, held out")
    parser.add_argument("--components", type=int, nargs="+", default=[5, 10, 20, 30, 40, 50])
    given = parser.parse_args()
    giants = Giants.of(given.file)
    masks = [giants.held_out(given.share, seed) for seed in range(given.splits)]
    print(
        f"{len(giants.flux)} stars x {giants.flux.shape[1]} bins, {int(giants.valid.sum())} valid; "
        f"{given.splits} splits, {np.mean([int(mask.sum()) for mask in masks]):.0f} bins held out in each\n"
    )
    of_all: dict[str, list[Predicted]] = {}
    for noise in NOISES:
        for clip in (None, CLIP):
            for number in given.components:
                name = f"{noise}{'' if clip is None else f', clip {clip:g}'}, K = {number}"
                with warnings.catch_warnings(record=True) as notes:
                    warnings.simplefilter("always", NumericalWarning)
                    of_all[name] = [
                        predicted(fitted(giants, giants.valid & ~mask, noise, clip, number), giants, mask)
                        for mask in masks
                    ]
                for note in {str(note.message) for note in notes}:
                    print(f"{name}: {note}", file=sys.stderr)
    best = max(of_all, key=lambda name: float(np.mean([one.likelihood.mean() for one in of_all[name]])))
    print_table(of_all, best)
    number = PAPER if PAPER in given.components else max(given.components)
    print_by_snr(giants, {name: of_all[name] for name in (f"{noise}, K = {number}" for noise in NOISES)})


if __name__ == "__main__":
    main()
