"""report.html: what it says, that it needs nothing else, and that it works in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table

from rsca_torch import InputError
from rsca_torch.cli.main import main
from rsca_torch.drawing.named_lines import APART, strongest_lines
from rsca_torch.report import comparison_folder
from rsca_torch.report.page.page import write_page
from rsca_torch.report.page.record import RECORD, STARS
from rsca_torch.report.page.star_map import BINNED_ABOVE, colours_of, star_map
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


class Read(HTMLParser):
    """Texts, scripts by id, and everything that is fetched from somewhere."""

    def __init__(self, page):
        super().__init__()
        self.inside, self.text, self.scripts, self.sources, self.tags = [], [], {}, [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.sources += [value for name, value in attrs.items() if name in ("src", "href", "srcset", "data", "action")]
        if tag in ("script", "style"):
            self.inside.append(attrs.get("id") or tag)

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.inside.pop()

    def handle_data(self, data):
        if self.inside:
            self.scripts[self.inside[-1]] = self.scripts.get(self.inside[-1], "") + data
        else:
            self.text.append(data)

    @property
    def said(self):
        return " ".join(" ".join(self.text).split())


def stars_of(folder):
    stars = Table.read(folder / STARS, mask_invalid=False)
    stars.convert_bytestring_to_unicode()
    return stars


def page_of(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


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
]


def test_names_are_escaped(run):
    results = json.loads((run / "results.json").read_text())
    clusters = results["results"][0]["clusters"]
    for each, name in zip(clusters, HOSTILE, strict=False):
        each["cluster"] = name
    results["results"][1]["learner"] = HOSTILE[0]
    (run / "results.json").write_text(json.dumps(results))
    stars = stars_of(run)
    stars["STAR"] = stars["STAR"].astype("U60")
    stars["STAR"][0] = "</script><script>alert(2)</script>"
    stars.write(run / STARS, overwrite=True)
    before = Read(page_of(run)).tags
    write_page(run, HOSTILE[0])
    page = page_of(run)
    read = Read(page)
    assert [*read.tags].count("script") == before.count("script")
    assert "b" not in read.tags
    assert all(name in read.said for name in HOSTILE)
    assert "</script><script>alert(2)" not in page
    assert json.loads(read.scripts["numbers"])["results"]["results"][0]["clusters"][0]["cluster"] == HOSTILE[0]


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("distances_spectra.png", "distances_spectra.png is not in the run's folder"),
        ("rates.png", "rates.png is not in the run's folder"),
        (STARS, "stars.fits is not in the run's folder: no map of the stars"),
        ("rsca.safetensors", "rsca.safetensors is not in the run's folder: no weights to show"),
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

    monkeypatch.setattr(comparison_folder, "write_page", refused)
    monkeypatch.setattr(comparison_folder, "write_record", lambda *_: None)
    on = SimpleNamespace(representation=SimpleNamespace(ppca=None))
    comparison_folder.write_run_page(tmp_path, "x", SimpleNamespace(results=[on]), None, None)
    assert "no report.html: no page today" in caplog.text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "one of run=DIR and sweep=DIR expected, got neither"),
        (["run=a", "sweep=b"], "got both"),
        (["run=a", "out=b"], "out=b: no part in this, since run=a is given"),
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
    assert "1 of 2 clusters have no pair" in beware
    assert "1 warning was given" in beware
    assert "simulated" not in beware
    assert verdict(results[:1], [], {})[1] == "Nothing else was judged beside it."


def test_many_field_stars_are_drawn_as_a_density():
    rng = np.random.default_rng(0)
    n = BINNED_ABOVE + 1
    stars = Table({"STAR": np.arange(n + 3).astype(str), "GROUP": [""] * n + ["A"] * 3, "SNR": rng.random(n + 3)})
    for name in ("FEATURE_1", "FEATURE_2"):
        stars[name] = rng.normal(size=n + 3)
    plot = star_map(stars)
    names = [each.name for each in plot.renderers]
    assert "field" not in names
    assert "members" in names
    assert sum(len(each.data_source.data.get("star", ())) for each in plot.renderers) == 3


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
<script>
addEventListener("error", (event) => { document.title = "ERROR " + event.message; });
const wait = (time) => new Promise((go) => setTimeout(go, time));
const until = async (ready) => { for (let n = 0; n < 200 && !ready(); n++) await wait(50); };
const texts = (part) => part.textContent + (part.shadowRoot ? deep(part.shadowRoot) : "");
const deep = (root) => [...root.querySelectorAll("*")].map(texts).join(" ");
(async () => {
  await until(() => window.Bokeh && Bokeh.documents.length >= 2 && document.querySelector("#map > *"));
  const told = {};
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
  told.wide = document.documentElement.scrollWidth <= document.documentElement.clientWidth;
  const text = document.createElement("pre");
  text.id = "told";
  text.textContent = JSON.stringify(told);
  document.body.append(text);
})();
</script>
</body>
"""


@pytest.mark.parametrize("width", [1280, 390])
def test_it_works_in_a_browser(first, tmp_path, width):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs Chromium")
    page = tmp_path / "page.html"
    page.write_text(page_of(first).replace("</body>", TRIED), encoding="utf-8")
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--window-size={width},900",
        "--virtual-time-budget=20000",
    ]
    options += [
        f"--user-data-dir={tmp_path}/profile",
        "--enable-logging=stderr",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    done = subprocess.run(
        [chromium, *options, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "<title>ERROR" not in done.stdout
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "[bokeh" not in line]
    assert not console
    told = json.loads(re.search(r'<pre id="told">(.*?)</pre>', done.stdout).group(1))
    assert told["found"].split(" ")[0] in [str(star) for star in stars_of(first)["STAR"]]
    assert "--" not in told["found"]
    assert told["ringed"] == 1
    assert (told["colour"], told["across"], told["label"]) == ("SNR", "FEATURE_3", "feature 3")
    assert told["hover"]
    assert told["zoom"] < 0.9
    assert told["wide"]  # nothing sticks out, on a phone neither
