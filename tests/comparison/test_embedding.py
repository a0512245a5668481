"""An embedding joined with a store by id: every format, any order, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas
import pytest
import torch
from astropy.table import Table
from small_store import NUMBER, small_store

from rsca_torch import Identity, InputError, NumericalWarning, ScaledComponents, paired_difference
from rsca_torch.comparison.embedded_stars import on_stars
from rsca_torch.comparison.embedding import judged
from rsca_torch.comparison.embedding_file import read_embedding


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("embedding") / "store")


@pytest.fixture(scope="module")
def given(store):
    """ids of 19 digits and four numbers of every star, in another order than the store's."""
    order = np.random.default_rng(2).permutation(len(store))
    z = np.random.default_rng(4).normal(size=(len(store), 4))
    for name in "ABCDE":
        inside = store.stars.group == name
        z[inside] = z[inside][0] + 0.7 * z[inside]
    return {"number": NUMBER + np.arange(len(store))[order], "z": z[order]}


def columns(given, ids):
    return {"number": ids, **{f"z_{n}": given["z"][:, n] for n in range(4)}}


def write_fits(given, ids, path):
    Table({"number": ids, "z": given["z"], "quality": given["z"][::-1, 0]}).write(path)


def write_npz(given, ids, path):
    np.savez(path, number=ids, z=given["z"], grid=np.arange(9), label=np.full(len(ids), "x"))


def write_parquet(given, ids, path):
    pandas.DataFrame(columns(given, ids)).to_parquet(path)


def write_lists(given, ids, path):
    pandas.DataFrame({"number": ids, "z": [*given["z"].astype(object)], "quality": given["z"][::-1, 0]}).to_parquet(
        path
    )


def write_csv(given, ids, path):
    pandas.DataFrame({**columns(given, ids), "speed": 1, "note": "x"}).to_csv(path, index=False)


def write_ecsv(given, ids, path):
    Table(columns(given, ids)).write(path)


WRITERS = {
    "fits": write_fits, "npz": write_npz, "parquet": write_parquet, "pq": write_lists, "csv": write_csv,
    "csv.gz": write_csv, "ecsv": write_ecsv,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["whole numbers", "text"])
@pytest.mark.parametrize("ending", WRITERS)
def test_neither_format_nor_order_nor_further_columns_matter(store, given, tmp_path, ending, kind):
    usual = judged(given, store)
    assert 0 < usual.rate < 0.5
    ids, file = given["number"], tmp_path / f"z.{ending}"
    WRITERS[ending](given, ids if kind == "whole numbers" else ids.astype(str), file)
    found = judged(file, store)
    assert found.cluster_rates == usual.cluster_rates
    assert found.stars == usual.stars


def test_in_memory_anything_with_columns_will_do(store, given):
    usual = judged(given, store)
    for table in (
        {"ID": torch.from_numpy(given["number"]), "z": torch.from_numpy(given["z"])},
        pandas.DataFrame(columns(given, given["number"])),
        Table(columns(given, given["number"].astype("S19"))),
    ):
        assert judged(table, store.path).cluster_rates == usual.cluster_rates


def test_ids_of_text_stay_as_they_are_written(tmp_path):
    """Leading zeros, exponents, and words that pandas would take for missing or for a number."""
    (tmp_path / "z.csv").write_text("id,z\n007,1\n1e5x,2\nNGC 1,3\n7#2,4\n")
    assert read_embedding(tmp_path / "z.csv").ids.tolist() == ["007", "1e5x", "NGC 1", "7#2"]
    (tmp_path / "z.csv").write_text("id,z\n007,1\n08,2\n")
    assert read_embedding(tmp_path / "z.csv").ids.tolist() == ["007", "08"]


def test_columns_are_chosen_in_their_order_and_by_pattern(store, given):
    table = {**columns(given, given["number"]), "other": given["z"][:, 0]}
    assert read_embedding(table, "number", ["z_1", "z_*"]).columns == ("z_1", "z_0", "z_2", "z_3")
    assert read_embedding(table, "number", ["z_[12]"]).unused == ("z_0", "z_3", "other")
    assert judged(table, store, columns=["z_?"]).rate == judged(given, store).rate
    less = paired_difference(judged(table, store, columns=["z_0"]), judged(given, store))
    assert less.value > 0


def test_clusters_that_the_model_did_not_see_alone_are_judged(store, given):
    every = judged(given, store)
    some = judged(given, store, clusters=["B", "D"])
    assert some.cluster_rates == {name: every.cluster_rates[name] for name in "BD"}
    with pytest.raises(InputError, match=r"the store has no members of a; did you mean A"):
        judged(given, store, clusters=["a", "B"])


def test_a_model_for_every_cluster_that_it_did_not_see(store, given, tmp_path):
    rng, alone = np.random.default_rng(8), {}
    for name in "ABCDE":
        z = given["z"] + rng.normal(size=given["z"].shape)
        np.savez(tmp_path / f"without {name}.npz", number=given["number"], z=z)
        alone[name] = judged({**given, "z": z}, store)
    found = judged(tmp_path / "without {cluster}.npz", store)
    assert found.cluster_rates == {name: alone[name].cluster_rates[name] for name in "ABCDE"}
    assert len({alone[name].rate for name in "ABCDE"}) == 5
    assert found.stars == alone["A"].stars
    assert paired_difference(found, judged(given, store)).value > 0
    some = judged(tmp_path / "without {cluster}.npz", store, clusters=["B", "D"])
    assert some.cluster_rates == {name: found.cluster_rates[name] for name in "BD"}
    (tmp_path / "without C.npz").unlink()
    with pytest.raises(InputError, match=r"there is no file .*without C\.npz"):
        judged(tmp_path / "without {cluster}.npz", store)


def test_stars_that_are_lacking_are_counted_and_named(store, given):
    members = store.members.stars.id
    lost = np.isin(given["number"].astype(str), [*members[:11], store.field.stars.id[0]])
    some = {name: values[~lost] for name, values in given.items()}
    some["z"] = some["z"].copy()
    blind = store.field.stars.id[3]
    some["z"][some["number"].astype(str) == blind, 2] = np.nan
    with pytest.raises(InputError) as error:
        judged(some, store)
    said = str(error.value)
    assert f"12 of the store's 185 stars (11 members) are not in it: {', '.join(members[:10])} and 2 more; " in said
    assert f"1 of the store's 185 stars (0 members) have numbers that are not finite (NaN): {blind}; " in said
    assert said.endswith("missing=leave_out")
    with pytest.warns(NumericalWarning, match="12 of the store's 185 stars .* these are left out"):
        left = judged(some, store, missing="leave_out")
    assert sum(left.members.values()) in (13, 14)  # a cluster of which one is left is none
    on = on_stars(read_embedding(given, "number"), store)
    assert (len(on.field_stars), len(on.member_stars)) == (160, 25)


def test_rows_of_other_stars_are_counted_and_change_nothing(store, given, caplog):
    more = {"number": np.append(given["number"], [1, 2, 3]), "z": np.vstack([given["z"], np.full((3, 4), np.nan)])}
    with caplog.at_level("INFO"):
        assert judged(more, store).cluster_rates == judged(given, store).cluster_rates
    assert "3 of 188 rows of the embedding are of no star of the store: not used" in caplog.text


def test_rows_of_repeats_give_a_floor(store, given):
    ids = np.concatenate([given["number"].astype(str), store.repeats.stars.id])
    place = {star: row for row, star in enumerate(ids)}
    again = given["z"][[place[star] for star in store.repeats.stars.repeat_of]]
    z = np.vstack([given["z"], again + np.random.default_rng(0).normal(size=again.shape) / 50])
    on = on_stars(read_embedding({"id": ids, "z": z}), store)
    assert (on.repeats[0].stars, on.no_floor) == (40, "")
    assert judged({"id": ids, "z": z}, store, lambda: ScaledComponents(floor="auto")).floor == "repeats"
    without = on_stars(read_embedding(given, "number"), store)
    assert without.repeats == ()
    assert "no rows of the store's repeats" in without.no_floor
    assert judged(given, store, lambda: ScaledComponents(floor="auto")).floor == "none"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda given: {"number": given["number"].astype(float)}, "ids in number are floating point"),
        (lambda given: {"number": [f"{each:.17e}" for each in given["number"]]}, "ids in number are floating point"),
        (lambda given: {"number": pandas.Series([*given["number"]], dtype=object) * 1.0}, "are floating point"),
        (lambda given: {"number": np.append(given["number"][:-1], given["number"][:1])}, "1 ids come more than once"),
        (lambda given: {"number": [*[""] * 2, *given["number"][2:].astype(str)]}, "2 of 185 rows have no id in number"),
        (lambda _: {"number": np.arange(185) > 3}, "one id a row expected in number"),
        (lambda _: {"number": np.arange(185)}, "no id of the embedding is one of the store's: number has 0, 1, 2"),
        (lambda _: {"number": [f"\x1b[31m{n}" for n in range(185)]}, r"number has \\x1b\[31m0, \\x1b\[31m1, "),
        (lambda given: {"z": given["z"].astype(complex)}, "has no column of numbers: columns=.NAME,.... of z"),
        (lambda given: {"z": given["z"][1:]}, "has no column of numbers"),
    ],
    ids=[
        "float", "float text", "object float", "twice", "empty", "bool", "others", "control characters", "complex",
        "another length",
    ],
)  # fmt: skip
def test_what_cannot_be_joined_is_refused(store, given, changed, message):
    with pytest.raises(InputError, match=message):
        judged({**given, **changed(given)}, store)


def test_files_that_cannot_be_used_are_refused(store, given, tmp_path):
    write_fits(given, given["number"].astype(float), tmp_path / "float.fits")
    pandas.DataFrame(columns(given, given["number"] * 1.0)).to_csv(tmp_path / "float.csv", index=False)
    pandas.DataFrame({"number": given["number"], "FE_H": 1.0}).to_csv(tmp_path / "labels.csv", index=False)
    np.savez(tmp_path / "objects.npz", number=given["number"].astype(object), z=given["z"])
    (tmp_path / "no.fits").write_text("no table")
    for name, message in (
        ("float.fits", "ids in number are floating point"),
        ("float.csv", "ids in number are floating point"),
        ("labels.csv", r"has no column of numbers but those that the store has too: columns=\[NAME,...\] of FE_H"),
        ("objects.npz", "expected FITS, npz, .* Object arrays cannot be loaded"),
        ("no.fits", "expected FITS, npz"),
        ("nowhere.npz", "there is no file"),
    ):
        with pytest.raises(InputError, match=message):
            judged(tmp_path / name, store)
    for options, message in (
        ({"columns": ["y_*"]}, r"has no column y_\*: columns of numbers are z"),
        ({"id": "name"}, "has no column name that names a star: id=NAME, of number, z"),
        ({"missing": "skip"}, "missing=skip: one of refuse, leave_out expected"),
    ):
        with pytest.raises(InputError, match=message):
            judged(given, store, **options)
    with pytest.raises(InputError, match="an embedding is a file, a table or named columns"):
        judged(given["z"], store)
    for name in ("<b>", "../../x", "\x1b[31m", ""):
        with pytest.raises(InputError, match="letters, digits, blanks"):
            on_stars(read_embedding(given, "number"), store, name)


def test_distances_are_those_of_the_numbers_as_they_stand(store, given):
    """By a brute force count of one cluster."""
    result = judged(given, store, Identity, pairs=lambda m, f, *_: torch.ones(len(m), len(f), dtype=torch.bool))
    row = {str(number): place for place, number in enumerate(given["number"])}
    field, inside = (
        [row[star] for star in ids] for ids in (store.field.stars.id, store.stars.id[store.stars.group == "C"])
    )
    z = given["z"]
    own = [np.sqrt(((z[a] - z[b]) ** 2).sum()) for place, a in enumerate(inside) for b in inside[:place]]
    far = [np.sqrt(((z[a] - z[b]) ** 2).sum()) for a in inside for b in field]
    assert result.cluster_rates["C"] == np.mean(np.array(far) <= np.median(own))
