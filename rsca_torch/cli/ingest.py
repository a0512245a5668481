"""`rsca ingest`: survey files to a store."""

from __future__ import annotations

import logging

import hydra
from omegaconf import DictConfig

from rsca_torch.survey.found_censoring import ingest as ingest_survey

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """Survey files to a store."""
    store = ingest_survey(hydra.utils.instantiate(config.survey), config.store)
    following = "compare" if store.is_member.any() else "embed model=FILE out=FILE"
    log.info("store in %s; next: rsca %s store=%s", store.path, following, store.path)
