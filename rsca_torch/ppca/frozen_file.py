"""A frozen layer as one safetensors file: its tensors, a header of what is none, and a checksum of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.files.checked import json_of

__all__ = ["FORMAT", "SCHEMA", "digest", "file_of", "read_file", "require_schema"]

FORMAT = "rsca_torch"
SCHEMA = 6  # of model files


def file_of(kind: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of the file.

    >>> len(file_of("RSCA", {"clusters": []}, {"weight": torch.ones(2, 3)})) > 24
    True
    """
    whole = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    told = {"format": FORMAT, "schema": SCHEMA, "kind": kind, **json.loads(json.dumps(header, default=float))}
    return save(whole, metadata={FORMAT: json.dumps({**told, "sha256": digest(told, whole)})})


def read_file(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(header, tensors) of what `file_of` made of a layer of this kind.

    Raises:
        InputError: where the file is missing, is no RSCA model, is of another schema, was cut short or altered.
    """
    if not Path(path).is_file():
        raise InputError(f"no model at {path}: give a file that RSCA.save or `rsca fit` wrote")
    content = Path(path).read_bytes()
    try:
        tensors = load(content)
        size = int.from_bytes(content[:8], "little")  # of the JSON that follows, which `load` does not hand on
        header = json_of(json_of(content[8 : 8 + size]).get("__metadata__", {}).get(FORMAT, "{}"))
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no safetensors file ({error}): give one that `rsca fit` wrote") from error
    told = header if header.get("format") == FORMAT else {}
    require_schema(path, told.get("schema"), SCHEMA, f"RSCA model of schema {SCHEMA}")
    if told.pop("sha256", None) != digest(told, tensors):
        raise InputError(f"{path} is damaged: what is in it is not what was saved; fit or copy it again")
    if (other := told.get("kind")) != kind:
        raise InputError(f"{path} holds an {other}, no {kind}: read it by {other}.load")
    return told, tensors


def require_schema(path: str | Path, given: Any, known: int, what: str) -> None:  # noqa: ANN401  (what a file says)
    """Refuse another schema.

    Raises:
        InputError: says that a newer program reads a newer one, and that an older one is to be made again.

    Example:
        >>> require_schema("new.safetensors", 7, 6, "RSCA model of schema 6")
        Traceback (most recent call last):
        rsca_torch.errors.InputError: new.safetensors is no RSCA model of schema 6, but 7, of a newer rsca_torch: ...
    """
    if given == known and not isinstance(given, bool):
        return
    newer = isinstance(given, int) and given > known
    cure = ", of a newer rsca_torch: update rsca_torch" if newer else ": make it again with this version, by `rsca fit`"
    raise InputError(f"{path} is no {what}, but {given}{cure}")


def digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of what is told, of the tensors' names, dtypes and shapes, and of their numbers.

    >>> one, other = (digest({}, {"a": torch.ones(shape)}) for shape in ((2, 3), (3, 2)))
    >>> one == other
    False
    """
    total = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()
