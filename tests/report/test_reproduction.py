"""`rsca reproduce`: experiments by name, skipped ones, what was finished before, and the summary."""

from __future__ import annotations

import csv
import json
import math

import hydra
import pytest
from omegaconf import OmegaConf
from read_page import Read, page_of

from rsca_torch import InputError
from rsca_torch.cli.main import CONFIG, main
from rsca_torch.report.reproduction import EXPERIMENTS, Outcome, Value, items_of, published, write_summary

pytestmark = [
    pytest.mark.filterwarnings("default::rsca_torch.NumericalWarning"),  # a small survey drops dimensions and clusters
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]

SMALL = [
    "simulation.n_field=120",
    "simulation.stars.clusters=8",
    "compressor.n_components=4",
    "compressor.tolerance=1e-3",
    "experiments.figure2.n_components=[2,4]",
]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("rsca_torch.report.figure_files.stamp", lambda _: (folder / "stamped").touch())
        assert main(["reproduce", "figure2", *SMALL, "out=first"]) == 0
    return folder


@pytest.fixture
def work(here, monkeypatch):
    monkeypatch.chdir(here)
    return here


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_experiment_has_a_table_a_picture_and_a_row_in_the_summary(work):
    (folder,) = (path for path in (work / "first").iterdir() if path.is_dir())
    assert {path.name for path in folder.iterdir()} == {"figure2.csv", "figure2.png", "figure2.pdf", "item.json"}
    assert (work / "stamped").exists()  # the survey is simulated
    table = rows(folder / "figure2.csv")
    assert [(row["n_components"], row["kind"]) for row in table] == [
        (number, kind) for number in "24" for kind in ("no cross-validation", "cross-validated")
    ]
    summary = rows(work / "first" / "summary.csv")
    assert [float(row["obtained"]) for row in summary] == [float(row["doppelganger_rate"]) for row in table]
    text = (work / "first" / "summary.md").read_text()
    assert "## Figure 2" in text
    assert "![figure2](figure2/figure2.png)" in text


def test_its_page_has_the_numbers_of_the_summary(work):
    read = Read(page_of(work / "first"))
    (experiment,) = json.loads(read.scripts["numbers"])["experiments"]
    summary = rows(work / "first" / "summary.csv")
    assert [value["obtained"] for value in experiment["values"]] == [float(row["obtained"]) for row in summary]
    assert "1 of 1 experiments were done; of their 4 numbers" in read.said
    assert "made by rsca reproduce figure2 simulation.n_field=120" in read.said
    assert "SIMULATED SURVEY" in read.said
    assert main(["reproduce", "figure2", *SMALL, "out=unpaged", "page=false"]) == 0
    assert not (work / "unpaged" / "report.html").exists()


def test_what_is_finished_is_not_done_again(work, caplog, monkeypatch):
    note = json.loads((work / "first/figure2/item.json").read_text())
    assert note["problems"] == []
    (work / "first/figure2/item.json").write_text(json.dumps(note | {"problems": ["two stars were left out"]}))
    with monkeypatch.context() as patch:
        patch.setattr("rsca_torch.report.reproduction._done", None)
        assert main(["reproduce", "figure2", *SMALL, "out=first"]) == 0
    assert "figure2: finished already" in caplog.text
    assert "two stars were left out" in Read(page_of(work / "first")).said  # what was warned of then too
    assert main(["reproduce", "figure2", *SMALL, "out=first", "seed=0", "pairs.max_velocity=4"]) == 2
    assert rows(work / "first" / "summary.csv")


def test_what_another_source_gave_is_not_taken_for_this_one(work, monkeypatch, capfd):
    monkeypatch.setattr("rsca_torch.report.reproduction.code_of", lambda _: "of the day after")
    assert main(["reproduce", "figure2", *SMALL, "out=first"]) == 2
    assert "with other settings, data or code" in " ".join(capfd.readouterr().err.split())
    assert rows(work / "first" / "summary.csv")


def test_what_cannot_be_done_is_skipped_and_said(work, monkeypatch):
    def refuse(*_, **__):
        raise InputError("no column VISITS")

    monkeypatch.setattr("rsca_torch.comparison.assembly.Assembly.compressed", refuse)
    assert main(["reproduce", "figure2", *SMALL, "out=skipped"]) == 0
    assert "Skipped: no column VISITS" in (work / "skipped" / "summary.md").read_text()
    assert not (work / "skipped" / "figure2").exists()


@pytest.mark.usefixtures("work")
def test_an_experiment_that_does_not_exist(capfd):
    assert main(["reproduce", "figure77"]) == 2
    assert "there is no experiment figure77: choose all or some of figure2" in " ".join(capfd.readouterr().err.split())
    assert main(["reproduce", "[figure2,table1]"]) == 2
    assert "choose all or some of figure2" in " ".join(capfd.readouterr().err.split())


def test_every_script_has_its_options_and_a_place():
    with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = hydra.compose("reproduce")
    names = {path.stem for path in (EXPERIMENTS / "paper").glob("*.py")}
    assert names == {path.stem for path in (CONFIG / "experiment").glob("*.yaml")} == set(config.experiments)
    assert items_of(config) == list(config.experiments)
    for name, options in config.experiments.items():
        assert options == OmegaConf.load(CONFIG / "experiment" / f"{name}.yaml")


def test_the_published_numbers_are_those_of_the_reference(shared):
    assert (EXPERIMENTS / "published.csv").read_text() == (shared / "reference" / "published.csv").read_text()
    numbers = published()[["value", "uncertainty"]]
    assert numbers.loc["top_n", "1", ""].tolist() == [0.0962, 0.0212]
    value, uncertainty = numbers.loc["per_cluster", "spectra", "NGC 188"]
    assert value == 0.0067
    assert math.isnan(uncertainty)  # no number is known, and 0 would be one


def test_same_where_the_intervals_overlap(tmp_path):
    values = [
        Value("top_n", "1", 0.1, 0.095, 0.12),
        Value("top_n", "2", 0.03, 0.0245, 0.04),
        Value("top_n", "3", 0.03),
        Value("top_n", "4", 0.01, 0.009, 0.016),
        Value("ours", "x", 1.0, math.nan, math.nan, "", "nothing was published"),
    ]
    outcomes = [Outcome("table1", "Table 1", values, "found"), Outcome("other", "Other", [], "", "no column")]
    write_summary(tmp_path, outcomes, simulated=True)
    told = rows(tmp_path / "summary.csv")
    # 0.0219 + 0.0025 < 0.0245, and 0.016 < 0.0182 - 0.0021
    assert [row["same"] for row in told] == ["yes", "no", "no", "no", ""]
    assert [row["why"] for row in told] == ["simulated survey"] * 4 + ["nothing was published"]
    assert [row["published"] for row in told] == ["0.0962", "0.0219", "0.0198", "0.0182", ""]
    text = (tmp_path / "summary.md").read_text()
    assert "Skipped: no column" in text
    assert "| top_n | 3 |  | 0.0198 | 0.0028 | 0.03 |  |  | no | simulated survey |" in text


def test_of_a_number_published_without_its_uncertainty_same_is_not_said(tmp_path):
    values = [
        Value("ablation", "spectra raw", 0.091, 0.08, 0.1),
        Value("per_cluster", "spectra", 0.0067, cluster="NGC 188"),
        Value("ablation", "spectra transformed", 0.02, 0.019, 0.021),
    ]
    write_summary(tmp_path, [Outcome("figure4", "Figure 4", values, "found")], simulated=True)
    told = rows(tmp_path / "summary.csv")
    assert [(row["published"], row["uncertainty"], row["same"]) for row in told] == [
        ("0.091", "", ""),
        ("0.0067", "", ""),
        ("0.02", "0.0015", "yes"),
    ]
    assert {row["why"] for row in told} == {"simulated survey"}
    text = (tmp_path / "summary.md").read_text()
    assert "| ablation | spectra raw |  | 0.091 |  | 0.091 | 0.08 | 0.1 |  | simulated survey |" in text
