"""What reads a survey's files: one class a kind of files, one file of its own (docs/design.md, "How to add")."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from astropy.table import Row, Table
from numpy.typing import NDArray

from rsca_torch.survey.grid import Grid

__all__ = ["Listing", "Measured", "Reader", "Visits"]


class Listing(NamedTuple):
    """The observations that there are.

    Attributes:
        stars: one row an observation: the id and what the cuts look at, or all that is known.
        problems: (file, problem) of observations that are already known to be unusable.
        called: what the cut flow calls all of them.
        unusable: what the cut flow calls the step that leaves the problems and `left_out` out; '': no such step.
        catalogue: the name of the catalogue, of which some member at least must be; '': none, a folder may lack them.
        left_out: (id, reason) of observations that no spectrum is of, through no fault of a file.
    """

    stars: Table
    problems: Sequence[tuple[str, str]] = ()
    called: str = "catalogue"
    unusable: str = ""
    catalogue: str = ""
    left_out: Sequence[tuple[str, str]] = ()


class Measured(NamedTuple):
    """One spectrum on the survey's grid, continuum-normalised, as the pipeline wrote it.

    Attributes:
        flux: (P,) floating point.
        error: (P,) its standard error.
        valid: (P,) bool, False where the survey's own mask says that a pixel must not be used. None: there is none.
    """

    flux: NDArray[np.floating[Any]]
    error: NDArray[np.floating[Any]]
    valid: NDArray[np.bool_] | None = None


class Visits(NamedTuple):
    """Observations of which those in the star table are made.

    Attributes:
        stars: one row a visit, like its star's but for what is the visit's own, FILE too.
        of: (visits,) the row of the star.
        own: the columns that say something of the visit itself.
        problems: (file, problem) of stars whose visits cannot be used.
    """

    stars: Table
    of: NDArray[np.intp]
    own: Sequence[str]
    problems: Sequence[tuple[str, str]] = ()


class Reader(ABC):
    """Reads the files below one folder. Nothing is read before it is asked for.

    What a survey's YAML says besides the options of `Survey` comes to the constructor.

    Args:
        root: the folder.

    Attributes:
        roles: role -> column of the star table, where the YAML says nothing else.
        id_length: characters of an id that the survey's tables keep, to which lists of members are cut. None: all.
        tells_groups: the column of the role group may be asked for in `list_stars`, where no list tells the members.
    """

    roles: ClassVar[Mapping[str, str]]
    id_length: ClassVar[int | None] = None
    tells_groups: ClassVar[bool] = False

    @property
    def told(self) -> Mapping[str, Any]:
        """What a store says of the reader besides its options: what these name, such as a file's content."""
        return {}

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    @property
    @abstractmethod
    def grid(self) -> Grid:
        """The pixels that all spectra have in common."""

    @abstractmethod
    def list_stars(self, columns: Sequence[str]) -> Listing:
        """Which observations there are.

        Args:
            columns: the id's, and those that the cuts look at; more may be given, and ``FILE``, see `describe`.

        Raises:
            InputError: the files cannot be used, or lack a column.
        """

    def describe(self, stars: Table, rows: NDArray[np.intp], columns: Sequence[str]) -> Table:
        """The star table of those that passed the cuts.

        Args:
            stars: n rows of the listing.
            rows: (n,) which they were.
            columns: those that play roles, wanted where they are there.

        Returns:
            n rows: all that is worth keeping, and ``FILE``, text that names a spectrum: its file relative to the root.
        """
        del rows, columns
        return stars

    def is_repeat(self, stars: Table) -> NDArray[np.bool_]:
        """(n,) True for rows that the survey itself marks as not the main observation of their star."""
        return np.zeros(len(stars), dtype=bool)

    def visits(self, stars: Table) -> Visits | None:
        """The visits that observations are made of, each a spectrum that `read` gives. None: the survey has none.

        Args:
            stars: n rows, as `describe` gives them.
        """
        del stars
        return None

    def files(self, stars: Table) -> list[str]:
        """The files that these rows of the star table need, below the root: what `rsca download` fetches.

        Args:
            stars: as `describe` gives them.
        """
        return [str(file) for file in stars["FILE"]]

    @abstractmethod
    def read(self, star: Row) -> Measured:
        """The spectrum of one row of the star table.

        Raises:
            UnusableFileError: with a short reason, for the table of problems.
        """
