"""What a notebook shows of an object: a small table in HTML, which needs nothing besides, or a plot."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib import import_module
from typing import Any

from rsca_torch.spectra.labels import printable

__all__ = ["card", "plots"]

LONGEST = 200  # letters of a cell
CELL = "text-align: left; padding: 0 1em 0 0"


def card(title: str, rows: Mapping[str, object]) -> str:
    r"""A heading and a row for each thing that is told; names from data are text, never markup.

    Args:
        title: of the object.
        rows: what it is -> how much; one that is None is left out.

    Example:
        >>> print(card("Spectra", {"stars": 3, "first": "<b>M\x1b67</b>", "errors": None}))
        <table><caption style="..."><b>Spectra</b></caption>
        <tr><th style="...">stars</th><td style="...">3</td></tr>
        <tr><th style="...">first</th><td style="...">&lt;b&gt;M\x1b67&lt;/b&gt;</td></tr>
        </table>
    """
    lines = [f'<table><caption style="{CELL}"><b>{_shown(title)}</b></caption>']
    for name, value in rows.items():
        if value is not None:
            cells = f'<th style="{CELL}">{_shown(name)}</th><td style="{CELL}">{_shown(str(value))}</td>'
            lines.append(f"<tr>{cells}</tr>")
    return "\n".join([*lines, "</table>"])


def _shown(text: str) -> str:
    short = text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
    return escape(printable(short))


def plots() -> Any:  # noqa: ANN401  (a module)
    """`drawing.plots`, loaded when something is plotted: matplotlib takes a second, which nobody waits for unasked."""
    return import_module("rsca_torch.drawing.plots")
