"""`rsca siblings` as a user types it, on a small simulated survey."""

from __future__ import annotations

import csv
import pickle
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from rsca_torch import RSCA, InputError, allowed_pairs, likely_siblings
from rsca_torch.cli.main import main
from rsca_torch.parallel import Parallel
from rsca_torch.report.siblings_table import print_siblings, write_siblings
from rsca_torch.siblings import embedded_stars as embedding
from rsca_torch.siblings.embedded_stars import embedded_stars
from rsca_torch.survey.store import Store

pytestmark = [
    pytest.mark.filterwarnings("default::rsca_torch.NumericalWarning"),  # a small survey drops dimensions and clusters
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]
GIVEN = ["siblings", "model=m.safetensors", "store=rsca_simulated/seed-0/store", "n=4"]
EVERYBODY = partial(allowed_pairs, max_velocity=None, max_extinction=None)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with a model and the store that it was fitted on."""
    folder = tmp_path_factory.mktemp("siblings")
    small = ["simulation.n_field=150", "compressor.n_components=6", "compressor.max_iterations=30"]
    small += ["simulation.groups.pairs=6", "survey.groups=[clusters,binaries]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", *small, "out=m.safetensors"]) == 0
    return folder


@pytest.fixture(autouse=True)
def work(here, monkeypatch):
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def store(work):
    return Store.open(work / "rsca_simulated/seed-0/store")


@pytest.fixture
def star(store):
    """The id of a member."""
    return str(store.stars.id[store.is_member][0])


def test_fit_saves_a_calibration(work):
    told = RSCA.load(work / "m.safetensors").calibration
    assert told["pairs_within"] == {"max_velocity": 5.0, "max_extinction": 0.05}
    assert told["pairs"]["clusters"] >= 5
    assert told["pairs"]["slope"] > 0


def test_one_star_on_the_terminal_and_in_a_file(store, star, capsys, caplog):
    assert main([*GIVEN, f"star={star}", "out=one.fits", "columns=[TEFF]", "pairs=all"]) == 0
    said = capsys.readouterr()
    assert star in said.out
    assert "P(sibling)" in said.out
    assert "strangers expected" in said.out
    assert "* a member of the same group" in said.out
    assert "P(sibling) takes for granted that a share of 0.01" in caplog.text
    table = Table.read("one.fits")
    assert len(table) == 4
    assert {"STAR", "SIBLING", "RANK", "LOG_RATIO", "SNR", "STAR_SNR", "VHELIO_AVG", "FE_H", "TEFF"} <= {
        *table.colnames
    }
    assert fits.getheader("one.fits", 1)["PRIOR"] == 0.01
    assert fits.getheader("one.fits", 1)["STORE"] == store.checksum
    by_hand = likely_siblings(RSCA.load("m.safetensors"), store, star, n=4, pairs=EVERYBODY)
    assert table["SIBLING"].tolist() == by_hand["SIBLING"].tolist()
    assert main([*GIVEN, f"star={star}", "out=one.fits"]) == 2  # nothing is overwritten
    assert "holds another run" in capsys.readouterr().err


def test_a_list_a_cluster_and_all(store, capsys, caplog):
    ids = store.stars.id[:3].tolist()
    Path("ids.txt").write_text("\n".join([*ids, "nobody"]))
    assert main([*GIVEN, "ids=ids.txt", "out=list.csv", "pairs=all"]) == 0
    assert "1 ids are not in the store, or of stars without a valid bin: first nobody" in caplog.text
    with Path("list.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["STAR"] for row in rows] == np.repeat(ids, 4).tolist()
    assert main([*GIVEN, "cluster=NGC 188"]) == 0
    assert "NGC 188" in capsys.readouterr().out
    assert main([*GIVEN, "all=true", "out=all.csv", "parallel.processes=1"]) == 0
    with Path("all.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    order = [row["STAR"] for row in found]
    assert f"{len(order)} rows in all.csv, of {len(set(order))} asked about" in caplog.text
    every = [*store.stars.id, *store.groups.stars.id]
    assert list(dict.fromkeys(order)) == [star for star in every if star in set(order)]
    assert len(order) > 300


def test_stars_of_other_groups_are_searched_too(store):
    pairs = store.groups.stars
    stars = embedded_stars(RSCA.load("m.safetensors"), store)
    assert stars.stars.id.tolist() == [*store.stars.id, *pairs.id]
    found = likely_siblings(RSCA.load("m.safetensors"), stars, str(pairs.id[0]), n=len(stars), pairs=EVERYBODY)
    assert set(found["GROUP"][found["SAME_GROUP"]]) == {pairs.group[0]}
    assert (
        len(likely_siblings(RSCA.load("m.safetensors"), stars, cluster=str(pairs.group[0]), n=3, pairs=EVERYBODY)) == 3
    )


def test_features_are_kept_and_are_read_from_their_file(work, store, monkeypatch):
    model = RSCA.load("m.safetensors")
    first = embedded_stars(model, store, "kept")
    monkeypatch.setattr(embedding, "_computed", None)  # nothing is computed again
    again = embedded_stars(model, store, "kept")
    assert isinstance(again.features, np.memmap)
    assert np.array_equal(first.features, again.features)
    (place,) = Path("kept").iterdir()
    monkeypatch.undo()
    monkeypatch.chdir(work)
    assert np.array_equal(embedded_stars(model, store).features, again.features)
    strict = RSCA.load("m.safetensors")
    strict.ppca.clip = 2.0  # the same tensors, and other features
    assert not np.array_equal(embedded_stars(strict, store, "kept").features, again.features)
    assert len([each for each in Path("kept").iterdir() if each.is_dir()]) == 2
    (place / "noise.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"is damaged.*: remove it"):
        embedded_stars(model, store, "kept")


def test_what_is_sent_to_other_machines_is_light_and_finds_the_same(store):
    class Elsewhere(Parallel):
        def each(self, task, items, pieces=None):  # noqa: ARG002
            sent = pickle.dumps(task)
            assert len(sent) < 40 * len(stars)  # velocities, extinctions, flags: no features, no star table
            yield from map(pickle.loads(sent), items)

    model, stars = RSCA.load("m.safetensors"), embedded_stars(RSCA.load("m.safetensors"), store, "kept-2")
    here = likely_siblings(model, stars, n=2)
    there = likely_siblings(model, stars, n=2, parallel=Elsewhere())
    assert there["SIBLING"].tolist() == here["SIBLING"].tolist()
    assert there["LOG_RATIO"].tolist() == here["LOG_RATIO"].tolist()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "one of star=ID, ids=FILE, cluster=NAME, all=true says who is asked about, got none of them"),
        (["star=x", "all=true"], "got star and all"),
        (["star=STARx"], "is not there; the nearest ids: STAR"),
        (["cluster=NGC_188"], "the nearest names: NGC 188"),
        (["star=STAR", "prior=1"], "prior=1"),
        (["star=STAR", "prior=0"], "must lie between 0 and 1"),
        (["star=STAR", "n=0"], "n=0: at least 1"),
        (["star=STAR", "out=x.txt"], "the end of the name says the format, .fits or .csv"),
        (["ids=nowhere.txt"], "there is no such file"),
        (["star=STAR", "columns=[NO]"], "no column NO"),
    ],
    ids=["nobody", "two", "unknown", "cluster", "prior 1", "prior 0", "n", "format", "file", "column"],
)
def test_what_cannot_be_answered_ends_in_one_sentence(star, capsys, options, said):
    assert main([*GIVEN, *(option.replace("STAR", star) for option in options)]) == 2
    assert said.replace("STAR", star) in " ".join(capsys.readouterr().err.split())
    assert not Path("x.txt").exists()


def test_a_model_that_was_altered_is_refused(capsys):
    shutil.copy("m.safetensors", "bad.safetensors")
    content = bytearray(Path("bad.safetensors").read_bytes())
    content[-9] ^= 1
    Path("bad.safetensors").write_bytes(content)
    assert main([*GIVEN[:1], "model=bad.safetensors", *GIVEN[2:], "star=STAR"]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_names_cannot_move_the_cursor_or_colour_the_terminal(tmp_path, capsys):
    evil = "a\x1b[2J[red]<b>\n"
    found = Table(
        {
            "STAR": [evil],
            "RANK": [1],
            "SIBLING": [evil],
            "DISTANCE": [1.0],
            "LOG_RATIO": [2.0],
            "P_SIBLING": [np.nan],
            "EXPECTED": [0.5],
            "SAME_GROUP": [True],
            "GROUP": [evil],
            "UNCERTAIN": [False],
            "COMPARED": [7],
        },
        meta={"prior": 0.01, "pairs": {"max_velocity": 5.0}},
    )
    print_siblings(found)
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert r"a\x1b[2J[red]<b>\n" in said
    for end in (".csv", ".fits"):
        write_siblings(found, tmp_path / f"x{end}", {"MODEL": evil})
    with (tmp_path / "x.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["SIBLING"] == evil
    assert Table.read(tmp_path / "x.fits")["SIBLING"][0] == evil.rstrip()  # as FITS pads


def test_ids_may_be_written_as_other_lists_write_them(star, capsys, caplog):
    bare = star.removeprefix("2M")
    Path("other.txt").write_text(f"2MASS J{bare}\n{bare}\n{star}\n")
    for asked in (f"star=2MASS J{bare}", "ids=other.txt"):
        assert main([*GIVEN, asked, "pairs=all"]) == 0
        assert f"are written otherwise in the store: 2MASS J{bare} is {star}" in caplog.text
        assert capsys.readouterr().out.count(f"{star} (SNR") == 1
    assert main([*GIVEN, f"star=Gaia DR3 {bare}"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"(rsca why 'Gaia DR3 {bare}' store=DIR says whether it was removed)" in said


def test_the_terminal_shows_whole_stars_and_says_what_it_does_not(store, star, capsys, monkeypatch):
    monkeypatch.setattr("rsca_torch.report.siblings_table.SHOWN", 9)
    asked = ",".join(store.stars.id[:3])
    assert main([*GIVEN, f"star={star}", "n=30", "pairs=all"]) == 0
    said = capsys.readouterr().out
    assert "\n2M" in said
    assert len([line for line in said.splitlines() if line.startswith("2M") and "(SNR" not in line]) == 30
    assert "not shown" not in said
    for out, has in (("", "out=FILE.fits or .csv has them all"), ("some.csv", "some.csv has them all")):
        assert main([*GIVEN, f"star=[{asked}]", "pairs=all", *([f"out={out}"] if out else [])]) == 0
        said = capsys.readouterr().out
        assert said.count("(SNR") == 2  # eight rows of the nine that may stand there
        assert f"4 rows of 1 stars are not shown: {has}" in said
