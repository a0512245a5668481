"""`rsca compare`: doppelganger rates of learners on spectra and abundances."""

from __future__ import annotations

import logging
from pathlib import Path

from astropy.table import Table
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rsca_torch.cli.inputs import command_typed, is_default, open_assembly, output_path
from rsca_torch.comparison.comparison import Comparison
from rsca_torch.comparison.finished_run import rate_of_finished_run
from rsca_torch.comparison.groups_given import every_group
from rsca_torch.comparison.progress import Progress
from rsca_torch.comparison.star_table import compare_table
from rsca_torch.comparison.sweep_jobs import job_folder, job_overrides
from rsca_torch.errors import InputError
from rsca_torch.files.places import claimed, require_new_folder
from rsca_torch.files.whole import atomic_folder, updated_folder
from rsca_torch.learners.registry import CONFIG, maker
from rsca_torch.report.comparison_folder import (
    print_comparison,
    write_comparison,
    write_run_record,
    write_table_comparison,
)
from rsca_torch.report.page.page import page_or_warning
from rsca_torch.report.page.record import run_said
from rsca_torch.report.terminal import progress

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(config: DictConfig) -> float:
    """Doppelganger rates of the learners on spectra and abundances, as table, files and pictures.

    Returns:
        The judged learner's rate on spectra, for a sweeper that looks for the best.
    """
    config = every_group(config)
    out, job = output_path(config.out), job_overrides()
    if job is not None:
        out = job_folder(out, job)
    with claimed(out, or_another=job is None and is_default("out")) as out:
        if job is None:
            require_new_folder(out)
        elif config.stars is None and (rate := rate_of_finished_run(out, config)) is not None:
            log.info("finished already: %s", out)
            return rate
        for each in (config.learner, *config.baselines.values()):
            maker(each)()  # refuses before the hard work what it would refuse after
        store = None
        new = atomic_folder(out) if job is None else updated_folder(out)
        with new as folder, progress() as told, run_said(command_typed("compare")) as said:
            if config.stars is not None:
                comparison, found = _of_table(config, folder, told)
            else:
                assembly = open_assembly(config, told)
                comparison, store = assembly.compare(folder), assembly.store
                found = write_comparison(folder, comparison, assembly)
                assembly.training.forget()
            if config.figures:
                write_run_record(folder, comparison, store, said)
            page = config.page and config.figures and job is None and page_or_warning(folder, out.name)
    print_comparison(comparison, config, found)
    drawn = ", pictures and report.html" if page else " and pictures" if config.figures else ""
    log.info("results.json, results.csv, figures_of_merit.csv%s in %s", drawn, out)
    return comparison.results[0].loco.rate


def _of_table(config: DictConfig, folder: Path, told: Progress) -> tuple[Comparison, Table | None]:
    """On the abundances of a star table: those that it has, where the command names none."""
    given = HydraConfig.get().overrides.task
    idle = [
        each
        for each in given
        if each.lstrip("+~").startswith(("store", "compressor", "simulat", "censoring", "learn_from"))
    ]
    if idle:
        raise InputError(f"{', '.join(idle)}: no effect, since stars={config.stars} is given; leave one out")
    if not any(each.lstrip("+~").startswith("abundances") for each in given):
        config.abundances = OmegaConf.load(CONFIG / "abundances" / "table.yaml")
    comparison, source = compare_table(config, folder, told)
    return comparison, write_table_comparison(folder, comparison, source, config)
