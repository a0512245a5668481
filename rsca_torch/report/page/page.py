"""report.html: the page of whatever a folder holds, a run, a sweep or a reproduction of the paper."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2

from rsca_torch.comparison.finished_run import RESULTS
from rsca_torch.comparison.sweep import Gathered, default_baseline, gather
from rsca_torch.comparison.sweep_jobs import NOTE
from rsca_torch.errors import InputError
from rsca_torch.files.whole import atomic_file
from rsca_torch.report.page.record import RECORD, Said, moment, write_record
from rsca_torch.report.page.rendering import read_told, rendered
from rsca_torch.report.page.reproduction_page import reproduction_page
from rsca_torch.report.page.run_page import run_page
from rsca_torch.report.page.sweep_page import sweep_page

__all__ = ["PAGE", "page_of_sweep", "page_or_warning", "write_page", "write_sweep_page"]

log = logging.getLogger(__name__)

PAGE = "report.html"
#: What a template or the verdict stumbles over where a file is whole, but does not say what it should.
DAMAGED = (KeyError, TypeError, ValueError, AttributeError, LookupError, OverflowError, jinja2.TemplateError)


def write_page(folder: Path, title: str | None = None) -> Path:
    """report.html in a folder, of what is in it.

    Args:
        folder: of a finished run, of a sweep, or what `rsca reproduce` wrote.
        title: None: the folder's name.

    Returns:
        The page's path.

    Raises:
        InputError: it holds none of these, or one of another schema, or what it says of itself is damaged.
    """
    if (folder / RESULTS).exists():
        name, make, command = "run", run_page, "rsca compare"
    elif "experiments" in read_told(folder / RECORD):
        name, make, command = "reproduction", reproduction_page, "rsca reproduce"
    elif any(next(folder.glob(f"*/{each}"), None) for each in (RESULTS, NOTE)):
        gathered = gather(folder)
        return write_sweep_page(folder, folder, gathered, default_baseline(gathered), title)
    elif (folder / "summary.md").exists():
        raise InputError(f"{folder} holds what an older rsca reproduce wrote: run it again, it keeps what is finished")
    else:
        commands = "rsca compare, rsca compare -m or rsca reproduce"
        raise InputError(f"no finished run, sweep or reproduction in {folder}: give the DIR that {commands} wrote")
    title = title or folder.resolve().name
    return _written(folder, f"{name}.html.j2", title, lambda: make(folder, title), command)


def write_sweep_page(folder: Path, sweep: Path, gathered: Gathered, baseline: str, title: str | None = None) -> Path:
    """report.html of all runs of a sweep.

    Args:
        folder: where to.
        sweep: in which the runs are.
        gathered: these runs.
        baseline: the learner that the others are compared with.
        title: None: the name of the sweep's folder.

    Returns:
        As `write_page`.

    Raises:
        InputError: no run has the baseline.
    """
    title = title or sweep.resolve().name
    return _written(folder, "sweep.html.j2", title, lambda: sweep_page(sweep, gathered, baseline), "rsca compare -m")


def page_or_warning(folder: Path, title: str | None = None) -> bool:
    """The same at the end of a command, which a page is no reason to lose: whether there is one."""
    try:
        write_page(folder, title)
    except InputError as error:
        log.warning("warning: no %s: %s", PAGE, str(error).splitlines()[0])
        return False
    return True


def page_of_sweep(sweep: Path, command: str, started: float) -> None:
    """report.html and report.json in the folder of a sweep that came to its end.

    Args:
        sweep: in which the runs are.
        command: that made them.
        started: when, in seconds since 1970.
    """
    write_record(sweep / RECORD, Said(command, moment(started)), None)
    if page_or_warning(sweep):
        log.info("%s in %s", PAGE, sweep)


def _written(folder: Path, template: str, title: str, content: Callable[[], dict[str, Any]], command: str) -> Path:
    path = folder / PAGE
    try:
        text = rendered(template, {"title": title, "version": version("rsca_torch"), **content()})
    except InputError:
        raise
    except DAMAGED as error:
        said = f"{type(error).__name__}: {error}"
        raise InputError(f"{folder}: {RESULTS} or {RECORD} is damaged ({said:.200}): run {command} again") from error
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8", errors="surrogateescape")
    return path
