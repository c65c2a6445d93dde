"""Sinking permutes past arithmetic, so that what follows a norm stays in the order of its rows.

f(permute(norm(x)), cos) => permute(f(norm(x), permute'(cos))): attention reads a permuted operand
as it stands, a row-wise kernel cannot write one. Past a linear likewise: queries that stay in the
order of their tokens give a result of attention in that order, which the next linear reads as is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from effcomp.ir import SPECS, Attr, Graph, Op, Value, attr, spec_of
from effcomp.passes.grouping.sizes import typical_numel
from effcomp.passes.grouping.vocabulary import VIEWS, is_elementwise, is_row_reduction
from effcomp.rewrite import Log

PERMUTE, RESHAPE = SPECS["tensor.permute"], SPECS["tensor.reshape"]
Dims = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Permuted:
    """A value that is `base` with its dims in another order, the innermost kept."""

    base: Value
    dims: Dims


def sink_permutes(graph: Graph, log: Log) -> Graph:
    """Compute on the unpermuted values wherever a permute follows a row reduction or a linear."""
    return _Sinker(log).run(graph)


class _Sinker:
    def __init__(self, log: Log) -> None:
        self._log = log
        self._ops: list[Op] = []
        self._permuted: dict[Value, _Permuted] = {}
        self._rowwise: set[Value] = set()  # what arithmetic makes of a reduction or a linear

    def run(self, graph: Graph) -> Graph:
        for op in graph.ops:
            rule = _RULES.get(op.name, _elementwise if is_elementwise(op) else None)
            applies = any(v in self._permuted for v in op.operands) and self._log.sees(op)
            if rule is not None and applies and (sunk := rule(op, self._permuted)) is not None:
                self._sink(op, *sunk)
                continue
            if op.name == "tensor.permute":
                self._note(op)
            reads = any(v in self._rowwise for v in op.operands)
            follows = is_elementwise(op) or op.name in VIEWS or op.name == "tensor.concat"
            if is_row_reduction(op) or op.name == "nn.linear" or (reads and follows):
                self._rowwise.update(op.results)
            self._ops.append(op)
        if len(self._ops) == len(graph.ops):
            return graph
        return replace(graph, ops=tuple(self._ops))

    def _note(self, op: Op) -> None:
        x, dims = op.operands[0], tuple(d % len(op.result.shape) for d in attr(op, "dims"))
        if x in self._rowwise and dims and dims[-1] == len(dims) - 1:
            self._permuted[op.result] = _Permuted(x, dims)

    def _sink(self, op: Op, made: list[Op], dims: Dims) -> None:
        """Put the op on unpermuted values here, then the permute of what it makes."""
        base = made[-1]
        permute = replace(PERMUTE.build(base.result, dims=dims), results=op.results)
        self._ops += [*made[:-1], base, replace(permute, loc=op.loc, scope=op.scope)]
        self._permuted[op.result] = _Permuted(base.result, dims)
        self._rowwise.update((base.result, op.result))
        self._log.applied("SinkPermute", op.loc)


Rule = Callable[[Op, Mapping[Value, _Permuted]], tuple[list[Op], Dims] | None]


def _common_dims(op: Op, permuted: Mapping[Value, _Permuted]) -> Dims | None:
    found = {permuted[v].dims for v in op.operands if v in permuted}
    dims = found.pop()
    return None if found or len(dims) != len(op.results[0].shape) else dims


def _elementwise(op: Op, permuted: Mapping[Value, _Permuted]) -> tuple[list[Op], Dims] | None:
    """Operands that are not permuted have to be small: they are read in the other order."""
    dims = _common_dims(op, permuted)
    if dims is None:
        return None
    made: list[Op] = []
    operands: list[Value] = []
    for v in op.operands:
        if v in permuted:
            operands.append(permuted[v].base)
        elif not v.shape:
            operands.append(v)
        elif 2 * typical_numel(v.shape) > typical_numel(op.result.shape):
            return None
        else:
            made += _permuted_back(v, dims)
            operands.append(made[-1].result)
    return [*made, _again(op, operands, op.attrs)], dims


def _permuted_back(value: Value, dims: Dims) -> list[Op]:
    """Views of an operand of the permuted op, as the unpermuted one reads it."""
    missing = len(dims) - len(value.shape)
    widened = [RESHAPE.build(value, shape=(*(1,) * missing, *value.shape))] if missing else []
    wide = widened[-1].result if widened else value
    back = tuple(dims.index(d) for d in range(len(dims)))
    return [*widened, PERMUTE.build(wide, dims=back)]


def _slice(op: Op, permuted: Mapping[Value, _Permuted]) -> tuple[list[Op], Dims] | None:
    source = permuted[op.operands[0]]
    along: int = attr(op, "dim")
    at = source.dims[along % len(source.dims)]
    return [_again(op, [source.base], {**op.attrs, "dim": at})], source.dims


def _concat(op: Op, permuted: Mapping[Value, _Permuted]) -> tuple[list[Op], Dims] | None:
    if not all(v in permuted for v in op.operands):
        return None
    dims = _common_dims(op, permuted)
    if dims is None:
        return None
    along: int = attr(op, "dim")
    bases = [permuted[v].base for v in op.operands]
    return [_again(op, bases, {"dim": dims[along % len(dims)]})], dims


def _again(op: Op, operands: Sequence[Value], attrs: Mapping[str, Attr]) -> Op:
    """The op on other operands, its result inferred anew."""
    types = spec_of(op).result_types(operands, attrs, None)
    made = tuple(Value(t) for t in types)
    return replace(op, operands=tuple(operands), results=made, attrs=MappingProxyType({**attrs}))


_RULES: Mapping[str, Rule] = {"tensor.slice": _slice, "tensor.concat": _concat}
