"""The commands as a user types them, on a small simulated survey."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.table import Table
from omegaconf import OmegaConf

from rsca_torch import RSCA, Learner
from rsca_torch.cli import embed
from rsca_torch.cli.main import COMMANDS, CONFIG, main
from rsca_torch.evaluation.fold_files import FoldFiles
from rsca_torch.survey.store import Store

pytestmark = [
    pytest.mark.filterwarnings("default::rsca_torch.NumericalWarning"),  # a small survey drops dimensions and clusters
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]

SMALL = ["simulation.n_field=150", "compressor.n_components=6", "compressor.max_iterations=30"]
PLAIN = [*SMALL[1:], "calibration=null", "figures=false"]  # where neither is looked at: seconds less


class Halves(Learner):
    """Somebody's own learner, of which the package knows nothing."""

    def forward(self, z):
        return z / 2


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with one finished comparison in `first`, its survey and its store."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["compare", *SMALL, "out=first"]) == 0
    return folder


@pytest.fixture
def work(here, monkeypatch):
    monkeypatch.chdir(here)
    return here


def results(path):
    return json.loads((path / "results.json").read_text())


PATHS = {"catalogue": "dr16/apogee/spectro/aspcap/r12/l33/allStar-r12-l33.fits"}
STORE = "store=rsca_simulated/seed-0/store"


def test_compare_writes_what_design_promises(work):
    content = results(work / "first")
    assert content["schema"] == 1
    assert content["seed"] == 0
    assert content["store"]["checksum"] == Store.open(work / "rsca_simulated/seed-0/store").checksum
    assert (content["store"]["members"], content["store"]["clusters"]) == (185, 22)
    assert {"rsca_torch", "torch", "numpy", "astropy", "python"} <= set(content["versions"])
    assert content["config"]["compressor"]["n_components"] == 6
    held_out = [result for result in content["results"] if result["held_out"]]
    assert {(r["representation"], r["learner"]) for r in held_out} == {
        (representation, learner)
        for representation in ("spectra", "abundances", "abundance_subset")
        for learner in ("rsca", "raw", "scaled")
    }
    for result in content["results"]:
        assert (result["compressor"] is None) == (result["representation"] != "spectra")
        assert len(result["clusters"]) == 22
        counted = [c for c in result["clusters"] if c["doppelganger_rate"] is not None]
        weights = [c["members"] for c in counted]
        rate = np.average([c["doppelganger_rate"] for c in counted], weights=weights)
        assert result["doppelganger_rate"] == pytest.approx(rate, rel=1e-12)
        low, high = result["interval"]
        assert 0 <= low <= high <= 1
        assert all((c["pairs"] == 0) == (c["doppelganger_rate"] is None) for c in result["clusters"])
    for name in ("rates", "features", "weights", "distances_spectra", "distances_abundance_subset"):
        assert (work / "first" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (work / "first" / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_transformed_spectra_beat_raw_and_scaled_ones_even_here(work):
    content = results(work / "first")
    for difference in content["differences"]:
        if difference["representation"] == "spectra":
            low, high = difference["interval"]
            assert 0 < low < difference["difference"] < high
    rate = {(r["representation"], r["learner"], r["held_out"]): r["doppelganger_rate"] for r in content["results"]}
    assert rate["spectra", "rsca", False] < rate["spectra", "rsca", True]


def test_the_csv_says_what_the_json_says(work):
    with (work / "first" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    total = [float(row["doppelganger_rate"]) for row in rows if row["cluster"] == "(all)"]
    assert total == [result["doppelganger_rate"] for result in results(work / "first")["results"]]
    assert len(rows) == 10 * 23


def test_the_same_store_gives_the_same_numbers(work):
    assert main(["compare", *SMALL, "out=again", "figures=false"]) == 0
    first, again = results(work / "first"), results(work / "again")
    for one, other in zip(first["results"], again["results"], strict=True):
        assert one["clusters"] == other["clusters"]
        assert one["interval"] == other["interval"]
    assert not list((work / "again").glob("*.png"))


def test_the_saved_model_is_the_judged_one_and_fit_makes_the_same(work):
    model = RSCA.load(work / "first" / "rsca.safetensors")
    assert main(["fit", STORE, *SMALL[1:], "out=models/rsca.safetensors"]) == 0
    fitted = RSCA.load(work / "models" / "rsca.safetensors")
    torch.testing.assert_close(model.weight, fitted.weight, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.bias, fitted.bias, rtol=1e-9, atol=1e-9)


def test_embed_joins_by_id(work):
    assert main(["embed", "model=first/rsca.safetensors", STORE, "out=features/all.fits"]) == 0
    table = Table.read(work / "features" / "all.fits")
    store = Store.open(work / "rsca_simulated/seed-0/store")
    assert table["APOGEE_ID"].tolist() == store.stars["APOGEE_ID"].tolist()
    model = RSCA.load(work / "first" / "rsca.safetensors")
    some = store.spectra(slice(5, 9))
    np.testing.assert_allclose(table["FEATURES"][5:9], model.embed(some).double(), rtol=1e-6, atol=1e-5)
    assert table["VALID_BINS"][5:9].tolist() == some.valid.sum(1).tolist()
    program = f"rsca_torch {version('rsca_torch')}"
    assert {name: table.meta[name] for name in ("STORE", "MODELSTO", "PROGRAM", "MODELVER", "COMMAND")} == {
        "STORE": store.checksum,
        "MODELSTO": store.checksum,
        "PROGRAM": program,
        "MODELVER": program,
        "COMMAND": f"rsca embed model=first/rsca.safetensors {STORE} out=features/all.fits",
    }


def test_features_do_not_depend_on_how_many_processes_make_them(work, monkeypatch):
    monkeypatch.setattr(embed, "EMBEDDED_AT_ONCE", 32)
    for processes in (1, 2):
        options = [STORE, f"out=features/{processes}.fits", f"parallel.processes={processes}"]
        assert main(["embed", "model=first/rsca.safetensors", *options]) == 0
    one, two = (Table.read(work / "features" / f"{processes}.fits") for processes in (1, 2))
    assert len(one) > 8 * 32, "enough for two processes"
    assert all((one[name] == two[name]).all() for name in one.colnames)


def test_real_files_in_features_out(work, shared):
    spectra = shared / "data" / "aspcapStar_dr13"
    assert main(["ingest", "survey=aspcapstar_files", f"survey.root={spectra}", "store=real"]) == 0
    assert main(["embed", "model=first/rsca.safetensors", "store=real", "out=real.fits"]) == 0
    table = Table.read(work / "real.fits")
    assert len(table) == 24  # of 25, one has no valid bin
    assert table["FEATURES"].shape == (24, 6)
    assert np.isfinite(table["FEATURES"]).all()
    store = Store.open(work / "real")
    assert [problem for _, problem in store.problems] == ["no valid bin"]


def test_a_learner_of_ones_own(work, monkeypatch):
    monkeypatch.setitem(sys.modules, "somebodys", sys.modules[__name__])
    target = "learner._target_=somebodys.Halves"
    assert main(["compare", STORE, *PLAIN, target, "out=own"]) == 0
    by_name = {(r["representation"], r["learner"]): r for r in results(work / "own")["results"] if r["held_out"]}
    halves, raw = by_name["spectra", "Halves"], by_name["spectra", "raw"]
    assert halves["doppelganger_rate"] == raw["doppelganger_rate"]  # a scale changes no rate


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", STORE, "out=first"], r"first holds another run"),
        (["compare", "store=nowhere", "out=x"], r"nowhere is not a store"),
        (
            ["compare", STORE, "out=x", "compressor.n_components=126", "learner=paper_text"],
            r"146 members of 21 clusters can carry at most 125",
        ),
        (["compare", STORE, "out=x", "compressor.n_components=many"], r"n_components=many: expected a whole number"),
        (["compare", STORE, "out=x", "n_component=3"], r"did you mean compressor.n_components\?"),
        (["compare", STORE, "out=x", "learner=nca9"], r"Could not find 'learner/nca9'(.|\n)*rsca"),
        (["compare", STORE, "out=x", "learner._target_=no.Where"], r"learner._target_=no.Where cannot be imported"),
        (
            ["compare", STORE, "out=x", "+learner.colour=red"],
            r"ScaledComponents has no option colour; it has robust",
        ),
        (["compare", STORE, "out=x", "compressor.basis=both"], r"basis must be inductive or transductive, got 'both'"),
        (["compare", "simulation.n_field=151", "out=x"], r"holds another simulated survey, or one read otherwise"),
        (["fit", STORE, "out=x", "learner=raw"], r"learner=rsca expected, got rsca_torch.learners.Identity"),
        (["fit", STORE], r"Missing mandatory value: out"),
        (["fit", STORE, "out=first"], r"first is a folder: give the name of a file"),
        (["fit", STORE, "out=/proc/no/model"], r"error: .*/proc/no"),
        (["compare", STORE, "out=null"], r"out must name what to make, got None"),
        (["compare", STORE, "out=x", "survey.root=y"], r"survey.root=y: no effect, since store="),
        (
            ["compare", STORE, "out=x", "pairs.max_velocity=0"],
            r"max_velocity=0 and max_extinction=0.05 must be positive",
        ),
        (["compare", STORE, "out=x", "compressor.max_iterations=0"], r"max_iterations >= 1"),
        (["compare", "simulation.release=dr17", "simulated=y", "out=x"], r"give survey=apogee_dr17 too"),
        (["simulate", "root=x", "seed=-1"], r"seed must not be negative"),
        (["embed", "model=nowhere", STORE, "out=x"], r"no model at nowhere"),
        (["embed", "model=first/results.json", STORE, "out=x"], r"is no safetensors file"),
        (["simulate", "root=first"], r"first holds something already"),
        (["ingest", "survey.root=nowhere", "store=x"], r"survey.root=nowhere must be a folder that can be read"),
        (["ingest", "survey.root=first", "store=x"], r"no catalogue below"),
        (["ingest", "survey.root=first"], r"Missing mandatory value: store"),
        (["dance"], r"there is no command 'dance'"),
        (["fit", STORE, "out=x", "+compresor.tolerance=1e-9"], r"no option compresor.tolerance; did you mean compr"),
        (["fit", STORE, "out=x", "++tolerance=1e-9"], r"no option tolerance; did you mean compressor.tolerance\?"),
        (["fit", STORE, "out=x", "++compressor.tolerence=1"], r"did you mean compressor.tolerance\?"),
        (["fit", STORE, "out=x", "++seeds=3"], r"no option seeds; did you mean seed\?"),
        (["embed", "model=x", STORE, "out=x", "+learner=rca"], r"rsca embed has no option learner"),
        (["ingest", "survey.root=first", "store=x", "++storre=y"], r"did you mean store\?"),
        (["report", "sweep=first", "+baselin=rca"], r"did you mean baseline\?"),
        (["simulate", "root=x", "+simulation.stars.high_alfa=1"], r"did you mean simulation.stars.high_alpha\?"),
        (["fit", STORE, "out=x", "++trainer.acelerator=cpu"], r"did you mean trainer.accelerator\?"),
        (["compare", STORE, "out=x", "+pairs.max_speed=1"], r"has no option max_speed"),
        (["compare", STORE, "out=x", "+baselines.raw.top=1"], r"Identity has no option top; it has none"),
        (["compare", STORE, "out=x", "+logger.flush=1"], r"CSVLogger has no option flush"),
        (
            ["compare", STORE, "out=x", "learner._target_=rsca_torch.RCA", "learner.top=3"],
            r"learner.top: RCA has no option top",
        ),
        (["fit", STORE, "out=x", "compressor=null"], r"compressor=null: step 1 needs its options: compressor=ppca"),
        (["reproduce", STORE, "out=x", "experiments=null"], r"experiments=null: rsca reproduce cannot do without"),
        (
            ["compare", STORE, "out=x", "pairs=null"],
            r"pairs=null: some pairs must be compared: pairs=all takes every member",
        ),
        (["fit", STORE, "out=x", "em_loop=null"], r"em_loop=null: rsca fit cannot do without"),
        (["fit", STORE, "out=x", "seed=null"], r"seed=null: a value like 0 expected"),
        (["fit", STORE, "out=x", "+trainer.fast_dev_run=true"], r"trainer.fast_dev_run=True: .*leave it out"),
        (["fit", STORE, "out=x", "+trainer.precision=bf16-true"], r"trainer.precision=bf16-true: .*leave it out"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(work, capfd, arguments, message):
    before = sorted(work.rglob("*"))
    assert main(arguments) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert "Traceback" not in said
    with_blanks = message.replace(r"(.|\n)*", ".*")
    assert re.search(with_blanks, said), said
    assert sorted(work.rglob("*")) == before


class Diverged(Learner):
    """A learner that gives no numbers."""

    def forward(self, z):
        return z * torch.nan


class Empty(Learner):
    """A learner without a map."""


@pytest.mark.parametrize(
    ("learner", "message"), [(Diverged, "Diverged gave .* not finite"), (Empty, r"Empty must define forward\(z\)")]
)
def test_a_learner_that_gives_nothing_scores_nothing(work, capfd, monkeypatch, learner, message):
    monkeypatch.setitem(sys.modules, "somebodys", sys.modules[__name__])
    assert main(["compare", STORE, *PLAIN, f"learner._target_=somebodys.{learner.__name__}", "out=x"]) == 2
    assert re.search(message, " ".join(capfd.readouterr().err.split()))
    assert not (work / "x").exists()


def test_a_baseline_that_is_the_judged_learner_is_not_listed_twice(work):
    assert main(["compare", STORE, *PLAIN, "learner=scaled", "learner.top=2", "out=scaled"]) == 0
    entries = [(r["representation"], r["learner"], r["held_out"]) for r in results(work / "scaled")["results"]]
    assert len(set(entries)) == len(entries) == 3 * 2 + 1


def test_members_that_lack_an_abundance_do_not_end_the_comparison(work):
    shutil.copytree(work / "rsca_simulated/seed-0/archive", work / "damaged")
    with fits.open(work / "damaged" / PATHS["catalogue"], mode="update") as hdus:
        member = np.flatnonzero(hdus[1].data["APOGEE_ID"] == results_member(work))[0]
        hdus[1].data["X_H"][member, 1] = -9999.99
    assert main(["ingest", "survey.root=damaged", "store=lacking", "survey.cuts=[]"]) == 0
    assert main(["compare", "store=lacking", *PLAIN, "out=lacking-out"]) == 0
    members = {
        r["representation"]: sum(c["members"] for c in r["clusters"]) for r in results(work / "lacking-out")["results"]
    }
    assert members["spectra"] > members["abundances"]


def results_member(work):
    stars = Store.open(work / "rsca_simulated/seed-0/store").stars
    return stars["APOGEE_ID"][stars["CLUSTER"] == "NGC 6791"][0]


@pytest.mark.usefixtures("work")
def test_a_survey_read_otherwise_is_not_reused(capfd):
    assert main(["compare", *SMALL, "survey.censoring.max_error=0.01", "out=x"]) == 2
    assert "or one read otherwise" in " ".join(capfd.readouterr().err.split())


def test_what_lies_beside_the_result_stays(work):
    (work / "beside.partial").mkdir()
    (work / "beside.partial" / "thesis.txt").write_text("x")
    assert main(["ingest", "survey.root=rsca_simulated/seed-0/archive", "store=beside"]) == 2
    assert main(["compare", STORE, *PLAIN, "out=beside"]) == 0
    assert (work / "beside.partial" / "thesis.txt").read_text() == "x"


@pytest.mark.parametrize("name", ["stars.fits", "flux.npy"])
def test_a_store_that_changed_is_refused(work, capfd, name):
    shutil.copytree(work / "rsca_simulated/seed-0/store", work / f"changed-{name}")
    with (work / f"changed-{name}" / name).open("r+b") as file:
        file.seek(-3000, 2)
        file.write(b"changed")
    assert main(["compare", f"store=changed-{name}", *SMALL[1:], "out=x"]) == 2
    assert f"{name} changed since it was written" in " ".join(capfd.readouterr().err.split())


def test_a_model_that_changed_is_refused(work, capfd):
    shutil.copy(work / "first" / "rsca.safetensors", work / "changed.safetensors")
    with (work / "changed.safetensors").open("r+b") as file:
        file.seek(-3000, 2)
        file.write(b"changed!")
    assert main(["embed", "model=changed.safetensors", STORE, "out=x"]) == 2
    assert "is damaged" in " ".join(capfd.readouterr().err.split())


def test_a_store_without_clusters_cannot_be_compared(work, capfd):
    archive = "survey.root=rsca_simulated/seed-0/archive"
    assert main(["ingest", archive, "store=alone", "survey.members=null"]) == 0
    assert main(["compare", "store=alone", "out=x"]) == 2
    assert "at least two clusters with two members are needed" in " ".join(capfd.readouterr().err.split())
    assert not (work / "x").exists()


@pytest.mark.usefixtures("work")
def test_a_comparison_that_was_interrupted_in_fold_13_goes_on_there(monkeypatch):
    trained = ["learner=nca", "learner.recipe.epochs=2", "learner.recipe.inner=0", "figures=false"]
    command = ["compare", STORE, *SMALL[1:], *trained]
    put, kept = FoldFiles.put, []

    def stop_in_13(files, cluster, fold):
        if len(kept) == 12:
            raise KeyboardInterrupt
        kept.append(cluster)
        put(files, cluster, fold)

    with monkeypatch.context() as patch:
        patch.setattr(FoldFiles, "put", stop_in_13)
        assert main([*command, "out=goes_on"]) == 130
    assert not Path("goes_on").exists()
    assert len(list(Path("rsca_checkpoints/folds").rglob("*.safetensors"))) == 12

    def count(files, cluster, fold):
        kept.append(cluster)
        put(files, cluster, fold)

    with monkeypatch.context() as patch:
        patch.setattr(FoldFiles, "put", count)
        assert main([*command, "out=goes_on"]) == 0
    # Each fold of spectra once; then as many without cross-validation, and on each kind of abundances.
    assert (len(kept), len(set(kept[:22]))) == (4 * 22, 22)
    assert not list(Path("rsca_checkpoints/folds").iterdir())  # the results say it all
    assert main([*command, "out=at_once", "checkpoints=null"]) == 0
    one, other = (results(Path(name))["results"] for name in ("goes_on", "at_once"))
    for result in (*one, *other):
        del result["seconds"]
        (result["compressor"] or {}).pop("seconds", None)
    assert one == other


def test_an_interrupted_comparison_leaves_no_half_result(work, monkeypatch):
    def stop(*_args, **_named):
        raise KeyboardInterrupt

    monkeypatch.setattr("rsca_torch.report.comparison_folder.write_csv", stop)
    assert main(["compare", STORE, *PLAIN, "out=stopped"]) == 130
    assert not list(work.glob("stopped*"))


def test_usage_and_version(capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    assert all(command in said for command in COMMANDS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("rsca_torch ")


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_option_of_a_group_is_an_argument(path):
    """Every YAML of a group is composed and instantiated."""
    with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = hydra.compose(overrides=[f"+{path.parent.name}={path.stem}"])[path.parent.name]
    for name, text in {"root": "somewhere", "flux": "flux.npy", "wavelength": "w.npy", "stars": "s.csv"}.items():
        if OmegaConf.is_missing(config, name):
            config[name] = text
    if path.stem == "arrays":
        config.error = "error.npy"  # or ivar
    if OmegaConf.is_missing(config, "description"):  # any that ships
        config.description = OmegaConf.load(CONFIG / "survey" / "galah_dr4.yaml").description
    assert hydra.utils.instantiate(config) is not None


@pytest.mark.usefixtures("work")
def test_the_command_is_installed_and_ends_with_its_code():
    command = Path(sys.executable).with_name("rsca")
    done = subprocess.run([command, "embed", "model=nowhere", "store=x", "out=y"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no model at nowhere" in done.stderr
    assert "Traceback" not in done.stderr
