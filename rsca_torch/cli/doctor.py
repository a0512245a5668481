"""`rsca doctor DIR`: whether a tree or a store is fit for use."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from rsca_torch.cli.exit_codes import RemarksError
from rsca_torch.errors import InputError
from rsca_torch.learners.registry import CONFIG
from rsca_torch.report.terminal import progress
from rsca_torch.spectra.labels import printable
from rsca_torch.survey.doctor.tree import examine_tree
from rsca_torch.survey.doctor.whole_store import examine_store
from rsca_torch.survey.fits_files import COMPRESSED
from rsca_torch.survey.survey import Survey

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """Examine a tree of survey files, or a store: what is wrong, how often, and what to do."""
    given = [name for name in ("place", "root", "store") if config[name] is not None]
    if len(given) != 1:
        raise InputError(
            f"rsca doctor DIR, root=DIR or store=DIR: one of them expected, got {' and '.join(given) or 'none'}"
        )
    if config.sample is not None and config.sample < 1:
        raise InputError(f"sample must be at least 1 spectrum, or null for all, got {config.sample}")
    place = Path(str(config[given[0]]))
    is_store = given == ["store"] or (given == ["place"] and (place / "manifest.json").is_file())
    with progress() as told:
        if is_store:
            remarks = examine_store(place, partial(told.step, "looking at stars"))
        else:
            remarks = examine_tree(place, _surveys(place), config.sample, partial(told.step, "reading spectra"))
    print("".join(f"{printable(line)}\n" for each in remarks for line in str(each).split("\n")), end="")
    kind = "store" if is_store else "tree"
    if any(each.matters for each in remarks):
        print(f"the {kind} {place} is not fit for use before that is done")
        raise RemarksError
    print(f"the {kind} {place} is fit for use")


def _surveys(root: Path) -> list[Survey]:
    """The surveys that ship whose catalogue lies below root."""
    found = []
    for path in sorted((CONFIG / "survey").glob("*.yaml")):
        config: Any = OmegaConf.load(path)
        told = config.get("catalogue") or []  # composing all of them would take seconds
        names = [told] if isinstance(told, str) else told
        filled = {key: config.get(key) for key in ("release", "v_astra")}  # as DR19's paths have them in braces
        if any((root / f"{name.format(**filled)}{end}").is_file() for name in names for end in ("", *COMPRESSED)):
            config = hydra.compose("doctor", [f"+survey={path.stem}", "++survey.root=x"]).survey
            config.root = str(root)
            found.append(hydra.utils.instantiate(config))
    return found
