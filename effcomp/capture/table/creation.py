"""Operators that make tensors from nothing but sizes and numbers."""

from effcomp.capture.builder import Builder, Operand, Unmodelled
from effcomp.capture.sizes import Ratio
from effcomp.capture.table.rows import row
from effcomp.ir import Dim, Value
from effcomp.ir.types import INTEGERS


def _filled(b: Builder, value: Operand) -> Value:
    if isinstance(value, (bool, int, float, complex)):
        return b.full(b.shape, value, b.dtype)
    return b.broadcast(b.operand(value, b.dtype), b.shape)


@row("full.default", "full_like.default", "new_full.default", "fill.Scalar", "fill.Tensor")
def full(b: Builder, *arguments: Operand, **_placement: object) -> Value:
    """The value is the last of the arguments, whatever stands before it."""
    return _filled(b, arguments[-1])


@row("zeros.default", "zeros_like.default", "new_zeros.default", "zero.default")
@row("empty.memory_format", "empty_like.default", "new_empty.default", "empty_strided.default")
@row("new_empty_strided.default", "empty_permuted.default")
def zeros(b: Builder, *_arguments: object, **_placement: object) -> Value:
    """What is not initialised may be anything, so it is zero."""
    return b.full(b.shape, 0, b.dtype)


@row("ones.default", "ones_like.default", "new_ones.default")
def ones(b: Builder, *_arguments: object, **_placement: object) -> Value:
    return b.full(b.shape, 1, b.dtype)


@row("scalar_tensor.default")
def scalar_tensor(b: Builder, value: Operand, **_placement: object) -> Value:
    return _filled(b, value)


@row("arange.default")
def arange(b: Builder, end: Operand, **placement: object) -> Value:
    return arange_step(b, 0, end, 1, **placement)


@row("arange.start")
def arange_start(b: Builder, start: Operand, end: Operand, **placement: object) -> Value:
    return arange_step(b, start, end, 1, **placement)


@row("arange.start_step")
def arange_step(
    b: Builder, start: Operand, end: Operand, step: Operand = 1, **_placement: object
) -> Value:
    size = b.shape[0]
    first, stride = _whole(start), _whole(step)
    if first is not None and stride is not None:
        dtype = b.dtype if b.dtype in INTEGERS else "i64"
        counted = b.emit("tensor.iota", size=size, start=first, step=stride, dtype=dtype)
        return b.convert(counted, b.dtype)
    # ATen counts floats as start + i * step in double precision.
    index = b.convert(b.emit("tensor.iota", size=size), "f64")
    moved = b.emit("tensor.mul", index, b.operand(step, "f64"))
    return b.convert(b.emit("tensor.add", moved, b.operand(start, "f64")), b.dtype)


@row("linspace.default")
def linspace(b: Builder, start: Operand, end: Operand, steps: Dim, **_placement: object) -> Value:
    """Counts from `start` in the first half and back from `end` in the second, as ATen does."""
    if not isinstance(start, (int, float)) or not isinstance(end, (int, float)):
        raise Unmodelled("an end is symbolic")
    if b.dtype in INTEGERS or not isinstance(steps, int):
        raise Unmodelled("the steps are symbolic, or truncated to integers")
    step = (end - start) / (steps - 1) if steps > 1 else 0.0
    index = b.emit("tensor.iota", size=steps)
    forward = _along(b, index, step, float(start))
    backward = _along(b, index, step, end - step * (steps - 1))
    in_front = b.emit("tensor.lt", index, b.constant(steps // 2, "i64"))
    return b.convert(b.emit("tensor.where", in_front, forward, backward), b.dtype)


def _along(b: Builder, index: Value, step: float, start: float) -> Value:
    moved = b.emit("tensor.mul", b.convert(index, "f64"), b.constant(step, "f64"))
    return b.emit("tensor.add", moved, b.constant(start, "f64"))


@row("eye.default", "eye.m")
def eye(b: Builder, *_sizes: Dim, **_placement: object) -> Value:
    rows, columns = b.shape
    down = b.reshape(b.emit("tensor.iota", size=rows), (rows, 1))
    across = b.reshape(b.emit("tensor.iota", size=columns), (1, columns))
    return b.convert(b.emit("tensor.eq", down, across), b.dtype)


def _whole(number: Operand) -> Dim | None:
    """The number as a size; None if it is no integer."""
    if isinstance(number, float):
        return int(number) if number.is_integer() else None
    return None if isinstance(number, (complex, Ratio, Value)) else number
