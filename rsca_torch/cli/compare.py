"""`rsca compare`: doppelganger rates of learners on spectra and abundances."""

from __future__ import annotations

import logging

from omegaconf import DictConfig

from rsca_torch.cli.inputs import is_default, open_assembly, output_path
from rsca_torch.comparison.finished_run import rate_of_finished_run
from rsca_torch.comparison.sweep_jobs import job_folder, job_overrides
from rsca_torch.files import atomic_folder, claimed, require_new_folder, updated_folder
from rsca_torch.learners.registry import maker
from rsca_torch.report.comparison_folder import write_comparison
from rsca_torch.report.results import summary_table
from rsca_torch.report.terminal import print_table, progress

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(config: DictConfig) -> float:
    """Doppelganger rates of the learners on spectra and abundances, as table, files and pictures.

    Returns:
        The judged learner's rate on spectra, for a sweeper that looks for the best.
    """
    out, job = output_path(config.out), job_overrides()
    if job is not None:
        out = job_folder(out, job)
    with claimed(out, or_another=job is None and is_default("out")) as out:
        if job is None:
            require_new_folder(out)
        elif (rate := rate_of_finished_run(out, config)) is not None:
            log.info("finished already: %s", out)
            return rate
        for each in (config.learner, *config.baselines.values()):
            maker(each)()  # refuses before the hard work what it would refuse after
        with atomic_folder(out) if job is None else updated_folder(out) as folder, progress() as told:
            assembly = open_assembly(config, told)
            comparison = assembly.compare(folder)
            write_comparison(folder, comparison, assembly)
    assembly.training.forget()
    print_table(summary_table(comparison))
    log.info("results.json, results.csv%s in %s", " and pictures" if config.figures else "", out)
    return comparison.results[0].loco.rate
