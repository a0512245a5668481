"""Which of the rules for pairs can be kept: those whose column the survey has."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial

from torch import Tensor

from rsca_torch.spectra.stars import Stars

__all__ = ["possible_pairs"]

log = logging.getLogger(__name__)


def possible_pairs(pairs: Callable[..., Tensor], stars: Stars, said: bool = False) -> Callable[..., Tensor]:
    """The same without the limits on what the survey does not know, which is said in one line.

    Args:
        pairs: as `rsca_torch.allowed_pairs`, with keywords ``max_velocity`` and ``max_extinction``.
        stars: say which roles are played.
        said: it has been said already.

    Example:
        >>> from rsca_torch import allowed_pairs
        >>> possible_pairs(allowed_pairs, Stars.of({"id": [7], "velocity": [1.0]})).keywords
        {'max_extinction': None}
    """
    limits = inspect.signature(pairs).parameters
    compared = [role for role in ("velocity", "extinction") if getattr(limits.get(f"max_{role}"), "default", None)]
    unknown = [role for role in compared if not stars.has(role)]
    if not unknown:
        return pairs
    log.log(
        logging.DEBUG if said else logging.WARNING,
        "warning: no column plays the role %s: pairs are compared whatever theirs (%s; survey.roles.ROLE=COLUMN at "
        "ingest names one)",
        " or ".join(unknown),
        ", ".join(f"pairs.max_{role}=null" for role in unknown),
    )
    return partial(pairs, **{f"max_{role}": None for role in unknown})
