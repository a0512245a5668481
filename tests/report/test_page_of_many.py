"""report.html of a sweep and of a reproduction: what it says, and that it works on a phone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from read_page import Read, browsed, page_of

from rsca_torch.cli import compare
from rsca_torch.cli.main import main
from rsca_torch.cli.sweep import Sweep
from rsca_torch.comparison.finished_run import SCHEMA
from rsca_torch.report.figure_files import save_figure
from rsca_torch.report.page import page as pages
from rsca_torch.report.page.page import page_of_sweep, write_page
from rsca_torch.report.page.record import RECORD, Said, write_record
from rsca_torch.report.reproduction import Outcome, Value, told

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra")

HOSTILE = ["<script>alert(1)</script>", "{{ 7 * 7 }}", "\u202egnp.exe", "\U0001f31f star"]
VALUES = {(4, 0): 0.08, (4, 1): 0.06, (8, 0): 0.02, (8, 1): 0.0}


def results_of(components, seed, names=("rsca", "raw")):
    """results.json of a run, by hand: raw is worse by 0.1."""
    rates = [VALUES[components, seed] + 0.1 * place for place in range(len(names))]
    clusters = {
        rate: [{"cluster": name, "members": 5, "pairs": 50, "doppelganger_rate": rate} for name in ("A", "B")]
        for rate in rates
    }
    results = [
        {
            "representation": "spectra", "learner": name, "held_out": True, "compressor": {"n_components": components},
            "doppelganger_rate": rate, "interval": [rate, rate + 0.01], "seconds": 1.0, "pairs": 100,
            "clusters": clusters[rate],
        }
        for name, rate in zip(names, rates, strict=True)
    ]  # fmt: skip
    config = {
        "learner": {"name": "rsca"},
        "baselines": {},
        "simulation": {},
        "compressor": {"n_components": components},
    }
    return {
        "schema": SCHEMA, "store": {"path": "s", "checksum": "c0ffee"}, "seed": seed, "versions": {"torch": "2.13"},
        "config": config, "results": results, "differences": [],
    }  # fmt: skip


def write_run(folder, components, seed, **options):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results_of(components, seed, **options)))
    write_record(folder / RECORD, Said("rsca compare", problems=["one cluster has no pair"]), None, simulated=True)


@pytest.fixture
def sweep(tmp_path):
    for components, seed in VALUES:
        write_run(tmp_path / f"sweep/n={components},seed={seed}", components, seed)
    return tmp_path / "sweep"


def test_the_page_of_a_sweep_says_what_its_runs_say(sweep, monkeypatch):
    monkeypatch.chdir(sweep.parent)
    assert main(["report", "run=sweep"]) == 0
    read = Read(page_of(sweep))
    numbers = json.loads(read.scripts["numbers"])
    assert {each["run"]: each["rate"] for each in numbers["runs"]} == {
        f"n={components},seed={seed}": rate for (components, seed), rate in VALUES.items()
    }
    means = {(g["learner"], g["settings"]["compressor.n_components"]): g["mean"] for g in numbers["groups"]}
    assert means == pytest.approx({("rsca", "4"): 0.07, ("rsca", "8"): 0.01, ("raw", "4"): 0.17, ("raw", "8"): 0.11})
    assert "Of 4 settings on spectra rsca (compressor.n_components=8) has the lowest mean rate: 1.00 %" in read.said
    assert "The next is rsca (compressor.n_components=4) with 7.00 %" in read.said
    assert "+10.00 (+10.00 to +10.00)" in read.said
    assert "n=8,seed=1 1 rsca on spectra none (below 1.00)" in read.said
    assert "one cluster has no pair (in 4 of 4 runs)" in read.said
    assert all(text in read.said for text in ("SIMULATED SURVEY", "c0ffee", "torch 2.13", "rsca report run=sweep"))
    assert read.tags.count("img") == 1
    assert all(source.startswith(("data:image/png", "#")) for source in read.sources)


def test_runs_of_a_sweep_that_cannot_be_used_are_said(sweep):
    (sweep / "bad").mkdir()
    (sweep / "bad/results.json").write_text("{")
    write_run(sweep / "old", 4, 0)
    (sweep / "old/results.json").write_text('{"schema": 0}')
    write_page(sweep)
    said = Read(page_of(sweep)).said
    assert "bad is not used: results.json cannot be read" in said
    assert "old is not used: results of schema 0" in said
    assert "of 2 runs beside the 4 that count" in said


@pytest.mark.filterwarnings("ignore:Glyph")  # matplotlib's font has no star
def test_hostile_names_in_a_sweep_are_texts_on_a_phone(sweep, tmp_path):
    write_run(sweep / "n=4,seed=0", 4, 0, names=("rsca", *HOSTILE))
    (sweep / ("x" * 150)).mkdir()
    (sweep / ("x" * 150) / "results.json").write_text("{}")
    write_page(sweep)
    page = page_of(sweep)
    assert Read(page).tags.count("script") == 1
    assert all(name.replace("\u202e", r"\u202e") in Read(page).said for name in HOSTILE)
    assert browsed(page, tmp_path, 390)["wide"]


@pytest.mark.parametrize("there", [True, False], ids=str)
def test_a_sweep_ends_with_its_page(tmp_path, monkeypatch, there):
    def job(config):
        folder = Path(config.out) / f"n={config.compressor.n_components}"
        write_run(folder, config.compressor.n_components, 0)
        return 0.0

    monkeypatch.setattr(compare, "run", job)
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "-m", "compressor.n_components=4,8", "out=swept", *([] if there else ["page=false"])]) == 0
    assert (tmp_path / "swept/report.html").exists() is there
    if there:
        assert "rsca compare -m compressor.n_components=4,8 out=swept" in Read(page_of(tmp_path / "swept")).said


def test_a_sweep_of_which_nothing_came_has_no_page(tmp_path, caplog):
    page_of_sweep(tmp_path, "rsca compare -m", 0.0)
    assert "no report.html: no finished run, sweep or reproduction in" in caplog.text
    (tmp_path / "one").mkdir()
    (tmp_path / "one/results.json").write_text("{")
    page_of_sweep(tmp_path, "rsca compare -m", 0.0)
    assert "no report.html: no results below" in caplog.text


@pytest.mark.parametrize(
    ("given", "page"),
    [
        (["-m"], True),
        (["-m", "page=true,false"], True),
        (["-m", "page=true", "page=false"], False),
        (["-m", "figures=false"], False),
    ],
    ids=["default", "some", "page", "figures"],
)
def test_which_sweeps_have_a_page(tmp_path, monkeypatch, given, page):
    made = []
    monkeypatch.setattr(pages, "page_of_sweep", lambda *told: made.append(told))
    Sweep.asked_for("compare", [*given, f"out={tmp_path}/a"]).write_page()
    assert len(made) == page


def test_the_report_of_a_sweep_has_the_page_too(sweep, tmp_path):
    assert main(["report", f"sweep={sweep}", f"out={tmp_path}/a", "baseline=raw"]) == 0
    assert "minus raw, %" in Read(page_of(tmp_path / "a")).said
    assert main(["report", f"sweep={sweep}", f"out={tmp_path}/b", "page=false"]) == 0
    assert not (tmp_path / "b/report.html").exists()


@pytest.fixture
def reproduction(tmp_path):
    values = [Value("top_n", "1", 0.1, 0.095, 0.12), Value("top_n", "2", 0.03, 0.0245, 0.04), Value("ours", "x", 0.5)]
    outcomes = [
        Outcome("table1", "Table 1: dimensions", values, "What it found."),
        Outcome("leaks", "Leaks", [], "", "no column VISITS"),
    ]
    (tmp_path / "out/table1").mkdir(parents=True)
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, 1])
    save_figure(figure, tmp_path / "out/table1", "table1")
    write_record(
        tmp_path / "out" / RECORD, Said("rsca reproduce table1 leaks"), None, experiments=told(outcomes, True),
        commands={name: f"rsca reproduce {name}" for name in ("table1", "leaks")}, simulated=True, survey="apogee",
        checksum="c0ffee", versions={"torch": "2.13"},
    )  # fmt: skip
    return tmp_path / "out"


def test_the_page_of_a_reproduction_has_published_beside_obtained(reproduction, tmp_path):
    assert main(["report", f"run={reproduction}"]) == 0
    page = page_of(reproduction)
    read = Read(page)
    assert "1 of 2 experiments were done; of their 3 numbers the paper prints 2, 2 of them with" in read.said
    assert "1 of these 2 are as published within both intervals; not top_n (2)." in read.said
    assert "skipped: leaks" in read.said
    assert "top_n 1 0.0962 ± 0.0212 0.1 0.095 to 0.12 yes simulated survey" in read.said
    assert "ours x 0.5" in read.said
    assert "Skipped: no column VISITS" in read.said
    assert "made by rsca reproduce table1" in read.said
    assert "SIMULATED SURVEY" in read.said
    assert json.loads(read.scripts["numbers"]) == json.loads((reproduction / RECORD).read_text())
    assert '<img src="data:image/png;base64,' in page
    assert browsed(page, tmp_path, 390)["wide"]
    shutil.rmtree(reproduction / "table1")
    write_page(reproduction)
    assert "table1 has no picture in the folder" in Read(page_of(reproduction)).said


def test_what_an_older_reproduction_left_is_refused(reproduction, capfd):
    (reproduction / RECORD).unlink()
    (reproduction / "summary.md").write_text("")
    assert main(["report", f"run={reproduction}"]) == 2
    assert "an older rsca reproduce wrote: run it again" in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize("damage", [{"experiments": 3}, {"experiments": [{}]}, {"commands": {}}, {"versions": None}])
def test_a_damaged_reproduction_is_refused(reproduction, capfd, damage):
    record = json.loads((reproduction / RECORD).read_text()) | damage
    (reproduction / RECORD).write_text(json.dumps(record))
    assert main(["report", f"run={reproduction}"]) == 2
    assert "report.json is damaged" in " ".join(capfd.readouterr().err.split())
