"""A simulated survey, written as the same FITS products as the real one (docs/data.md says how true to life it is)."""

from rsca_torch.survey.simulated.catalogue import Pipeline
from rsca_torch.survey.simulated.companions import Companions
from rsca_torch.survey.simulated.detector import Detector
from rsca_torch.survey.simulated.faint_lines import FaintLines
from rsca_torch.survey.simulated.groups import Groups
from rsca_torch.survey.simulated.repeats import Repeats
from rsca_torch.survey.simulated.spectra import Synthesis
from rsca_torch.survey.simulated.stars import Population
from rsca_torch.survey.simulated.survey import SimulatedSurvey

__all__ = [
    "Companions",
    "Detector",
    "FaintLines",
    "Groups",
    "Pipeline",
    "Population",
    "Repeats",
    "SimulatedSurvey",
    "Synthesis",
]
