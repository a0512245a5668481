"""[X/H] of surveys that tell [X/Fe]."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.stars import abundance_column, error_column
from rsca_torch.survey.described.row_files import found

__all__ = ["Ratios", "with_abundances"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ratios:
    """Where a star table has [Fe/H] and [X/Fe]; [X/H] is their sum, which is what the program compares.

    Attributes:
        iron: the column of [Fe/H].
        over_iron: names of the columns of [X/Fe], with {x} for the element, as "{x}_fe"; or element -> column.
        error: the name of a column's standard error, with {column} for the column, as "e_{column}". None: not known.
        flag: likewise of its flag, which is 0 where the value is good. None: all are.
    """

    iron: str
    over_iron: str | Mapping[str, str]
    error: str | None = None
    flag: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.over_iron, str) and "{x}" not in self.over_iron:
            raise InputError(
                f"description.stars.abundances.over_iron={self.over_iron}: {{x}} expected in place of the element, or "
                "{ELEMENT: COLUMN}"
            )


def with_abundances(stars: Table, ratios: Ratios, where: str) -> Table:
    """The table with columns <ELEMENT>_H and <ELEMENT>_H_ERR [dex] in place of that of [Fe/H].

    Where [X/Fe] or [Fe/H] is missing or has a flag there is no [X/H]. Its error takes those of both for independent.

    Args:
        stars: its numbers are float64, NaN for missing.
        ratios: where they are.
        where: the table's file, for errors.

    Raises:
        InputError: there is no column of [Fe/H], none of [X/Fe], or one that is named is not there.

    Example:
        >>> stars = Table({"fe_h": [-0.5, 0.0], "Mg_fe": [0.2, 0.1], "flag_Mg_fe": [0, 1]})
        >>> made = with_abundances(stars, Ratios("fe_h", "{x}_fe", flag="flag_{column}"), "stars.fits")
        >>> made["MG_H"].tolist(), made["FE_H"].tolist()
        ([-0.3, nan], [-0.5, 0.0])
    """
    iron = found(ratios.iron, stars.colnames)
    columns = _columns(stars, ratios)
    lacking = [ratios.iron] * (iron is None) + [name for name in columns.values() if name not in stars.colnames]
    if iron is None or lacking or not columns:
        raise InputError(
            f"description.stars.abundances: {where} has no column {', '.join(lacking) or ratios.over_iron}; there are "
            f"{', '.join(stars.colnames)}; survey.description.stars.abundances=null does without [X/H]"
        )
    fe_h, fe_error = _good(stars, iron, ratios)
    made = {"Fe": (fe_h, fe_error)}
    for element, column in columns.items():
        x_fe, error = _good(stars, column, ratios)
        made[element] = x_fe + fe_h, np.hypot(error, fe_error)
    stars.remove_column(iron)
    for element, (value, error) in made.items():
        for name, values in ((abundance_column(element), value), (error_column(element), error)):
            if np.isfinite(values).any() or not name.endswith("_ERR"):
                stars[name] = values
    known = sum(int(np.isfinite(value).sum()) for value, _ in made.values())
    log.info("[X/H] of %d elements from [X/Fe]: %d of %d values are known and have no flag", len(made), known,
             len(made) * len(stars))  # fmt: skip
    return stars


def _columns(stars: Table, ratios: Ratios) -> dict[str, str]:
    """Element -> column of [X/Fe]."""
    if not isinstance(ratios.over_iron, str):
        return {element: found(name, stars.colnames) or name for element, name in ratios.over_iron.items()}
    pattern = re.escape(ratios.over_iron).replace(r"\{x\}", r"([A-Za-z]+\d?)")
    matches = {name: re.fullmatch(pattern, name, re.IGNORECASE) for name in stars.colnames}
    return {match[1]: name for name, match in matches.items() if match}


def _good(stars: Table, column: str, ratios: Ratios) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values without a flag, and their errors; NaN for what is not known."""
    values, errors = np.asarray(stars[column], dtype=np.float64), np.full(len(stars), np.nan)
    if ratios.flag is not None and (flag := found(ratios.flag.format(column=column), stars.colnames)) is not None:
        values = np.where(np.asarray(stars[flag]) == 0, values, np.nan)
    if ratios.error is not None and (error := found(ratios.error.format(column=column), stars.colnames)) is not None:
        errors = np.asarray(stars[error], dtype=np.float64)
    return values, errors
