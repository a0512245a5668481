"""Plugins that turn latents into a metric."""

from rsca_torch.learners.learner import Identity, Labels, Learner
from rsca_torch.learners.scaled_components import Scaled, ScaledComponents, require_dimensions

__all__ = ["Identity", "Labels", "Learner", "Scaled", "ScaledComponents", "require_dimensions"]
