"""Stars in the latents of several models of step 1, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from astropy.table import vstack
from torch import Tensor

from rsca_torch.comparison.representation import Representation
from rsca_torch.training.members import Members

__all__ = ["side_by_side"]


def side_by_side(parts: Sequence[Representation]) -> Representation:
    """One representation (N, K1 + K2 + ...) of the same stars by several models; of one its own."""
    if len(parts) == 1:
        return parts[0]
    return replace(
        parts[0],
        field=torch.cat([part.field for part in parts], dim=1),
        members=torch.cat([part.members for part in parts], dim=1),
        ppcas=tuple(ppca for part in parts for ppca in part.ppcas),
        seconds=sum(part.seconds for part in parts),
        roots=_blocks([part.roots for part in parts]),
        noise=_blocks([part.noise for part in parts]),
        repeats=tuple(repeats for part in parts for repeats in part.repeats),
        groups=_groups_side_by_side([part.groups for part in parts]),
        aside=vstack([part.aside for part in parts]),
    )


def _groups_side_by_side(parts: Sequence[Members | None]) -> Members | None:
    known = [part for part in parts if part is not None]
    if not known:
        return None
    z = torch.cat([part.z for part in known], dim=1)
    roots, noise = (_blocks([getattr(part, name) for part in known]) for name in ("roots", "noise"))
    return Members(z, known[0].labels, None, roots, noise)


def _blocks(parts: Sequence[Tensor | None]) -> Tensor | None:
    """(M, K1 + K2 + ..., the same) with the parts (M, K1, K1), ... along the diagonal; None: not all are known."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return torch.stack([torch.block_diag(*each) for each in zip(*known, strict=True)])  # type: ignore[no-untyped-call]
