"""Figure 8: siblings observed together are more alike where nights leave something, and not where they do not."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from paper_assembly import assembly_of, with_columns
from scipy import stats
from scripts import script

from rsca_torch import InputError
from rsca_torch.comparison.variants import simulated_with
from rsca_torch.learners import ScaledComponents
from rsca_torch.survey.visits import Visit, visits_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning"),  # a small survey drops dimensions and clusters
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]

figure8 = script("figure8")


def survey(folder, night, telluric):
    left = [f"simulation.synthesis.night={night}", f"simulation.synthesis.telluric={telluric}"]
    return assembly_of(folder, "simulation.n_field=200", "simulation.stars.cluster_plates=2", *left)


@pytest.fixture(scope="module")
def loud(tmp_path_factory):
    return survey(tmp_path_factory.mktemp("survey"), 0.015, 0.02)


def test_nights_that_leave_something_are_found_in_spectra_alone(loud):
    reproduced = figure8.reproduce(loud, 10, 500, 2)
    spectra, subset = reproduced.tables["figure8"]
    assert spectra["apart_minus_together"] > spectra["low"] > 0.15
    assert spectra["p"] == spectra["p_kolmogorov_smirnov"] == 1 / 501
    assert abs(subset["apart_minus_together"]) < 0.1  # no abundance was measured from the nights
    assert subset["p"] > 0.05
    assert [value.item for value in reproduced.values[::3]] == [
        "siblings' nights spectra",
        "siblings' nights abundance_subset",
    ]
    assert "of 1597 pairs of siblings in 22 clusters" in reproduced.finding


def test_nights_that_leave_nothing_are_not_found(tmp_path):
    (spectra, _) = figure8.reproduce(survey(tmp_path, 0, 0), 10, 500, 2).tables["figure8"]
    assert abs(spectra["apart_minus_together"]) < 0.1
    assert spectra["p"] > 0.05
    assert spectra["p_kolmogorov_smirnov"] > 0.05


def test_every_pair_has_its_own_distance_and_nights(loud):
    pairs = figure8.reproduce(loud, 10, 1, 2).tables["figure8_pairs"]
    on, learner = loud.spectra, ScaledComponents()
    own = torch.from_numpy(on.clusters == "NGC 2204")
    learner.initialise(on.field, on.members[~own], on.clusters[~own.numpy()])
    embedded = dict(zip(on.member_stars["APOGEE_ID"][own.numpy()], learner(on.members[own]), strict=True))
    stars = dict(zip(on.member_stars["APOGEE_ID"], on.member_stars, strict=True))
    rows = pairs[(pairs["cluster"] == "NGC 2204") & (pairs["representation"] == "spectra")]
    assert len(rows) == 12 * 11 / 2
    distances = np.array([float((embedded[row["star"]] - embedded[row["sibling"]]).norm()) for row in rows])
    np.testing.assert_allclose(rows["distance"], distances / np.median(distances), rtol=1e-9)
    for row in rows:
        one, other = (
            {visit.split("-")[2] for visit in stars[row[name]]["VISITS"].split(",")} for name in ("star", "sibling")
        )
        assert (row["nights"] == "together") == (one == other)
        assert (row["nights"] == "apart") == one.isdisjoint(other)


def test_partly_and_unknown_are_left_out_and_counted(loud):
    visits, own = loud.members.stars["VISITS"].copy(), np.flatnonzero(loud.members.stars["CLUSTER"] == "NGC 188")
    visits[own] = ["r12-1-57000-001"] * 5 + ["r12-1-57000-001,r12-1-57001-001"] * 7 + [" "] * 2
    reproduced = figure8.reproduce(with_columns(loud, "VISITS", None, visits), 10, 1, 2)
    assert "35 some nights in common, 25 nights not known" in reproduced.finding  # 5 x 7, 2 x 12 + 1
    assert set(reproduced.tables["figure8"]["clusters"]) == {13}  # 14 but for this one


def test_a_survey_that_tells_too_little(loud):
    visits = loud.members.stars["VISITS"].copy()
    visits[:] = "r12-1-57000-001"
    with pytest.raises(InputError, match=r"got 0 and 0 of spectra in 0 clusters; .* 1597 together, 0 apart"):
        figure8.reproduce(with_columns(loud, "VISITS", None, visits), 10, 1, 2)
    other = with_columns(loud, "VISITS", None, visits)
    other.members.stars.remove_column("VISITS")
    with pytest.raises(InputError, match="the star table has no column VISITS"):
        figure8.reproduce(other, 10, 1, 2)


def siblings(seed, night, shift=0.0):
    """Stars of one cluster with random distances."""
    random, night = np.random.default_rng(seed), np.array(night)
    kind = np.where(night[:, None] == night, figure8.TOGETHER, figure8.APART)
    first, second = np.triu_indices(len(night), 1)
    distance = random.gamma(4, size=len(first)) + shift * (kind[first, second] == figure8.APART)
    return figure8.Siblings(str(seed), night.astype(str), first, second, distance, kind)


def difference_and_ks(clusters, nights):
    """By loops: the weighted mean of the clusters' differences, and K-S of all pairs."""
    total, weights, both = 0.0, 0.0, ([], [])
    for one, night in zip(clusters, nights, strict=True):
        own = ([], [])
        for i, j, distance in zip(one.first, one.second, one.distance, strict=True):
            own[night[i] != night[j]].append(distance)
        weight = 1 / (1 / len(own[0]) + 1 / len(own[1]))
        total, weights = total + weight * (np.mean(own[1]) - np.mean(own[0])), weights + weight
        both = both[0] + own[0], both[1] + own[1]
    return total / weights, stats.ks_2samp(*both).statistic


def test_the_test_is_that_of_all_permutations():
    nights = [[0, 0, 1, 1, 1], [0, 1, 0, 1]]
    clusters = [siblings(1, nights[0], 1.0), siblings(2, nights[1])]
    test = figure8.tested(clusters, 20_000, 0)
    difference, ks = difference_and_ks(clusters, nights)
    assert (test.difference, test.ks) == pytest.approx((difference, ks))
    every = np.array(
        [
            difference_and_ks(clusters, both)
            for both in itertools.product(*(list(itertools.permutations(night)) for night in nights))
        ]
    )
    p, p_ks = (np.abs(every) >= np.abs([difference, ks]) - 1e-9).mean(0)
    assert 0.02 < p < 0.6
    assert (test.p, test.p_ks) == pytest.approx((p, p_ks), abs=0.015)
    ends = sorted(difference_and_ks([one], [night])[0] for one, night in zip(clusters, nights, strict=True))
    assert (test.low, test.high) == pytest.approx(ends)  # a quarter of the draws has either cluster alone


def test_p_is_uniform_where_stars_and_not_nights_make_pairs_alike():
    """A star far from all others makes all its pairs far: pairs are not independent, permutations know it."""
    p = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        one = siblings(seed, random.permutation([0] * 4 + [1] * 8))
        far = np.exp(random.normal(size=12))
        p.append(figure8.tested([replace(one, distance=far[one.first] * far[one.second])], 200, seed).p)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_visits_by_telescope():
    plate = visits_of("r12-5583-56257-279,r12-5583-56285-279", "apo25m")
    assert plate == [Visit("apo25m", "5583", 56257, 279), Visit("apo25m", "5583", 56285, 279)]
    one_metre = "r12-56257-2M19203303-3755558"
    assert visits_of(f"{one_metre},r12-56258-11-22", "apo1m") == [Visit("apo1m", "", 56257), Visit("apo1m", "", 56258)]
    assert visits_of(f"r6-5583-56257-279,{one_metre}") == [Visit("", "5583", 56257, 279), Visit("", "", 56257)]
    assert visits_of(" ", "lco25m") == visits_of("") == []
    with pytest.raises(InputError, match="VISITS of a star of apo25m holds 'r12-56257-2M1': r12-PLATE-NIGHT-FIBRE"):
        visits_of("r12-56257-2M1", "apo25m")


def test_the_same_date_at_two_telescopes_is_not_the_same_night():
    north, south, later = (
        figure8.nights_of({"VISITS": f"r12-{plate}-{night}-001", "TELESCOPE": telescope})
        for plate, night, telescope in ((1, 57000, "apo25m"), (2, 57000, "lco25m"), (3, 57001, "apo25m"))
    )
    kinds = [figure8.kind_of(north, other) for other in (north, south, later, north | later, frozenset())]
    assert kinds == [figure8.TOGETHER, figure8.APART, figure8.APART, figure8.PARTLY, figure8.UNKNOWN]


def test_a_simulated_survey_whose_siblings_share_their_nights_is_made_anew_with_more_plates(loud, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "rsca_torch.comparison.variants.simulated_store", lambda config: asked.append(config) or loud.store
    )
    assert simulated_with(loud, "plates", {"stars.cluster_plates": 2}) is loud
    assert simulated_with(loud, "plates", {"stars.cluster_plates": 3}) is not loud
    (other,) = asked
    assert other.simulation.stars.cluster_plates == 3
    assert other.simulated == f"{loud.config.simulated}-plates"
    assert loud.config.simulation.stars.cluster_plates == 2
    own = copy.copy(loud)
    own.config = loud.config.copy()
    own.config.store = "somewhere"
    assert simulated_with(own, "plates", {"stars.cluster_plates": 3}) is own
