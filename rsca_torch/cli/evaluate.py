"""`rsca evaluate`: doppelganger rates of an embedding that any other model made."""

from __future__ import annotations

import logging
from pathlib import Path

import hydra
from omegaconf import DictConfig

from rsca_torch.cli.inputs import command_typed, is_default, output_path
from rsca_torch.comparison.baseline_run import read_baseline_run
from rsca_torch.comparison.embedding import compare_embedding
from rsca_torch.comparison.groups_given import with_empty_groups
from rsca_torch.comparison.sweep_jobs import job_folder, job_overrides
from rsca_torch.files.places import claimed, require_new_folder
from rsca_torch.files.whole import atomic_folder, updated_folder
from rsca_torch.learners.registry import maker
from rsca_torch.report.comparison_folder import print_comparison, write_embedding_comparison, write_run_record
from rsca_torch.report.page.page import page_or_warning
from rsca_torch.report.page.record import run_said
from rsca_torch.report.terminal import progress
from rsca_torch.survey.store import Store

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(config: DictConfig) -> float:
    """Doppelganger rates of an embedding of your own, as table, files and pictures.

    Returns:
        The rate of the embedding, for a sweeper that looks for the best.
    """
    config = with_empty_groups(config)
    out, job, baseline = output_path(config.out), job_overrides(), None
    if job is not None:
        out = job_folder(out, job)
    for each in (config.learner, *config.baselines.values()):
        maker(each)()  # refuses before the hard work what it would refuse after
    if config.baseline is not None:
        folder = Path(hydra.utils.to_absolute_path(config.baseline))
        baseline = read_baseline_run(folder, Store.open(config.store).checksum, config)
    with claimed(out, or_another=job is None and is_default("out")) as out:
        if job is None:
            require_new_folder(out)
        new = atomic_folder(out) if job is None else updated_folder(out)
        with new as folder, progress() as told, run_said(command_typed("evaluate")) as said:
            comparison, source = compare_embedding(config, folder, told)
            found = write_embedding_comparison(folder, comparison, source, baseline, config)
            if config.figures:
                write_run_record(folder, comparison, Store.open(config.store), said)
            page = config.page and config.figures and job is None and page_or_warning(folder, out.name)
    shown = comparison if baseline is None else baseline.with_results_of(comparison)
    print_comparison(shown, config, found, [comparison.results[0].representation.name])
    drawn = ", pictures and report.html" if page else " and pictures" if config.figures else ""
    log.info("results.json, results.csv, figures_of_merit.csv%s in %s", drawn, out)
    return comparison.results[0].loco.rate
