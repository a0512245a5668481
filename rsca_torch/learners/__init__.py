"""Plugins that turn latents, or spectra, into a metric."""

from rsca_torch.learners.averaged import Averaged
from rsca_torch.learners.classical import KISSME, LDA, RCA, PCAWhitening
from rsca_torch.learners.floor import bounded_scatter, repeat_scatter
from rsca_torch.learners.gradient import GradientLearner
from rsca_torch.learners.large_margin import LargeMargin
from rsca_torch.learners.learner import Identity, Labels, Learner, Recipe
from rsca_torch.learners.linear import Linear
from rsca_torch.learners.nca import NCA
from rsca_torch.learners.scaled_components import ScaledComponents, require_dimensions
from rsca_torch.learners.siamese import Siamese
from rsca_torch.learners.spectral import SpectralSiamese
from rsca_torch.learners.weighing import Scaled

__all__ = [
    "KISSME",
    "LDA",
    "NCA",
    "RCA",
    "Averaged",
    "GradientLearner",
    "Identity",
    "Labels",
    "LargeMargin",
    "Learner",
    "Linear",
    "PCAWhitening",
    "Recipe",
    "Scaled",
    "ScaledComponents",
    "Siamese",
    "SpectralSiamese",
    "bounded_scatter",
    "repeat_scatter",
    "require_dimensions",
]
