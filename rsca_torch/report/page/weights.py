"""The spectra by which the features are weighed, to zoom into, with the strongest lines named."""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.layouts import gridplot
from bokeh.models import ColumnDataSource, HoverTool, Range1d
from bokeh.models.annotations import LabelSet
from bokeh.plotting import figure

from rsca_torch.drawing.named_lines import strongest_lines
from rsca_torch.layers.rsca import RSCA
from rsca_torch.survey.line_list import LineList

__all__ = ["weight_spectra"]

SHOWN = 4  # features
GAP = 5  # a line is not drawn across a step in wavelength that is so many times the smallest
COLOUR = "#0072b2"


def weight_spectra(model: RSCA, lines: LineList) -> Any:  # noqa: ANN401  (bokeh's layout)
    """A panel a feature, of the most important ones; they are zoomed into together.

    Args:
        model: whose rows are ordered by importance.
        lines: whose elements are named.
    """
    wavelength = model.wavelength.numpy()
    panels: list[Any] = []
    steps = np.diff(wavelength)
    gaps = np.flatnonzero(steps > GAP * np.median(steps)) + 1
    x = np.insert(wavelength, gaps, np.nan).astype(np.float32)
    shared = ColumnDataSource({"wavelength": x})
    for number, row in enumerate(model.weight[:SHOWN].numpy(), start=1):
        name = f"weight_{number}"
        shared.data[name] = np.insert(row, gaps, np.nan).astype(np.float32)
        together: dict[str, Any] = {"x_range": panels[0].x_range} if panels else {}
        plot = figure(
            height=200, tools="xpan,xwheel_zoom,box_zoom,reset,save", active_scroll="xwheel_zoom",
            y_axis_label=f"weight, feature {number}", y_range=_with_room(row), name=f"weights {number}", **together,
        )  # fmt: skip
        drawn = plot.line("wavelength", name, source=shared, color=COLOUR, line_width=1)
        told = [("wavelength", "@wavelength{0.0} Angstrom"), ("weight", f"@{name}{{0.0000}}")]
        plot.add_tools(HoverTool(renderers=[drawn], tooltips=told, mode="vline"))
        at, height, names = zip(*strongest_lines(wavelength, row, lines) or [(np.nan, np.nan, "")], strict=True)
        away = [2 if each > 0 else -14 for each in height]  # pixels, beyond the end of the line
        labels = ColumnDataSource({"x": at, "y": height, "name": names, "away": away}, name=f"lines {number}")
        plot.add_layout(
            LabelSet(
                x="x", y="y", text="name", source=labels, text_font_size="11px", text_align="center", y_offset="away"
            )
        )
        panels.append(plot)
    panels[-1].xaxis.axis_label = "rest wavelength in vacuum, Angstrom"
    together = {"logo": None}  # which leads to its makers' pages
    return gridplot(panels, ncols=1, sizing_mode="stretch_width", toolbar_location="above", toolbar_options=together)  # type: ignore[call-overload]


def _with_room(weight: np.ndarray) -> Range1d:
    """From the lowest to the highest, and room for names beyond both."""
    low, high = float(weight.min()), float(weight.max())
    margin = 0.15 * (high - low) or 1.0
    return Range1d(start=low - margin, end=high + margin)
