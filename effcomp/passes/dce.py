"""dce: drop what nothing reads."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from effcomp.ir import Graph, Level, Op, is_pure
from effcomp.rewrite import Log


@dataclass(frozen=True, slots=True)
class Dce:
    """Remove pure ops whose results nobody reads, in bodies too; params stay, they are the ABI."""

    name: ClassVar[str] = "dce"
    takes: ClassVar[Level | None] = None
    gives: ClassVar[Level | None] = None

    def run(self, graph: Graph, log: Log) -> Graph:
        after = _clean(graph, lambda op: is_pure(op) and log.sees(op))
        if after is not graph:
            gone = sum(1 for _ in graph.walk()) - sum(1 for _ in after.walk())
            log.applied("DropDeadOp", times=gone)
        return after


def _clean(graph: Graph, may_go: Callable[[Op], bool]) -> Graph:
    live = graph.without_dead_ops(may_go)
    ops = tuple(_clean_body(op, may_go) for op in live.ops)
    same = all(a is b for a, b in zip(ops, live.ops, strict=True))
    return live if same else replace(live, ops=ops)


def _clean_body(op: Op, may_go: Callable[[Op], bool]) -> Op:
    if op.body is None:
        return op
    body = _clean(op.body, may_go)
    return op if body is op.body else replace(op, body=body)
