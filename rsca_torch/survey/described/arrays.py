"""Arrays of one's own: flux, errors, mask and wavelengths in files of any kind, a star table beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from astropy.table import Row, Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import as_text
from rsca_torch.spectra.spectra import Spectra
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.described.description import Description
from rsca_torch.survey.described.parts import Source
from rsca_torch.survey.described.preparation import Raw
from rsca_torch.survey.described.row_files import columns_of
from rsca_torch.survey.described.spectrum_reader import Columns, SpectrumReader
from rsca_torch.survey.described.star_file import RowFile
from rsca_torch.survey.described.star_tables import StarColumns
from rsca_torch.survey.grid import Grid
from rsca_torch.survey.ingest import ingest
from rsca_torch.survey.reader import Listing, Measured, Reader
from rsca_torch.survey.store import Store
from rsca_torch.survey.survey import Survey

__all__ = ["ArraysReader", "SpectraInMemory", "store_of"]

ROW = "ARRAY_ROW"  # column of the row that a star has in the arrays


class ArraysReader(SpectrumReader):
    """Reads arrays whose first axis is the stars, in blocks; FILE:NAME where a file holds several.

    Args:
        root: the folder.
        flux: (N, P).
        wavelength: (P,), or (N, P) with `grid`.
        stars: the table of N stars, in the arrays' order; or the keys of a description's `stars`.
        error: (N, P) standard errors. None: `ivar` has inverse variances.
        ivar: see there.
        mask: (N, P). None: there is none.
        good: which of its values are good: zero, true_is_good, or {bits_clear: [BITS]}.
        id_columns: of whole numbers of which some are missing.
        same_id: refuse rows of one id, or take them for repeats: observations of one star.
        of_description: wavelength_is (unit, medium, frame, velocity), normalised, continuum and grid, as there.

    Raises:
        InputError: both or none of error and ivar are given, or an option is none of a description's.
    """

    def __init__(
        self,
        root: str | Path,
        flux: str,
        wavelength: str,
        stars: str | Mapping[str, Any],
        error: str | None = None,
        ivar: str | None = None,
        mask: str | None = None,
        good: Any = "zero",  # noqa: ANN401  (as in a description)
        id_columns: Sequence[str] = (),
        same_id: str = "refuse",
        wavelength_is: Mapping[str, Any] | None = None,
        **of_description: Any,
    ) -> None:
        if (error is None) == (ivar is None):
            raise InputError("survey.error=FILE (standard errors) or survey.ivar=FILE (inverse variances): one of them")
        if same_id not in ("refuse", "repeats"):
            raise InputError(f"survey.same_id must be refuse or repeats, got {same_id!r}")
        self.sources = {"flux": flux, "wavelength": wavelength, "error": error or str(ivar), "mask": mask}
        self.same_id = same_id
        given = {"path": stars, "ids": list(id_columns)} if isinstance(stars, str) else stars
        arm = {name: name for name, file in self.sources.items() if file is not None}
        if not {*of_description} <= {"normalised", "continuum", "grid"}:
            raise InputError(f"survey: arrays have no option {', '.join(of_description)}")
        described = {"layout": "row_per_star", "spectrum": flux, "arms": {"all": arm}, "stars": given}
        kind = "ivar" if error is None else "sigma"
        told = {"error": kind, "mask": good if mask else "none", "wavelength": wavelength_is, **of_description}
        super().__init__(root, Description.of({**described, **told}))

    def open_columns(self) -> Columns:
        """The star table, as long as the arrays."""
        rule = self.rule.stars
        assert rule is not None
        table = StarColumns(self.root / rule.path, rule)
        length = len(table.read(table.names[:1]))
        shapes = {name: self._shape(name) for name, file in self.sources.items() if file is not None}
        for name, shape in shapes.items():
            if name != "wavelength" and shape[0] != length:
                raise InputError(
                    f"survey.{name}={self.sources[name]} has {shape[0]} rows, the star table {rule.path} {length}: "
                    "one a star expected, in the same order"
                )
        if len(shapes["wavelength"]) == 2 and self.rule.grid is None and shapes["wavelength"][0] > 1:
            raise InputError(
                f"survey.wavelength={self.sources['wavelength']} has a row a star: grids differ; say "
                "survey.grid={resample: {start: .., step: .., n: .., log: true}}"
            )
        return Numbered(table)

    @property
    def needed(self) -> list[str]:
        """The row in the arrays, and the velocity."""
        return [ROW, *super().needed]

    def files_of(self, stars: Table) -> list[str]:
        """The array of fluxes and the row in it."""
        return [f"{self.sources['flux']}[{row}]" for row in stars[ROW]]

    def list_stars(self, columns: Sequence[str]) -> Listing:
        """All stars; two rows of one id are refused, unless they are said to be repeats."""
        listing = super().list_stars(columns)
        if self.same_id == "refuse" and columns[0] in listing.stars.colnames:
            counts = Counter(as_text(listing.stars[columns[0]]).tolist())
            if twice := [star for star, count in counts.items() if count > 1]:
                raise InputError(
                    f"{len(twice)} ids in {columns[0]} come more than once (first: {twice[0]}): keep one row a star, "
                    "or say survey.same_id=repeats where they are observations of one star"
                )
        return listing

    def _place(self, name: str) -> tuple[Path, str]:
        file, _, inside = str(self.sources[name]).partition(":")
        return self.root / file, inside

    def _shape(self, name: str) -> tuple[int, ...]:
        path, inside = self._place(name)
        columns = columns_of(path)
        if not inside and len(columns) == 1:
            inside = next(iter(columns))
        if inside not in columns:
            raise InputError(
                f"survey.{name}={self.sources[name]}: there is no array {inside or 'without a name'}; there are "
                f"{', '.join(columns) or 'one without a name'}: FILE:NAME"
            )
        return tuple(columns[inside].shape)

    def raw_arms(self, star: Row) -> list[Raw]:
        """The one arm of a star."""
        return [Raw(*(self._array(name, int(star[ROW])) for name in ("wavelength", "flux", "error", "mask")))]

    def _array(self, name: str, row: int) -> Any:  # noqa: ANN401  (an array, or None)
        if self.sources[name] is None:
            return None
        path, inside = self._place(name)
        columns = columns_of(path)
        inside = inside or next(iter(columns))
        is_shared = name == "wavelength" and len(columns[inside].shape) == 1 and not _nested(columns[inside])
        return RowFile(path).array(Source(column=inside, shared=is_shared), row)


class Numbered:
    """A star table with a column of row numbers."""

    def __init__(self, table: StarColumns) -> None:
        self._table, self.names = table, [*table.names, ROW]

    def read(self, names: Sequence[str] | None = None, rows: NDArray[np.intp] | None = None) -> Table:
        """Some columns of some rows; None: all."""
        others = None if names is None else [name for name in names if name != ROW] or self.names[:1]
        table = self._table.read(others, rows)
        table[ROW] = np.arange(len(table)) if rows is None else rows
        return table


def _nested(rows: Any) -> bool:  # noqa: ANN401  (rows of whatever kind)
    """Whether each row is a vector though the shape does not say so: lists of Parquet and text."""
    return isinstance(rows[0:1], list) and np.ndim(rows[0:1][0]) > 0


class SpectraInMemory(Reader):
    """Spectra in memory as a survey, to make a store of them."""

    roles: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __init__(self, root: str | Path, spectra: Spectra) -> None:
        super().__init__(root)
        self.spectra, self._grid = spectra, Grid(np.asarray(spectra.wavelength))

    @property
    def grid(self) -> Grid:
        """The spectra's."""
        return self._grid

    def list_stars(self, columns: Sequence[str]) -> Listing:
        """The spectra's table, with a row number."""
        del columns
        stars = Table(self.spectra.stars)
        stars["FILE"] = [f"memory[{row}]" for row in range(len(stars))]
        stars[ROW] = np.arange(len(stars))
        return Listing(stars, called="spectra in memory")

    def read(self, star: Row) -> Measured:
        """One row."""
        flux, valid, sigma = self.spectra.read(int(star[ROW]))
        assert sigma is not None
        filled: NDArray[Any] = np.where(valid, sigma, np.inf)
        return Measured(np.where(valid, flux, 0.0), filled, np.asarray(valid))


def store_of(spectra: Spectra, store: str | Path, max_error: float = 0.05) -> Store:
    """A store of spectra in memory, for every command that takes ``store=DIR``.

    Args:
        spectra: with errors; its groups are the clusters.
        store: the folder to make.
        max_error: measurements with a larger standard error are not used.

    Raises:
        InputError: the errors are not known, or the store is there already.

    Example:
        >>> import tempfile
        >>> spectra = Spectra(
        ...     np.ones((3, 4)), sigma=np.full((3, 4), 0.01), wavelength=[5000, 5001, 5002, 5003],
        ...     stars=Table({"name": ["a", "b", "c"], "cluster": ["", "M 67", "M 67"]}), id="name", group="cluster",
        ... )  # fmt: skip
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(store_of(spectra, f"{folder}/store"))
        Store: 1 field stars and 2 members of 1 clusters, 4 bins from 5000.00 to 5003.00 Angstrom, 100.0 % valid, ...
    """
    if not spectra.has_sigma:
        raise InputError("a store keeps errors, and these spectra have none: give sigma")
    roles = {role: column for role, column in spectra.stars.roles.items() if role != "repeat_of"}
    survey = Survey(
        "memory", lambda root: SpectraInMemory(root, spectra), roles=roles, censoring=Censoring(max_error=max_error)
    )
    return ingest(survey, store)
