"""fold-constants: what depends on nothing but weights is computed once, when weights load."""

from dataclasses import dataclass
from typing import ClassVar

from effcomp.ir import Graph, Level, Op, TensorType, Value
from effcomp.passes.aliases import is_view
from effcomp.passes.prologue import PROLOGUE, constant_values, hoist, stays_inside
from effcomp.rewrite import Log

# Made where they are read, for less than it takes to load them.
_GENERATORS = frozenset(
    {"tensor.constant", "tensor.dim", "tensor.full", "tensor.iota", "tensor.size"}
)
RULE = "HoistConstant"


@dataclass(frozen=True, slots=True)
class FoldConstants:
    """f(weights) => a result of the prologue; so do position tables and masks of fixed size.

    A view alone stays where it is: moving it would copy the weight. `max_bytes` bounds each result.
    """

    max_bytes: int = 16 << 20
    name: ClassVar[str] = "fold-constants"
    takes: ClassVar[Level | None] = Level.TENSOR
    gives: ClassVar[Level | None] = Level.TENSOR

    def run(self, graph: Graph, log: Log) -> Graph:
        constant = constant_values(graph)
        inside = stays_inside(graph)
        needed: set[Value] = set(graph.outputs)
        hoisted: list[Value] = []
        for op in reversed(graph.ops):
            is_constant = bool(op.results) and constant.issuperset(op.results)
            if not is_constant or op.name == PROLOGUE:
                needed.update(op.operands)
            elif needed.intersection(op.results):
                if log.sees(op) and self._is_worth(op, log) and inside.issuperset(op.results):
                    hoisted += op.results
                    log.applied(RULE, op.loc)
                else:
                    needed.update(op.operands)
        return hoist(graph, hoisted) if hoisted else graph

    def _is_worth(self, op: Op, log: Log) -> bool:
        if is_view(op) or op.name in _GENERATORS:
            return False
        size = sum(
            r.type.nbytes
            for r in op.results
            if isinstance(r.type, TensorType) and isinstance(r.type.nbytes, int)
        )
        if size > self.max_bytes:
            log.refused(RULE, op.loc, f"a result of more than {self.max_bytes >> 20} MiB")
            return False
        return True
