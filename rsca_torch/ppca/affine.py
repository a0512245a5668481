"""An affine map in float64 of rows that come in another precision."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["affine"]

AT_ONCE = 128  # rows, so that their float64 copy stays in the processor's cache


def affine(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(n, P) -> (n, K) rows @ weight.T + bias, in the dtype of the weight; autograd follows.

    >>> affine(torch.ones(2, 3), torch.ones(1, 3).double(), torch.ones(1).double())
    tensor([[4.],
            [4.]], dtype=torch.float64)
    """
    if rows.dtype == weight.dtype:
        return rows @ weight.T + bias
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (rows, weight, bias)):
        return torch.cat([part.to(weight.dtype) @ weight.T + bias for part in torch.split(rows, AT_ONCE)])
    result = torch.empty(len(rows), len(weight), dtype=weight.dtype, device=weight.device)
    copy = torch.empty(min(AT_ONCE, len(rows)), rows.shape[1], dtype=weight.dtype, device=weight.device)
    for part, some in zip(torch.split(rows, AT_ONCE), torch.split(result, AT_ONCE), strict=True):
        torch.addmm(bias, copy[: len(part)].copy_(part), weight.T, out=some)
    return result
