"""A module of buffers alone that keeps its own precision, and whose state says all that it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from rsca_torch.errors import InputError

__all__ = ["Frozen", "as_bytes"]


class Frozen(nn.Module):
    """Buffers without parameters, for use inside other networks.

    It keeps the dtype that it was made with: `.to(dtype)`, `.half()`, `.float()` and a Trainer's
    `precision="bf16-true"` move it to another device and change nothing else, for features in lower precision differ
    by more than stars do. Its state says all that it is: what is no buffer lies in it as JSON in a tensor of bytes, so
    that `state_dict`, checkpoints and `torch.load(weights_only=True)` carry it; and where it is loaded into a layer of
    other shapes, that layer takes the shapes too.

    Attributes:
        told: names of what is no buffer and belongs to the state.

    Example:
        >>> from rsca_torch import MaskedPPCA
        >>> model = MaskedPPCA(torch.tensor([[3.0], [4.0]]).double(), torch.ones(2), torch.ones(2), 1.0)
        >>> model.half().loadings.dtype
        torch.float64
        >>> MaskedPPCA.from_state_dict(model.state_dict())
        MaskedPPCA(K=1, P=2, noise=isotropic, converged)
    """

    told: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def _blank(cls) -> Self:
        """One of no use but to be loaded into.

        Raises:
            InputError: a subclass that does not say how.
        """
        raise InputError(f"{cls.__name__} must define _blank(), or it cannot be made of a state alone")

    @classmethod
    def blank(cls) -> Self:
        """A layer of no use but to be loaded into: what `load_state_dict` or a checkpoint brings decides all of it.

        >>> from rsca_torch import RSCA
        >>> network = torch.nn.Sequential(RSCA.blank(), torch.nn.Linear(60, 2))
        """
        return cls._blank()

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """The layer whose `state_dict()` this is.

        Raises:
            RuntimeError: of PyTorch, which names what is missing in the state or has no place in the layer.
        """
        layer = cls._blank()
        layer.load_state_dict(state)
        return layer

    def get_extra_state(self) -> Tensor:
        """What is no buffer, as bytes of JSON."""
        return as_bytes({name: getattr(self, name) for name in self.told})

    def set_extra_state(self, state: Tensor) -> None:
        """Take what `get_extra_state` told."""
        told = json.loads(bytes(state.tolist()))
        for name in self.told:
            setattr(self, name, told[name])

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Into buffers of the shapes that are loaded; new ones, as other layers may share the old."""
        for name, own in self._buffers.items():
            given = state_dict.get(prefix + name)
            if isinstance(given, Tensor) and own is not None:
                dtype = torch.promote_types(own.dtype, given.dtype)
                setattr(self, name, torch.empty(given.shape, dtype=dtype, device=own.device))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What PyTorch moves and casts a module with."""

        def moved(tensor: Tensor) -> Tensor:
            other = fn(tensor)
            return other if other.dtype == tensor.dtype else tensor.to(other.device)

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self


def as_bytes(told: Mapping[str, Any]) -> Tensor:
    """JSON as a tensor of bytes.

    >>> as_bytes({"clip": 5.0}).dtype
    torch.uint8
    """
    return torch.tensor(list(json.dumps(told, default=float).encode()), dtype=torch.uint8)
