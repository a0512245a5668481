"""`rsca cite`: BibTeX of the method, the software and the data."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from rsca_torch.errors import InputError
from rsca_torch.report import citations

__all__ = ["run"]

OF = {"store": citations.of_store, "model": citations.of_model}


def run(config: DictConfig) -> None:
    """BibTeX of the method and the software; of a run, a store or a model also of the data and learners."""
    given = [name for name in ("run", *OF) if config[name] is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} are given: cite one at a time")
    if given == ["run"]:
        used = citations.of_run(Path(config.run), config.trust)
    else:
        used = OF[given[0]](Path(config[given[0]])) if given else citations.of_installation()
    print(citations.bibtex(used), end="")
