"""scikit-learn's own checks of an estimator: all of them apply, and none is expected to fail.

Two are skipped unless SCIPY_ARRAY_API is set (check_array_api_input): X is made NumPy's first. The estimators have one
component, as the checks draw three blobs of ten stars, which cannot carry the 60 that are usual.
"""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from rsca_torch.export.sklearn import RSCAMetric, RSCATransformer

pytestmark = pytest.mark.filterwarnings("ignore")  # the checks draw no field stars, and some of one component


@parametrize_with_checks([RSCATransformer(n_components=1), RSCAMetric(n_components=1)])
def test_scikit_learn_s_checks(estimator, check):
    check(estimator)
