"""Operators that combine elements along dims, and those that order them."""

from collections.abc import Sequence

import torch

from effcomp.capture.builder import Builder, Unmodelled
from effcomp.capture.dtypes import COMPLEX, name_of
from effcomp.capture.table.rows import row
from effcomp.ir import Dim, Value
from effcomp.ir.dims import product
from effcomp.ir.types import INTEGERS

Dims = Sequence[int] | int | None


def every(x: Value, dims: Dims) -> tuple[int, ...]:
    """The dims that a reduction names: none, or an empty list, means all of them."""
    rank = x.tensor.rank
    if isinstance(dims, int):
        dims = (dims,)
    return tuple(sorted(d % rank for d in dims)) if dims and rank else tuple(range(rank))


def reduce(b: Builder, name: str, x: Value, dims: Dims, keepdim: bool = False) -> Value:
    if x.tensor.rank == 0:
        return b.convert(x, "bool") if name in ("tensor.any", "tensor.all") else x
    return b.emit(name, x, dims=every(x, dims), keepdim=keepdim)


def _accumulated(b: Builder, x: Value, dtype: torch.dtype | None) -> Value:
    """x in the dtype that sums have: `dtype` where given, i64 for integers and bool."""
    if dtype is not None:
        return b.convert(x, name_of(dtype))
    return b.convert(x, "i64") if x.dtype in INTEGERS or x.dtype == "bool" else x


@row("sum.default")
def sum_all(b: Builder, x: Value, *, dtype: torch.dtype | None = None) -> Value:
    return reduce(b, "tensor.sum", _accumulated(b, x, dtype), None)


@row("sum.dim_IntList")
def sum_(
    b: Builder, x: Value, dims: Dims, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Value:
    return reduce(b, "tensor.sum", _accumulated(b, x, dtype), dims, keepdim)


@row("mean.default")
def mean_all(b: Builder, x: Value, *, dtype: torch.dtype | None = None) -> Value:
    return mean(b, x, None, dtype=dtype)


@row("mean.dim")
def mean(
    b: Builder, x: Value, dims: Dims, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Value:
    x = x if dtype is None else b.convert(x, name_of(dtype))
    return reduce(b, "tensor.mean", x, dims, keepdim)


@row("prod.default")
def prod_all(b: Builder, x: Value, *, dtype: torch.dtype | None = None) -> Value:
    return reduce(b, "tensor.prod", _accumulated(b, x, dtype), None)


@row("prod.dim_int")
def prod(
    b: Builder, x: Value, axis: int, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Value:
    return reduce(b, "tensor.prod", _accumulated(b, x, dtype), axis, keepdim)


def _declare_logical(name: str) -> None:
    @row(f"{name}.default")
    def over_all(b: Builder, x: Value) -> Value:
        return reduce(b, f"tensor.{name}", x, None)

    @row(f"{name}.dim", f"{name}.dims")
    def over_dims(b: Builder, x: Value, dims: Dims = None, keepdim: bool = False) -> Value:
        found = reduce(b, f"tensor.{name}", x, dims, keepdim)
        return b.convert(found, b.dtype)  # torch gives uint8 for uint8


def _declare_extremum(name: str, values: str, index: str) -> None:
    @row(f"{name}.default")
    def over_all(b: Builder, x: Value) -> Value:
        return reduce(b, values, x, None)

    @row(f"{name}.dim")
    def with_index(b: Builder, x: Value, axis: int, keepdim: bool = False) -> tuple[Value, Value]:
        if x.tensor.rank == 0:
            return x, b.full((), 0, "i64")
        axis = b.axis(axis, x.tensor.rank)
        found = b.emit(values, x, dims=(axis,), keepdim=keepdim)
        return found, b.emit(index, x, dim=axis, keepdim=keepdim)

    @row(f"{values.removeprefix('tensor.')}.default")
    def over_dims(b: Builder, x: Value, dims: Dims = (), keepdim: bool = False) -> Value:
        return reduce(b, values, x, dims, keepdim)


def _declare_index(name: str) -> None:
    @row(f"{name}.default")
    def arg(b: Builder, x: Value, axis: int | None = None, keepdim: bool = False) -> Value:
        if x.tensor.rank == 0:
            return b.full((), 0, "i64")
        if axis is not None:
            d = b.axis(axis, x.tensor.rank)
            return b.emit(f"tensor.{name}", x, dim=d, keepdim=keepdim)
        flat = b.reshape(x, (x.tensor.numel,))
        return b.reshape(b.emit(f"tensor.{name}", flat, dim=0), b.shape)


for logical in ("any", "all"):
    _declare_logical(logical)
_declare_extremum("max", "tensor.amax", "tensor.argmax")
_declare_extremum("min", "tensor.amin", "tensor.argmin")
for which in ("argmax", "argmin"):
    _declare_index(which)


def variance(
    b: Builder, x: Value, dims: Dims, correction: float | None, keepdim: bool
) -> tuple[Value, Value]:
    """Variance and mean over dims, computed in float32 or wider."""
    if x.dtype in COMPLEX:
        raise Unmodelled("the variance of a complex tensor")
    wide = x if x.dtype == "f64" else b.convert(x, "f32")
    over = every(x, dims)
    mean = b.emit("tensor.mean", wide, dims=over, keepdim=True)
    centred = b.emit("tensor.sub", wide, mean)
    squares = b.emit("tensor.mul", centred, centred)
    correction = 1 if correction is None else correction
    if correction == 0:
        spread = b.emit("tensor.mean", squares, dims=over, keepdim=keepdim)
    else:
        total = b.emit("tensor.sum", squares, dims=over, keepdim=keepdim)
        count = _less(b, product(x.shape[d] for d in over), correction, wide.dtype)
        spread = b.emit("tensor.div", total, count)
    if not keepdim:
        mean = b.reshape(mean, spread.shape)
    return b.convert(spread, x.dtype), b.convert(mean, x.dtype)


def _less(b: Builder, count: Dim, correction: float, dtype: str) -> Value:
    """max(count - correction, 0) as a rank-0 operand."""
    if isinstance(count, int):
        return b.constant(max(count - correction, 0), dtype)
    left = b.emit("tensor.sub", b.operand(count, dtype), b.constant(correction, dtype))
    return b.emit("tensor.maximum", left, b.constant(0, dtype))


@row("var.correction")
def var(
    b: Builder,
    x: Value,
    dims: Dims = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> Value:
    return variance(b, x, dims, correction, keepdim)[0]


@row("std.correction")
def std(
    b: Builder,
    x: Value,
    dims: Dims = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> Value:
    return b.emit("tensor.sqrt", variance(b, x, dims, correction, keepdim)[0])


@row("var_mean.correction")
def var_mean(
    b: Builder,
    x: Value,
    dims: Dims = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> tuple[Value, Value]:
    return variance(b, x, dims, correction, keepdim)


@row("linalg_vector_norm.default")
def vector_norm(
    b: Builder,
    x: Value,
    order: float = 2,
    dims: Dims = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Value:
    if x.dtype in COMPLEX or order not in (1, 2, float("inf")):
        raise Unmodelled(f"the {order}-norm of a tensor of {x.dtype}")
    given = name_of(dtype) if dtype is not None else x.dtype
    wide = b.convert(x, "f64" if "f64" in (given, x.dtype) else "f32")
    if order == 2:
        squares = b.emit("tensor.mul", wide, wide)
        found = b.emit("tensor.sqrt", reduce(b, "tensor.sum", squares, dims, keepdim))
    else:
        name = "tensor.sum" if order == 1 else "tensor.amax"
        found = reduce(b, name, b.emit("tensor.abs", wide), dims, keepdim)
    return b.convert(found, given)


@row("cumsum.default")
def cumsum(b: Builder, x: Value, axis: int, *, dtype: torch.dtype | None = None) -> Value:
    x = _accumulated(b, x, dtype)
    return b.emit("tensor.cumsum", x, dim=b.axis(axis, x.tensor.rank)) if x.tensor.rank else x


@row("topk.default")
def topk(
    b: Builder, x: Value, k: Dim, axis: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Value, ...]:
    if x.tensor.rank == 0 or not isinstance(k, int):
        raise Unmodelled("of a scalar, or k is symbolic")
    axis = b.axis(axis, x.tensor.rank)
    return b.emit_all("tensor.topk", x, k=k, dim=axis, largest=largest, sorted=sorted)


@row("sort.default")
def sort(b: Builder, x: Value, axis: int = -1, descending: bool = False) -> tuple[Value, ...]:
    return sort_stable(b, x, stable=False, dim=axis, descending=descending)


@row("sort.stable")
def sort_stable(
    b: Builder, x: Value, *, stable: bool | None, dim: int = -1, descending: bool = False
) -> tuple[Value, ...]:
    if x.tensor.rank == 0:
        raise Unmodelled("of a scalar")
    axis = b.axis(dim, x.tensor.rank)
    return b.emit_all("tensor.sort", x, dim=axis, descending=descending, stable=bool(stable))
