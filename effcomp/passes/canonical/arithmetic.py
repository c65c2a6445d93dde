"""Identities of arithmetic that hold for every bit pattern: signed zeros, infinities and NaN."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from effcomp.ir import Dim, Op, OpSpec, Value
from effcomp.ir.dims import same_shape
from effcomp.ir.ops import elementwise as el
from effcomp.ir.ops import view
from effcomp.ir.types import FLOATS, INTEGERS
from effcomp.passes.rounding import conversion_is_exact
from effcomp.rewrite import (
    AnyRule,
    Builder,
    Match,
    Number,
    Pat,
    Refused,
    Rule,
    attr_var,
    const,
    constant_of,
    either,
    pat,
    var,
)


def fit(b: Builder, x: Value, shape: tuple[Dim, ...]) -> Value:
    """x broadcast to `shape`; x itself where it has it already."""
    return x if same_shape(x.shape, shape) else b.add(view.broadcast_to, x, shape=shape)


def _neutral(op: Op, value: Number, dtype: str) -> bool:
    """Whether `x op value` is x, bit for bit."""
    is_float = dtype in FLOATS
    match op.name:
        case "tensor.add":
            # x + 0.0 turns -0.0 into 0.0; x + (-0.0) keeps both.
            return value == 0 and (not is_float or math.copysign(1, value) < 0)
        case "tensor.sub":
            return value == 0 and (not is_float or math.copysign(1, value) > 0)
        case "tensor.mul":
            return value == 1
        case "tensor.div" | "tensor.pow":
            return value == 1 and is_float
        case "tensor.floor_divide" | "tensor.trunc_divide":
            return value == 1 and not is_float
        case "tensor.shift_left" | "tensor.shift_right":
            return value == 0
        case "tensor.bitwise_or" | "tensor.bitwise_xor":
            return value == 0
        case "tensor.bitwise_and":
            return value is True if dtype == "bool" else value == -1
        case "tensor.logical_and":
            return dtype == "bool" and bool(value)
        case "tensor.logical_or":
            return dtype == "bool" and not value
        case "tensor.eq":
            return dtype == "bool" and bool(value)
        case "tensor.ne":
            return dtype == "bool" and not value
        case _:
            return False


_WITH_NEUTRAL = (
    el.add, el.sub, el.mul, el.div, el.power, el.floor_divide, el.trunc_divide, el.shift_left,
    el.shift_right, el.bitwise_or, el.bitwise_xor, el.bitwise_and, el.logical_and, el.logical_or,
    el.eq, el.ne,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DropNeutralOperand(Rule[None]):
    """x * 1, x / 1, x - 0, x + (-0.0), b and true ... => x."""

    def pattern(self) -> Pat:
        return either(*(pat(spec, var("x"), const("c")) for spec in _WITH_NEUTRAL))

    def check(self, m: Match) -> Refused | None:
        if not _neutral(m.root, m.numbers["c"], m["x"].dtype):
            return Refused()
        # Of two constants, one is folded into the other elsewhere.
        return None if m["x"] is not m["c"] else Refused()

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        return fit(b, m["x"], m.root.result.shape)


@dataclass(frozen=True, slots=True)
class DropConvert(Rule[None]):
    """convert(x: d, d) => x; convert(convert(x: d, wider), d) => x."""

    def pattern(self) -> Pat:
        return either(
            pat(el.convert, pat(el.convert, var("x")).with_other_users(), dtype=attr_var("dtype")),
            pat(el.convert, var("x"), dtype=attr_var("dtype")),
        )

    def check(self, m: Match) -> Refused | None:
        middle = m.root.operands[0].dtype
        x, end = m["x"], str(m.attrs["dtype"])
        same = x.dtype == end and conversion_is_exact(x.dtype, middle, end)
        return None if same else Refused()

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        return m["x"]


@dataclass(frozen=True, slots=True)
class FoldConvert(Rule[None]):
    """convert(convert(x, wider), d) => convert(x, d)."""

    def pattern(self) -> Pat:
        inner = pat(el.convert, var("x")).with_other_users()
        return pat(el.convert, inner, dtype=attr_var("dtype"))

    def check(self, m: Match) -> Refused | None:
        middle = m.root.operands[0].dtype
        exact = conversion_is_exact(m["x"].dtype, middle, str(m.attrs["dtype"]))
        return None if exact else Refused()

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        return b.convert(m["x"], str(m.attrs["dtype"]))


_INVOLUTIONS: tuple[OpSpec, ...] = (el.neg, el.bitwise_not)
_IDEMPOTENT: tuple[OpSpec, ...] = (
    el.absolute, el.relu, el.floor, el.ceil, el.rounding, el.trunc, el.sign,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DropInverse(Rule[None]):
    """-(-x) => x, ~(~x) => x, not(not(b)) => b."""

    def pattern(self) -> Pat:
        specs = (*_INVOLUTIONS, el.logical_not)
        return either(*(pat(s, pat(s, var("x")).with_other_users()) for s in specs))

    def check(self, m: Match) -> Refused | None:
        truth = m.root.name == "tensor.logical_not" and m["x"].dtype != "bool"
        return Refused() if truth else None

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        return m["x"]


@dataclass(frozen=True, slots=True)
class DropRepeated(Rule[None]):
    """f(f(x)) => f(x) for abs, relu and rounding; max(x, x), min(x, x), x & x, x | x => x."""

    def pattern(self) -> Pat:
        unary = (pat(s, pat(s, var("y")).with_other_users()) for s in _IDEMPOTENT)
        pairs = (el.maximum, el.minimum, el.bitwise_and, el.bitwise_or)
        return either(*unary, *(pat(s, var("y"), var("y")) for s in pairs))

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        return m.root.operands[0]


@dataclass(frozen=True, slots=True)
class DropSignBeforeEven(Rule[None]):
    """abs(-x) => abs(x), cos(-x) => cos(x)."""

    def pattern(self) -> Pat:
        inner = pat(el.neg, var("x")).with_other_users()
        return either(pat(el.absolute, inner), pat(el.cos, inner))

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        spec = el.absolute if m.root.name == "tensor.abs" else el.cos
        return b.add(spec, m["x"])


@dataclass(frozen=True, slots=True)
class ExpandPower(Rule[Number]):
    """x ** 2 => x * x, x ** 0.5 => sqrt(x), also 3, -0.5 and -1: as ATen does."""

    def pattern(self) -> Pat:
        return pat(el.power, var("x"), pat(el.constant, value=attr_var("n")).with_other_users())

    def check(self, m: Match) -> Number | Refused:
        n, dtype = m.attrs["n"], m["x"].dtype
        assert isinstance(n, (bool, int, float)), f"a constant of {n}"
        exponents = (2, 3, 0.5, -0.5, -1) if dtype in FLOATS else (2, 3)
        return n if n in exponents and dtype in FLOATS | INTEGERS else Refused()

    def rewrite(self, m: Match, b: Builder, facts: Number) -> Value:
        x = m["x"]
        if facts == 2:
            return b.add(el.mul, x, x)
        if facts == 3:
            return b.add(el.mul, b.add(el.mul, x, x), x)
        spec = el.sqrt if facts == 0.5 else el.rsqrt if facts == -0.5 else el.reciprocal
        return b.add(spec, x)


_MIRRORED: Mapping[str, OpSpec] = {
    "tensor.lt": el.gt, "tensor.gt": el.lt, "tensor.le": el.ge, "tensor.ge": el.le,
}  # fmt: skip
_COMMUTATIVE: Mapping[str, OpSpec] = {
    s.name: s
    for s in (
        el.add, el.mul, el.maximum, el.minimum, el.eq, el.ne, el.bitwise_and, el.bitwise_or,
        el.bitwise_xor, el.logical_and, el.logical_or,
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MoveConstantRight(Rule[None]):
    """c * x => x * c, c < x => x > c: one form for the patterns that follow."""

    def pattern(self) -> Pat:
        specs = (*_COMMUTATIVE.values(), el.lt, el.le, el.gt, el.ge)
        return either(*(pat(s, const("c"), var("x")) for s in specs))

    def check(self, m: Match) -> Refused | None:
        # A swapped match has the constant on the right already.
        left, right = m.root.operands
        is_left = left is m["c"] and left is not right
        both = constant_of(right, m.program) is not None
        return None if is_left and not both else Refused()

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        spec = _MIRRORED.get(m.root.name) or _COMMUTATIVE[m.root.name]
        return b.add(spec, m["x"], m["c"])


@dataclass(frozen=True, slots=True)
class DropNegBeforeAdd(Rule[None]):
    """a + (-b) => a - b, a - (-b) => a + b."""

    def pattern(self) -> Pat:
        inner = pat(el.neg, var("b")).with_other_users()
        return either(pat(el.add, var("a"), inner), pat(el.sub, var("a"), inner))

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        spec = el.sub if m.root.name == "tensor.add" else el.add
        return b.add(spec, m["a"], m["b"])


@dataclass(frozen=True, slots=True)
class SelectBranch(Rule[Value]):
    """where(true, a, b) => a, where(c, a, a) => a."""

    def pattern(self) -> Pat:
        return either(
            pat(el.where, var("c"), var("a"), var("a")),
            pat(el.where, const("k"), var("a"), var("b")),
        )

    def check(self, m: Match) -> Value | Refused:
        return m["a"] if "k" not in m.numbers or m.numbers["k"] else m["b"]

    def rewrite(self, m: Match, b: Builder, facts: Value) -> Value:
        return fit(b, facts, m.root.result.shape)


@dataclass(frozen=True, slots=True)
class DropNotInWhere(Rule[None]):
    """where(not c, a, b) => where(c, b, a)."""

    def pattern(self) -> Pat:
        inner = pat((el.logical_not, el.bitwise_not), var("c")).with_other_users()
        return pat(el.where, inner, var("a"), var("b"))

    def check(self, m: Match) -> Refused | None:
        return None if m["c"].dtype == "bool" else Refused()

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        return b.add(el.where, m["c"], m["b"], m["a"])


ARITHMETIC: tuple[AnyRule, ...] = (
    DropNeutralOperand(),
    DropConvert(),
    FoldConvert(),
    DropInverse(),
    DropRepeated(),
    DropSignBeforeEven(),
    DropNegBeforeAdd(),
    ExpandPower(),
    MoveConstantRight(),
    SelectBranch(),
    DropNotInWhere(),
)
