"""The tile IR as text, one statement a line."""

from collections.abc import Iterable

from effcomp.codegen.tile.ir import (
    Accumulate,
    Axis,
    Bound,
    Compute,
    Constant,
    Inside,
    Load,
    Loop,
    Operand,
    Position,
    Product,
    Reduce,
    Side,
    Statement,
    Store,
    TileKernel,
    TileValue,
)
from effcomp.ir import print_dim

INDENT = "  "


def print_tile(kernel: TileKernel) -> str:
    """The kernel: its pointers, its axes, then its statements."""
    pointers = ", ".join(
        f"{p.name}: {'out ' if p.written else ''}{p.dtype}" for p in kernel.pointers
    )
    options = f"warps {kernel.num_warps} stages {kernel.num_stages}"
    options += " wide" if kernel.wide else ""
    options += f" grouped {kernel.grouped}" if kernel.grouped else ""
    lines = [f"tile @{kernel.name}({pointers}) {options} {{"]
    lines += [f"{INDENT}{_axis(a)}" for a in kernel.axes]
    lines += _lines(kernel.body, INDENT)
    return "\n".join([*lines, "}"]) + "\n"


def print_statement(statement: Statement) -> str:
    """One statement; a loop without its body."""
    match statement:
        case Load(result=result, pointer=pointer, offset=offset, mask=mask, other=other):
            end = f"{_where(mask)} else {other!r}" if mask else ""
            return f"{_value(result)} = load {pointer.name}[{print_dim(offset)}]{end}"
        case Store(pointer=pointer, offset=offset, value=value, mask=mask):
            return f"store {pointer.name}[{print_dim(offset)}] = {_operand(value)}{_where(mask)}"
        case Position(result=result, expr=expr):
            return f"{_value(result)} = position {print_dim(expr)}"
        case Inside(result=result, bounds=bounds):
            return f"{_value(result)} = inside{_where(bounds)}"
        case Compute(result=result, op=op, operands=operands, attrs=attrs):
            shown = ", ".join(map(_operand, operands))
            extra = "".join(f" {k} = {v!r}" for k, v in attrs)
            return f"{_value(result)} = {op}({shown}){extra}"
        case Reduce(result=result, kind=kind, operand=operand, axis=axis):
            return f"{_value(result)} = reduce {kind} {operand.name} along {axis}"
        case Accumulate(kind=kind, targets=targets, operand=operand):
            return f"{', '.join(t.name for t in targets)} <- {kind} {_operand(operand)}"
        case Loop(axis=axis, accumulators=accumulators):
            start = ", ".join(f"{_value(a.value)} = {a.init.value!r}" for a in accumulators)
            return f"for {axis}{f' with {start}' if start else ''}"
        case Product(result=result, template=template, sides=sides, depth=depth, block=block):
            a, b = map(_side, sides)
            size = f"{print_dim(depth)} by {block}"
            return f"{_value(result)} = {template}({a}, {b}) over {size} {statement.precision}"


def _lines(body: Iterable[Statement], indent: str) -> list[str]:
    lines: list[str] = []
    for statement in body:
        lines.append(indent + print_statement(statement))
        if isinstance(statement, Loop):
            lines[-1] += " {"
            lines += [*_lines(statement.body, indent + INDENT), f"{indent}}}"]
    return lines


def _axis(axis: Axis) -> str:
    return f"axis {axis.name} < {print_dim(axis.extent)} by {axis.block} {axis.spread.value}"


def _value(value: TileValue) -> str:
    return f"{value.name}: {value.dtype}[{', '.join(value.axes)}]"


def _operand(operand: Operand) -> str:
    if isinstance(operand, Constant):
        return f"{operand.value!r}: {operand.dtype}"
    return operand.name


def _side(side: Side) -> str:
    at = f"{side.pointer.name}[{print_dim(side.offset)} + {print_dim(side.step)}*k]"
    return f"{at}{_where(side.mask)}"


def _where(bounds: tuple[Bound, ...]) -> str:
    shown: list[str] = []
    for bound in bounds:
        low = "0 <= " if bound.low else ""
        high = "" if bound.high is None else f" < {print_dim(bound.high)}"
        shown.append(f"{low}{print_dim(bound.position)}{high}")
    return f" where {', '.join(shown)}" if shown else ""
