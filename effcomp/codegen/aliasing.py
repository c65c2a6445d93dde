"""Which ops may read or write memory that other values live in."""

from collections.abc import Mapping

from effcomp.codegen.layout import same_layout, strides_of
from effcomp.ir import Graph, Op, Trait, Value, spec_of
from effcomp.ir.dims import same_shape

# Torch operators that may return their operand's own memory.
_VIEWS = frozenset(
    """
    _conj _neg_view _reshape_alias _unsafe_view adjoint alias as_strided chunk conj contiguous
    detach diagonal dropout expand expand_as flatten imag lift_fresh movedim narrow permute positive
    ravel real reshape reshape_as resolve_conj resolve_neg select slice split split_with_sizes
    squeeze swapaxes swapdims t tensor_split to transpose type_as unbind unflatten unfold
    unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze view view_as view_as_complex
    view_as_real
    """.split()  # noqa: SIM905 - as many names as fit on a line are easier to look through
)


def operator_name(target: str) -> str:
    """The name of a torch operator without namespace and overload: "mm" of "aten.mm.default"."""
    parts = target.split(".")
    return parts[1] if len(parts) > 1 else target


def may_alias(target: str) -> bool:
    """Whether what the operator returns may lie in its arguments' memory."""
    name = operator_name(target)
    return name in _VIEWS or writes_first(target)


def addresses_storage(target: str) -> bool:
    """Whether the operator takes offsets into its operand's storage, not into its elements."""
    return operator_name(target).startswith("as_strided")


def writes_first(target: str) -> bool:
    """Whether the operator writes its first argument in place (torch's trailing underscore)."""
    name = operator_name(target)
    return name.endswith("_") and not name.endswith("__")


def shares_memory(op: Op) -> bool:
    """Whether results of the op may lie in its operands' memory."""
    if op.name == "aten.call":
        return may_alias(str(op.attrs["target"]))
    return op.name in _WRITES or Trait.VIEW in spec_of(op).traits


def written_operands(op: Op) -> tuple[Value, ...]:
    """The operands whose memory an op changes."""
    in_call = op.name == "aten.call" and writes_first(str(op.attrs["target"]))
    return op.operands[:1] if in_call or op.name in _WRITES else ()


_WRITES = frozenset({"state.write", "state.index_put", "state.slice_put"})


def reads_in_place(op: Op, operand: Value) -> bool:
    """Whether each result element of a pointwise group depends on the same element of `operand`.

    Then a result of the same layout may take the operand's memory: no element is read after
    another program has written it.
    """
    assert op.body is not None, f"{op.name} has no body"
    if op.name != "fused.pointwise" or op.operands.count(operand) != 1:
        return False
    domain = op.body.outputs[0].shape
    if not same_shape(operand.shape, domain):
        return False
    depends = {op.body.params[op.operands.index(operand)]}
    for inner in op.body.ops:
        if depends.isdisjoint(inner.operands):
            continue
        elementwise = Trait.ELEMENTWISE in spec_of(inner).traits
        if not elementwise or not same_shape(inner.result.shape, domain):
            return False
        depends.add(inner.result)
    return True


def may_take_over(op: Op, operand: Value, result: Value) -> bool:
    """Whether `result` of a group may be computed into the memory of `operand`, which ends here."""
    return (
        result.type == operand.type
        and same_layout(result.shape, strides_of(result), strides_of(operand))
        and reads_in_place(op, operand)
    )


def direct_writes(graph: Graph) -> Mapping[Value, Value]:
    """Results that a kernel can compute straight into the param which they overwrite.

    The result is a group's, no output shares it, and nothing but its group reads the param (or a
    view of it) from there on; the group itself only element by element.
    """
    writes: dict[Value, Value] = {}
    at = {
        r: i for i, op in enumerate(graph.ops) if op.name.startswith("fused.") for r in op.results
    }
    for op in graph.ops:
        if op.name != "state.write":
            continue
        target, source = op.operands
        if source not in at or target not in graph.params or source in writes:
            continue
        if source.type != target.type or _derived(graph, source) & set(graph.outputs):
            continue
        if _unread_after(graph, target, source, at[source], op):
            writes[source] = target
    return writes


def _unread_after(graph: Graph, target: Value, source: Value, made: int, write: Op) -> bool:
    aliases = _derived(graph, target)
    if any(v in graph.outputs for v in aliases):
        return False
    for i, op in enumerate(graph.ops):
        if op is write or i < made:
            if op is not write and target in written_operands(op):
                return False
            continue
        if aliases.isdisjoint(op.operands):
            continue
        own = i == made and aliases.isdisjoint(set(op.operands) - {target})
        if not (own and reads_in_place(op, target)):
            return False
    return True


def _derived(graph: Graph, value: Value) -> set[Value]:
    """A value and whatever may share its memory: views of it, in-place results."""
    found = {value}
    for op in graph.ops:
        if shares_memory(op) and not found.isdisjoint(op.operands):
            found.update(op.results)
    return found
