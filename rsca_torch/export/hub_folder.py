"""An RSCA layer as a folder that the Hugging Face Hub takes: safetensors, config.json, model card, checksums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rsca_torch.errors import InputError
from rsca_torch.export.model_card import model_card
from rsca_torch.export.program import told_of
from rsca_torch.files.whole import atomic_folder
from rsca_torch.layers.rsca import RSCA
from rsca_torch.ppca.frozen_folder import write_folder

__all__ = ["write"]


def write(
    layer: RSCA,
    path: str | Path,
    cuts: Sequence[Mapping[str, Any]] | None = None,
    rates: Sequence[Mapping[str, Any]] | None = None,
    licence: str | None = None,
) -> None:
    """Write the folder PATH, whole or not at all. `RSCA.load(PATH)` and `export.hub.HubRSCA` read it.

    Args:
        layer: the model.
        path: of a folder that is not there, or is empty.
        cuts: the cut flow of the store that it was fitted on, `Store.selection`. None: not known.
        rates: results of `rsca compare` on that store, as results.json has them. None: not known.
        licence: of the model, as the Hub names licences. None: not known.

    Raises:
        InputError: for another layer than an `RSCA`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(RSCA.blank(), f"{folder}/model")
        ...     print(*sorted(entry.name for entry in Path(folder, "model").iterdir()))
        ...     print(len(RSCA.load(f"{folder}/model").wavelength), "bins")
        README.md SHA256SUMS config.json model.safetensors
        1 bins
    """
    if not isinstance(layer, RSCA):
        raise InputError(f"a Hub folder holds an RSCA, not {type(layer).__name__}: export it to onnx or torch")
    with atomic_folder(Path(path)) as folder:
        write_folder(folder, layer.to_bytes(), told_of(layer), model_card(layer, cuts, rates, licence))
