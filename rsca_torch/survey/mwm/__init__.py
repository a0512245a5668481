"""SDSS DR19 and DR20: the Milky Way Mapper's catalogue and spectra, as Astra writes them (docs/dr19.md)."""

from rsca_torch.survey.mwm.reader import MwmReader

__all__ = ["MwmReader"]
