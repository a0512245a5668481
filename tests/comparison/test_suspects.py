"""Suspects from `rsca compare` to paper: the table, the terminal, the report, and the picture of reliability."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.table import Table

from rsca_torch import ScaledComponents
from rsca_torch.cli.main import main
from rsca_torch.evaluation.membership import membership
from rsca_torch.training.members import Members

pytestmark = pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
ELEMENTS = ["C", "MG", "SI", "FE"]
SIZES = [5, 6, 5, 7, 4, 6, 5]
WRONG = [2, 13]  # among the members


def drawn():
    """(field, members, labels), some members of which are field stars."""
    rng = np.random.default_rng(5)
    members = np.repeat(rng.normal(size=(7, 4)), SIZES, axis=0) + rng.normal(scale=0.1, size=(sum(SIZES), 4))
    members[WRONG] = rng.normal(size=(2, 4)) + 2
    return rng.normal(size=(300, 4)), members, np.repeat([f"NGC_{number}" for number in range(7)], SIZES)


@pytest.fixture
def stars(tmp_path):
    """Those as a file."""
    field, members, labels = drawn()
    table = Table({"STAR": [f"s{number}" for number in range(len(field) + len(members))]})
    table["HOST"] = [""] * len(field) + labels.tolist()
    table["TEFF"] = np.full(len(table), 4500.0)
    for element, column in zip(ELEMENTS, np.vstack([field, members]).T, strict=True):
        table[f"{element}_H"] = column
    table.write(tmp_path / "stars.fits")
    return tmp_path / "stars.fits"


def compare(path, *options):
    roles = ("id=STAR", "group=HOST", "pairs=all")
    return main(["compare", f"stars={path}", f"out={path.parent / 'out'}", *roles, "learner.trim=2", *options])


def found(path):
    return pd.read_csv(path.parent / "out" / "suspects.csv")


def test_suspects_from_the_file_to_the_paper(stars, capsys):
    assert compare(stars, "suspects.prior=0.05", "learner.robust=false") == 0
    shown, got = capsys.readouterr().out, found(stars)
    assert {f"s{300 + number}" for number in WRONG} <= set(got["STAR"])
    field, members, labels = drawn()
    learner = ScaledComponents(trim=2.0, robust=False)
    learner.initialise(field, members, labels)
    kept = learner.kept.numpy()
    assert set(got["STAR"]) == {f"s{300 + number}" for number in np.flatnonzero(~kept)}
    given = Members(torch.from_numpy(members), labels, np.ones((len(members), len(field)), dtype=bool))
    expected = membership(lambda: ScaledComponents(trim=2.0, robust=False), torch.from_numpy(field), given, kept, 0.05)
    rows = [int(star[1:]) - 300 for star in got["STAR"]]
    np.testing.assert_allclose(got["P_WRONG"], expected.wrong[rows], rtol=1e-6)
    np.testing.assert_allclose(got["LOG_RATIO"], expected.ratio[rows], rtol=1e-6)
    assert (got["PRIOR"] == 0.05).all()
    assert (got["CALIBRATED_ON"] == 7).all()
    np.testing.assert_allclose(got["DISTANCE"], (learner.far / learner.limit).sqrt()[rows], rtol=1e-6)
    assert (got["LISTED"] == [(labels == name).sum() for name in got["HOST"]]).all()
    first = got.sort_values(["P_WRONG", "DISTANCE"], ascending=False).iloc[0]
    line = next(line for line in shown.splitlines() if first["STAR"] + " " in line)
    assert line.split() == [
        first["STAR"], first["HOST"], str(first["SUSPECTS"]), "of", str(first["LISTED"]),
        f"{first['DISTANCE']:.2f}", f"{first['LOG_RATIO']:.1f}", f"{first['P_WRONG']:.3f}",
    ]  # fmt: skip
    meaning = "P(wrong): that it is no member, if 0.05 of the listed are none, calibrated on 7 clusters"
    assert meaning in " ".join(shown.split())
    assert (stars.parent / "out" / "reliability.png").stat().st_size > 10_000
    out = stars.parent / "out"
    assert main(["report", f"sweep={out}", "format=latex"]) == 0
    tex, told = capsys.readouterr().out, (out / "report" / "report.md").read_text()
    star = f"{first['STAR']} & {first['HOST']}".replace("_", r"\_")
    assert f"{star} & {first['SUSPECTS']} of {first['LISTED']} & {first['DISTANCE']:.2f}" in tex
    assert r"\label{tab:out-suspects}" in tex
    assert f"| {first['STAR']} | {first['HOST']} |" in told
    assert "if 0.05 of the listed are none, calibrated on 7 clusters" in told


def test_what_is_not_calibrated_says_so(stars, capsys):
    assert compare(stars, "calibration=null", "figures=false") == 0
    assert (found(stars)["CALIBRATED_ON"] == 0).all()
    assert "not calibrated, too sure" in " ".join(capsys.readouterr().out.split())
    assert not (stars.parent / "out" / "reliability.png").exists()


@pytest.mark.parametrize("prior", ["0", "1", "-0.2", "1.5"])
def test_a_prior_that_is_none_is_refused_in_one_sentence(stars, capsys, caplog, prior):
    assert compare(stars, f"suspects.prior={prior}") == 2
    said = capsys.readouterr().err + caplog.text
    assert f"suspects.prior={prior}" in said
    assert "the share of wrong ones among the listed members must lie between 0 and 1, both excluded" in said


def test_without_trim_nobody_is_suspected(stars):
    assert compare(stars, "learner.trim=null", "figures=false") == 0
    assert not (stars.parent / "out" / "suspects.csv").exists()
