"""An explanation on the terminal and in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from rich.table import Table as RichTable
from rich.text import Text

from rsca_torch.drawing.style import stamp
from rsca_torch.errors import InputError
from rsca_torch.explanation.explain import Explained
from rsca_torch.files.whole import atomic_file
from rsca_torch.report.explanation_picture import draw_explanation
from rsca_torch.report.figure_files import save_figure, write_figure
from rsca_torch.report.terminal import percent, plain_table
from rsca_torch.survey.fits_files import utf8

__all__ = ["KINDS", "is_feature", "name_of", "printable", "strongest", "tables_of", "write_explanation", "write_one"]

SHOWN = 10  # rows of each table on the terminal
TABLES = ("bins", "lines", "windows", "further")
KINDS = (".csv", ".fits", ".png", ".pdf")  # of one file: the bins as a table, or the picture

#: How numbers of a column are written on the terminal; shares in %.
FORMS = {"LINE": ".2f", "WAVELENGTH": ".2f", "SPEARMAN": "+.3f", "PEARSON": "+.3f", "UNITS": "+.2f"}
SHARES = {"SHARE", "AS_FAR"}
HEADS = {
    "SHARE": "share, %",
    "LINE": "line, Angstrom",
    "WAVELENGTH": "bin, Angstrom",
    "UNITS": "in spreads",
    "AS_FAR": "field as far, %",
}


def printable(text: str) -> str:
    r"""A text from a table, with control characters written out.

    >>> print(printable("a\x1b[31mb\nc"))
    a\x1b[31mb\nc
    """
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def tables_of(told: Explained) -> list[tuple[str, RichTable]]:
    """(what it is, table) of bins, lines, windows and what is further told, the largest first."""
    further = "correlation with the star table" if is_feature(told) else "features, 1 the most important"
    captions = {
        "bins": f"strongest bins: shares of the {printable(told.carried)}",
        "lines": "lines: the sums of their bins",
        "windows": "element windows; a bin in several counts in equal parts in each",
        "further": further,
    }
    rows = {name: strongest(told) if name == "bins" else getattr(told, name) for name in captions}
    return [(f"\n{caption}{_more(rows[name])}", _table(rows[name])) for name, caption in captions.items()]


def strongest(told: Explained) -> Table:
    """The bins, the largest share of either sign first; of a star those of its largest feature."""
    bins = told.bins
    if "FEATURE" in bins.colnames:
        bins = bins[bins["FEATURE"] == bins["FEATURE"][0]]
    shown = [name for name in ("WAVELENGTH", "SHARE", "ELEMENT", "LINE", "WINDOWS") if name in bins.colnames]
    return bins[np.argsort(-np.abs(bins["SHARE"]), kind="stable")][shown]


def write_explanation(folder: Path, told: Explained, command: str) -> None:
    """bins, lines, windows and correlations or features as CSV and FITS, notes.txt, and the picture as PNG and PDF."""
    for name in TABLES:
        for kind in ("csv", "fits"):
            _write(folder / f"{name_of(name, told)}.{kind}", getattr(told, name), command)
    lines = [told.title, f"shares: of the {told.carried}; they add up to one", *told.notes, command]
    (folder / "notes.txt").write_text("\n".join(map(printable, lines)) + "\n", encoding="utf-8")
    save_figure(draw_explanation(told), folder, "explanation", told.simulated)


def name_of(table: str, told: Explained) -> str:
    """Of the file of a table."""
    return table if table != "further" else "correlations" if is_feature(told) else "features"


def is_feature(told: Explained) -> bool:
    """Whether a feature is explained, and not a pair or a star."""
    return "COLUMN" in told.further.colnames


def write_one(file: Path, told: Explained, command: str) -> None:
    """The bins as CSV or FITS, or the picture as PNG or PDF, by the file's ending.

    Raises:
        InputError: for another ending.
    """
    if file.suffix not in KINDS:
        raise InputError(f"out={file}: a folder, or a file ending in {', '.join(KINDS)} expected")
    with atomic_file(file) as part:
        if file.suffix in (".png", ".pdf"):
            of = {"Software": None} if file.suffix == ".png" else {"CreationDate": None}
            figure = draw_explanation(told)
            if told.simulated:
                stamp(figure)
            write_figure(figure, part, metadata=of)
        else:
            _write(part, told.bins, command, file.suffix[1:])


def _write(file: Path, table: Table, command: str, kind: str | None = None) -> None:
    table = Table(table, copy=False)
    if (kind or file.suffix[1:]) == "fits":
        table.meta = {"COMMAND": command.encode("ascii", "backslashreplace").decode()}
        utf8(table).write(file, format="fits")
    else:
        table.meta = {}
        table.write(file, format="ascii.csv")


def _more(rows: Table) -> str:
    return f" ({len(rows) - SHOWN} more in the files)" if len(rows) > SHOWN else ""


def _table(rows: Table) -> RichTable:
    """The first rows; texts are on the left, where they come from on the right."""
    texts = [name for name in rows.colnames if rows[name].dtype.kind == "U"]
    last = [name for name in texts if name in ("SOURCE", "LINES", "WINDOWS")]
    order = sorted(rows.colnames, key=lambda name: (name in last, name not in texts))
    table = plain_table([])
    for name in order:
        head = HEADS.get(name, name.lower().replace("_", " "))
        table.add_column(head, justify="left" if name in texts else "right", no_wrap=True)
    for row in rows[:SHOWN]:
        table.add_row(*(Text(_cell(name, row[name])) for name in order))
    return table


def _cell(name: str, value: Any) -> str:  # noqa: ANN401  (of a table)
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, float | np.floating) and np.isnan(value):
        return ""
    if name in SHARES:
        return percent(float(value))
    if isinstance(value, int | np.integer):
        return str(value)
    return f"{value:{FORMS.get(name, '.3g')}}"
