"""RSCA as scikit-learn has estimators: the same features and rates as `RSCA.fit` and `leave_one_cluster_out`."""

from __future__ import annotations

import pickle

import numpy as np
import pandas
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, LeaveOneGroupOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from rsca_torch import RSCA, InputError, NumericalWarning, ScaledComponents, Spectra, leave_one_cluster_out
from rsca_torch.export.sklearn import ClusterFolds, RSCAMetric, RSCATransformer

pytestmark = pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")  # few stars, few dimensions
OPTIONS = {"n_components": 3, "trim": None}


@pytest.fixture(scope="module")
def stars():
    """90 field stars and 24 members of four clusters, mixed, 30 bins with errors, a twentieth of them censored."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.array(["", "A", "B", "C", "D"]), [90, 6, 6, 6, 6])
    latents = rng.normal(size=(len(y), 3))
    for name in "ABCD":
        latents[y == name] = rng.normal(size=3) + rng.normal(size=(6, 3)) * [0.2, 0.3, 1.0]
    sigma = rng.uniform(0.05, 0.15, size=(len(y), 30))
    X = 1 + latents @ rng.normal(size=(3, 30)) + sigma * rng.normal(size=sigma.shape)
    X[rng.random(X.shape) < 0.05] = np.nan
    order = rng.permutation(len(y))
    return X[order], y[order], sigma[order]


def layer(X, y, sigma=None):
    field, members = (Spectra(X[rows], sigma=None if sigma is None else sigma[rows]) for rows in (y == "", y != ""))
    return RSCA.fit(field, members, y[y != ""], **OPTIONS)


@pytest.mark.parametrize("has_sigma", [True, False], ids=["with errors", "without"])
def test_features_are_those_of_the_layer(stars, has_sigma):
    X, y, sigma = stars
    sigma = sigma if has_sigma else None
    ours = RSCATransformer(**OPTIONS).fit(X, y, sigma=sigma)
    theirs = layer(X, y, sigma)
    np.testing.assert_array_equal(ours.transform(X, sigma=sigma), theirs.embed(Spectra(X, sigma=sigma)).numpy())
    np.testing.assert_array_equal(ours.rsca_.weight, theirs.weight)
    assert ours.groups_.tolist() == ["A", "B", "C", "D"]
    assert ours.transform(X.astype(np.float32)).dtype == np.float32
    again = RSCATransformer(**OPTIONS).fit_transform(X, y, sigma=sigma)
    np.testing.assert_array_equal(again, ours.transform(X, sigma=sigma))


def test_no_label_is_written_in_many_ways_and_field_stars_may_come_apart(stars):
    X, y, sigma = stars
    usual = RSCATransformer(**OPTIONS).fit(X, y, sigma=sigma)
    numbers = np.select([y == name for name in "ABCD"], range(4), -1)
    for labels in (
        numbers,
        np.where(numbers < 0, np.nan, numbers),
        [None if name == "" else name for name in y],
        pandas.Series(y).replace("", None),
        y[:, None],
    ):
        np.testing.assert_array_equal(
            RSCATransformer(**OPTIONS).fit(X, labels, sigma=sigma).transform(X), usual.transform(X)
        )
    members = y != ""
    apart = RSCATransformer(**OPTIONS).fit(
        X[members], y[members], sigma=sigma[members], field=X[~members], field_sigma=sigma[~members]
    )
    np.testing.assert_array_equal(apart.transform(X), usual.transform(X))
    assert apart.score(X[members], y[members], sigma=sigma[members]) == usual.score(X, y, sigma=sigma)


@pytest.mark.parametrize("floor", ["noise", None])
def test_the_score_is_minus_the_rate_leaving_one_cluster_out(stars, floor):
    X, y, sigma = stars
    rsca = RSCATransformer(**OPTIONS, floor=floor).fit(X, y, sigma=sigma)
    step_1 = rsca.rsca_.ppca
    z = step_1.embed(Spectra(X, sigma=sigma), covariances=True)
    field, members = z.latents[torch.from_numpy(y == "")], z.latents[torch.from_numpy(y != "")]
    result = leave_one_cluster_out(
        lambda: ScaledComponents(robust=False, floor=floor), field, members, y[y != ""],
        noise=z.noise[torch.from_numpy(y != "")],
    )  # fmt: skip
    assert 0.005 < result.rate < 0.5
    assert rsca.score(X, y, sigma=sigma) == pytest.approx(-result.rate, rel=1e-12)
    in_sample = leave_one_cluster_out(
        lambda: ScaledComponents(robust=False, floor=floor), field, members, y[y != ""], held_out=False,
        noise=z.noise[torch.from_numpy(y != "")],
    )  # fmt: skip
    assert in_sample.rate != result.rate
    # Each fold of a search fits step 1 anew, on the same field: the same clusters' rates.
    folds = cross_val_score(
        RSCATransformer(**OPTIONS, floor=None), np.nan_to_num(X, nan=1.0), y, cv=ClusterFolds(), error_score="raise"
    )
    direct = RSCATransformer(**OPTIONS, floor=None).fit(np.nan_to_num(X, nan=1.0), y)
    alone = [direct.score(np.nan_to_num(X, nan=1.0)[(y == name)], y[y == name]) for name in "ABCD"]
    np.testing.assert_allclose(folds, alone, rtol=1e-12)


def test_a_cluster_that_the_fit_did_not_see_is_judged_by_the_fit(stars):
    X, y, _ = stars
    seen = y != "A"
    rsca = RSCATransformer(**OPTIONS).fit(X[seen], y[seen])
    other = np.where(y == "A", "Z", y)
    assert rsca.score(X[~seen], y[~seen]) == rsca.score(X[~seen], other[~seen])
    near = np.concatenate([X[~seen], X[~seen][:1]])  # one stranger, who is a member's double: as near as siblings
    assert rsca.score(near, [*y[~seen], ""]) < -0.3
    assert rsca.score(near, [*y[~seen], ""]) != rsca.score(X[~seen], y[~seen])
    with pytest.raises(InputError, match="score needs a cluster with two stars in X"):
        rsca.score(X[:3], ["", "A", "B"])


def test_a_search_over_the_number_of_components(stars):
    X, y, sigma = stars
    dimmed = make_pipeline(FunctionTransformer(), RSCATransformer(**OPTIONS))
    grid = {"rscatransformer__n_components": [1, 3]}
    search = GridSearchCV(dimmed, grid, cv=ClusterFolds(2), error_score="raise").fit(X, y)
    assert search.best_params_ == {"rscatransformer__n_components": 3}
    assert -0.5 < search.best_score_ < 0
    # scikit-learn's own folds see members alone; the field comes apart.
    members = y != ""
    for cv in (LeaveOneGroupOut(), GroupKFold(2)):
        search = GridSearchCV(RSCATransformer(**OPTIONS), {"n_components": [1, 3]}, cv=cv, error_score="raise")
        search.fit(X[members], y[members], groups=y[members], field=X[~members])
        assert search.best_params_ == {"n_components": 3}
    with sklearn.config_context(enable_metadata_routing=True):
        routed = RSCATransformer(**OPTIONS).set_fit_request(sigma=True).set_score_request(sigma=True)
        routed.set_transform_request(sigma=True)
        search = GridSearchCV(routed, {"n_components": [3]}, cv=ClusterFolds(), error_score="raise")
        search.fit(X, y, sigma=sigma)
        plain = RSCATransformer(**OPTIONS).fit(X, y, sigma=sigma)
        np.testing.assert_array_equal(search.best_estimator_.transform(X, sigma=sigma), plain.transform(X, sigma=sigma))


def test_folds_of_clusters_keep_the_field():
    y = np.array(["A"] * 5 + ["B"] * 3 + ["C"] * 2 + ["D"] + [""] * 4)
    for folds, parts in ((ClusterFolds(), [["A"], ["B"], ["C"]]), (ClusterFolds(2), [["A"], ["B", "C"]])):
        found = list(folds.split(y, y))
        assert [np.unique(y[test]).tolist() for _, test in found] == parts
        assert len(found) == folds.get_n_splits(y, y)
        for train, test in found:
            assert sorted([*train, *test]) == list(range(len(y)))
            assert (y[train] == "").sum() == 4
    assert [len(test) for _, test in ClusterFolds().split(y, None, y)] == [5, 3, 2]
    for folds, labels in ((ClusterFolds(4), y), (ClusterFolds(1), y), (ClusterFolds(), y[:5])):
        with pytest.raises(InputError, match="n_splits from 2 to the number of clusters"):
            list(folds.split(labels, labels))
    with pytest.raises(InputError, match="give y, or groups"):
        ClusterFolds().get_n_splits(y)


def test_neighbours_are_those_of_a_brute_force_search_near_twins_too(stars):
    X, y, _ = stars
    X = np.nan_to_num(X, nan=1.0)
    X[y == ""] = np.where(np.arange(90)[:, None] == 1, X[y == ""][0] + 1e-9, X[y == ""])  # a twin
    metric = RSCAMetric(**OPTIONS).fit(X, y)
    features = metric.transform(X)
    distances, rows = metric.kneighbors(X[:7], n_neighbors=4)
    whole = np.sqrt(((features[:7, None] - features) ** 2).sum(-1))
    np.testing.assert_allclose(distances, np.sort(whole)[:, :4], atol=1e-10)
    np.testing.assert_array_equal(
        np.take_along_axis(whole, rows, 1), np.take_along_axis(whole, np.argsort(whole)[:, :4], 1)
    )
    assert rows[:, 0].tolist() == list(range(7))
    twins = np.flatnonzero(y == "")[:2]
    own = metric.kneighbors(n_neighbors=1, return_distance=False)
    assert own.shape == (len(y), 1)
    assert own[twins[0], 0] == twins[1]
    assert metric.pair_distance(X[:7], X[7:14]).tolist() == [
        np.linalg.norm(features[n] - features[n + 7]) for n in range(7)
    ]
    with pytest.raises(InputError, match="pairs of stars expected, got 2 and 3"):
        metric.pair_distance(X[:2], X[:3])
    members = y != ""
    apart = RSCAMetric(**OPTIONS).fit(X[members], y[members], field=X[~members])
    order = np.concatenate([np.flatnonzero(members), np.flatnonzero(~members)])
    np.testing.assert_array_equal(order[apart.kneighbors(X[:7], 4, return_distance=False)], rows)


def test_tables_of_pandas_names_copies_and_pickles(stars):
    X, y, _ = stars
    table = pandas.DataFrame(X, columns=[f"b{number}" for number in range(30)])
    metric = RSCAMetric(**OPTIONS, wavelength=np.linspace(5000, 5100, 30)).set_output(transform="pandas")
    features = metric.fit(table, y).transform(table)
    assert features.columns.tolist() == [f"rscametric{number}" for number in range(3)]
    assert metric.feature_names_in_.tolist() == table.columns.tolist()
    assert metric.rsca_.wavelength[0] == 5000
    again = pickle.loads(pickle.dumps(metric))
    np.testing.assert_array_equal(again.transform(table), features)
    assert again.score(table, y) == metric.score(table, y)
    fresh = clone(metric)
    assert not hasattr(fresh, "rsca_")
    np.testing.assert_array_equal(fresh.fit(table, y).transform(table), features)


def test_what_stands_in_a_censored_bin_never_matters(stars):
    X, y, sigma = stars
    wild = np.where(np.isnan(X), np.nan, sigma)
    rsca = RSCATransformer(**OPTIONS).fit(X, y, sigma=sigma)
    other = RSCATransformer(**OPTIONS).fit(X, y, sigma=wild)
    np.testing.assert_array_equal(rsca.transform(X, sigma=wild), other.transform(X, sigma=sigma))


def test_what_cannot_be_fitted_is_refused(stars):
    X, y, sigma = stars
    for arguments, message in (
        (((X,), {}), "requires y to be passed"),
        (((X, np.full(len(y), "")), {}), "none of the 114 stars has a label in y"),
        (((X, np.stack([y, y], 1)), {}), "one label a star expected in y"),
        (((X, y), {"sigma": sigma[:, 1:]}), r"sigma must have the shape of its flux \(114, 30\)"),
        (((X, y), {"sigma": sigma, "field": X[:9]}), "give sigma and field_sigma"),
        (((X, y), {"field": X[:9], "field_sigma": sigma[:9]}), "give sigma and field_sigma"),
        (((X[:, :2], y), {}), "n_components=3"),
    ):
        with pytest.raises(InputError, match=message):
            RSCATransformer(**OPTIONS).fit(*arguments[0], **arguments[1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        RSCATransformer(**OPTIONS).fit(X, y[1:])
    with pytest.warns(NumericalWarning, match="the labelled stars themselves are the field"):
        alone = RSCATransformer(**OPTIONS).fit(X[y != ""], y[y != ""])
    assert -1 <= alone.score(X[y != ""], y[y != ""]) < 0
