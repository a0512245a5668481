"""Tables of stars: columns are read as they are asked for, and are the same however they lie in the file."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from astropy.io import fits
from astropy.table import Table

from rsca_torch import InputError
from rsca_torch.survey.described import table_files
from rsca_torch.survey.described.parts import StarTable
from rsca_torch.survey.described.ratios import Ratios
from rsca_torch.survey.described.reader import DescribedReader
from rsca_torch.survey.described.star_tables import StarColumns

NUMBER = 4_611_686_018_427_387_904  # 2^62: a float of it would be another number for most stars
N = 40


@pytest.fixture
def kinds(tmp_path):
    """A FITS table with a column of every kind, and what astropy reads of it."""
    rng = np.random.default_rng(0)
    whole = {"u2": ("I", 2**15), "u4": ("J", 2**31), "u8": ("K", 2**63), "i1": ("B", -128)}
    columns = [
        fits.Column("flag", "L", array=rng.random(N) < 0.5),
        fits.Column("byte", "B", array=rng.integers(0, 255, N)),
        *(fits.Column(name, form, bzero=zero, array=kind_of(name, rng)) for name, (form, zero) in whole.items()),
        fits.Column("id", "K", array=NUMBER + np.arange(N)),
        fits.Column("gone", "J", null=-1, array=np.where(np.arange(N) % 3, np.arange(N), -1)),
        fits.Column("text", "A7", array=np.array([f"x{number}" for number in range(N)])),
        fits.Column("pixels", "3E", array=rng.random((N, 3))),
        fits.Column("single", "E", array=rng.random(N)),
        fits.Column("double", "D", array=rng.random(N)),
        fits.Column("scaled", "I", array=np.arange(N)),
    ]
    hdu = fits.BinTableHDU.from_columns(columns, uint=True)
    hdu.writeto(tmp_path / "kinds.fits")
    number = [column.name for column in columns].index("scaled") + 1
    with (tmp_path / "kinds.fits").open("r+b") as file:  # astropy would scale what is there
        content = file.read()
        cards = f"{f'TSCAL{number}':8}= {0.5:20}".ljust(80) + f"{f'TZERO{number}':8}= {3.0:20}".ljust(80)
        end = content.index(b"END" + b" " * 77, 2880)
        assert content[end + 80 : end + 160] == b" " * 80, "there is room behind END"
        file.seek(0)
        file.write(content[:end] + cards.encode() + content[end : end + 80] + content[end + 240 :])
    with fits.open(tmp_path / "kinds.fits", uint=True) as hdus:
        return tmp_path / "kinds.fits", {name: np.array(hdus[1].data[name]) for name in hdus[1].columns.names}


def kind_of(name, rng):
    if name == "i1":
        return rng.integers(-128, 127, N).astype("i1")
    bits = 8 * int(name[1])
    return (2 ** (bits - 1) - 20 + np.arange(N, dtype=np.uint64)).astype(name)


@pytest.mark.parametrize("rows", [None, [3, 9, 10, 33], []], ids=["all", "some", "none"])
def test_every_kind_of_fits_column_is_what_astropy_reads(kinds, monkeypatch, rows):
    monkeypatch.setattr(table_files, "FITS_ROWS", 7)
    path, wanted = kinds
    file = table_files.FitsTable(path, [1])
    assert file.names == [name for name in wanted if name != "pixels"], "vectors are left out"
    read = file.read(file.names, None if rows is None else np.array(rows, dtype=int))
    for name in file.names:
        values = np.ma.getdata(read[name])
        values = np.char.decode(values) if values.dtype.kind == "S" else values
        expected = wanted[name] if rows is None else wanted[name][rows]
        np.testing.assert_array_equal(values, expected, err_msg=name)
        assert values.dtype.kind == ("i" if name == "i1" else expected.dtype.kind), name
    if rows is None:
        np.testing.assert_array_equal(np.ma.getmaskarray(read["gone"]), np.arange(N) % 3 == 0)


def table():
    numbers = {f"col{number}": np.arange(300) + number / 7 for number in range(70)}
    return Table({"id": NUMBER + np.arange(300), "name": [f"s{row:03d}" for row in range(300)], **numbers})


def written(path, kind):
    stars = table()
    if kind == "records":
        with h5py.File(path / "stars.h5", "w") as file:
            columns = {name: np.asarray(stars[name]) for name in stars.colnames}
            file["group/stars"] = np.rec.fromarrays(
                [each.astype("S") if each.dtype.kind == "U" else each for each in columns.values()], names=[*columns]
            )
        return path / "stars.h5"
    if kind == "npy":
        np.save(path / "stars.npy", stars.as_array())
        return path / "stars.npy"
    endings = {"fits": "fits", "fits.gz": "fits.gz", "csv": "csv", "ecsv": "ecsv", "parquet": "parquet"}
    place = path / f"stars.{endings[kind]}"
    stars.to_pandas().to_parquet(place) if kind == "parquet" else stars.write(place)
    return place


@pytest.mark.parametrize("kind", ["fits", "fits.gz", "csv", "ecsv", "parquet", "records", "npy"])
def test_columns_and_rows_of_every_format(tmp_path, kind):
    stars, columns = table(), StarColumns(written(tmp_path, kind), StarTable("", ids=["id"]))
    assert columns.names == stars.colnames
    rows = np.array([299, 0, 7])  # in any order
    read = columns.read(["COL69", "id"], rows)
    assert read.colnames == ["col69", "id"]
    assert read["id"].tolist() == (NUMBER + rows).tolist()
    np.testing.assert_array_equal(read["col69"], stars["col69"][rows])
    every = columns.read()
    for name in stars.colnames:
        np.testing.assert_array_equal(every[name], stars[name])
    with pytest.raises(InputError, match="the star table has no column colour; there are id, name, col0"):
        columns.read(["colour"])


def test_of_text_a_column_s_type_is_the_whole_column_s(tmp_path):
    """Ids like 007 are no numbers because the rows that are kept happen to be such."""
    (tmp_path / "stars.csv").write_text("id,flux\n" + "".join(f"{row:03d},1\n" for row in range(500)) + "x7,1\n")
    read = StarColumns(tmp_path / "stars.csv", StarTable("", ids=["id"])).read(["id"], np.array([7, 8]))
    assert read["id"].tolist() == ["007", "008"]


def test_texts_that_are_vectors_are_left_out(tmp_path):
    (tmp_path / "stars.csv").write_text('id,flux\n1,"[1.0, NaN]"\n2,"(1.0, 2.0)"\n')
    assert StarColumns(tmp_path / "stars.csv", StarTable("")).names == ["id"]


def test_abundances_are_made_of_those_that_are_asked_for(tmp_path):
    stars = {"id": [1, 2], "fe_h": [-0.5, 0.1], "mg_fe": [0.2, 0.0], "si_fe": [0.1, 0.3]}
    Table(stars).write(tmp_path / "stars.fits")
    columns = StarColumns(tmp_path / "stars.fits", StarTable("", abundances=Ratios("fe_h", "{x}_fe")))
    asked, read = [], columns._file.read
    columns._file.read = lambda names, rows: asked.extend(names) or read(names, rows)
    np.testing.assert_allclose(columns.read(["MG_H"])["MG_H"], [-0.3, 0.1])
    assert "si_fe" not in asked
    assert columns.read(["X_H"]).colnames == ["FE_H", "MG_H", "SI_H"]
    assert columns.read(["FE_H"]).colnames == ["FE_H"]
    with pytest.raises(InputError, match="no column AL_H; there are id, fe_h, mg_fe, si_fe, FE_H"):
        columns.read(["AL_H"])


def test_abundances_that_a_table_has_itself_are_those_that_a_cut_asks_for(tmp_path):
    Table({"id": [1, 2], "FE_H": [-0.5, 0.1], "MG_H": [0.2, np.nan], "teff": [1, 2]}).write(tmp_path / "stars.fits")
    columns = StarColumns(tmp_path / "stars.fits", StarTable(""))
    assert columns.read(["id", "X_H"]).colnames == ["id", "FE_H", "MG_H"]


def test_columns_of_parquet_that_are_lists_or_structures_are_left_out(tmp_path):
    columns = {"id": [1, 2], "flux": [[1.0, 2.0], [1.0, 2.0]], "spectrum": [{"flux": [1.0]}, {"flux": [1.0]}]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "stars.parquet")
    assert StarColumns(tmp_path / "stars.parquet", StarTable("")).names == ["id"]


def described(root, **stars):
    return DescribedReader(
        root,
        {
            "layout": "file_per_star",
            "spectrum": "{name}.fits",
            "stars": {"path": "stars.fits", "ids": ["id"], **stars},
            "arms": {"all": {"flux": "flux", "wavelength": "wave", "error": "error"}},
            "grid": {"resample": {"start": 5000, "step": 1e-5, "n": 9}},
        },
    )


def test_a_survey_reads_what_its_cuts_need_and_of_stars_that_are_kept_the_rest(tmp_path, monkeypatch):
    written(tmp_path, "fits")
    pixels = Table({"wave": 4999 + np.arange(9.0), "flux": np.ones(9), "error": np.full(9, 0.01)})
    for name in ("s003", "s009"):
        pixels.write(tmp_path / f"{name}.fits")
    asked, read = [], table_files.FitsTable.read
    monkeypatch.setattr(
        table_files.FitsTable,
        "read",
        lambda self, names, rows: (
            asked.append((list(names), None if rows is None else len(rows))) or read(self, names, rows)
        ),
    )
    reader = described(tmp_path)
    listing = reader.list_stars(["id", "col3"])
    assert [name for names, _ in asked for name in names] == ["name", "id", "col3"]
    rows = np.array([9, 3])
    told = reader.describe(listing.stars[rows], rows, ["id", "col5"])
    assert told["name"].tolist() == ["s009", "s003"]
    assert told["FILE"].tolist() == ["s009.fits", "s003.fits"]
    assert told["col69"].tolist() == [9 + 69 / 7, 3 + 69 / 7]
    assert {number for names, number in asked[2:] if "col69" in names} == {2}, "of the kept rows alone"
    few = described(tmp_path, keep=["COL7"]).describe(listing.stars[rows], rows, ["id", "col5"])
    assert set(few.colnames) == {"name", "col7", "id", "col5", "FILE"}


def test_tables_whose_rows_do_not_match_are_refused(tmp_path):
    hdus = [fits.PrimaryHDU(), *(fits.BinTableHDU(Table({"id": np.arange(n)})) for n in (3, 4))]
    fits.HDUList(hdus).writeto(tmp_path / "stars.fits")
    with pytest.raises(InputError, match=r"HDU 2 of .* has 4 rows, HDU 1 3: .* tables whose rows match"):
        StarColumns(tmp_path / "stars.fits", StarTable("", hdus=[1, 2]))


def test_a_table_that_was_cut_off_is_no_table(tmp_path):
    path = written(tmp_path, "fits")
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(InputError, match=r"expected a table of stars in .*, got: truncated file"):
        StarColumns(path, StarTable(""))


def test_a_folder_of_parquet_is_a_table(tmp_path):
    folder = Path(tmp_path, "stars.parquet")
    folder.mkdir()
    for part in range(2):
        pandas.DataFrame({"id": NUMBER + np.arange(2) + 2 * part}).to_parquet(folder / f"{part}.parquet")
    read = StarColumns(folder, StarTable("", ids=["id"])).read(["id"], np.array([3, 0]))
    assert read["id"].tolist() == [NUMBER + 3, NUMBER]
