"""Spectra as blocks of stars in float64, read anew on every pass of a fit; what is never used is weighted 0."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rsca_torch.arrays import Array, as_tensor
from rsca_torch.errors import InputError

__all__ = ["BinSums", "Block", "Blocks", "Noise", "bin_sums"]

Noise = Literal["isotropic", "measured"]

BLOCK_ELEMENTS = 4_000_000  # stars x bins worked on at once: 32 MB an array in float64
KEPT_ELEMENTS = 40_000_000  # spectra of no more stars x bins stay in memory in float64 between passes: 640 MB


@dataclass(frozen=True)
class Block:
    """Some stars, float64: flux (n, P), 0 where invalid; weight (n, P), 0 where invalid, else 1 or 1 / sigma^2."""

    flux: Tensor
    weight: Tensor

    def log_weight(self) -> float:
        """Sum over the valid bins."""
        return float(torch.where(self.weight > 0, self.weight, 1).log().sum())

    def n_valid(self) -> int:
        """How many valid bins."""
        return int(torch.count_nonzero(self.weight))


class Blocks:
    """The spectra as blocks of stars, read anew on every pass unless they are few."""

    def __init__(self, flux: Array, valid: Array | None, sigma: Array | None, noise: Noise) -> None:
        if flux.ndim != 2:
            raise InputError(f"flux must have shape (stars, bins), got {tuple(flux.shape)}")
        for name, given in (("valid", valid), ("sigma", sigma)):
            if given is not None and tuple(given.shape) != tuple(flux.shape):
                raise InputError(f"{name} must have the shape of flux {tuple(flux.shape)}, got {tuple(given.shape)}")
        if noise not in ("isotropic", "measured"):
            raise InputError(f"noise must be isotropic or measured, got {noise!r}")
        if noise == "measured" and sigma is None:
            raise InputError("measured noise needs sigma, the (N, P) errors of the flux: give it, or noise='isotropic'")
        self.flux, self.valid, self.sigma = flux, valid, sigma
        self.measured = noise == "measured"
        self.n_stars: int = flux.shape[0]
        self.n_bins: int = flux.shape[1]
        self.rows = max(1, BLOCK_ELEMENTS // max(1, self.n_bins))
        self.kept: list[Block] = []

    def keep(self) -> None:
        """Hold the blocks in memory where that is little."""
        if self.n_stars * self.n_bins <= KEPT_ELEMENTS:
            self.kept = list(self)

    def __iter__(self) -> Iterator[Block]:
        if self.kept:
            yield from self.kept
            return
        for first in range(0, self.n_stars, self.rows):
            yield self._block(slice(first, first + self.rows))

    def _block(self, rows: slice) -> Block:
        flux = as_tensor(self.flux[rows])
        sigma = as_tensor(self.sigma[rows]) if self.measured and self.sigma is not None else None
        if self.valid is None:
            valid = flux.isfinite() if sigma is None else flux.isfinite() & sigma.isfinite()
        else:
            valid = as_tensor(self.valid[rows]).bool()
        flux = torch.where(valid, flux, 0).double()
        weight = valid.double()
        if sigma is not None:
            sigma = torch.where(valid, sigma, 1).double()
            weight /= sigma.square()
            if not (sigma.min() > 0 and sigma.max() < torch.inf):  # false for NaN too
                raise InputError("some valid bins have an error that is not positive and finite: mark them invalid")
        if not flux.sum().isfinite():
            raise InputError("some valid bins have a flux that is not finite: mark them invalid")
        return Block(flux, weight)


@dataclass(frozen=True)
class BinSums:
    """What EM never changes: sums over the stars that have a bin valid, and over all valid bins."""

    count: Tensor  # (P,) how many stars
    weight: Tensor  # (P,)
    flux: Tensor  # (P,)
    log_weight: float


def bin_sums(blocks: Blocks) -> BinSums:
    """One pass over the spectra."""
    count = weight = flux = torch.zeros(blocks.n_bins, dtype=torch.float64)
    log_weight = 0.0
    for block in blocks:
        count = count + (block.weight > 0).sum(0)
        weight = weight + block.weight.sum(0)
        flux = flux + block.flux.sum(0)
        log_weight += block.log_weight() if blocks.measured else 0.0
    return BinSums(count, weight, flux, log_weight)
