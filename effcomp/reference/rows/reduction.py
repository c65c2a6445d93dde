"""Reductions. ATen reads an empty list of dims as all of them, the IR as none."""

from effcomp.ir import Tag, Value
from effcomp.ir.types import FLOATS
from effcomp.reference.emitter import ROWS, BufferArg, Emitter, Place, Row, row


def _kept(x: Value) -> dict[str, Tag]:
    """ATen sums integers as i64 unless told the dtype."""
    return {} if x.dtype in FLOATS else {"dtype": Tag("dtype", x.dtype)}


@row("tensor.sum")
def sum_(b: Emitter, x: Value, *, dims: tuple[int, ...], keepdim: bool) -> Place:
    return b.call("aten.sum.dim_IntList", x, dims, keepdim, **_kept(x)) if dims else b.tensor(x)


@row("tensor.mean")
def mean(b: Emitter, x: Value, *, dims: tuple[int, ...], keepdim: bool) -> Place:
    return b.call("aten.mean.dim", x, dims, keepdim) if dims else b.tensor(x)


def _extremum(target: str) -> Row:
    def emit(b: Emitter, x: Value, *, dims: tuple[int, ...], keepdim: bool) -> Place:
        return b.call(target, x, dims, keepdim) if dims else b.tensor(x)

    return emit


ROWS["tensor.amax"] = _extremum("aten.amax.default")
ROWS["tensor.amin"] = _extremum("aten.amin.default")


@row("tensor.prod")
def prod(b: Emitter, x: Value, *, dims: tuple[int, ...], keepdim: bool) -> Place:
    found = b.tensor(x)
    for d in sorted((d % max(len(x.shape), 1) for d in dims), reverse=True):
        found = b.call("aten.prod.dim_int", found, d, keepdim, **_kept(x))
    return found


def _truth(target: str) -> Row:
    def emit(b: Emitter, x: Value, *, dims: tuple[int, ...], keepdim: bool) -> Place:
        # ATen keeps u8 as u8 here; other dtypes become bool by themselves.
        truth: BufferArg | Value = x if x.dtype == "bool" else b.call("aten.ne.Scalar", x, 0)
        return b.call(target, truth, dims, keepdim) if dims else b.arg(truth)  # pyright: ignore[reportReturnType]

    return emit


ROWS["tensor.any"] = _truth("aten.any.dims")
ROWS["tensor.all"] = _truth("aten.all.dims")


def _arg_extremum(target: str) -> Row:
    def emit(b: Emitter, x: Value, *, dim: int, keepdim: bool) -> Place:
        ordered = b.convert(x, "u8") if x.dtype == "bool" else x
        return b.call(target, ordered, dim, keepdim)

    return emit


ROWS["tensor.argmax"] = _arg_extremum("aten.argmax.default")
ROWS["tensor.argmin"] = _arg_extremum("aten.argmin.default")


@row("tensor.cumsum")
def cumsum(b: Emitter, x: Value, *, dim: int) -> Place:
    return b.call("aten.cumsum.default", x, dim, **_kept(x))


@row("tensor.topk")
def topk(
    b: Emitter, x: Value, *, k: int, dim: int, largest: bool, sorted: bool
) -> tuple[Place, ...]:
    return b.calls_many("aten.topk.default", (x, k, dim, largest, sorted), results=2)


@row("tensor.sort")
def sort(b: Emitter, x: Value, *, dim: int, descending: bool, stable: bool) -> tuple[Place, ...]:
    options = {"stable": stable, "dim": dim, "descending": descending}
    return b.calls_many("aten.sort.stable", (x,), options, results=2)
