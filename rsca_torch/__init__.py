"""Chemical likeness of stars, learned from open clusters: RSCA as a PyTorch metric-learning framework."""

from importlib.metadata import version as _version

from rsca_torch.encoder import Encoder
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.doppelganger import DoppelgangerRate, allowed_pairs, doppelganger_rate
from rsca_torch.evaluation.leave_one_out import leave_one_cluster_out
from rsca_torch.evaluation.result import LOCOResult, paired_difference
from rsca_torch.learners import (
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
from rsca_torch.ppca.fit import fit_ppca
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.removal import Grouping, Removal
from rsca_torch.rsca import RSCA
from rsca_torch.spectra.spectra import Spectra

__version__ = _version("rsca_torch")

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
    "fit_ppca",
    "leave_one_cluster_out",
    "paired_difference",
    "repeat_scatter",
]
