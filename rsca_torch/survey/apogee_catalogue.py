"""The archive's tree: allStar, the catalogue of all stars, and an aspcapStar file of each (docs/data.md)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np
from astropy.table import Row, Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.stars import abundance_column, error_column
from rsca_torch.survey.apogee import ELEMENTS, STAR_COLUMNS, ApogeeReader, add_columns
from rsca_torch.survey.below_root import below_root
from rsca_torch.survey.fits_files import COMPRESSED, UnusableFileError, native, open_fits, require_table
from rsca_torch.survey.reader import Listing, Measured
from rsca_torch.survey.visits import MEAN_FIBRE

__all__ = ["ApogeeCatalogue", "find_catalogue", "read_catalogue", "spectrum_files"]

#: EXTRATARG: not the observation of this star with the highest signal-to-noise.
DUPLICATE_BIT = 4

#: What a spectrum's path may name.
PLACES = ("TELESCOPE", "FIELD", "LOCATION_ID", "APOGEE_ID")

#: Columns with a value an element -> the name of the column of one.
OF_ELEMENTS = {"X_H": abundance_column, "X_H_ERR": error_column}

_EVERY_RELEASE = {*STAR_COLUMNS, "X_H", "ASPCAPFLAG", "EXTRATARG", "STARFLAG", "NVISITS", "VSCATTER", "VERR"}
_SOME_RELEASES = {
    "VISITS": "the full allStar of dr13, dr14 and dr16 has it",
    "LOCATION_ID": "the full allStar of every release has it, allStarLite has not",
    "ASPCAP_CLASS": "dr13, dr14 and dr16 have it",
    **dict.fromkeys(["ASPCAP_GRID", "FRAC_BADPIX", "FRAC_LOWSNR", "MEMBER", "MEMBERFLAG"], "dr17 has it"),
}


class ApogeeCatalogue(ApogeeReader):
    """Stars from allStar, in two passes: the columns that decide, then those that describe the stars that are kept.

    Args:
        root: the folder that holds the archive's tree.
        catalogue: paths of allStar below root, of which the first that exists is read.
        spectrum: path of a spectrum below root, with {TELESCOPE}, {FIELD}, {LOCATION_ID}, {APOGEE_ID}.
        release: dr13, dr14, dr16 or dr17.

    Raises:
        InputError: the release or the catalogue is not told.
    """

    def __init__(
        self, root: str | Path, catalogue: str | Sequence[str] | None, spectrum: str, release: str | None
    ) -> None:
        super().__init__(root)
        if catalogue is None:
            raise InputError(
                "survey.catalogue must be where allStar lies below survey.root, got null; survey=aspcapstar_files "
                "reads a folder without one"
            )
        if release is None:
            raise InputError("survey.release must be dr13, dr14, dr16 or dr17 where there is a catalogue, got null")
        self.catalogue = (catalogue,) if isinstance(catalogue, str) else tuple(catalogue)
        self.spectrum, self.release = spectrum, release

    def list_stars(self, columns: Sequence[str]) -> Listing:
        """Every row of the catalogue, duplicates too; X_H as `read_catalogue` gives it."""
        path = find_catalogue(self.root, self.catalogue)
        return Listing(read_catalogue(path, self.release, columns), catalogue=path.name)

    def describe(self, stars: Table, rows: NDArray[np.intp], columns: Sequence[str]) -> Table:
        """`STAR_COLUMNS`, EXTRATARG, the abundances and their errors, FILE."""
        del stars
        places = {name for _, name, _, _ in Formatter().parse(self.spectrum) if name in STAR_COLUMNS}
        optional = {"LOCATION_ID", "VISITS"} - places
        describing = [*(name for name in STAR_COLUMNS if name not in optional), "EXTRATARG", "X_H"]
        others = [
            *sorted(optional),
            "X_H_ERR",
            MEAN_FIBRE,
            *(name for name in columns if name not in (*STAR_COLUMNS, MEAN_FIBRE)),
        ]
        path = find_catalogue(self.root, self.catalogue)
        described = read_catalogue(path, self.release, describing, others, rows)
        if "LOCATION_ID" not in described.colnames:
            described["LOCATION_ID"] = STAR_COLUMNS["LOCATION_ID"]
        described["FILE"] = spectrum_files(self.spectrum, described)
        return add_columns(described)

    def read(self, star: Row) -> Measured:
        """An aspcapStar file, where the row names a file below root."""
        below_root(self.root, self.spectrum, _places(star))  # FILE no longer tells FIELD a/b from a folder a
        return super().read(star)

    def is_repeat(self, stars: Table) -> NDArray[np.bool_]:
        """Rows marked as not the observation of highest signal-to-noise."""
        return np.asarray((stars["EXTRATARG"] >> DUPLICATE_BIT) & 1 == 1)


def find_catalogue(root: Path, candidates: Sequence[str]) -> Path:
    """The first of the catalogues, paths below root, that exists, compressed or not.

    Raises:
        InputError: root is not a readable folder, or holds none of them.
    """
    try:
        next(root.iterdir(), None)
    except OSError as error:
        raise InputError(
            f"survey.root={root} must be a folder that can be read, got: {error.strerror}; "
            "give the folder that holds the archive's tree"
        ) from error
    for candidate in candidates:
        for suffix in ("", *COMPRESSED):
            if (root / f"{candidate}{suffix}").exists():
                return root / f"{candidate}{suffix}"
    raise InputError(
        f"no catalogue below survey.root={root}; looked for {', '.join(candidates)}; "
        "fetch one of them, or set survey.catalogue to where it is"
    )


def read_catalogue(
    path: Path,
    release: str,
    columns: Iterable[str],
    optional: Iterable[str] = (),
    rows: NDArray[np.intp] | slice = slice(None),
) -> Table:
    """Read some columns of allStar or allStarLite, never the whole table.

    Args:
        path: the catalogue; mapped, not loaded.
        release: dr13, dr14, dr16 or dr17; gives the order of the elements where the file has no HDU 3.
        columns: what is wanted; X_H and X_H_ERR become one column an element, see `abundance_column`.
        optional: wanted where the catalogue has it.
        rows: which rows, ascending.

    Returns:
        One row a catalogue row, values as `native` gives them.

    Raises:
        InputError: the file cannot be read as a catalogue, or lacks a column.
    """
    try:
        with open_fits(path, memmap=True) as hdus:
            data = require_table(hdus, 1, "table of stars").data
            elements = _elements(hdus, release)
            wanted = [*columns, *(name for name in optional if name in data.names)]
            stars = Table()
            for name in wanted:
                if name not in data.names:
                    raise InputError(_missing_column(path, name))
                values = native(data[name][rows])
                if name in OF_ELEMENTS:
                    _add_abundances(stars, name, values, elements, path)
                else:
                    stars[name] = values
            return stars
    except UnusableFileError as error:
        raise InputError(f"expected a FITS catalogue of stars in {path}, got: {error}; fetch it again") from error


def _elements(hdus: Any, release: str) -> list[str]:  # noqa: ANN401  (astropy's HDUs are untyped)
    if len(hdus) > 3 and not hdus[3].is_image and "ELEM_SYMBOL" in hdus[3].columns.names:
        return [str(symbol) for symbol in native(hdus[3].data["ELEM_SYMBOL"]).ravel()]
    if release not in ELEMENTS:
        raise InputError(f"survey.release must be one of {', '.join(ELEMENTS)}, got {release!r}")
    return ELEMENTS[release]


def _missing_column(path: Path, name: str) -> str:
    everywhere = "every release has it" if name in _EVERY_RELEASE else "no release known to this program has it"
    return (
        f"{path.name} has no column {name} ({_SOME_RELEASES.get(name, everywhere)}); "
        "use a catalogue that has it, or cuts and a spectrum path that do without"
    )


def _add_abundances(stars: Table, name: str, values: NDArray[Any], elements: Sequence[str], source: Path) -> None:
    values = values.reshape(len(values), -1)  # some tables declare (26, 1)
    if values.shape[1] != len(elements):
        raise InputError(
            f"{name} in {source.name} has {values.shape[1]} values a star, expected {len(elements)} "
            f"({' '.join(elements)}); survey.release must be the release the file belongs to"
        )
    for element, of_element in zip(elements, values.T, strict=True):
        stars[OF_ELEMENTS[name](element)] = of_element


def spectrum_files(template: str, stars: Table) -> list[str]:
    """Where each star's aspcapStar file lies below root.

    Args:
        template: a path with any of {TELESCOPE}, {FIELD}, {LOCATION_ID}, {APOGEE_ID}.
        stars: the columns the template names. For stars of the 1 m telescope (apo1m) FIELD stands in place of
            LOCATION_ID, as in the archive. Their file names end in the reduction's name, which the catalogue does not
            give: where it is not APOGEE_ID, the file is reported missing.

    Raises:
        InputError: the template names something else.
    """
    try:
        return [template.format(**_places(star)) for star in stars]
    except (KeyError, IndexError, ValueError) as error:
        names = [name for name in PLACES if name in stars.colnames]
        raise InputError(f"survey.spectrum={template} may name {', '.join(names)} in braces, got {error}") from None


def _places(star: Row) -> dict[str, Any]:
    """What a path may name of a row."""
    values = {name: star[name] for name in PLACES if name in star.colnames}
    return values | ({"LOCATION_ID": values["FIELD"]} if values.get("TELESCOPE") == "apo1m" else {})
