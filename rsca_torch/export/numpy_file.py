"""An RSCA layer as NumPy arrays (.npz, no pickle); docs/export.md prints the reader."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.export.program import EXPORT_SCHEMA, as_json, told_of, write_summed
from rsca_torch.layers.rsca import RSCA
from rsca_torch.ppca.model import MaskedPPCA

__all__ = ["write"]


def write(layer: RSCA, path: str | Path) -> None:
    """Write PATH and PATH.sha256.

    Raises:
        InputError: for another layer than an `RSCA`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(RSCA._blank(), f"{folder}/model.npz")
        ...     arrays = np.load(f"{folder}/model.npz", allow_pickle=False)
        ...     print(*sorted(arrays))
        bias bin_variance centre clip loadings mean measured rotation scatter schema sigma_r told wavelength weight
    """
    if not isinstance(layer, RSCA):
        raise InputError(f"NumPy's reader knows RSCA alone, not {type(layer).__name__}: export it to onnx or torch")
    names = "weight bias rotation centre sigma_r wavelength".split()
    arrays = {name: np.asarray(getattr(layer, name).cpu()) for name in names} | _of_step_1(layer.ppca)
    if layer.removal is not None:
        removal = {name: np.asarray(getattr(layer.removal, name).cpu()) for name in "directions reading centre".split()}
        arrays |= {f"removal_{name}": array for name, array in (_of_step_1(layer.removal.ppca) | removal).items()}
    arrays["schema"], arrays["told"] = np.array(EXPORT_SCHEMA), np.array(as_json(told_of(layer)))
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_summed(Path(path), content.getvalue())


def _of_step_1(ppca: MaskedPPCA) -> dict[str, NDArray[np.generic]]:
    arrays = {name: np.asarray(getattr(ppca, name).cpu()) for name in "loadings mean scatter bin_variance".split()}
    clip = math.inf if ppca.clip is None else ppca.clip
    return arrays | {"clip": np.array(clip), "measured": np.array(ppca.noise_variance is None)}
