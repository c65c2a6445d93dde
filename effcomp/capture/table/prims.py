"""torch's primitive operators, in which some of its decompositions are written.

Their operands agree in dtype already.
"""

from collections.abc import Sequence

import torch

from effcomp.capture.builder import Builder, Operand
from effcomp.capture.dtypes import name_of
from effcomp.capture.table.reduction import reduce
from effcomp.capture.table.rows import row
from effcomp.ir import Dim, Value

UNARY = (
    "abs", "ceil", "cos", "erf", "exp", "exp2", "expm1", "floor", "log", "log1p", "log2", "neg",
    "reciprocal", "round", "rsqrt", "sign", "sin", "sqrt", "tan", "tanh", "trunc", "bitwise_not",
)  # fmt: skip
BINARY = (
    "add", "sub", "mul", "div", "pow", "maximum", "minimum", "remainder", "atan2", "eq", "ne",
    "lt", "le", "gt", "ge", "bitwise_and", "bitwise_or", "bitwise_xor", "shift_left",
)  # fmt: skip
REDUCTIONS = ("sum", "amax", "amin", "prod")


def _declare_unary(name: str) -> None:
    @row(f"prims.{name}.default")
    def unary(b: Builder, x: Value) -> Value:
        return b.emit(f"tensor.{name}", x)


def _declare_binary(name: str) -> None:
    @row(f"prims.{name}.default")
    def binary(b: Builder, x: Operand, y: Operand) -> Value:
        return b.binary(f"tensor.{name}", x, y)


def _declare_reduction(name: str) -> None:
    @row(f"prims.{name}.default")
    def reduction(b: Builder, x: Value, dims: Sequence[int], **_more: object) -> Value:
        return reduce(b, f"tensor.{name}", x, dims) if dims else x


for unary_name in UNARY:
    _declare_unary(unary_name)
for binary_name in BINARY:
    _declare_binary(binary_name)
for reduction_name in REDUCTIONS:
    _declare_reduction(reduction_name)


@row("prims.where.default")
def where(b: Builder, condition: Value, x: Value, y: Value) -> Value:
    return b.emit("tensor.where", condition, x, y)


@row("prims.convert_element_type.default")
def convert_element_type(b: Builder, x: Value, dtype: torch.dtype) -> Value:
    return b.convert(x, name_of(dtype))


@row("prims.iota.default")
def iota(b: Builder, length: Dim, *, start: Dim, step: Dim, **_placement: object) -> Value:
    return b.emit("tensor.iota", size=length, start=start, step=step, dtype=b.dtype)


@row("prims.broadcast_in_dim.default")
def broadcast_in_dim(b: Builder, x: Value, shape: Sequence[Dim], dims: Sequence[int]) -> Value:
    """Operand dim i becomes dim dims[i] of the result."""
    spread: list[Dim] = [1] * len(shape)
    for size, at in zip(x.shape, dims, strict=True):
        spread[at] = size
    return b.broadcast(b.reshape(x, spread), b.shape)


@row("prims.transpose.default")
def transpose(b: Builder, x: Value, order: Sequence[int]) -> Value:
    return b.permute(x, order)


@row("prims.squeeze.default", "prims.reshape.default", "prims.collapse_view.default")
@row("prims.split_dim.default")
def reshape(b: Builder, x: Value, *_sizes: object) -> Value:
    return b.reshape(x, b.shape)


@row("prims.cat.default")
def concat(b: Builder, parts: Sequence[Value], axis: int) -> Value:
    return b.concat(parts, axis)
