"""Figure 5 and experiments beyond the paper: an effect is found where it is, and not where it is switched off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from paper_assembly import Shuffled, assembly_of, with_columns, with_learner
from scipy import stats
from scripts import script

from rsca_torch import InputError, doppelganger_rate
from rsca_torch.learners import Identity, ScaledComponents

pytestmark = [
    pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning"),  # a small survey drops dimensions and clusters
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]


#: Fibres and nights leave three and four times as much as in the default survey, and nothing.
LOUD = ["simulation.synthesis.line_spread=[0.3,0.2,0.36]", "simulation.synthesis.night=0.004"]
QUIET = [f"simulation.synthesis.{what}" for what in ("line_spread=[0,0,0]", "night=0", "persistence=0", "telluric=0")]


@pytest.fixture(scope="module")
def assembly(tmp_path_factory):
    return assembly_of(tmp_path_factory.mktemp("survey"), "simulation.n_field=600", *LOUD)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    return assembly_of(tmp_path_factory.mktemp("survey"), "simulation.n_field=300", *QUIET)


def test_a_draw_is_leave_one_cluster_out_among_its_clusters(assembly):
    names, sizes = np.unique(assembly.spectra.clusters, return_counts=True)
    drawn = np.isin(np.arange(22), [0, 3, 9, 18, 19, 20])
    judge = script("figure5").Judge(assembly, assembly.spectra, names)
    rates = judge(np.stack([drawn, sizes < 3, drawn]))
    rows = np.isin(assembly.spectra.clusters, names[drawn])
    given = assembly.spectra
    on = replace(given, members=given.members[rows], member_stars=given.member_stars[rows], roots=given.roots[rows])
    assert list(rates[0, drawn]) == list(assembly.judged(on).cluster_rates.values())
    assert (np.isnan(rates) == np.stack([~drawn, drawn | True, ~drawn])).all()
    assert "12 dimensions, but" in judge.note  # eight clusters with two members each


def test_draws_of_all_clusters_are_leave_one_cluster_out(assembly):
    (value,) = script("figure5").reproduce(assembly, [12], [21], 2).values
    result = assembly.judged(assembly.spectra)
    assert value.value == pytest.approx(result.rate)
    assert (value.low, value.high) == pytest.approx(result.interval(), rel=0.05)  # of other random numbers


def test_more_training_clusters_help(assembly):
    reproduced = script("figure5").reproduce(assembly, [12], [5, 20], 12)
    few, most = reproduced.values
    assert (few.item, few.setting, most.setting) == ("training_clusters K=12", "5", "20")
    assert most.value < 0.6 * few.value
    table, draws = reproduced.tables["figure5"], reproduced.tables["figure5_draws"]
    assert list(table["left_out"]) == [np.isnan(draws["doppelganger_rate"]).sum(), 0]
    assert [row.count(";") for row in draws["clusters"]] == [5] * 12 + [20] * 12
    assert most.value == pytest.approx(draws["doppelganger_rate"][12:].mean())
    assert table["standard_error"][1] == pytest.approx(stats.sem(draws["doppelganger_rate"][12:]))


def test_more_training_clusters_that_tell_nothing_do_not_help(assembly):
    few, most = script("figure5").reproduce(with_learner(assembly, Shuffled), [12], [5, 20], 12).values
    assert most.value > 0.75 * few.value


def test_training_clusters_that_the_survey_does_not_have(assembly):
    with pytest.raises(InputError, match=r"training_clusters from 1 to 21 expected, .* got 11, 22"):
        script("figure5").reproduce(assembly, [12], [11, 22], 2)
    with pytest.raises(InputError, match="12 components, 1 training clusters: no draw can be done: 12 dimensions"):
        script("figure5").reproduce(assembly, [12], [1], 1)


def rate_by_loops(on, max_metallicity):
    """Raw distances; the paper's pairs, and [Fe/H] alike."""
    seen = on.seen_by(Identity)
    field, members = seen.field.numpy(), seen.members.numpy()
    alike, counts = {}, {}
    for cluster in set(on.clusters):
        own = np.flatnonzero(on.clusters == cluster)
        siblings = [np.linalg.norm(members[i] - members[j]) for i in own for j in own if i < j]
        near = [
            np.linalg.norm(members[i] - field[j]) <= np.median(siblings)
            for i in own
            for j in range(len(field))
            if abs(on.member_stars["VHELIO_AVG"][i] - on.field_stars["VHELIO_AVG"][j]) < 5
            and abs(on.member_stars["AK_TARG"][i] - on.field_stars["AK_TARG"][j]) < 0.05
            and abs(on.member_stars["FE_H"][i] - on.field_stars["FE_H"][j]) < max_metallicity
        ]
        if near:
            alike[cluster], counts[cluster] = np.mean(near), len(own)
    return sum(alike[name] * counts[name] for name in alike) / sum(counts.values())


def rates_of(reproduced):
    return {(row["representation"], row["learner"], row["pairs"]): row["doppelganger_rate"] for row in reproduced}


def test_strangers_of_like_metallicity_are_harder_to_tell(assembly):
    reproduced = script("fixed_metallicity").reproduce(assembly, 0.05)
    rates = rates_of(reproduced.tables["fixed_metallicity"])
    assert rates["spectra", "raw", "like [Fe/H]"] == pytest.approx(rate_by_loops(assembly.spectra, 0.05))
    assert rates["abundances", "raw", "like [Fe/H]"] == pytest.approx(rate_by_loops(assembly.abundances(), 0.05))
    assert rates["spectra", "rsca", "all"] == assembly.judged(assembly.spectra).rate
    assert {key[1] for key in rates} == {"raw", "scaled", "rsca"}
    for representation, learner, pairs in rates:
        if pairs == "all":
            assert rates[representation, learner, "like [Fe/H]"] > 1.5 * rates[representation, learner, "all"]
    assert "0 members lack [Fe/H]" in reproduced.finding


def test_a_metallicity_that_says_nothing_changes_nothing(assembly):
    shuffled = np.random.default_rng(0).permutation(assembly.field.stars["FE_H"])
    other = with_columns(assembly, "FE_H", shuffled, None)
    rates = rates_of(script("fixed_metallicity").reproduce(other, 0.1).tables["fixed_metallicity"])
    assert rates["spectra", "raw", "like [Fe/H]"] < 1.25 * rates["spectra", "raw", "all"]


def test_members_without_metallicity_are_left_out_and_counted(assembly):
    some = assembly.members.stars["FE_H"].copy()
    some[assembly.members.stars["CLUSTER"] == "NGC 6791"] = np.nan
    other = with_columns(assembly, "FE_H", None, some)
    reproduced = script("fixed_metallicity").reproduce(other, 0.05)
    assert "39 members lack [Fe/H]" in reproduced.finding
    table = reproduced.tables["fixed_metallicity"]
    assert set(table["clusters"][table["pairs"] == "all"]) == {21}
    with pytest.raises(InputError, match="column FE_H of the star table has no value"):
        script("fixed_metallicity").reproduce(with_columns(assembly, "FE_H", some[:1], np.full(185, np.nan)), 0.05)
    with pytest.raises(InputError, match="max_metallicity=0 dex must be positive"):
        script("fixed_metallicity").reproduce(assembly, 0)


CHEMISTRY, NUISANCES = ["FE_H", "ALPHA_M"], ["TEFF", "VHELIO_AVG", "AK_TARG", "SNR", "MEANFIB", "VISITS"]


def test_mean_fibres_come_from_the_visits(assembly):
    """None at the 1 m telescope."""
    fibres = []
    for visits in assembly.field.stars["VISITS"]:
        last = [visit.split("-")[3:] for visit in visits.split(",") if visit.split("-")[2].isdigit()]
        fibres.append(np.mean([int(fibre) for (fibre,) in last]) if last else np.nan)
    assert 0 < np.isnan(fibres).sum() < 20
    np.testing.assert_array_equal(assembly.column("MEANFIB"), fibres)
    assert (with_columns(assembly, "MEANFIB", 7.0, 7.0).column("MEANFIB") == 7).all()


def leaks_of(assembly):
    reproduced = script("leaks").reproduce(assembly, CHEMISTRY, NUISANCES, 5, 0.02)
    return reproduced, {row["label"]: row for row in reproduced.tables["leaks_verdict"]}


def test_fibres_and_nights_that_leak_are_found(assembly):
    reproduced, verdict = leaks_of(assembly)
    for name in ("fibre off centre", "first night"):
        assert verdict[name]["verdict"] == "leak"
        assert verdict[name]["low"] < verdict[name]["beyond_abundances"] < verdict[name]["high"]
    assert {row["verdict"] for name, row in verdict.items() if name in {"VHELIO_AVG", "AK_TARG", "SNR"}} == {"no leak"}
    assert [value.item for value in reproduced.values[:3]] == ["leaks FE_H", "leaks ALPHA_M", "leaks TEFF"]
    assert reproduced.values[0].value > 0.95
    assert len(reproduced.tables["leaks_spread"]) == 4
    assert "times as much among the quarter of the stars with the lowest S/N" in reproduced.finding


def test_fibres_and_nights_that_leave_nothing_do_not_leak(quiet):
    reproduced, verdict = leaks_of(quiet)
    names = ["MEANFIB", "fibre off centre", "first date", "first night"]
    assert {verdict[name]["verdict"] for name in names} == {"no leak"}
    assert "Left out" not in reproduced.finding


def test_what_goes_with_abundances_is_no_leak():
    random = np.random.default_rng(0)
    abundances, own, noise = (random.normal(size=(800, k)) for k in (2, 1, 1))
    field = np.hstack([3 * abundances, own])
    told = {
        name: script("leaks").probed(field, abundances, label[:, 0], np.arange(800) % 4, 1.0, 0)
        for name, label in {"chemical": abundances[:, :1] + noise, "leaked": abundances[:, :1] + own}.items()
    }
    assert told["chemical"]["distances"].r2 == pytest.approx(1 / 2, abs=0.05)
    assert told["chemical"]["beyond abundances"].r2 == pytest.approx(0, abs=0.02)
    assert told["leaked"]["embedding"].r2 == pytest.approx(1)
    assert told["leaked"]["abundances"].r2 == pytest.approx(1 / 2, abs=0.05)
    assert told["leaked"]["beyond abundances"].r2 == pytest.approx(3 / 4, abs=0.02)  # half the weight: 1 - (1/2)^2


def test_faint_stars_that_spread_wider_leak_with_squares():
    """Nothing moves with S/N, so that a linear probe sees nothing; the spread falls from 2 to 1."""
    random = np.random.default_rng(3)
    abundances, snr = random.normal(size=(2000, 2)), random.uniform(50, 250, 2000)
    spread = np.interp(snr, [50, 250], [2, 1])
    own = random.normal(size=(2000, 4)) * spread[:, None]
    field, folds = np.hstack([3 * abundances, own]), np.arange(2000) % 4
    told = script("leaks").probed(field, abundances, snr, folds, 0.1, 0)
    assert told["beyond abundances"].high < 0.02
    assert told["beyond, with squares"].low > 0.1
    alike = script("leaks").probed(field, abundances, random.permutation(snr), folds, 0.1, 0)
    assert alike["beyond, with squares"].high < 0.02
    table = script("leaks").spread_of(own, snr)
    assert table["stars"].tolist() == [500] * 4
    assert table["spread"][0] / table["spread"][3] == pytest.approx(1.875 / 1.125, rel=0.07)
    assert (np.diff(table["spread"]) < 0).all()


def test_what_stars_of_a_night_have_in_common():
    random = np.random.default_rng(1)
    size = np.repeat([3, 5, 10], 70)
    nights = np.repeat(np.arange(210).astype(str), size)
    own = random.normal(size=(len(nights), 3)) * np.sqrt(3)
    sample = own + np.repeat(random.normal(size=(210, 3)), size, axis=0)
    in_common = script("leaks").in_common
    typical = (size.sum() - (size**2).sum() / size.sum()) / 209
    f = stats.f_oneway(*(sample[nights == night, 0] for night in np.unique(nights))).statistic
    told = in_common(sample[:, :1], nights, 0)
    assert told.r2 == pytest.approx((f - 1) / (f - 1 + typical))
    told = in_common(sample, nights, 0)
    assert told.r2 == pytest.approx(1 / 4, abs=0.05)
    assert told.low < told.r2 < told.high
    assert in_common(own, nights, 0).r2 == pytest.approx(0, abs=0.02)
    alone = np.append(nights, ["lonely", "", ""])  # no night, or nobody to share it with
    padded = np.vstack([own, np.full((3, 3), 1e6)])
    assert in_common(padded, alone, 0) == in_common(own, nights, 0)


def test_the_first_visit():
    visits = ["r12-5010-57398-219,r12-5010-57419-067", "", "r12-56257-2M01-2"]
    nights, dates = script("leaks").first_visits(np.array(visits), np.array(["apo25m", "apo25m", "apo1m"]))
    assert list(nights) == ["5010-57398", "", ""]
    assert list(dates[::2]) == [57398, 56257]
    assert np.isnan(dates[1])


def test_labels_that_the_survey_lacks_are_left_out_and_named(assembly):
    reproduced = script("leaks").reproduce(assembly, [], ["AK_TARG", "NO_SUCH"], 5, 0.02)
    assert "Left out, as the store lacks them or they are the same for all: NO_SUCH" in reproduced.finding
    with pytest.raises(InputError, match="the star table has none of NO_SUCH"):
        script("leaks").reproduce(assembly, ["NO_SUCH"], [], 5, 0.02)


def test_wrong_members_do_harm_and_less_by_mad(assembly):
    reproduced = script("memberships").reproduce(assembly, [0, 0.2], ["field"], 8)
    right, usual_right, wrong, usual_wrong = (row["doppelganger_rate"] for row in reproduced.tables["memberships"])
    assert right == pytest.approx(assembly.judged(assembly.spectra, ScaledComponents).rate)
    assert usual_right == pytest.approx(right, rel=0.15)
    assert wrong > 4 * right
    assert usual_wrong > 1.05 * wrong
    assert [value.value for value in reproduced.values] == [right, usual_right, wrong, usual_wrong]
    assert [value.setting for value in reproduced.values[1:3]] == ["standard deviation, 0% wrong", "MAD, 20% wrong"]
    draws = reproduced.tables["memberships_draws"]["doppelganger_rate"]
    assert len(draws) == 2 * (1 + 8)
    assert reproduced.tables["memberships"]["standard_error"][2] == pytest.approx(stats.sem(draws[2:10]))


@pytest.mark.parametrize("mistake", ["field", "shuffled"])
def test_true_clusters_are_judged_by_learners_told_what_is_wrong(assembly, mistake):
    memberships, on = script("memberships"), assembly.spectra
    believed = memberships.believed_members(on, mistake, 37, (0, 1))
    changed = believed.labels != on.clusters if mistake == "shuffled" else (believed.z != on.members).any(1).numpy()
    assert 25 < changed.sum() <= 37
    assert sorted(believed.labels) == sorted(on.clusters)
    rates = memberships.judged(assembly, on, ScaledComponents, believed, {}).cluster_rates
    for cluster in ("NGC 6791", "NGC 2243"):
        own, learner = on.clusters == cluster, ScaledComponents()
        learner.initialise(on.field, believed.z[torch.from_numpy(~own)], believed.labels[~own])
        members, field = learner(on.members[torch.from_numpy(own)]), learner(on.field)
        allowed = assembly.spectra.allowed(assembly.pairs)[torch.from_numpy(own)]
        assert rates[cluster] == pytest.approx(doppelganger_rate(members, field, allowed))


def test_mistakes_that_cannot_be(assembly):
    with pytest.raises(InputError, match="shares from 0 to 1 and mistakes among field, shuffled expected, got 2, typo"):
        script("memberships").reproduce(assembly, [2], ["typo"], 1)
