"""report.html: what it says, that it needs nothing else, and that it works in a browser."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from markupsafe import escape
from PIL import Image
from read_page import Read, browsed, page_of

from rsca_torch import InputError
from rsca_torch.cli.main import main
from rsca_torch.drawing.named_lines import APART, strongest_lines
from rsca_torch.report.page import page as pages
from rsca_torch.report.page import rendering
from rsca_torch.report.page.page import page_or_warning, write_page
from rsca_torch.report.page.record import RECORD, STARS
from rsca_torch.report.page.star_map import BINNED_ABOVE, NUMBER, colours_of, map_of
from rsca_torch.report.page.verdict import verdict
from rsca_torch.survey.line_list import LineList

pytestmark = [
    pytest.mark.filterwarnings("default::rsca_torch.NumericalWarning"),  # a small survey drops dimensions and clusters
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]

SMALL = ["simulation.n_field=60", "simulation.stars.clusters=8", "compressor.n_components=4"]
QUICK = ["compressor.max_iterations=5", "~abundances.abundances"]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A finished run with its page."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["compare", *SMALL, *QUICK, "out=my run"]) == 0
    return folder / "my run"


@pytest.fixture
def run(first, tmp_path):
    """A copy, to be changed."""
    return shutil.copytree(first, tmp_path / "run")


def stars_of(folder):
    stars = Table.read(folder / STARS, mask_invalid=False)
    stars.convert_bytestring_to_unicode()
    return stars


def test_it_says_what_the_results_say(first):
    read, results = Read(page_of(first)), json.loads((first / "results.json").read_text())
    numbers = json.loads(read.scripts["numbers"])
    assert numbers["results"] == results
    assert numbers["record"] == json.loads((first / RECORD).read_text())
    judged = results["results"][0]
    assert f"{100 * judged['doppelganger_rate']:.2f} % are as alike as siblings are" in read.said
    for each in judged["clusters"]:
        assert f" {each['cluster']} {each['members']} {each['pairs']} " in read.said
    for each in results["differences"]:
        low, high = (f"{100 * end:+.2f}" for end in each["interval"])
        assert f"{100 * each['difference']:+.2f} ({low} to {high})" in read.said
    assert results["store"]["checksum"] in read.said
    assert "SIMULATED SURVEY" in read.said
    assert "rsca compare simulation.n_field=60" in read.said
    assert "no allowed pair" in read.said  # a warning
    for cut in ("catalogue", "extinction", "no valid bin"):
        assert f" {cut} " in read.said


def test_it_is_one_file_that_needs_no_network(first):
    page = page_of(first)
    read = Read(page)
    assert len(page.encode()) < 3_000_000
    assert read.sources
    assert all(source.startswith(("data:image/png", "#")) for source in read.sources)
    assert not {"link", "iframe", "object", "embed"} & set(read.tags)
    assert not re.search(r"url\(|@import", read.scripts["style"])


def test_every_picture_has_words_for_those_who_do_not_see_it(first):
    page = page_of(first)
    pictures = re.findall(r"<img [^>]*>", page)
    assert len(pictures) >= 3
    assert all(re.search(r'alt="[^"]{20,}"', picture) for picture in pictures)
    plots = re.findall(r'<div id="(?:map|weights)"[^>]*>', page)
    assert len(plots) == 2
    assert all(re.search(r'role="img" aria-label="[^"]{20,}"', plot) for plot in plots)


def test_the_map_has_every_star(first):
    stars = stars_of(first)
    results = json.loads((first / "results.json").read_text())
    assert (stars["GROUP"] == "").sum() == results["store"]["field"]
    assert (stars["GROUP"] != "").sum() == results["store"]["members"]
    plots = json.loads(Read(page_of(first)).scripts["plots"])
    text = json.dumps(plots["map"])
    assert all(str(star) in text for star in stars["STAR"])
    assert {"SNR", "FE_H", "TEFF", "FEATURE_1"} <= set(plots["map"]["colours"])


def test_it_is_made_anew(run, monkeypatch, caplog):
    (run / "report.html").unlink()
    monkeypatch.chdir(run.parent)
    assert main(["report", "run=run"]) == 0
    assert "run/report.html: open it in a browser" in caplog.text
    assert '<h1 dir="auto">run</h1>' in page_of(run)


HOSTILE = [
    "<script>alert(1)</script>",
    "{{ 7 * 7 }}",
    "</script><b>",
    "\u202egnp.exe",
    "\U0001f31f Pleiades",
    "a&b\"c'd",
    "x" * 120,
]
SHOWN = [name.replace("\u202e", "\\u202e") for name in HOSTILE]  # what turns the direction of reading, by its code


@pytest.fixture
def hostile(run):
    """A run whose names are commands elsewhere."""
    results = json.loads((run / "results.json").read_text())
    clusters = results["results"][0]["clusters"]
    for each, name in zip(clusters, HOSTILE, strict=False):
        each["cluster"] = name
    results["results"][1]["learner"] = HOSTILE[0]
    (run / "results.json").write_text(json.dumps(results))
    stars = stars_of(run)
    stars["STAR"] = stars["STAR"].astype("U60")
    stars["STAR"][0] = "</script><img src=x onerror=alert(2)>"
    stars.write(run / STARS, overwrite=True)
    record = json.loads((run / RECORD).read_text())
    record["problems"] += HOSTILE
    (run / RECORD).write_text(json.dumps(record))
    write_page(run, HOSTILE[0])
    return run


def test_names_are_escaped(hostile, first):
    page = page_of(hostile)
    read = Read(page)
    assert read.tags.count("script") == Read(page_of(first)).tags.count("script")
    assert "b" not in read.tags
    assert all(name in read.said for name in SHOWN)
    assert "\u202e" not in page
    assert "</script><img" not in page
    assert json.loads(read.scripts["numbers"])["results"]["results"][0]["clusters"][0]["cluster"] == HOSTILE[0]


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("distances_spectra.png", "distances_spectra.png is not in the run's folder"),
        ("rates.png", "rates.png is not in the run's folder"),
        (STARS, "stars.fits is not in the run's folder, or cannot be read: no map of the stars"),
        ("rsca.safetensors", "rsca.safetensors is not in the run's folder, or cannot be read: no weights to show"),
        (RECORD, "what was warned of is not known"),
    ],
)
def test_what_is_gone_is_said(run, gone, told):
    (run / gone).unlink()
    write_page(run)
    assert told in Read(page_of(run)).said


def test_what_is_damaged_is_said(run):
    for name in ("rates.png", STARS, "rsca.safetensors", RECORD):
        (run / name).write_bytes(b"\x00\x01 nothing of the kind")
    write_page(run)
    said = Read(page_of(run)).said
    assert said.count("is not in the run's folder") >= 4


def test_numbers_that_are_none_are_told_in_words(run):
    results = json.loads((run / "results.json").read_text())
    for result in results["results"]:
        result["doppelganger_rate"], result["interval"] = None, [None, None]
        for name in result["figures_of_merit"]:
            result["figures_of_merit"][name] = {"value": None, "interval": [None, None], "clusters": {}}
        for cluster in result["clusters"]:
            cluster["doppelganger_rate"] = cluster["median_sibling_distance"] = None
    results["differences"] = []
    (run / "results.json").write_text(json.dumps(results))
    write_page(run)
    assert "could not be judged" in Read(page_of(run)).said


def test_numbers_that_json_does_not_have_are_none(run):
    text = (run / "results.json").read_text()
    results = json.loads(text)
    results["results"][1]["doppelganger_rate"], results["results"][1]["interval"] = float("nan"), [float("nan")] * 2
    (run / "results.json").write_text(json.dumps(results))
    write_page(run)
    read = Read(page_of(run))
    assert json.loads(read.scripts["numbers"], parse_constant=pytest.fail)["results"]["results"][1]["interval"] == [
        None,
        None,
    ]
    assert " nothing to compare" in read.said
    assert " nan" not in read.said


def test_rates_of_none_are_words(run):
    results = json.loads((run / "results.json").read_text())
    judged = results["results"][0]
    judged["doppelganger_rate"], judged["interval"] = 0.0, [0.0, 0.04]
    judged["clusters"][0] |= {"pairs": 30, "doppelganger_rate": 0.0, "upper_limit": 0.0593}
    judged["clusters"][1] |= {"pairs": 30, "doppelganger_rate": 1.0, "lower_limit": 0.94}
    (run / "results.json").write_text(json.dumps(results))
    write_page(run)
    said = Read(page_of(run)).said
    assert "none (below 4.00)" in said
    assert f"{judged['clusters'][0]['cluster']} {judged['clusters'][0]['members']} 30 none (below 5.93)" in said
    assert "all (above 94.00)" in said


def test_every_figure_says_what_makes_it(first):
    page, command = page_of(first), json.loads((first / RECORD).read_text())["command"]
    figures = re.findall(r"<figure>.*?</figure>", page, re.DOTALL)
    made = [re.search(r"made by <code>(.*?)</code>", figure).group(1).split(" ")[:2] for figure in figures]
    assert ["rsca", "compare"] in made
    assert ["rsca", "report"] in made
    assert {*map(tuple, made)} == {("rsca", "compare"), ("rsca", "report")}
    assert str(escape(command)) in page
    assert str(escape("rsca report 'run=my run'")) in page  # and not the folder in which the run was made


def test_the_block_of_the_docs_reads_the_numbers(first, tmp_path, monkeypatch):
    shutil.copytree(first, tmp_path / "runs/first")
    monkeypatch.chdir(tmp_path)
    docs = Path(__file__).parents[2] / "docs" / "report.md"
    (block,) = re.findall(r"```python\n(.*?)```", docs.read_text(encoding="utf-8"), re.DOTALL)
    *before, last = block.strip().split("\n")
    names = {}
    exec("\n".join(before), names)
    results = json.loads((first / "results.json").read_text())
    assert eval(last, names) == results["results"][0]["doppelganger_rate"]


def test_pictures_shrink_where_there_is_no_room(run, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 255, (400, 600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(run / "distances_spectra.png")
    write_page(run)
    assert len(page_of(run).encode()) > 2_500_000
    monkeypatch.setattr(rendering, "LARGEST", 2_300_000)
    write_page(run)
    assert len(page_of(run).encode()) < 2_300_000
    assert "distances_spectra.png is not" not in Read(page_of(run)).said


@pytest.mark.parametrize("column", ["STAR", "GROUP", "FEATURE_"])
def test_a_table_of_stars_that_lacks_something_is_no_map(run, column):
    stars = stars_of(run)
    stars.remove_columns([name for name in stars.colnames if name.startswith(column)])
    stars.write(run / STARS, overwrite=True)
    write_page(run)
    assert "stars.fits is not in the run's folder, or cannot be read: no map" in Read(page_of(run)).said


def test_a_run_without_spectra_has_no_map_and_misses_none(run):
    results = json.loads((run / "results.json").read_text())
    for each in results["results"]:
        each["compressor"] = None
    (run / "results.json").write_text(json.dumps(results))
    for name in (STARS, "rsca.safetensors"):
        (run / name).unlink()
    write_page(run)
    read = Read(page_of(run))
    assert not {"#map-section", "#weights-section", "#step-1"} & set(read.sources)
    assert "is not in" not in read.said
    assert "plots" not in read.scripts


def test_a_learner_that_is_no_layer_has_no_weights(run):
    (run / "rsca.safetensors").rename(run / "learner.pt")
    write_page(run)
    said = Read(page_of(run)).said
    assert "rsca is no linear map of spectra" in said
    assert "is not in" not in said


def test_the_judged_learner_is_told_minus_that_of_the_run_beside_it(run):
    results = json.loads((run / "results.json").read_text())
    other = results["results"][1] | {"learner": "theirs", "doppelganger_rate": 0.5, "interval": [0.4, 0.6]}
    of = {name: results["results"][0][name] for name in ("representation", "learner")}
    minus = of | {"difference": -0.3, "interval": [-0.4, -0.2]}
    results["baseline"] = {"path": "other", "results": [other], "differences": [minus]}
    (run / "results.json").write_text(json.dumps(results))
    write_page(run)
    said = Read(page_of(run)).said
    assert (
        "The run beside it has 50.00 % for theirs on spectra; minus that it is -30.00 (68 %: -40.00 to -20.00)" in said
    )
    assert "minus theirs on spectra, % spectra theirs" in said


def test_the_stamp_stays_where_the_record_is_gone(run):
    (run / RECORD).unlink()
    write_page(run)
    assert "SIMULATED SURVEY" in Read(page_of(run)).said
    results = json.loads((run / "results.json").read_text())
    del results["config"]["simulation"]  # as of a store that was given
    (run / "results.json").write_text(json.dumps(results))
    write_page(run)
    assert "SIMULATED SURVEY" not in Read(page_of(run)).said


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no finished run"),
        ("{", "no finished run"),
        ("[]", "no finished run"),
        ('{"schema": 0, "results": [1]}', "schema 0"),
    ],
    ids=["nothing", "half", "a list", "schema"],
)
def test_what_is_no_run_is_refused(tmp_path, monkeypatch, capfd, content, told):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    assert main(["report", "run=."]) == 2
    assert told in capfd.readouterr().err
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda results: results["results"][0].pop("clusters"),
        lambda results: results["results"][0].update(interval=3),
        lambda results: results.update(store=None),
        lambda results: results.update(differences=[{}]),
        lambda results: results["results"][0].update(doppelganger_rate="low"),
    ],
    ids=["clusters", "interval", "store", "differences", "rate"],
)
def test_what_is_damaged_is_refused(run, monkeypatch, capfd, damage):
    (run / "report.html").unlink()
    results = json.loads((run / "results.json").read_text())
    damage(results)
    (run / "results.json").write_text(json.dumps(results))
    monkeypatch.chdir(run.parent)
    assert main(["report", "run=run"]) == 2
    assert re.search(r"error: run: results.json or report.json is damaged \(", capfd.readouterr().err)
    assert not (run / "report.html").exists()


def test_a_page_that_cannot_be_made_loses_no_run(tmp_path, monkeypatch, caplog):
    def refused(*_):
        raise InputError("no page today")

    monkeypatch.setattr(pages, "write_page", refused)
    assert not page_or_warning(tmp_path)
    assert "no report.html: no page today" in caplog.text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "one of run=DIR and sweep=DIR expected, got neither"),
        (["run=a", "sweep=b"], "got both"),
        (["run=a", "out=b"], "out=b: no effect, since run=a is given"),
    ],
    ids=["neither", "both", "out"],
)
def test_what_cannot_be_reported(capfd, given, told):
    assert main(["report", *given]) == 2
    assert told in capfd.readouterr().err


def entry(learner, rate, low, high, pairs=(10, 0)):
    clusters = [{"pairs": each, "members": 3} for each in pairs]
    return {
        "representation": "spectra", "learner": learner, "held_out": True, "doppelganger_rate": rate,
        "interval": [low, high], "pairs": sum(pairs), "clusters": clusters,
    }  # fmt: skip


def test_the_verdict_is_made_of_the_numbers():
    results = [entry("rsca", 0.0, 0.0, 0.01), entry("raw", 0.2, 0.1, 0.3), entry("scaled", 0.1, 0.05, 0.2)]
    minus = [
        {"representation": "spectra", "learner": name, "difference": d, "interval": [low, high]}
        for name, d, low, high in (("raw", 0.2, 0.1, 0.3), ("scaled", 0.1, -0.01, 0.2))
    ]
    good, compared, beware = verdict(results, minus, {"problems": ["one"]})
    assert "members of 1 clusters (10 pairs) none is as alike" in good
    assert "up to 1.00 %" in good
    assert compared.startswith(
        "The best of the others is scaled on spectra with 10.00 %; the difference is +10.00 (68 %: "
    )
    assert compared.endswith("-1.00 to +20.00), an interval that includes zero.")
    assert "of 2 clusters 1 has no pair" in beware
    assert "1 warning was given" in beware
    assert "simulated" not in beware
    assert verdict(results[:1], [], {})[1] == "Nothing else was judged beside it."


def models(told):
    """Every model of Bokeh in a document, as its JSON has it."""
    for each in told.values() if isinstance(told, dict) else told if isinstance(told, list) else ():
        yield from models(each)
    if isinstance(told, dict) and told.get("type") == "object":
        yield told


def columns_of(source):
    """The columns of a source, arrays as numbers."""
    told = source["attributes"]["data"]["entries"]
    return {name: array_of(values) if isinstance(values, dict) else values for name, values in told}


def array_of(told):
    if "dtype" not in told:
        return []
    return np.frombuffer(gzip.decompress(base64.b64decode(told["array"]["data"])), told["dtype"])


def test_many_field_stars_are_drawn_as_cells_with_means():
    rng = np.random.default_rng(0)
    n = BINNED_ABOVE + 1
    stars = Table({"STAR": np.arange(n + 3).astype(str), "GROUP": [""] * n + ["A"] * 3, "SNR": rng.random(n + 3)})
    for name in ("FEATURE_1", "FEATURE_2"):
        stars[name] = rng.normal(size=n + 3)
    plot = map_of(stars)
    assert (plot["axes"], plot["first"], plot["cells"]) == ([], NUMBER, True)
    assert list(plot["colours"]) == [NUMBER, "SNR", "FEATURE_1", "FEATURE_2"]
    sources = [each for each in models(plot["item"]["doc"]) if each["name"] == "ColumnDataSource"]
    (cells,) = (data for data in map(columns_of, sources) if "stars" in data)
    assert cells["stars"].sum() == n
    assert np.average(cells["SNR"], weights=cells["stars"]) == pytest.approx(np.mean(stars["SNR"][:n]), rel=1e-5)
    (members,) = (data for data in map(columns_of, sources) if len(data.get("star", ())))
    assert members["group"] == ["A"] * 3


def test_colours_run_over_what_is_there():
    stars = Table(
        {"STAR": ["a", "b", "c"], "GROUP": [""] * 3, "SAME": [1.0] * 3, "NONE": [np.nan] * 3, "X": [0, 1, 2.0]}
    )
    assert list(colours_of(stars)) == ["X"]


def test_the_strongest_lines_are_named_apart_from_each_other():
    wavelength = 15000 + np.arange(400.0)
    weight = np.zeros(400)
    weight[[50, 52, 200, 300]] = [-5.0, 4.0, 3.0, 2.0]
    lines = LineList(wavelength[[50, 52, 200]], np.array(["Mg", "Al", "Fe"]), np.array(["me"] * 3))
    named = strongest_lines(wavelength, weight, lines)
    assert (15050.0, -5.0, "Mg") in named
    assert (15200.0, 3.0, "Fe") in named
    assert "Al" not in [name for *_, name in named]  # too near to a stronger one
    assert all(later - earlier > APART for (earlier, *_), (later, *_) in pairwise(named))


TRIED = """
  await until(() => window.Bokeh && Bokeh.documents.length >= 2 && document.querySelector("#map > *"));
  const page = Bokeh.documents.find((each) => each.get_model_by_name("map"));
  const plot = page.get_model_by_name("map"), field = page.get_model_by_name("field");
  const find = document.getElementById("map-find");
  find.value = field.data_source.data.star[0];
  find.dispatchEvent(new Event("input"));
  told.found = document.getElementById("map-found").textContent;
  told.ringed = page.get_model_by_name("found").data.x.length;
  const colour = document.getElementById("map-colour");
  colour.value = "SNR";
  colour.dispatchEvent(new Event("change"));
  told.colour = field.glyph.fill_color.field;
  const across = document.getElementById("map-x");
  across.value = "FEATURE_3";
  across.dispatchEvent(new Event("change"));
  told.across = field.glyph.x.field;
  told.label = plot.below[0].axis_label;
  await wait(300);
  const view = [...Bokeh.index.roots].find((each) => each.model === plot);
  const canvas = view.canvas.events_el, box = canvas.getBoundingClientRect();
  const renderer = view.renderer_views.get(field);
  const glyph = renderer.glyph;
  const at = { clientX: box.left + glyph.sx[0], clientY: box.top + glyph.sy[0], bubbles: true, composed: true };
  canvas.dispatchEvent(new PointerEvent("pointermove", { ...at, pointerType: "mouse", isPrimary: true }));
  canvas.dispatchEvent(new MouseEvent("mousemove", at));
  await wait(300);
  told.hover = deep(document).includes("FEATURE_1");
  const before = plot.x_range.end - plot.x_range.start;
  canvas.dispatchEvent(new WheelEvent("wheel", { ...at, deltaY: -200 }));
  await wait(300);
  told.zoom = (plot.x_range.end - plot.x_range.start) / before;
"""


@pytest.mark.parametrize("width", [1280, 390])
def test_it_works_in_a_browser(first, tmp_path, width):
    told = browsed(page_of(first), tmp_path, width, TRIED)
    assert told["found"].split(" ")[0] in [str(star) for star in stars_of(first)["STAR"]]
    assert "--" not in told["found"]
    assert told["ringed"] == 1
    assert (told["colour"], told["across"], told["label"]) == ("SNR", "FEATURE_3", "feature 3")
    assert told["hover"]
    assert told["zoom"] < 0.9
    assert told["wide"]  # nothing sticks out, on a phone neither


def test_sixty_clusters_in_a_browser(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    many = ["simulation.n_field=40", "simulation.stars.clusters=60", "compressor.n_components=4", "out=many"]
    assert main(["compare", *many, *QUICK, "~abundances.abundance_subset", "calibration=null"]) == 0
    page = page_of(tmp_path / "many")
    assert len(page) < 3e6
    told = browsed(page, tmp_path, 390, TRIED)
    assert told["ringed"] == 1
    assert told["hover"]
    assert told["wide"]
    results = json.loads((tmp_path / "many" / "results.json").read_text())["results"][0]
    assert len(results["clusters"]) > 55  # of some a cut leaves one member
    read = Read(page)
    assert all(f" {each['cluster']} {each['members']} {each['pairs']} " in read.said for each in results["clusters"])


def test_hostile_names_are_texts_in_a_browser(hostile, tmp_path):
    told = browsed(page_of(hostile), tmp_path, 390, TRIED + "told.texts = deep(document.body);")
    assert told["found"] == "</script><img src=x onerror=alert(2)>"
    assert "</script><img src=x onerror=alert(2)>" in told["texts"]
    assert told["wide"]
