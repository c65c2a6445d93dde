"""Operators that read or write at positions given by tensors, and writes into slices."""

from collections.abc import Sequence

from effcomp.capture.builder import Builder, Operand, Unmodelled
from effcomp.capture.table.rows import row
from effcomp.capture.table.views import slice_bounds
from effcomp.ir import Dim, Value
from effcomp.ir.dims import dim
from effcomp.ir.ops.indexing import indexed_shape
from effcomp.ir.types import INTEGERS

Indices = Sequence[Value | None]


@row("embedding.default")
def embedding(b: Builder, weight: Value, index: Value, *_gradient: object) -> Value:
    return b.emit("nn.embedding", weight, index)


@row("gather.default")
def gather(b: Builder, x: Value, axis: int, index: Value, *, sparse_grad: bool = False) -> Value:
    if x.tensor.rank == 0:
        raise Unmodelled("of a scalar")
    return b.emit("tensor.gather", x, index, dim=b.axis(axis, x.tensor.rank))


@row("index_select.default")
def index_select(b: Builder, x: Value, axis: int, index: Value) -> Value:
    if x.tensor.rank == 0 or index.tensor.rank == 0:
        raise Unmodelled("of a scalar")
    return b.emit("tensor.take", x, index, dim=b.axis(axis, x.tensor.rank))


def _integers(indices: Indices) -> tuple[tuple[Value, ...], tuple[int, ...]]:
    """The index tensors and the dims at which they stand."""
    given = [(i, d) for d, i in enumerate(indices) if i is not None]
    if any(i.dtype not in INTEGERS or i.dtype == "u8" for i, _ in given):
        raise Unmodelled("is indexed by a mask: how many elements that selects is data")
    return tuple(i for i, _ in given), tuple(d for _, d in given)


@row("index.Tensor", "_unsafe_index.Tensor")
def index(b: Builder, x: Value, indices: Indices) -> Value:
    found, dims = _integers(indices)
    return b.emit("tensor.index", x, *found, dims=dims) if found else x


@row("index_put.default", "_unsafe_index_put.default")
def index_put(
    b: Builder, x: Value, indices: Indices, values: Value, accumulate: bool = False
) -> Value:
    masks = [i for i in indices if i is not None]
    if len(masks) == 1 and masks[0].dtype == "bool":
        return _write_where(b, x, indices, values, accumulate)
    found, dims = _integers(indices)
    if not found:
        values = b.broadcast(values, x.shape)
        return b.emit("tensor.add", x, values) if accumulate else values
    shape = indexed_shape(x.tensor, tuple(i.tensor for i in found), dims)
    values = b.broadcast(_without_leading_ones(b, values, len(shape)), shape)
    return b.emit("tensor.index_put", x, values, *found, dims=dims, accumulate=accumulate)


def _without_leading_ones(b: Builder, values: Value, rank: int) -> Value:
    return b.reshape(values, values.shape[-rank:]) if values.tensor.rank > rank else values


def _write_where(b: Builder, x: Value, indices: Indices, values: Value, accumulate: bool) -> Value:
    """x[mask] = value for one value: tensor.where."""
    (axis,) = [d for d, i in enumerate(indices) if i is not None]
    mask = indices[axis]
    assert mask is not None, "the mask was just found"
    if values.tensor.numel != 1:
        raise Unmodelled("writes several values through a mask")
    after = x.tensor.rank - axis - mask.tensor.rank
    mask = b.reshape(mask, (*mask.shape, *[1] * after))
    values = b.reshape(values, ())
    written = b.emit("tensor.add", x, values) if accumulate else values
    return b.emit("tensor.where", mask, written, x)


@row("index_copy.default")
def index_copy(b: Builder, x: Value, axis: int, index: Value, source: Value) -> Value:
    if x.tensor.rank == 0:
        raise Unmodelled("of a scalar")
    axis = b.axis(axis, x.tensor.rank)
    index = b.reshape(index, (index.tensor.numel,))
    return b.emit("tensor.index_put", x, source, index, dims=(axis,))


@row("index_add.default")
def index_add(
    b: Builder, x: Value, axis: int, index: Value, source: Value, *, alpha: Operand = 1
) -> Value:
    if x.tensor.rank == 0:
        raise Unmodelled("of a scalar")
    axis = b.axis(axis, x.tensor.rank)
    if alpha != 1:
        source = b.binary("tensor.mul", source, alpha, source.dtype)
    index = b.reshape(index, (index.tensor.numel,))
    return b.emit("tensor.index_put", x, source, index, dims=(axis,), accumulate=True)


@row("scatter.src")
def scatter(b: Builder, x: Value, axis: int, index: Value, source: Value) -> Value:
    return _scatter(b, x, axis, index, source, "none")


@row("scatter.value")
def scatter_value(b: Builder, x: Value, axis: int, index: Value, value: Operand) -> Value:
    source = b.broadcast(b.operand(value, x.dtype), index.shape)
    return _scatter(b, x, axis, index, source, "none")


@row("scatter_add.default")
def scatter_add(b: Builder, x: Value, axis: int, index: Value, source: Value) -> Value:
    return _scatter(b, x, axis, index, source, "sum")


@row("scatter_reduce.two")
def scatter_reduce(
    b: Builder, x: Value, axis: int, index: Value, source: Value, reduce: str,
    *, include_self: bool = True,
) -> Value:  # fmt: skip
    if reduce != "sum" or not include_self:
        raise Unmodelled(f"reduces by {reduce!r}{'' if include_self else ' without the old value'}")
    return _scatter(b, x, axis, index, source, "sum")


def _scatter(b: Builder, x: Value, axis: int, index: Value, source: Value, reduce: str) -> Value:
    if x.tensor.rank == 0:
        raise Unmodelled("of a scalar")
    for d, size in enumerate(index.shape):
        source = b.slice(source, d, 0, size)  # torch reads only as much as the index names
    axis = b.axis(axis, x.tensor.rank)
    return b.emit("tensor.scatter", x, index, source, dim=axis, reduce=reduce)


@row("slice_scatter.default")
def slice_scatter(
    b: Builder,
    x: Value,
    source: Value,
    axis: int = 0,
    start: Dim | None = None,
    end: Dim | None = None,
    step: int = 1,
) -> Value:
    if not isinstance(step, int):
        raise Unmodelled("the step is symbolic")
    axis = b.axis(axis, x.tensor.rank)
    first, stop = slice_bounds(b, x.shape[axis], start, source.shape[axis], step)
    source = b.convert(source, x.dtype)
    return b.emit("tensor.slice_scatter", x, source, dim=axis, start=first, stop=stop, step=step)


@row("select_scatter.default")
def select_scatter(b: Builder, x: Value, source: Value, axis: int, index: Dim) -> Value:
    axis = b.axis(axis, x.tensor.rank)
    first = b.from_end(index, x.shape[axis])
    source = b.reshape(source, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
    source = b.convert(source, x.dtype)
    stop = dim(first + 1)
    return b.emit("tensor.slice_scatter", x, source, dim=axis, start=first, stop=stop)


@row("copy.default")
def copy(b: Builder, x: Value, source: Value, non_blocking: bool = False) -> Value:
    return b.broadcast(b.convert(source, x.dtype), x.shape)
