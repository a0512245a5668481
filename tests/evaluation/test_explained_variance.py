"""Linear probes and groups, against scikit-learn and the analysis of variance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from rsca_torch.evaluation.explained_variance import explained, explained_by_groups, predicted


def test_probes_are_a_ridge_on_stars_that_it_was_not_fitted_on():
    random = np.random.default_rng(0)
    features, noise = random.normal(size=(60, 4)) * [1, 2, 3, 4] + 5, random.normal(size=(60, 1))
    labels = features @ [[0.3], [0], [0.1], [-0.2]] + 0.3 * noise + 7
    fold = np.arange(60) % 5
    for penalty in (0.0, 0.7):
        model = Ridge(penalty * 48) if penalty else LinearRegression()
        expected = cross_val_predict(model, features, labels[:, 0], cv=PredefinedSplit(fold))
        np.testing.assert_allclose(predicted(features, labels, fold, penalty)[:, 0], expected, rtol=1e-9)
        told = explained(*(np.square(labels[:, 0] - other) for other in (expected, labels.mean())), 0)
        assert told.r2 == pytest.approx(r2_score(labels, expected))
        assert told.low < told.r2 < told.high


def test_the_interval_is_a_bootstrap_over_stars():
    random = np.random.default_rng(0)
    reference = random.gamma(1, size=400)
    error = reference * random.uniform(0.2, 0.6, 400)
    drawn = random.integers(400, size=(20_000, 400))
    ends = np.quantile(1 - error[drawn].sum(1) / reference[drawn].sum(1), [0.16, 0.84])
    told = explained(error, reference, 0)
    assert told[1:] == pytest.approx(ends, abs=0.1 * np.ptp(ends))  # of 300 resamples
    assert told.r2 == pytest.approx(1 - error.sum() / reference.sum())
    assert explained(error, reference, 0) == told != explained(error, reference, 1)


def test_what_groups_have_in_common_is_as_in_the_analysis_of_variance():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(40).astype(str), random.integers(2, 9, 40))
    alike, own = random.normal(size=40)[labels.astype(int)], random.normal(size=(len(labels), 2))
    sample = own + np.outer(alike, [0, 2])
    told = explained_by_groups(sample, labels)
    for share, feature in zip(told, sample.T, strict=True):
        f = stats.f_oneway(*(feature[labels == label] for label in np.unique(labels))).statistic
        assert share == pytest.approx(1 - (len(labels) - 1) / (len(labels) - 40 + 39 * f))
    assert told == pytest.approx([0, 4 / 5], abs=0.12)
