"""`rsca why ID`: what became of a star when its survey was read."""

from __future__ import annotations

from omegaconf import DictConfig

from rsca_torch.spectra.labels import printable
from rsca_torch.survey.fates import fates
from rsca_torch.survey.store import Store

__all__ = ["run"]


def run(config: DictConfig) -> None:
    """What became of a star when its survey was read: kept, or the first cut that it failed."""
    print("\n".join(map(printable, fates(Store.open(config.store), str(config.id)))))
