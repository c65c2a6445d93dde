"""What the compiled function returns, and which memory it returns it in.

Every output has memory of its own, but for one case in which the graph itself says otherwise: a
param, or a strided view of one, is returned as it is, unless the graph writes into that param.
AOTAutograd gives such aliases back to the user as views of the caller's tensor, so copying gains
nothing, and a forward pass that saves weights for its backward would lose much. Two outputs of one
value are two copies: passes merge equal computations, and what the user does in place to one must
not show in the other.

Results that share memory are views of one output or param, which capture has found: no pass knows
of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from effcomp.codegen.aliasing import written_operands
from effcomp.codegen.draft import expr, tensor_spec
from effcomp.codegen.groups import as_group, group
from effcomp.codegen.layout import (
    Strides,
    is_dense,
    overlaps,
    same_layout,
    strides_of,
)
from effcomp.codegen.lowering import Lowering
from effcomp.ir import SPECS, Result, ResultView, SizeType, Value
from effcomp.ir.dims import contiguous_strides, same
from effcomp.plan.schema import OutputPlace, OutputRef, ViewPlace


@dataclass(frozen=True, slots=True)
class Owed:
    """An output that is settled once every op has run: `copied`, or the value's own buffer."""

    value: Value
    strides: Strides
    copied: bool


Promise = OutputRef | Owed


def claim_outputs(low: Lowering) -> tuple[Promise, ...]:
    """Give memory that is handed to the caller to the values that can be computed there."""
    graph, draft = low.program.graph, low.draft
    for source, target in low.program.writes.items():
        draft.at[source] = draft.buffer(target)
    aliased = set(graph.params).difference(_written(low))
    made = {r for op in graph.ops for r in op.results}
    promises: dict[int, Promise] = {}
    for i in sorted(range(len(graph.outputs)), key=lambda i: graph.outputs[i] in low.program.views):
        promises[i] = _claim(low, i, aliased=aliased, made=made)
    return tuple(promises[i] for i in range(len(graph.outputs)))


def _claim(low: Lowering, index: int, *, aliased: set[Value], made: set[Value]) -> Promise:
    """What becomes of one output; values themselves come before views of them."""
    graph, draft = low.program.graph, low.draft
    value = graph.outputs[index]
    if isinstance(value.type, SizeType):
        return OutputRef(size=expr(value.type.expr))
    strides = strides_of(value)
    layout = graph.layout_of_output(index)
    fits = layout is None or same_layout(value.shape, strides, layout)
    root = low.program.root(value)
    # Where the value lies as it should, but for dims of size 1, whose steps it leaves open.
    exact = strides if layout is None else layout
    if root in aliased and fits:
        return Owed(value, exact, copied=False)
    if not fits or root not in made or root in draft.at or not _covers(low, value, root):
        loose = layout is None and not is_dense(value.shape, strides)
        return Owed(value, contiguous_strides(value.shape) if loose else exact, copied=True)
    spec = tensor_spec(value.dtype, value.shape, exact)
    buffer = draft.at[value] = draft.add(spec, OutputPlace(), value.hint)
    if root is not value:
        draft.at[root] = draft.view(value, root.shape, strides_of(root))
    return OutputRef(buffer=buffer)


def _covers(low: Lowering, value: Value, root: Value) -> bool:
    """Whether a view is all of its root's memory, so that the root can live in the view's."""
    if root is value:
        return not overlaps(value.shape, strides_of(value))
    whole = low.program.views[value].offset == 0 and same(value.tensor.numel, root.tensor.numel)
    return (
        whole
        and is_dense(root.shape, strides_of(root))
        and is_dense(value.shape, strides_of(value))
    )


def _written(low: Lowering) -> Iterator[Value]:
    for op in low.program.graph.ops:
        yield from map(low.program.root, written_operands(op))


def settle_outputs(low: Lowering, promises: tuple[Promise, ...]) -> tuple[OutputRef, ...]:
    """Copy the outputs that could not be computed where the caller gets them."""
    return tuple(_settle(low, p) if isinstance(p, Owed) else p for p in promises)


def _settle(low: Lowering, owed: Owed) -> OutputRef:
    value, draft = owed.value, low.draft
    if not owed.copied and value in low.program.graph.params:
        return OutputRef(buffer=draft.buffer(value))
    if not owed.copied:
        return OutputRef(buffer=draft.view(value, value.shape, owed.strides))
    if not overlaps(value.shape, owed.strides):
        return OutputRef(buffer=copied(low, value, owed.strides))
    # An expanded view: its distinct elements are copied, and shown as often as they were.
    pairs = zip(value.shape, owed.strides, strict=True)
    shape = tuple(1 if step == 0 else size for size, step in pairs)
    once = Value(value.tensor.with_shape(*shape), value.hint, strides_of(value))
    draft.show(once, value)
    shown = Value(value.type, value.hint, owed.strides)
    draft.at[shown] = copied(low, once, owed.strides)
    return OutputRef(buffer=draft.view(shown, value.shape, owed.strides))


def give_results(
    low: Lowering, outputs: Sequence[OutputRef], results: Sequence[Result]
) -> tuple[OutputRef, ...]:
    """What the plan returns: outputs as they are settled, views of memory, and nothing."""
    draft, graph = low.draft, low.program.graph
    views: dict[ResultView, int] = {}
    refs: list[OutputRef] = []
    for result in results:
        match result:
            case None:
                refs.append(OutputRef())
            case int():
                refs.append(outputs[result])
            case ResultView(of=of, type=kind, strides=strides, offset=offset):
                root = (graph.outputs if result.root == "output" else graph.params)[of]
                under = outputs[of].buffer if result.root == "output" else draft.buffer(root)
                assert under is not None, "a view looks at a tensor"
                if result not in views:
                    spec = tensor_spec(kind.dtype, kind.shape, strides)
                    views[result] = draft.add(spec, ViewPlace(under, expr(offset)), root.hint)
                refs.append(OutputRef(buffer=views[result]))
    return tuple(refs)


def copied(low: Lowering, value: Value, strides: Strides) -> int:
    """A copy of a value in memory that the caller gets."""
    draft = low.draft
    copy = Value(value.type, value.hint, strides)
    buffer = draft.place(copy, OutputPlace())
    op = replace(SPECS["tensor.copy"].build(value), results=(copy,))
    if low.target.kind == "cpu":
        draft.copy(draft.buffer(value), buffer, label=op.name, op=op)
    else:
        group(low, as_group(op))
    return buffer
