"""NumPy or torch in, torch out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Array", "all_finite", "as_tensor"]

Array = Tensor | NDArray[Any]


def as_tensor(array: Array) -> Tensor:
    """The same numbers as a tensor; read-only and big-endian NumPy arrays (memory maps, FITS) are copied.

    >>> as_tensor(np.arange(3, dtype=">f4"))
    tensor([0., 1., 2.])
    """
    if isinstance(array, np.ndarray) and not (array.flags.writeable and array.dtype.isnative):
        array = np.array(array, dtype=array.dtype.newbyteorder("="))
    if isinstance(array, np.ndarray) and any(stride < 0 for stride in array.strides):
        array = array.copy()
    return torch.as_tensor(array)


def all_finite(tensor: Tensor) -> bool:
    """Whether all values are finite; seen in one pass where they are, as a finite sum has only finite terms.

    >>> all_finite(torch.tensor([1.0, torch.nan]))
    False
    """
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())
