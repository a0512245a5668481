"""What notebooks show: tables in HTML, plots, and progress."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from astropy.table import Table
from matplotlib import pyplot
from matplotlib.figure import Figure

from rsca_torch import RSCA, InputError, LOCOResult, MaskedPPCA, Spectra
from rsca_torch.comparison.comparison import Comparison, Result
from rsca_torch.comparison.representation import Representation
from rsca_torch.report.terminal import progress
from rsca_torch.spectra.stars import Stars
from rsca_torch.survey.described.arrays import store_of
from rsca_torch.survey.line_list import LineList

NASTY = "<script>alert(1)</script>{{7*7}}&\u202e$x_{$\x1b[31m"
PRINTABLE = NASTY.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")


def rates(**given):
    numbers = {"A": 0.02, NASTY: 0.0, "C": 1.0, "none": np.nan}
    pairs = {"A": 100, NASTY: 10, "C": 5, "none": 0}
    return LOCOResult(numbers, dict.fromkeys(numbers, 4), pairs, dict.fromkeys(numbers, 1.0), **given)


@pytest.fixture(scope="module")
def spectra():
    random = np.random.default_rng(0)
    births = np.concatenate([random.normal(size=(18, 2)), np.repeat(random.normal(size=(2, 2)), 6, axis=0)])
    latents = births + random.normal(size=(30, 2)) / 10
    flux = 1 + latents @ random.normal(size=(2, 20)) / 10 + random.normal(size=(30, 20)) / 50
    flux[0, 5] = np.nan
    stars = {"id": [NASTY, *map(str, range(29))], "group": np.repeat(["", NASTY, "B"], [18, 6, 6])}
    wavelength = 15000.0 + np.arange(20) + np.repeat([0, 50], 10)
    return Spectra(flux, sigma=np.full(flux.shape, 0.02), wavelength=wavelength, stars=stars)


@pytest.fixture(scope="module")
def model(spectra):
    return RSCA.fit(spectra.take(slice(18)), spectra.take(slice(18, None)), n_components=2)


@pytest.fixture(scope="module")
def comparison():
    stars = Stars.of(Table({"id": ["a"]}))
    on = Representation("some_spectra", torch.zeros(1, 1), torch.zeros(1, 1), stars, stars)
    results = [Result(on, name, rates(held_out=name != "in-sample"), 1.0) for name in ("rsca", NASTY, "in-sample")]
    return Comparison(results)


@pytest.fixture
def axes():
    return Figure().subplots()


def shown(thing):
    """The cells of a table in HTML, which holds nothing but its own elements."""
    html, tags, cells = thing._repr_html_(), set(), []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attributes):
            assert {name for name, _ in attributes} <= {"style"}
            tags.add(tag)

        def handle_data(self, text):
            cells.append(text)

    Parser().feed(html)
    assert tags <= {"table", "caption", "b", "tr", "th", "td"}
    assert html.count("<tr>") <= 10
    assert not re.search("https?:|[\u202e\x1b]", html)
    return " ".join(" ".join(cells).split())


def test_tables_of_everything(spectra, model, comparison, tmp_path):
    store = store_of(spectra, tmp_path / "store")
    assert "stars 30 groups 2 bins 20 wavelength 15000.00 to 15069.00 Angstrom valid 99.8 % errors known" in shown(
        spectra
    )
    assert "<script>alert(1)" in shown(spectra)  # as text
    assert "field stars 18 members 12 of 2 clusters bins 20" in shown(store)
    assert "SIMULATED" not in shown(store)
    (tmp_path / "simulation.json").touch()
    assert "SIMULATED" in shown(store)
    assert "features 2, 2 of which tell siblings apart bins 20" in shown(model)
    assert "trained on 2 clusters: <script>" in shown(model) or "trained on 2 clusters: B, <script>" in shown(model)
    assert "components 2 bins 20 noise measured" in shown(model.ppca)
    told = shown(comparison.results[0].loco)
    assert "clusters 3, 1 more without an allowed pair pairs 115 highest C 100 %, A 2 %" in told
    assert "held out yes" in told
    assert "held out no" in shown(comparison.results[2])
    assert "rsca on some spectra 34 %" in shown(comparison)
    assert "in-sample" not in shown(comparison)


def test_an_empty_one_is_shown_too():
    assert "stars 0 bins 0" in shown(Spectra(torch.zeros(0, 0)))
    assert "doppelganger rate not known" in shown(LOCOResult({"A": np.nan}, {"A": 2}, {"A": 0}, {"A": 1.0}))


def test_long_names_are_cut():
    stars = {"id": ["x" * 10_000]}
    assert len(Spectra([[1.0, 2.0]], stars=stars)._repr_html_()) < 2_500


def test_one_line_on_the_terminal(comparison):
    assert repr(comparison) == "Comparison(3 results, first: rsca on some_spectra)"
    assert repr(comparison.results[0]).startswith("Result(rsca on some_spectra, LOCOResult(4 clusters, rate ")


def test_spectra_have_gaps_where_bins_are_invalid(spectra, axes):
    assert spectra.plot(axes, rows=[0, 20], apart=0.25) is axes
    first, second = axes.lines
    x, y = first.get_data()
    assert np.isnan(y[5])  # invalid
    assert np.isnan(x[10])  # between detectors
    np.testing.assert_array_equal(y[:5], spectra.flux[0, :5])
    np.testing.assert_allclose(second.get_ydata()[:10], spectra.flux[20, :10] + 0.25)
    assert axes.get_ylabel() == "flux, each 0.25 above the one before"
    texts = axes.get_legend().get_texts()
    assert [text.get_text() for text in texts] == [PRINTABLE, "19"]
    axes.figure.draw_without_rendering()  # the name is no mathematics


def test_weights_have_the_names_of_lines(model, axes):
    strongest = int(model.weight[1].abs().argmax())
    lines = LineList(model.wavelength[[strongest]].numpy(), np.array(["$Fe"]), np.array(["me"]))
    assert model.plot(axes, feature=2, lines=lines) is axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata()[[0, -1]], model.weight[1][[0, -1]])
    assert [text.get_text() for text in axes.texts] == ["$Fe"]
    axes.figure.draw_without_rendering()
    for number in (0, 3):
        with pytest.raises(InputError, match=f"feature {number}: the model has 1 to 2"):
            model.plot(axes, number)


def test_step_1_shows_its_mean_and_a_component(model, axes):
    ppca = model.ppca
    assert ppca.plot(axes, 2, model.wavelength) is axes
    mean, up, down = (line.get_ydata()[~np.isnan(line.get_ydata())] for line in axes.lines)
    np.testing.assert_allclose(mean, ppca.mean)
    np.testing.assert_allclose(up - mean, ppca.loadings[:, 1], atol=1e-12)
    np.testing.assert_allclose(mean - down, ppca.loadings[:, 1], atol=1e-12)
    with pytest.raises(InputError, match="component 3: the model has 1 to 2"):
        ppca.plot(axes, 3)
    gains = ppca.plot_convergence(Figure().subplots()).lines[0].get_ydata()
    np.testing.assert_allclose(gains, np.diff(ppca.history))
    none = MaskedPPCA(torch.ones(2, 1), torch.ones(2), torch.ones(2), 1.0).plot_convergence(Figure().subplots())
    assert len(none.lines[0].get_ydata()) == 0


def test_rates_of_clusters_and_of_all(axes):
    assert rates().plot(axes) is axes
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels[0] == "all clusters"
    assert labels[1] == "A"
    assert "\\u202e" in labels[2]
    assert len(labels) == 4  # not the one that was not judged
    assert "0, the pairs allow up to 17 %" in [text.get_text() for text in axes.texts]
    axes.figure.draw_without_rendering()


def test_rates_of_learners(comparison, axes):
    assert comparison.plot(axes) is axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["rsca", PRINTABLE]
    axes.figure.draw_without_rendering()


def test_new_axes_are_pyplots_as_notebooks_show_them():
    before = matplotlib.rcParams["axes.spines.top"]
    axes = rates().plot()
    assert axes.figure.number in pyplot.get_fignums()
    assert axes.spines["top"].get_visible() == before  # the user's style
    pyplot.close(axes.figure)


def test_progress_below_a_cell(monkeypatch):
    """Rich alone shows nothing where ipywidgets are not installed."""
    shown = []

    def display(told, raw, display_id):
        assert raw
        assert display_id
        shown.append(told)
        return SimpleNamespace(update=lambda told, **_: shown.append(told))

    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    with progress() as bars:
        bars.iteration(1, -1.0)
        for done in range(1000):
            bars.step("<folds>", done, 999)
    assert len(shown) < 20, "as often as an eye can follow"
    assert "999/999" in shown[-1]["text/plain"]
    assert "masked PPCA: -1.000000 nats a bin" in shown[-1]["text/html"]
    assert "&lt;folds&gt;" in shown[-1]["text/html"]
    assert "<folds>" not in shown[-1]["text/html"]


def test_progress_in_a_real_notebook():
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    cell = nbformat.v4.new_code_cell(
        "from rsca_torch.report.terminal import progress\nwith progress() as bars:\n    bars.step('folds', 22, 22)"
    )
    nbclient.NotebookClient(nbformat.v4.new_notebook(cells=[cell]), timeout=120).execute()
    assert ["22/22" in output["data"]["text/plain"] for output in cell.outputs if "data" in output] == [True]
