"""A rate of 0 says how many pairs it was counted from, and what they allow it to be, wherever it is shown."""

from __future__ import annotations

import csv
import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import binom, binomtest

from rsca_torch import Identity, LOCOResult, leave_one_cluster_out, paired_difference
from rsca_torch.comparison.comparison import Comparison, Result
from rsca_torch.comparison.representation import Representation
from rsca_torch.evaluation.result import upper_limit
from rsca_torch.report.pictures import draw_histograms, draw_rates
from rsca_torch.report.results import summary_table, write_csv, write_results
from rsca_torch.report.terminal import percent
from rsca_torch.spectra.stars import Stars

LIMIT = 1 - 0.16 ** (1 / 30)


def result(rates, pairs, **options):
    names = [f"c{place}" for place in range(len(rates))]
    members = dict.fromkeys(names, 2)
    medians = dict.fromkeys(names, 1.0)
    of_pairs = dict(zip(names, pairs, strict=True))
    return LOCOResult(dict(zip(names, rates, strict=True)), members, of_pairs, medians, **options)


@pytest.mark.parametrize("pairs", [1, 30, 12345])
def test_the_limit_is_clopper_and_pearsons(pairs):
    limit = upper_limit(pairs)
    assert limit == pytest.approx(binomtest(0, pairs).proportion_ci(0.68, method="exact").high, rel=1e-9)
    assert binom.cdf(0, pairs, limit) == pytest.approx(0.16, rel=1e-9)  # with a larger rate less likely than that
    assert upper_limit(pairs, 0.9) > limit


def test_a_rate_of_zero_has_the_limit_of_all_pairs():
    assert result([0.0, 0.0, math.nan], [20, 10, 0]).interval() == (0.0, pytest.approx(LIMIT, rel=1e-9))
    assert result([0.0], [0]).interval() == (0.0, 1.0)
    assert result([0.0, 0.0], [20, 10]).spread() == pytest.approx(LIMIT, rel=1e-9)
    low, high = result([0.0, 0.1], [20, 10]).interval()  # as ever where not all are 0
    assert (low, high) == (0.0, 0.1)
    assert all(math.isnan(end) for end in result([math.nan], [0]).interval())


def test_a_rate_of_one_has_the_limit_of_all_pairs():
    one = result([1.0, 1.0, math.nan], [20, 10, 0])
    assert one.interval() == (pytest.approx(1 - LIMIT, rel=1e-9), 1.0)
    assert one.interval()[0] == pytest.approx(binomtest(30, 30).proportion_ci(0.68, method="exact").low, rel=1e-9)
    assert one.spread() == pytest.approx(LIMIT, rel=1e-9)
    assert result([1.0, 0.0], [20, 10]).interval() == (0.0, 1.0)  # as ever where not all are 1
    zero = result([0.0, 0.0, math.nan], [20, 10, 0])
    both = paired_difference(one, zero)
    assert (both.value, both.high) == (1.0, 1.0)
    assert both.low == pytest.approx(1 - LIMIT * 2**0.5, rel=1e-9)
    assert paired_difference(zero, one).high == pytest.approx(-both.low, rel=1e-9)
    same = paired_difference(one, one)
    assert (same.low, same.high) == (pytest.approx(-LIMIT), pytest.approx(LIMIT))


def test_tables_files_and_pictures_of_a_rate_of_one(comparison, tmp_path):
    on, zero = comparison.results[0].representation, comparison.results[0].loco
    one = Result(on, "rsca", dataclasses.replace(zero, cluster_rates={"c0": 1.0, "c1": 1.0}), 1.0)
    console = Console(width=200)
    with console.capture() as told:
        console.print(summary_table(Comparison([one])))
    assert "where the rate is 100, down to what its pairs allow" in told.get()
    assert " ".join(told.get().splitlines()[3].split()) == "spectra rsca 30 100.00 94.07-100.00"
    write_results(tmp_path / "r.json", Comparison([one]), {}, 0, {"compressor": {}})
    (content,) = json.loads((tmp_path / "r.json").read_text())["results"]
    assert [each["lower_limit"] for each in content["clusters"]] == [1 - upper_limit(20), 1 - upper_limit(10)]
    write_csv(tmp_path / "r.csv", Comparison([one]))
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["low"], row["high"]) for row in rows[1:]] == [(str(1 - upper_limit(n)), "1.0") for n in (20, 10)]
    figure = draw_histograms([one], ["c0", "c1"])
    shown = [text.get_text() for panel in figure.axes for text in panel.texts]
    assert shown == ["20 of 20 pairs: > 91 %", "10 of 10 pairs: > 83 %"]


def test_differences_do_not_inherit_it():
    zero, more = result([0.0, 0.0], [20, 10]), result([0.0, 0.0], [4000, 2000])
    got = paired_difference(zero, more)
    assert (got.value, got.low) == (0.0, pytest.approx(-upper_limit(6000), rel=1e-9))
    assert got.high == pytest.approx(LIMIT, rel=1e-9)
    assert not got.excludes_zero
    rates = result([0.02, 0.02], [20, 10])
    got = paired_difference(rates, zero)
    assert got.value == got.high == pytest.approx(0.02)
    assert got.low == pytest.approx(0.02 - LIMIT, rel=1e-6)
    assert not got.excludes_zero  # 0 of 30 pairs cannot be told from 2 %
    assert paired_difference(zero, rates).high == pytest.approx(LIMIT - 0.02, rel=1e-6)


@pytest.fixture
def comparison():
    stars = Stars.of({"id": ["a", "b", "c", "d"], "group": ["c0", "c0", "c1", "c1"]})
    on = Representation("spectra", torch.zeros(3, 2), torch.zeros(4, 2), stars[:0], stars)
    distances = {name: (torch.ones(1), torch.full((number,), 2.0)) for name, number in (("c0", 20), ("c1", 10))}
    zero = result([0.0, 0.0], [20, 10], distances=distances)
    other = result([0.0, 0.2], [20, 10], distances=distances)
    return Comparison([Result(on, "rsca", zero, 1.0), Result(on, "raw", other, 1.0)])


def test_the_table_shows_pairs_and_limits(comparison):
    console = Console(width=200)
    with console.capture() as told:
        console.print(summary_table(comparison))
    text = told.get()
    assert "where the rate is 0, up to what its pairs allow" in text
    assert " ".join(text.splitlines()[2].split()) == "representation learner pairs rate 68 % minus rsca on spectra"
    assert " ".join(text.splitlines()[3].split()) == "spectra rsca 30 0.00 0.00-5.93"
    assert "+10.00 (" in text
    assert "(+0.00," not in text  # what 0 of 30 pairs allow is in it


def test_the_files_have_limits(comparison, tmp_path):
    write_results(tmp_path / "r.json", comparison, {}, 0, {"compressor": {}})
    zero, other = json.loads((tmp_path / "r.json").read_text())["results"]
    assert zero["pairs"] == 30
    assert zero["interval"] == [0.0, pytest.approx(LIMIT, rel=1e-9)]
    assert [each["upper_limit"] for each in zero["clusters"]] == [upper_limit(20), upper_limit(10)]
    assert ["upper_limit" in each for each in other["clusters"]] == [True, False]
    write_csv(tmp_path / "r.csv", comparison)
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["high"] for row in rows] == [
        *(str(limit) for limit in (upper_limit(30), upper_limit(20), upper_limit(10))),
        *(rows[3]["high"], str(upper_limit(20)), ""),
    ]


def test_the_pictures_have_limits(comparison):
    figure = draw_histograms(comparison.results[:1], ["c0", "c1"])
    told = [text.get_text() for panel in figure.axes for text in panel.texts]
    assert told == ["0 of 20 pairs: < 8.8 %", "0 of 10 pairs: < 17 %"]
    (axes,) = draw_rates(comparison).axes
    (zero,) = [line for line in axes.lines if line.get_marker() == "<"]
    assert zero.get_xdata()[0] == pytest.approx(100 * LIMIT)
    assert [text.get_text() for text in axes.texts] == [f"0, the pairs allow up to {100 * LIMIT:.2g} %", "10 %"]


def test_every_rate_can_be_read_off_the_picture(comparison):
    (axes,) = draw_rates(comparison).axes
    assert axes.get_xscale() == "log"
    points = [line for line in axes.lines if line.get_marker() in "os"]
    rates = [100 * result.loco.rate for result in comparison.results if result.loco.rate]
    assert [line.get_xdata()[0] for line in points] == pytest.approx(rates)
    low, high = axes.get_xlim()
    assert all(low < 100 * end < high for result in comparison.results for end in result.loco.interval() if end)


def test_two_decimals_are_not_made_zero():
    assert [percent(share) for share in (0.0, 0.0712, 0.00004)] == ["0.00", "7.12", "0.004"]
    assert percent(-0.00004, "+") == "-0.004"
    assert percent(math.nan) == "nan"


def test_on_stars_that_no_stranger_is_like():
    members = np.array([[0.0], [0.1], [5.0], [5.1], [5.2]])
    got = leave_one_cluster_out(Identity, np.array([[50.0], [60.0]]), members, ["a", "a", "b", "b", "b"])
    assert got.interval() == (0.0, upper_limit(10))
    assert repr(got) == "LOCOResult(2 clusters, rate 0, 68% interval 0 to 0.1674)"
