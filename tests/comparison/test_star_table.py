"""`rsca compare stars=FILE`: a table of stars with abundances and no spectra."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from rsca_torch import Identity, Scaled, ScaledComponents, leave_one_cluster_out
from rsca_torch.cli.main import main

pytestmark = pytest.mark.filterwarnings("default::rsca_torch.NumericalWarning")
ELEMENTS = ["C", "NA", "MG", "SI", "CA", "TI", "FE", "NI"]


@pytest.fixture
def stars():
    """400 field stars and 9 members of 3 clusters, in eight elements; two too hot, one alone in its cluster."""
    rng = np.random.default_rng(5)
    field, centres = rng.normal(size=(400, 8)), rng.normal(size=(3, 8))
    members = np.repeat(centres, 3, axis=0) + rng.normal(scale=0.1, size=(9, 8))
    table = Table({"STAR": [f"s{number}" for number in range(409)]})
    table["HOST"] = MaskedColumn([*["nan"] * 399, "alone", *np.repeat(["a", "b", "c"], 3)], dtype="U5")
    table["HOST"].mask[:100] = True
    table["TEFF"] = np.full(409, 4500.0)
    table["TEFF"][:2] = 6000
    table["M_H"] = 0.0
    for element, column in zip(ELEMENTS, np.vstack([field, members]).T, strict=True):
        table[f"{element}_H"] = column
    return table


def compare(path, out, *options):
    roles = ("id=STAR", "group=HOST", "pairs=all", "figures=false")
    return main(["compare", f"stars={path}", f"out={out}", *roles, *options])


@pytest.mark.parametrize("ending", ["csv", "fits", "ecsv"])
def test_rates_are_those_of_the_columns(stars, tmp_path, caplog, ending):
    path = tmp_path / f"stars.{ending}"
    stars.write(path)
    assert compare(path, tmp_path / "out") == 0
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {name: content["store"][name] for name in ("field", "members", "clusters")} == {
        "field": 398,
        "members": 9,
        "clusters": 3,
    }
    z = np.stack([stars[f"{element}_H"] for element in ELEMENTS], axis=1)
    for learner in (Identity, Scaled, lambda: ScaledComponents(False, unspanned="drop", floor="auto", trim=2.0)):
        result = leave_one_cluster_out(learner, z[2:400], z[400:], np.repeat(["a", "b", "c"], 3))
        (entry,) = (
            each
            for each in content["results"]
            if each["learner"] == learner().name and each["held_out"] and each["representation"] == "abundances"
        )
        assert entry["doppelganger_rate"] == pytest.approx(result.rate, rel=1e-9)
        assert entry["interval"] == pytest.approx(result.interval(), rel=1e-9)
        assert entry["pairs"] == 9 * 398
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        assert {row["representation"] for row in csv.DictReader(file)} == {"abundances"}  # the subset lacks Al and N
    said = " ".join(caplog.text.split())
    assert "cuts that are not made, as the table lacks their columns: extinction, logg, star_bad" in said
    assert "4 of 8 dimensions are not spanned by 6 members of 2 clusters" in said
    assert "abundance subset left out: the star table has no abundances of Al, N" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["group=CLUSTER"], "role group=CLUSTER: the star table has no such column"),
        (["store=somewhere"], "store=somewhere: no effect, since stars="),
        (["abundances.abundances.elements=[Eu]"], "has no abundances that can be judged"),
    ],
)
def test_what_cannot_be_done_is_said(stars, tmp_path, capsys, options, message):
    stars.write(tmp_path / "stars.csv")
    assert compare(tmp_path / "stars.csv", tmp_path / "out", *options) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_two_rows_of_a_star_and_files_that_are_no_table(stars, tmp_path, capsys):
    stars["STAR"][5] = "s7"
    stars.write(tmp_path / "stars.csv")
    assert compare(tmp_path / "stars.csv", tmp_path / "out") == 2
    assert "1 ids stand in several rows, first s7" in capsys.readouterr().err
    (tmp_path / "stars.fits").write_text("no table")
    assert compare(tmp_path / "stars.fits", tmp_path / "out") == 2
    assert "no table that astropy reads" in capsys.readouterr().err


def test_the_real_abundances_of_dr13(shared, tmp_path):
    """5,664 giants pass the paper's cuts strictly; RSCA has 18 dimensions for 15 degrees of freedom."""
    path = shared / "data" / "real" / "abundances_dr13_giants.csv"
    assert main(["compare", f"stars={path}", f"out={tmp_path / 'out'}", "pairs=all", "figures=false"]) == 0
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (content["store"]["field"], content["store"]["members"], content["store"]["clusters"]) == (5642, 22, 7)
    rates = {(each["representation"], each["learner"]): each for each in content["results"] if each["held_out"]}
    for learner in ("raw", "scaled", "rsca"):
        low, high = rates["abundances", learner]["interval"]
        assert 0 < low < rates["abundances", learner]["doppelganger_rate"] < high < 1


def test_pairs_are_limited_by_what_the_table_has(stars, tmp_path, caplog):
    stars.write(tmp_path / "stars.csv")
    assert compare(tmp_path / "stars.csv", tmp_path / "out", "pairs=paper") == 0
    assert "no column plays the role velocity or extinction: pairs are compared whatever theirs" in caplog.text
