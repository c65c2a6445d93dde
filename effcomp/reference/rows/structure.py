"""State, bodies, and calls that are ATen's already."""

from typing import Any

from effcomp.ir import Graph, Ref, Value
from effcomp.ir.core import Attr
from effcomp.ir.dims import Dim
from effcomp.reference.emitter import ROWS, Emitter, Place, row
from effcomp.reference.rows.indexing import index_list


def _inlined(b: Emitter, *operands: Value, body: Graph) -> tuple[Place, ...]:
    return b.inline(body, operands)


for _name in ("fused.pointwise", "fused.rowwise", "fused.matmul", "state.prologue"):
    ROWS[_name] = _inlined


@row("state.write")
def write(b: Emitter, target: Value, source: Value) -> None:
    b.calls_many("aten.copy_.default", (b.target(target), source), results=0, dropped=1)


@row("state.index_put")
def index_put(
    b: Emitter,
    target: Value,
    values: Value,
    *indices: Value,
    dims: tuple[int, ...],
    accumulate: bool,
) -> Place:
    args = (b.target(target), index_list(b, indices, dims), values, accumulate)
    b.calls_many("aten.index_put_.default", args, results=0, dropped=1)
    return b.after_write(target)


@row("state.slice_put")
def slice_put(
    b: Emitter, target: Value, source: Value, *, dim: int, start: Dim, stop: Dim, step: int
) -> Place:
    view = b.call("aten.slice.Tensor", b.target(target), dim, start, stop, step)
    b.calls_many("aten.copy_.default", (view, source), results=0, dropped=1)
    return b.after_write(target)


@row("aten.call")
def call(
    b: Emitter,
    *operands: Value,
    target: str,
    args: tuple[Attr, ...],
    kwargs: tuple[tuple[str, Attr], ...],
    types: tuple[str, ...],
    why: str,
    effects: bool,
) -> tuple[Place, ...]:
    del why, effects

    def filled(attr: Attr) -> Any:
        match attr:
            case Ref(index=index):
                return operands[index]
            case tuple():
                return tuple(map(filled, attr))
            case _:
                return attr

    given = {name: filled(value) for name, value in kwargs}
    kept = [bool(t) for t in types]
    return b.calls_many(target, [filled(a) for a in args], given, results=sum(kept), kept=kept)
