"""Which lines of a spectrum of weights are worth a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

__all__ = ["APART", "Lines", "strongest_lines", "with_gaps", "write_names"]

NAMED = 12  # lines
APART = 25.0  # Angstrom between names
REACH = 0.8  # Angstrom: a bin belongs to a line that is no farther
GAP = 5  # a curve is not drawn across a step in wavelength that is so many times the usual one


class Lines(Protocol):
    """What is asked of a list of lines, as `survey.line_list.LineList` is one."""

    @property
    def element(self) -> NDArray[np.str_]:
        """(L,) whose line it is."""

    def nearest(self, wavelength: NDArray[np.float64], reach: float) -> NDArray[np.int64]:
        """(P,) number of the line nearest to each bin, -1 where none is within reach."""


def strongest_lines(
    wavelength: NDArray[np.float64],
    weight: NDArray[np.float64],
    lines: Lines,
    most: int = NAMED,
    apart: float = APART,
) -> list[tuple[float, float, str]]:
    """(wavelength, weight, name) of the bins that weigh most and belong to a line, no two close to each other.

    Args:
        wavelength: (P,) Angstrom.
        weight: (P,) of one feature.
        lines: which are named.
        most: how many are.
        apart: Angstrom between two, at least.
    """
    number = lines.nearest(wavelength, REACH)
    named: list[tuple[float, float, str]] = []
    for place in np.argsort(-np.abs(weight)):
        if len(named) == most or not weight[place]:
            break
        if number[place] >= 0 and all(abs(wavelength[place] - at) > apart for at, _, _ in named):
            named.append((float(wavelength[place]), float(weight[place]), str(lines.element[number[place]])))
    return sorted(named)


def with_gaps(wavelength: NDArray[np.float64], *curves: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Wavelength and curves with a NaN in each wide step, so that no line is drawn across it.

    >>> with_gaps(np.array([1.0, 2, 3, 20, 21]), np.arange(5.0))[1]
    array([ 0.,  1.,  2., nan,  3.,  4.])
    """
    steps = np.diff(wavelength)
    gaps = np.flatnonzero(steps > GAP * (np.median(steps) if len(steps) else 1.0)) + 1
    return tuple(np.insert(each.astype(float), gaps, np.nan) for each in (wavelength, *curves))


def write_names(axes: Axes, named: Sequence[tuple[float, float, str]], size: float = 9) -> None:
    """The names of lines, above a maximum and below a minimum, and room for them."""
    for place, height, name in named:
        up = height >= 0
        axes.annotate(
            name, (place, height), (0, 2 if up else -2), textcoords="offset points", ha="center",
            va="bottom" if up else "top", fontsize=size, parse_math=False,
        )  # fmt: skip
    axes.margins(y=0.18)
