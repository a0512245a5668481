"""Sweeps: a folder for every job, finished runs skipped, launchers, and the report against numbers by hand."""

from __future__ import annotations

import csv
import gc
import inspect
import json
import math
import re
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import hydra
import numpy as np
import pytest
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import OmegaConf

from rsca_torch import InputError, Learner
from rsca_torch.cli.main import COMMANDS, CONFIG, main
from rsca_torch.comparison.finished_run import finished_rate
from rsca_torch.comparison.sweep import gather, groups_of
from rsca_torch.comparison.sweep_jobs import job_folder, job_note, jobs_of
from rsca_torch.ppca.fit import fit_ppca
from rsca_torch.ppca.lightning import _EachIteration
from rsca_torch.report.sweep_report import draw_groups, markdown, print_groups, write_rows
from rsca_torch.survey.simulated.store import simulated_store

pytestmark = [
    pytest.mark.filterwarnings("default::rsca_torch.NumericalWarning"),  # a small survey drops dimensions and clusters
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]

TINY = [
    "store=store",
    "compressor.n_components=4",
    "compressor.max_iterations=3",
    "figures=false",
    "calibration=null",  # hundreds of folds, of which no sweep knows
    "~abundances.abundances",
]
SWEEP = ["compare", "-m", *TINY, "learner=rsca,raw", "seed=0,1", "out=sweep"]
RETURNED = []


class Keep(Callback):
    """What Hydra's sweepers are given of every job."""

    def on_job_end(self, config, job_return, **_):  # noqa: ARG002  (Hydra's)
        RETURNED.append(job_return.return_value)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with a small store and a finished sweep."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["simulate", "root=archive", "simulation.n_field=60"]) == 0
        assert main(["ingest", "survey.root=archive", "store=store"]) == 0
        patch.setitem(sys.modules, "sweeping", sys.modules[__name__])
        RETURNED.clear()
        assert main([*SWEEP, "+hydra.callbacks.keep._target_=sweeping.Keep"]) == 0
    return folder


@pytest.fixture
def work(here, monkeypatch):
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def copied(work):
    """A copy of the sweep, to be changed."""
    shutil.rmtree(work / "copied", ignore_errors=True)
    shutil.copytree(work / "sweep", work / "copied")
    return work / "copied"


def results(path):
    return json.loads((path / "results.json").read_text())


def runs(sweep):
    return {path.parent.name: path for path in sorted(sweep.glob("*/results.json"))}


def said(capfd):
    return " ".join(capfd.readouterr().err.split())


def test_every_job_has_a_folder_of_its_own(work):
    found = [results(path.parent) for path in runs(work / "sweep").values()]
    told = sorted((each["seed"], each["results"][0]["learner"]) for each in found)
    assert told == [(0, "raw"), (0, "rsca"), (1, "raw"), (1, "rsca")]
    assert len(list((work / "rsca_checkpoints").glob("*.ckpt"))) == 1  # one fit of step 1 for all of them
    assert not list(work.rglob("*.part*"))
    for path in runs(work / "sweep").values():
        note = json.loads((path.parent / "job.json").read_text())
        assert note["problem"] is None
        assert f"seed={results(path.parent)['seed']}" in note["overrides"]
        assert "compressor.n_components=4" in path.parent.name


def test_a_sweeper_is_given_the_judged_rate(work):
    in_order = [(learner, seed) for learner in ("rsca", "raw") for seed in (0, 1)]
    rates = {}
    for path in runs(work / "sweep").values():
        content = results(path.parent)
        judged = content["results"][0]
        assert (judged["representation"], judged["held_out"]) == ("spectra", True)
        rates[judged["learner"], content["seed"]] = judged["doppelganger_rate"]
    assert [rates[key] for key in in_order] == RETURNED


def test_a_sweep_that_is_started_again_runs_what_is_not_finished(copied, caplog):
    lost = sorted(runs(copied).values())[2]
    before = {name: path.stat().st_mtime_ns for name, path in runs(copied).items()}
    content = results(lost.parent)
    lost.unlink()
    (lost.parent / "thoughts.txt").write_text("mine")
    assert main([*SWEEP[:-1], "out=copied"]) == 0
    assert caplog.text.count("finished already") == 3
    after = {name: path.stat().st_mtime_ns for name, path in runs(copied).items()}
    assert {name for name in before if before[name] != after[name]} == {lost.parent.name}
    again = results(lost.parent)
    assert [each["clusters"] for each in again["results"]] == [each["clusters"] for each in content["results"]]
    assert (lost.parent / "thoughts.txt").read_text() == "mine"


def test_a_run_of_another_configuration_is_not_taken_for_finished_and_the_others_go_on(copied, capfd):
    other, lost = (path for name, path in runs(copied).items() if "learner=raw" in name)
    content = results(other.parent)
    content["config"]["pairs"]["max_velocity"] = 7.0
    other.write_text(json.dumps(content))
    lost.unlink()
    assert main(["compare", "-m", *TINY, "learner=raw", "seed=0,1", "out=copied"]) == 2
    told = said(capfd)
    assert re.search(r"holds a run of another configuration \(pairs.max_velocity\)", told)
    assert "1 of 2 jobs of the sweep in copied failed seed=0:" in told
    assert lost.exists()
    assert results(other.parent)["config"]["pairs"]["max_velocity"] == 7.0


def test_a_job_that_cannot_be_done_is_told_with_its_options_and_the_others_go_on(work, capfd):
    RETURNED.clear()
    job = ["learner=raw", "pairs.max_velocity=0,5", "+hydra.callbacks.keep._target_=test_sweep.Keep"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "test_sweep", sys.modules[__name__])
        assert main(["compare", "-m", *TINY, *job, "out=half"]) == 2
    told = said(capfd)
    assert "Traceback" not in told
    assert "error: 1 of 2 jobs of the sweep in half failed pairs.max_velocity=0: max_velocity=0 and" in told
    (path,) = runs(work / "half").values()
    assert results(path.parent)["config"]["pairs"]["max_velocity"] == 5
    assert math.isinf(RETURNED[0])
    assert RETURNED[1] == results(next(iter(runs(work / "half").values())).parent)["results"][0]["doppelganger_rate"]
    unused = gather(work / "half").unused
    assert [problem for _, problem in unused] == ["unfinished: max_velocity=0 and max_extinction=0.05 must be positive"]


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_launchers(work, capfd, launcher):
    more = ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    jobs = ["learner=raw", "pairs.max_velocity=0,5", f"hydra/launcher={launcher}", *more, f"out={launcher}"]
    assert main(["compare", "-m", *TINY, *jobs]) == 2  # what went wrong in another process is known here
    assert "failed pairs.max_velocity=0: max_velocity=0 and" in said(capfd)
    (path,) = runs(work / launcher).values()
    assert results(path.parent)["config"]["pairs"]["max_velocity"] == 5
    one = next(p for p in runs(work / "sweep").values() if "learner=raw" in p.parent.name and "seed=0" in p.parent.name)
    for here, there in zip(results(path.parent)["results"], results(one.parent)["results"], strict=True):
        for mine, other in zip(here["clusters"], there["clusters"], strict=True):  # float32 on other threads
            assert (mine["cluster"], mine["pairs"]) == (other["cluster"], other["pairs"])
            assert mine["median_sibling_distance"] == pytest.approx(other["median_sibling_distance"], rel=1e-4)
            if mine["pairs"]:
                assert mine["doppelganger_rate"] == pytest.approx(other["doppelganger_rate"], abs=1.01 / mine["pairs"])


@pytest.mark.usefixtures("work")
def test_optuna_finds_the_best_of_what_it_tried():
    sweeper = ["hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=0"]
    tried = [*sweeper, "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1", "seed=0", "out=optuna"]
    fixed = [option for option in TINY if "n_components" not in option]
    command = ["compare", "-m", *fixed, *tried, "compressor.n_components=choice(2,4)"]
    subprocess.run([Path(sys.executable).with_name("rsca"), *command], check=True, capture_output=True)
    best = OmegaConf.load("optuna/optimization_results.yaml")
    found = [results(path.parent) for path in runs(Path("optuna")).values()]
    rates = {each["config"]["compressor"]["n_components"]: each["results"][0] for each in found}
    assert best.best_value == min(result["doppelganger_rate"] for result in rates.values())
    assert rates[best.best_params["compressor.n_components"]]["doppelganger_rate"] == best.best_value
    assert len(rates) > 1


@pytest.mark.usefixtures("work")
def test_training_logged_for_tensorboard():
    logged = ["learner=nca", "learner.recipe.epochs=2", "learner.recipe.inner=0", "out=logged"]
    logged += ["logger._target_=lightning.pytorch.loggers.TensorBoardLogger"]
    assert main(["compare", *TINY, *logged]) == 0
    files = list(Path("logged/training/spectra/nca").glob("*/events.out.tfevents.*"))
    assert len(files) == 22 + 1  # every fold, and without cross-validation


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "-m", "store=store", "out=x"], r"rsca fit takes one set of options at a time"),
        (["compare", "-m", *TINY, "seed=0,1", "--cfg", "hydra"], r"--cfg shows one job, not a sweep: leave out -m"),
        (["compare", "-m", *TINY, "seed=0,1", "out=null"], r"out=null: out=DIR must name one folder"),
        (["compare", "-m", *TINY, "seed=0,1", "out="], r"out=: out=DIR must name one folder"),
        (["compare", "-m", *TINY, "out=x,y"], r"out=x,y: out=DIR must name one folder"),
        (["compare", "-m", *TINY, "seed=0,1", "out=x/${seed}"], r"out=DIR must name one folder"),
        (["compare", "-m", *TINY, "hydra.sweep.dir=x"], r"hydra.sweep.dir=x: out=DIR names the folder of a sweep"),
        (["compare", "--multirun", *TINY, "out=single"], r"single holds a single run"),
        (["compare", "-m", *TINY, "learner=rsca,nca9", "out=x"], r"Could not find 'learner/nca9'"),
        (["compare", "-m", *TINY, "hydra/launcher=slurm9", "out=x"], r"pip install \"rsca_torch\[sweep\]\""),
        (["report"], r"one of run=DIR and sweep=DIR expected, got neither"),
        (["report", "sweep=nowhere"], r"there is no folder nowhere"),
        (["report", "sweep=store"], r"no results below store"),
        (["report", "sweep=sweep", "baseline=nca9"], r"baseline=nca9 is none of the learners .*: raw, rsca, scaled"),
    ],
)
def test_bad_input_is_refused(work, capfd, arguments, message):
    if "out=single" in arguments:
        shutil.copytree(next(iter(runs(work / "sweep").values())).parent, work / "single", dirs_exist_ok=True)
    assert main(arguments) == 2
    told = said(capfd)
    assert "Traceback" not in told
    assert re.search(message, told), told
    assert not list((work / "x").glob("*/results.json"))
    assert not (work / "sweep" / "report" / "report.md").exists()


def test_the_folder_of_a_job_says_what_it_is_of():
    sweep = Path("sweep")
    assert job_folder(sweep, ["seed=1", "learner=raw", "out=x", "figures=False"]).name == "learner=raw,seed=1"
    assert job_folder(sweep, ["learner=raw", "seed=1"]) == job_folder(sweep, ["seed=1", "learner=raw"])
    assert job_folder(sweep, []).parent == sweep
    places = [job_folder(sweep, [f"store={store}"]) for store in ("/a/b", "a/b", "a_b", "a b", "..", "x" * 300)]
    assert len(set(places)) == len(places)
    assert all(place.parent == sweep and len(place.name) < 255 for place in places)
    assert all(re.fullmatch(r"[\w=,.+-]+", place.name) and not place.name.startswith(".") for place in places)


def test_notes_are_those_of_one_start(tmp_path):
    job_note(tmp_path / "a", "first", ["seed=0"])
    job_note(tmp_path / "b", "second", ["seed=1"])
    job_note(tmp_path / "c", "second", ["seed=2"], None)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "job.json").write_text("[]")  # somebody else's
    assert jobs_of(tmp_path, "second") == [(["seed=1"], "did not come to its end", False), (["seed=2"], None, False)]


SETTINGS = {
    "compressor": {"_target_": "rsca_torch.layers.rsca.compress", "n_components": 4, "noise": "isotropic"},
    "learner": {"_target_": "rsca_torch.learners.Identity"},
    "baselines": {"scaled": {"_target_": "rsca_torch.learners.Scaled", "robust": True}},
    "abundances": {"subset": {"elements": ["Fe"]}},
    "pairs": {"max_velocity": 5.0},
    "survey": {"root": "archive", "cuts": []},
    "store": None,
    "out": "somewhere",
    "figures": True,
}


def write_run(folder, rates, seed=0, store="s", members=(4, 2, 3), config=None, representation="spectra"):
    """A results.json with {learner: rates of the clusters A, B, C}, the first of them the judged one."""
    entries = []
    for learner, values in rates.items():
        counted = [value for value in values if value is not None]
        weights = [weight for weight, value in zip(members, values, strict=True) if value is not None]
        entries.append(
            {
                "representation": representation,
                "compressor": {} if representation == "spectra" else None,
                "learner": learner,
                "held_out": True,
                "doppelganger_rate": float(np.average(counted, weights=weights)) if counted else None,
                "interval": [0.0, 1.0],
                "seconds": 0.5,
                "clusters": [
                    {
                        "cluster": name,
                        "members": weight,
                        "pairs": 0 if value is None else 7,
                        "doppelganger_rate": value,
                        "median_sibling_distance": 1.0,
                    }
                    for name, weight, value in zip("ABC", members, values, strict=True)
                ],
            }
        )
    content = {
        "schema": 1,
        "store": {"checksum": store},
        "seed": seed,
        "versions": {"rsca_torch": version("rsca_torch")},
        "config": {**SETTINGS, "seed": seed, **(config or {})},
        "results": entries,
    }
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(content))


def by_name(groups):
    """The groups by what their learners saw, the learner and the options that differ."""
    varied = groups.columns[list(groups).index("held_out") + 1 : list(groups).index("rates")]
    return {(row["representation"], row["learner"], *row[varied]): row for _, row in groups.iterrows()}


def test_mean_and_spread_over_seeds_by_hand(tmp_path):
    write_run(tmp_path / "a", {"raw": (0.1, 0.2, 0.3), "scaled": (0.2, 0.2, 0.2)})
    write_run(tmp_path / "b", {"raw": (0.3, 0.2, 0.1), "scaled": (0.1, 0.1, 0.1)}, seed=1, store="t")
    group = by_name(groups_of(gather(tmp_path), "scaled"))["spectra", "raw"]
    one, other = (0.4 + 0.4 + 0.9) / 9, (1.2 + 0.4 + 0.3) / 9
    assert list(group["rates"]) == pytest.approx([one, other], rel=1e-12)
    assert group["mean"] == pytest.approx((one + other) / 2, rel=1e-12)
    assert group["spread"] == pytest.approx(abs(one - other) / math.sqrt(2), rel=1e-12)
    assert group["difference"] == pytest.approx((one - 0.2 + other - 0.1) / 2, rel=1e-12)
    assert group["paired"] == 2
    scaled = by_name(groups_of(gather(tmp_path), "scaled"))["spectra", "scaled"]
    assert math.isnan(scaled["difference"])
    alone = by_name(groups_of(gather(tmp_path / "a"), "scaled"))["spectra", "raw"]
    assert math.isnan(alone["spread"])


def slow_interval(units, resamples=10_000):
    """Percentiles of the ratio of sums over units drawn with replacement; units: [(sum of weight * d, of weight)]."""
    drawn = np.random.default_rng(0).integers(len(units), size=(resamples, len(units)))
    sample = [sum(units[i][0] for i in row) / sum(units[i][1] for i in row) for row in drawn]
    return np.quantile(sample, [0.16, 0.84])


@pytest.mark.parametrize("stores", [("s", "t"), ("s", "s")], ids=["two surveys", "one survey"])
def test_the_interval_resamples_clusters_of_stores(tmp_path, stores):
    """Seeds of one store see the same stars: a cluster is drawn with what all seeds say of it."""
    a = [(0.1, 0.25, 0.4), (0.35, None, 0.1)]
    b = [(0.2, 0.2, 0.3), (0.1, 0.1, 0.15)]
    for seed in (0, 1):
        write_run(tmp_path / str(seed), {"raw": a[seed], "scaled": b[seed]}, seed=seed, store=stores[seed])
    members, units = (4, 2, 3), {}
    for seed in (0, 1):
        total = sum(m for m, rate in zip(members, a[seed], strict=True) if rate is not None)
        for name, m, one, other in zip("ABC", members, a[seed], b[seed], strict=True):
            if one is not None:
                before = units.get((stores[seed], name), (0, 0))
                units[stores[seed], name] = (before[0] + m / total * (one - other), before[1] + m / total)
    raw = by_name(groups_of(gather(tmp_path), "scaled"))["spectra", "raw"]
    assert raw["difference"] == pytest.approx(sum(d for d, _ in units.values()) / 2, rel=1e-12)
    assert len(units) == (5 if stores == ("s", "t") else 3)
    np.testing.assert_allclose(
        [raw["difference_low"], raw["difference_high"]], slow_interval(list(units.values())), rtol=1e-9
    )


def test_only_the_same_clusters_of_the_same_stars_are_paired(tmp_path):
    write_run(tmp_path / "a", {"scaled": (0.2, 0.2, 0.2)}, config={"learner": SETTINGS["baselines"]["scaled"]})
    write_run(tmp_path / "b", {"raw": (0.5, 0.3, 0.4)}, members=(4, 5, 3))
    write_run(tmp_path / "c", {"raw": (0.5, 0.3, 0.4)}, store="t", seed=1)
    write_run(tmp_path / "d", {"scaled": (0.2, 0.2, 0.2)}, config={"learner": SETTINGS["baselines"]["scaled"]}, seed=1)
    group = by_name(groups_of(gather(tmp_path), "scaled"))["spectra", "raw"]
    assert len(group["rates"]) == 2
    assert group["paired"] == 1  # in seed 1 they saw different stars
    assert group["difference"] == pytest.approx((4 * 0.3 + 3 * 0.2) / 7, rel=1e-12)  # without B
    text = markdown(groups_of(gather(tmp_path), "scaled"), gather(tmp_path), "scaled", "x")
    assert " of 1 seeds |" in text


def test_a_rate_of_zero_over_seeds_has_the_limit_of_its_pairs(tmp_path):
    """Two seeds of one store see the same 21 pairs: they are no further evidence."""
    for seed in (0, 1):
        write_run(tmp_path / str(seed), {"raw": (0.02, 0.02, 0.02), "scaled": (0.0, 0.0, 0.0)}, seed=seed)
    groups = groups_of(gather(tmp_path), "scaled")
    limit = 1 - 0.16 ** (1 / 21)
    scaled, raw = by_name(groups)["spectra", "scaled"], by_name(groups)["spectra", "raw"]
    assert (scaled["low"], scaled["high"]) == (0, pytest.approx(limit, rel=1e-9))
    assert (raw["difference_low"], raw["difference_high"]) == pytest.approx((0.02 - limit, 0.02), rel=1e-9)
    text = markdown(groups, gather(tmp_path), "scaled", "x")
    assert f"| 0.00 (0 up to {100 * limit:.2f}) |" in text


def test_settings_that_differ_make_groups_and_columns(tmp_path):
    for k in (4, 8):
        config = {"compressor": {**SETTINGS["compressor"], "n_components": k}, "out": f"o{k}", "pairs": {"v": float(k)}}
        write_run(tmp_path / f"k{k}", {"raw": (0.1 * k, 0.1, 0.1), "scaled": (0.1, 0.1, 0.1)}, config=config)
    gathered = gather(tmp_path)
    assert gathered.varied == ["compressor.n_components", "pairs.v"]
    groups = by_name(groups_of(gathered, "scaled"))
    for k in ("4", "8"):  # each with the baseline of the same settings
        assert groups["spectra", "raw", k, k]["difference"] == pytest.approx(4 * (0.1 * int(k) - 0.1) / 9)
    write_rows(tmp_path / "runs.csv", gathered)
    with (tmp_path / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == (
        "run representation learner held_out n_components noise seed pairs.v rate low high seconds".split()
    )
    assert [row["n_components"] for row in rows] == ["4", "4", "8", "8"]
    assert [float(row["rate"]) for row in rows] == list(gathered.results["rate"])


def test_options_of_a_learner_are_its_own(tmp_path):
    for top in (2, 3):
        config = {"learner": {"_target_": "x.Y", "top": top}}
        write_run(tmp_path / str(top), {"rsca": (0.1, 0.1, 0.1 * top), "scaled": (0.2, 0.2, 0.2)}, config=config)
    gathered = gather(tmp_path)
    assert gathered.varied == ["learner.top"]
    groups = by_name(groups_of(gathered, "scaled"))
    assert set(groups) == {("spectra", "rsca", "2"), ("spectra", "rsca", "3"), ("spectra", "scaled", "")}
    assert len(groups["spectra", "scaled", ""]["rates"]) == 1  # twice the same does not count twice
    assert groups["spectra", "rsca", "3"]["difference"] == pytest.approx(-(6 * 0.1 - 3 * 0.1) / 9)
    both = by_name(groups_of(gathered, "rsca"))  # of two settings of the baseline neither is the one
    assert all(math.isnan(group["difference"]) for group in both.values())


def test_what_step_1_does_has_no_part_in_abundances(tmp_path):
    for k in (4, 8):
        config = {"compressor": {**SETTINGS["compressor"], "n_components": k}}
        write_run(tmp_path / str(k), {"raw": (0.1, 0.1, 0.3)}, config=config, representation="subset")
    gathered = gather(tmp_path)
    assert gathered.varied == []
    (group,) = by_name(groups_of(gathered, "raw")).values()
    assert (len(group["rates"]), len(gathered.results)) == (1, 2)


def test_what_cannot_be_used_is_listed_with_the_reason(tmp_path):
    write_run(tmp_path / "a", {"raw": (0.1, 0.2, 0.3), "scaled": (None, None, None)})
    write_run(tmp_path / "b", {"raw": (0.1, 0.2, 0.4)})
    write_run(tmp_path / "c", {})
    for name, text in (("d", '{"schema": 2}'), ("e", '{"schema": 1, "results": [{}]}'), ("f", "{"), ("g", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(text)
    job_note(tmp_path / "h", "x", ["seed=3"])
    write_run(tmp_path / "i" / ".part.x", {"raw": (0.1, 0.2, 0.4)}, seed=9)  # a killed run's
    gathered = gather(tmp_path)
    assert gathered.results[["run", "learner"]].to_numpy().tolist() == [["a", "raw"]]
    assert dict(gathered.unused) == {
        "a": "scaled on spectra: no rate, no cluster has an allowed pair",
        "b": "raw on spectra: settings and seed of a, but other rates",
        "c": "no rates",
        "d": "results of schema 2, this program reads 1",
        "e": gathered.unused[3][1],
        "f": "results.json cannot be read (JSONDecodeError)",
        "g": "results.json cannot be read (ValueError)",
        "h": "unfinished: did not come to its end",
    }
    assert "results.json is damaged (KeyError" in dict(gathered.unused)["e"]
    text = markdown(groups_of(gathered, "raw"), gathered, "raw", "x")
    assert "- `c`: no rates\n" in text
    shutil.rmtree(tmp_path / "a")
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(InputError, match=r"(?s)no results below .*\n  h: unfinished"):
        gather(tmp_path)


def test_a_finished_run_is_one_of_the_same_options_and_data(tmp_path):
    write_run(tmp_path / "a", {"raw": (0.1, 0.1, 0.4)})
    same = {**SETTINGS, "seed": 0, "out": "elsewhere", "figures": False, "survey": {"root": "b", "cuts": []}}
    assert finished_rate(tmp_path / "a", same, None) == pytest.approx(1.8 / 9)
    assert finished_rate(tmp_path / "a", same, "s") == pytest.approx(1.8 / 9)
    assert finished_rate(tmp_path / "nowhere", same, None) is None
    with pytest.raises(InputError, match=r"another configuration \(store\)"):
        finished_rate(tmp_path / "a", same, "t")
    with pytest.raises(InputError, match=r"another configuration \(pairs.max_velocity, seed\)"):
        finished_rate(tmp_path / "a", {**same, "seed": 1, "pairs": {"max_velocity": 4}}, None)
    with pytest.raises(InputError, match=r"another configuration \(survey.cuts\)"):
        finished_rate(tmp_path / "a", {**same, "survey": {"root": "b", "cuts": [1]}}, None)
    assert finished_rate(tmp_path / "a", {**same, "pairs": {"max_velocity": 5}}, None) is not None  # 5 is 5.0
    whole = (tmp_path / "a" / "results.json").read_text()
    older = {**json.loads(whole), "versions": {"rsca_torch": "0.0.1"}}
    (tmp_path / "a" / "results.json").write_text(json.dumps(older))
    with pytest.raises(InputError, match=r"another configuration \(rsca_torch 0\.0\.1, this is"):
        finished_rate(tmp_path / "a", same, None)
    for half in (whole[:100], "", "[]", json.dumps({**json.loads(whole), "results": []})):
        (tmp_path / "a" / "results.json").write_text(half)
        assert finished_rate(tmp_path / "a", same, None) is None
    (tmp_path / "a" / "results.json").write_text(json.dumps({**json.loads(whole), "schema": 9}))
    with pytest.raises(InputError, match="results of schema 9, this program reads 1"):
        finished_rate(tmp_path / "a", same, None)


@pytest.mark.parametrize("judged", ["rsca by likelihood", "mine"])
def test_where_rsca_was_not_judged_others_are_compared_with_what_was(tmp_path, capsys, judged):
    config = {"learner": {"_target_": "mine"}, "baselines": SETTINGS["baselines"]}
    write_run(tmp_path / "a", {judged: (0.1, 0.1, 0.1), "scaled": (0.2, 0.2, 0.2)}, config=config)
    assert main(["report", f"sweep={tmp_path}"]) == 0
    assert f"minus {judged}" in " ".join(capsys.readouterr().out.split())


def test_the_report_says_what_the_results_say(work, capsys):
    assert main(["report", "sweep=sweep", "baseline=raw", "out=reported"]) == 0
    shown = capsys.readouterr().out
    with (work / "reported" / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = []
    for name, path in runs(work / "sweep").items():
        content = results(path.parent)
        for r in content["results"]:
            key = (name, r["representation"], r["learner"], str(r["held_out"]), str(content["seed"]))
            expected.append((*key, r["doppelganger_rate"], *r["interval"]))
    columns = "run representation learner held_out seed rate low high".split()
    assert [tuple(row[c] for c in columns[:5]) for row in rows] == [each[:5] for each in expected]
    numbers = [[float(row[c]) for c in columns[5:]] for row in rows]
    np.testing.assert_allclose(numbers, [each[5:] for each in expected], rtol=1e-12)

    def rates(learner):
        found = {each[4]: each[5] for each in expected if each[1:4] == ("spectra", learner, "True")}
        return np.array([found["0"], found["1"]])

    text = (work / "reported" / "report.md").read_text()
    for learner in ("rsca", "scaled"):
        mean, less = 100 * rates(learner).mean(), 100 * (rates(learner) - rates("raw")).mean()
        line = rf"\| spectra \| {learner} \| 2 \| {mean:.2f} \| 0.00 \| {re.escape(f'{less:+.2f}')} \([+-]"
        assert re.search(line, text), (line, text)  # closed forms draw nothing: no spread over seeds of one store
        assert re.search(rf"spectra +{learner} +2 +{mean:.2f}", shown)
    assert (work / "reported" / "rates.png").read_bytes().startswith(b"\x89PNG")
    assert (work / "reported" / "rates.pdf").read_bytes().startswith(b"%PDF")
    assert main(["report", "sweep=sweep", "out=reported"]) == 0  # it may be made again


def test_the_picture_has_a_panel_a_representation_and_its_points_on_their_ticks(tmp_path, capsys):
    write_run(tmp_path / "a", {"raw": (0.1, 0.2, 0.3), "scaled": (0.2, 0.2, 0.2)})
    for seed, number in enumerate((10, 1, 2.5)):
        config = {"pairs": {"max_velocity": number}}
        write_run(tmp_path / f"b{seed}", {"raw": (0.3, 0.2, 0.1), "scaled": (0.0, 0.0, 0.0)}, seed=1, config=config)
    write_run(tmp_path / "c", {"raw": (0.3, 0.2, 0.1)}, representation="subset")
    gathered = gather(tmp_path)
    groups = groups_of(gathered, "raw")
    figure = draw_groups(groups, gathered.varied)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["spectra", "subset"]
    panel = figure.axes[0]
    assert [text.get_text() for text in panel.get_xticklabels()] == ["1", "2.5", "5", "10"]  # as numbers go
    assert panel.get_xlabel() == "pairs.max velocity"
    figure.draw_without_rendering()
    (legend,) = figure.subfigs[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["raw", "scaled"]
    frame, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= frame.x0 <= frame.x1 <= whole.x1
    assert frame.y1 <= whole.y1
    assert frame.y0 >= panel.get_window_extent().y1
    raw, scaled = (container.lines[0].get_xydata() for container in panel.containers)
    one, other = (0.4 + 0.4 + 0.9) / 9, (1.2 + 0.4 + 0.3) / 9
    np.testing.assert_allclose(raw, [(0, other), (1, other), (2, one), (3, other)])
    np.testing.assert_allclose(scaled, [(0, np.nan), (1, np.nan), (2, 0.2), (3, np.nan)])  # 0 has no logarithm
    zeros = [line for line in panel.lines if line.get_marker() == "v" and len(line.get_xdata())]
    assert [sorted(line.get_xdata()) for line in zeros] == [[0, 1, 3]]
    print_groups(groups, gathered, "raw")
    said = capsys.readouterr().out
    assert len([line for line in said.splitlines() if line.startswith(("spectra", "subset"))]) == len(groups) == 9


def test_a_sweep_of_seeds_alone_has_its_learners_along(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / str(seed), {"raw": (0.1, 0.2, 0.3), "scaled": (0.2, 0.2, 0.2)}, seed=seed)
    gathered = gather(tmp_path)
    assert not gathered.simulated
    figure = draw_groups(groups_of(gathered, "raw"), gathered.varied)
    (panel,) = figure.axes
    assert [text.get_text() for text in panel.get_xticklabels()] == ["raw", "scaled"]
    assert figure.subfigs[0].legends == []
    path = tmp_path / "1" / "results.json"
    content = json.loads(path.read_text())
    content["store"]["simulated"] = True
    path.write_text(json.dumps(content))
    assert gather(tmp_path).simulated


def test_several_that_need_one_simulated_survey_make_it_once(tmp_path, monkeypatch):
    inside, most, written = [], [], []

    class Survey:
        published = None

        def write(self, root, seed):
            inside.append(seed)
            most.append(len(inside))
            time.sleep(0.05)
            Path(root).mkdir()
            written.append(root)

    def ingest(_, store):
        time.sleep(0.05)
        Path(store).mkdir()
        inside.pop()

    group = {"release": "dr16"}
    config = OmegaConf.create(
        {"simulated": str(tmp_path / "s" / "seed-0"), "seed": 0, "simulation": group, "survey": group}
    )
    monkeypatch.setattr("rsca_torch.survey.simulated.store.hydra.utils.instantiate", lambda *_, **__: Survey())
    monkeypatch.setattr("rsca_torch.survey.simulated.store.ingest", ingest)
    monkeypatch.setattr("rsca_torch.survey.simulated.store.Store.open", lambda path: path)
    opened = []
    threads = [threading.Thread(target=lambda: opened.append(simulated_store(config))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert len(written) == 1
    assert opened == [tmp_path / "s" / "seed-0" / "store"] * 4


def test_two_that_keep_the_same_fit_do_no_harm(tmp_path):
    path = tmp_path / "fit.ckpt"

    def trainer(content, meanwhile=lambda: None):
        def save(part):
            part.write_text(content)
            meanwhile()

        return SimpleNamespace(save_checkpoint=save, is_global_zero=True)

    one, other = _EachIteration(path), _EachIteration(path)
    one.on_train_epoch_end(trainer("one", lambda: other.on_train_epoch_end(trainer("other"), None)), None)
    assert path.read_text() == "one"
    assert [file.name for file in tmp_path.iterdir()] == ["fit.ckpt"]


GROUPS = sorted(CONFIG.glob("*/*.yaml"))
#: What a user must give of a survey.
EXPECTED = {
    "root": "somewhere",
    "flux": "flux.npy",
    "wavelength": "wavelength.npy",
    "stars": "stars.csv",
    "description": OmegaConf.to_container(OmegaConf.load(CONFIG / "survey" / "galah_dr4.yaml").description),
}
USED = ("learner", "trainer", "pairs", "compressor", "survey", "simulation")


@pytest.mark.parametrize("path", GROUPS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_choice_of_a_group_works_in_its_place(path):
    """As `rsca compare GROUP=NAME` would compose and instantiate it; every option is an argument of its class."""
    group = path.parent.name
    with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
        if group not in USED:  # chosen by the files of another group
            assert hydra.utils.instantiate(hydra.compose(overrides=[f"+{group}={path.stem}"])[group]) is not None
            return
        config = hydra.compose("compare", [f"{group}={path.stem}"])
    written = OmegaConf.load(path)
    assert config[group]._target_ == written.get("_target_", config[group]._target_)  # one may stand on another
    options = {name: text for name, text in EXPECTED.items() if OmegaConf.is_missing(config[group], name)}
    options |= {"error": "error.npy"} if path.stem == "arrays" else {}  # or ivar
    made = hydra.utils.instantiate(config[group], **options)
    if isinstance(made, partial):
        takers = [made.func, fit_ppca] if group == "compressor" else [made.func]  # compress hands on to fit_ppca
        known = {name for taker in takers for name in inspect.signature(taker).parameters}
        assert set(made.keywords) <= known | {"candidates", "remove", "windows"}
    if group == "learner":
        assert isinstance(made, Learner)
        assert made.name == {"paper": "rsca", "paper_text": "rsca"}.get(path.stem, path.stem)
    if group == "trainer" and made.keywords["accelerator"] == "cpu":
        assert made(logger=False, enable_checkpointing=False).world_size == made.keywords["devices"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes(command):
    with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = hydra.compose(command, return_hydra_config=True)
    assert config.hydra.job.chdir is False
    assert (CONFIG / f"{command}.yaml").exists()


def test_a_sweep_does_not_keep_its_jobs_configurations(work, monkeypatch):
    """Of each job half a megabyte: a sweep of a thousand took half a gigabyte."""
    kept = []

    class See(Callback):
        def on_multirun_end(self, config, **_):  # noqa: ARG002  (Hydra's)
            kept.extend(each for each in gc.get_objects() if type(each) is JobReturn)

    monkeypatch.setitem(sys.modules, "seeing", SimpleNamespace(See=See))
    jobs = ["learner=raw", "seed=0,1", "out=forgotten", "+hydra.callbacks.see._target_=seeing.See"]
    assert main(["compare", "-m", *TINY, *jobs]) == 0
    assert len(runs(work / "forgotten")) == 2
    assert [(each.cfg, each.hydra_cfg) for each in kept] == [(None, None)] * 2
