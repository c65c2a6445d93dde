"""Which values share memory, and keeping outputs apart that the caller may write to."""

from collections.abc import Mapping
from dataclasses import replace

from effcomp.ir import Graph, Op, Trait, Value, ops, spec_of


def is_view(op: Op) -> bool:
    """Whether the result may share its operand's memory."""
    return Trait.VIEW in spec_of(op).traits


def written_target(op: Op) -> Value | None:
    """The value that a state op overwrites in place."""
    names = ("state.write", "state.index_put", "state.slice_put")
    return op.operands[0] if op.name in names else None


def storage_of(value: Value, producers: Mapping[Value, Op]) -> Value:
    """The value whose memory this one may share: views are followed to what they look at."""
    while True:
        op = producers.get(value)
        if op is None:
            return value
        if is_view(op) or written_target(op) is not None:
            value = op.operands[0]
        else:
            return value


def written_storages(graph: Graph) -> frozenset[Value]:
    """Storages that some op of the graph writes to."""
    producers = graph.producers()
    found: set[Value] = set()
    for op in graph.ops:
        if (target := written_target(op)) is not None:
            found.add(storage_of(target, producers))
        elif op.name == "aten.call" and op.attrs.get("effects", False):
            found.update(storage_of(v, producers) for v in op.operands)
    return frozenset(found)


def escaping(graph: Graph) -> frozenset[Value]:
    """Outputs, and values that outputs look at through views."""
    found = set(graph.outputs)
    for op in reversed(graph.ops):
        if is_view(op) and op.result in found:
            found.add(op.operands[0])
    return frozenset(found)


def keep_outputs_apart(before: Graph, after: Graph) -> Graph:
    """Copy the outputs that came to share memory with a param or with another output.

    Torch promises a caller that `x * 1` is not `x`: writing to one must not change the other.
    """
    if after is before:
        return after
    old, new = _output_storages(before), _output_storages(after)
    params = set(after.params)
    copies: dict[Value, list[Op]] = {}
    outputs = list(after.outputs)
    kept: list[int] = []
    for i, value in enumerate(outputs):
        shared = new[i] in params and old[i] is not new[i]
        if not shared and not any(new[i] is new[j] and old[i] is not old[j] for j in kept):
            kept.append(i)
        else:
            copy = ops.view.copy.build(value)
            copy = replace(copy, results=(replace(copy.result, hint=value.hint),))
            copies.setdefault(value, []).append(copy)
            outputs[i] = copy.result
    if not copies:
        return after
    # Right after the value is made: what it looks at may be overwritten later on.
    placed = [copy for v in after.params for copy in copies.get(v, ())]
    for op in after.ops:
        placed.append(op)
        placed += [copy for r in op.results for copy in copies.get(r, ())]
    return replace(after, ops=tuple(placed), outputs=tuple(outputs))


def _output_storages(graph: Graph) -> list[Value]:
    producers = graph.producers()
    return [storage_of(v, producers) for v in graph.outputs]
