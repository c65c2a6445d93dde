"""Emits IR ops for one torch node after another, with the small conversions that torch implies."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.fx import Node

from effcomp.capture.dtypes import COMPLEX, common_dtype, is_inexact, name_of
from effcomp.capture.ratios import emit_ratio
from effcomp.capture.sizes import Ratio, Sizes
from effcomp.errors import CaptureError, VerifyError
from effcomp.ir import SPECS, Dim, Op, Value
from effcomp.ir.core import Attr
from effcomp.ir.dims import dim, same, same_shape
from effcomp.ir.types import INTEGERS

Number = bool | int | float | complex
Operand = Value | Number | Dim | Ratio


class Unmodelled(Exception):
    """A row cannot express this use of its operator; the message says why."""


@dataclass(slots=True)
class Builder:
    """The ops of a graph under construction, and the node that is being imported."""

    sizes: Sizes
    device: torch.device
    ops: list[Op] = field(default_factory=list[Op])
    hint: str = ""
    loc: str = ""
    scope: str = ""
    node: Node | None = None
    expected: Any = None  # what the node gave when it was traced: fake tensors

    def emit_all(self, name: str, *operands: Value, **attrs: Attr) -> tuple[Value, ...]:
        """Append an op. Raises Unmodelled where the op table refuses the operands."""
        try:
            op = SPECS[name].build(*operands, body=None, loc=self.loc, scope=self.scope, **attrs)
        except VerifyError as error:
            raise Unmodelled(f"{name}: {error}") from None
        hint = "" if name == "tensor.constant" else self.hint
        op = replace(op, results=tuple(Value(r.type, hint) for r in op.results))
        self.ops.append(op)
        return op.results

    def emit(self, name: str, *operands: Value, **attrs: Attr) -> Value:
        (result,) = self.emit_all(name, *operands, **attrs)
        return result

    # What the node gave when it was traced.

    @property
    def dtype(self) -> str:
        return name_of(self.expected.dtype)

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.sizes.shape(self.expected.shape)

    def reads_only(self, *indices: int) -> bool:
        """Whether nobody reads other results of the node than these."""
        assert self.node is not None, "no node is being imported"
        return all(user.args[1] in indices for user in self.node.users)

    # Numbers.

    def constant(self, value: Number, dtype: str) -> Value:
        if isinstance(value, complex) and dtype in COMPLEX:
            raise Unmodelled("a constant is no complex number")
        return self.emit("tensor.constant", value=literal(value, dtype), dtype=dtype)

    def operand(self, x: Operand, dtype: str) -> Value:
        """A tensor, number or size as an operand of an op that computes in `dtype`."""
        match x:
            case Value():
                return self.convert(x, dtype)
            case bool() | int() | float() | complex():
                return self.constant(x, dtype)
            case Ratio():
                return self.convert(emit_ratio(self, x), dtype)
            case _:
                return self.emit("tensor.dim", value=x, dtype=dtype)

    def convert(self, x: Value, dtype: str) -> Value:
        """x as `dtype`; to bool means x != 0, as in torch."""
        if x.dtype == dtype:
            return x
        if dtype == "bool":
            return self.emit("tensor.ne", x, self.constant(0, x.dtype))
        if x.dtype in COMPLEX and dtype not in COMPLEX:
            raise Unmodelled("a complex tensor becomes a real one")
        return self.emit("tensor.convert", x, dtype=dtype)

    def inexact(self, x: Value) -> Value:
        """x itself if it is of a float or complex dtype, else as torch's default float."""
        return x if is_inexact(x.dtype) else self.convert(x, name_of(torch.get_default_dtype()))

    def binary(self, name: str, x: Operand, y: Operand, dtype: str | None = None) -> Value:
        """An elementwise op of two operands under torch's promotion, or in `dtype`."""
        dtype = dtype or common_dtype((x, y))
        return self.emit(name, self.operand(x, dtype), self.operand(y, dtype))

    def full(self, shape: Sequence[Dim], value: Number, dtype: str) -> Value:
        return self.emit(
            "tensor.full", shape=tuple(shape), value=literal(value, dtype), dtype=dtype
        )

    # Views: each is left out where it would change nothing.

    def reshape(self, x: Value, shape: Sequence[Dim]) -> Value:
        shape = tuple(shape)
        return x if same_shape(x.shape, shape) else self.emit("tensor.reshape", x, shape=shape)

    def broadcast(self, x: Value, shape: Sequence[Dim]) -> Value:
        shape = tuple(shape)
        return x if same_shape(x.shape, shape) else self.emit("tensor.broadcast", x, shape=shape)

    def permute(self, x: Value, dims: Sequence[int]) -> Value:
        dims = tuple(d % x.tensor.rank for d in dims)
        return x if dims == tuple(range(len(dims))) else self.emit("tensor.permute", x, dims=dims)

    def transpose(self, x: Value, one: int = -1, other: int = -2) -> Value:
        dims = list(range(x.tensor.rank))
        dims[one], dims[other] = dims[other], dims[one]
        return self.permute(x, dims)

    def slice(self, x: Value, axis: int, start: Dim, stop: Dim, step: int = 1) -> Value:
        if step == 1 and start == 0 and same(stop, x.shape[axis]):
            return x
        return self.emit("tensor.slice", x, dim=axis, start=start, stop=stop, step=step)

    def concat(self, parts: Sequence[Value], axis: int) -> Value:
        return parts[0] if len(parts) == 1 else self.emit("tensor.concat", *parts, dim=axis)

    def axis(self, d: int, rank: int) -> int:
        return d % rank if rank else 0

    def from_end(self, position: Dim, size: Dim) -> Dim:
        """A position that may count from the end, counted from the start."""
        return dim(position + size) if self.sizes.is_negative(position) else position


def literal(value: Number, dtype: str) -> Number:
    """A Python number as ATen reads it for a tensor of `dtype`."""
    if dtype == "bool":
        return bool(value)
    if isinstance(value, complex):
        if dtype not in COMPLEX:
            raise CaptureError(f"{value} is no number for a tensor of {dtype}")
        return value
    return int(value) if dtype in INTEGERS else float(value)
