"""`rsca explain`: what somebody types, sees and finds in the folder."""

from __future__ import annotations

import csv
import re
import warnings

import numpy as np
import pytest
import torch
from astropy.table import Table
from matplotlib.image import imread

from rsca_torch import RSCA, MaskedPPCA, Spectra
from rsca_torch.cli.main import main
from rsca_torch.explanation.explain import Explained
from rsca_torch.report.explanation import printable, tables_of, write_explanation
from rsca_torch.report.explanation_picture import draw_explanation
from rsca_torch.survey.described.arrays import store_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
    pytest.mark.filterwarnings("ignore:It is strongly recommended that column names"),  # of FITS, of a nasty one
]

P, N = 30, 60
NASTY = "x\x1b[31m [bold]$y$"


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A folder with a model and a store of stars with whole numbers for ids, and a nasty column."""
    folder = tmp_path_factory.mktemp("explain")
    rng = np.random.default_rng(0)
    axes, latents = rng.normal(size=(P, 2)) / 30, rng.normal(size=(N, 2))
    sigma = np.full((N, P), 0.01)
    flux = 0.9 + latents @ axes.T + sigma * rng.normal(size=(N, P))
    stars = {"number": 9_007_199_254_740_993 + np.arange(N), "cluster": [""] * (N - 2) + ["A [red]", "A [red]"]}
    stars["$Fe^2_H"] = latents[:, 0]
    spectra = Spectra(flux, None, sigma, 15740 + 0.3 * np.arange(P), stars, id="number", group="cluster")
    with warnings.catch_warnings(action="ignore"):  # of FITS, about the name of that column
        store_of(spectra, folder / "store")
    noise, mean = torch.full((P,), 1e-4).double(), torch.full((P,), 0.9).double()
    ppca = MaskedPPCA(torch.from_numpy(axes), mean, noise, None)
    rotation = torch.diag(torch.tensor([3.0, 2.0])).double()
    model = RSCA(ppca, rotation, torch.zeros(2).double(), torch.tensor([0.3, 0.5]).double(), spectra.wavelength)
    model.save(folder / "model.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


FILES = "model=model.safetensors", "store=store"


def test_a_feature_leaves_tables_and_a_picture(there, capfd):
    assert main(["explain", *FILES, "feature=1", "out=one"]) == 0
    said = capfd.readouterr().out
    assert said.startswith("Feature 1 of 2\n")
    assert "strongest bins: shares of the variance of feature 1 in the field" in said
    assert re.search(r"Mg +15746.18", said)
    assert "$Fe^2_H" in said
    written = {path.name for path in (there / "one").iterdir()}
    tables = {f"{name}.{kind}" for name in ("bins", "lines", "windows", "correlations") for kind in ("csv", "fits")}
    assert written == tables | {"explanation.png", "explanation.pdf", "notes.txt"}
    with (there / "one" / "bins.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(float(row["SHARE"]) for row in rows) == pytest.approx(1, abs=1e-9)
    fits = Table.read(there / "one" / "bins.fits")
    np.testing.assert_array_equal(fits["SHARE"], [float(row["SHARE"]) for row in rows])
    assert fits.meta["COMMAND"] == "rsca explain model=model.safetensors store=store feature=1 out=one"
    assert imread(there / "one" / "explanation.png").shape[:2] == (1350, 2400)


@pytest.mark.parametrize("name", ["bins.csv", "bins.fits", "talk.png", "talk.pdf"])
def test_one_file(there, name):
    assert main(["explain", *FILES, "star=9007199254740993", f"out={name}"]) == 0
    start = {"csv": b"FEATURE,WAV", "fits": b"SIMPLE", "png": b"\x89PNG", "pdf": b"%PDF"}[name[-4:].lstrip(".")]
    assert (there / name).read_bytes().startswith(start)


def test_a_pair_by_whole_numbers_of_which_a_float_is_another(there, capfd):
    assert main(["explain", *FILES, "pair=[9007199254740993,9007199254741052]", "out=pair"]) == 0
    said = capfd.readouterr().out
    assert said.startswith("9007199254740993 (a field star) and 9007199254741052 (a member of A [red])\n")
    assert "squared distance" in (there / "pair" / "notes.txt").read_text()


def test_lines_and_windows_of_one_s_own(there, capfd):
    (there / "lines.csv").write_text("wavelength,element\n15745.0,[b]$Zr$\n")
    (there / "mine.yaml").write_text("Zr: [[15744, 15746]]\n")
    assert main(["explain", *FILES, "feature=2", "lines=lines.csv", "windows=mine.yaml", "out=mine"]) == 0
    said = capfd.readouterr().out
    assert "[b]$Zr$" in said
    assert (there / "mine" / "explanation.png").is_file()
    assert set(Table.read(there / "mine" / "windows.csv")["ELEMENT"]) == {"Zr", "outside windows"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "one of feature=NUMBER, pair=[ID1,ID2] and star=ID expected, got none"),
        (["feature=1", "star=7"], "got feature=1, star=7"),
        (["feature=9"], "the model has features 1 to 2"),
        (["pair=[1]"], "two ids expected"),
        (["star=900719925474099"], "the nearest: 9007199254740"),
        (["star=1e5"], "star '1e5' is not in the store"),
        (["feature=1", "lines=none.csv"], "no such file"),
        (["feature=1", "windows=none"], "one of apogee, aspcap, expected"),
        (["feature=1", "reach=-1"], "0 or more"),
        (["feature=1", "stars=1"], "at least 2"),
    ],
    ids=["none", "two", "feature", "pair", "star", "float", "lines", "windows", "reach", "stars"],
)
def test_bad_input_is_one_sentence(there, capfd, options, said):
    assert main(["explain", *FILES, *options, "out=bad"]) == 2
    told = capfd.readouterr().err
    assert said in told.replace("\n", " ")
    assert "Traceback" not in told
    assert not (there / "bad").exists()


def test_what_is_there_is_not_overwritten(there):
    kept = there / "kept"
    kept.mkdir()
    (kept / "notes.txt").write_text("mine")
    assert main(["explain", *FILES, "feature=1", "out=kept"]) == 2
    assert (kept / "notes.txt").read_text() == "mine"


def explained(name):
    """Of names that hold whatever a table may."""
    bins = Table({"WAVELENGTH": [15000.0, 15001.0], "SHARE": [1.5, -0.5], "VALID": [1, 2]})
    lines = Table({"ELEMENT": [name, "b"], "LINE": [15000.0, np.nan], "SHARE": [1.5, -0.5], "SOURCE": [name, ""]})
    further = Table({"COLUMN": [name], "SPEARMAN": [0.5], "PEARSON": [0.4], "STARS": [12]})
    return Explained(name, name, bins, lines, lines["ELEMENT", "SHARE"], further, [name])


@pytest.mark.parametrize("name", [NASTY, "$", "$\\frac{$", "a" * 3000, "\u202e\x00"], ids=range(5))
def test_names_from_a_table_can_hold_anything(name, tmp_path):
    told = explained(name)
    draw_explanation(told).savefig(tmp_path / "a.png", dpi=30)
    write_explanation(tmp_path, told, "rsca explain")
    for caption, table in tables_of(told):
        assert all(letter.isprintable() or letter == "\n" for letter in caption.lstrip())
        for column in table.columns:
            assert all(letter.isprintable() for cell in column.cells for letter in str(cell))
    assert "\x1b" not in (tmp_path / "notes.txt").read_text()
    assert printable("[bold]") == "[bold]"
