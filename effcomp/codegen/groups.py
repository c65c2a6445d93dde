"""Groups: one kernel on a GPU, one region on a CPU, library calls where no kernel was made."""

from collections.abc import Hashable, Mapping
from dataclasses import replace
from types import MappingProxyType

from effcomp.codegen.aliasing import may_take_over
from effcomp.codegen.draft import expr
from effcomp.codegen.kernel import KernelLaunch, Refusal
from effcomp.codegen.layout import view_layout
from effcomp.codegen.library import linear, matmul, run_calls
from effcomp.codegen.lowering import Lowering
from effcomp.codegen.triton import emit_group
from effcomp.ir import SPECS, Dim, Graph, Op, Trait, Value, spec_of
from effcomp.ir.dims import same_shape
from effcomp.plan.schema import Arg, BufferArg, Launch, RunRegion, SizeArg


def group(low: Lowering, op: Op) -> None:
    """A group as one kernel, or as its target runs it otherwise."""
    if low.target.kind == "cpu":
        return region(low, op)
    if reason := launch(low, op):
        calls = low.region_of(_body(op))
        _note_refusal(low, op, calls.function, reason)
        run_calls(low, op, calls, label=calls.function)


def product_group(low: Lowering, op: Op) -> None:
    """A product with its epilogue; else the library's product, and a group of the rest."""
    if low.target.kind == "cpu":
        return region(low, op)
    if reason := launch(low, op):
        _note_refusal(low, op, "matmul", reason)
        product, epilogue = _split(op)
        (linear if product.name == "nn.linear" else matmul)(low, product)
        if epilogue is not None:
            group(low, _on_one_domain(low, epilogue))


def body_calls(low: Lowering, op: Op) -> None:
    """A body as library calls: what runs once needs no kernel."""
    run_calls(low, op, low.region_of(_body(op)), label=op.name)


def copying_view(low: Lowering, op: Op) -> None:
    """A view that strides cannot express: its elements are moved."""
    group(low, as_group(op))


def as_group(op: Op) -> Op:
    """A pointwise group of one op."""
    params = tuple(replace(v) for v in op.operands)
    results = tuple(replace(r) for r in op.results)
    inner = replace(op, operands=params, results=results)
    body = Graph(op.name.replace(".", "_"), params, (inner,), results)
    return replace(op, name="fused.pointwise", attrs=MappingProxyType({}), body=body)


def region(low: Lowering, op: Op) -> None:
    """Run a group as a region: ATen calls that the runtime may compile together."""
    operands, body = _behind_views(low, op)
    kernel = low.region_of(body)
    draft = low.draft
    inputs = tuple(map(draft.buffer, operands))
    # A region hands on what its calls return; an arena buffer would cost a copy.
    outputs = tuple(draft.returned(r) for r in op.results)
    digest = draft.add_kernel(kernel)
    draft.step(RunRegion(digest, inputs, outputs, kernel.function), op)


def _behind_views(low: Lowering, op: Op) -> tuple[tuple[Value, ...], Graph]:
    """A group that reads views of its operands, in place of the ops that make these.

    So regions that read other columns of one tensor are one region, compiled once.
    """
    body = _body(op)
    given = dict(zip(body.params, op.operands, strict=True))
    rest: list[Op] = []
    for inner in body.ops:
        shown = None if inner.results[0] in body.outputs else _shown(inner, given)
        if shown is None:
            rest.append(inner)
            continue
        value, base, offset = shown
        low.draft.show(value, base, offset)
        given[inner.result] = value
    used = {v for inner in rest for v in inner.operands} | set(body.outputs)
    params = tuple(v for v in given if v in used)
    peeled = replace(body, params=params, ops=tuple(rest))
    return tuple(given[v] for v in params), peeled


def _shown(op: Op, given: Mapping[Value, Value]) -> tuple[Value, Value, Dim] | None:
    """The value that a view of a group's operand is: strides and an offset over that operand."""
    if Trait.VIEW not in spec_of(op).traits or op.operands[0] not in given:
        return None
    base = given[op.operands[0]]
    layout = view_layout(replace(op, operands=(base, *op.operands[1:])))
    if layout is None:
        return None
    result = op.result
    return Value(result.type, result.hint, layout.strides), base, layout.offset


def launch(low: Lowering, op: Op) -> str:
    """Launch the kernel of a group; otherwise say why there is none."""
    match _emitted(low, op):
        case Refusal(reason=reason):
            return reason
        case KernelLaunch() as made:
            for result in op.results:
                low.draft.arena(result)
            _offer_takeovers(low, op)
            add_launch(low, op, made, made.kernel.function)
            return ""


def add_launch(low: Lowering, op: Op, made: KernelLaunch, label: str) -> None:
    """A launch as the step that computes all results of an op."""
    draft = low.draft
    for result in op.results:
        draft.arena(result)
    bound = tuple(_argument(low, a) for a in made.args)
    x, y, z = map(expr, made.grid)
    draft.step(Launch(draft.add_kernel(made.kernel), bound, (x, y, z), label), op)


def _emitted(low: Lowering, op: Op) -> KernelLaunch | Refusal:
    """The kernel of a group, made once for all groups of the same structure."""
    key, values = _structure(op), (*op.operands, *op.results)
    if key not in low.emitted:
        low.emitted[key] = emit_group(op, low.target), values
    made, first = low.emitted[key]
    if isinstance(made, Refusal):
        return made
    here = dict(zip(first, values, strict=True))
    args = tuple(here[a] if isinstance(a, Value) else a for a in made.args)
    return replace(made, args=args)


def _structure(op: Op) -> Hashable:
    """What a group's kernel depends on: all but names, places in the source and identities."""
    body = _body(op)
    number: dict[Value, int] = {}
    for v in body.params:
        number.setdefault(v, len(number))
    ops: list[Hashable] = []
    for inner in body.ops:
        read = tuple(number[v] for v in inner.operands)
        number.update((r, len(number) + i) for i, r in enumerate(inner.results))
        made = tuple(r.type for r in inner.results)
        ops.append((inner.name, read, repr(sorted(inner.attrs.items())), made))
    given = (*op.operands, *op.results)
    outside = tuple((v.type, v.strides, given.index(v)) for v in given)
    params = tuple(v.type for v in body.params)
    return op.name, tuple(ops), params, tuple(number[v] for v in body.outputs), outside


def _argument(low: Lowering, arg: Value | Dim) -> Arg:
    return BufferArg(low.draft.buffer(arg)) if isinstance(arg, Value) else SizeArg(expr(arg))


def _offer_takeovers(low: Lowering, op: Op) -> None:
    """Name the operands in whose memory a result may be computed."""
    draft = low.draft
    for result in op.results:
        for operand in op.operands:
            if may_take_over(op, operand, result):
                draft.takeovers.append((len(draft.steps), draft.at[result], draft.buffer(operand)))


def _note_refusal(low: Lowering, op: Op, label: str, reason: str) -> None:
    where = f" ({op.loc})" if op.loc else ""
    low.draft.note(f"{op.name} {label} runs as library calls{where}: {reason}")


def _body(op: Op) -> Graph:
    assert op.body is not None, f"{op.name} has no body"
    return op.body


def _split(op: Op) -> tuple[Op, Op | None]:
    """The product of a matmul group, and a pointwise group of what follows."""
    body = _body(op)
    given = dict(zip(body.params, op.operands, strict=True))
    first, *rest = body.ops
    operands = tuple(given[v] for v in first.operands)
    if not rest and len(op.results) == 1:
        return replace(first, operands=operands, results=op.results, loc=op.loc), None
    made = replace(first.result, strides=None)
    product = replace(first, operands=operands, results=(made,), loc=op.loc)
    used = {v for inner in rest for v in inner.operands} | set(body.outputs)
    params = tuple(v for v in (first.result, *body.params) if v in used)
    given[first.result] = made
    epilogue = Graph(f"{body.name}_epilogue", params, tuple(rest), body.outputs)
    read = tuple(given[v] for v in params)
    return product, replace(op, name="fused.pointwise", operands=read, body=epilogue)


def _on_one_domain(low: Lowering, op: Op) -> Op:
    """An epilogue's results may be reshapes of each other; those of a pointwise group may not.

    Results of another shape than the first are computed in its shape, into views of their buffers.
    """
    body = _body(op)
    domain = op.results[0].shape
    results: list[Value] = []
    outputs: list[Value] = []
    reshapes: list[Op] = []
    for result, output in zip(op.results, body.outputs, strict=True):
        if not same_shape(result.shape, domain) and result.strides is None:
            low.draft.arena(result)
            reshapes.append(SPECS["tensor.reshape"].build(output, shape=domain))
            output = reshapes[-1].result
            result = Value(output.type, result.hint)
            low.draft.show(result, op.results[len(results)])
            low.draft.buffer(result)
        results.append(result)
        outputs.append(output)
    body = replace(body, ops=(*body.ops, *reshapes), outputs=tuple(outputs))
    return replace(op, results=tuple(results), body=body)
