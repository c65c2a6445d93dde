"""Views, and ops that put elements somewhere without computing."""

from effcomp.ir import Tag, Value
from effcomp.ir.dims import Dim
from effcomp.ir.dims import dim as normal
from effcomp.ir.types import INTEGERS
from effcomp.reference.emitter import Emitter, Place, on_plan, row


@row("tensor.reshape")
def reshape(b: Emitter, x: Value, *, shape: tuple[Dim, ...]) -> Place:
    return b.reshape(x, shape)


@row("tensor.permute")
def permute(b: Emitter, x: Value, *, dims: tuple[int, ...]) -> Place:
    return b.call("aten.permute.default", x, dims)


@row("tensor.broadcast")
def broadcast(b: Emitter, x: Value, *, shape: tuple[Dim, ...]) -> Place:
    return b.call("aten.expand.default", x, shape)


@row("tensor.slice")
def slice_(b: Emitter, x: Value, *, dim: int, start: Dim, stop: Dim, step: int) -> Place:
    return b.call("aten.slice.Tensor", x, dim, start, stop, step)


@row("tensor.flip")
def flip(b: Emitter, x: Value, *, dims: tuple[int, ...]) -> Place:
    return b.call("aten.flip.default", x, dims)


@row("tensor.concat")
def concat(b: Emitter, *parts: Value, dim: int) -> Place:
    return b.call("aten.cat.default", parts, dim)


@row("tensor.pad")
def pad(
    b: Emitter, x: Value, *, low: tuple[Dim, ...], high: tuple[Dim, ...], value: float
) -> Place:
    # ATen counts from the last dim: low, high of the last, low, high of the one before it, ...
    amounts = [n for pair in zip(reversed(low), reversed(high), strict=True) for n in pair]
    return b.call("aten.constant_pad_nd.default", x, amounts, _scalar(value, x.dtype))


def _scalar(value: bool | int | float, dtype: str) -> bool | int | float:
    return bool(value) if dtype == "bool" else int(value) if dtype in INTEGERS else value


@row("tensor.full")
def full(b: Emitter, *, shape: tuple[Dim, ...], value: bool | int | float, dtype: str) -> Place:
    return b.full(shape, _scalar(value, dtype), dtype)


@row("tensor.iota")
def iota(b: Emitter, *, size: Dim, start: Dim, step: Dim, dtype: str) -> Place:
    if step == 0:
        return b.full((size,), start, dtype)
    stop = normal(start + size * step)
    return b.call("aten.arange.start_step", start, stop, step, **on_plan(dtype))


@row("tensor.triangle")
def triangle(b: Emitter, x: Value, *, upper: bool, diagonal: int) -> Place:
    return b.call(f"aten.{'triu' if upper else 'tril'}.default", x, diagonal)


@row("tensor.copy")
def copy(b: Emitter, x: Value) -> Place:
    return b.call("aten.clone.default", x, memory_format=Tag("memory_format", "contiguous_format"))


@row("tensor.size")
def size(b: Emitter, *, value: Dim) -> None:
    """No call: a size is an expression wherever it is read."""
    del b, value
