"""Whether a layer that a file holds can be one: its checksum does not say that it makes sense."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.layers.layer import Layer

__all__ = ["sound"]

Some = TypeVar("Some", bound=Layer)
MAY_BE_INFINITE = ("sigma_r",)  # where a dimension tells nothing of siblings
MAY_BE_NAN = ("mean",)  # of a bin that no star had


def sound(kind: type[Some], state: Mapping[str, Any], path: str | Path) -> Some:
    """The layer whose state this is.

    Args:
        kind: of layer.
        state: of the file.
        path: of the file, for messages.

    Raises:
        InputError: something lacks, or is none of what such a layer has: another shape, NaN, a negative variance.
    """
    try:
        layer = kind.from_state_dict(state)
        _require_numbers(layer)
        _require_shapes(layer)
        _require_told(layer)
    except InputError:
        raise
    except Exception as error:  # whatever building it of what lacks or is of another kind raises
        raise InputError(f"{path} holds no {kind.__name__} that can be used ({error!s:.200}): fit it again") from error
    return layer


def _require_numbers(layer: Layer) -> None:
    for whole_name, tensor in layer.named_buffers():
        name = whole_name.rpartition(".")[2]
        if not tensor.is_floating_point():
            continue
        bad = tensor.isnan() if name in MAY_BE_INFINITE else ~tensor.isfinite()
        if name not in MAY_BE_NAN and bad.any():
            raise ValueError(f"{int(bad.sum())} numbers of {whole_name} are not finite")
        if name in ("sigma_r", "scatter", "bin_variance", "wavelength") and (tensor < 0).any():
            raise ValueError(f"{whole_name} is negative")


def _require_shapes(layer: Layer) -> None:
    bins = len(layer.wavelength)
    if layer.wavelength.ndim != 1 or layer.ppca.loadings.shape != (bins, layer.ppca.n_components):
        raise ValueError(f"{bins} wavelengths and loadings of shape {tuple(layer.ppca.loadings.shape)}")
    wanted = {"weight": (None, bins), "bias": (None,), "sigma_r": (None,), "rotation": (None, layer.ppca.n_components)}
    features = {tuple(getattr(layer, name).shape) for name in ("bias", "sigma_r") if hasattr(layer, name)}
    for name, shape in wanted.items():
        given: Tensor | None = getattr(layer, name, None)
        fits = given is None or (
            given.ndim == len(shape) and all(b in (None, a) for a, b in zip(given.shape, shape, strict=True))
        )
        if not fits or len(features) > 1 or (given is not None and {(len(given),)} != features):
            raise ValueError(f"{name} has a shape that does not go with the others")


def _require_told(layer: Layer) -> None:
    texts = [*layer.clusters, layer.version]
    if not all(isinstance(each, str) for each in texts) or not all(isinstance(each, dict) for each in layer.sources):
        raise ValueError("clusters, version or sources are none")
    for model in [layer.ppca, *([] if layer.removal is None else [layer.removal.ppca])]:
        numbers = [model.clip, model.noise_variance, *model.history]
        if not all(each is None or (isinstance(each, int | float) and math.isfinite(each)) for each in numbers):
            raise ValueError("clip, noise or history are no numbers")
    calibration = getattr(layer, "calibration", {})
    lines = [calibration[name] for name in ("pairs", "clusters") if name in calibration]
    if not all(math.isfinite(each) for line in lines for each in line.values()):
        raise ValueError("its calibration is none")
