"""Operators that move or re-address data, and those that join and repeat it."""

from collections.abc import Sequence
from itertools import accumulate

import torch

from effcomp.capture.builder import Builder, Unmodelled
from effcomp.capture.dtypes import common_dtype
from effcomp.capture.table.rows import row
from effcomp.ir import Dim, Value
from effcomp.ir.dims import contiguous_strides, dim, product, same

END = 2**63 - 1  # what torch writes for "up to the end"


@row("clone.default", "alias.default", "detach.default", "lift_fresh_copy.default")
@row("lift_fresh.default", "contiguous.default", "positive.default")
@row("resolve_conj.default", "resolve_neg.default", "view_of.default")
def identity(b: Builder, x: Value, *_layout: object, **_more: object) -> Value:
    """The same value: aliasing and layout are settled where the graph returns it."""
    return x


@row("view.default", "_unsafe_view.default", "reshape.default", "_reshape_alias.default")
@row("unsqueeze.default", "squeeze.default", "squeeze.dim", "squeeze.dims")
@row("flatten.using_ints", "unflatten.int")
def reshape(b: Builder, x: Value, *_sizes: object) -> Value:
    return b.reshape(x, b.shape)


@row("expand.default", "broadcast_to.default")
def expand(b: Builder, x: Value, size: Sequence[Dim], *, implicit: bool = False) -> Value:
    return b.broadcast(x, b.shape)


@row("permute.default")
def permute(b: Builder, x: Value, dims: Sequence[int]) -> Value:
    return b.permute(x, dims)


@row("t.default", "numpy_T.default", "mT.default")
def transpose_all(b: Builder, x: Value) -> Value:
    return b.transpose(x) if x.tensor.rank >= 2 else x


@row("transpose.int")
def transpose(b: Builder, x: Value, dim0: int, dim1: int) -> Value:
    return b.transpose(x, dim0, dim1) if x.tensor.rank >= 2 else x


@row("movedim.int")
def movedim(b: Builder, x: Value, source: int, destination: int) -> Value:
    rank = x.tensor.rank
    order = [d for d in range(rank) if d != source % rank]
    order.insert(destination % rank, source % rank)
    return b.permute(x, order)


@row("flip.default")
def flip(b: Builder, x: Value, dims: Sequence[int]) -> Value:
    dims = tuple(b.axis(d, x.tensor.rank) for d in dims)
    return b.emit("tensor.flip", x, dims=dims) if dims else x


def slice_bounds(
    b: Builder, size: Dim, start: Dim | None, length: Dim, step: int
) -> tuple[Dim, Dim]:
    """Where a slice of `length` elements begins and ends, both counted from the front."""
    first = 0 if start is None else b.from_end(start, size)
    if isinstance(first, int):
        first = max(first, 0)
        first = min(first, size) if isinstance(size, int) else first
    if step == 1:
        return first, dim(first + length)
    if length == 0:
        return first, first
    return first, dim(first + (length - 1) * step + 1)


@row("slice.Tensor")
def slice_(
    b: Builder,
    x: Value,
    axis: int = 0,
    start: Dim | None = None,
    end: Dim | None = None,
    step: int = 1,
) -> Value:
    if not isinstance(step, int):
        raise Unmodelled("the step is symbolic")
    axis = b.axis(axis, x.tensor.rank)
    return b.slice(x, axis, *slice_bounds(b, x.shape[axis], start, b.shape[axis], step), step)


@row("narrow.default")
def narrow(b: Builder, x: Value, axis: int, start: Dim, length: Dim) -> Value:
    axis = b.axis(axis, x.tensor.rank)
    first = b.from_end(start, x.shape[axis])
    return b.slice(x, axis, first, dim(first + length))


@row("select.int")
def select(b: Builder, x: Value, axis: int, index: Dim) -> Value:
    axis = b.axis(axis, x.tensor.rank)
    first = b.from_end(index, x.shape[axis])
    return b.reshape(b.slice(x, axis, first, dim(first + 1)), b.shape)


@row("split.Tensor", "split_with_sizes.default", "chunk.default")
@row("unsafe_split.Tensor", "unsafe_split_with_sizes.default", "unsafe_chunk.default")
@row("split_with_sizes_copy.default")
def split(b: Builder, x: Value, _sizes: object, axis: int = 0) -> tuple[Value, ...]:
    axis = b.axis(axis, x.tensor.rank)
    sizes = [b.sizes.dim(part.shape[axis]) for part in b.expected]
    ends = [dim(end) for end in accumulate(sizes)]
    return tuple(b.slice(x, axis, start, end) for start, end in zip([0, *ends], ends, strict=False))


@row("unbind.int")
def unbind(b: Builder, x: Value, axis: int = 0) -> tuple[Value, ...]:
    axis = b.axis(axis, x.tensor.rank)
    rest = (*x.shape[:axis], *x.shape[axis + 1 :])
    return tuple(b.reshape(b.slice(x, axis, i, i + 1), rest) for i in range(len(b.expected)))


@row("cat.default", "concat.default")
def concat(b: Builder, parts: Sequence[Value], axis: int = 0) -> Value:
    dtype = common_dtype(parts)
    # An empty tensor of rank 1 joins anything: torch's own exception.
    kept = [p for p in parts if p.shape != (0,)] or [*parts[:1]]
    return b.concat([b.convert(p, dtype) for p in kept], b.axis(axis, kept[0].tensor.rank))


@row("stack.default")
def stack(b: Builder, parts: Sequence[Value], axis: int = 0) -> Value:
    dtype = common_dtype(parts)
    axis = b.axis(axis, parts[0].tensor.rank + 1)
    shape = (*parts[0].shape[:axis], 1, *parts[0].shape[axis:])
    return b.concat([b.reshape(b.convert(p, dtype), shape) for p in parts], axis)


@row("repeat.default", "tile.default")
def repeat(b: Builder, x: Value, repeats: Sequence[Dim]) -> Value:
    """[.., n, ..] => [.., 1, n, ..] => [.., r, n, ..] => [.., r n, ..]."""
    rank = max(len(repeats), x.tensor.rank)
    repeats = [1] * (rank - len(repeats)) + [*repeats]
    shape = (*[1] * (rank - x.tensor.rank), *x.shape)
    if all(r == 1 for r in repeats):
        return b.reshape(x, shape)
    apart = [part for n in shape for part in (1, n)]
    wide = [part for r, n in zip(repeats, shape, strict=True) for part in (r, n)]
    return b.reshape(b.broadcast(b.reshape(x, apart), wide), b.shape)


@row("constant_pad_nd.default")
def constant_pad(b: Builder, x: Value, pad: Sequence[Dim], value: float = 0) -> Value:
    """torch pads from the last dim backwards; a negative amount takes elements away."""
    rank = x.tensor.rank
    low: list[Dim] = [0] * rank
    high: list[Dim] = [0] * rank
    for i in range(len(pad) // 2):
        low[rank - 1 - i], high[rank - 1 - i] = pad[2 * i], pad[2 * i + 1]
    for axis in range(rank):
        start = dim(-low[axis]) if b.sizes.is_negative(low[axis]) else 0
        cut = dim(-high[axis]) if b.sizes.is_negative(high[axis]) else 0
        x = b.slice(x, axis, start, dim(x.shape[axis] - cut))
        low[axis] = 0 if start != 0 else low[axis]
        high[axis] = 0 if cut != 0 else high[axis]
    if all(amount == 0 for amount in (*low, *high)):
        return x
    return b.emit("tensor.pad", x, low=tuple(low), high=tuple(high), value=float(value))


@row("tril.default", "triu.default")
def triangle(b: Builder, x: Value, diagonal: int = 0) -> Value:
    upper = b.node is not None and b.node.target is torch.ops.aten.triu.default
    return b.emit("tensor.triangle", x, upper=upper, diagonal=diagonal)


@row("as_strided.default")
def as_strided(
    b: Builder, x: Value, size: Sequence[Dim], stride: Sequence[Dim], offset: Dim | None = None
) -> Value:
    """Only where it says the same as a reshape: anything else depends on the operand's layout."""
    assert b.node is not None, "no node is being imported"
    traced = b.node.all_input_nodes[0].meta["val"]
    plain = traced.is_contiguous() and traced.storage_offset() == 0
    whole = same(product(size), x.tensor.numel) and offset in (None, 0)
    if plain and whole and _is_row_major(size, stride):
        return b.reshape(x, size)
    raise Unmodelled("reads memory by strides")


def _is_row_major(size: Sequence[Dim], stride: Sequence[Dim]) -> bool:
    wanted = contiguous_strides(size)
    return all(n == 1 or same(a, c) for n, a, c in zip(size, stride, wanted, strict=True))
