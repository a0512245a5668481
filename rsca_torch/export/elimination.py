"""Systems of equations in ONNX, which has no operator for them: elimination, block by block, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import onnxscript
import torch
from onnxscript import DOUBLE, opset18

__all__ = ["OPSET", "TRANSLATIONS"]

OPSET = 18  # of ONNX
op: Any = opset18
Doubles: Any = DOUBLE[...]  # type: ignore[misc]
BLOCK = 16  # rows that are eliminated one by one; what lies beyond them by products of matrices


@onnxscript.script(onnxscript.values.Opset("rsca_torch", 1), default_opset=op)
def solved_rows(whole: Doubles, eye: Doubles) -> Doubles:
    """(n, b, m) -> the same with 1 on the diagonal of the first b columns and 0 beside it (Gauss and Jordan)."""
    size = op.Squeeze(op.Shape(eye, start=0, end=1))
    for number in range(size):  # of ONNX: a Loop
        at = op.Unsqueeze(number, op.Constant(value_ints=[0]))
        row = op.Gather(whole, at, axis=1)
        column = op.Sub(op.Gather(whole, at, axis=2), op.Gather(eye, at, axis=1))
        whole = op.Sub(whole, op.Mul(column, op.Div(row, op.Gather(row, at, axis=2))))
    return whole


def _cholesky(matrix: Any, upper: bool = False, check_errors: bool = False) -> Any:  # noqa: ANN401, ARG001
    """The matrix as it is: what solves eliminates, which for a positive definite matrix is as exact without a root."""
    return op.Identity(matrix), op.ReduceSum(matrix, op.Constant(value_ints=[-1, -2]), keepdims=0)


def _cholesky_solve(right: Any, matrix: Any, upper: bool = False) -> Any:  # noqa: ANN401, ARG001
    """(n, K, 1) of symmetric positive definite matrices (n, K, K), for which no pivots need be sought."""
    size = int(matrix.shape[-1])
    left, solved = op.Concat(matrix, right, axis=-1), []  # (n, what is left, what is left + 1)
    for first in range(0, size, BLOCK):
        rows = min(BLOCK, size - first)
        block = solved_rows(_part(left, 1, 0, rows), _constant(torch.eye(rows, dtype=torch.float64)))
        block = _part(block, 2, rows)
        solved.append((rows, block))
        below = _part(left, 1, rows)
        left = op.Sub(_part(below, 2, rows), op.MatMul(_part(below, 2, 0, rows), block))
    found = None
    for _, block in reversed(solved):  # the last block is its own solution
        if found is None:
            found = block
            continue
        known = op.MatMul(_part(block, 2, 0, -1), found)
        found = op.Concat(op.Sub(_part(block, 2, -1), known), found, axis=1)
    return found


def _part(tensor: Any, axis: int, first: int, end: int = 2**31 - 1) -> Any:  # noqa: ANN401
    ends = [op.Constant(value_ints=[place]) for place in (first, end, axis)]
    return op.Slice(tensor, *ends)


def _constant(tensor: torch.Tensor) -> Any:  # noqa: ANN401
    return op.Constant(value=onnx.numpy_helper.from_array(tensor.numpy()))


#: What stands in ONNX for torch's operators. The two belong together: `ppca.graph` uses no factor for anything else.
TRANSLATIONS: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.linalg_cholesky_ex.default: _cholesky,
    torch.ops.aten.cholesky_solve.default: _cholesky_solve,
}
