"""`rsca evaluate`: an embedding of any origin among the pairs of a store, beside a finished run."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas
import pytest
import torch
from astropy.table import Table

from rsca_torch import RSCA, Identity, paired_difference
from rsca_torch.cli.main import main
from rsca_torch.comparison.embedding import judged
from rsca_torch.survey.store import Store

pytestmark = [
    pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]
FLOOR = ("learner.floor=repeats", "learner.trim=null")


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """A simulated store, a finished `rsca compare` on it, and the latents of its step 1 of every star and repeat."""
    folder = tmp_path_factory.mktemp("evaluate")
    options = [f"simulated={folder}/simulated", "simulation.n_field=150", "simulation.repeats=60", "figures=false"]
    options += ["compressor.n_components=4", "compressor.tolerance=1e-2", "checkpoints=null", "abundances=null"]
    assert main(["compare", *options, *FLOOR, f"out={folder}/run"]) == 0
    store = Store.open(folder / "simulated" / "store")
    step_1 = RSCA.load(folder / "run" / "rsca.safetensors").ppca
    parts = [store.field, store.members, store.repeats]
    z = torch.cat([step_1.embed(part).latents for part in parts])
    ids = np.concatenate([part.stars.id for part in parts])
    return folder, store, ids, z.numpy(), (z * step_1.scales).numpy()


def evaluate(survey, out, file, *options):
    folder, store, *_ = survey
    given = [f"embedding={file}", f"store={store.path}", f"out={out}", "figures=false", "checkpoints=null"]
    return main(["evaluate", *given, *options])


def results(folder):
    content = json.loads((folder / "results.json").read_text())
    return content, {each["learner"]: each for each in content["results"] if each["held_out"]}


#: What a result says that does not hang on time or names.
SAME = ("doppelganger_rate", "interval", "figures_of_merit", "pairs", "clusters", "floor")


def same(one, other):
    return json.dumps([one[name] for name in SAME]) == json.dumps([other[name] for name in SAME])


def test_its_own_latents_have_the_rates_of_compare_to_the_digit(survey, tmp_path, capsys):
    """Raw distances in units of flux; RSCA on the latents, whose floor is that of the same repeats."""
    folder, store, ids, z, in_flux = survey
    order = np.random.default_rng(1).permutation(len(ids))
    np.savez(tmp_path / "raw.npz", id=ids[order], z=in_flux[order])
    np.savez(tmp_path / "latents.npz", id=ids[order], z=z[order])
    assert evaluate(survey, tmp_path / "raw", tmp_path / "raw.npz", f"baseline={folder}/run") == 0
    assert evaluate(survey, tmp_path / "rsca", tmp_path / "latents.npz", "learner=rsca", *FLOOR) == 0
    _, spectra = results(folder / "run")
    content, own = results(tmp_path / "raw")
    assert own.keys() == {"raw"}
    merits = spectra["raw"]["figures_of_merit"]
    assert {*merits} <= {*own["raw"]["figures_of_merit"]}  # the first learner is calibrated besides
    assert same(
        {**own["raw"], "figures_of_merit": {name: own["raw"]["figures_of_merit"][name] for name in merits}},
        spectra["raw"],
    )
    _, learned = results(tmp_path / "rsca")
    assert learned["rsca"]["floor"] == "repeats"
    assert same(learned["rsca"], spectra["rsca"])
    assert 0 < spectra["rsca"]["doppelganger_rate"] < spectra["raw"]["doppelganger_rate"]
    # The run stands in the same table; differences are to its first learner, as compare itself has them.
    there = json.loads((folder / "run" / "results.json").read_text())
    assert content["baseline"]["results"] == there["results"]
    (difference,) = content["baseline"]["differences"]
    (usual,) = (each for each in there["differences"] if each["learner"] == "raw")
    assert {**difference, "representation": "spectra"} == usual
    assert content["store"]["checksum"] == store.checksum
    assert content["embedding"]["rows"] == len(ids)
    with (tmp_path / "raw" / "results.csv").open(newline="") as file:
        rows = {(row["representation"], row["learner"]) for row in csv.DictReader(file)}
    assert rows == {("spectra", "rsca"), ("spectra", "raw"), ("spectra", "scaled"), ("embedding", "raw")}
    said = " ".join(capsys.readouterr().out.split())
    assert "minus rsca on spectra" in said
    assert "raw on embedding" in said


def test_neither_format_nor_order_nor_further_columns_matter(survey, tmp_path):
    _, _, ids, _, z = survey
    order = np.random.default_rng(2).permutation(len(ids))
    stars = Table({"snr": np.ones(len(ids)), "name": ids, "z": z, "note": ["x"] * len(ids)})[order]
    more = Table({"snr": [9.0], "name": ["nobody"], "z": z[:1] * 0, "note": ["y"]})
    stars.write(tmp_path / "vector.fits")
    frame = pandas.DataFrame({"name": ids, **{f"z_{n}": z[:, n] for n in range(4)}}).iloc[order[::-1]]
    frame.to_csv(tmp_path / "plain.csv", index=False)
    frame.assign(snr=1.0, z_9=7).to_csv(tmp_path / "more.csv", index=False)
    pandas.DataFrame({"name": [*ids, *more["name"]], "z": [*z, z[0]]}).to_parquet(tmp_path / "lists.parquet")
    found = []
    for file, *options in (
        ["vector.fits"],
        ["plain.csv"],
        ["more.csv", "columns=[z_0,z_[1-3]]"],
        ["lists.parquet"],
    ):
        out = tmp_path / file.replace(".", "_")
        assert evaluate(survey, out, tmp_path / file, "id=name", *options) == 0
        content, own = results(out)
        found.append(own["raw"])
        assert content["embedding"]["numbers"] == 4
        assert same(own["raw"], found[0])
    direct = judged({"id": ids, "z": z}, survey[1])
    assert direct.rate == found[0]["doppelganger_rate"]
    assert paired_difference(direct, judged({"id": ids, "z": z[:, :2]}, survey[1], Identity)).value < 0


@pytest.mark.parametrize("whole", [True, False], ids=["int64", "text"])
def test_ids_of_19_digits_are_joined_to_the_last(tmp_path, whole):
    from rsca_torch import Spectra
    from rsca_torch.survey.described.arrays import store_of

    random = np.random.default_rng(0)
    family, number = np.repeat(["", "A", "B"], [40, 5, 5]), 4_611_686_018_427_387_904 + np.arange(50)
    flux = 1 + random.normal(size=(50, 8)) / 9
    store = store_of(
        Spectra(flux, sigma=np.full((50, 8), 0.1), stars={"group": family, "id": number}), tmp_path / "store"
    )
    z = random.normal(size=(50, 2)) + 9 * np.unique(family, return_inverse=True)[1][:, None]
    ids = number if whole else number.astype(str)
    assert judged({"id": ids[::-1], "z": z[::-1]}, store).rate == 0
    for ending in ("csv", "fits", "parquet"):
        table = pandas.DataFrame({"id": ids, "x": z[:, 0], "y": z[:, 1]})
        file = tmp_path / f"z.{ending}"
        if ending == "parquet":
            table.to_parquet(file)
        else:
            Table.from_pandas(table).write(file, format="ascii.csv" if ending == "csv" else "fits")
        assert judged(file, store).rate == 0
        assert judged(file, store).pairs == {"A": 200, "B": 200}


def refused(survey, tmp_path, capsys, arrays, *options):
    np.savez(tmp_path / "bad.npz", **arrays)
    assert evaluate(survey, tmp_path / "out", tmp_path / "bad.npz", *options) == 2
    assert not (tmp_path / "out").exists()
    return " ".join(capsys.readouterr().err.split())


def test_stars_that_the_file_lacks_are_counted_and_named(survey, tmp_path, capsys):
    _, store, ids, _, z = survey
    members = np.flatnonzero(np.isin(ids, store.members.stars.id))
    kept = np.setdiff1d(np.arange(len(ids)), [0, 1, 2, *members[:12]])
    given = {"id": ids[kept], "z": z[kept].copy()}
    given["z"][np.flatnonzero(given["id"] == ids[5])] = np.nan
    said = refused(survey, tmp_path, capsys, given)
    first = ", ".join(ids[members[:10]])
    assert f"15 of the store's {len(store)} stars (12 members) are not in it: {first} and 5 more" in said
    assert f"1 of the store's {len(store)} stars (0 members) have numbers that are not finite (NaN): {ids[5]};" in said
    assert "missing=leave_out" in said
    assert evaluate(survey, tmp_path / "out", tmp_path / "bad.npz", "missing=leave_out") == 0
    content, _ = results(tmp_path / "out")
    assert content["embedding"]["members"] == len(store.members) - 12
    assert content["embedding"]["field"] == len(store.field) - 4
    left = judged(tmp_path / "bad.npz", store, missing="leave_out")
    without = np.setdiff1d(kept, [5])
    chosen = np.isin(store.stars.id, ids[without])
    assert sum(left.members.values()) <= chosen.sum()
    assert left.pairs == judged({"id": ids[without], "z": z[without]}, store, missing="leave_out").pairs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ids, z: {"id": np.arange(len(ids)) + 0.0, "z": z}, "ids in id are floating point (0, say)"),
        (lambda ids, z: {"id": np.array([f"{n}e18" for n in range(len(ids))]), "z": z}, "ids in id are floating point"),
        (lambda ids, z: {"id": np.array([ids[0], ids[0], *ids[2:]]), "z": z}, "1 ids come more than once in id: "),
        (lambda ids, z: {"id": np.array([""] * len(ids)), "z": z}, "rows have no id in id: leave them out"),
        (lambda ids, z: {"name": ids, "z": z}, "has no column APOGEE_ID or id that names a star: id=NAME, of name, z"),
        (lambda ids, _: {"id": ids, "note": ids}, "has no column of numbers: columns=[NAME,...] of note"),
        (lambda ids, z: {"id": ids, "FE_H": z[:, 0]}, "no column of numbers but those that the store has too"),
        (lambda ids, z: {"id": np.arange(len(ids)), "z": z}, "no id of"),
        (lambda ids, z: {"id": np.array([*ids], dtype=object), "z": z}, "Object arrays cannot be loaded"),
    ],
    ids=["float", "float text", "twice", "no id", "no id column", "no numbers", "the store's own", "other ids", "objects"],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_refused_in_one_sentence(survey, tmp_path, capsys, change, message):
    _, _, ids, _, z = survey
    assert message in refused(survey, tmp_path, capsys, change(ids, z))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["columns=[y_*]"], "has no column y_*: columns of numbers are z"),
        (["columns=[note]"], "has no number for every star in note"),
        (["missing=skip"], "missing=skip: one of refuse, leave_out expected"),
        (["clusters=[NGC_6791]"], "the store has no members of NGC_6791; did you mean NGC 6791"),
        (["name=<b>"], "name='<b>': letters, digits, blanks"),
        (["baseline=nowhere"], "baseline=nowhere holds no finished run of rsca compare"),
        (["baseline=RUN", "name=spectra"], "name=spectra: the run"),
        (["baseline=RUN", "pairs=all"], "pairs.max_velocity=5 there, null here"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_cannot_be_meant(survey, tmp_path, capsys, options, message):
    folder, _, ids, _, z = survey
    options = [option.replace("RUN", str(folder / "run")) for option in options]
    assert message in refused(survey, tmp_path, capsys, {"id": ids, "z": z, "note": ids}, *options)


def test_a_baseline_on_another_store_is_refused(survey, tmp_path, capsys):
    folder, _, ids, _, z = survey
    content = json.loads((folder / "run" / "results.json").read_text())
    content["store"]["checksum"] = "0" * 64
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "results.json").write_text(json.dumps(content))
    said = refused(survey, tmp_path, capsys, {"id": ids, "z": z}, f"baseline={tmp_path}/other")
    assert "judged another store (0000000000000000, this is" in said
    (tmp_path / "other" / "results.json").write_text(json.dumps({**content, "results": [{}]}))
    assert "results.json is damaged" in refused(
        survey, tmp_path, capsys, {"id": ids, "z": z}, f"baseline={tmp_path}/other"
    )


def test_clusters_that_the_model_did_not_see_alone_are_judged(survey):
    _, store, ids, _, z = survey
    every = judged({"id": ids, "z": z}, store)
    two = [name for name in every.cluster_rates][:2]
    some = judged({"id": ids, "z": z}, store, clusters=two)
    assert some.cluster_rates == {name: every.cluster_rates[name] for name in two}


def test_what_rsca_embed_writes_is_judged_by_its_features_and_told_to_be_in_sample(survey, tmp_path, caplog):
    folder, store, *_ = survey
    features = tmp_path / "features.fits"
    assert main(["embed", f"model={folder}/run/rsca.safetensors", f"store={store.path}", f"out={features}"]) == 0
    assert evaluate(survey, tmp_path / "out", features, "name=rsca features") == 0
    content, own = results(tmp_path / "out")
    assert content["embedding"]["columns"] == ["FEATURES"]
    assert content["embedding"]["fitted_on_this_store"] is True
    said = " ".join(caplog.text.split())
    assert "not used: SNR, VALID_BINS, SET_ASIDE" in said
    assert "its model was fitted on this store, all clusters among it" in said
    (in_sample,) = (
        each for each in json.loads((folder / "run" / "results.json").read_text())["results"] if not each["held_out"]
    )
    assert own["raw"]["doppelganger_rate"] == pytest.approx(
        in_sample["doppelganger_rate"], abs=2e-3
    )  # float32 features


def test_pictures_and_citations(survey, tmp_path, capfd):
    folder, _, ids, _, z = survey
    np.savez(tmp_path / "z.npz", id=ids, z=z)
    assert evaluate(survey, tmp_path / "out", tmp_path / "z.npz", "figures=true", f"baseline={folder}/run") == 0
    assert {"rates.png", "distances_embedding.png"} <= {file.name for file in (tmp_path / "out").iterdir()}
    assert main(["cite", f"run={tmp_path}/out"]) == 0
    assert main(["report", f"sweep={tmp_path}/out"]) == 0
    assert "embedding" in capfd.readouterr().out
