"""Spectra: flux, error, validity, wavelength and the star table, kept in step by one method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from astropy.table import Table
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.spectra.arrays import Array, as_tensor, in_step, in_unit
from rsca_torch.spectra.bins import same_bins
from rsca_torch.spectra.labels import printable
from rsca_torch.spectra.shown import card, plots
from rsca_torch.spectra.stars import Stars

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Spectra", "as_angstrom", "row_numbers"]


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Spectra:
    """N spectra of P wavelength bins with their star table; valid by construction.

    What stands in an invalid bin is overwritten by NaN, so that code that reads one is caught at once.

    Attributes:
        flux: (N, P) continuum-normalised flux, floating point; NaN where invalid.
        valid: (N, P) bool, True = use.
        sigma: (N, P) standard error of the flux, same dtype; NaN where invalid. None: not known.
        wavelength: (P,) float64, vacuum Angstrom, rising.
        stars: N rows.

    Example:
        >>> import torch
        >>> Spectra(torch.tensor([[1.0, 0.9, torch.nan], [1.0, 0.8, 1.1]]), wavelength=[15100, 15101, 15102])
        Spectra: 2 stars, 3 bins from 15100.00 to 15102.00 Angstrom, 83.3 % valid, errors not known
    """

    flux: Tensor
    valid: Tensor
    sigma: Tensor | None
    wavelength: Tensor
    stars: Stars
    checked: ClassVar[bool] = True  # by construction
    removal: ClassVar[None] = None  # nothing is taken out of spectra in memory

    def __init__(
        self,
        flux: Array,
        valid: Array | None = None,
        sigma: Array | None = None,
        wavelength: Array | Sequence[float] | None = None,
        stars: Table | None = None,
        *,
        id: str | None = None,  # noqa: A002  (the role's name)
        group: str | None = None,
        velocity: str | None = None,
        extinction: str | None = None,
        snr: str | None = None,
        repeat_of: str | None = None,
    ) -> None:
        """Check what is given and keep it together.

        Args:
            flux: (N, P) continuum-normalised flux; whatever stands in an invalid bin. A tensor, NumPy array, pandas
                table or nested lists; what is under a mask or missing is invalid, and integers become float64.
            valid: (N, P) bool, True = use. None: every finite flux (and error, where given).
            sigma: (N, P) standard error of the flux. None: not known.
            wavelength: (P,) vacuum Angstrom, rising; a Quantity, or a column with a unit, is converted. None: the bin
                number.
            stars: N rows. None: ids "0", "1", ...
            id: the column of `stars` that names a star. None: the column "id", or what a `Stars` has in that role; the
                same for the other roles.
            group: of the group of siblings, '' for none.
            velocity: of the radial velocity, km/s.
            extinction: of the extinction, mag.
            snr: of the signal-to-noise ratio.
            repeat_of: of the id of the star that a row observes again.

        Raises:
            InputError: where the shapes disagree, a role names a column that is not there, an id comes twice, or a
                valid bin is not finite or has an error that is not positive.
        """
        flux, valid, sigma = in_step(flux, valid, sigma)
        if flux.ndim != 2:
            raise InputError(
                f"flux must be a floating-point array of shape (stars, bins), got {flux.dtype} {tuple(flux.shape)}"
            )
        sigma = None if sigma is None else sigma.to(flux.dtype)
        if valid is None:
            valid = flux.isfinite() if sigma is None else flux.isfinite() & sigma.isfinite()
        bins = torch.arange(flux.shape[1]) if wavelength is None else as_angstrom(wavelength)
        table = Table({"id": [str(n) for n in range(len(flux))]}) if stars is None else stars
        roles = {"id": id, "group": group, "velocity": velocity, "extinction": extinction, "snr": snr}
        table = Stars.of(table, **roles, repeat_of=repeat_of)
        self._check(flux, valid, sigma, bins, table)
        nan = torch.full((), torch.nan, dtype=flux.dtype)
        flux, sigma = torch.where(valid, flux, nan), None if sigma is None else torch.where(valid, sigma, nan)
        kept = {"flux": flux, "valid": valid, "sigma": sigma, "wavelength": bins.to(torch.float64), "stars": table}
        vars(self).update(kept)  # frozen

    @staticmethod
    def _check(flux: Tensor, valid: Tensor, sigma: Tensor | None, wavelength: Tensor, stars: Stars) -> None:
        if valid.shape != flux.shape or valid.dtype != torch.bool:
            raise InputError(f"valid must be bool {tuple(flux.shape)}, got {valid.dtype} {tuple(valid.shape)}")
        if sigma is not None and sigma.shape != flux.shape:
            raise InputError(f"sigma must have the shape of flux {tuple(flux.shape)}, got {tuple(sigma.shape)}")
        if wavelength.shape != flux.shape[1:]:
            raise InputError(f"wavelength must have shape {tuple(flux.shape[1:])}, got {tuple(wavelength.shape)}")
        if not (wavelength.diff() > 0).all():
            raise InputError("wavelength must rise from bin to bin: sort the bins")
        if len(stars) != len(flux):
            raise InputError(f"stars must have {len(flux)} rows, one a spectrum, got {len(stars)}")
        ids, counts = np.unique(stars.id, return_counts=True)
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

    def __repr__(self) -> str:
        errors = "not known" if self.sigma is None else "known"
        valid = float(self.valid.double().mean()) if self.valid.numel() else 0.0
        ends = f" from {self.wavelength[0]:.2f} to {self.wavelength[-1]:.2f} Angstrom" if self.n_bins else ""
        return f"Spectra: {len(self)} stars, {self.n_bins} bins{ends}, {100 * valid:.1f} % valid, errors {errors}"

    def _repr_html_(self) -> str:
        ends = f"{self.wavelength[0]:.2f} to {self.wavelength[-1]:.2f} Angstrom" if self.n_bins else None
        groups = len({*self.stars.group.tolist()} - {""}) if self.stars.has("group") else None
        rows = {
            "stars": f"{len(self):,}",
            "groups": groups,
            "bins": f"{self.n_bins:,}",
            "wavelength": ends,
            "valid": f"{100 * float(self.valid.double().mean()):.1f} %" if self.valid.numel() else None,
            "errors": "known" if self.has_sigma else "not known",
            "first": ", ".join(self.stars.id[:3].tolist()) or None,
        }
        return card("Spectra", rows)

    def plot(self, ax: Axes | None = None, rows: Any = slice(3), apart: float = 0.5) -> Axes:  # noqa: ANN401
        """Draw flux against wavelength, with gaps where bins are invalid.

        Args:
            ax: to draw on. None: new ones of `matplotlib.pyplot`.
            rows: which stars, as in `take`; the first three.
            apart: how much flux each is above the one before.

        Returns:
            The axes.

        Example:
            >>> spectra = Spectra([[1.0, 0.9, 1.0], [1.0, 0.8, 1.1]], wavelength=[15100, 15101, 15102])
            >>> spectra.plot().get_ylabel()
            'flux, each 0.5 above the one before'
        """
        some = self.take(rows)
        flux = some.flux.double().cpu().numpy() + apart * np.arange(len(some))[:, None]
        curves = {printable(star): one for star, one in zip(some.stars.id.tolist(), flux, strict=True)}
        above = f", each {apart:g} above the one before" if len(some) > 1 and apart else ""
        said = "wavelength in vacuum, Angstrom", f"flux{above}"
        axes: Axes = plots().plot_curves(ax, self.wavelength.numpy(), curves, said)
        return axes

    @property
    def n_bins(self) -> int:
        """P."""
        return self.flux.shape[1]

    @property
    def has_sigma(self) -> bool:
        """Whether the errors are known."""
        return self.sigma is not None

    def read(self, stars: Any) -> tuple[Tensor, Tensor, Tensor | None]:  # noqa: ANN401  (a slice, or row numbers)
        """(flux, valid, sigma) of some stars, each (n, P)."""
        return self.flux[stars], self.valid[stars], None if self.sigma is None else self.sigma[stars]

    @property
    def star_id(self) -> NDArray[np.str_]:
        """The N star ids."""
        return self.stars.id

    def take(self, rows: Any) -> Spectra:  # noqa: ANN401  (whatever indexes an array)
        """The given stars: a bool mask, integers or a slice; everything moves together."""
        rows = row_numbers(len(self), rows)
        return Spectra(*self.read(torch.from_numpy(np.ascontiguousarray(rows))), self.wavelength, self.stars[rows])

    def on(self, wavelength: Array) -> Spectra:
        """The same stars on other bins of the same grid; bins that these spectra lack are invalid.

        Raises:
            InputError: another grid, as `bins.same_bins` says it.
        """
        wavelength = as_angstrom(wavelength)
        if torch.equal(wavelength, self.wavelength):
            return self
        place, found = same_bins(self.wavelength, wavelength)
        sigma = None if self.sigma is None else self.sigma[:, place]
        return Spectra(self.flux[:, place], self.valid[:, place] & found, sigma, wavelength, self.stars)


def row_numbers(n_stars: int, rows: Any) -> NDArray[np.int64]:  # noqa: ANN401  (whatever indexes an array)
    """The numbers of some of N rows: a bool mask, integers or a slice; of an empty list none.

    >>> row_numbers(3, [True, False, True]), row_numbers(3, [])
    (array([0, 2]), array([], dtype=int64))
    """
    every = np.arange(n_stars)
    if isinstance(rows, slice):
        return every[rows]
    chosen = np.asarray(rows)
    return every[chosen if chosen.size else slice(0)]


def as_angstrom(wavelength: Array | Sequence[float]) -> Tensor:
    """(P,) float64 vacuum Angstrom: bare numbers are; a Quantity, or a column with a unit, is converted.

    Raises:
        InputError: where the unit is none of a wavelength.
    """
    return as_tensor(in_unit(wavelength, "Angstrom", "wavelength")).to(torch.float64)
