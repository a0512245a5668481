"""`rsca ingest`: survey files to a store."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from shlex import quote

import hydra
from omegaconf import DictConfig

from rsca_torch.files.places import claimed
from rsca_torch.report.ingest_summary import features_table, print_summary
from rsca_torch.report.terminal import print_table, progress
from rsca_torch.survey.ingest import ingest

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """Read survey files into a store."""
    survey = hydra.utils.instantiate(config.survey)
    with claimed(Path(config.store)), progress() as told:
        store = ingest(
            survey,
            config.store,
            progress=partial(told.step, "reading spectra"),
            parallel=hydra.utils.instantiate(config.parallel),
            found=lambda features: print_table(features_table(features)),
        )
    print_summary(store)
    following = "compare" if store.is_member.any() else "embed model=FILE out=FILE"
    log.info("store in %s; next: rsca %s %s", store.path, following, quote(f"store={store.path}"))
