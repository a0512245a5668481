"""The paper's figures and tables: an effect is found where it is, and not where it is switched off."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from paper_assembly import (
    Shuffled,
    assembly_of,
    with_clusters_of_field_stars,
    with_columns,
    with_learner,
    with_pca,
    with_random_latents,
    without_column,
)
from scipy import stats
from scripts import script

from rsca_torch import InputError, doppelganger_rate
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.learners import LDA, Identity, Scaled, ScaledComponents
from rsca_torch.report.pictures import draw_features, draw_histograms
from rsca_torch.report.reproduction import published, reproduce

pytestmark = [
    pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning"),  # a small survey drops dimensions and clusters
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]

BETWEEN = {"at_solar": 0.075, "slope": -0.1}  # half-way between the alpha sequences
LABELS = ["FE_H", "ALPHA_M", "VHELIO_AVG", "TEFF", "SNR"]


@pytest.fixture(scope="module")
def assembly(surveys):
    return assembly_of(surveys / "of-300", "simulation.n_field=300")


@pytest.fixture(scope="module")
def one_sequence(tmp_path_factory):
    return assembly_of(tmp_path_factory.mktemp("survey"), "simulation.n_field=400", "simulation.stars.high_alpha=0")


@pytest.fixture(scope="module")
def by_pca(assembly):
    return with_pca(assembly, [2, 20, 110])


def rates_without(assembly, on, make_learner, first=None):
    """Every cluster's rate by a learner fitted on all others, of whose dimensions the first so many count."""
    allowed, rates = on.allowed(assembly.pairs), {}
    for name, size in zip(*np.unique(on.clusters, return_counts=True), strict=True):
        own, learner = on.clusters == name, make_learner()
        learner.initialise(on.field, on.members[torch.from_numpy(~own)], on.clusters[~own])
        members, field = (learner(z)[:, :first] for z in (on.members[torch.from_numpy(own)], on.field))
        rates[name] = doppelganger_rate(members, field, allowed[torch.from_numpy(own)]), size
    return rates


def mean(rates):
    known = np.array([(rate, size) for rate, size in rates.values() if np.isfinite(rate)])
    return np.average(known[:, 0], weights=known[:, 1])


def of(reproduced, item, setting):
    (value,) = (value for value in reproduced.values if (value.item, value.setting) == (item, setting))
    return value


def kinds(reproduced):
    """Rates by number of components: cross-validated, and not."""
    table = reproduced.tables["figure2"]
    return [
        {row["n_components"]: row["doppelganger_rate"] for row in table if row["kind"] == kind}
        for kind in ("cross-validated", "no cross-validation")
    ]


def test_too_few_and_too_many_components_are_worse(by_pca):
    reproduced = script("figure2").reproduce(by_pca, [2, 20, 110])
    validated, seen = kinds(reproduced)
    assert validated[2] > 2 * validated[20]
    assert validated[110] > 2 * validated[20]
    assert seen[20] < validated[20]
    assert seen[110] < 0.1 * validated[110]
    assert "lowest with 20 components" in reproduced.finding
    assert {value.item for value in reproduced.values} <= {item for item, _, _ in published().index}


def test_components_do_not_help_where_clusters_are_none(by_pca):
    validated, seen = kinds(script("figure2").reproduce(with_clusters_of_field_stars(by_pca), [2, 20, 110]))
    assert min(validated.values()) > 0.8 * validated[2]
    assert seen[110] < 0.5 * seen[2]  # learned by heart


def test_the_second_dimension_tells_the_alpha_sequences(assembly):
    reproduced = script("table1").reproduce(assembly, [1, 2, 3, 12, 30])
    rates = {value.setting: value for value in reproduced.values}
    assert list(rates) == ["1", "2", "3", "12"]
    assert rates["2"].value < 0.4 * rates["1"].value
    assert rates["12"].value == assembly.judged(assembly.spectra).rate
    for number in (1, 3):
        slow = mean(rates_without(assembly, assembly.spectra, ScaledComponents, number))
        assert rates[str(number)].value == pytest.approx(slow)
    assert "Left out, as there are 12 components: 30." in reproduced.finding
    first, last = reproduced.tables["table1"][0], reproduced.tables["table1"][-1]
    assert first["difference_low"] < first["difference"] < first["difference_high"]
    assert first["difference"] == pytest.approx(rates["1"].value - rates["12"].value)
    assert (last["difference_low"], last["difference_high"]) == (0, 0)


def test_the_second_dimension_has_less_to_tell_of_one_alpha_sequence(one_sequence):
    first, second = script("table1").reproduce(one_sequence, [1, 2]).values
    assert second.value > 0.7 * first.value


def test_the_spread_over_clusters_is_that_of_a_bootstrap(assembly):
    (row,) = script("table1").reproduce(assembly, [1]).tables["table1"]
    rates = rates_without(assembly, assembly.spectra, ScaledComponents, 1)
    known = [name for name, (rate, _) in rates.items() if np.isfinite(rate)]
    random = np.random.default_rng(5)
    drawn = [
        mean({place: rates[name] for place, name in enumerate(random.choice(known, len(known)))}) for _ in range(4000)
    ]
    assert row["spread"] == pytest.approx(np.std(drawn), rel=0.06)
    assert (row["low"], row["high"]) == pytest.approx(np.quantile(drawn, [0.16, 0.84]), rel=0.05)


def test_dimensions_that_are_not_there(assembly):
    with pytest.raises(InputError, match="dimensions from 1 to 12, the number of components, expected, got 0, 13"):
        script("table1").reproduce(assembly, [0, 13])
    with pytest.raises(InputError, match="learner=rsca expected, got lda"):
        script("table1").reproduce(with_learner(assembly, LDA), [1])


def test_features_follow_iron_and_alpha_and_part_the_sequences(assembly):
    reproduced = script("figure3").reproduce(assembly, 4, LABELS, BETWEEN)
    assert of(reproduced, "features follow", "feature 1: FE_H").value > 0.9
    assert abs(of(reproduced, "features follow", "feature 2: ALPHA_M").value) > 0.25
    table = reproduced.tables["figure3_sequences"]
    assert list(table["parted"][:2]) == [True, True]
    assert not table["parted"][2:].any()
    assert np.argmax(np.abs(table["separation"])) == 1
    assert "The alpha sequences appear in feature 2, and also in 1" in reproduced.finding
    assert "0 of 185 members are high-alpha" in reproduced.finding


@pytest.mark.parametrize("at_solar", [0.075, 0.02])  # half-way to nowhere; through the one sequence
def test_one_sequence_is_not_parted(one_sequence, at_solar):
    reproduced = script("figure3").reproduce(one_sequence, 4, LABELS, {"at_solar": at_solar, "slope": -0.1})
    assert not reproduced.tables["figure3_sequences"]["parted"].any()
    assert "No feature shows two alpha sequences" in reproduced.finding
    assert of(reproduced, "features follow", "feature 1: FE_H").value > 0.9


def test_features_have_the_signs_of_the_stored_layer(assembly):
    field, members = assembly.features()
    learner, on = assembly.fitted(assembly.spectra), assembly.spectra
    weight = learner.weight.numpy() @ on.ppca.linear_map().numpy()
    sign = np.sign(weight[range(12), np.abs(weight).argmax(1)])
    for features, latents in ((field, on.field), (members, on.members)):
        np.testing.assert_allclose(features.numpy(), learner(latents).numpy() * sign, rtol=1e-6, atol=1e-6)


def test_densities_count_the_field_and_can_be_drawn_of_nothing(assembly):
    none = with_columns(assembly, "ALPHA_M", np.nan, np.nan)
    field, members = assembly.features()
    field[:, 2], members[:, 2] = 0, 0
    figure = draw_features(none.spectra, field, members)
    counts = [panel.collections[0].get_array() for panel in figure.axes[:8]]
    assert [int(count.sum()) for count in counts[4:7]] == [0, 0, 0]
    assert counts[2].sum() == pytest.approx(len(assembly.field.stars), abs=5)  # but outliers
    assert figure.axes[0].lines[0].get_xydata().shape == (185, 2)


def test_rank_correlations_are_spearmans():
    random = np.random.default_rng(0)
    feature, label = random.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 300).T.round(1)  # many alike
    label[::7] = np.nan
    correlation, low, high, _, stars = script("figure3").associated(feature, label)
    assert correlation == pytest.approx(stats.spearmanr(feature, label, nan_policy="omit").statistic)
    assert stars == np.isfinite(label).sum()
    drawn = random.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], (4000, stars))
    ranks = stats.zscore(stats.rankdata(drawn, axis=1), axis=1)
    assert (high - low) / 2 == pytest.approx(ranks.prod(axis=2).mean(axis=1).std(), rel=0.05)


def test_what_a_label_explains_on_a_curve():
    random = np.random.default_rng(0)
    label, noise = random.uniform(-1, 1, 20_000), random.normal(size=20_000)
    explained = script("figure3").explained
    curve = label**2 / np.sqrt(4 / 45)  # of variance 1
    assert explained(curve + 0.5 * noise, label) == pytest.approx(1 / 1.25, abs=0.02)  # bins blur a little
    assert abs(stats.spearmanr(curve, label).statistic) < 0.03
    few = np.mean([explained(noise[part], label[part]) for part in np.arange(20_000).reshape(200, 100)])
    assert few == pytest.approx(0, abs=0.01)
    feature, halves = np.array([1.0, 2, 4, 9]).repeat(10), np.arange(2.0).repeat(20)
    f = stats.f_oneway(feature[:20], feature[20:]).statistic
    assert explained(feature, halves) == pytest.approx((f - 1) / (f + 38))  # with two values two bins


def test_a_feature_follows_what_explains_it():
    figure3 = script("figure3")
    rows = [(1, "straight", 0.3, 0.2, 0.4, 0.1, 99), (1, "curve", 0.0, -0.1, 0.1, 0.4, 99)]
    table = figure3.Table(rows=rows, names=figure3.CORRELATED)
    assert figure3.strongest(table, 1)["label"] == "curve"
    assert "1 curve (40 %, +0.00)" in figure3.followed(table)


def test_a_label_that_does_not_vary_is_refused(assembly):
    same = np.full(len(assembly.field.stars), 7.0)
    other = with_columns(assembly, "SNR", same, None)
    with pytest.raises(InputError, match="40 stars and a label that varies expected, got 314 stars with 1 values"):
        script("figure3").reproduce(other, 4, ["SNR"], BETWEEN)


def drawn_sequences(separation, share=0.3):
    random = np.random.default_rng(3)
    fe_h, high = random.normal(-0.2, 0.3, 40_000), random.random(40_000) < share
    feature = 3 + 20 * fe_h + 8 * fe_h**2 - 2 * (separation * high + random.normal(size=40_000))
    return script("figure3").sequences(feature, fe_h, high), high


def test_the_separation_and_the_valley_between_sequences():
    told, high = drawn_sequences(4)
    assert told.separation == pytest.approx(-4, abs=0.03)
    assert told.low < told.separation < told.high
    error = np.sqrt(1 / high.sum() + 1 / (~high).sum() + 16 / 2 / 40_000)
    assert (told.high - told.low) / 2 == pytest.approx(error, rel=0.02)
    normal = stats.norm
    near = [
        high.mean() * np.diff(normal.cdf(4 * np.array([place - 1.15, place - 0.85])))
        + (~high).mean() * np.diff(normal.cdf(4 * np.array([place - 0.15, place + 0.15])))
        for place in (0.5, 1)
    ]
    assert told.valley == pytest.approx((near[0] / near[1]).item(), rel=0.06)
    assert told.valley_low < near[0] / near[1] < told.valley_high
    assert told.parted


@pytest.mark.parametrize(("separation", "share"), [(1.5, 0.3), (0, 0.3), (4, 0.0001)])
def test_sequences_that_are_not_apart(separation, share):
    told, _ = drawn_sequences(separation, share)
    assert not told.parted
    assert np.isnan(told.separation) == (share < 0.001)


@pytest.mark.parametrize(("separation", "valley"), [(0.2, 0.5), (-4.2, 1.0), (np.nan, np.nan)])
def test_what_is_close_and_what_has_no_gap_is_not_parted(separation, valley):
    told = script("figure3").Sequences(separation, separation, separation, valley, 0.9 * valley, 1.1 * valley)
    assert not told.parted


def test_transformed_spectra_are_best(assembly):
    reproduced = script("figure4").reproduce(assembly)
    settings = {setting for item, setting, _ in published().index if item == "ablation"}
    assert {value.setting for value in reproduced.values if value.item == "ablation"} == settings
    on = {"spectra": assembly.spectra, "abundance subset": assembly.abundances("abundance_subset")}
    for name, kind, make in [
        ("spectra", "transformed", ScaledComponents),
        ("spectra", "scaled", Scaled),
        ("abundance subset", "raw", Identity),
    ]:
        slow = mean(rates_without(assembly, on[name], make))
        assert of(reproduced, "ablation", f"{name} {kind}").value == pytest.approx(slow)
    best = of(reproduced, "ablation", "spectra transformed")
    for value in reproduced.values:
        if value.item != "ablation":
            assert 0 < value.low < value.value < value.high
            rate = of(reproduced, "ablation", value.setting).value
            assert value.value == pytest.approx(rate - best.value)
    assert "8 of the 8 others have a higher rate than transformed spectra" in reproduced.finding


def test_transformed_by_clusters_that_tell_nothing(assembly):
    reproduced = script("figure4").reproduce(with_learner(assembly, Shuffled))
    differences = [value for value in reproduced.values if value.item != "ablation"]
    assert sum(value.low > 0 for value in differences) <= 2
    assert of(reproduced, "ablation minus spectra transformed", "abundance subset scaled").high < 0


def test_every_cluster_from_spectra_and_from_abundances(assembly):
    reproduced = script("figures9_10").reproduce(assembly)
    on = {"spectra": assembly.spectra, "abundance subset": assembly.abundances("abundance_subset")}
    for setting, representation in on.items():
        rates = rates_without(assembly, representation, ScaledComponents)
        told = {value.cluster: value.value for value in reproduced.values if value.cluster and value.setting == setting}
        assert told == pytest.approx({name: rate for name, (rate, _) in rates.items() if np.isfinite(rate)})
        assert set(told) <= {
            cluster for item, of, cluster in published().index if (item, of) == ("per_cluster", setting)
        }
        assert of(reproduced, "per_cluster mean", setting).value == pytest.approx(mean(rates))
    assert "published: 1.92 %" in reproduced.finding
    assert "published: 2.28 %" in reproduced.finding
    assert [len(figure.axes) for figure in reproduced.figures.values()] == [24, 24]  # two panels a cluster, two empty
    titles = [axes.get_title(loc="left") for axes in reproduced.figures["figure9"].axes]
    assert titles[:2] == ["Berkeley 17 (9)\nspectra", "Berkeley 17 (9)\nabundance subset"]
    row = reproduced.tables["figures9_10"][0]
    panel = reproduced.figures["figure9"].axes[0]
    assert panel.lines[0].get_xdata()[0] == pytest.approx(row["median_sibling_distance"])
    pairs = assembly.judged(assembly.spectra).pairs[row["cluster"]]
    assert row["doppelganger_rate"] == 0
    assert panel.texts[0].get_text() == f"0 of {pairs} pairs: < {100 - 100 * 0.16 ** (1 / pairs):.2g} %"


def judged_clusters(assembly):
    """Results on spectra and the abundance subset, their table, and what is said of them; the picture is slow."""
    figures = script("figures9_10")
    results = list(figures.judged(assembly))
    names = sorted(results[0].loco.members)
    table = figures.Table(
        rows=[row for result in results for row in figures.rows_of(result, names)], names=figures.HEAD
    )
    return results, table, figures.finding(results, table)


def test_clusters_whose_members_lack_abundances_are_named(assembly):
    iron = assembly.members.stars["FE_H"].copy()
    iron[assembly.members.stars["CLUSTER"] == "NGC 188"] = np.nan
    results, table, finding = judged_clusters(with_columns(assembly, "FE_H", None, iron))
    assert "NGC 188 (abundance subset)" in finding
    assert "NGC 188 (spectra)" not in finding
    own = table[table["cluster"] == "NGC 188"]
    assert (list(own["members"]), list(np.isnan(own["doppelganger_rate"]))) == ([14, 0], [False, True])
    panels = draw_histograms(results, ["NGC 188"]).axes
    assert panels[1].get_title(loc="left") == "NGC 188 (0)\nabundance subset"
    assert panels[1].texts[0].get_text() == "not judged"


def test_clusters_are_found_from_spectra_and_not_from_spectra_that_tell_nothing(assembly):
    for spectra, lower in ((assembly, True), (with_random_latents(assembly), False)):
        results, table, finding = judged_clusters(spectra)
        rates = [table["doppelganger_rate"][table["setting"] == setting] for setting in ("spectra", "abundance subset")]
        numbers = int((rates[0] < rates[1]).sum()), int((rates[0] > rates[1]).sum())
        assert (numbers[0] > numbers[1]) == lower
        assert f"Of 22 clusters spectra have the lower rate in {numbers[0]} and the higher in {numbers[1]}." in finding
        assert (results[0].loco.rate < results[1].loco.rate) == lower


def test_spectra_beat_abundances_and_few_dimensions_do(assembly):
    reproduced = script("headline").reproduce(assembly, [1, 2, 3, 5, 30], 0.95)
    spectra = of(reproduced, "ablation", "spectra transformed")
    subset = of(reproduced, "ablation", "abundance subset transformed")
    assert spectra.value == pytest.approx(mean(rates_without(assembly, assembly.spectra, ScaledComponents)))
    assert spectra.high < subset.low
    assert of(reproduced, "dimensions that suffice", "as good as all dimensions").value == 2
    assert of(reproduced, "dimensions that suffice", "as good as abundance subset").value == 1
    assert set(reproduced.tables["headline"]["dimensions"]) == {1, 2, 3, 5, 12}
    assert "published: 2.0 %, 1.8 % with the four most important dimensions, and 2.3 %" in reproduced.finding
    with pytest.raises(InputError, match="level=1 must lie between 0 and 1"):
        script("headline").reproduce(assembly, [1], 1)


def test_spectra_that_tell_nothing_do_not_beat_abundances(assembly):
    reproduced = script("headline").reproduce(with_random_latents(assembly), [1], 0.95)
    spectra = of(reproduced, "ablation", "spectra transformed")
    assert spectra.low > of(reproduced, "ablation", "abundance subset transformed").high
    assert np.isnan(of(reproduced, "dimensions that suffice", "as good as abundance subset").value)
    assert "above that of the abundances none" in reproduced.finding


def test_the_smallest_number_that_is_not_significantly_worse():
    headline = script("headline")
    rows = [
        (1, 0.0, "x", 0.0, 0.0, 0.0, True),
        (3, 0.0, "x", 0.0, 0.0, 0.0, False),
        (5, 0.0, "x", 0.0, 0.0, 0.0, False),
    ]
    table = headline.Table(rows=rows, names=headline.HEAD)
    assert headline.fewest(table, "x") == 3
    assert np.isnan(headline.fewest(table[:1], "x"))


def test_what_needs_a_column_that_is_not_there_is_skipped_and_the_rest_runs(assembly, tmp_path):
    names = ["table1", "figure3", "figure4", "figures9_10", "headline"]
    done, *skipped = reproduce(without_column(assembly, "FE_H"), names, tmp_path)
    assert not done.skipped
    assert "no column FE_H" in skipped[0].skipped
    assert all("no abundances of Fe" in outcome.skipped for outcome in skipped[1:])
    assert [path.name for path in tmp_path.iterdir()] == ["table1"]
    with pytest.raises(InputError, match="no column ALPHA_M"):
        script("figure3").reproduce(without_column(assembly, "ALPHA_M"), 4, LABELS, BETWEEN)


def test_an_item_is_the_same_in_whatever_company_and_order(assembly, tmp_path, monkeypatch):
    monkeypatch.setattr("rsca_torch.report.reproduction.save_figure", lambda *_: None)  # takes a second each
    few = {"figure2.n_components": [4, 14], "figure5.n_components": [4, 12], "figure5.training_clusters": [15]}
    few |= {"figure5.draws": 2, "memberships.draws": 1, "memberships.shares": [0.2], "table1.dimensions": [1, 2]}
    names = ["figure2", "table1", "figure5", "memberships"]
    found = {}
    for place, order in enumerate((names, names[::-1])):
        anew = Assembly(copy.deepcopy(assembly.config), assembly.store)
        for option, value in few.items():
            OmegaConf.update(anew.config.experiments, option, value)
        for outcome in reproduce(anew, order, tmp_path / str(place)):
            assert not outcome.skipped
            assert outcome.values == found.setdefault(outcome.name, outcome.values), (outcome.name, order)
    assert [*found] == names
