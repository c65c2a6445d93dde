"""reinplace: an update that is only written back happens in place.

What capture makes of `cache[index] = x` copies the cache, changes the copy and writes all of it
back; a static KV cache then costs its whole length every step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import ClassVar

from effcomp.ir import Edit, Graph, Level, Op, Value
from effcomp.passes.aliases import is_view, storage_of, written_target
from effcomp.rewrite import Log, Refused

_IN_PLACE: Mapping[str, str] = {
    "tensor.index_put": "state.index_put",
    "tensor.slice_scatter": "state.slice_put",
}
RULE = "UpdateInPlace"


@dataclass(frozen=True, slots=True)
class Reinplace:
    """index_put(p, ..) or slice_scatter(p, ..), then write(p, result) => the update of p itself."""

    name: ClassVar[str] = "reinplace"
    takes: ClassVar[Level | None] = Level.TENSOR
    gives: ClassVar[Level | None] = Level.TENSOR

    def run(self, graph: Graph, log: Log) -> Graph:
        facts = _Facts(graph)
        edits: dict[Op, Edit] = {}
        for op in graph.ops:
            if op.name != "state.write" or not log.sees(op):
                continue
            updates = _updates(facts, op)
            if isinstance(updates, Refused):
                if updates.reason:
                    log.refused(RULE, op.loc, updates.reason)
                continue
            for update in updates:
                made = _in_place(update, op.operands[0])
                edits[update] = Edit((made,), made.results)
            edits[op] = Edit(())
            log.applied(RULE, op.loc)
        return graph.splice(edits)


class _Facts:
    """Who makes, reads and overwrites what, and when."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.params = frozenset(graph.params)
        self.producers = graph.producers()
        self.users = graph.users()
        self.position = {op: i for i, op in enumerate(graph.ops)}
        self.writes: dict[Value, list[Op]] = {}
        for op in graph.ops:
            if (target := written_target(op)) is not None:
                self.writes.setdefault(storage_of(target, self.producers), []).append(op)

    def readers(self, value: Value) -> list[Op]:
        """Ops that read a value's memory, through views too."""
        found: list[Op] = []
        for op in self.users.get(value, ()):
            found.append(op)
            if is_view(op):
                found += self.readers(op.result)
        return found

    def is_returned(self, value: Value) -> bool:
        """Whether an output is the value, or looks at its memory."""
        if value in self.graph.outputs:
            return True
        views = (op for op in self.users.get(value, ()) if is_view(op))
        return any(self.is_returned(op.result) for op in views)


def _updates(facts: _Facts, write: Op) -> list[Op] | Refused:
    """The ops to be done in place, in program order, or why they may not be."""
    target, last = write.operands
    if target not in facts.params or len(facts.writes[target]) != 1:
        return Refused("the target is written more than once")
    chain = _chain(facts, last, target)
    if isinstance(chain, Refused):
        return chain
    for before, after in pairwise(chain):
        if facts.users[before.result] != [after]:
            return Refused("a value between two updates is read elsewhere")
    if facts.is_returned(last) or facts.is_returned(target):
        return Refused("the tensor is returned as well")
    first = facts.position[chain[0]]
    for reader in facts.readers(target):
        if reader not in (write, chain[0]) and facts.position[reader] > first:
            return Refused(f"{reader.name} reads the old value afterwards")
    for update in chain:
        for v in update.operands[1:]:
            if storage_of(v, facts.producers) is target:
                return Refused("the update reads what it overwrites")
    return chain


def _chain(facts: _Facts, last: Value, target: Value) -> list[Op] | Refused:
    """Updates of the target, first one first."""
    chain: list[Op] = []
    value = last
    while value is not target:
        op = facts.producers.get(value)
        if op is None or op.name not in _IN_PLACE:
            # A tensor that is computed anew is no update.
            return Refused(f"{op.name} cannot update in place" if chain and op else "")
        chain.append(op)
        value = op.operands[0]
    return chain[::-1] if chain else Refused()


def _in_place(update: Op, target: Value) -> Op:
    """The op that changes the target; its result is the target's memory, layout included."""
    result = replace(update.result, strides=target.strides)
    return replace(
        update,
        name=_IN_PLACE[update.name],
        operands=(target, *update.operands[1:]),
        results=(result,),
        attrs=MappingProxyType(dict(update.attrs)),
    )
