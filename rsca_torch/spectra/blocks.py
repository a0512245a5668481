"""Spectra as blocks of stars, read anew in every iteration of a fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.spectra.arrays import Array, all_finite, as_rows, in_step

__all__ = ["Arrays", "BinSums", "Block", "Blocks", "Joined", "Noise", "Source", "bin_sums"]

Noise = Literal["isotropic", "measured", "measured+scatter"]
NOISES = ("isotropic", "measured", "measured+scatter")

BLOCK_STARS = 4096  # at once, at most: so many are summed in float32 where the products are
BLOCK_ELEMENTS = 2_000_000  # stars x bins worked on at once: 8 MB an array in float32, which stays in the cache
KEPT_BYTES = 800_000_000  # spectra that need no more stay in memory, ready, between iterations

Some = slice | NDArray[np.int64]  # stars, as a slice or by their numbers
Rows = tuple[Tensor, Tensor | None, Tensor | None]


class Source(Protocol):
    """N spectra of P bins that can be read by slices of stars, in memory or not.

    >>> source: Source = Arrays(torch.ones(5, 3))
    >>> flux, valid, sigma = source.read(slice(0, 2))
    >>> flux.shape
    torch.Size([2, 3])
    """

    @property
    def n_bins(self) -> int:
        """P."""

    @property
    def has_sigma(self) -> bool:
        """Whether the errors are known."""

    @property
    def checked(self) -> bool:
        """Whether every valid bin is known to be finite, with a positive error."""

    def __len__(self) -> int: ...

    def read(self, stars: Some) -> Rows:
        """(flux, valid or None, sigma or None), each (n, P)."""


class Arrays:
    """Arrays as a source; memory-mapped ones are read as they are needed.

    Args:
        flux: (N, P) numbers; what stands in an invalid bin never matters. What is under a mask or missing is invalid.
        valid: (N, P) bool, True = use. None: every finite flux (and error, where given).
        sigma: (N, P) standard errors, in the unit of the flux. None: not known.

    Raises:
        InputError: where the shapes disagree.

    Example:
        >>> source = Arrays(torch.ones(5, 3))
        >>> len(source), source.n_bins, source.has_sigma
        (5, 3, False)
    """

    checked = False

    def __init__(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> None:
        flux = as_rows(flux)
        valid, sigma = (None if array is None else as_rows(array) for array in (valid, sigma))
        if flux.ndim != 2:
            raise InputError(f"flux must have shape (stars, bins), got {tuple(flux.shape)}")
        for name, given in (("valid", valid), ("sigma", sigma)):
            if given is not None and tuple(given.shape) != tuple(flux.shape):
                raise InputError(f"{name} must have the shape of flux {tuple(flux.shape)}, got {tuple(given.shape)}")
        self.flux, self.valid, self.sigma = flux, valid, sigma
        self.n_bins: int = flux.shape[1]
        self.has_sigma = sigma is not None

    def __len__(self) -> int:
        return int(self.flux.shape[0])

    def read(self, stars: Some) -> Rows:
        """(flux, valid or None, sigma or None), each (n, P)."""
        valid, sigma = (None if array is None else array[stars] for array in (self.valid, self.sigma))
        return in_step(self.flux[stars], valid, sigma)


class Joined:
    """The stars of two sources with the same bins, one after the other.

    >>> both = Joined(Arrays(torch.zeros(2, 3)), Arrays(torch.ones(2, 3)))
    >>> both.read(slice(1, 3))[0]
    tensor([[0., 0., 0.],
            [1., 1., 1.]])
    """

    def __init__(self, first: Source, second: Source) -> None:
        self.parts = first, second
        self.n_bins = first.n_bins
        self.has_sigma = first.has_sigma and second.has_sigma
        self.checked = first.checked and second.checked

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def read(self, stars: Some) -> Rows:
        """(flux, valid or None, sigma or None), each (n, P)."""
        (first, second), rows = self.parts, np.arange(len(self))[stars]
        early = rows < len(first)
        flux, valid, sigma = first.read(rows[early])
        more_flux, more_valid, more_sigma = second.read(rows[~early] - len(first))
        return torch.cat([flux, more_flux]), _joined(valid, more_valid), _joined(sigma, more_sigma)


def _joined(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else torch.cat([first, second])


class Block(NamedTuple):
    """Some stars.

    >>> Block(torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.bool), None, n_valid=2).to("cpu").n_valid
    2
    """

    flux: Tensor  # (n, P), 0 where invalid
    unused: Tensor  # (n, P) bool, not valid
    noise: Tensor | None  # (n, P) known variance, inf where invalid; None: none is known
    n_valid: int
    nearly_complete: Tensor | None = None  # (P,) bool, bins that few stars lack; None: not looked for

    def to(self, device: torch.device | str) -> Block:
        """The same on a device."""
        noise, bins = (part if part is None else part.to(device) for part in (self.noise, self.nearly_complete))
        return Block(self.flux.to(device), self.unused.to(device), noise, self.n_valid, bins)


class Blocks:
    """Spectra in blocks of stars, in the dtype of the products that are made of them.

    Args:
        source: where the spectra come from.
        noise: "isotropic": none is known; else sigma^2 is, and must be given.
        dtype: of flux and noise in the blocks.
        stars: which, as a range; None: all.
        used: (P,) bool, the bins that are used. None: all.

    Attributes:
        n_stars: N.
        n_bins: P.
        nearly_complete: (P,) bool, the bins that few stars lack; None: not looked for.

    Raises:
        InputError: for another noise, errors that are not there, and, as it is read, a valid bin that is not finite or
            has no positive error.

    Example:
        >>> blocks = Blocks(Arrays(torch.tensor([[1.0, torch.nan], [2.0, 3.0]])), "isotropic")
        >>> [(block.flux, block.n_valid) for block in blocks]
        [(tensor([[1., 0.],
                [2., 3.]], dtype=torch.float64), 3)]
    """

    def __init__(
        self,
        source: Source,
        noise: Noise,
        dtype: torch.dtype = torch.float64,
        stars: range | None = None,
        used: Tensor | None = None,
    ) -> None:
        if noise not in NOISES:
            raise InputError(f"noise must be {', '.join(NOISES[:-1])} or {NOISES[-1]}, got {noise!r}")
        if noise != "isotropic" and not source.has_sigma:
            raise InputError(f"{noise} noise needs sigma, the (N, P) errors of the flux: give it, or noise='isotropic'")
        self.source, self.noise, self.dtype, self.used = source, noise, dtype, used
        self.nearly_complete: Tensor | None = None
        self.stars = range(len(source)) if stars is None else stars
        self.n_stars, self.n_bins = len(self.stars), source.n_bins
        self.rows = max(1, min(BLOCK_STARS, BLOCK_ELEMENTS // max(1, source.n_bins)))
        self._kept: dict[int, Block] | None = None

    def sample(self, size: int) -> Blocks:
        """About `size` of the stars, evenly spaced."""
        step = max(1, self.n_stars // size)
        few = Blocks(self.source, self.noise, self.dtype, self.stars[::step], self.used)
        few.nearly_complete = self.nearly_complete
        return few.keep()

    def using(self, bins: Tensor) -> Blocks:
        """The same stars, these bins alone."""
        return Blocks(self.source, self.noise, self.dtype, self.stars, bins).keep()

    def keep(self) -> Blocks:
        """Hold the blocks in memory once they are read, where that is little."""
        size = self.n_stars * self.n_bins * 2 * torch.finfo(self.dtype).bits // 8
        self._kept = {} if size <= KEPT_BYTES else None
        return self

    def __getstate__(self) -> dict[str, Any]:
        """For another process: read there, not copied."""
        return {**self.__dict__, "_kept": None if self._kept is None else {}}

    def __len__(self) -> int:
        return -(-self.n_stars // self.rows)

    def __getitem__(self, index: int) -> Block:
        if not 0 <= index < len(self):
            raise IndexError(index)
        block = None if self._kept is None else self._kept.get(index)
        if block is None:
            block = self._read(self.stars[index * self.rows : (index + 1) * self.rows])
        if self._kept is not None:
            self._kept[index] = block
        return block._replace(nearly_complete=self.nearly_complete)

    def __iter__(self) -> Iterator[Block]:
        return (self[index] for index in range(len(self)))

    def _read(self, stars: range) -> Block:
        flux, valid, sigma = self.source.read(slice(stars.start, stars.stop, stars.step))
        if self.noise == "isotropic":
            sigma = None
        if valid is None:
            valid = flux.isfinite() if sigma is None else flux.isfinite() & sigma.isfinite()
        unused = ~valid.bool() if self.used is None else ~(valid.bool() & self.used)
        flux = torch.where(unused, 0, flux).to(self.dtype)
        if not self.source.checked:
            _check(flux, unused, sigma)
        noise = None if sigma is None else sigma.to(self.dtype).square().masked_fill_(unused, torch.inf)
        return Block(flux, unused, noise, unused.numel() - int(torch.count_nonzero(unused)))


def _check(flux: Tensor, unused: Tensor, sigma: Tensor | None) -> None:
    if sigma is not None and not ((sigma > 0) & (sigma < torch.inf)).logical_or_(unused).all():
        raise InputError("some valid bins have an error that is not positive and finite: mark them invalid")
    if not all_finite(flux):
        raise InputError("some valid bins have a flux that is not finite: mark them invalid")


class BinSums(NamedTuple):
    """Of every bin (P,), float64, over the stars that have it valid.

    >>> sums = bin_sums(Blocks(Arrays(torch.tensor([[1.0, torch.nan], [2.0, 3.0]])), "isotropic"))
    >>> sums.flux / sums.stars
    tensor([1.5000, 3.0000], dtype=torch.float64)
    """

    stars: Tensor  # how many
    flux: Tensor  # sum
    noise: Tensor  # sum of sigma^2
    precision: Tensor  # sum of 1 / sigma^2; inf for isotropic noise


def bin_sums(blocks: Blocks) -> BinSums:
    """Of all stars.

    >>> bin_sums(Blocks(Arrays(torch.tensor([[1.0, torch.nan], [2.0, 3.0]])), "isotropic")).stars
    tensor([2., 1.], dtype=torch.float64)
    """
    sums = BinSums(*torch.zeros(4, blocks.n_bins, dtype=torch.float64))
    for flux, unused, noise, _, _ in blocks:
        sums.stars.add_(len(flux) - unused.sum(0))
        sums.flux.add_(flux.sum(0))
        sums.noise.add_(0 if noise is None else noise.masked_fill(unused, 0).sum(0))
        sums.precision.add_(torch.inf if noise is None else noise.reciprocal().sum(0))
    return sums
