"""`rsca learners`: which learners can be chosen."""

from __future__ import annotations

import logging

from omegaconf import DictConfig

from rsca_torch.learners.registry import builtin, installed, learners_table
from rsca_torch.report.terminal import print_table

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(_: DictConfig) -> None:
    """The learners that can be chosen: their classes, where they are from, and the papers."""
    print_table(learners_table([*builtin(), *installed()]))
    log.info("rsca compare learner=NAME takes one of them, learner._target_=my_package.MyLearner any class")
