"""Ops that run as torch operators: in-place where memory is at hand, else as the call returns."""

from collections.abc import Mapping
from dataclasses import replace

from effcomp.codegen.aliasing import addresses_storage
from effcomp.codegen.draft import PENDING, UNKNOWN, buffers_in
from effcomp.codegen.layout import is_row_major, reshaped_strides, strides_of
from effcomp.codegen.lowering import Lowering
from effcomp.codegen.program import IN_PLACE
from effcomp.ir import Dim, Graph, Op, TensorType, Value, attr
from effcomp.ir.dims import dim, product
from effcomp.ir.ops.infer import axis
from effcomp.plan.schema import (
    Arg,
    AtenCall,
    BufferArg,
    CallPlace,
    ConstArg,
    InputPlace,
    ListArg,
    RegionKernel,
    SizeArg,
    TagArg,
)

# Operators whose results can be written where they are needed, and the overload that does it.
OUT_OVERLOADS: Mapping[str, str] = {
    "aten.addmm.default": "aten.addmm.out",
    "aten.baddbmm.default": "aten.baddbmm.out",
    "aten.bmm.default": "aten.bmm.out",
    "aten.cat.default": "aten.cat.out",
    "aten.cumsum.default": "aten.cumsum.out",
    "aten.gather.default": "aten.gather.out",
    "aten.index_select.default": "aten.index_select.out",
    "aten.mm.default": "aten.mm.out",
    "aten.sort.default": "aten.sort.values",
    "aten.sort.stable": "aten.sort.values_stable",
    "aten.topk.default": "aten.topk.values",
}


def library(low: Lowering, op: Op) -> None:
    """Run one op as the calls that `region_of` makes of it."""
    if op.name == "aten.call" and addresses_storage(str(op.attrs["target"])):
        op = replace(op, operands=tuple(_in_own_storage(low, v) for v in op.operands))
    run_calls(low, op, low.region_of(alone(op)), label=op.name)


def _in_own_storage(low: Lowering, value: Value) -> Value:
    """A copy of a value whose storage, unlike the arena, holds nothing else."""
    draft = low.draft
    if (
        not isinstance(value.type, TensorType)
        or low.program.root(value) in low.program.graph.params
    ):
        return value
    copy = replace(value)
    call = AtenCall("aten.clone.default", (draft.arg(value),), (draft.returned(copy),))
    draft.call(call, label="copy")
    return copy


def alone(op: Op) -> Graph:
    """A graph of nothing but this op, one param an operand."""
    params = tuple(replace(v) for v in op.operands)
    return Graph(op.name.replace(".", "_"), params, (replace(op, operands=params),), op.results)


def run_calls(low: Lowering, op: Op, region: RegionKernel, *, label: str) -> None:
    """Run a region call by call, its outputs into the buffers of the op's results.

    Results go to the buffers that were chosen for them, or stay where the call returned them; the
    result of an in-place op is its first operand.
    """
    draft = low.draft
    local: dict[int, Arg] = {i: draft.arg(v) for i, v in enumerate(op.operands)}
    if op.name in IN_PLACE:
        draft.at[op.result] = draft.buffer(op.operands[0])
        local |= dict.fromkeys(region.outputs, local[0])
    homes = _homes(low, op, region, local)
    used = {i for call in region.calls for i in _locals_read(call)} | homes.keys()
    used.update(r for r, v in zip(region.outputs, op.results, strict=True) if low.is_read(v))
    for call in region.calls:
        args = tuple(_bind(a, local) for a in call.args)
        kwargs = tuple((name, _bind(a, local)) for name, a in call.kwargs)
        results = [r if r in used and r not in local else None for r in call.results]
        made = {r: _result(low, r, homes) for r in results if r is not None}
        local |= {r: BufferArg(buffer) for r, buffer in made.items()}
        placed = tuple(None if r is None else made[r] for r in results)
        whole = op if call is region.calls[-1] else None
        out = _out_overload(low, call, homes)
        draft.call(AtenCall(call.target, args, placed, kwargs), out=out, label=label, op=whole)
    _copy_rest(low, op, region, local, label)


def _homes(low: Lowering, op: Op, region: RegionKernel, local: Mapping[int, Arg]) -> dict[int, int]:
    """Which buffer each local id of an output is computed into.

    Not the outputs that are inputs of the region or come twice, nor those whose place is memory
    that later calls may still read: these are copied at the end.
    """
    values: dict[int, Value] = {}
    for r, value in zip(region.outputs, op.results, strict=True):
        if r not in local and not _overwrites_input(low, value):
            values.setdefault(r, value)
    placed = {
        r
        for call in region.calls
        if call.target in OUT_OVERLOADS and all(r in values for r in call.results)
        for r in call.results
        if r is not None and _row_major(call, values)
    }
    return {
        r: low.draft.arena(value) if r in placed else low.draft.returned(value)
        for r, value in values.items()
        if r in placed or low.is_read(value)
    }


def _row_major(call: AtenCall, values: Mapping[int, Value]) -> bool:
    made = [values[r] for r in call.results if r is not None]
    return all(is_row_major(v.shape, strides_of(v)) for v in made)


def _out_overload(low: Lowering, call: AtenCall, homes: Mapping[int, int]) -> str:
    """The overload that writes all results where they belong, if the operator has it."""
    buffers = [homes.get(r) if r is not None else None for r in call.results]
    if any(b is None or isinstance(low.draft.buffers[b].place, CallPlace) for b in buffers):
        return ""
    return OUT_OVERLOADS.get(call.target, "")


def _overwrites_input(low: Lowering, value: Value) -> bool:
    buffer = low.draft.at.get(value)
    return buffer is not None and isinstance(low.draft.buffers[buffer].place, InputPlace)


def _result(low: Lowering, local: int, homes: Mapping[int, int]) -> int:
    return homes[local] if local in homes else low.draft.add(UNKNOWN, CallPlace(PENDING))


def _copy_rest(
    low: Lowering, op: Op, region: RegionKernel, local: Mapping[int, Arg], label: str
) -> None:
    """Copy what no call could compute in place: repeated results, operands that are results."""
    for r, value in zip(region.outputs, op.results, strict=True):
        if not low.is_read(value):
            continue
        source = local[r]
        assert isinstance(source, BufferArg), f"{op.name} returns a size as a tensor"
        if low.draft.at.get(value) != source.id:
            low.draft.copy(source.id, low.draft.arena(value), label=label)


def _locals_read(call: AtenCall) -> list[int]:
    return [*buffers_in(call.args), *buffers_in(arg for _, arg in call.kwargs)]


def _bind(arg: Arg, local: Mapping[int, Arg]) -> Arg:
    """A region's argument with local ids replaced by what they stand for in the plan."""
    match arg:
        case BufferArg(id=i):
            return local[i]
        case ListArg(items=items):
            return ListArg(tuple(_bind(item, local) for item in items))
        case SizeArg() | ConstArg() | TagArg():
            return arg


# Products: one call on matrices, into memory that is at hand.


def linear(low: Lowering, op: Op) -> None:
    """x @ weight^T as mm or addmm on a flat x; as torch's linear where x does not flatten."""
    x, weight, *bias = op.operands
    rows = product(x.shape[:-1])
    flat = (rows, x.shape[-1])
    x_strides = reshaped_strides(x.shape, strides_of(x), flat)
    shape = (rows, weight.shape[0])
    strides = reshaped_strides(op.result.shape, strides_of(op.result), shape)
    if x_strides is None or strides is None or not is_row_major(shape, strides):
        return library(low, op)
    draft = low.draft
    draft.arena(op.result)
    (n, k), (step_n, step_k) = weight.shape, strides_of(weight)
    operands = (
        *(BufferArg(draft.buffer(b)) for b in bias),
        BufferArg(draft.view(x, flat, x_strides)),
        BufferArg(draft.view(weight, (k, n), (step_k, step_n))),
    )
    result = draft.view(op.result, shape, strides)
    name = "aten.addmm" if bias else "aten.mm"
    call = AtenCall(f"{name}.default", operands, (result,))
    draft.call(call, out=f"{name}.out", label=op.name, op=op)


def matmul(low: Lowering, op: Op) -> None:
    """a @ b as mm or bmm, batch dims made one; as torch's matmul where they do not merge."""
    a, b = op.operands
    views = [_as_batch(v) for v in (a, b, op.result)]
    draft = low.draft
    if any(view is None for view in views):
        return library(low, op)
    draft.arena(op.result)
    buffers = [
        draft.view(value, *view)
        for value, view in zip((a, b, op.result), views, strict=True)
        if view is not None
    ]
    name = "aten.mm" if a.tensor.rank == 2 else "aten.bmm"
    call = AtenCall(
        f"{name}.default", (BufferArg(buffers[0]), BufferArg(buffers[1])), (buffers[2],)
    )
    draft.call(call, out=f"{name}.out", label=op.name, op=op)


def _as_batch(value: Value) -> tuple[tuple[Dim, ...], tuple[Dim, ...]] | None:
    """Shape and strides with all leading dims made one."""
    if value.tensor.rank <= 3:
        return value.shape, strides_of(value)
    shape = (product(value.shape[:-2]), *value.shape[-2:])
    strides = reshaped_strides(value.shape, strides_of(value), shape)
    return None if strides is None else (shape, strides)


# Writes into memory that outlives the call.


def write(low: Lowering, op: Op) -> None:
    """Copy into the caller's tensor, unless the value was computed there."""
    target, source = op.operands
    if low.program.writes.get(source) is not target:
        low.draft.copy(low.draft.buffer(source), low.draft.buffer(target), label=op.name, op=op)


def slice_put(low: Lowering, op: Op) -> None:
    """Copy into a strided view of the target."""
    target, source = op.operands
    d = axis(attr(op, "dim"), target.tensor.rank)
    strides = strides_of(target)
    stepped = (*strides[:d], dim(strides[d] * attr(op, "step")), *strides[d + 1 :])
    offset = dim(strides[d] * attr(op, "start"))
    written = low.draft.view(target, source.shape, stepped, offset)
    low.draft.at[op.result] = low.draft.buffer(target)
    low.draft.copy(low.draft.buffer(source), written, label=op.name, op=op)
