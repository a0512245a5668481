"""The description of a survey's files: small dataclasses, made of YAML's mappings, each key checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rsca_torch.errors import InputError
from rsca_torch.files.checked import require_plain_yaml
from rsca_torch.survey.described.parts import (
    Arm,
    Continuum,
    ErrorKind,
    Resample,
    Source,
    StarTable,
    Wavelength,
    one_of,
)
from rsca_torch.survey.described.ratios import Ratios

__all__ = ["Description"]

T = TypeVar("T")
LAYOUTS = ("file_per_star", "row_per_star", "file_per_arm", "file_of_many")
GOOD = ("zero", "true_is_good", "none")


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
    error: ErrorKind = field(default_factory=ErrorKind)
    mask: str | Sequence[int] = "none"
    wavelength: Wavelength = field(default_factory=Wavelength)
    normalised: bool | Source = True
    continuum: Continuum | None = None
    grid: Resample | None = None

    def __post_init__(self) -> None:
        one_of("layout", self.layout, LAYOUTS)
        one_of("missing_arms", self.missing_arms, ("refuse", "leave_out"))
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
        if isinstance(told.get("stars"), Mapping) and told["stars"].get("abundances") is not None:
            ratios = _made(Ratios, told["stars"]["abundances"], "stars.abundances")
            told["stars"] = {**told["stars"], "abundances": ratios}
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


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise ValueError("no file")
        require_plain_yaml(path.read_text(encoding="utf-8"))
        given = OmegaConf.to_container(OmegaConf.load(path))  # as Hydra reads it: 1e-4 is a number
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        said = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
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
    known = {one.name: one for one in fields(kind) if one.name != "name"}  # type: ignore[arg-type]
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
