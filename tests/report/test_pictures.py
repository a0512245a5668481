"""Pictures: one style, a stamp on what is simulated, and lines with their names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from rsca_torch.cli.main import main
from rsca_torch.drawing.rates import draw_rates_on
from rsca_torch.drawing.style import COLOURS, STAMP, STYLE, in_style, rate_axis, stamp, titled
from rsca_torch.report import comparison_folder, explanation, figure_files
from rsca_torch.report.figure_files import save_figure
from rsca_torch.report.pictures import draw_weights
from rsca_torch.survey.line_list import LineList

ROOT = Path(__file__).parents[2]
LINES = LineList(np.array([15010.0, 15030.0, 15050.0]), np.array(["Mg", "$x$", "Fe"]), np.array(["me"] * 3))


def texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


@pytest.fixture
def stamped(monkeypatch):
    """What was stamped, by the names of the files."""
    saved = {}
    for module in (comparison_folder, explanation):
        monkeypatch.setattr(module, "save_figure", lambda _, __, name, simulated=False: saved.update({name: simulated}))
    return saved


@pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning", "ignore::DeprecationWarning:hydra")
def test_every_picture_of_a_simulated_survey_is_stamped_and_no_other(tmp_path, monkeypatch, stamped):
    monkeypatch.chdir(tmp_path)
    small = ["compressor.n_components=2", "compressor.tolerance=1e-2", "baselines=null", "page=false"]
    survey = ["simulation.n_field=150", "simulation.stars.clusters=6"]
    assert main(["compare", *small, *survey, "out=run"]) == 0
    assert {"rates", "features", "weights", "reliability", "distances_spectra", "distances_abundances"} <= set(stamped)
    assert all(stamped.values()), stamped
    model, store = "model=run/rsca.safetensors", "store=rsca_simulated/seed-0/store"
    assert main(["explain", model, store, "feature=1", "out=a"]) == 0
    assert stamped["explanation"]
    monkeypatch.setattr(explanation, "stamp", lambda _: stamped.update({"one file": True}))
    assert main(["explain", model, store, "feature=1", "out=a.png"]) == 0
    assert stamped["one file"]
    assert json.loads(Path("run/results.json").read_text())["store"]["simulated"] is True
    stamped.clear()
    Path("rsca_simulated/seed-0/store").rename("elsewhere")  # there nothing says that it is simulated
    assert main(["compare", *small, "store=elsewhere", "out=other"]) == 0
    assert {"rates", "features", "weights", "reliability", "distances_spectra"} <= set(stamped)
    assert not any(stamped.values()), stamped
    assert json.loads(Path("other/results.json").read_text())["store"]["simulated"] is False


@pytest.mark.parametrize("heading", [True, False])
def test_the_stamp_can_be_read_and_hides_nothing(heading, tmp_path):
    with in_style():
        figure, body = titled("Rates", 6, 3) if heading else (Figure(figsize=(6, 3), layout="constrained"),) * 2
        axes = body.subplots()
        axes.plot([0, 1], [0, 1], label="one")
        axes.set_title("a panel")
        if heading:
            body.legend(loc="outside upper left")
    save_figure(figure, tmp_path, "plain")
    assert STAMP not in texts(figure)
    stamp(figure)
    figure.set_layout_engine("constrained")
    figure.draw_without_rendering()
    (mark,) = [text for text in figure.texts if text.get_text() == STAMP]
    place, whole = mark.get_window_extent(), figure.bbox
    assert whole.x0 < place.x0 < place.x1 <= whole.x1
    assert place.y1 <= whole.y1
    others = [axes.get_tightbbox(), *(legend.get_window_extent() for legend in body.legends)]
    if heading:
        others.append(next(text for text in figure.texts if text.get_text() == "Rates").get_window_extent())
    assert not any(place.overlaps(other) for other in others)


def test_files_are_stamped_where_that_is_said(tmp_path):
    figure, _ = titled("Rates", 4, 2)
    save_figure(figure, tmp_path, "not")
    save_figure(titled("Rates", 4, 2)[0], tmp_path, "stamped", simulated=True)
    assert (imread(tmp_path / "not.png") != imread(tmp_path / "stamped.png")).any()


def test_one_style_for_all():
    """No picture is made without it: every module that makes a figure, or saves one, names it."""
    here = matplotlib.rcParams["axes.spines.top"]
    with matplotlib.style.context(STYLE):  # a user's way to it
        assert not matplotlib.rcParams["axes.spines.top"]
        assert tuple(matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]) == COLOURS
    assert matplotlib.rcParams["axes.spines.top"] == here
    draws = re.compile(r"\bFigure\(|\.subplots\(|\.savefig\(")
    named = re.compile(r"in_style|titled|drawing\.plots")
    for path in [*ROOT.glob("rsca_torch/**/*.py"), *ROOT.glob("experiments/**/*.py")]:
        source = path.read_text(encoding="utf-8")
        if draws.search(source) and path.parts[-2] not in ("drawing", "page"):  # the page's is its own
            assert named.search(source), path
    written = [path for path in ROOT.glob("rsca_torch/**/*.py") if re.search(r"#[0-9a-f]{6}\b", path.read_text())]
    assert {path.parent.name for path in written} <= {"page"}, "colours are in drawing/rsca.mplstyle"


def test_figures_are_saved_in_the_style(monkeypatch, tmp_path):
    """Ticks are made when they are drawn."""
    seen = []
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: seen.append(matplotlib.rcParams["axes.spines.top"]))
    figure_files.write_figure(Figure(), tmp_path / "a.png")
    assert seen == [False]


def test_the_strongest_lines_have_names_in_the_spectra_of_weights():
    wavelength = 15000 + torch.arange(100.0, dtype=torch.float64)
    weight = torch.zeros(2, 100, dtype=torch.float64)
    weight[0, [10, 30, 50]] = torch.tensor([3.0, -2.0, 1.0], dtype=torch.float64)
    figure = draw_weights(weight, wavelength, {"blue": (15000.0, 15060.0), "red": (15061.0, 15100.0)}, LINES)
    blue, red, *second = figure.axes
    assert [(text.get_text(), text.xy) for text in blue.texts] == [
        ("Mg", (15010.0, 3.0)), ("$x$", (15030.0, -2.0)), ("Fe", (15050.0, 1.0)),
    ]  # fmt: skip
    assert not any(text.get_parse_math() for text in blue.texts)
    assert not red.texts
    assert not any(panel.texts for panel in second), "a feature without weights has no strongest lines"
    figure.draw_without_rendering()
    frame = blue.get_window_extent()
    for text in blue.texts:
        assert frame.y0 <= text.get_window_extent().y0 <= text.get_window_extent().y1 <= frame.y1
    assert not list(draw_weights(weight, wavelength, {"blue": (15000.0, 15060.0)}).axes[0].texts)


def test_rates_of_all_are_written_in_full():
    _, body = titled("Rates", 6, 3)
    axes = body.subplots()
    draw_rates_on(axes, [("spectra", "rsca", 1.0, 0.9, 1.0), ("spectra", "raw", 0.0021, 0.0, 0.004)])
    assert [text.get_text() for text in axes.texts] == ["100 %", "0.21 %"]


def test_an_axis_of_rates_is_in_percent():
    _, body = titled("Rates", 6, 3)
    axes = body.subplots()
    axes.plot([0.002, 0.03])
    axes.set_yscale("log")
    rate_axis(axes.yaxis)
    low, high = axes.get_ylim()
    shown = [
        axes.yaxis.get_major_formatter()(place) for place in axes.yaxis.get_majorticklocs() if low <= place <= high
    ]
    assert shown == ["0.2", "0.5", "1", "2"]
