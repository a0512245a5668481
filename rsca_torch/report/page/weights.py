"""The spectra by which the features are weighed, to zoom into, with the strongest lines named."""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, HoverTool
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
            height=190, sizing_mode="stretch_width", tools="xpan,xwheel_zoom,box_zoom,reset,save",
            active_scroll="xwheel_zoom", y_axis_label=f"weight, feature {number}", name=f"weights {number}",
            **together,
        )  # fmt: skip
        drawn = plot.line("wavelength", name, source=shared, color=COLOUR, line_width=1)
        told = [("wavelength", "@wavelength{0.0} Angstrom"), ("weight", f"@{name}{{0.0000}}")]
        plot.add_tools(HoverTool(renderers=[drawn], tooltips=told, mode="vline"))
        at, height, names = zip(*strongest_lines(wavelength, row, lines) or [(np.nan, np.nan, "")], strict=True)
        labels = ColumnDataSource({"x": at, "y": height, "name": names})
        plot.add_layout(
            LabelSet(x="x", y="y", text="name", source=labels, text_font_size="11px", text_align="center", y_offset=2)
        )
        panels.append(plot)
    panels[-1].xaxis.axis_label = "rest wavelength in vacuum, Angstrom"
    return column(panels, sizing_mode="stretch_width", name="weights")
