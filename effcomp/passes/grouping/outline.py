"""Turning groups into `fused.*` ops with bodies."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from operator import is_

from effcomp.ir import SPECS, Graph, Op, Value
from effcomp.passes.grouping.facts import Facts, Region
from effcomp.passes.grouping.sizes import is_same_shape
from effcomp.passes.grouping.vocabulary import VIEWS, is_pointwise

_SILENT = frozenset(
    {"constant", "dim", "full", "iota", "convert", "reshape", "permute", "broadcast", "slice"}
)
_MOST_NAMED = 5
RESHAPE = SPECS["tensor.reshape"]


class Outliner:
    """Writes the program again with every group as one op.

    Copied ops appear inside groups; where an op outside reads one, it is made just before. With
    `wrap`, what is made there and is no view becomes a group of its own.
    """

    def __init__(self, facts: Facts, kinds: Mapping[int, str], wrap: bool) -> None:
        self._facts = facts
        self._kinds = kinds
        self._wrap = wrap
        self._ops: list[Op] = []
        self._made: set[Value] = set(facts.graph.params)

    def run(self, order: Iterable[int], members: Mapping[int, frozenset[int]]) -> Graph:
        """The graph with the nodes in this order, node i being the group of `members[i]`."""
        for node in order:
            if node in self._kinds:
                region = self._facts.region(members[node])
                if not region.outputs:
                    continue  # nobody reads it
                for v in region.params:
                    self._make(v)
                self._emit(*outlined(self._facts, region, self._kinds[node]))
            else:
                op = self._facts.ops[node]
                for v in op.operands:
                    self._make(v)
                self._emit(op)
        for v in self._facts.graph.outputs:
            self._make(v)
        before = self._facts.graph
        if len(self._ops) == len(before.ops) and all(map(is_, self._ops, before.ops)):
            return before
        return replace(before, ops=tuple(self._ops))

    def _emit(self, *ops: Op) -> None:
        for op in ops:
            self._ops.append(op)
            self._made.update(op.results)

    def _make(self, value: Value) -> None:
        """Put the copied ops that make a value here, if they are not made yet."""
        if value in self._made:
            return
        at = self._facts.producer[value]
        op = self._facts.ops[at]
        generated = not self._facts.bases(value)
        if self._wrap and is_pointwise(op) and (op.name not in VIEWS or generated):
            region = replace(self._facts.region(frozenset({at})), outputs=op.results)
            self._emit(*outlined(self._facts, region, "fused.pointwise"))
            return
        for v in op.operands:
            self._make(v)
        self._emit(op)


def outlined(facts: Facts, region: Region, kind: str) -> list[Op]:
    """The `fused.*` op for a region; its results are the region's own values.

    Outputs of a pointwise group have one shape: others are reshaped to it inside, back outside.
    """
    values: dict[Value, Value] = {v: Value(v.type, v.hint) for v in region.params}
    ops: list[Op] = []
    for at in region.ops:
        op = facts.ops[at]
        results = tuple(Value(r.type, r.hint) for r in op.results)
        ops.append(replace(op, operands=tuple(values[v] for v in op.operands), results=results))
        values.update(zip(op.results, results, strict=True))
    results, back = list(region.outputs), list[Op]()
    domain = results[0].shape
    for i, v in enumerate(region.outputs):
        if kind == "fused.pointwise" and not is_same_shape(v.shape, domain):
            ops.append(RESHAPE.build(values[v], shape=domain))
            values[v] = ops[-1].result
            results[i] = Value(ops[-1].result.type, v.hint)
            back.append(replace(RESHAPE.build(results[i], shape=v.shape), results=(v,)))
    body = Graph(
        region_name(ops),
        tuple(values[v] for v in region.params),
        tuple(ops),
        tuple(values[v] for v in region.outputs),
    )
    made = SPECS[kind].build(*region.params, body=body, loc=_location(ops), scope=_scope(ops))
    return [replace(made, results=tuple(results)), *back]


def region_name(ops: Iterable[Op]) -> str:
    """A body's name, after the ops worth naming: `add_layer_norm_mul`."""
    words = [op.name.partition(".")[2] for op in ops]
    said = [w for i, w in enumerate(words) if w not in _SILENT and w not in words[:i]]
    return "_".join((said or words)[:_MOST_NAMED])


def _location(ops: list[Op]) -> str:
    return next((op.loc for op in reversed(ops) if op.loc), "")


def _scope(ops: list[Op]) -> str:
    """The module that all ops are in."""
    scopes = [op.scope.split(".") for op in ops if op.scope]
    if not scopes:
        return ""
    shared: list[str] = []
    for parts in zip(*scopes, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)
