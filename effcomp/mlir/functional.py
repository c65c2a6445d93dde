"""Graphs without writes: MLIR's tensors are values, nothing is overwritten."""

from collections.abc import Mapping
from dataclasses import replace

from effcomp.errors import MlirError
from effcomp.ir import Edit, Graph, Op, Value
from effcomp.reference.emitter import WRITERS

_VALUE_OP: Mapping[str, str] = {
    "state.index_put": "tensor.index_put",
    "state.slice_put": "tensor.slice_scatter",
}


def functional(graph: Graph) -> Graph:
    """state.write(p, x) => p's last content is returned, before the outputs, by order of params."""
    params = frozenset(graph.params)
    held: dict[Value, Value] = {}  # what a param's memory holds by now
    edits: dict[Op, Edit] = {}
    for op in graph.ops:
        if op.name not in WRITERS:
            continue
        target, *others = op.operands
        if target not in params:
            raise MlirError(f"{op.name} at {op.loc or 'an unknown line'} writes to no input")
        if op.name == "state.write":
            held[target] = others[0]
            edits[op] = Edit(())
            continue
        before = held.get(target, target)
        update = replace(op, name=_VALUE_OP[op.name], operands=(before, *others))
        held[target] = op.result
        edits[op] = Edit((update,), update.results)
    if not edits:
        return graph
    left = tuple(held[p] for p in graph.params if p in held)
    return replace(graph.splice(edits), outputs=(*left, *graph.outputs), output_strides=())
