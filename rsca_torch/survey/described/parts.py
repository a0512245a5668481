"""The parts of a description: where an array lies, what wavelengths and errors are, continuum, grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.units import Unit
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.survey.described.ratios import Ratios

__all__ = ["Arm", "Continuum", "ErrorKind", "Resample", "Source", "StarTable", "Wavelength", "formula", "one_of"]

ERRORS = ("sigma", "ivar", "variance", "relative")
METHODS = ("running_quantile", "polynomial")


def one_of(what: str, given: str, allowed: Sequence[str]) -> None:
    """Refuse what is none of the values that a key of a description may have."""
    if given not in allowed:
        raise InputError(f"description.{what}: {', '.join(allowed[:-1])} or {allowed[-1]} expected, got {given!r}")


@dataclass(frozen=True)
class Source:
    """Where one array lies.

    Attributes:
        hdu: of a FITS file, its number or name. None: 1 where there is a column, else 0.
        column: of a table, or the data set of a file of arrays, in any case. None: the HDU is an image.
        index: which row of an image of a single star (LAMOST kept flux, ivar and wavelength as rows of one).
        header: [start, step, reference pixel], cards of the HDU's header: a linear grid as FITS defines it.
        formula: {kind: linear or log10, start, step, n}: pixel i is at start + i step, or 10 to the power of that.
        shared: the array is the same for all stars of the file.
        wavelength: [start, step, reference pixel] of an array that has another grid than the flux: it is interpolated.
    """

    hdu: int | str | None = None
    column: str | None = None
    index: int | None = None
    header: Sequence[str] | None = None
    formula: Mapping[str, Any] | None = None
    shared: bool = False
    wavelength: Sequence[str] | None = None


@dataclass(frozen=True)
class Arm:
    """One arm of a spectrograph, or all of the spectrum where there is but one.

    Attributes:
        flux, wavelength, error, mask: where they lie. No error or mask: there is none.
        range: [first, last] vacuum Angstrom that are used. None: all.
        name: stands for ``{arm}`` in the names of files.
    """

    flux: Source
    wavelength: Source
    error: Source
    mask: Source | None = None
    range: Sequence[float] | None = None
    name: str = ""


@dataclass(frozen=True)
class StarTable:
    """The table of stars.

    Attributes:
        path: below the root, or absolute.
        hdus: tables of a FITS file whose rows match; of two columns of one name the first counts.
        format: as astropy names it, or ``pandas.NAME`` for what pandas reads as read_NAME. None: by the file's name.
        ids: columns that are ids, which are never read as floating point.
        below: numbers below it are missing. None: none are.
        keep: columns that a store keeps, besides those that play roles and name files. None: all.
        abundances: where [X/Fe] are, of which [X/H] are made. None: columns are taken as they are.
    """

    path: str
    hdus: Sequence[int | str] = (1,)
    format: str | None = None
    ids: Sequence[str] = ()
    below: float | None = -900.0
    abundances: Ratios | None = None
    keep: Sequence[str] | None = None


@dataclass(frozen=True)
class Wavelength:
    """What the wavelengths are.

    Attributes:
        unit: as astropy names it.
        medium: vacuum or air.
        frame: rest, or barycentric; then `velocity` is the column of the star table that takes it to rest, km/s.
        velocity: see there.
    """

    unit: str = "Angstrom"
    medium: str = "vacuum"
    frame: str = "rest"
    velocity: str | None = None

    def __post_init__(self) -> None:
        one_of("wavelength.medium", self.medium, ("vacuum", "air"))
        one_of("wavelength.frame", self.frame, ("rest", "barycentric"))
        if (self.frame == "barycentric") != (self.velocity is not None):
            raise InputError(
                "description.wavelength: frame=barycentric needs velocity=COLUMN, the star's velocity in km/s, and "
                f"frame=rest has none; got frame={self.frame}, velocity={self.velocity}"
            )
        try:
            Unit(self.unit).to("Angstrom")
        except (ValueError, TypeError) as error:
            raise InputError(f"description.wavelength.unit: a unit of length expected, got {self.unit!r}") from error


@dataclass(frozen=True)
class Resample:
    """A grid of its own for all stars.

    Attributes:
        start: first bin's centre, vacuum Angstrom.
        step: Angstrom; with `log` the step of the logarithm to base 10.
        n: number of bins.
        log: bins of equal width in velocity.
    """

    start: float
    step: float
    n: int
    log: bool = True

    def __post_init__(self) -> None:
        if not (self.start > 0 and self.step > 0 and self.n > 1):
            raise InputError(f"description.grid.resample: start, step > 0 and n > 1 expected, got {self}")

    def wavelength(self) -> NDArray[np.float64]:
        """(n,) vacuum Angstrom."""
        kind, start = ("log10", np.log10(self.start)) if self.log else ("linear", self.start)
        return formula(kind, float(start), self.step, self.n)


@dataclass(frozen=True)
class ErrorKind:
    """What the files call an error.

    Attributes:
        kind: sigma, ivar, variance, or relative: sigma over the flux.
        largest: a pixel whose error is more than so many times the median flux of its arm is bad, whatever its mask
            says: files write an ivar of 1e-20 for "not measured".
    """

    kind: str = "sigma"
    largest: float = 1.0

    def __post_init__(self) -> None:
        one_of("error.kind", self.kind, ERRORS)


@dataclass(frozen=True)
class Continuum:
    """The normaliser of spectra that are not normalised (docs/own-data.md says what each does to a spectrum).

    Attributes:
        method: running_quantile or polynomial.
        width: of the window, Angstrom, for running_quantile.
        quantile: 0 to 1, for running_quantile.
        degree: of the Chebyshev polynomial.
        below, above: pixels so many standard deviations below or above the polynomial are left out.
        iterations: how often.
    """

    method: str
    width: float = 100.0
    quantile: float = 0.9
    degree: int = 5
    below: float = 1.0
    above: float = 3.0
    iterations: int = 10

    def __post_init__(self) -> None:
        one_of("continuum.method", self.method, METHODS)
        if not (self.width > 0 and 0 < self.quantile < 1 and self.degree >= 0 and self.iterations >= 0):
            raise InputError(f"description.continuum: width > 0, 0 < quantile < 1, degree >= 0 expected, got {self}")


def formula(kind: str, start: float, step: float, n: int) -> NDArray[np.float64]:
    """(n,) start + i step, or 10 to the power of that (kind log10).

    >>> formula("log10", 3.0, 0.1, 2)
    array([1000.        , 1258.92541179])
    """
    one_of("formula.kind", kind, ("linear", "log10"))
    values = start + step * np.arange(n)  # not arange(start, end, step): the last pixel would come and go
    return np.asarray(10.0**values if kind == "log10" else values, dtype=np.float64)
