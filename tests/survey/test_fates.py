"""removed.csv and `rsca why`: each star's fate."""

from __future__ import annotations

import csv

import pytest
from mini_archive import AUTHORS, SPECTRUM, good_spectrum, star, star_id, survey, write_spectrum

from rsca_torch.cli.main import main
from rsca_torch.errors import InputError
from rsca_torch.survey.aspcapstar_folder import AspcapstarFolder
from rsca_torch.survey.fates import fates
from rsca_torch.survey.ingest import censor, ingest
from rsca_torch.survey.survey import Survey

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra")


@pytest.fixture
def store(archive, tmp_path):
    (archive / SPECTRUM.format(**star(9))).unlink()
    return ingest(survey(archive), tmp_path / "store")


def test_every_row_of_the_catalogue_is_in_the_store_or_in_removed_csv(store):
    with (store.path / "removed.csv").open(newline="") as file:
        rows = [tuple(row) for row in csv.reader(file)]
    assert rows[0] == ("id", "cut", "value")
    assert rows[1:] == store.removed
    assert len(store) + len(store.repeats) + len(store.removed) == store.selection[0]["kept"]
    for step in store.selection[1:]:
        here = len(store.repeats) if step["cut"] == "kept apart as repeats" else 0
        assert sum(cut == step["cut"] for _, cut, _ in store.removed) + here == step["removed"]
    told = {star: (cut, value) for star, cut, value in store.removed}
    assert told[star_id(30)] == ("extinction known", "nan")
    assert told[star_id(32)] == ("not STAR_BAD", str(-(2**31) + 2**23))
    assert told[star_id(33)] == ("21 abundances", "no Ce")
    assert told[star_id(20)] == ("in two clusters", "NGC 1111 and in NGC 2222")
    assert told[star_id(9)] == ("spectrum missing or unreadable", f"{SPECTRUM.format(**star(9))}: missing file")


def test_fates_in_words(store):
    assert fates(store, star_id(0).lower()) == [
        f"{star_id(0)} is in the store as a member of NGC 1111, row 0: {SPECTRUM.format(**star(0))}",
        f"{star_id(0)}#2 is in the store as a repeat of {star_id(0)}, row 0 of the repeats: "
        f"{SPECTRUM.format(**star(0, FIELD='other'))}",
    ]
    assert fates(store, f"{star_id(0)}#2") == fates(store, star_id(0))[1:]
    assert fates(store, star_id(31)) == [
        f"{star_id(31)} was removed by 'effective temperature': TEFF is nan; kept: above 4000, below 5000"
    ]
    assert "X_H is no Ce; kept: defined C CI N" in fates(store, star_id(33))[0]
    with pytest.raises(InputError, match=r"HD 1 is neither in the store .* ids there are APOGEE_ID \(2M"):
        fates(store, "HD 1")


def test_a_star_of_the_list_of_members_alone_is_told(archive, tmp_path):
    listed = tmp_path / "mine.csv"
    rows = [f"{star_id(number)},NGC 1111" for number in (0, 1)]
    listed.write_text("\n".join(["APOGEE_ID,CLUSTER", *rows, "2M99999999+9999999,NGC 1111"]))
    store = ingest(survey(archive, members=str(listed), membership=None), tmp_path / "store")
    (said,) = fates(store, "2M99999999+9999999")
    assert said.startswith(
        "2M99999999+9999999 is on the list of members mine.csv, in NGC 1111; no star that the survey"
    )
    listed.unlink()
    with pytest.raises(InputError, match="is neither in the store"):
        fates(store, "2M99999999+9999999")


def test_a_file_that_names_no_star_is_found_by_its_name(tmp_path):
    for name, number in (("1", 1), ("2", 2), ("again", 1)):
        write_spectrum(tmp_path / f"aspcapStar-r12-{name}.fits", *good_spectrum(number), row=star(number))
    (tmp_path / "aspcapStar-r12-page.fits").write_text("<html>", encoding="utf-8")
    folder = Survey(tmp_path, AspcapstarFolder, spectrum="aspcapStar-*.fits", censoring=AUTHORS)
    made = ingest(folder, tmp_path / "store")
    step = "star table unusable or double"
    assert fates(made, "r12-page") == [
        f"a file was removed by {step!r}: aspcapStar-r12-page.fits: web page saved as FITS"
    ]
    assert "duplicate of star" in fates(made, "aspcapStar-r12-again.fits")[0]


def test_a_stricter_rule_keeps_the_account(store, tmp_path):
    again = censor(store, store.censoring, tmp_path / "again")
    assert again.removed == store.removed


def test_the_command(store, capsys):
    assert main(["why", star_id(31), f"store={store.path}"]) == 0
    assert "was removed by 'effective temperature': TEFF is nan" in capsys.readouterr().out
    assert main(["why", "HD", "1's", f"store={store.path}"]) == 2
    assert "HD 1's is neither in the store" in capsys.readouterr().err
