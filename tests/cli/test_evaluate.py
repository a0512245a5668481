"""`rsca evaluate`: an embedding of any origin among the pairs of a store, beside a finished run."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from small_store import small_store

from rsca_torch import RSCA, InputError
from rsca_torch.cli.main import main
from rsca_torch.comparison.baseline_run import read_baseline_run

pytestmark = [
    pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]
FLOOR = ("learner.floor=repeats", "learner.trim=null")


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """A folder with a store, a finished `rsca compare` on it, and the latents of its step 1 in two units."""
    folder = tmp_path_factory.mktemp("evaluate")
    store = small_store(folder / "store")
    options = [f"store={folder}/store", "figures=false", "compressor.n_components=4", "checkpoints=null"]
    assert main(["compare", *options, "abundances=null", *FLOOR, f"out={folder}/run"]) == 0
    step_1 = RSCA.load(folder / "run" / "rsca.safetensors").ppca
    parts = [store.field, store.members, store.repeats]
    z = torch.cat([step_1.embed(part).latents for part in parts])
    ids = np.concatenate([part.stars.id for part in parts])
    order = np.random.default_rng(1).permutation(len(ids))
    np.savez(folder / "latents.npz", id=ids[order], z=z.numpy()[order])
    np.savez(folder / "in_flux.npz", id=ids[order], z=(z * step_1.scales).numpy()[order])
    return folder


def evaluate(folder, out, file, *options):
    given = [f"embedding={file}", f"store={folder}/store", f"out={out}", "figures=false", "checkpoints=null"]
    return main(["evaluate", *given, *options])


def results(folder):
    content = json.loads((folder / "results.json").read_text())
    return content, {each["learner"]: each for each in content["results"] if each["held_out"]}


#: What a result says that does not hang on time or names.
SAME = ("doppelganger_rate", "interval", "pairs", "clusters", "floor")


def test_its_own_latents_have_the_rates_of_compare_to_the_digit(survey, tmp_path, capsys):
    """Raw distances in units of flux; RSCA on the latents, whose floor is that of the same repeats."""
    assert evaluate(survey, tmp_path / "raw", survey / "in_flux.npz", f"baseline={survey}/run") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert evaluate(survey, tmp_path / "rsca", survey / "latents.npz", "learner=rsca", *FLOOR) == 0
    _, spectra = results(survey / "run")
    content, own = results(tmp_path / "raw")
    _, learned = results(tmp_path / "rsca")
    assert own.keys() == {"raw"}
    assert learned.keys() == {"rsca", "raw"}
    assert learned["rsca"]["floor"] == "repeats"
    for one, other in ((own["raw"], spectra["raw"]), (learned["rsca"], spectra["rsca"])):
        assert json.dumps([one[name] for name in SAME]) == json.dumps([other[name] for name in SAME])
        merits = other["figures_of_merit"]
        assert len(merits) >= 5
        assert json.dumps([one["figures_of_merit"][name] for name in merits]) == json.dumps([*merits.values()])
    assert 0 < spectra["rsca"]["doppelganger_rate"] < spectra["raw"]["doppelganger_rate"]
    # The run stands in the same table, and differences are to its first learner, as compare itself has them.
    there = json.loads((survey / "run" / "results.json").read_text())
    assert content["baseline"]["results"] == there["results"]
    (difference,) = content["baseline"]["differences"]
    (usual,) = (each for each in there["differences"] if each["learner"] == "raw")
    for name in ("difference", "interval"):
        assert difference[name] == usual[name]
    merits = usual["figures_of_merit"]
    assert {name: difference["figures_of_merit"][name] for name in merits} == merits
    with (tmp_path / "raw" / "results.csv").open(newline="") as file:
        rows = {(row["representation"], row["learner"]) for row in csv.DictReader(file)}
    assert rows == {("spectra", "rsca"), ("spectra", "raw"), ("spectra", "scaled"), ("embedding", "raw")}
    assert "minus rsca on spectra" in said
    assert "figure rsca on spectra raw on spectra scaled on spectra raw on embedding" in said


def refused(survey, tmp_path, capsys, file, *options):
    assert evaluate(survey, tmp_path / "out", file, *options) == 2
    assert not (tmp_path / "out").exists()
    return " ".join(capsys.readouterr().err.split())


def test_a_file_without_some_stars_ends_in_one_sentence_or_they_are_left_out(survey, tmp_path, capsys):
    given = np.load(survey / "latents.npz")
    z = given["z"][:-9]
    np.savez(tmp_path / "some.npz", id=given["id"][:-9], z_0=z[:, 0], z_1=z[:, 1], other=z[:, 2])
    said = refused(survey, tmp_path, capsys, tmp_path / "some.npz")
    assert said.startswith(f"error: {tmp_path}/some.npz: ")
    assert "of the store's 185 stars" in said
    assert (
        evaluate(
            survey, tmp_path / "out", tmp_path / "some.npz", "missing=leave_out", "columns=[z_*]", "clusters=[A,B,C]"
        )
        == 0
    )
    content, _ = results(tmp_path / "out")
    assert content["embedding"]["rows"] == len(given["id"]) - 9
    assert content["embedding"]["columns"] == ["z_0", "z_1"]
    assert content["embedding"]["members"] <= 15


def test_a_file_for_every_cluster_that_its_model_did_not_see(survey, tmp_path, caplog):
    """Of one and the same embedding: then learners, too, say what they say of it as a whole."""
    for name in "ABCDE":
        shutil.copy(survey / "latents.npz", tmp_path / f"{name}.npz")
    pattern = tmp_path / "{cluster}.npz"
    assert evaluate(survey, tmp_path / "apart", pattern, "learner=rsca", f"baseline={survey}/run") == 0
    assert evaluate(survey, tmp_path / "whole", survey / "latents.npz", "learner=rsca", "calibration=null") == 0
    assert caplog.text.count("4 numbers a star, of z") == 2  # once for the five files, once for the other run
    (content, apart), (_, whole) = results(tmp_path / "apart"), results(tmp_path / "whole")
    assert {*content["embedding"]["sha256"]} == {*"ABCDE"}
    for learner in ("rsca", "raw"):
        for name in ("doppelganger_rate", "clusters", "figures_of_merit"):
            assert json.dumps(apart[learner][name]) == json.dumps(whole[learner][name])


def test_a_baseline_that_cannot_be_put_beside_it_is_refused_before_the_work(survey, tmp_path, capsys):
    content = json.loads((survey / "run" / "results.json").read_text())
    checksum, config = content["store"]["checksum"], OmegaConf.create(content["config"])
    assert read_baseline_run(survey / "run", checksum, config).entries == content["results"]
    changed = {
        "other": {**content, "store": {**content["store"], "checksum": "0" * 64}},
        "damaged": {**content, "results": [{}]},
        "newer": {**content, "schema": 2},
    }
    for name, of_it in changed.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(of_it))
    for name, message in (
        ("nowhere", "holds no finished run of rsca compare: results.json: FileNotFoundError"),
        ("other", "judged another store .0000000000000000, this is"),
        ("damaged", "results.json is damaged .KeyError"),
        ("newer", "results of schema 2, this program reads 1"),
    ):
        with pytest.raises(InputError, match=message):
            read_baseline_run(tmp_path / name, checksum, config)
    given = (survey / "latents.npz", f"baseline={survey}/run")
    assert "pairs.max_extinction=0.05 there, null here" in refused(survey, tmp_path, capsys, *given, "pairs=all")
    assert "name=spectra: the run" in refused(survey, tmp_path, capsys, *given, "name=spectra")


def test_what_rsca_embed_writes_is_judged_by_its_features_and_told_to_be_in_sample(survey, tmp_path, caplog):
    features, model = tmp_path / "features.fits", survey / "run" / "rsca.safetensors"
    assert main(["embed", f"model={model}", f"store={survey}/store", f"out={features}"]) == 0
    assert evaluate(survey, tmp_path / "out", features, "name=rsca features", "figures=true") == 0
    content, own = results(tmp_path / "out")
    assert content["embedding"]["columns"] == ["FEATURES"]
    assert content["embedding"]["fitted_on_this_store"] is True
    said = " ".join(caplog.text.split())
    assert "not used: snr, VALID_BINS, SET_ASIDE" in said
    assert "its model was fitted on this store, all clusters among it" in said
    there = json.loads((survey / "run" / "results.json").read_text())["results"]
    (in_sample,) = (each for each in there if not each["held_out"])
    assert own["raw"]["doppelganger_rate"] == pytest.approx(in_sample["doppelganger_rate"], abs=1e-9)
    assert {"rates.png", "distances_rsca features.png"} <= {file.name for file in (tmp_path / "out").iterdir()}
    assert main(["cite", f"run={tmp_path}/out"]) == 0
    assert main(["report", f"sweep={tmp_path}/out"]) == 0


def test_a_sweep_judges_each_in_a_folder_of_its_own(survey, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where Hydra leaves a folder multirun
    given = [f"store={survey}/store", f"out={tmp_path}/sweep", "figures=false", "checkpoints=null", "alike=null"]
    files = f"embedding={survey}/latents.npz,{survey}/in_flux.npz,{survey}/nowhere.npz"
    for _ in range(2):  # started again it judges anew
        assert main(["evaluate", "-m", files, *given]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "1 of 3 jobs of the sweep in" in said
        assert f"there is no file {survey}/nowhere.npz" in said
    runs = sorted((tmp_path / "sweep").glob("*/results.json"))
    assert len(runs) == 2
    assert {json.loads(run.read_text())["embedding"]["path"] for run in runs} == {
        str(survey / "latents.npz"),
        str(survey / "in_flux.npz"),
    }
    assert main(["report", f"sweep={tmp_path}/sweep"]) == 0
    with (tmp_path / "sweep/report/runs.csv").open(newline="") as file:
        assert len({row["run"] for row in csv.DictReader(file)}) == 2
