"""Further observations of stars: kept apart from field and members, with the star that each is of."""

from __future__ import annotations

import pickle
from typing import ClassVar

import numpy as np
import pytest
from astropy.table import Table
from hydra.utils import instantiate
from mini_archive import (
    BASE,
    SPECTRUM,
    good_spectrum,
    mini_rows,
    star,
    star_id,
    survey,
    write_catalogue,
    write_spectrum,
)
from test_configs import composed

from rsca_torch.errors import InputError
from rsca_torch.report.ingest_summary import print_summary
from rsca_torch.spectra.stars import Stars
from rsca_torch.survey.aspcapstar_folder import AspcapstarFolder
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.fates import fates
from rsca_torch.survey.grid import Grid
from rsca_torch.survey.ingest import censor, ingest
from rsca_torch.survey.reader import Listing, Measured, Reader
from rsca_torch.survey.simulated import SimulatedSurvey
from rsca_torch.survey.store import Store
from rsca_torch.survey.survey import Survey

QUALITY = {"columns": ["ASPCAPFLAG", "SNR"]}


def again(number, field, **values):
    """Another observation of a star."""
    return star(number, EXTRATARG=16, FIELD=field, SNR=60.0, **values)


def with_rows(archive, *rows):
    """The mini archive with more rows, and a spectrum of each that is 0.001 above its star's."""
    write_catalogue(archive / BASE / "allStar-r12-l33.fits", [*mini_rows(), *rows])
    for row in rows:
        flux, error = good_spectrum(int(row["APOGEE_ID"][2:10]) % 100)
        write_spectrum(archive / SPECTRUM.format(**row), np.where(flux > 0, flux + 0.001, 0), error)
    return archive


def steps(store):
    return {step["cut"]: (step["removed"], step["kept"]) for step in store.selection}


def check_account(store):
    """Each row of the catalogue has one fate, and the steps add up."""
    assert len(store) + len(store.repeats) + len(store.removed) == store.selection[0]["kept"]
    for before, step in zip(store.selection[:-1], store.selection[1:], strict=True):
        assert before["kept"] - step["removed"] == step["kept"]
        here = len(store.repeats) if step["cut"] == "kept apart as repeats" else 0
        assert sum(cut == step["cut"] for _, cut, _ in store.removed) + here == step["removed"]
    assert store.selection[-1]["kept"] == len(store)


# --- what is kept --------------------------------------------------------------------------------------------------


def test_repeats_are_a_part_of_their_own(mini_survey, tmp_path):
    store = ingest(mini_survey, tmp_path / "store")
    assert (len(store.field), len(store.members), len(store.repeats)) == (7, 5, 2)
    repeats = store.repeats.stars
    assert repeats.repeat_of.tolist() == [star_id(0), star_id(6)]
    assert repeats.id.tolist() == [f"{star_id(0)}#2", f"{star_id(6)}#2"]
    assert repeats.group.tolist() == ["", ""]
    assert repeats["FIELD"].tolist() == ["other", "other"]
    assert not set(repeats["FILE"]) & set(store.stars["FILE"])
    assert store.stars.snr[[0, 6]].tolist() == [100, 106]  # the best stay where they were
    assert set(store.field.stars.repeat_of) == {""}
    np.testing.assert_array_equal(store.field.stars.id, store.stars.id[~store.is_member])
    for part in (store.field, store.members, store.repeats):
        flux, valid, sigma = part.read(slice(None))
        assert flux.shape == valid.shape == sigma.shape == (len(part), len(store.bins))
    flux = store.repeats.read([1])[0][0].numpy()
    np.testing.assert_array_equal(flux, good_spectrum(6)[0][store.bins].astype(np.float32))
    store.verify()
    check_account(store)


def test_a_store_without_repeats_has_none(archive, tmp_path):
    rows = [row for row in mini_rows() if not row["EXTRATARG"]]
    write_catalogue(archive / BASE / "allStar-r12-l33.fits", rows)
    store = ingest(survey(archive), tmp_path / "store", block=5)
    assert len(store.repeats) == 0
    assert store.repeats.read(slice(None))[0].shape == (0, len(store.bins))
    assert store.repeats.stars.repeat_of.tolist() == []
    assert store.repeats.stars.colnames == [*store.stars.colnames, "REPEAT_OF"]
    assert " repeats, " not in repr(store)
    store.verify()
    check_account(store)


def test_only_the_spectrum_s_quality_counts_for_a_repeat(archive, tmp_path):
    """What the cuts say of the star holds for all its observations, whatever is measured in another."""
    further = [
        again(6, "hot", TEFF=5003.0),
        again(6, "no Ce", missing=["Ce"]),
        again(6, "bad", ASPCAPFLAG=1 << 23),
        again(7, "hot and bad", TEFF=5003.0, ASPCAPFLAG=1 << 23),
        again(31, "of no star", TEFF=4500.0, ASPCAPFLAG=1 << 23),
    ]
    with_rows(archive, *further)
    store = ingest(survey(archive, repeats=QUALITY), tmp_path / "store")
    assert sorted(store.repeats.stars["FIELD"].tolist()) == ["hot", "no Ce", "other", "other"]
    assert steps(store)["kept apart as repeats"] == (4, 12)
    assert steps(store)["effective temperature"] == (2, 22)  # star 31, and the hot one that is also bad
    assert steps(store)["21 abundances"] == (1, 18)
    assert ("hot and bad" in str(store.removed), "'hot/" in str(store.removed)) == (False, False)
    check_account(store)
    strict = ingest(survey(archive), tmp_path / "strict")
    assert strict.repeats.stars["FIELD"].tolist() == ["other", "other"]
    check_account(strict)


def test_a_column_that_is_not_there_is_named(archive, tmp_path, caplog):
    """Its cuts would hold for no repeat, without a word."""
    ingest(survey(archive, repeats={"columns": ["LOGG", "TELESCOPE"]}), tmp_path / "known")
    assert "survey.repeats.columns" not in caplog.text
    ingest(survey(archive, repeats={"columns": ["ASPCAPFLG", "TEFF"]}), tmp_path / "store")
    assert "survey.repeats.columns: the survey has no column ASPCAPFLG, so that asks nothing of a repeat" in caplog.text
    assert "and those on TEFF hold for repeats too" in caplog.text


def test_ids_number_a_star_s_repeats_by_falling_signal_to_noise(archive, tmp_path):
    with_rows(archive, again(6, "f3") | {"SNR": 40.0}, again(6, "f2") | {"SNR": 80.0})
    repeats = ingest(survey(archive), tmp_path / "store").repeats.stars
    of = repeats.repeat_of == star_id(6)
    assert dict(zip(repeats["FIELD"][of].tolist(), repeats.id[of].tolist(), strict=True)) == {
        "f2": f"{star_id(6)}#2",
        "other": f"{star_id(6)}#3",
        "f3": f"{star_id(6)}#4",
    }


def test_the_smallest_signal_to_noise_of_repeats_is_chosen(archive, tmp_path):
    with_rows(archive, again(6, "bright") | {"SNR": 80.0}, again(6, "unknown") | {"SNR": np.nan})
    store = ingest(survey(archive, repeats={"snr": 70}), tmp_path / "store")
    assert store.repeats.stars["FIELD"].tolist() == ["bright"]
    assert steps(store)["duplicate observations"] == (3, 13)
    check_account(store)


def test_repeats_may_be_dropped(archive, tmp_path):
    store = ingest(survey(archive, repeats=None), tmp_path / "store")
    assert len(store.repeats) == 0
    assert steps(store)["duplicate observations"] == (2, 12)
    assert "kept apart as repeats" not in steps(store)
    check_account(store)


def test_a_second_row_of_the_same_file_is_no_repeat(archive, tmp_path):
    """Two rows of one spectrum do not differ by anything, which would say that nothing but the star is in it."""
    with_rows(archive, again(6, "twice"), again(6, "twice"), star(7) | {"EXTRATARG": 16})
    store = ingest(survey(archive), tmp_path / "store")
    assert store.repeats.stars["FIELD"].tolist() == ["other", "other", "twice"]
    assert steps(store)["duplicate observations"] == (2, 15)
    check_account(store)


def test_members_other_observations_may_stay_in_the_field_and_are_no_repeats_then(archive, tmp_path):
    store = ingest(survey(archive, member_duplicates="stay"), tmp_path / "store")
    assert store.repeats.stars.repeat_of.tolist() == [star_id(6)]
    assert f"{star_id(0)}#2" in store.field.stars.id
    check_account(store)


def test_bins_that_only_a_repeat_has_are_not_kept(archive, tmp_path):
    path = archive / SPECTRUM.format(**star(6, FIELD="other"))
    flux, error = good_spectrum(6)
    error[300] = 0.01
    write_spectrum(path, flux, error)
    store = ingest(survey(archive), tmp_path / "store")
    assert 300 not in store.bins
    share = store.spectra().valid.double().mean()
    assert store.manifest["counts"]["valid_share"] == pytest.approx(float(share))


# --- files that cannot be used -------------------------------------------------------------------------------------


def test_a_repeat_without_a_spectrum_and_one_whose_star_has_none_are_accounted_for(archive, tmp_path):
    (archive / SPECTRUM.format(**star(0, FIELD="other"))).unlink()
    (archive / SPECTRUM.format(**star(6))).unlink()
    store = ingest(survey(archive), tmp_path / "store", block=5)
    assert len(store) == 11
    assert len(store.repeats) == 0
    assert [row for row in store.removed if row[1] == "kept apart as repeats"] == [
        (f"{star_id(0)}#2", "kept apart as repeats", f"{SPECTRUM.format(**star(0, FIELD='other'))}: missing file"),
        (
            f"{star_id(6)}#2",
            "kept apart as repeats",
            f"{SPECTRUM.format(**star(6, FIELD='other'))}: the spectrum of {star_id(6)} cannot be used",
        ),
    ]
    assert (SPECTRUM.format(**star(0, FIELD="other")), "missing file") in store.problems
    check_account(store)
    assert "missing file" in fates(store, f"{star_id(0)}#2")[0]


def test_the_right_spectra_are_kept_where_some_between_cannot_be_read(archive, tmp_path):
    with_rows(archive, *(again(number, "f") for number in (7, 11, 9, 10)))
    (archive / SPECTRUM.format(**star(11))).unlink()
    (archive / SPECTRUM.format(**again(9, "f"))).unlink()
    store = ingest(survey(archive), tmp_path / "store", block=3)
    assert store.repeats.stars.repeat_of.tolist() == [star_id(number) for number in (0, 6, 7, 10)]
    flux = store.repeats.read(slice(None))[0].numpy()
    for row, number in ((2, 7), (3, 10)):
        expected = good_spectrum(number)[0][store.bins] + 0.001
        np.testing.assert_allclose(flux[row], expected.astype(np.float32), atol=1e-7)


# --- what is made of stores ----------------------------------------------------------------------------------------


def test_a_stricter_rule_and_another_process_keep_the_repeats(archive, mini_survey, tmp_path):
    store = ingest(mini_survey, tmp_path / "store")
    rule = Censoring(0.05, 0.001, ((720, 910),), ())
    open_rule = Censoring(0.05, 0.001, (), ())
    whole = ingest(survey(archive, censoring=open_rule), tmp_path / "open")
    stricter = censor(whole, rule, tmp_path / "censored", block=5)
    assert len(stricter.bins) < len(whole.bins)
    direct = ingest(survey(archive, censoring=rule), tmp_path / "direct")
    for name in ("repeats_flux.npy", "repeats_error.npy", "repeats.fits", "flux.npy", "selection.json", "removed.csv"):
        assert (stricter.path / name).read_bytes() == (direct.path / name).read_bytes()
    copy = pickle.loads(pickle.dumps(store.repeats))
    assert copy.read([1])[0].equal(store.repeats.read([1])[0])


def test_the_summary_counts_repeats_by_the_fainter_of_the_pair(archive, tmp_path, capsys):
    with_rows(archive, again(7, "f") | {"SNR": 500.0}, again(8, "f") | {"SNR": np.nan})
    print_summary(ingest(survey(archive), tmp_path / "store"))
    out = " ".join(capsys.readouterr().out.split())
    assert "repeats, by S/N of the pair's fainter number 50 to 75 2 100 to 150 2 all 4" in out
    assert "kept apart as repeats 4 12" in out


def test_repeats_of_a_folder_without_a_catalogue(tmp_path):
    rows = [star(number, **{"SNR": 100.0}) for number in (1, 2)]
    rows += [star(1, FIELD="a", SNR=150.0), star(1, FIELD="b", SNR=50.0), star(1, FIELD="060+00", SNR=120.0)]
    for number, row in enumerate(rows):
        write_spectrum(tmp_path / f"{number}/aspcapStar-r12-{row['APOGEE_ID']}.fits", *good_spectrum(number), row)
    files = Survey(tmp_path, AspcapstarFolder, spectrum="aspcapStar-*.fits")
    store = ingest(files, tmp_path / "store")
    assert store.stars["FIELD"].tolist() == ["060+00", "a"]
    assert sorted(store.repeats.stars["FIELD"].tolist()) == ["060+00", "b"]
    assert store.repeats.stars.repeat_of.tolist() == [star_id(1)] * 2
    assert [problem for _, problem in store.problems] == [f"duplicate of star {star_id(1)}"]  # the last: a copy
    check_account(store)


def test_a_simulated_survey_s_repeats_reach_the_store(tmp_path):
    SimulatedSurvey(n_field=40, repeats=30).write(tmp_path / "sas", seed=1)
    truth = Table.read(tmp_path / "sas/truth.fits").filled("")
    store = ingest(instantiate(composed("apogee_dr16", f"survey.root={tmp_path / 'sas'}")), tmp_path / "store")
    check_account(store)
    kept = set(store.stars.id)
    further = np.isin(np.asarray(truth["ROLE"], dtype=str), ["repeat", "duplicate"]) & (truth["SNR"] >= 50)
    expected = [star for star in truth["APOGEE_ID"][further] if star in kept]
    # An observation of a star whose first one lacks an element may stand for it.
    assert 0.9 * len(expected) <= len(store.repeats) <= len(expected) + 2
    assert set(store.repeats.stars.repeat_of) <= kept


# --- bad input -----------------------------------------------------------------------------------------------------


class Lines(Reader):
    """Four stars in memory, whose own column says which repeats which."""

    roles: ClassVar = {"id": "name", "repeat_of": "parent", "group": "family"}
    grid = Grid([5000.0, 5001.0, 5002.0])

    def __init__(self, root, parents):
        super().__init__(root)
        self.parents = parents

    def list_stars(self, columns):
        assert columns[:2] == ["name", "parent"]
        names = list("abcd")
        table = Table({"name": names, "parent": list(self.parents), "teff": [1.0, 2.0, 3.0, 4.0], "FILE": names})
        table["family"] = "M 67"
        return Listing(table)

    def read(self, star):
        return Measured(np.full(3, ord(star["name"]) / 100), np.full(3, 0.01))


def test_a_survey_may_say_itself_what_repeats_what(tmp_path):
    store = ingest(Survey(tmp_path, Lines, parents=["", "a", "", "c"]), tmp_path / "store")
    assert store.stars.id.tolist() == ["a", "c"]
    assert store.stars.group.tolist() == ["M 67", "M 67"]
    assert store.repeats.stars.group.tolist() == ["", ""]  # whoever asks for members gets none
    assert store.repeats.stars.id.tolist() == ["b", "d"]
    assert store.repeats.stars.repeat_of.tolist() == ["a", "c"]
    np.testing.assert_allclose(store.repeats.read(slice(None))[0][:, 0], [0.98, 1.0])
    check_account(store)
    cuts = [{"name": "hot", "column": "teff", "above": 1.5}]
    store = ingest(Survey(tmp_path, Lines, parents=["", "a", "", "c"], cuts=cuts), tmp_path / "cut")
    assert store.stars.id.tolist() == ["c"]  # b is no star of its own, and its star is cut
    assert store.repeats.stars.id.tolist() == ["d"]
    check_account(store)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parents": ["", "b", "", ""]}, r"1 stars are repeats of themselves \(first: b\)"),
        ({"parents": ["", "z", "", "z"]}, r"1 stars of which there are repeats are not in .* \(first: z\); list them"),
        ({"parents": ["", "a", "b", ""]}, r"not in the survey's list of stars as stars of their own \(first: b\)"),
        ({"parents": [""] * 4, "repeats": {"snrs": 3}}, "has keys columns, snr and observations, got snrs"),
        ({"parents": [""] * 4, "repeats": 30}, "must be a mapping .*, or null to drop them, got 30"),
        ({"parents": [""] * 4, "repeats": {"snr": "high"}}, "survey.repeats.snr must be a number, or null, got 'high'"),
        ({"parents": [""] * 4, "repeats": {"columns": "SNR"}}, "must be a list of columns, got 'SNR'"),
    ],
    ids="itself unknown of-a-repeat key mapping snr columns".split(),
)
def test_repeats_that_make_no_sense_are_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        ingest(Survey(tmp_path, Lines, **options), tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"id": ["a#2"], "repeat_of": ["a"]}, None),
        ({"id": ["a"], "repeat_of": ["a"]}, r"1 of 1 repeats are repeats of themselves \(first: a of a\)"),
        ({"id": ["a#2", "z#2"], "repeat_of": ["a", "z"]}, r"1 of 2 repeats are of stars that are not there .*z#2 of z"),
        ({"id": ["a#2", "x"], "repeat_of": ["a", ""]}, r"1 of 2 repeats say of no star .* \(first: x\); name it in"),
        ({"id": ["x"]}, "1 of 1 repeats say of no star that they repeat it"),
    ],
    ids="good itself unknown nothing no-column".split(),
)
def test_a_table_of_repeats_is_checked(table, message):
    stars = Stars.of(table)
    if message is None:
        stars.require_repeats(np.array(["a", "b"]))
    else:
        with pytest.raises(InputError, match=message):
            stars.require_repeats(np.array(["a", "b"]))


def test_a_store_of_an_older_schema_is_refused(mini_survey, tmp_path):
    store = ingest(mini_survey, tmp_path / "store")
    manifest = store.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema": 4', '"schema": 3'))
    with pytest.raises(InputError, match="has schema 3, this program reads 4: ingest the survey again"):
        Store.open(store.path)
