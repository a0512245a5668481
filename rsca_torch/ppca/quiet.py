"""Lightning without its tips."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]

MEANT = (  # what Lightning warns of and is meant here
    "does not have many workers",
    "predict returned None",
    "returned `None`",
    "exists and is not empty",
    "configure_optimizers",
    "treespec, LeafSpec",
    "GPU available but not used",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's tips and lists of devices, and without its warnings of what is meant here."""
    chatter = logging.getLogger("lightning.pytorch")
    level = chatter.level
    chatter.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in MEANT:
                warnings.filterwarnings("ignore", f".*{message}")
            yield
    finally:
        chatter.setLevel(level)
