"""An affine map in float64 of rows that come in another precision."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["affine"]

ROWS_A_THREAD = 48  # so that their float64 copy stays in the processor's cache
ROWS_ELSEWHERE = 4096  # on a GPU


def affine(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(n, P) -> (n, K) rows @ weight.T + bias, in the dtype of the weight; autograd follows.

    >>> affine(torch.ones(2, 3), torch.ones(1, 3).double(), torch.ones(1).double())
    tensor([[4.],
            [4.]], dtype=torch.float64)
    """
    if torch.compiler.is_compiling() or rows.dtype == weight.dtype:
        return rows.to(weight.dtype) @ weight.T + bias
    at_once = ROWS_A_THREAD * torch.get_num_threads() if rows.device.type == "cpu" else ROWS_ELSEWHERE
    parts = torch.split(rows, at_once)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (rows, weight, bias)):
        return torch.cat([part.to(weight.dtype) @ weight.T + bias for part in parts])
    result = torch.empty(len(rows), len(weight), dtype=weight.dtype, device=weight.device)
    copy = torch.empty(min(at_once, len(rows)), rows.shape[1], dtype=weight.dtype, device=weight.device)
    for part, some in zip(parts, torch.split(result, at_once), strict=True):
        some.copy_((weight @ copy[: len(part)].copy_(part).T).T)  # in this order of the factors a fifth faster
    return result.add_(bias)
