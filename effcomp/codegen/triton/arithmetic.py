"""How each elementwise op reads in Triton."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from effcomp.codegen.tile.ir import Compute, Constant, Operand
from effcomp.errors import LoweringError
from effcomp.ir.types import FLOATS, ITEMSIZE
from effcomp.plugins import REGISTRY, CustomOp

DTYPES: Mapping[str, str] = {
    "f64": "tl.float64", "f32": "tl.float32", "bf16": "tl.bfloat16", "f16": "tl.float16",
    "i64": "tl.int64", "i32": "tl.int32", "i16": "tl.int16", "i8": "tl.int8", "u8": "tl.uint8",
    "bool": "tl.int1",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """The right-hand side of a statement, and the prelude functions that it calls."""

    text: str
    calls: tuple[str, ...] = ()


Rule = Callable[[Compute], Line]


def arithmetic_line(statement: Compute) -> Line:
    """One elementwise operation in Triton."""
    if (rule := _RULES.get(statement.op)) is not None:
        return rule(statement)
    if (custom := REGISTRY.ops.get(statement.op)) is not None and custom.expression:
        return _registered(statement, custom)
    raise LoweringError(f"{statement.op} has no Triton form")


def _registered(statement: Compute, custom: CustomOp) -> Line:
    """The expression that the author of an op gave for an element of it."""
    operands = zip(custom.spec.operands, map(operand_text, statement.operands), strict=False)
    attrs = (
        (name, repr(value) if isinstance(value, str) else literal(value))
        for name, value in statement.attrs
    )
    return Line(f"({custom.expression.format(**dict(operands), **dict(attrs))})")


def literal(value: bool | int | float) -> str:
    """A Python literal that Triton reads back exactly."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)


def operand_text(operand: Operand) -> str:
    """An operand as a tensor: an immediate keeps its dtype at full precision."""
    if isinstance(operand, Constant):
        return f"tl.full([], {literal(operand.value)}, {DTYPES[operand.dtype]})"
    return operand.name


def _loose(statement: Compute) -> list[str]:
    """Operands of an infix operator, which takes literals as the other operand's dtype."""
    constants = [isinstance(o, Constant) for o in statement.operands]
    if all(constants) or any(o.dtype == "bool" for o in statement.operands):
        return list(map(operand_text, statement.operands))
    return [literal(o.value) if isinstance(o, Constant) else o.name for o in statement.operands]


def _dtype(statement: Compute) -> str:
    return statement.operands[0].dtype


def _is_float(statement: Compute) -> bool:
    return _dtype(statement) in FLOATS


def _infix(sign: str, logical: str = "") -> Rule:
    """An operator; `logical` is the one that means the same for bool."""

    def rule(s: Compute) -> Line:
        a, b = _loose(s)
        return Line(f"{a} {logical if logical and _dtype(s) == 'bool' else sign} {b}")

    return rule


def _comparison(sign: str) -> Rule:
    def rule(s: Compute) -> Line:
        a, b = _loose(s)
        if _dtype(s) == "bool":
            a, b = f"{a}.to(tl.int8)", f"{b}.to(tl.int8)"
        return Line(f"{a} {sign} {b}")

    return rule


def _call(function: str, prelude: bool = False) -> Rule:
    def rule(s: Compute) -> Line:
        arguments = ", ".join(map(operand_text, s.operands))
        return Line(f"{function}({arguments})", (function,) if prelude else ())

    return rule


def _by_kind(floats: Rule, ints: Rule) -> Rule:
    return lambda s: floats(s) if _is_float(s) else ints(s)


def _same(s: Compute) -> Line:
    return Line(operand_text(s.operands[0]))


def _text(template: str, *calls: str) -> Rule:
    """A fixed expression of the operands `{0}`, `{1}`, ..."""
    return lambda s: Line(template.format(*map(operand_text, s.operands)), calls)


def _cast(s: Compute) -> Line:
    x = operand_text(s.operands[0])
    if s.result.dtype == "bool":
        return Line(f"{x} != 0")
    if _dtype(s) == "bool" and s.result.dtype == "u8":
        return Line(f"{x}.to(tl.int32).to(tl.uint8)")
    return Line(f"{x}.to({DTYPES[s.result.dtype]})")


def _round(s: Compute) -> Line:
    to = DTYPES[str(dict(s.attrs)["to"])]
    return Line(f"{operand_text(s.operands[0])}.to({to}).to(tl.float32)")


def _where(s: Compute) -> Line:
    condition, a, b = s.operands
    constants = isinstance(a, Constant) and isinstance(b, Constant)
    if constants or a.dtype not in ("f32", "f64", "i32", "i64"):
        shown = [operand_text(a), operand_text(b)]
    else:
        shown = [literal(o.value) if isinstance(o, Constant) else o.name for o in (a, b)]
    return Line(f"tl.where({operand_text(condition)}, {', '.join(shown)})")


def _extreme(name: str, logical: str) -> Rule:
    def rule(s: Compute) -> Line:
        a, b = map(operand_text, s.operands)
        match _dtype(s):
            case "bool":
                return Line(f"{a} {logical} {b}")
            case "f32" | "f64":
                return Line(f"nan_{name}({a}, {b})", (f"nan_{name}",))
            case _:
                return Line(f"tl.{name}({a}, {b})")

    return rule


def _divide(s: Compute) -> Line:
    a, b = _loose(s)
    if isinstance(s.operands[0], Constant) or _dtype(s) == "f64":
        a, b = map(operand_text, s.operands)
    return Line(f"divide({a}, {b})", ("divide",))


def _power(s: Compute) -> Line:
    base, exponent = s.operands
    x = operand_text(base)
    if not _is_float(s):
        return _call("int_power", True)(s)
    match exponent.value if isinstance(exponent, Constant) else None:
        case 1:
            return Line(x)
        case 2:
            return Line(f"{x} * {x}")
        case 3:
            return Line(f"{x} * {x} * {x}")
        case 0.5:
            return Line(f"square_root({x})", ("square_root",))
        case -0.5:
            return Line(f"tl.rsqrt({x})")
        case -1:
            return Line(f"1.0 / {x}")
        case -2:
            return Line(f"1.0 / ({x} * {x})")
        case _:
            return _float_power(s)


def _float_power(s: Compute) -> Line:
    base, exponent = s.operands
    x, y = map(operand_text, s.operands)
    if isinstance(exponent, Constant) and not isinstance(base, Constant):
        # A block: the interpreter cannot combine the truth of a scalar with that of a block.
        y = f"tl.full({x}.shape, {literal(exponent.value)}, {DTYPES[exponent.dtype]})"
    return Line(f"float_power({x}, {y})", ("float_power",))


def _invert(s: Compute) -> Line:
    x = operand_text(s.operands[0])
    by_dtype = {"bool": f"{x} == 0", "u8": f"{x} ^ 255"}
    return Line(by_dtype.get(_dtype(s), f"~{x}"))


def _shift(name: str) -> Rule:
    def rule(s: Compute) -> Line:
        a, b = map(operand_text, s.operands)
        bits = 8 * ITEMSIZE[_dtype(s)]
        signed = _dtype(s) != "u8"
        limit = bits if name == "shift_left" else bits - 1
        if not signed:
            a, b = f"{a}.to(tl.int32)", f"{b}.to(tl.int32)"
        call = f"{name}({a}, {b}, {limit})"
        return Line(call if signed else f"{call}.to(tl.uint8)", (name,))

    return rule


def _gelu(s: Compute) -> Line:
    exact = dict(s.attrs)["approximate"] == "none"
    return _call("gelu" if exact else "gelu_tanh", True)(s)


def _softplus(s: Compute) -> Line:
    attrs = dict(s.attrs)
    beta, threshold = float(attrs["beta"]), float(attrs["threshold"])
    x = operand_text(s.operands[0])
    return Line(f"softplus({x}, {literal(beta)}, {literal(threshold)})", ("softplus",))


_FALSE = _text("{0} != {0}")

_RULES: Mapping[str, Rule] = {
    "cast": _cast,
    "round": _round,
    "swap": _call("swap_pairs", prelude=True),
    "tensor.neg": _by_kind(_text("-1.0 * {0}"), _text("-{0}")),  # -x is 0 - x there: no -0.0
    "tensor.abs": lambda s: _same(s) if _dtype(s) in ("bool", "u8") else _call("tl.abs")(s),
    "tensor.sign": lambda s: _same(s) if _dtype(s) == "bool" else _call("sign", True)(s),
    "tensor.exp": _call("exp", True),
    "tensor.exp2": _call("tl.exp2"),
    "tensor.expm1": _call("expm1", True),
    "tensor.log": _call("tl.log"),
    "tensor.log2": _call("tl.log2"),
    "tensor.log1p": _call("log1p", True),
    "tensor.sqrt": _call("square_root", True),
    "tensor.rsqrt": _call("tl.rsqrt"),
    "tensor.reciprocal": _text("1.0 / {0}"),
    "tensor.sin": _call("tl.sin"),
    "tensor.cos": _call("tl.cos"),
    "tensor.tan": _text("tl.sin({0}) / tl.cos({0})"),
    "tensor.tanh": _call("tanh", True),
    "tensor.sigmoid": _text("1.0 / (1.0 + tl.exp(-1.0 * {0}))"),
    "tensor.erf": _call("tl.erf"),
    "tensor.floor": _by_kind(_call("tl.floor"), _same),
    "tensor.ceil": _by_kind(_call("tl.ceil"), _same),
    "tensor.round": _by_kind(_call("round_half_even", True), _same),
    "tensor.trunc": _by_kind(_call("trunc", True), _same),
    "tensor.relu": _by_kind(
        _text("tl.where({0} < 0, 0.0, {0})"), _text("tl.where({0} < 0, 0, {0})")
    ),
    "tensor.bitwise_not": _invert,
    "tensor.logical_not": _text("{0} == 0"),
    "tensor.isnan": _FALSE,
    "tensor.isinf": _by_kind(_text('tl.abs({0}) == float("inf")'), _FALSE),
    "tensor.add": _infix("+", "|"),
    "tensor.sub": _infix("-", "^"),
    "tensor.mul": _infix("*", "&"),
    "tensor.div": _divide,
    "tensor.floor_divide": _by_kind(
        _call("float_floor_divide", True),
        lambda s: _infix("//")(s) if _dtype(s) == "u8" else _call("int_floor_divide", True)(s),
    ),
    "tensor.trunc_divide": _by_kind(
        _text("trunc(divide({0}, {1}))", "trunc", "divide"), _infix("//")
    ),
    "tensor.remainder": _by_kind(
        _call("float_remainder", True),
        lambda s: _infix("%")(s) if _dtype(s) == "u8" else _call("int_remainder", True)(s),
    ),
    "tensor.pow": _power,
    "tensor.maximum": _extreme("maximum", "|"),
    "tensor.minimum": _extreme("minimum", "&"),
    "tensor.atan2": _call("atan2", True),
    "tensor.bitwise_and": _infix("&"),
    "tensor.bitwise_or": _infix("|"),
    "tensor.bitwise_xor": _infix("^"),
    "tensor.shift_left": _shift("shift_left"),
    "tensor.shift_right": _shift("shift_right"),
    "tensor.eq": _comparison("=="),
    "tensor.ne": _comparison("!="),
    "tensor.lt": _comparison("<"),
    "tensor.le": _comparison("<="),
    "tensor.gt": _comparison(">"),
    "tensor.ge": _comparison(">="),
    "tensor.logical_and": _text("({0} != 0) & ({1} != 0)"),
    "tensor.logical_or": _text("({0} != 0) | ({1} != 0)"),
    "tensor.where": _where,
    "nn.gelu": _gelu,
    "nn.silu": _call("silu", True),
    "nn.softplus": _softplus,
}
