"""The store: trusted spectra on disk, memory-mapped, with their star table and where they come from (docs/data.md).

A folder, written once: ``flux.npy`` and ``error.npy`` (float32 (N, P), raw), ``stars.fits`` and the same of further
observations of these stars, ``repeats_flux.npy``, ``repeats_error.npy`` and ``repeats.fits`` (R rows, 0 where there are
none), and of stars of groups besides clusters, ``groups_*`` (not there where there are none); ``wavelength.npy`` (P,),
``bins.npy`` (their P pixels on the survey's grid), ``selection.json``, ``removed.csv`` (what was removed, star by
star), ``problems.csv``, ``errors.csv`` (faulty errors, file by file) and ``manifest.json``,
which tells the columns' roles, the detectors and the rule of validity. Which measurements are valid is not stored: that
rule says it of flux and error.
"""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.files.checked import read_json, rows_of
from rsca_torch.files.whole import is_refused
from rsca_torch.spectra.shown import card
from rsca_torch.spectra.spectra import Spectra
from rsca_torch.spectra.view import View
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.repeats import REPEAT_OF
from rsca_torch.survey.store_places import partial_path
from rsca_torch.survey.store_sums import as_written, check_size, checksum, digest
from rsca_torch.survey.stored_rows import StoredRows

__all__ = ["FILES", "OF_GROUPS", "PARTS", "SCHEMA", "Store"]

SCHEMA = 4
#: What is kept apart from field and members.
PARTS = ("groups", "repeats")
#: Where there are stars of other groups.
OF_GROUPS = ("groups_flux.npy", "groups_error.npy", "groups.fits")
#: All others but the manifest.
FILES = (
    *("flux.npy", "error.npy", "repeats_flux.npy", "repeats_error.npy"),
    "wavelength.npy",
    "bins.npy",
    "stars.fits",
    "repeats.fits",
    "selection.json",
    "removed.csv",
    "problems.csv",
    "errors.csv",
)


class Store:
    """Spectra on disk; made by `rsca_torch.survey.ingest.ingest`, opened by `Store.open`.

    It has four parts, each a `View`, read as it is needed: `field`, `members`, `groups` and `repeats`. The rows of the
    store are those of the field and of the members, one a star. `groups` are stars of wide binaries, moving groups and
    the like, which say how siblings scatter and are no strangers: their ``stars.group`` is "KIND: NAME". Repeats are
    further observations of all these: their ``stars.repeat_of`` has the star's id, their own ids are others
    (``<id>#2``), and they have no group. Two observations of one star differ by what is not the star.

    Attributes:
        path: the folder.
        stars: N rows: what the survey says of a star under its own names, and which column plays which role; missing is
            NaN or ''. Those of the repeats are ``repeats.stars``.
        wavelength: (P,) float64, vacuum Angstrom.
        bins: (P,) the pixels of the survey's grid that are stored.
        segments: name of each detector -> its first and last wavelength, Angstrom.
        censoring: which measurements are valid.
        manifest: schema, configuration, roles, detectors, counts and checksums.
        selection: the cut flow, ``[{"cut", "removed", "kept"}]`` in order.
        problems: ``(file, problem)`` of every file that was not used.
        checksum: one SHA-256 for all of it.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from astropy.table import Table
        >>> from rsca_torch.survey.grid import Grid
        >>> from rsca_torch.survey.ingest import ingest
        >>> from rsca_torch.survey.reader import Listing, Measured, Reader
        >>> from rsca_torch.survey.survey import Survey
        >>> class Flat(Reader):  # docs/surveys.md has one that reads files
        ...     roles = {"id": "name", "group": "cluster"}
        ...     grid = Grid([5000.0, 5001.0, 5002.0])
        ...
        ...     def list_stars(self, columns):
        ...         clusters = ["", "M 67", "M 67", "M 67"]
        ...         table = Table({"name": ["a", "b", "c", "c"], "cluster": clusters, "FILE": ["a", "b", "c", "again"]})
        ...         return Listing(table)
        ...
        ...     def read(self, star):
        ...         return Measured(np.array([1.0, 0.9, 1.0]), np.array([0.01, 0.01, 0.2]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = ingest(Survey(folder, Flat), f"{folder}/store").path
        ...     store = Store.open(path)
        ...     print(store)  # doctest: +ELLIPSIS
        ...     print(store.spectra(store.is_member))
        ...     print(store.repeats.stars.id.tolist(), store.repeats.stars.repeat_of.tolist())
        Store: 1 field stars and 2 members of 1 clusters, 1 repeats, 2 bins from 5000.00 to 5001.00 Angstrom, ...
        Spectra: 2 stars, 2 bins from 5000.00 to 5001.00 Angstrom, 100.0 % valid, errors known
        ['c#2'] ['c']
    """

    has_sigma = True
    checked = True  # by the censoring

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path = path.absolute()  # also where the process goes to another folder
        self.manifest = manifest
        self.checksum: str = manifest["checksum"]
        self.censoring = Censoring(**manifest["censoring"])
        self.wavelength: NDArray[np.float64] = np.load(path / "wavelength.npy", allow_pickle=False)
        roles = manifest["roles"]
        self._rows = StoredRows(path, "", roles, self.wavelength, self.censoring)
        self._repeats = StoredRows(path, "repeats", {**roles, "repeat_of": REPEAT_OF}, self.wavelength, self.censoring)
        self._groups: StoredRows | None = None
        if OF_GROUPS[0] in manifest["files"]:
            self._groups = StoredRows(path, "groups", roles, self.wavelength, self.censoring)
        self.stars = self._rows.stars
        self.bins: NDArray[np.int64] = np.load(path / "bins.npy", allow_pickle=False)
        self.segments = {name: (first, last) for name, (first, last) in manifest["segments"].items()}
        self.selection: list[dict[str, Any]] = json.loads((path / "selection.json").read_text(encoding="utf-8"))
        self.problems = [(file, problem) for file, problem in list(rows_of(path / "problems.csv"))[1:]]
        repr(self)  # also what is told of it is there

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open a store for reading.

        Raises:
            InputError: no store there, one that is not finished or not complete, or one of another schema.
        """
        path = Path(path)
        if not (path / "manifest.json").is_file():
            raise InputError(_no_store(path))
        try:
            manifest = read_json(path / "manifest.json")
            if manifest["schema"] != SCHEMA:
                cure = "update rsca_torch" if manifest["schema"] > SCHEMA else "ingest the survey again"
                raise InputError(f"store {path} has schema {manifest['schema']}, this program reads {SCHEMA}: {cure}")
            for name in (*FILES, *(OF_GROUPS if OF_GROUPS[0] in manifest["files"] else ())):
                check_size(path / name, manifest["files"][name]["bytes"])
                if (
                    not name.endswith(("flux.npy", "error.npy"))
                    and digest(path / name) != manifest["files"][name]["sha256"]
                ):
                    raise InputError(f"store {path}: {name} changed since it was written; ingest again")
            return cls(path, as_written(path, manifest))
        except InputError:
            raise
        except Exception as error:  # whatever readers make of what only looks like a store
            if is_refused(error):
                raise
            raise InputError(f"store {path} is damaged ({type(error).__name__}); remove it and ingest again") from error

    def __len__(self) -> int:
        return len(self.stars)

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process: opened there, not copied."""
        return Store.open, (self.path,)

    def __repr__(self) -> str:
        told = self.manifest["counts"]
        repeats = f"{told['repeats']:,} repeats, " if told["repeats"] else ""
        for kind, number in told.get("groups", {}).items():
            repeats = f"{number['stars']:,} stars in {number['groups']:,} {kind.replace('_', ' ')}, {repeats}"
        return (
            f"Store: {told['field']:,} field stars and {told['members']:,} members of {told['clusters']} clusters, "
            f"{repeats}{len(self.wavelength):,} bins from {self.wavelength[0]:.2f} to {self.wavelength[-1]:.2f} "
            f"Angstrom, {100 * told['valid_share']:.1f} % valid, in {self.path}"
        )

    def _repr_html_(self) -> str:
        told, origin = self.manifest["counts"], self.origin
        groups = {kind.replace("_", " "): of for kind, of in told.get("groups", {}).items()}
        rows = {
            "survey": origin["survey"] + (", SIMULATED" if origin["simulated"] else ""),
            "field stars": f"{told['field']:,}",
            "members": f"{told['members']:,} of {told['clusters']} clusters",
            "groups": ", ".join(f"{of['stars']:,} stars in {of['groups']:,} {kind}" for kind, of in groups.items())
            or None,
            "repeats": f"{told['repeats']:,}" if told["repeats"] else None,
            "bins": f"{len(self.wavelength):,}",
            "wavelength": f"{self.wavelength[0]:.2f} to {self.wavelength[-1]:.2f} Angstrom",
            "valid": f"{100 * told['valid_share']:.1f} %",
            "folder": self.path,
        }
        return card("Store", rows)

    @property
    def removed(self) -> list[tuple[str, str, str]]:
        """(id, cut, value) of each observation that is not here: the first cut that it failed and what that looked at.

        The id is '' where a file could not tell it.
        """
        return [(star, cut, value) for star, cut, value in list(rows_of(self.path / "removed.csv"))[1:]]

    @property
    def is_member(self) -> NDArray[np.bool_]:
        """(N,) True for the members of clusters; of none where no column plays the role group."""
        return self.stars.group != "" if self.stars.has("group") else np.zeros(len(self), dtype=bool)

    @property
    def origin(self) -> dict[str, Any]:
        """What a model that is fitted on it says of it: checksum, survey, release, members, whether it is simulated."""
        survey = self.manifest["survey"]
        told = {name: survey[name] for name in ("release", "members") if survey.get(name)}
        simulated = (self.path.parent / "simulation.json").is_file()
        return {"store": self.checksum, "survey": survey["name"], **told, "simulated": simulated}

    @property
    def field(self) -> View:
        """The stars that are in no cluster."""
        return self.select(~self.is_member)

    @property
    def members(self) -> View:
        """The members of clusters."""
        return self.select(self.is_member)

    @property
    def groups(self) -> View:
        """Stars of groups besides clusters, of which there may be none."""
        return self.select(slice(0, 0)) if self._groups is None else View(self._groups)

    @property
    def repeats(self) -> View:
        """Further observations of the stars of all other parts, of which there may be none."""
        return View(self._repeats)

    def spectra(self, rows: Any = None) -> Spectra:  # noqa: ANN401  (whatever indexes an array)
        """Read the spectra of some stars into memory.

        Args:
            rows: a bool mask, integers or a slice; None: all stars.
        """
        chosen = np.arange(len(self))[slice(None) if rows is None else rows]
        flux, valid, sigma = self.read(chosen)
        return Spectra(flux, valid, sigma, torch.from_numpy(self.wavelength), self.stars[chosen])

    def read(self, chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """(flux, valid, sigma) of the given rows, each (n, P); flux and sigma float32, as stored."""
        return self._rows.read(chosen)

    def observations(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(flux, error) as stored, each (n, P): of the rows of the store, then of its groups, then of its repeats."""
        read, start = [], 0
        for part in (self._rows, self._groups, self._repeats):
            if part is not None:
                here = rows[(rows >= start) & (rows < start + len(part.stars))] - start
                read.append(part.read(here))
                start += len(part.stars)
        return torch.cat([flux for flux, _, _ in read]).numpy(), torch.cat([error for _, _, error in read]).numpy()

    def select(self, rows: Any = None) -> View:  # noqa: ANN401  (whatever indexes an array)
        """Some stars' spectra, left on disk.

        Args:
            rows: as in `spectra`.
        """
        return View(self, np.arange(len(self))[slice(None) if rows is None else rows])

    def verify(self) -> None:
        """Recompute every checksum.

        Raises:
            InputError: a file, or the manifest's account of them, is not what was written.
        """
        recorded = self.manifest["files"]
        changed = [name for name in recorded if digest(self.path / name) != recorded[name]["sha256"]]
        if checksum(self.manifest) != self.checksum:
            changed.append("manifest.json")
        if changed:
            raise InputError(f"store {self.path}: {', '.join(changed)} changed since it was written; ingest again")


def _no_store(path: Path) -> str:
    if partial_path(path).exists():
        return (
            f"store {path} is not finished: only {partial_path(path).name} is there; "
            "run rsca ingest again with the same settings to finish it"
        )
    return f"{path} is not a store: it has no manifest.json; make one with rsca ingest {quote(f'store={path}')}"
