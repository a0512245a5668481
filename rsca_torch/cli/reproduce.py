"""`rsca reproduce`: the paper's figures and tables."""

from __future__ import annotations

import logging

from omegaconf import DictConfig

from rsca_torch.cli.inputs import command_typed, open_assembly, output_path
from rsca_torch.errors import InputError
from rsca_torch.files.places import claimed
from rsca_torch.report import reproduction
from rsca_torch.report.page.page import page_or_warning
from rsca_torch.report.page.record import RECORD, run_said, write_record
from rsca_torch.report.results import versions
from rsca_torch.report.terminal import print_table, progress

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """The paper's figures and tables, with what was published beside what comes out."""
    out, names = output_path(config.out), reproduction.items_of(config)
    if not isinstance(config.compressor.n_components, int):
        raise InputError(f"compressor.n_components={config.compressor.n_components}: reproduce takes one number")
    simulated = config.store is None
    said = run_said(command_typed("reproduce", *names))
    with claimed(out), progress() as told, said as warned:
        assembly = open_assembly(config, told)
        out.mkdir(parents=True, exist_ok=True)
        outcomes = reproduction.reproduce(assembly, names, out)
        reproduction.write_summary(out, outcomes, simulated)
        earlier = (problem for outcome in outcomes for problem in outcome.problems)  # of those that were finished too
        warned.problems = list(dict.fromkeys([*earlier, *warned.problems]))
        write_record(
            out / RECORD,
            warned,
            assembly.store,
            experiments=reproduction.told(outcomes, simulated),
            commands={name: command_typed("reproduce", name) for name in names},
            checksum=assembly.store.checksum,
            versions=versions(),
        )
        page = config.page and page_or_warning(out)
    print_table(reproduction.summary_table(outcomes, simulated))
    done = sum(not outcome.skipped for outcome in outcomes)
    log.info(
        "%d of %d experiments; summary.md, summary.csv%s and a folder for each in %s",
        done,
        len(names),
        ", report.html" if page else "",
        out,
    )
