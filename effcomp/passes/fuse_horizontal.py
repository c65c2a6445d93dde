"""fuse-horizontal: linears that share an input become one, over weights joined beforehand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from effcomp.ir import Edit, Graph, Level, Op, Value, ops
from effcomp.ir.dims import dim, product
from effcomp.ir.types import ITEMSIZE
from effcomp.passes.aliases import keep_outputs_apart
from effcomp.passes.prologue import constant_values, hoist
from effcomp.rewrite import Builder, Log

RULE = "JoinLinears"


@dataclass(frozen=True, slots=True)
class FuseHorizontal:
    """linear(x, w1), linear(x, w2) => slices of linear(x, concat(w1, w2)).

    One large product keeps a device busier than several small ones. It costs a second copy of the
    weights: `max_rows` and `max_bytes` (of the joined weights) bound where that is worth it.
    """

    max_rows: int = 1024
    max_bytes: int = 16 << 20
    name: ClassVar[str] = "fuse-horizontal"
    takes: ClassVar[Level | None] = Level.TENSOR
    gives: ClassVar[Level | None] = Level.TENSOR

    def run(self, graph: Graph, log: Log) -> Graph:
        constant = constant_values(graph)
        shared: dict[tuple[Value, str], list[Op]] = {}
        for op in graph.ops:
            if op.name == "nn.linear" and log.sees(op):
                shared.setdefault((op.operands[0], op.result.dtype), []).append(op)
        edits: dict[Op, Edit] = {}
        joined: list[Value] = []
        for linears in shared.values():
            if len(linears) < 2:
                continue
            if reason := self._reason_against(linears, constant):
                log.refused(RULE, linears[0].loc, reason)
                continue
            made, weights = _join(linears)
            edits.update(made)
            joined += weights
            log.applied(RULE, linears[0].loc)
        return hoist(keep_outputs_apart(graph, graph.splice(edits)), joined) if edits else graph

    def _reason_against(self, linears: list[Op], constant: set[Value]) -> str:
        x = linears[0].operands[0]
        rows = product(x.shape[:-1])
        if not isinstance(rows, int):
            return "the number of rows is not known"
        if rows > self.max_rows:
            return f"the input has more than {self.max_rows} rows"
        weights = [v for op in linears for v in op.operands[1:]]
        if not all(v in constant for v in weights):
            return "a weight changes from call to call"
        size = dim(sum(v.tensor.numel for v in weights) * ITEMSIZE[x.dtype])
        if not isinstance(size, int) or size > self.max_bytes:
            return f"the joined weights are larger than {self.max_bytes >> 20} MiB"
        return ""


def _join(linears: list[Op]) -> tuple[Mapping[Op, Edit], list[Value]]:
    """Edits that make the first linear do the work of all, and the values to compute beforehand."""
    first = linears[0]
    b = Builder(first.loc, first.scope)
    weights = [op.operands[1] for op in linears]
    together = [b.add(ops.view.concat, *weights, dim=0)]
    if any(len(op.operands) > 2 for op in linears):
        biases = [_bias_of(b, op) for op in linears]
        together.append(b.add(ops.view.concat, *biases, dim=0))
    wide = b.add(ops.nn.linear, first.operands[0], *together)
    start = 0
    slices: list[Value] = []
    for op in linears:
        stop = dim(start + op.operands[1].shape[0])
        d = wide.tensor.rank - 1
        slices.append(b.add(ops.view.slice_, wide, dim=d, start=start, stop=stop))
        start = stop
    slices = list(_named(b, linears, slices))
    edits = {op: Edit((), (part,)) for op, part in zip(linears, slices, strict=True)}
    edits[first] = Edit(tuple(b.ops), (slices[0],))
    return edits, together


def _bias_of(b: Builder, linear: Op) -> Value:
    if bias := linear.operands[2:]:
        return bias[0]
    rows = linear.operands[1].shape[:1]
    return b.add(ops.view.full, shape=rows, value=0.0, dtype=linear.result.dtype)


def _named(b: Builder, linears: list[Op], slices: list[Value]) -> tuple[Value, ...]:
    """Let each slice keep the name of the linear it stands for."""
    named: list[Value] = []
    for op, part in zip(linears, slices, strict=True):
        named += b.carry_hints(op.results, (part,))
    return tuple(named)
