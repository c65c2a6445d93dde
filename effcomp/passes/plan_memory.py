"""plan-memory: an order of the ops in which fewer bytes are alive at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from effcomp.ir import Graph, Level, Op, TensorType, Value, is_pure
from effcomp.passes.aliases import storage_of
from effcomp.passes.prologue import PROLOGUE
from effcomp.rewrite import Log

RULE = "ReorderOps"


@dataclass(frozen=True, slots=True)
class PlanMemory:
    """Take next the op that frees most and makes least, where that lowers the peak.

    Ops stay between the effects they stood between. Graphs whose sizes are not all known are left
    alone: no order would be provably better.
    """

    name: ClassVar[str] = "plan-memory"
    takes: ClassVar[Level | None] = None
    gives: ClassVar[Level | None] = None

    def run(self, graph: Graph, log: Log) -> Graph:
        usage = _usage(graph)
        if usage is None:
            log.refused(RULE, "", "a size is not known")
            return graph
        ops: list[Op] = []
        segment: list[Op] = []
        live = _Live(usage)
        for op in (*graph.ops, None):
            # The prologue stands first, whatever reads it.
            if op is not None and is_pure(op) and op.name != PROLOGUE:
                segment.append(op)
                continue
            ops += _schedule(segment, live)
            segment = []
            if op is not None:
                live.run(op)
                ops.append(op)
        if _peak(ops, usage) >= _peak(graph.ops, usage):
            return graph
        log.applied(RULE)
        return replace(graph, ops=tuple(ops))


@dataclass(frozen=True, slots=True)
class _Usage:
    """Bytes of each storage made here, what each op reads and makes, and how often it is read."""

    size: Mapping[Value, int]
    reads: Mapping[Op, frozenset[Value]]
    makes: Mapping[Op, frozenset[Value]]
    readers: Mapping[Value, int]


def _usage(graph: Graph) -> _Usage | None:
    """Views have no memory of their own; params and outputs live throughout."""
    producers = graph.producers()
    size: dict[Value, int] = {}
    reads: dict[Op, frozenset[Value]] = {}
    makes: dict[Op, frozenset[Value]] = {}
    readers: dict[Value, int] = {}
    for op in graph.ops:
        kept = op.name == PROLOGUE  # what it makes stays from call to call
        own = [r for r in op.results if not kept and storage_of(r, producers) is r]
        for r in own:
            nbytes = r.type.nbytes if isinstance(r.type, TensorType) else 0
            if not isinstance(nbytes, int):
                return None
            size[r] = nbytes
        makes[op] = frozenset(own)
        reads[op] = frozenset(storage_of(v, producers) for v in op.operands) & size.keys()
        for v in reads[op]:
            readers[v] = readers.get(v, 0) + 1
    for v in graph.outputs:
        root = storage_of(v, producers)
        readers[root] = readers.get(root, 0) + 1  # nobody takes this one away
    return _Usage(size, reads, makes, readers)


class _Live:
    """How many bytes are alive, op by op."""

    def __init__(self, usage: _Usage) -> None:
        self.usage = usage
        self.left = dict(usage.readers)
        self.bytes = 0
        self.peak = 0

    def change(self, op: Op) -> int:
        """Bytes alive after the op, less those alive before it."""
        usage = self.usage
        made = sum(usage.size[v] for v in usage.makes[op] if self.left.get(v, 0))
        return made - sum(usage.size[v] for v in usage.reads[op] if self.left[v] == 1)

    def run(self, op: Op) -> None:
        usage = self.usage
        self.peak = max(self.peak, self.bytes + sum(usage.size[v] for v in usage.makes[op]))
        self.bytes += self.change(op)
        for v in usage.reads[op]:
            self.left[v] -= 1


def _peak(ops: Sequence[Op], usage: _Usage) -> int:
    live = _Live(usage)
    for op in ops:
        live.run(op)
    return live.peak


def _schedule(segment: Sequence[Op], live: _Live) -> list[Op]:
    """List scheduling by change in live bytes; ties keep the order of the program."""
    maker = {r: op for op in segment for r in op.results}
    missing = {op: len({maker[v] for v in op.operands if v in maker}) for op in segment}
    readers: dict[Op, list[Op]] = {}
    for op in segment:
        for source in {maker[v] for v in op.operands if v in maker}:
            readers.setdefault(source, []).append(op)
    place = {op: i for i, op in enumerate(segment)}
    ready = [op for op in segment if missing[op] == 0]
    ordered: list[Op] = []
    while ready:
        chosen = min(ready, key=lambda op: (live.change(op), place[op]))
        ready.remove(chosen)
        live.run(chosen)
        ordered.append(chosen)
        for op in readers.get(chosen, ()):
            missing[op] -= 1
            if missing[op] == 0:
                ready.append(op)
    return ordered
