"""`rsca simulate`: a survey that looks like the archive's."""

from __future__ import annotations

import logging

import hydra
from omegaconf import DictConfig

from rsca_torch.cli.inputs import output_path

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """Write a simulated survey as an archive's tree."""
    root = output_path(config.root)
    hydra.utils.instantiate(config.simulation).write(root, config.seed)
    log.info("simulated survey in %s; next: rsca ingest survey.root=%s store=DIR", root, root)
