"""Chemical likeness of stars, learned from open clusters: RSCA as a PyTorch metric-learning framework."""

from . import errors, evaluation, layers, learners, ppca, removal, spectra, survey, testing, training
from .errors import InputError, NumericalWarning
from .evaluation.doppelganger import allowed_pairs, doppelganger_rate
from .evaluation.doppelganger_metric import DoppelgangerRate
from .evaluation.leave_one_out import leave_one_cluster_out
from .evaluation.result import LOCOResult, paired_difference
from .layers.encoder import Encoder
from .layers.rsca import RSCA
from .learners import (
    KISSME,
    LDA,
    NCA,
    RCA,
    Identity,
    LargeMargin,
    Learner,
    PCAWhitening,
    Recipe,
    Scaled,
    ScaledComponents,
    Siamese,
    repeat_scatter,
)
from .ppca.fit import fit_ppca
from .ppca.model import MaskedPPCA
from .removal import Grouping, Removal
from .siblings.likely_siblings import likely_siblings
from .spectra.spectra import Spectra

__version__: str

__all__ = [
    "KISSME",
    "LDA",
    "NCA",
    "RCA",
    "RSCA",
    "DoppelgangerRate",
    "Encoder",
    "Grouping",
    "Identity",
    "InputError",
    "LOCOResult",
    "LargeMargin",
    "Learner",
    "MaskedPPCA",
    "NumericalWarning",
    "PCAWhitening",
    "Recipe",
    "Removal",
    "Scaled",
    "ScaledComponents",
    "Siamese",
    "Spectra",
    "__version__",
    "allowed_pairs",
    "doppelganger_rate",
    "errors",
    "evaluation",
    "fit_ppca",
    "layers",
    "learners",
    "leave_one_cluster_out",
    "likely_siblings",
    "paired_difference",
    "ppca",
    "removal",
    "repeat_scatter",
    "spectra",
    "survey",
    "testing",
    "training",
]
