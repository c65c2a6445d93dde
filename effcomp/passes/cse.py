"""cse: compute once what is written twice."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from effcomp.ir import Edit, Graph, Level, Op, Trait, Value, is_pure, spec_of
from effcomp.passes.aliases import escaping, is_view
from effcomp.rewrite import Log


@dataclass(frozen=True, slots=True)
class Cse:
    """Let equal pure ops share one result. Outputs that the caller may write to stay apart."""

    name: ClassVar[str] = "cse"
    takes: ClassVar[Level | None] = Level.TENSOR
    gives: ClassVar[Level | None] = Level.TENSOR

    def run(self, graph: Graph, log: Log) -> Graph:
        seen: dict[Hashable, Op] = {}
        stands_for: dict[Value, Value] = {}
        escapes = set(escaping(graph))
        edits: dict[Op, Edit] = {}
        for op in graph.ops:
            if not _may_merge(op):
                continue
            key = _key(op, stands_for)
            first = seen.setdefault(key, op)
            if first is op or not log.sees(op):
                continue
            # Two views of one thing share memory anyhow; two results of one op did not.
            both = escapes.intersection(first.results) and escapes.intersection(op.results)
            if both and not is_view(op):
                continue
            if escapes.intersection(op.results):
                escapes.update(first.results)
            stands_for.update(zip(op.results, first.results, strict=True))
            edits[op] = Edit((), first.results)
            log.applied("MergeEqualOps", op.loc)
        return graph.splice(edits)


def _may_merge(op: Op) -> bool:
    # A copy is made to be a second one. Bodies are compared by no one.
    return is_pure(op) and op.body is None and op.name != "tensor.copy"


def _key(op: Op, stands_for: dict[Value, Value]) -> Hashable:
    operands = [stands_for.get(v, v) for v in op.operands]
    if Trait.COMMUTATIVE in spec_of(op).traits:
        operands.sort(key=id)
    # As text: 1, 1.0 and True are equal in Python, as are 0.0 and -0.0.
    attrs = tuple((k, type(v), repr(v)) for k, v in sorted(op.attrs.items()))
    layouts = tuple(r.strides for r in op.results)
    return op.name, tuple(operands), attrs, layouts
