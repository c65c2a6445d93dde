"""The prologue: weight arithmetic that runs once, as an op with a body (docs/decisions/0003)."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from types import MappingProxyType

import sympy

from effcomp.ir import Attr, Graph, Op, TensorType, Value, is_pure
from effcomp.ir.dims import free_sizes
from effcomp.passes.aliases import escaping, storage_of, written_storages

PROLOGUE = "state.prologue"


def constant_values(graph: Graph) -> set[Value]:
    """Values that are the same at every call: weights nobody writes to, and what follows of them.

    Results whose shape or attributes depend on a size are not among them.
    """
    producers = graph.producers()
    written = written_storages(graph)
    known = {v for v in graph.params if v.weight and v not in written and _is_static((v,))}
    for op in graph.ops:
        if op.name == PROLOGUE:
            known.update(op.results)
        elif op.body is None and is_pure(op) and all(v in known for v in op.operands):
            fixed = _is_static(op.results) and not any(map(_has_size, op.attrs.values()))
            if fixed and not any(storage_of(r, producers) in written for r in op.results):
                known.update(op.results)
    return known


def _is_static(values: Iterable[Value]) -> bool:
    return all(isinstance(v.type, TensorType) and not free_sizes(v.shape) for v in values)


def _has_size(attr: Attr) -> bool:
    if isinstance(attr, tuple):
        return any(map(_has_size, attr))
    return isinstance(attr, sympy.Expr)


def hoist(graph: Graph, values: Collection[Value]) -> Graph:
    """Let the prologue compute these constant values; they keep their names in the program.

    Whatever they are computed from moves along, or is copied where the program needs it too.
    """
    wanted = set(values)
    old = next((op for op in graph.ops if op.name == PROLOGUE), None)
    kept: list[Op] = []
    for op in graph.ops:
        if op is not old and not (op.results and wanted.issuperset(op.results)):
            kept.append(op)
    main = replace(graph, ops=tuple(kept)).without_dead_ops(is_pure)
    used = {v for op in main.ops for v in op.operands} | set(main.outputs)
    results = [r for r in (old.results if old is not None else ()) if r in used]
    results += [r for op in graph.ops for r in op.results if r in wanted and r in used]
    if not results:
        return main
    made = _prologue(graph, old, results)
    return replace(main, ops=(made, *main.ops))


def _prologue(graph: Graph, old: Op | None, results: list[Value]) -> Op:
    """The prologue that computes `results` from weights."""
    inner: dict[Value, Value] = {}
    params: list[Value] = []
    operands: list[Value] = []
    ops: list[Op] = []
    needed = _needed(graph, old, results)
    if old is not None:
        assert old.body is not None, "a prologue has a body"
        inner.update(zip(old.operands, old.body.params, strict=True))
        inner.update(zip(old.results, old.body.outputs, strict=True))
        params += old.body.params
        operands += old.operands
        ops += old.body.ops
    for v in graph.params:
        if v in needed and v not in inner:
            inner[v] = replace(v)
            params.append(inner[v])
            operands.append(v)
    pending = [op for op in graph.ops if op is not old and needed.intersection(op.results)]
    while pending:  # once, unless an op was put before what it reads
        later: list[Op] = []
        for op in pending:
            if any(v not in inner for v in op.operands):
                later.append(op)
                continue
            copies = tuple(replace(r) for r in op.results)
            inner.update(zip(op.results, copies, strict=True))
            ops.append(replace(op, operands=tuple(inner[v] for v in op.operands), results=copies))
        assert len(later) < len(pending), "what a prologue computes depends on weights alone"
        pending = later
    outputs = tuple(inner[r] for r in results)
    body = Graph("prologue", tuple(params), tuple(ops), outputs).without_dead_ops(is_pure)
    body, given = _without_unused_params(body, operands)
    return Op(PROLOGUE, given, tuple(results), MappingProxyType({}), body)


def _needed(graph: Graph, old: Op | None, results: list[Value]) -> set[Value]:
    """Everything the results are computed from."""
    producers = graph.producers()
    needed: set[Value] = set()
    front = list(results)
    while front:
        value = front.pop()
        op = producers.get(value)
        if value not in needed and op is not None and op is not old:
            front += op.operands
        needed.add(value)
    return needed


def _without_unused_params(body: Graph, operands: list[Value]) -> tuple[Graph, tuple[Value, ...]]:
    used = {v for op in body.ops for v in op.operands} | set(body.outputs)
    pairs = [(p, v) for p, v in zip(body.params, operands, strict=True) if p in used]
    return replace(body, params=tuple(p for p, _ in pairs)), tuple(v for _, v in pairs)


def stays_inside(graph: Graph) -> frozenset[Value]:
    """Values that may be shared by all calls: no caller gets hold of them to write to."""
    escapes = escaping(graph)
    return frozenset(r for op in graph.ops for r in op.results if r not in escapes)
