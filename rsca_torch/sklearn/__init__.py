"""RSCA as scikit-learn has estimators: in pipelines, searches and whatever else takes one (docs/scikit-learn.md)."""

from rsca_torch.sklearn.folds import ClusterFolds
from rsca_torch.sklearn.metric import RSCAMetric
from rsca_torch.sklearn.transformer import RSCATransformer

__all__ = ["ClusterFolds", "RSCAMetric", "RSCATransformer"]
