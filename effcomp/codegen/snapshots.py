"""What a value held before its memory was overwritten, for those who read it afterwards."""

from dataclasses import replace

from effcomp.codegen.aliasing import shares_memory, written_operands
from effcomp.ir import SPECS, Graph, Op, Value


def snapshot_overwritten(graph: Graph) -> Graph:
    """Copy a value before a write into its memory => later readers read the copy.

    A value means what it was defined as, wherever it is read. Captured graphs write at their end,
    so that a copy is rare.
    """
    if not any(map(written_operands, graph.ops)):
        return graph
    last_read = _last_reads(graph)
    memory = {v: v for v in graph.params}
    copies: dict[Value, Value] = {}
    ops: list[Op] = []
    for i, op in enumerate(graph.ops):
        written = written_operands(op)
        if written:
            home = memory[written[0]]
            for v in [v for v, other in memory.items() if other is home and v not in copies]:
                if last_read.get(v, -1) > i or v in op.operands[1:]:
                    copy = SPECS["tensor.copy"].build(v, loc=op.loc)
                    copies[v] = copy.result
                    ops.append(copy)
        kept = len(written)
        read = tuple(copies.get(v, v) for v in op.operands[kept:])
        op = replace(op, operands=(*op.operands[:kept], *read))
        ops.append(op)
        base = op.operands[0] if shares_memory(op) else None
        memory |= {r: r if base is None else memory.get(base, base) for r in op.results}
    outputs = tuple(copies.get(v, v) for v in graph.outputs)
    return replace(graph, ops=tuple(ops), outputs=outputs)


def _last_reads(graph: Graph) -> dict[Value, int]:
    """The position of each value's last reader; targets of writes are not read."""
    last: dict[Value, int] = {}
    for i, op in enumerate(graph.ops):
        last.update(dict.fromkeys(op.operands[len(written_operands(op)) :], i))
    last.update(dict.fromkeys(graph.outputs, len(graph.ops)))
    return last
