"""Groups of siblings besides clusters: read from lists, kept apart from field and members, no siblings of a judge."""

from __future__ import annotations

import csv
import json
import logging
import pickle
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch
from astropy.table import Table

from rsca_torch import InputError, ScaledComponents, fit_ppca
from rsca_torch.comparison.representation import represent
from rsca_torch.evaluation.folds import Task
from rsca_torch.evaluation.leave_one_out import as_stars
from rsca_torch.report.ingest_summary import print_summary
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.fates import fates
from rsca_torch.survey.fits_files import UnusableFileError
from rsca_torch.survey.grid import Grid
from rsca_torch.survey.ingest import censor, ingest
from rsca_torch.survey.reader import Listing, Measured, Reader
from rsca_torch.survey.store import Store
from rsca_torch.survey.survey import Survey

N_BINS, GAIA = 12, 4611686018427387000  # whose digits no float keeps
IDS = [f"s{number:02d}" for number in range(60)]
CLUSTERS = {"s00": "M 67", "s01": "M 67", "s02": "M 67", "s03": "NGC 1", "s04": "NGC 1", "s05": "NGC 1"}
CLUSTERS |= {"s06": "NGC 2", "s07": "NGC 2", "s08": "NGC 2"}


class Drawn(Reader):
    """60 stars; s10 and s00 were observed twice."""

    roles: ClassVar = {"id": "name", "group": "cluster", "snr": "snr"}
    grid = Grid(5000.0 + np.arange(N_BINS))

    def __init__(self, root, unreadable=(), poisoned=()):
        super().__init__(root)
        self.unreadable, self.poisoned = unreadable, poisoned

    def list_stars(self, columns):  # noqa: ARG002
        names = [*IDS, "s10", "s00"]
        table = Table({"name": names, "gaia": GAIA + np.arange(len(names)), "snr": np.linspace(200, 100, len(names))})
        table["gaia"][60:] = table["gaia"][[10, 0]]
        table["FILE"] = [*IDS, "s10 again", "s00 again"]
        table["teff"] = np.where(np.isin(table["name"], ["s08"]), 6000.0, 4500.0)
        return Listing(table, catalogue="the catalogue")

    def describe(self, stars, rows, columns):  # noqa: ARG002
        stars["cluster"] = ""
        return stars

    def read(self, star):
        if star["FILE"] in self.unreadable:
            raise UnusableFileError("torn")
        rng = np.random.default_rng([ord(letter) for letter in star["FILE"]])
        shape = np.cos(np.outer(np.arange(N_BINS), [0.3, 0.7, 1.1]))
        flux = 1 + shape @ rng.normal(size=3) * 0.05 + rng.normal(size=N_BINS) * 0.01
        return Measured(flux * (1e3 if star["name"] in self.poisoned else 1), np.full(N_BINS, 0.02))


def listed(path, rows, header=("name", "GROUP")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def ingested(folder, name="store", **options):
    """With the lists binaries.csv and moving.csv in the folder, where they are there."""
    listed(folder / "members.csv", CLUSTERS.items(), ("name", "CLUSTER"))
    lists = {"binaries": {"path": "binaries.csv", "pairs": True}, "moving": {"path": "moving.csv"}}
    lists = {kind: each for kind, each in lists.items() if (folder / each["path"]).exists()} | options.pop("lists", {})
    given = {"members": "members.csv", "lists": lists, "groups": ["clusters", *lists], **options}
    return ingest(Survey(folder, Drawn, **given), folder / name)


def pairs(folder, *rows):
    listed(folder / "binaries.csv", rows)


def steps(store):
    return {step["cut"]: (step["removed"], step["kept"]) for step in store.selection}


# --- a part of the store --------------------------------------------------------------------------------------------


def test_groups_are_a_part_of_their_own(tmp_path, capsys):
    pairs(tmp_path, ("s10", "a"), ("s11", "a"), ("s20", "b"), ("s21", "b"))
    listed(tmp_path / "moving.csv", [(star, "MG") for star in ("s30", "s31", "s32")])
    store = ingested(tmp_path)
    groups = store.groups.stars
    assert dict(zip(groups.id.tolist(), groups.group.tolist(), strict=True)) == {
        **{"s10": "binaries: a", "s11": "binaries: a", "s20": "binaries: b", "s21": "binaries: b"},
        **dict.fromkeys(["s30", "s31", "s32"], "moving: MG"),
    }
    assert groups["KIND"].tolist() == ["binaries"] * 4 + ["moving"] * 3
    assert not {*groups.id} & {*store.stars.id}
    assert (len(store.field), len(store.members)) == (60 - 9 - 7, 9)
    assert steps(store)["kept apart as groups"] == (7, 53)
    assert sorted(store.repeats.stars.repeat_of.tolist()) == ["s00", "s10"]
    counts = {"binaries": {"groups": 2, "stars": 4}, "moving": {"groups": 1, "stars": 3}}
    assert store.manifest["counts"]["groups"] == counts
    reader = Drawn(tmp_path)
    for part in (store.groups, store.repeats, store.field, store.members):
        flux = part.read(slice(None))[0].numpy()
        for row, star in enumerate(part.stars):
            np.testing.assert_array_equal(flux[row], reader.read(star).flux.astype(np.float32))
    store.verify()
    assert pickle.loads(pickle.dumps(store.groups)).stars.id.tolist() == groups.id.tolist()
    print_summary(store)
    assert "4 stars in 2 binaries, which teach and do not judge" in capsys.readouterr().out
    assert "3 stars in 1 moving" in repr(store)
    assert fates(store, "s31") == ["s31 is in the store as a star of moving: MG, row 5 of the groups: s31"]


def test_a_store_without_groups_is_what_it_was(tmp_path):
    store = ingested(tmp_path)
    assert len(store.groups) == 0
    assert not list(store.path.glob("groups*"))
    assert "groups" not in store.manifest["counts"]
    assert "kept apart as groups" not in steps(store)


def test_a_store_with_fewer_bins_has_the_same_groups(tmp_path):
    pairs(tmp_path, ("s10", "a"), ("s11", "a"))
    store = ingested(tmp_path)
    other = censor(store, Censoring(interstellar_angstrom=[[5002.5, 5004.5]], interstellar_pixels=[]), tmp_path / "few")
    for part in ("groups", "repeats", "field"):
        left = getattr(store, part).read(slice(None))[0][:, np.isin(store.bins, other.bins)]
        assert torch.equal(getattr(other, part).read(slice(None))[0], left)
    assert other.groups.stars.group.tolist() == ["binaries: a"] * 2


def test_a_damaged_part_is_found(tmp_path):
    pairs(tmp_path, ("s10", "a"), ("s11", "a"))
    store = ingested(tmp_path)
    (store.path / "groups.fits").unlink()
    with pytest.raises(InputError, match=r"groups\.fits is missing"):
        Store.open(store.path)


def test_a_star_whose_siblings_are_not_there_stays_in_the_field(tmp_path):
    pairs(tmp_path, ("s10", "a"), ("s08", "b"), ("elsewhere", "a"), ("s12", "c"), ("s13", "c"))
    store = ingested(tmp_path)
    assert store.groups.stars.id.tolist() == ["s12", "s13"]
    assert "s10" in store.field.stars.id


def test_a_star_whose_sibling_has_no_spectrum_is_left_out_and_said(tmp_path):
    pairs(tmp_path, ("s10", "a"), ("s11", "a"), ("s12", "b"), ("s13", "b"))
    store = ingested(tmp_path, unreadable=["s11", "s40"])
    assert store.groups.stars.id.tolist() == ["s12", "s13"]
    np.testing.assert_array_equal(
        store.groups.read([1])[0][0], Drawn(tmp_path).read({"FILE": "s13", "name": "s13"}).flux.astype(np.float32)
    )
    assert store.repeats.stars.repeat_of.tolist() == ["s00"]
    told = {star: (cut, value) for star, cut, value in store.removed}
    assert told["s10"] == ("kept apart as groups", "s10: no other spectrum of binaries: a can be used")
    assert told["s11"] == ("kept apart as groups", "s11: torn")
    assert told["s10#2"][1] == "s10 again: the spectrum of s10 cannot be used"


# --- who is in which ------------------------------------------------------------------------------------------------


def test_pairs_with_a_star_in_common_are_one_group(tmp_path, caplog):
    pairs(tmp_path, ("s10", "a"), ("s11", "a"), ("s11", "b"), ("s12", "b"), ("s20", "c"), ("s21", "c"))
    store = ingested(tmp_path)
    assert store.groups.stars.group.tolist() == ["binaries: a"] * 3 + ["binaries: c"] * 2
    said = "1 stars on the list of binaries are in several groups (first: s11 in a and b): such groups are taken as one"
    assert said in caplog.text


def test_a_star_in_two_groups_that_are_no_pairs_is_refused(tmp_path):
    listed(tmp_path / "moving.csv", [("s30", "A"), ("s31", "A"), ("s31", "B"), ("s32", "B")])
    with pytest.raises(InputError, match=r"list of moving are in several groups \(first: s31 in A and B"):
        ingested(tmp_path)


def test_siblings_of_listed_members_neither_teach_nor_are_strangers(tmp_path, caplog):
    """Whether the member is in the store (s00), fails a cut (s08), or is not in the catalogue; and by way of others."""
    pairs(tmp_path, ("s00", "a"), ("s10", "a"), ("s08", "b"), ("s11", "b"), ("s12", "c"), ("s13", "c"), ("s14", "d"),
          ("s15", "d"))  # fmt: skip
    listed(tmp_path / "moving.csv", [("s10", "A"), ("s12", "A"), ("s30", "A"), ("s31", "B"), ("s32", "B")])
    store = ingested(tmp_path, cuts={"teff": {"column": "teff", "below": 5000}})
    assert store.groups.stars.id.tolist() == ["s14", "s15", "s31", "s32"]
    assert not {"s10", "s11", "s12", "s13", "s30"} & {*store.stars.id}
    assert {"s00", "s01", "s02"} <= {*store.members.stars.id}
    told = {star: value for star, cut, value in store.removed if cut == "in a group with a listed member"}
    assert {*told} == {"s10", "s11", "s12", "s13", "s30"}
    assert told["s10"] == "binaries: a holds s00, of M 67"
    assert told["s11"] == "binaries: b holds s08, of NGC 2"
    assert steps(store)["in a group with a listed member"][0] == 6  # s10 has two rows
    assert "4 stars on the list of binaries are siblings of listed members (first: s10, as" in caplog.text


def test_no_bit_of_what_judges_a_cluster_depends_on_its_members_or_their_siblings(tmp_path):
    pairs(tmp_path, ("s00", "a"), ("s10", "a"), ("s12", "c"), ("s13", "c"), ("s20", "d"), ("s21", "d"))
    weights = []
    for name, poisoned in (("plain", ()), ("poisoned", ("s00", "s01", "s02", "s10"))):
        store = ingested(tmp_path, name, poisoned=poisoned)
        ppca = partial(
            lambda field, _: fit_ppca(*(field.read(slice(None))[:2]), n_components=2, sigma=field.read(slice(None))[2])
        )
        on = represent(store.field, store.members, ppca, store.repeats, store.groups)
        seen = on.seen_by(partial(ScaledComponents, floor="noise"))
        field, members = as_stars(seen.field, seen.members, on.clusters, None, None, seen.noise)
        learner, _ = Task(partial(seen.make_learner), field, members).fitted(members.labels != "M 67", "")
        weights.append(learner.weight)
        assert len(learner.trained_on) == 4
    assert torch.equal(*weights)


def test_a_star_on_two_lists_counts_in_the_first(tmp_path, caplog):
    pairs(tmp_path, ("s10", "a"), ("s11", "a"))
    listed(tmp_path / "moving.csv", [("s11", "A"), ("s30", "A"), ("s31", "A")])
    groups = ingested(tmp_path).groups.stars
    assert groups.group.tolist() == ["binaries: a"] * 2 + ["moving: A"] * 2
    assert "list of moving are on an earlier list too (first: s11): they count in that one" in caplog.text


@pytest.mark.parametrize("own", [True, False], ids=["in the listing", "described"])
def test_clusters_of_the_catalogue_s_own_column_count_as_a_list(tmp_path, own):
    class Own(Drawn):
        def list_stars(self, columns):
            listing = super().list_stars(columns)
            if own:
                listing.stars["cluster"] = [CLUSTERS.get(star, "-1") for star in listing.stars["name"]]
            return listing

        def describe(self, stars, rows, columns):  # noqa: ARG002
            stars["cluster"] = [CLUSTERS.get(star, "-1") for star in stars["name"]]
            return stars

    pairs(tmp_path, ("s00", "a"), ("s10", "a"), ("s11", "b"), ("s12", "b"))
    survey = Survey(tmp_path, Own, groups=["clusters", "b"], lists={"b": {"path": "binaries.csv", "pairs": True}})
    store = ingest(survey, tmp_path / "store")
    assert store.groups.stars.id.tolist() == ["s11", "s12"]
    assert "s10" not in store.stars.id


# --- lists ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "ecsv", "fits", "vot"])
def test_formats(tmp_path, ending):
    table = Table({"Name": ["s10", "s11", "s12"], "group": ["a", "a", "-1"]})
    table.write(tmp_path / f"pairs.{ending}", format="votable" if ending == "vot" else None)
    store = ingested(tmp_path, lists={"pairs": {"path": f"pairs.{ending}", "group": "Group"}})
    assert store.groups.stars.id.tolist() == ["s10", "s11"]


def test_a_list_of_another_kind_is_refused_in_one_sentence(tmp_path):
    for name in ("pairs.parquet", "pairs.vot"):
        (tmp_path / name).write_text("no table")
        with pytest.raises(InputError, match=rf"expected a list of pairs in .*{name}, got"):
            ingested(tmp_path, lists={"pairs": {"path": name}})


@pytest.mark.parametrize("ending", ["csv", "ecsv", "vot"])
def test_members_may_come_in_the_same_formats(tmp_path, ending):
    table = Table({"name": [*CLUSTERS], "CLUSTER": [*CLUSTERS.values()], "P": np.linspace(0, 1, len(CLUSTERS))})
    table.write(tmp_path / f"list.{ending}", format="votable" if ending == "vot" else None)
    survey = Survey(tmp_path, Drawn, members=f"list.{ending}", membership={"column": "P", "above": 0.3})
    assert len(survey.memberships().cluster) == 6


def test_pairs_of_two_columns_of_another_id(tmp_path):
    pair = {"source_id1": GAIA + np.array([10, 20]), "source_id2": GAIA + np.array([11, 21])}
    Table(pair).write(tmp_path / "wide.fits")
    wide = {"path": "wide.fits", "id": [*pair], "group": None, "pairs": True, "matches": "gaia"}
    store = ingested(tmp_path, lists={"wide": wide})
    assert store.groups.stars.id.tolist() == ["s10", "s11", "s20", "s21"]
    assert store.groups.stars.group.tolist() == [f"wide: {GAIA + 10}"] * 2 + [f"wide: {GAIA + 20}"] * 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"groups": ["binaries"]}, "a list that begins with clusters, which judge"),
        ({"groups": "clusters"}, "a list that begins with clusters"),
        ({"groups": ["clusters", "twins"]}, "there is no list 'twins'; there are clusters, binaries"),
        ({"groups": ["clusters", "binaries", "binaries"]}, "each list once"),
        ({"lists": {"binaries": "binaries.csv"}}, "must be a mapping with a path"),
        ({"lists": {"binaries": {"path": "binaries.csv", "ids": "name"}}}, "has keys path, id, group, .*, got ids"),
        ({"lists": {"binaries": {"path": ""}}}, "must name a list of stars"),
        ({"lists": {"binaries": {"path": "none.csv"}}}, "expected a CSV list of binaries in .*No such file"),
        ({"lists": {"binaries": {"path": "binaries.csv", "group": "PAIR"}}}, "has no column PAIR, but NAME, GROUP"),
        ({"lists": {"binaries": {"path": "binaries.csv", "group": None}}}, "or two columns of ids and group=null"),
        ({"lists": {"binaries": {"path": "binaries.csv", "id": ["name"], "group": None}}}, "the two of a pair"),
        ({"lists": {"binaries": {"path": "binaries.csv", "matches": "gaia"}}}, "none of the 2 stars on the list of"),
        ({"lists": {"binaries": {"path": "empty.csv"}}}, "no row of .* names a star and its group"),
        ({"roles": {"group": None}}, "a name for the column of the groups"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_meant(tmp_path, options, said):
    pairs(tmp_path, ("s10", "a"), ("s11", "a"))
    listed(tmp_path / "empty.csv", [("", "a")])
    with pytest.raises(InputError, match=said):
        ingested(tmp_path, **options)


def test_the_manifest_says_which_lists(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    pairs(tmp_path, ("s10", "a"), ("s11", "a"), ("elsewhere", "b"))
    survey = ingested(tmp_path).manifest["survey"]
    assert survey["groups"] == ["clusters", "binaries"]
    assert survey["lists"]["binaries"]["pairs"] is True
    assert "2 of 3 stars on the list of binaries are in the survey" in caplog.text
    json.dumps(survey)
