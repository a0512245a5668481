"""`rsca simulate`: a survey that looks like the archive's."""

from __future__ import annotations

import logging
from functools import partial
from shlex import quote

import hydra
from omegaconf import DictConfig

from rsca_torch.cli.inputs import output_path
from rsca_torch.files.places import claimed
from rsca_torch.report.terminal import progress

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """Write a simulated survey as an archive's tree."""
    root = output_path(config.root)
    simulation = hydra.utils.instantiate(config.simulation)
    with claimed(root), progress() as told:
        simulation.write(root, config.seed, partial(told.step, "simulating spectra"))
    release = simulation.release  # dr16 is what ingest reads where nothing is said
    survey = "" if release == "dr16" else f"survey={'sdss' if release == 'dr19' else 'apogee'}_{release} "
    log.info("simulated survey in %s; next: rsca ingest %s%s store=DIR", root, survey, quote(f"survey.root={root}"))
