"""The description of a survey's files: small dataclasses, made of YAML's mappings, each key checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from astropy.units import Unit
from numpy.typing import NDArray
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rsca_torch.errors import InputError

__all__ = ["Arm", "Continuum", "Description", "ErrorKind", "Resample", "Source", "StarTable", "Wavelength", "formula"]

T = TypeVar("T")
LAYOUTS = ("file_per_star", "row_per_star", "file_per_arm", "file_of_many")
ERRORS = ("sigma", "ivar", "variance", "relative")
GOOD = ("zero", "true_is_good", "none")
METHODS = ("running_quantile", "polynomial")


def _one_of(what: str, given: str, allowed: Sequence[str]) -> None:
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
    """

    path: str
    hdus: Sequence[int | str] = (1,)
    format: str | None = None
    ids: Sequence[str] = ()
    below: float | None = -900.0


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
        _one_of("wavelength.medium", self.medium, ("vacuum", "air"))
        _one_of("wavelength.frame", self.frame, ("rest", "barycentric"))
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
        _one_of("error.kind", self.kind, ERRORS)


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
        _one_of("continuum.method", self.method, METHODS)
        if not (self.width > 0 and 0 < self.quantile < 1 and self.degree >= 0 and self.iterations >= 0):
            raise InputError(f"description.continuum: width > 0, 0 < quantile < 1, degree >= 0 expected, got {self}")


@dataclass(frozen=True)
class Description:
    """How a survey's files look.

    Attributes:
        layout: file_per_star, row_per_star, file_per_arm or file_of_many.
        spectrum: name of the files below the root, with columns of the star table in braces, ``{arm}`` and whole parts
            as ``{healpix//100}``; of row_per_star a pattern such as ``*.csv.gz``.
        arms: by name, from short to long wavelengths.
        stars: the table of stars. None: the other columns of the spectra's own tables, of row_per_star.
        row: of file_of_many where the file keeps each row's id, {hdu, column}; of row_per_star the column.
        key: the star table's column that `row` holds. None: its name.
        missing_arms: refuse a star without a file of every arm, or leave_out: what is lacking is not valid.
        error, mask, wavelength, normalised, continuum, grid: see docs/own-data.md.
    """

    layout: str
    spectrum: str
    arms: Mapping[str, Arm]
    stars: StarTable | None = None
    row: Source | None = None
    key: str | None = None
    missing_arms: str = "refuse"
    error: ErrorKind = ErrorKind()
    mask: str | Sequence[int] = "none"
    wavelength: Wavelength = Wavelength()
    normalised: bool | Source = True
    continuum: Continuum | None = None
    grid: Resample | None = None

    def __post_init__(self) -> None:
        _one_of("layout", self.layout, LAYOUTS)
        _one_of("missing_arms", self.missing_arms, ("refuse", "leave_out"))
        if not self.arms:
            raise InputError("description.arms: one arm at least expected, as {all: {flux: .., wavelength: ..}}")
        if self.layout != "row_per_star" and self.stars is None:
            raise InputError(f"description.stars.path: layout={self.layout} needs a table of stars")
        if self.layout == "file_of_many" and self.row is None:
            raise InputError("description.row: {hdu, column} expected, where a file of many stars keeps each row's id")
        if self.layout == "file_per_arm" and "{arm}" not in self.spectrum:
            raise InputError(f"description.spectrum={self.spectrum}: {{arm}} expected where layout=file_per_arm")
        if self.normalised is False and self.continuum is None:
            raise InputError(
                "description.normalised=false: name a normaliser, as continuum: {method: running_quantile}, or say "
                "normalised: {divide_by: COLUMN} where the files hold a continuum"
            )
        if self.normalised is not False and self.continuum is not None:
            raise InputError("description.continuum: is for spectra that are not normalised; say normalised: false")
        if self.grid is None and self.wavelength.frame == "barycentric":
            raise InputError(
                "description.grid=common: at rest every star has a grid of its own where frame=barycentric; say "
                "grid: {resample: {start, step, n, log}}"
            )

    @classmethod
    def of(cls, given: str | Path | Mapping[str, Any]) -> Description:
        """A description from a file of YAML, or from what such a file holds.

        Raises:
            InputError: the file cannot be read, a key is unknown or lacks, or a value is none of what it may be.
        """
        if not isinstance(given, Mapping):
            given = _read_yaml(Path(given))
        told = {name: value for name, value in given.items() if value is not None}
        arms = {str(name): _arm(str(name), arm) for name, arm in _mapping(told.pop("arms", {}), "arms").items() if arm}
        parts: dict[str, Any] = {"arms": arms, "grid": _grid(told.pop("grid", "common"))}
        for name, kind in (("stars", StarTable), ("row", Source), ("wavelength", Wavelength), ("continuum", Continuum)):
            if name in told:
                parts[name] = _made(kind, told.pop(name), name)
        error = told.pop("error", {})
        parts["error"] = _made(ErrorKind, {"kind": error} if isinstance(error, str) else error, "error")
        parts["mask"] = _mask(told.pop("mask", "none"))
        normalised = told.pop("normalised", True)
        if isinstance(normalised, Mapping):
            normalised = _divisor(normalised)
        return _made(cls, {**told, **parts, "normalised": normalised}, "")


def formula(kind: str, start: float, step: float, n: int) -> NDArray[np.float64]:
    """(n,) start + i step, or 10 to the power of that (kind log10).

    >>> formula("log10", 3.0, 0.1, 2)
    array([1000.        , 1258.92541179])
    """
    _one_of("formula.kind", kind, ("linear", "log10"))
    values = start + step * np.arange(n)  # not arange(start, end, step): the last pixel would come and go
    return np.asarray(10.0**values if kind == "log10" else values, dtype=np.float64)


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        given = OmegaConf.to_container(OmegaConf.load(path))  # as Hydra reads it: 1e-4 is a number
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"survey.description={path}: a file of YAML expected, got: {said}") from error
    return _mapping(given, "")


def _mapping(given: Any, where: str) -> Mapping[str, Any]:  # noqa: ANN401  (whatever YAML holds)
    if not isinstance(given, Mapping):
        raise InputError(f"{_key(where)}: keys with values expected, got {given!r}")
    return given


def _key(where: str) -> str:
    return f"description.{where}" if where else "description"


def _made(kind: type[T], given: Any, where: str) -> T:  # noqa: ANN401  (whatever YAML holds)
    """A dataclass of a mapping's keys; a name alone is a column."""
    if kind is Source and isinstance(given, str):
        given = {"column": given}
    known = {field.name: field for field in fields(kind) if field.name != "name"}  # type: ignore[arg-type]
    told = {key: value for key, value in _mapping(given, where).items() if value is not None}
    if unknown := [str(key) for key in told if key not in known]:
        raise InputError(f"{_key(where)} has no key {', '.join(unknown)}; there are {', '.join(known)}")
    try:
        return kind(**told)
    except TypeError as error:
        raise InputError(f"{_key(where)}: {str(error).partition('__init__() ')[2] or error}") from None


def _arm(name: str, given: Any) -> Arm:  # noqa: ANN401  (whatever YAML holds)
    where = f"arms.{name}"
    parts = {
        key: _made(Source, value, f"{where}.{key}") if key != "range" else value
        for key, value in _mapping(given, where).items()
        if value is not None
    }
    return replace(_made(Arm, parts, where), name=name)


def _grid(given: Any) -> Resample | None:  # noqa: ANN401  (whatever YAML holds)
    if given == "common":
        return None
    if not isinstance(given, Mapping) or set(given) != {"resample"}:
        raise InputError(f"description.grid: common, or resample: {{start, step, n, log}} expected, got {given!r}")
    return _made(Resample, given["resample"], "grid.resample")


def _mask(given: Any) -> str | tuple[int, ...]:  # noqa: ANN401  (whatever YAML holds)
    if isinstance(given, Mapping) and set(given) == {"good"}:
        given = given["good"]
    if given is True:
        given = "true_is_good"
    if isinstance(given, Mapping) and set(given) == {"bits_clear"}:
        return tuple(int(bit) for bit in given["bits_clear"])
    if given not in GOOD:
        raise InputError(f"description.mask: {', '.join(GOOD)} or bits_clear: [BITS] expected, got {given!r}")
    return str(given)


def _divisor(given: Mapping[str, Any]) -> Source:
    if set(given) != {"divide_by"}:
        raise InputError(f"description.normalised: true, false or divide_by: COLUMN expected, got {dict(given)}")
    return _made(Source, given["divide_by"], "normalised.divide_by")
