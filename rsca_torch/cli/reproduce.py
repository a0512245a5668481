"""`rsca reproduce`: the paper's figures and tables."""

from __future__ import annotations

import logging

from omegaconf import DictConfig

from rsca_torch.cli.inputs import open_store, output_path, require_clusters
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.errors import InputError
from rsca_torch.report.reproduction import items_of, write_summary
from rsca_torch.report.reproduction import reproduce as reproduce_items
from rsca_torch.report.reproduction import summary_table as reproduced_table
from rsca_torch.report.terminal import print_table, progress

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """The paper's figures and tables, with what was published beside what comes out."""
    out, names = output_path(config.out), items_of(config)
    if not isinstance(config.compressor.n_components, int):
        raise InputError(f"compressor.n_components={config.compressor.n_components}: reproduce takes one number")
    simulated = config.store is None
    with progress() as told:
        store = open_store(config, told)
        require_clusters(store)
        out.mkdir(parents=True, exist_ok=True)
        outcomes = reproduce_items(Assembly(config, store, told), names, out, told.step)
    write_summary(out, outcomes, simulated)
    print_table(reproduced_table(outcomes, simulated))
    done = sum(not outcome.skipped for outcome in outcomes)
    log.info("%d of %d experiments; summary.md, summary.csv and a folder for each in %s", done, len(names), out)
