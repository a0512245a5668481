"""`rsca learners`: which learners can be chosen."""

from __future__ import annotations

import logging

from omegaconf import DictConfig
from rich.table import Table
from rich.text import Text

from rsca_torch.learners.registry import builtin, installed
from rsca_torch.report.terminal import print_table

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(_: DictConfig) -> None:
    """The learners that can be chosen: their classes, where they are from, and the papers."""
    table = Table("learner", "class", "from", "paper", box=None, padding=(0, 2, 0, 0))
    for plugin in (*builtin(), *installed()):
        last = Text(plugin.problem, "red") if plugin.problem else Text(plugin.paper)
        table.add_row(*(Text(part) for part in (plugin.name, plugin.target, plugin.source)), last)
    print_table(table)
    log.info("rsca compare learner=NAME takes one of them, learner._target_=my_package.MyLearner any class")
