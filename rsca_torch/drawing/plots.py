"""What `.plot()` draws, on axes that are given or on new ones of pyplot, in whatever style is in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from numpy.typing import NDArray

from rsca_torch.drawing.named_lines import Lines, strongest_lines, with_gaps, write_names
from rsca_torch.drawing.rates import Rate, draw_rates_on, rows_of
from rsca_torch.drawing.style import COLOURS

__all__ = ["plot_convergence", "plot_curves", "plot_rates"]

Numbers = NDArray[np.float64]


def plot_curves(
    axes: Axes | None,
    wavelength: Numbers,
    curves: Mapping[str, Numbers],
    said: tuple[str, str],
    lines: Lines | None = None,
) -> Axes:
    """Curves over wavelength, with gaps where bins are left out or NaN; the first one's strongest lines are named.

    Args:
        axes: to draw on. None: new ones.
        wavelength: (P,).
        curves: name -> (P,).
        said: what stands along either axis.
        lines: that are named. None: none are.
    """
    axes = _given(axes, (9.0, 3.5))
    for number, (name, curve) in enumerate(curves.items()):
        axes.plot(*with_gaps(wavelength, curve), lw=0.8, color=COLOURS[(number + 1) % len(COLOURS)], label=name)
        if number == 0 and lines is not None:
            write_names(axes, strongest_lines(wavelength, curve, lines))
    axes.set(xlabel=said[0], ylabel=said[1])
    axes.margins(x=0.01)
    if len(curves) > 1:
        _legend(axes)
    return axes


def plot_rates(axes: Axes | None, rates: Sequence[Rate]) -> Axes:
    """As `draw_rates_on`, with a legend where there are several series."""
    groups, series = rows_of(rates)
    axes = _given(axes, (7.0, 1.2 + 0.3 * max(len(groups), len(rates))))
    draw_rates_on(axes, rates)
    if len(series) > 1:
        _legend(axes)
    return axes


def plot_convergence(axes: Axes | None, history: Sequence[float]) -> Axes:
    """How much each iteration gained, on a logarithmic scale; history: nats a bin after each."""
    axes = _given(axes, (6.0, 3.5))
    gained = np.diff(np.asarray(history, dtype=float))
    axes.plot(np.arange(2, len(history) + 1), np.where(gained > 0, gained, np.nan), "o-", ms=3, color=COLOURS[1])
    if (gained > 0).any():
        axes.set_yscale("log")
    axes.set(xlabel="iteration", ylabel="gain, nats a bin")
    return axes


def _given(axes: Axes | None, size: tuple[float, float]) -> Axes:
    return pyplot.subplots(figsize=size, layout="constrained")[1] if axes is None else axes


def _legend(axes: Axes) -> None:
    """Each name once, as it is."""
    told = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    for text in axes.legend(told.values(), told).get_texts():
        text.set_parse_math(False)
