"""`rsca fit`: an RSCA model of all clusters of a store."""

from __future__ import annotations

import logging

from omegaconf import DictConfig

from rsca_torch.cli.inputs import open_assembly, output_path
from rsca_torch.comparison.assembly import require_rsca
from rsca_torch.files.places import claimed, require_new_file
from rsca_torch.report.terminal import progress

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """Fit RSCA on all clusters of a store and save it."""
    out = output_path(config.out)
    require_new_file(out)
    require_rsca(config)
    with claimed(out), progress() as told:
        require_new_file(out)  # now that nobody else makes it
        model = open_assembly(config, told).layer()
        model.save(out)
    if "why" in model.calibration:
        log.warning("warning: the model tells no probabilities of siblings: %s", model.calibration["why"])
    telling = int(model.sigma_r.isfinite().sum())
    log.info("RSCA of %d features, %d of which tell siblings apart, in %s", len(model.sigma_r), telling, out)
