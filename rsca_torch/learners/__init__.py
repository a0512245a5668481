"""Plugins that turn latents into a metric."""

from rsca_torch.learners.averaged import Averaged
from rsca_torch.learners.learner import Identity, Labels, Learner, Recipe
from rsca_torch.learners.linear import Linear
from rsca_torch.learners.scaled_components import Scaled, ScaledComponents, require_dimensions

__all__ = [
    "Averaged",
    "Identity",
    "Labels",
    "Learner",
    "Linear",
    "Recipe",
    "Scaled",
    "ScaledComponents",
    "require_dimensions",
]
