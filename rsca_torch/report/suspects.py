"""Suspects, listed members that are none most likely: on the terminal, in Markdown and in LaTeX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from astropy.table import Table
from rich.table import Table as RichTable

from rsca_torch.errors import InputError
from rsca_torch.report.latex import escaped, tabular
from rsca_torch.report.terminal import plain_table

__all__ = ["NAME", "latex_of", "markdown_of", "read_suspects", "suspects_table"]

NAME = "suspects.csv"
SHOWN = 25  # on the terminal, the surest first
TEXTS, NUMBERS = ("star", "cluster", "suspects of listed"), ("distance", "ln ratio", "P(wrong)")


def suspects_table(found: Table) -> RichTable | None:
    """The suspects, the surest first; None where there is none."""
    rows = _of(found.to_pandas())
    if not len(rows):
        return None
    shown = rows.head(SHOWN)
    more = "" if len(rows) == len(shown) else f"; {len(rows) - len(shown)} more in {NAME}"
    table = plain_table(
        TEXTS, NUMBERS, title=f"Suspects, listed members that are left out{more}\n" + _said(rows).replace("; ", "\n")
    )
    for row in _cells(shown):
        table.add_row(*row)
    return table


def read_suspects(run: Path) -> pd.DataFrame | None:
    """Those of a finished run, the surest first; None where it has none."""
    if not (run / NAME).exists():
        return None
    try:
        rows = _of(pd.read_csv(run / NAME, dtype={0: str, 1: str}))
        if len(rows):
            _said(rows)
            _cells(rows)
    except Exception as error:  # whatever a reader of a damaged file raises
        raise InputError(
            f"{run / NAME} is damaged ({type(error).__name__}: {error}): run rsca compare again"
        ) from error
    return rows if len(rows) else None


def markdown_of(rows: pd.DataFrame) -> str:
    """A section with all of them."""
    lines = [(*TEXTS, *NUMBERS), ("---", "---", "---", "---:", "---:", "---:"), *_cells(rows)]
    body = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
    return "\n".join(["", "## Suspects", "", _said(rows), "", *body, ""])


def latex_of(rows: pd.DataFrame, label: str) -> str:
    """A table of all of them, as `rsca_torch.report.latex` has the others."""
    caption = f"Suspects, listed members that are left out: {escaped(_said(rows))}"
    heads = ["Star", "Cluster", "Suspects of listed"], ["Distance", r"$\ln$ ratio", r"$P$(wrong)"]
    return tabular(*heads, [[escaped(cell) for cell in row] for row in _cells(rows)], caption, f"tab:{label}-suspects")


def _of(found: pd.DataFrame) -> pd.DataFrame:
    """By probability, and by distance where that is the same or not known."""
    return found.sort_values(["P_WRONG", "DISTANCE"], ascending=False, kind="stable", na_position="last")


def _cells(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    """Of every suspect, in the order of the heads."""
    return [
        (
            str(row.iloc[0]),
            str(row.iloc[1]),
            f"{row['SUSPECTS']} of {row['LISTED']}",
            f"{row['DISTANCE']:.2f}",
            *("--" if np.isnan(row[name]) else f"{row[name]:{form}}" for name, form in COLUMNS.items()),
        )
        for _, row in rows.iterrows()
    ]


COLUMNS = {"LOG_RATIO": ".1f", "P_WRONG": ".3f"}


def _said(rows: pd.DataFrame) -> str:
    """What the numbers mean."""
    prior, clusters = rows["PRIOR"].iloc[0], rows["CALIBRATED_ON"].iloc[0]
    how = f"calibrated on {clusters} clusters" if clusters else "not calibrated, too sure"
    return (
        "distance: from the cluster, 1 is the limit; ln ratio: of being a sibling to being a field star, in nats; "
        f"P(wrong): that it is no member, if {prior:g} of the listed are none, {how}"
    )
