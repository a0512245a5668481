"""How pictures look: one style file for all, a heading, and a stamp for what is simulated."""

from __future__ import annotations

from functools import partial
from typing import Any

from matplotlib import rcParams, style
from matplotlib.axis import Axis
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator

__all__ = ["COLOURS", "MARKS", "STAMP", "STYLE", "in_style", "rate_axis", "stamp", "titled"]

#: Name of rsca.mplstyle, as matplotlib.style.use takes it.
STYLE = "rsca_torch.drawing.rsca"
#: A `with`, or what stands above a function that draws.
in_style = partial(style.context, STYLE)

STAMP = "SIMULATED SURVEY"
PAD = 3 / 72  # inch between what is drawn and the edge, matplotlib's own
HEADING = 0.3  # inch


def _colours() -> tuple[str, ...]:
    with in_style():
        return tuple(rcParams["axes.prop_cycle"].by_key()["color"])


#: Those of the style file, in its order.
COLOURS = _colours()
MARKS = "osD^vP"  # what has a colour has a mark too, for print without colours


def titled(title: str, width: float, height: float) -> tuple[Figure, SubFigure]:
    """A picture with a heading, and the part below it, which panels and legends are made in.

    Args:
        title: what is seen; a stamp has room beside some 12 letters an inch, without its last 1.6.
        width: inches.
        height: inches, without the heading.

    Example:
        >>> figure, body = titled("Rates", 7, 4)
        >>> axes = body.subplots()
        >>> figure.get_suptitle(), figure.axes == [axes]
        ('Rates', True)
    """
    lines = title.count("\n") + 1
    figure = Figure(figsize=(width, height + HEADING * lines), layout="constrained")
    figure.suptitle(title, x=PAD / width, ha="left")
    body = figure.subfigures()
    assert isinstance(body, SubFigure)  # of one
    return figure, body


def stamp(figure: Figure) -> None:
    """Say on a picture that no real star is on it.

    Example:
        >>> figure, _ = titled("Rates", 7, 4)
        >>> stamp(figure)
        >>> figure.texts[-1].get_text()
        'SIMULATED SURVEY'
    """
    width, height = figure.get_size_inches()
    if not figure.get_suptitle():  # which keeps a line free for both
        figure.suptitle(" ")
    box: dict[str, Any] = {"boxstyle": "round,pad=0.25", "fc": "0.9", "ec": "none"}
    look: dict[str, Any] = {"ha": "right", "va": "top", "weight": "bold", "color": "0.25", "bbox": box}
    size = max(10.0, 0.9 * width)  # points
    figure.text(1 - 2 * PAD / width, 1 - 2 * PAD / height, STAMP, fontsize=size, **look)


def rate_axis(axis: Axis, of: str = "global doppelganger rate") -> None:
    """Have an axis of rates, which are shares, say them in %, and on a logarithmic one say more than powers of ten.

    Example:
        >>> figure, body = titled("Rates", 7, 4)
        >>> axes = body.subplots()
        >>> rate_axis(axes.yaxis)
        >>> axes.get_ylabel(), axes.yaxis.get_major_formatter()(0.003, None)
        ('global doppelganger rate, %', '0.3')
    """
    if axis.get_scale() == "log":
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_formatter("")
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g}"))
    axis.set_label_text(f"{of}, %")
