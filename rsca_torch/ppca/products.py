"""Products of large matrices of float32, by the fastest kernels that torch brings."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["add_product", "product"]

TERMS = 512  # that one kernel adds up: of more, the last digits would all be lost to the same side
PART = 2**20  # elements of a product that wait in the cache for being added: 4 MB


def product(left: Tensor, right: Tensor) -> Tensor:
    """(n, p) @ (p, m), as exact as torch's own: in float32 on a CPU by oneDNN.

    oneDNN's kernels use all of a processor's vector registers, of whatever make it is. MKL's, which `@` calls, leave
    half of them idle on one that is not Intel's. float64, other devices and what autograd follows are left to `@`.

    >>> product(torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[1., 2.],
            [3., 4.]])
    """
    if not _is_for_onednn(left, right):
        return left @ right
    total, *others = (
        _by_onednn(*part) for part in zip(torch.split(left, TERMS, 1), torch.split(right, TERMS), strict=True)
    )
    for other in others:
        total.add_(other)
    return total


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add (n, p) @ (p, m) to a total (n, m), some rows at a time, so that nothing of its size is made.

    >>> total = torch.ones(1, 1)
    >>> add_product(total, torch.tensor([[2.0]]), torch.tensor([[3.0]]))
    >>> total
    tensor([[7.]])
    """
    if not _is_for_onednn(left, right):
        total.addmm_(left, right)
        return
    rows = max(1, PART // right.shape[1])
    for part, some in zip(torch.split(total, rows), torch.split(left, rows), strict=True):
        part.add_(product(some, right))


def _by_onednn(left: Tensor, right: Tensor) -> Tensor:
    if not (right.is_contiguous() or right.T.is_contiguous()):
        right = right.contiguous()  # for parts of columns oneDNN has no fast kernel: it took a hundred times as long
    result: Tensor = torch.ops.mkldnn._linear_pointwise(left, right.T, None, "none", [], "")
    return result


def _is_for_onednn(*matrices: Tensor) -> bool:
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and all(
            matrix.dtype == torch.float32
            and matrix.device.type == "cpu"
            and matrix.numel() > 0
            and not matrix.requires_grad
            for matrix in matrices
        )
    )
