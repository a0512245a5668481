"""Spectra: flux, error, validity, wavelength and the star table, kept in step by one method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from astropy.table import Table
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.spectra.arrays import as_tensor

__all__ = ["Spectra"]

SAME_BIN = 1e-7  # relative; bins of a spectrum lie 1e-5 apart


@dataclass(frozen=True, eq=False)
class Spectra:
    """N spectra of P wavelength bins with their star table; valid by construction.

    What stands in an invalid bin is overwritten by NaN, so that code that reads one is caught at once.

    Attributes:
        flux: (N, P) continuum-normalised flux, floating point; NaN where invalid.
        valid: (N, P) bool, True = use. None: every finite flux (and error, where given).
        sigma: (N, P) standard error of the flux, same dtype; NaN where invalid. None: not known.
        wavelength: (P,) float64, vacuum Angstrom, rising. None: the bin number.
        stars: N rows, at least APOGEE_ID. None: ids "0", "1", ...

    Raises:
        InputError: where the shapes disagree, an id comes twice, or a valid bin is not finite
            or has an error that is not positive.
    """

    flux: Tensor
    valid: Tensor = None  # type: ignore[assignment]  # None is replaced in __post_init__
    sigma: Tensor | None = None
    wavelength: Tensor = None  # type: ignore[assignment]  # None is replaced in __post_init__
    stars: Table = field(default=None, repr=False)

    def __post_init__(self) -> None:
        flux = as_tensor(self.flux)
        if flux.ndim != 2 or not flux.is_floating_point():
            raise InputError(
                f"flux must be a floating-point array of shape (stars, bins), got {flux.dtype} {tuple(flux.shape)}"
            )
        sigma = None if self.sigma is None else as_tensor(self.sigma).to(flux.dtype)
        valid = flux.isfinite() if self.valid is None else as_tensor(self.valid)
        if self.valid is None and sigma is not None:
            valid = valid & sigma.isfinite()
        wavelength = torch.arange(flux.shape[1]) if self.wavelength is None else as_tensor(self.wavelength)
        stars = Table({"APOGEE_ID": [str(n) for n in range(len(flux))]}) if self.stars is None else self.stars
        self._check(flux, valid, sigma, wavelength, stars)
        nan = torch.full((), torch.nan, dtype=flux.dtype)
        object.__setattr__(self, "flux", torch.where(valid, flux, nan))
        object.__setattr__(self, "valid", valid)
        object.__setattr__(self, "sigma", None if sigma is None else torch.where(valid, sigma, nan))
        object.__setattr__(self, "wavelength", wavelength.to(torch.float64))
        object.__setattr__(self, "stars", stars)

    @staticmethod
    def _check(flux: Tensor, valid: Tensor, sigma: Tensor | None, wavelength: Tensor, stars: Table) -> None:
        if valid.shape != flux.shape or valid.dtype != torch.bool:
            raise InputError(f"valid must be bool {tuple(flux.shape)}, got {valid.dtype} {tuple(valid.shape)}")
        if sigma is not None and sigma.shape != flux.shape:
            raise InputError(f"sigma must have the shape of flux {tuple(flux.shape)}, got {tuple(sigma.shape)}")
        if wavelength.shape != flux.shape[1:]:
            raise InputError(f"wavelength must have shape {tuple(flux.shape[1:])}, got {tuple(wavelength.shape)}")
        if not (wavelength.diff() > 0).all():
            raise InputError("wavelength must rise from bin to bin: sort the bins")
        if len(stars) != len(flux) or "APOGEE_ID" not in stars.colnames:
            raise InputError(
                f"stars must have {len(flux)} rows and a column APOGEE_ID, got {len(stars)} rows with {stars.colnames}"
            )
        ids, counts = np.unique(np.asarray(stars["APOGEE_ID"], dtype=str), return_counts=True)
        if (counts > 1).any():
            raise InputError(
                f"{(counts > 1).sum()} star ids come more than once (first: {ids[counts > 1][0]}); keep one row a star"
            )
        if not flux[valid].isfinite().all():
            raise InputError(f"{(~flux[valid].isfinite()).sum()} valid bins have a flux that is not finite")
        if sigma is not None and not ((sigma[valid] > 0) & sigma[valid].isfinite()).all():
            bad = (~((sigma[valid] > 0) & sigma[valid].isfinite())).sum()
            raise InputError(f"{bad} valid bins have an error that is not positive and finite")

    def __len__(self) -> int:
        return len(self.flux)

    @property
    def n_bins(self) -> int:
        """P."""
        return self.flux.shape[1]

    @property
    def has_sigma(self) -> bool:
        """Whether the errors are known."""
        return self.sigma is not None

    @property
    def checked(self) -> bool:
        """By construction."""
        return True

    def read(self, stars: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        """(flux, valid, sigma) of some stars, each (n, P)."""
        return self.flux[stars], self.valid[stars], None if self.sigma is None else self.sigma[stars]

    @property
    def star_id(self) -> np.ndarray[Any, np.dtype[np.str_]]:
        """The N star ids (APOGEE_ID)."""
        return np.asarray(self.stars["APOGEE_ID"], dtype=str)

    def take(self, rows: Any) -> Spectra:  # noqa: ANN401  (whatever indexes an array)
        """The given stars: a bool mask, integers or a slice; everything moves together."""
        rows = np.arange(len(self))[rows if isinstance(rows, slice) else np.asarray(rows)]
        index = torch.from_numpy(np.ascontiguousarray(rows))
        return Spectra(
            self.flux[index],
            self.valid[index],
            None if self.sigma is None else self.sigma[index],
            self.wavelength,
            self.stars[rows],
        )

    def on(self, wavelength: Tensor) -> Spectra:
        """The same stars on other bins of the same grid; bins that these spectra lack are invalid.

        Raises:
            InputError: where not a single bin coincides (to 1e-7 of the wavelength): another grid.
        """
        if torch.equal(wavelength, self.wavelength):
            return self
        place = torch.searchsorted(self.wavelength, wavelength).clamp(max=len(self.wavelength) - 1)
        before = (place - 1).clamp(min=0)
        nearer = (self.wavelength[before] - wavelength).abs() < (self.wavelength[place] - wavelength).abs()
        place = torch.where(nearer, before, place)
        found = (self.wavelength[place] - wavelength).abs() <= SAME_BIN * wavelength.abs()
        if not found.any():
            raise InputError(
                f"none of the {len(wavelength)} wavelengths is among the spectra's {len(self.wavelength)} bins "
                f"({float(self.wavelength[0]):.2f} to {float(self.wavelength[-1]):.2f}): another wavelength grid"
            )
        sigma = None if self.sigma is None else self.sigma[:, place]
        return Spectra(self.flux[:, place], self.valid[:, place] & found, sigma, wavelength, self.stars)
