"""RSCA as scikit-learn has estimators: in pipelines, searches and whatever else takes one (docs/scikit-learn.md)."""

from rsca_torch.export.sklearn.folds import ClusterFolds
from rsca_torch.export.sklearn.metric import RSCAMetric
from rsca_torch.export.sklearn.transformer import RSCATransformer

__all__ = ["ClusterFolds", "RSCAMetric", "RSCATransformer"]
