"""A layer as a program of torch (`torch.export`, .pt2), which runs without rsca_torch."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch

from rsca_torch.export.program import Layer, as_json, inputs_of, program_of, told_of, write_summed

__all__ = ["TOLD", "write"]

TOLD = "rsca_torch.json"  # inside the file


def write(
    layer: Layer, path: str | Path, inputs: Sequence[str] | None = None, dtype: torch.dtype = torch.float64
) -> None:
    """Write PATH and PATH.sha256.

    Args:
        layer: an `RSCA`, or an `Encoder` whose learner torch can follow.
        path: of a file, by custom of the suffix .pt2.
        inputs: some of flux, valid and sigma. None: all that matter to the layer.
        dtype: of flux, sigma and features.

    Raises:
        InputError: as `inputs_of`.

    Example:
        >>> import tempfile
        >>> from rsca_torch import RSCA
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(RSCA._blank(), f"{folder}/model.pt2", inputs=["flux"])
        ...     program = torch.export.load(f"{folder}/model.pt2").module()
        >>> program(flux=torch.ones(2, 1).double()).shape
        torch.Size([2, 1])
    """
    names = inputs_of(layer, inputs)
    content = io.BytesIO()
    told = as_json(told_of(layer, names, dtype))
    torch.export.save(program_of(layer, names, dtype), content, extra_files={TOLD: told})
    write_summed(Path(path), content.getvalue())
