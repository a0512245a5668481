"""`rsca report`: a run, a sweep or a reproduction on one page, or all runs of a sweep in one table and one picture."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from rsca_torch.cli.inputs import output_path
from rsca_torch.comparison.sweep import default_baseline, gather, groups_of
from rsca_torch.errors import InputError
from rsca_torch.files.places import claimed
from rsca_torch.files.whole import updated_folder
from rsca_torch.report.figure_files import save_figure
from rsca_torch.report.latex import label_of, latex
from rsca_torch.report.page.page import PAGE, write_page, write_sweep_page
from rsca_torch.report.suspects import latex_of, markdown_of, read_suspects
from rsca_torch.report.sweep_report import draw_groups, markdown, print_groups, write_rows

__all__ = ["run"]

log = logging.getLogger(__name__)

FORMATS = ("table", "latex")


def run(config: DictConfig) -> None:
    """A run, a sweep or a reproduction on one page; or one table and one picture of all runs of a sweep."""
    if (config.run is None) == (config.sweep is None):
        raise InputError(f"one of run=DIR and sweep=DIR expected, got {'neither' if config.run is None else 'both'}")
    if config.run is not None:
        _page(config)
    else:
        _sweep(config)


def _page(config: DictConfig) -> None:
    idle = [name for name in ("baseline", "out") if config[name] is not None]
    if idle:
        raise InputError(f"{idle[0]}={config[idle[0]]}: no effect, since run={config.run} is given; leave it out")
    folder = Path(config.run)
    with claimed(folder / PAGE):
        log.info("%s: open it in a browser", write_page(folder))


def _sweep(config: DictConfig) -> None:
    if config.format not in FORMATS:
        raise InputError(f"format={config.format}: one of {', '.join(FORMATS)} expected")
    sweep = Path(config.sweep)
    out = sweep / "report" if config.out is None else output_path(config.out)
    gathered = gather(sweep)
    baseline = config.baseline or default_baseline(gathered)
    groups = groups_of(gathered, baseline)
    runs, name = gathered.results["run"].unique(), sweep.resolve().name
    suspects = read_suspects(sweep / runs[0]) if len(runs) == 1 else None
    with claimed(out), updated_folder(out) as part:
        write_rows(part / "runs.csv", gathered)
        text = markdown(groups, gathered, baseline, f"Sweep {name}")
        text += "" if suspects is None else markdown_of(suspects)
        (part / "report.md").write_text(text, encoding="utf-8")
        tex = latex(groups, gathered, baseline, name)
        tex += "" if suspects is None else "\n" + latex_of(suspects, label_of(name))
        (part / "report.tex").write_text(tex, encoding="utf-8")
        save_figure(draw_groups(groups, gathered.varied), part, "rates", gathered.simulated)
        if config.page:
            write_sweep_page(part, sweep, gathered, baseline)
    if config.format == "latex":
        print(tex, end="")
    else:
        print_groups(groups, gathered, baseline)
    for folder, problem in gathered.unused:
        log.warning("not used: %s: %s", folder, problem)
    files = "runs.csv, report.md, report.tex" + (f", {PAGE}" if config.page else "")
    log.info("%d runs; %s and pictures in %s", gathered.results["run"].nunique(), files, out)
