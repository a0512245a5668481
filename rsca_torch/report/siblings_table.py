"""Likely siblings on the terminal and in files."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
from astropy.table import Table
from rich.text import Text

from rsca_torch.errors import InputError
from rsca_torch.files.whole import atomic_file
from rsca_torch.report.terminal import plain_table, print_table
from rsca_torch.spectra.labels import printable
from rsca_torch.survey.fits_files import utf8

__all__ = ["lines_of", "print_siblings", "require_table_format", "write_siblings"]

SHOWN = 200  # rows on the terminal, of more stars than one
FORMS = {"DISTANCE": ".2f", "LOG_RATIO": ".1f", "P_SIBLING": ".3f", "EXPECTED": ".2g"}
HEADS = {
    "RANK": "rank",
    "SIBLING": "star",
    "DISTANCE": "distance",
    "LOG_RATIO": "ln ratio",
    "P_SIBLING": "P(sibling)",
    "EXPECTED": "strangers expected",
}
FIRST = ("STAR", "GROUP", "SAME_GROUP", "UNCERTAIN", "NOISE", "STAR_NOISE", "STAR_UNCERTAIN", "COMPARED", *HEADS)


def require_table_format(path: Path) -> None:
    """Raises InputError for a file that is neither FITS nor CSV by its name."""
    if path.suffix.lower() not in (".fits", ".csv"):
        raise InputError(f"out={path}: the end of the name says the format, .fits or .csv")


def lines_of(found: Table) -> list[str]:
    """What was compared, what was left out, and what the numbers take for granted."""
    told = found.meta
    within = ", ".join(
        f"{name.removeprefix('max_')} within {limit:g}" for name, limit in told["pairs"].items() if limit is not None
    )
    compared = np.asarray(found["COMPARED"]) if len(found) else np.zeros(1, dtype=int)
    low, high = f"{compared.min():,}", f"{compared.max():,}"
    lines = [
        f"compared with {low if low == high else f'{low} to {high}'} of {told['stars'] - 1:,} other stars: "
        f"{within or 'whatever their velocities and extinctions'}"
    ]
    for name, said in (
        ("uncertain_left_out", "stars are no candidates: their own noise is more than twice what siblings differ by"),
        ("without_valid_bin", "stars have no valid bin among the model's: nothing is known of them"),
    ):
        if told[name]:
            lines.append(f"{told[name]:,} {said}")
    if told["not_told"]:
        first = printable(str(told["not_told"][0]))
        lines.append(
            f"{len(told['not_told']):,} ids are not in the store, or of stars without a valid bin: first {first}"
        )
    prior = f"P(sibling) takes for granted that a share of {told['prior']:g} of the pairs asked about are siblings"
    if np.isfinite(np.asarray(found["P_SIBLING"])).any():
        lines.append(f"{prior} (prior=...)")
    if told["why"]:
        lines.append(told["why"])
    return lines


def print_siblings(found: Table, out: Path | None = None) -> None:
    """As one table a star that was asked about: the first whole, and others while they are `SHOWN` rows together.

    Args:
        found: of `likely_siblings`.
        out: the file that has all rows; None: there is none.
    """
    names = [name for name in found.colnames if name not in FIRST and not name.startswith("STAR_")]
    stars = np.asarray(found["STAR"])
    ends = np.append(np.flatnonzero(stars[1:] != stars[:-1]) + 1, len(found))
    whole = int(np.searchsorted(ends, SHOWN, side="right"))
    shown = found[: ends[max(whole - 1, 0)]]
    for star in dict.fromkeys(np.asarray(shown["STAR"]).tolist()):
        rows = shown[np.asarray(shown["STAR"]) == star]
        own = ", ".join(f"{name} {_cell(rows[f'STAR_{name}'][0])}" for name in names if f"STAR_{name}" in rows.colnames)
        unsure = ", UNCERTAIN: its own noise is more than twice what siblings differ by"
        mark = unsure if "STAR_UNCERTAIN" in rows.colnames and rows["STAR_UNCERTAIN"][0] else ""
        table = plain_table(["star", "group", ""], [HEADS[name] for name in HEADS if name != "SIBLING"] + names)
        table.title = Text(f"\n{printable(str(star))}{f' ({own})' if own else ''}{mark}")
        for row in rows:
            marks = "*" * bool(row["SAME_GROUP"]) + "?" * bool(row["UNCERTAIN"])
            texts = [str(row["SIBLING"]), str(row["GROUP"]), marks]
            numbers = [_cell(row[name], FORMS.get(name, "")) for name in HEADS if name != "SIBLING"]
            cells = [*texts, *numbers, *(_cell(row[name]) for name in names)]
            table.add_row(*(Text(printable(cell)) for cell in cells))
        print_table(table)
    if len(found) > len(shown):
        left = found[len(shown) :]
        of = f"{len(left):,} rows of {len(np.unique(left['STAR'])):,} stars are not shown"
        print(f"{of}: {'out=FILE.fits or .csv' if out is None else out} has them all")
    print("* a member of the same group; ? uncertain")


def write_siblings(found: Table, path: Path, source: Mapping[str, str]) -> None:
    """As FITS or CSV, whole or not at all.

    Raises:
        InputError: as `require_table_format`.
    """
    require_table_format(path)
    told = found.copy(copy_data=False)
    is_fits = path.suffix.lower() == ".fits"
    limits = ", ".join(f"{name}={limit}" for name, limit in found.meta["pairs"].items())
    told.meta = {"PRIOR": found.meta["prior"], "PAIRS": limits, "PROGRAM": f"rsca_torch {version('rsca_torch')}"}
    told.meta |= {name: printable(text).encode("ascii", "backslashreplace").decode() for name, text in source.items()}
    with atomic_file(path) as part:
        if is_fits:
            utf8(told).write(part, format="fits")
        else:
            told.write(part, format="ascii.csv")


def _cell(value: object, form: str = "") -> str:
    """A number with few digits, -- where it is not known; a text as it is."""
    if isinstance(value, float | np.floating):
        return "--" if not np.isfinite(value) else f"{value:{form or '.4g'}}"
    return str(value)
