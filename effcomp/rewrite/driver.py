"""Applying rules to a fixed point."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from effcomp.errors import PassError
from effcomp.ir import Graph, Op, TensorType, Value
from effcomp.ir.dims import same_shape
from effcomp.ir.verify import excerpt
from effcomp.rewrite.log import Log
from effcomp.rewrite.matching import Match, find_matches
from effcomp.rewrite.nearest import near_misses
from effcomp.rewrite.pattern import Outputs, Pattern, depth, op_names, parts_of, roots
from effcomp.rewrite.program import Node, Program
from effcomp.rewrite.rules import AnyRule, Builder, Refused

_REWRITES_PER_OP = 50


def apply_rules(graph: Graph, rules: Sequence[AnyRule], log: Log, *, bodies: bool = False) -> Graph:
    """Apply rules until none applies; ops that die on the way are removed.

    Every match sees the program as the rewrites before it left it, so that matches never share
    ops. A match starts only at an op that `log.sees`. `bodies` visits nested graphs too. Returns
    `graph` itself where nothing applied.
    """
    return _Driver(_index(rules)).run(graph, log, bodies)


@dataclass(frozen=True, slots=True)
class _Index:
    """Rules by the op their pattern ends in, and what to look at again after a rewrite."""

    by_root: dict[str, list[tuple[AnyRule, Pattern]]]
    names: frozenset[str]
    depth: int
    several: bool  # whether a rule replaces several ops, found from one of them


def _index(rules: Sequence[AnyRule]) -> _Index:
    by_root: dict[str, list[tuple[AnyRule, Pattern]]] = {}
    names: set[str] = set()
    deepest, several = 0, False
    for rule in rules:
        pattern = rule.pattern()
        parts = parts_of(pattern)
        for root in roots(parts[0]):
            by_root.setdefault(root, []).append((rule, pattern))
        names.update(*map(op_names, parts))
        deepest = max(deepest, *map(depth, parts))
        several |= isinstance(pattern, Outputs)
    return _Index(by_root, frozenset(names), deepest, several)


_Key = tuple[str, Value | Node]


class _Driver:
    def __init__(self, index: _Index) -> None:
        self.index = index

    def run(self, graph: Graph, log: Log, bodies: bool) -> Graph:
        program = Program(graph)
        changed = bodies and self._run_bodies(program, log)
        refused: dict[_Key, tuple[Node, str]] = {}
        budget = _REWRITES_PER_OP * (len(graph.ops) + 20)
        rewrites = self._sweep(program, refused, log, budget)
        total = rewrites
        # What brings a second output within reach may lie where no reader of the change looks.
        while rewrites and self.index.several:
            rewrites = self._sweep(program, refused, log, budget - total)
            total += rewrites
        for (rule, _), (node, reason) in refused.items():
            if node.alive:
                log.refused(rule, node.op.loc, reason)
        self._trace(program, log)
        return program.graph() if changed or total else graph

    def _sweep(
        self, program: Program, refused: dict[_Key, tuple[Node, str]], log: Log, budget: int
    ) -> int:
        """Try every op, and again those that a rewrite touches; returns the number of rewrites."""
        work = deque(n for n in program.nodes() if self._starts_at(n.op, log))
        queued = set(work)
        rewrites = 0
        while work:
            node = work.popleft()
            queued.discard(node)
            if not node.alive or program.is_dead(node):
                continue
            found = self._try_rules(program, node, refused, log)
            if found is None:
                continue
            rewrites += 1
            if rewrites > budget:
                raise PassError(f"no fixed point: the last rule was {found[0]}")
            for again in self._affected(program, found[1]):
                if again not in queued and self._starts_at(again.op, log):
                    queued.add(again)
                    work.append(again)
        return rewrites

    def _starts_at(self, op: Op, log: Log) -> bool:
        return op.name in self.index.by_root and log.sees(op)

    def _trace(self, program: Program, log: Log) -> None:
        """Tell how near the traced rules came to the program as they left it."""
        if not log.trace:
            return
        patterns = {
            rule.name: pattern for pairs in self.index.by_root.values() for rule, pattern in pairs
        }
        seen = [node.op for node in program.nodes() if log.sees(node.op)]
        for rule in filter(log.traces, patterns):
            for miss in near_misses(rule, patterns[rule], seen, program):
                log.missed(miss)

    def _run_bodies(self, program: Program, log: Log) -> bool:
        changed = False
        for node in program.nodes():
            if node.op.body is not None:
                body = self.run(node.op.body, log, True)
                if body is not node.op.body:
                    program.update(node, replace(node.op, body=body))
                    changed = True
        return changed

    def _try_rules(
        self, program: Program, node: Node, refused: dict[_Key, tuple[Node, str]], log: Log
    ) -> tuple[str, list[Value]] | None:
        """Apply the first rule that takes this op; return its name and the values to look at."""
        for rule, pattern in self.index.by_root[node.op.name]:
            key: _Key = (rule.name, node.op.results[0] if node.op.results else node)
            reason = ""
            for m in find_matches(node.op, pattern, program):
                try:
                    outcome = _attempt(rule, m, log)
                except Exception as error:
                    error.add_note(f"rule {rule.name} at\n{_excerpt(program, node)}")
                    raise
                if isinstance(outcome, Refused):
                    reason = reason or outcome.reason
                    continue
                ops, values = outcome
                nodes = [node, *(_node_of(program, op) for op in m.others)]
                read = [*values, *(v for op in ops for v in op.operands)]
                if why := program.move_up(nodes, read):
                    reason = reason or why
                    continue
                refused.pop(key, None)
                log.applied(rule.name, node.op.loc)
                touched = [v for op in (*m.roots, *m.interior) for v in op.operands]
                made = program.replace(nodes, ops, values)
                return rule.name, [*values, *(r for n in made for r in n.op.results), *touched]
            if reason:
                refused[key] = (node, reason)
            else:
                refused.pop(key, None)
        return None

    def _affected(self, program: Program, values: Sequence[Value]) -> list[Node]:
        """Ops whose match may have changed: makers of these values and readers within reach."""
        found: dict[Node, None] = {}
        for v in values:
            maker = program.node_of(v)
            if maker is not None:
                found[maker] = None
        front = list(values)
        for _ in range(self.index.depth):
            nodes = [n for v in front for n in program.reading_nodes(v) if n not in found]
            found.update(dict.fromkeys(nodes))
            front = [r for n in nodes if n.op.name in self.index.names for r in n.op.results]
        return list(found)


def _node_of(program: Program, op: Op) -> Node:
    """The place of an op that a match found by what it reads."""
    return next(node for v in op.operands for node in program.reading_nodes(v) if node.op is op)


def _attempt(rule: AnyRule, m: Match, log: Log) -> tuple[list[Op], tuple[Value, ...]] | Refused:
    """Check and build, without touching the program."""
    if not all(map(log.sees, m.others)):
        return Refused()
    if (op := m.foreign_use()) is not None:
        return Refused(f"the result of {op.name} is used elsewhere too")
    facts = rule.check(m)
    if isinstance(facts, Refused):
        return facts
    builder = Builder(m.root.loc, m.root.scope)
    built = rule.rewrite(m, builder, facts)
    values = cast("tuple[Value, ...]", built if isinstance(built, tuple) else (built,))
    replaced = [r for root in m.roots for r in root.results]
    if len(values) != len(replaced):
        raise PassError(f"{len(values)} values for the {len(replaced)} results")
    for old, new in zip(replaced, values, strict=True):
        if not _same_type(old, new):
            raise PassError(f"a result of type {old.type} became {new.type}")
    values = builder.carry_hints(replaced, values)
    return builder.ops, values


def _same_type(a: Value, b: Value) -> bool:
    if isinstance(a.type, TensorType) and isinstance(b.type, TensorType):
        return a.type.dtype == b.type.dtype and same_shape(a.type.shape, b.type.shape)
    return a.type == b.type


def _excerpt(program: Program, node: Node) -> str:
    index = next(i for i, n in enumerate(program.nodes()) if n is node)
    return excerpt(program.graph(), index)
