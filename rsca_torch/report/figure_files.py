"""Figures as files: PNG and PDF, in which names stand as they are."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, Formatter, FuncFormatter

from rsca_torch.drawing.style import in_style, stamp
from rsca_torch.spectra.labels import printable

__all__ = ["png_of", "save_figure", "write_figure"]


def save_figure(figure: Figure, folder: Path, name: str, simulated: bool = False) -> None:
    """PNG to look at and PDF to publish, without the date of the day in either.

    Args:
        figure: to write.
        folder: where to.
        name: of the files.
        simulated: whether the stars on it are drawn by a program, which is stamped on it.
    """
    if simulated:
        stamp(figure)
    _make_readable(figure)
    write_figure(figure, folder / f"{name}.png", metadata={"Software": None})
    figure.set_layout_engine("none")  # laid out already
    write_figure(figure, folder / f"{name}.pdf", metadata={"CreationDate": None})


@in_style()
def png_of(figure: Figure) -> bytes:
    """The same PNG, without a file."""
    _make_readable(figure)
    drawn = BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    return drawn.getvalue()


@in_style()  # ticks are made when they are drawn
def write_figure(figure: Figure, path: Path, **options: Any) -> None:
    """A picture in a file, drawn in memory first: a backend says other things of a disk that is full."""
    drawn = BytesIO()
    figure.savefig(drawn, format=path.suffix[1:], **options)
    path.write_bytes(drawn.getvalue())


def _make_readable(figure: Figure) -> None:
    """Have what is no mathematics, as a name with one dollar, shown as it is; and what cannot be shown as its code."""
    for panel in figure.axes:
        for axis in (panel.xaxis, panel.yaxis):
            formatter = axis.get_major_formatter()
            if isinstance(formatter, FixedFormatter | FuncFormatter):  # of ticks with names
                axis.set_major_formatter(FuncFormatter(partial(_tick, formatter)))
            axis.get_ticklabels()  # which are made when they are asked for
    parser = MathTextParser("path")
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        given = text.get_text()
        shown = _shown(given)
        if shown != given:
            text.set_text(shown)
        try:
            if "$" in shown:
                parser.parse(shown)
        except ValueError:
            text.set_parse_math(False)


def _tick(formatter: Formatter, place: float, number: int | None = None) -> str:
    return _shown(formatter(place, number))


def _shown(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))
