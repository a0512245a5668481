"""The map of the stars in the model's features, to zoom into and to find a star on."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.table import Table
from bokeh.models import ColumnDataSource, HoverTool, LinearColorMapper
from bokeh.models.annotations import ColorBar
from bokeh.palettes import Cividis256
from bokeh.plotting import figure
from bokeh.util.hex import hexbin

__all__ = ["BINNED_ABOVE", "colours_of", "features_of", "star_map"]

BINNED_ABOVE = 10_000  # field stars: more are drawn as a density
HEIGHT = 520
CELLS = 60  # of a density, along an axis
MEMBER, FOUND = "#d55e00", "#cc0000"
TOOLS = "pan,wheel_zoom,box_zoom,reset,save"


def features_of(stars: Table) -> list[str]:
    """The columns that hold features."""
    return [name for name in stars.colnames if name.startswith("FEATURE_")]


def colours_of(stars: Table) -> dict[str, list[float]]:
    """Column -> between which values its colours run: 2 % of the stars lie outside on each side."""
    ranges = {}
    for name in stars.colnames:
        if name in ("STAR", "GROUP"):
            continue
        values = _numbers(stars, name)
        finite = values[np.isfinite(values)]
        if len(finite) and finite.min() < finite.max():
            low, high = np.quantile(finite, [0.02, 0.98])
            ranges[name] = [float(low), float(high)] if low < high else [float(finite.min()), float(finite.max())]
    return ranges


def star_map(stars: Table) -> Any:  # noqa: ANN401  (bokeh's figure)
    """Field stars and members, coloured by a column of the table.

    The page's script changes axes and colours: it finds the parts by their names, "field", "members", "found",
    "colour" and "bar". Of more than `BINNED_ABOVE` field stars the density is drawn, of which nothing can be changed.

    Args:
        stars: as `record.star_features` makes it.
    """
    axes = features_of(stars)
    x, y = axes[0], axes[min(1, len(axes) - 1)]
    colours = colours_of(stars)
    first = next((name for name in ("FE_H", *colours) if name in colours), None)
    plot = figure(
        height=HEIGHT, sizing_mode="stretch_width", tools=TOOLS, active_scroll="wheel_zoom", name="map",
        x_axis_label=_label(x), y_axis_label=_label(y), output_backend="canvas",
    )  # fmt: skip
    low, high = colours[first] if first else (0.0, 1.0)
    mapper = LinearColorMapper(palette=Cividis256, low=low, high=high, nan_color="#bbbbbb", name="colour")
    member = np.asarray(stars["GROUP"]) != ""
    columns = [x, y, *dict.fromkeys([*axes, *colours])]
    field = stars[~member]
    colour: Any = {"field": first, "transform": mapper} if first else "#7f7f7f"
    if len(field) > BINNED_ABOVE:
        _density(plot, _numbers(field, x), _numbers(field, y))
    else:
        source = _source(field, columns)
        drawn = plot.scatter(
            x, y, source=source, size=5, color=colour, alpha=0.7, line_color=None, name="field", legend_label="field"
        )
        plot.add_tools(_hover(drawn, columns))
    source = _source(stars[member], columns)
    drawn = plot.scatter(
        x, y, source=source, size=8, marker="diamond", fill_color=colour, line_color=MEMBER, line_width=1.5,
        name="members", legend_label="members of clusters",
    )  # fmt: skip
    plot.add_tools(_hover(drawn, columns))
    found = ColumnDataSource({"x": [], "y": []}, name="found")
    plot.scatter("x", "y", source=found, size=18, fill_color=None, line_color=FOUND, line_width=3, legend_label="found")
    if first:
        plot.add_layout(ColorBar(color_mapper=mapper, title=first, name="bar"), "right")
    plot.legend.location, plot.legend.background_fill_alpha = "top_left", 0.7
    return plot


def _density(plot: Any, x: np.ndarray, y: np.ndarray) -> None:  # noqa: ANN401  (bokeh's figure)
    there = np.isfinite(x) & np.isfinite(y)
    x, y = x[there], y[there]
    size = max(float(np.ptp(x)), float(np.ptp(y))) / CELLS or 1.0
    cells = hexbin(x, y, size)
    shade = LinearColorMapper(palette=["#e6e6e6", "#d0d0d0", "#b5b5b5", "#969696", "#737373"], low=0)
    shades = {"q": cells.q, "r": cells.r, "shade": np.log10(cells.counts)}
    plot.hex_tile(
        "q", "r", size=size, source=ColumnDataSource(shades), line_color=None,
        fill_color={"field": "shade", "transform": shade}, legend_label="field, where there are more darker",
    )  # fmt: skip


def _source(stars: Table, columns: list[str]) -> ColumnDataSource:
    data: dict[str, Any] = {name: _numbers(stars, name) for name in columns}
    data["star"] = [str(name) for name in stars["STAR"]]
    data["group"] = [str(name) for name in stars["GROUP"]]
    return ColumnDataSource(data)


def _hover(drawn: Any, columns: list[str]) -> HoverTool:  # noqa: ANN401  (bokeh's renderer)
    told = [("star", "@star"), ("cluster", "@group")]
    told += [(name, f"@{name}{{0.000}}") for name in dict.fromkeys(columns)]
    return HoverTool(renderers=[drawn], tooltips=told)


def _numbers(stars: Table, name: str) -> np.ndarray:
    return np.asarray(stars[name], dtype=np.float32)


def _label(name: str) -> str:
    return name.replace("_", " ").lower()
