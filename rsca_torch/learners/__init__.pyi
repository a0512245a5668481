"""Plugins that turn latents, or spectra, into a metric."""

from .averaged import Averaged
from .classical import KISSME, LDA, RCA, PCAWhitening
from .floor import bounded_scatter, repeat_scatter
from .gradient import GradientLearner
from .large_margin import LargeMargin
from .learner import Identity, Labels, Learner, Recipe
from .linear import Linear
from .nca import NCA
from .scaled_components import ScaledComponents, require_dimensions
from .siamese import Siamese
from .spectral import SpectralSiamese
from .weighing import Scaled

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
