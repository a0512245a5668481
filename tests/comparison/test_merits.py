"""What `rsca compare` tells beside the rate: files, the second table, and options that cannot be meant."""

from __future__ import annotations

import csv
import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from astropy.table import Table

from rsca_torch import InputError, ScaledComponents, leave_one_cluster_out
from rsca_torch.cli.main import main
from rsca_torch.comparison.comparison import Result
from rsca_torch.comparison.merits import Merits
from rsca_torch.comparison.representation import Representation
from rsca_torch.report.pictures import draw_histograms
from rsca_torch.spectra.stars import Stars

pytestmark = pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")
ELEMENTS = ["C", "MG", "SI", "FE"]
SIZES = [5, 3, 4, 4, 3, 6]


@pytest.fixture
def stars(tmp_path):
    """400 field stars and 25 members of 6 clusters, in four elements, as a file."""
    rng = np.random.default_rng(5)
    members = np.repeat(rng.normal(size=(6, 4)), SIZES, axis=0) + rng.normal(scale=0.1, size=(25, 4))
    table = Table({"STAR": [f"s{number}" for number in range(425)]})
    table["HOST"] = [""] * 400 + np.repeat([f"NGC {number}" for number in range(6)], SIZES).tolist()
    table["TEFF"] = np.full(425, 4500.0)
    for element, column in zip(ELEMENTS, np.vstack([rng.normal(size=(400, 4)), members]).T, strict=True):
        table[f"{element}_H"] = column
    table.write(tmp_path / "stars.fits")
    return tmp_path / "stars.fits"


def compare(path, *options):
    roles = ("id=STAR", "group=HOST", "pairs=all", "figures=false")
    return main(["compare", f"stars={path}", f"out={path.parent / 'out'}", *roles, *options])


def results(path):
    return json.loads((path.parent / "out" / "results.json").read_text())


def test_figures_are_in_files_and_in_a_second_table(stars, capsys):
    by_distance = "+learner@baselines.distance=paper_text"
    assert compare(stars, "learner.score=likelihood", "learner.trim=null", by_distance, "calibration.of=all") == 0
    content, shown = results(stars), capsys.readouterr().out
    told = {each["learner"]: each for each in content["results"] if each["held_out"]}
    assert list(told) == ["rsca by likelihood", "raw", "scaled", "rsca"]
    shares = {"overlap", "rate_at_10_percent_miss"}
    shares |= {f"{name}_alike" for name in (*shares, "rate")}
    assert told["rsca"]["figures_of_merit"].keys() == shares | {"cllr"}
    figures = told["rsca by likelihood"]["figures_of_merit"]
    assert figures.keys() == shares | {"cllr", "cllr_uncalibrated"}
    for figure in figures.values():
        assert figure["interval"][0] <= figure["value"] <= figure["interval"][1]
    calibration = told["rsca by likelihood"]["calibration"]
    assert (calibration["clusters"], calibration["strangers"]) == (6, 400)
    assert calibration["bounds"] == pytest.approx([-math.log(7), math.log(401)])
    assert calibration["without"].keys() == {f"NGC {number}" for number in range(6)}
    assert [each["prior"] for each in calibration["priors"]] == [0.5, 0.01]
    assert sum(each["weight"] for each in calibration["priors"][1]["reliability"]) == pytest.approx(1)
    differences = {each["learner"]: each["figures_of_merit"] for each in content["differences"]}
    assert differences["rsca"].keys() == shares | {"cllr"}
    assert differences["rsca"]["cllr"]["difference"] == pytest.approx(
        told["rsca"]["figures_of_merit"]["cllr"]["value"] - figures["cllr"]["value"]
    )
    rows = list(csv.DictReader((stars.parent / "out" / "figures_of_merit.csv").read_text().splitlines()))
    held_out = {(row["learner"], row["figure"]): row for row in rows if row["held_out"] == "True"}
    row = held_out["rsca", "overlap"]
    assert float(row["value"]) == told["rsca"]["figures_of_merit"]["overlap"]["value"]
    assert [float(row[f"difference_{end}"]) for end in ("low", "high")] == differences["rsca"]["overlap"]["interval"]
    assert held_out["rsca by likelihood", "overlap"]["difference"] is None
    assert "alike: strangers whose FE_H differs by less than 0.05" in shown
    shown = "\n".join(line.rstrip() for line in shown.splitlines())
    assert f"cllr of the best monotone map: {calibration['minimum_cllr']:.3f}\ncalibration error: " in shown
    assert "at prior 0.5, " in shown
    second = shown[shown.index("Further figures") :]
    assert max(len(line.rstrip()) for line in second.splitlines()) <= 100, second


@pytest.mark.parametrize("of", ["judged", "closed_forms", "none"])
def test_whose_ratios_are_calibrated(stars, of):
    assert compare(stars, f"calibration.of={of}", "alike=null") == 0
    told = {each["learner"]: each for each in results(stars)["results"] if each["held_out"]}
    calibrated = {"judged": {"rsca"}, "closed_forms": {"rsca", "raw", "scaled"}, "none": set()}[of]
    assert {name for name, each in told.items() if "calibration" in each} == calibrated
    assert not [name for name in told["rsca"]["figures_of_merit"] if name.endswith("alike")]


def test_trained_learners_are_calibrated_where_that_is_asked():
    for of, trained in (("judged", False), ("closed_forms", False), ("all", True)):
        assert Merits(calibrate=of).calibrates(is_judged=True, is_trained=True) is trained
    assert not Merits(calibrate="judged").calibrates(is_judged=False, is_trained=False)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("calibration.of=some", "calibration.of must be one of none, judged, closed_forms, all, got 'some'"),
        ("calibration.priors=[0.5,1.0]", "prior=1.0: the share of siblings among the pairs asked about must lie"),
        ("alike.within=0", "alike.within=0 must be positive, or no pair is alike"),
        ("alike.column=HOST", "alike.column=HOST holds text: a column of numbers expected, or alike=null"),
    ],
    ids=["of", "prior", "within", "text"],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(stars, capsys, caplog, option, said):
    assert compare(stars, option) == 2
    assert said in capsys.readouterr().err + caplog.text


def test_alike_is_by_role_or_column_and_unknown_values_are_like_none():
    members, field = (
        Stars.of(Table({"NAME": names, "V": v, "FE_H": fe}), id="NAME", velocity="V")
        for names, v, fe in ((["a", "b"], [1.0, 2.0], [0.0, np.nan]), (["c", "d"], [1.04, 9.0], [0.04, 0.06]))
    )
    assert Merits(alike="FE_H").alike_pairs(members, field).tolist() == [[True, False], [False, False]]
    assert Merits(alike="velocity").alike_pairs(members, field).tolist() == [[True, False], [False, False]]
    assert Merits(alike="M_H").alike_pairs(members, field) is None
    assert Merits().alike_pairs(members, field) is None
    with pytest.raises(InputError, match="must be positive"):
        Merits(alike="FE_H", within=-1)


def test_pictures_of_scores_have_all_siblings_in_them(make_clusters):
    """Minus a score lies below 0 where stars are alike."""
    problem = make_clusters(spreads=(0.02, 0.05, 0.1, 0.2))
    loco = leave_one_cluster_out(
        partial(ScaledComponents, score="likelihood"),
        problem.field, problem.members, problem.clusters, keep_distances=True,
    )  # fmt: skip
    assert (loco.distances["NGC 0"][0] < 0).any()
    table = Stars.of(Table({"NAME": ["a"]}), id="NAME")
    on = Representation("spectra", torch.zeros(1, 1), torch.zeros(1, 1), table, table)
    panel = draw_histograms([Result(on, "rsca by likelihood", loco, 0.0)], ["NGC 0"]).axes[0]
    strangers, siblings = (outline.get_xy() for outline in panel.patches)
    x, y = siblings.T
    area = abs(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1))) / 2  # inside the outline
    assert area == pytest.approx(
        np.ptp(x) / (len(np.unique(x)) - 1)
    )  # bars as wide as these, of heights that add up to 1
    assert x.min() == strangers[:, 0].min() == pytest.approx(float(loco.distances["NGC 0"][0].min()))
