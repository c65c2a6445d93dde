"""A graph whose values all say where they lie: what lowering works on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from effcomp.codegen.aliasing import direct_writes
from effcomp.codegen.layout import (
    Strides,
    is_row_major,
    overlaps,
    returned_strides,
    same_layout,
    strides_of,
    view_layout,
)
from effcomp.ir import Dim, Graph, Op, TensorType, Trait, Value, spec_of
from effcomp.ir.dims import dim

IN_PLACE = frozenset({"state.index_put", "state.slice_put"})


@dataclass(frozen=True, slots=True)
class View:
    """A value that is the memory of `root`, from `offset` elements on, under strides of its own."""

    root: Value
    offset: Dim = 0


@dataclass(frozen=True, slots=True)
class Program:
    """A graph with the layout of every value settled.

    `views` holds the results of VIEW ops that are strides over another value's memory, and results
    of in-place writes; other VIEW ops copy. `writes` maps a result to the param it is computed
    into.
    """

    graph: Graph
    views: Mapping[Value, View]
    writes: Mapping[Value, Value]

    def root(self, value: Value) -> Value:
        """The value whose memory `value` lies in."""
        return self.views[value].root if value in self.views else value


def settle_layouts(graph: Graph, kind: str) -> Program:
    """Give each value the strides it will have; values that stay row-major state none.

    A result that the graph returns is computed in the layout its caller needs. On a GPU, what only
    overwrites a param is computed straight into that param's memory.
    """
    writes: Mapping[Value, Value] = direct_writes(graph) if kind == "cuda" else {}
    wanted = _wanted(graph, writes)
    new: dict[Value, Value] = {}
    views: dict[Value, View] = {}
    ops: list[Op] = []
    for op in graph.ops:
        op = replace(op, operands=tuple(new.get(v, v) for v in op.operands))
        view = _view(op)
        results = tuple(
            _laid_out(r, _chosen(r, op, wanted, kind) if view is None else view[0])
            for r in op.results
        )
        new.update(zip(op.results, results, strict=True))
        if view is not None:
            base = op.operands[0]
            under = views.get(base, View(base))
            views[results[0]] = View(under.root, dim(under.offset + view[1]))
        ops.append(replace(op, results=results))
    settled = replace(graph, ops=tuple(ops), outputs=tuple(new.get(v, v) for v in graph.outputs))
    return Program(settled, views, {new[r]: target for r, target in writes.items()})


def _wanted(graph: Graph, writes: Mapping[Value, Value]) -> dict[Value, Strides]:
    """Layouts that results should have because of who gets them; the first output decides."""
    wanted = {result: strides_of(target) for result, target in writes.items()}
    for i, v in enumerate(graph.outputs):
        layout = graph.layout_of_output(i)
        if layout is not None and not overlaps(v.shape, layout):
            wanted.setdefault(v, layout)
    return wanted


def _chosen(
    result: Value, op: Op, wanted: Mapping[Value, Strides], kind: str
) -> Sequence[Dim] | None:
    """Strides of a result with memory of its own: as needed, as stated, as torch returns it."""
    if result in wanted:
        return wanted[result]
    return returned_strides(op, kind) if result.strides is None else result.strides


def _view(op: Op) -> tuple[Strides, Dim] | None:
    """Strides and offset of a result that shares its first operand's memory."""
    if op.name in IN_PLACE:
        return strides_of(op.operands[0]), 0
    if Trait.VIEW not in spec_of(op).traits:
        return None
    if (layout := view_layout(op)) is None:
        return None
    stated = op.result.strides
    if stated is not None and not same_layout(op.result.shape, stated, layout.strides):
        return None  # a pass asked for another layout: that takes a copy
    return layout.strides, layout.offset


def _laid_out(value: Value, strides: Sequence[Dim] | None) -> Value:
    if not isinstance(value.type, TensorType):
        return value
    if strides is not None and is_row_major(value.shape, strides):
        strides = None
    return replace(value, strides=None if strides is None else tuple(strides))
