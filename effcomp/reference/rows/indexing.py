"""Reads and writes at positions given by tensors."""

from collections.abc import Sequence
from typing import Any

from effcomp.ir import Value
from effcomp.ir.dims import Dim
from effcomp.reference.emitter import BufferArg, Emitter, Place, row


def as_index(b: Emitter, index: Value, accepted: Sequence[str] = ("i64", "i32")) -> BufferArg:
    """An index in a dtype ATen takes for one (it reads u8 as a mask)."""
    return b.tensor(index) if index.dtype in accepted else b.convert(index, "i64")


def index_list(b: Emitter, indices: Sequence[Value], dims: Sequence[int]) -> list[Any]:
    """ATen's list of indices: indices[j] at position dims[j], None between."""
    found: list[Any] = [None] * (max(dims) + 1)
    for index, d in zip(indices, dims, strict=True):
        found[d] = as_index(b, index)
    return found


@row("tensor.gather")
def gather(b: Emitter, x: Value, index: Value, *, dim: int) -> Place:
    return b.call("aten.gather.default", x, dim, as_index(b, index, ("i64",)))


@row("tensor.take")
def take(b: Emitter, x: Value, index: Value, *, dim: int) -> Place:
    return b.call("aten.index.Tensor", x, index_list(b, (index,), (dim % len(x.shape),)))


@row("tensor.index")
def index(b: Emitter, x: Value, *indices: Value, dims: tuple[int, ...]) -> Place:
    return b.call("aten.index.Tensor", x, index_list(b, indices, dims))


@row("tensor.index_put")
def index_put(
    b: Emitter, x: Value, values: Value, *indices: Value, dims: tuple[int, ...], accumulate: bool
) -> Place:
    at = index_list(b, indices, dims)
    return b.call("aten.index_put.default", x, at, values, accumulate)


@row("tensor.scatter")
def scatter(b: Emitter, x: Value, index: Value, source: Value, *, dim: int, reduce: str) -> Place:
    target = "aten.scatter_add.default" if reduce == "sum" else "aten.scatter.src"
    return b.call(target, x, dim, as_index(b, index, ("i64",)), source)


@row("tensor.slice_scatter")
def slice_scatter(
    b: Emitter, x: Value, source: Value, *, dim: int, start: Dim, stop: Dim, step: int
) -> Place:
    return b.call("aten.slice_scatter.default", x, source, dim, start, stop, step)


@row("nn.embedding")
def embedding(b: Emitter, weight: Value, index: Value) -> Place:
    return b.call("aten.embedding.default", weight, as_index(b, index))
