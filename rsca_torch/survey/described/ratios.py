"""[X/H] of surveys that tell [X/Fe]."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.stars import abundance_column, error_column
from rsca_torch.survey.described.row_files import found

__all__ = ["Ratios", "abundances_of"]

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]


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


def abundances_of(
    read: Callable[[Sequence[str]], Table],
    names: Sequence[str],
    ratios: Ratios,
    where: str,
    some: Collection[str] | None = None,
) -> dict[str, Floats]:
    """Columns <ELEMENT>_H and, where they are known, <ELEMENT>_H_ERR [dex], which stand for that of [Fe/H].

    Where [X/Fe] or [Fe/H] is missing or has a flag there is no [X/H]. Its error takes those of both for independent.

    Args:
        read: gives columns of the star table, float64 with NaN for missing; is asked for those of one element at once.
        names: of the table's columns.
        ratios: where they are.
        where: the table's file, for errors.
        some: which of the columns are wanted. None: all.

    Raises:
        InputError: there is no column of [Fe/H], none of [X/Fe], or one that is named is not there.

    Example:
        >>> stars = Table({"fe_h": [-0.5, 0.0], "Mg_fe": [0.2, 0.1], "flag_Mg_fe": [0, 1]})
        >>> ratios = Ratios("fe_h", "{x}_fe", flag="flag_{column}")
        >>> made = abundances_of(lambda names: stars[names], stars.colnames, ratios, "stars.fits")
        >>> made["MG_H"].tolist(), made["FE_H"].tolist()
        ([-0.3, nan], [-0.5, 0.0])
    """
    iron = found(ratios.iron, list(names))
    columns = _columns(names, ratios)
    lacking = [ratios.iron] * (iron is None) + [name for name in columns.values() if name not in names]
    if iron is None or lacking or not columns:
        raise InputError(
            f"description.stars.abundances: {where} has no column {', '.join(lacking) or ratios.over_iron}; there are "
            f"{', '.join(names)}; survey.description.stars.abundances=null does without [X/H]"
        )
    fe_h, fe_error = _good(read, names, iron, ratios)
    made = {abundance_column("Fe"): fe_h, error_column("Fe"): fe_error}
    for element, column in columns.items():
        own = abundance_column(element), error_column(element)
        if some is None or {*own} & {*some}:
            x_fe, error = _good(read, names, column, ratios)
            made |= {own[0]: x_fe + fe_h, own[1]: np.hypot(error, fe_error)}
    values = [value for name, value in made.items() if not name.endswith("_ERR")]
    known = sum(int(np.isfinite(value).sum()) for value in values)
    log.info("[X/H] of %d elements from [X/Fe]: %d of %d values are known and have no flag", len(values), known,
             len(values) * len(fe_h))  # fmt: skip
    return {name: value for name, value in made.items() if not name.endswith("_ERR") or np.isfinite(value).any()}


def _columns(names: Sequence[str], ratios: Ratios) -> dict[str, str]:
    """Element -> column of [X/Fe]."""
    if not isinstance(ratios.over_iron, str):
        return {element: found(name, list(names)) or name for element, name in ratios.over_iron.items()}
    pattern = re.escape(ratios.over_iron).replace(r"\{x\}", r"([A-Za-z]+\d?)")
    matches = {name: re.fullmatch(pattern, name, re.IGNORECASE) for name in names}
    return {match[1]: name for name, match in matches.items() if match}


def _good(
    read: Callable[[Sequence[str]], Table], names: Sequence[str], column: str, ratios: Ratios
) -> tuple[Floats, Floats]:
    """Values without a flag, and their errors; NaN for what is not known."""
    told = [rule.format(column=column) if rule else "" for rule in (ratios.flag, ratios.error)]
    flag, error = (found(name, list(names)) for name in told)
    stars = read([name for name in (column, flag, error) if name is not None])
    values = np.asarray(stars[column], dtype=np.float64)
    errors = np.full(len(values), np.nan) if error is None else np.asarray(stars[error], dtype=np.float64)
    return (values if flag is None else np.where(np.asarray(stars[flag]) == 0, values, np.nan)), errors
