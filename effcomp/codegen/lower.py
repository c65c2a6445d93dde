"""From a graph of groups, library calls and views to a plan."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import sympy

from effcomp.codegen.aliasing import written_operands
from effcomp.codegen.draft import expr, spec_of_value
from effcomp.codegen.groups import body_calls
from effcomp.codegen.lowering import Lowering, RegionOf
from effcomp.codegen.memory import with_lifetimes
from effcomp.codegen.outputs import claim_outputs, give_results, settle_outputs
from effcomp.codegen.program import settle_layouts
from effcomp.codegen.select import way_of
from effcomp.codegen.snapshots import snapshot_overwritten
from effcomp.errors import LoweringError
from effcomp.ir import Attr, Dim, Graph, Op, Result, SizeType, TensorType, Value
from effcomp.ir.dims import free_sizes
from effcomp.plan.schema import ConstantPlace, InputPlace, OutputRef, Plan, Port, SymbolSource
from effcomp.target import Target


def lower_graph(
    graph: Graph,
    target: Target,
    *,
    region_of: RegionOf,
    results: Sequence[Result] | None = None,
) -> Plan:
    """Lower a graph at Level.KERNEL for a target. Raises LoweringError, located.

    `region_of` is the table from ops to ATen calls (`effcomp.reference.region_of`); `results` are
    what the plan returns of the graph's outputs: all of them where nothing is said.
    """
    low = _start(graph, target, region_of)
    prologue = next((op for op in low.program.graph.ops if op.name == "state.prologue"), None)
    _place_params(low)
    if prologue is not None:
        _place_constants(low, prologue)
    promises = claim_outputs(low)
    for position, op in zip(low.positions, low.program.graph.ops, strict=True):
        low.draft.op = position
        way_of(op)(low, op)
    low.draft.op = -1
    outputs = settle_outputs(low, promises)
    plan = _finish(low, outputs if results is None else give_results(low, outputs, results))
    if prologue is None:
        return plan
    return replace(
        plan,
        prologue=_lower_prologue(prologue, graph, target, region_of),
        prologue_ports=_ports_read(prologue, low.program.graph),
    )


def _start(graph: Graph, target: Target, region_of: RegionOf) -> Lowering:
    snapshotted = snapshot_overwritten(graph)
    program = settle_layouts(snapshotted, target.kind)
    read = program.graph.use_counts()
    unread = frozenset(r for op in program.graph.ops for r in op.results if r not in read)
    return Lowering(program, target, region_of, unread, _positions(snapshotted, graph))


def _positions(snapshotted: Graph, given: Graph) -> tuple[int, ...]:
    """For each op where it stood in the program given; a snapshot stands with the write after."""
    made = {r for op in given.ops for r in op.results}
    kept = (made.issuperset(op.results) for op in snapshotted.ops)
    return tuple(itertools.accumulate(kept, initial=0))[: len(snapshotted.ops)]


def _finish(low: Lowering, outputs: tuple[OutputRef, ...]) -> Plan:
    graph, draft = low.program.graph, low.draft
    return Plan(
        name=graph.name,
        target=low.target.name,
        ports=_ports(graph, low),
        symbols=_symbols(graph),
        buffers=with_lifetimes(
            draft.buffers, draft.steps, shares=draft.shares, takeovers=draft.takeovers
        ),
        kernels=tuple(draft.kernels.values()),
        steps=tuple(draft.steps),
        outputs=outputs,
        costs=tuple(draft.costs),
        notes=tuple(draft.notes),
    )


def _place_params(low: Lowering) -> None:
    for i, v in enumerate(low.program.graph.params):
        if isinstance(v.type, TensorType):
            low.draft.place(v, InputPlace(i))


# The prologue: weight arithmetic in a plan of its own.


def _place_constants(low: Lowering, prologue: Op) -> None:
    for i, result in enumerate(prologue.results):
        low.draft.place(result, ConstantPlace(i))


def _ports_read(prologue: Op, graph: Graph) -> tuple[int, ...]:
    if strangers := [v for v in prologue.operands if v not in graph.params]:
        raise LoweringError(
            f"state.prologue reads %{strangers[0].hint}, which is no parameter of @{graph.name}"
        )
    return tuple(graph.params.index(v) for v in prologue.operands)


def _lower_prologue(op: Op, graph: Graph, target: Target, region_of: RegionOf) -> Plan:
    """The prologue as a plan: library calls, since it runs only when weights change."""
    params = tuple(replace(v) for v in op.operands)
    op = replace(op, operands=params)
    layouts = tuple(r.strides for r in op.results)
    inner = Graph(f"{graph.name}_prologue", params, (op,), op.results, layouts)
    low = _start(inner, target, region_of)
    _place_params(low)
    promises = claim_outputs(low)
    body_calls(low, low.program.graph.ops[0])
    return _finish(low, settle_outputs(low, promises))


# Ports and sizes: what the plan is called with.


def _ports(graph: Graph, low: Lowering) -> tuple[Port, ...]:
    mutated = {low.program.root(v) for op in graph.ops for v in written_operands(op)}
    return tuple(_port(v, mutated=v in mutated) for v in graph.params)


def _port(value: Value, *, mutated: bool) -> Port:
    if isinstance(value.type, SizeType):
        return Port(value.hint, size=expr(value.type.expr))
    return Port(value.hint, spec_of_value(value), weight=value.weight, mutated=mutated)


def _symbols(graph: Graph) -> tuple[SymbolSource, ...]:
    """Where each size is read; every size of the graph must stand bare at some port."""
    sources: dict[str, SymbolSource] = {}
    for port, value in enumerate(graph.params):
        if isinstance(value.type, SizeType):
            sizes: Mapping[int, Dim] = {-1: value.type.expr}
        else:
            sizes = dict(enumerate(value.shape))
        for d, size in sizes.items():
            if isinstance(size, sympy.Symbol):
                sources.setdefault(size.name, SymbolSource(size.name, port, d))
    used = frozenset[str]().union(*map(_sizes_of_op, graph.ops), *map(_sizes_of, graph.params))
    if unknown := sorted(used - sources.keys()):
        raise LoweringError(
            f"no argument of @{graph.name} tells the size {unknown[0]}: "
            "it stands alone in no shape; compile with static shapes"
        )
    return tuple(sources.values())


def _sizes_of_op(op: Op) -> frozenset[str]:
    inner = op.body.walk() if op.body is not None else ()
    nested = (_sizes_of_op(i) for i in inner)
    attrs = (_sizes_in(a) for a in op.attrs.values())
    return frozenset[str]().union(*map(_sizes_of, op.results), *nested, *attrs)


def _sizes_of(value: Value) -> frozenset[str]:
    if isinstance(value.type, SizeType):
        return free_sizes((value.type.expr,))
    return free_sizes((*value.shape, *(value.strides or ())))


def _sizes_in(attr: Attr) -> frozenset[str]:
    match attr:
        case sympy.Expr():
            return free_sizes((attr,))
        case tuple():
            return frozenset[str]().union(*map(_sizes_in, attr))
        case _:
            return frozenset()
