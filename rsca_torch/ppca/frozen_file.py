"""A frozen layer as one safetensors file: its tensors, and a header of what is none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rsca_torch.errors import InputError

__all__ = ["file_of", "read_file"]

SCHEMA = 6  # of model files


def file_of(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of the file.

    >>> import torch
    >>> len(file_of({"clusters": []}, {"weight": torch.ones(2, 3)})) > 24
    True
    """
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    told = {"format": "rsca_torch", "schema": SCHEMA, **header, "sha256": _digest(whole)}
    return save(whole, metadata={"rsca_torch": json.dumps(told)})


def read_file(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(header, tensors) of what `file_of` made.

    Raises:
        InputError: where the file is missing, is no RSCA model, is of another schema or damaged.
    """
    if not Path(path).is_file():
        raise InputError(f"no model at {path}: give a file that RSCA.save or `rsca fit` wrote")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("rsca_torch", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except SafetensorError as error:
        raise InputError(f"{path} is no safetensors file ({error}): give one that `rsca fit` wrote") from error
    schema = header.get("schema") if isinstance(header, dict) and header.get("format") == "rsca_torch" else None
    if schema != SCHEMA:
        raise InputError(
            f"{path} is no RSCA model of schema {SCHEMA}, but {schema}: fit it again with this version's `rsca fit`"
        )
    if header.get("sha256") != _digest(tensors):
        raise InputError(f"{path} is damaged: its numbers are not those that were saved; fit or copy it again")
    return header, tensors


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and numbers."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode() + tensors[name].cpu().numpy().tobytes())
    return total.hexdigest()
