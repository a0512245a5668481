"""How much of a variance something explains: linear probes, on stars that they were not fitted on, and groups."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap
from sklearn.model_selection import PredefinedSplit

from rsca_torch.evaluation.result import LEVEL
from rsca_torch.learners.groups import Groups
from rsca_torch.learners.learner import Labels

__all__ = ["Explained", "explained", "explained_by_groups", "predicted"]

RESAMPLES = 300
Floats = NDArray[np.float64]


class Explained(NamedTuple):
    """A share of a variance, and its 68 % interval."""

    r2: float
    low: float
    high: float


def predicted(features: Floats, labels: Floats, fold: NDArray[np.int64], penalty: ArrayLike = 0.0) -> Floats:
    """(n, T) labels of the stars of every fold, by a ridge that is fitted on the other folds.

    scikit-learn's Ridge has one penalty for all features, and one that does not grow with the number of stars.

    Args:
        features: (n, D).
        labels: (n, T).
        fold: (n,) the number of each star's fold.
        penalty: one, or (D,) one a feature: the variance, in the feature's units squared, of noise that would lessen
            its weight as much. 0: least squares.
    """
    told = np.empty_like(labels)
    for fitted, judged in PredefinedSplit(fold).split():
        centre, mean = features[fitted].mean(0), labels[fitted].mean(0)
        deviations = features[fitted] - centre
        scatter = deviations.T @ deviations + np.diag(len(fitted) * (penalty + np.zeros_like(centre)))
        weight = np.linalg.pinv(scatter, hermitian=True) @ deviations.T @ (labels[fitted] - mean)
        told[judged] = (features[judged] - centre) @ weight + mean
    return told


def explained(error: Floats, reference: Floats, seed: int) -> Explained:
    """1 - sum of errors / sum of reference, with its interval from a bootstrap over stars.

    Args:
        error: (n,) squares of what is left of each star's label.
        reference: (n,) squares of what there was to explain.
        seed: of the bootstrap.
    """

    def share(error: Floats, reference: Floats, axis: int = -1) -> Any:  # noqa: ANN401  (a number, or one a resample)
        return 1 - error.sum(axis) / reference.sum(axis)

    options = {"paired": True, "method": "percentile", "n_resamples": RESAMPLES, "confidence_level": LEVEL}
    low, high = bootstrap((error, reference), share, rng=seed, **options).confidence_interval
    return Explained(float(share(error, reference)), float(low), float(high))


def explained_by_groups(sample: Floats, labels: Labels) -> Floats:
    """(D,) of each feature's variance, that stars of a group have in common; about 0 where groups tell nothing.

    Args:
        sample: (n, D) features.
        labels: (n,) each star's group.
    """
    groups = Groups(labels)
    within = groups.centred(torch.from_numpy(sample)).square().sum(0).numpy() / (len(sample) - len(groups))
    return np.asarray(1 - within / sample.var(0, ddof=1))
