"""The map of the stars in the model's features, to zoom into and to find a star on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from astropy.table import Table
from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, HoverTool, LinearColorMapper
from bokeh.models.annotations import ColorBar, Legend
from bokeh.palettes import Cividis256
from bokeh.plotting import figure
from bokeh.util.hex import cartesian_to_axial

from rsca_torch.errors import InputError

__all__ = ["BINNED_ABOVE", "NUMBER", "colours_of", "features_of", "map_of"]

BINNED_ABOVE = 10_000  # stars: of more the field is drawn as cells
HEIGHT = 560
CELLS = 60  # along an axis, of 98 % of the stars
NUMBER = "log10 of stars"  # in a cell
MEMBER, FOUND, UNKNOWN = "#d55e00", "#cc0000", "#bbbbbb"
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


def map_of(stars: Table) -> dict[str, Any]:
    """The map, and what the page's controls and script know of it.

    Args:
        stars: as `record.star_features` makes it.

    Raises:
        InputError: the table has no feature.
    """
    names = features_of(stars)
    if not names:
        raise InputError("the table of stars has no column FEATURE_1")
    cells = _cells(stars, names[0], names[min(1, len(names) - 1)]) if len(stars) > BINNED_ABOVE else None
    colours = colours_of(stars)
    if cells is not None:
        colours = {NUMBER: [0.0, float(cells[NUMBER].max())], **colours}
    first = next((name for name in (NUMBER, "FE_H", *colours) if name in colours), None)
    return {
        "item": json_item(_drawn(stars, names, cells, colours, first), ID("map")),
        "axes": names if cells is None else [],
        "shown": dict(zip("xy", names, strict=False)) if len(names) > 1 else dict.fromkeys("xy", names[0]),
        "colours": colours,
        "first": first,
        "cells": cells is not None,
    }


def _drawn(
    stars: Table, names: list[str], cells: pd.DataFrame | None, colours: dict[str, list[float]], first: str | None
) -> Any:  # noqa: ANN401  (bokeh's figure)
    """Field stars, or cells of them, and members, coloured by a column of the table.

    The page's script changes axes and colours: it finds the parts by their names, "field", "cells", "members", "found",
    "colour" and "bar".
    """
    x, y = names[0], names[min(1, len(names) - 1)]
    plot = figure(
        height=HEIGHT, sizing_mode="stretch_width", tools=TOOLS, active_scroll="wheel_zoom", name="map",
        x_axis_label=_label(x), y_axis_label=_label(y), output_backend="canvas", toolbar_location="above",
    )  # fmt: skip
    plot.toolbar.logo = None  # which leads to its makers' pages
    low, high = colours[first] if first else (0.0, 1.0)
    mapper = LinearColorMapper(palette=Cividis256, low=low, high=high, nan_color=UNKNOWN, name="colour")
    colour: Any = {"field": first, "transform": mapper} if first else UNKNOWN
    columns = [x, y, *dict.fromkeys([*names, *colours])]
    plot.add_layout(Legend(orientation="horizontal", border_line_color=None), "above")
    member = np.asarray(stars["GROUP"]) != ""
    if cells is None:
        drawn = plot.scatter(
            x, y, source=_source(stars[~member], columns), size=5, color=colour, alpha=0.8, line_color=None,
            name="field", legend_label="field",
        )  # fmt: skip
        plot.add_tools(_hover(drawn, columns))
    else:
        source = ColumnDataSource({name: cells[name].to_numpy() for name in cells})
        tiles = plot.hex_tile(
            "q", "r", size=cells.attrs["size"], aspect_scale=cells.attrs["aspect"], line_color=None, name="cells",
            source=source, fill_color=colour, legend_label="field, in cells",
        )  # fmt: skip
        means = [(f"mean {name}", f"@{{{name}}}{{0.000}}") for name in colours if name != NUMBER]
        plot.add_tools(HoverTool(renderers=[tiles], tooltips=[("stars", "@stars"), *means]))
    drawn = plot.scatter(
        x, y, source=_source(stars[member], columns), size=8, marker="square", fill_color=colour, line_color=MEMBER,
        line_width=1.5, name="members", legend_label="members of clusters",
    )  # fmt: skip
    plot.add_tools(_hover(drawn, [name for name in columns if name != NUMBER]))
    found = ColumnDataSource({"x": [], "y": []}, name="found")
    plot.scatter("x", "y", source=found, size=18, fill_color=None, line_color=FOUND, line_width=3)
    if first:
        bar = ColorBar(color_mapper=mapper, title=first, name="bar", height=10, padding=4, title_standoff=2)
        plot.add_layout(bar, "below")
    return plot


def _cells(stars: Table, x: str, y: str) -> pd.DataFrame:
    """Field stars in hexagons: how many (`stars`, and the logarithm), and the mean of each column.

    Where a hexagon is says its `q` and `r`; how large it is, the table's attributes `size` and `aspect`.
    """
    field = stars[np.asarray(stars["GROUP"]) == ""]
    columns = {name: _numbers(field, name) for name in field.colnames if name not in ("STAR", "GROUP")}
    table = pd.DataFrame(columns)
    table = table[np.isfinite(table[x]) & np.isfinite(table[y])]
    wide, high = (float(np.ptp(np.quantile(table[name], [0.01, 0.99]))) or 1.0 for name in (x, y))
    size, aspect = high / CELLS, high / wide
    table["q"], table["r"] = cartesian_to_axial(
        table[x].to_numpy(), table[y].to_numpy(), size, "pointytop", aspect_scale=aspect
    )
    groups = table.groupby(["q", "r"], sort=True)
    cells = groups.mean().astype(np.float32)
    cells["stars"] = groups.size()
    cells[NUMBER] = np.log10(cells["stars"]).astype(np.float32)
    cells = cells.reset_index()
    cells.attrs |= {"size": size, "aspect": aspect}
    return cells


def _source(stars: Table, columns: list[str]) -> ColumnDataSource:
    nothing = np.full(len(stars), np.nan, dtype=np.float32)  # a star is no cell
    data: dict[str, Any] = {name: nothing if name == NUMBER else _numbers(stars, name) for name in columns}
    data["star"] = [str(name) for name in stars["STAR"]]
    data["group"] = [str(name) for name in stars["GROUP"]]
    return ColumnDataSource(data)


def _hover(drawn: Any, columns: list[str]) -> HoverTool:  # noqa: ANN401  (bokeh's renderer)
    told = [("star", "@star"), ("cluster", "@group")]
    told += [(name, f"@{{{name}}}{{0.000}}") for name in dict.fromkeys(columns)]
    return HoverTool(renderers=[drawn], tooltips=told)


def _numbers(stars: Table, name: str) -> np.ndarray:
    return np.asarray(stars[name], dtype=np.float32)


def _label(name: str) -> str:
    return name.replace("_", " ").lower()
