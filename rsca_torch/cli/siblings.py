"""`rsca siblings`: the stars most like a given one, and how probable it is that they are its siblings."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from rsca_torch.comparison.pair_rules import possible_pairs
from rsca_torch.errors import InputError
from rsca_torch.files.places import claimed, require_new_file
from rsca_torch.layers.rsca import RSCA
from rsca_torch.report.siblings_table import lines_of, print_siblings, require_table_format, write_siblings
from rsca_torch.report.terminal import progress
from rsca_torch.siblings.asked import ids_in
from rsca_torch.siblings.likely_siblings import likely_siblings, require_asked
from rsca_torch.survey.store import Store

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """The stars most like a given one, each with a probability of being its sibling."""
    given = [name for name in ("star", "ids", "cluster") if config[name] is not None] + ["all"] * bool(config.all)
    if len(given) != 1:
        got = " and ".join(given) or "none of them"
        raise InputError(f"one of star=ID, ids=FILE, cluster=NAME, all=true says who is asked about, got {got}")
    out = None if config.out is None else Path(config.out)
    if out is not None:
        require_table_format(out)
        require_new_file(out)
    require_asked(config.n, config.prior)
    with nullcontext() if out is None else claimed(out):
        _siblings(config, out)


def _siblings(config: DictConfig, out: Path | None) -> None:
    if out is not None:
        require_new_file(out)  # now that nobody else makes it
    model, store = RSCA.load(config.model), Store.open(config.store)
    asked: dict[str, Any] = {"cluster": None if config.cluster is None else str(config.cluster)}
    if config.ids is not None:
        asked["star"] = ids_in(Path(config.ids), store.stars)
    elif config.star is not None:
        asked["star"] = config.star if isinstance(config.star, str | int) else list(config.star)
    with progress() as told:
        found = likely_siblings(
            model,
            store,
            **asked,
            n=config.n,
            prior=config.prior,
            pairs=possible_pairs(hydra.utils.instantiate(config.pairs), store.stars),
            uncertain=config.uncertain,
            columns=list(config.columns),
            kept=config.kept,
            parallel=hydra.utils.instantiate(config.parallel),
            progress=told.step,
        )
    for line in lines_of(found):
        log.info(line)
    if out is None or not (config.all or config.ids):
        print_siblings(found, out)
    if out is not None:
        write_siblings(found, out, {"MODEL": str(config.model), "STORE": store.checksum})
        log.info("%d rows in %s, of %d asked about", len(found), out, len(set(found["STAR"])))
