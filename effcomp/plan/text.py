"""A plan as text to read: one port, buffer, kernel and step a line."""

from collections.abc import Iterator

from effcomp.plan.schema import (
    ArenaPlace,
    Arg,
    AtenCall,
    BufferArg,
    CallPlace,
    CallStep,
    ConstantPlace,
    ConstArg,
    InputPlace,
    Kernel,
    Launch,
    ListArg,
    OutputPlace,
    OutputRef,
    Place,
    Plan,
    Port,
    RunRegion,
    SizeArg,
    Step,
    SymbolSource,
    TagArg,
    TensorSpec,
    TritonKernel,
    ViewPlace,
)

INDENT = "  "


def print_plan(plan: Plan) -> str:
    """The plan in a compact form for people and goldens; kernels by name, without their source."""
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    yield f"plan @{plan.name} for {plan.target}"
    if plan.prologue is not None:
        reads = ", ".join(f"port {i}" for i in plan.prologue_ports)
        yield f"{INDENT}prologue of {reads}"
        yield from (2 * INDENT + line for line in _lines(plan.prologue))
    yield from (f"{INDENT}port {i} {_port(port)}" for i, port in enumerate(plan.ports))
    yield from (f"{INDENT}size {_source(source)}" for source in plan.symbols)
    for i, buffer in enumerate(plan.buffers):
        name = f" {buffer.name}" if buffer.name else ""
        yield f"{INDENT}%{i}{name}: {_spec(buffer.spec)} {_place(buffer.place)}"
    if plan.arena_order:
        yield f"{INDENT}arena places {_ids(plan.arena_order)} first"
    yield from (f"{INDENT}kernel {_kernel(kernel)}" for kernel in plan.kernels)
    names = {kernel.digest: kernel.function for kernel in plan.kernels}
    for i, step in enumerate(plan.steps):
        yield f"{INDENT}step {i}: {_step(step, names)}"
    yield f"{INDENT}return {', '.join(map(_output, plan.outputs))}".rstrip()
    yield from (f"{INDENT}note {note}" for note in plan.notes)


def _port(port: Port) -> str:
    what = f"size {port.size}" if port.spec is None else _spec(port.spec)
    marks = " weight" * port.weight + " mutated" * port.mutated
    return f"{port.name}: {what}{marks}"


def _source(source: SymbolSource) -> str:
    where = f"dim {source.dim} of port" if source.dim >= 0 else "port"
    return f"{source.symbol} = {where} {source.port}"


def _spec(spec: TensorSpec) -> str:
    if not spec.dtype:
        return "any"
    return f"{spec.dtype}{_list(spec.shape)} strides {_list(spec.strides)}"


def _list(items: tuple[object, ...]) -> str:
    return f"[{', '.join(map(str, items))}]"


def _place(place: Place) -> str:
    match place:
        case InputPlace(index=index):
            return f"at port {index}"
        case ConstantPlace(index=index):
            return f"constant {index}"
        case ArenaPlace(first=first, last=last):
            return f"in arena {first}..{last}"
        case OutputPlace():
            return "to the caller"
        case CallPlace(last=last):
            return f"from call ..{last}"
        case ViewPlace(of=of, offset=offset):
            return f"view of %{of}" + (f" from {offset}" if offset != 0 else "")


def _kernel(kernel: Kernel) -> str:
    if isinstance(kernel, TritonKernel):
        constants = ", ".join(f"{name}={value}" for name, value in kernel.constants)
        options = f"{kernel.num_warps} warps, {kernel.num_stages} stages"
        return f"{kernel.function}: triton, {options}{f', {constants}' if constants else ''}"
    return f"{kernel.function}: region of {', '.join(c.target for c in kernel.calls)}"


def _step(step: Step, names: dict[str, str]) -> str:
    match step:
        case Launch(kernel=kernel, args=args, grid=grid):
            return f"launch {names[kernel]}({', '.join(map(_arg, args))}) on {_list(grid)}"
        case RunRegion(kernel=kernel, inputs=inputs, outputs=outputs):
            return f"{_ids(outputs)} = region {names[kernel]}({_ids(inputs)})"
        case CallStep(call=call, out=out):
            return print_call(call, out)


def print_call(call: AtenCall, out: str = "") -> str:
    """One call of a torch operator, or of its overload `out`, with buffers by number."""
    args = [*map(_arg, call.args), *(f"{k}={_arg(v)}" for k, v in call.kwargs)]
    results = f"{_ids(call.results)} = " if any(r is not None for r in call.results) else ""
    return f"{results}{out or call.target}({', '.join(args)})"


def _ids(ids: tuple[int | None, ...]) -> str:
    return ", ".join("_" if i is None else f"%{i}" for i in ids)


def _arg(arg: Arg) -> str:
    match arg:
        case BufferArg(id=i):
            return f"%{i}"
        case SizeArg(expr=expr):
            return str(expr)
        case ConstArg(value=value):
            return repr(value)
        case TagArg(tag=tag, value=value):
            return f"{tag}<{value}>"
        case ListArg(items=items):
            return _list(tuple(map(_arg, items)))


def _output(output: OutputRef) -> str:
    if output.buffer is not None:
        return f"%{output.buffer}"
    return "none" if output.size is None else f"size {output.size}"
