"""Arithmetic on constants, and one form for tensors of one value.

Elementwise ops read a rank-0 `tensor.constant`; whatever else needs the elements reads a
`tensor.full` of its own shape.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sympy

from effcomp.ir import Op, OpSpec, Trait, Value, spec_of
from effcomp.ir.dims import same_shape
from effcomp.ir.ops import elementwise as el
from effcomp.ir.ops import view
from effcomp.ir.ops.infer import broadcast
from effcomp.ir.types import FLOATS
from effcomp.passes.rounding import rounded
from effcomp.rewrite import AnyRule, Builder, Match, Number, Pat, Refused, Rule, either, pat, rest
from effcomp.rewrite.pattern import attr_var, const

_UNARY: Mapping[str, Callable[[Any], Any]] = {
    "tensor.neg": lambda a: -a,
    "tensor.abs": abs,
    "tensor.sqrt": math.sqrt,
    "tensor.rsqrt": lambda a: 1 / math.sqrt(a),
    "tensor.reciprocal": lambda a: 1 / a,
    "tensor.exp": math.exp,
    "tensor.log": math.log,
    "tensor.sin": math.sin,
    "tensor.cos": math.cos,
    "tensor.floor": math.floor,
    "tensor.ceil": math.ceil,
    "tensor.logical_not": lambda a: not a,
    "tensor.convert": lambda a: a,
}
_BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "tensor.add": lambda a, b: a + b,
    "tensor.sub": lambda a, b: a - b,
    "tensor.mul": lambda a, b: a * b,
    "tensor.div": lambda a, b: a / b,
    "tensor.floor_divide": lambda a, b: a // b,
    "tensor.pow": lambda a, b: math.pow(a, b) if isinstance(a, float) else a**b,
    "tensor.maximum": max,
    "tensor.minimum": min,
    "tensor.eq": lambda a, b: a == b,
    "tensor.ne": lambda a, b: a != b,
    "tensor.lt": lambda a, b: a < b,
    "tensor.le": lambda a, b: a <= b,
    "tensor.gt": lambda a, b: a > b,
    "tensor.ge": lambda a, b: a >= b,
    "tensor.logical_and": lambda a, b: bool(a and b),
    "tensor.logical_or": lambda a, b: bool(a or b),
}
_FLOAT_ONLY = frozenset(
    f"tensor.{n}" for n in ("div", "sqrt", "rsqrt", "reciprocal", "exp", "log", "sin", "cos")
)


def _specs(names: Mapping[str, Any]) -> tuple[OpSpec, ...]:
    declared = {s.name: s for s in vars(el).values() if isinstance(s, OpSpec)}
    return tuple(declared[n] for n in names)


def _value_of(op: Op, numbers: tuple[Number, ...], dtypes: tuple[str, ...]) -> Number | None:
    """The op of numbers, rounded to the result's dtype; None where ATen's answer is unsure."""
    operands = [rounded(n, d) for n, d in zip(numbers, dtypes, strict=True)]
    special = any(n is None or (isinstance(n, float) and math.isnan(n)) for n in operands)
    if special or (op.name in _FLOAT_ONLY and dtypes[0] not in FLOATS):
        return None
    if op.name == "tensor.floor_divide" and dtypes[0] in FLOATS:
        return None
    if dtypes[0] == "bool" and op.name in ("tensor.add", "tensor.mul", "tensor.sub", "tensor.neg"):
        return None
    compute = _UNARY[op.name] if len(operands) == 1 else _BINARY[op.name]
    try:
        value = compute(*operands)
    except (ArithmeticError, ValueError):
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    return rounded(value, op.result.dtype)


@dataclass(frozen=True, slots=True)
class FoldConstants(Rule[Number]):
    """op(c) => c', op(c, d) => c', for numbers c and d."""

    def pattern(self) -> Pat:
        return either(
            *(pat(s, const("a")) for s in _specs(_UNARY)),
            *(pat(s, const("a"), const("b")) for s in _specs(_BINARY)),
        )

    def check(self, m: Match) -> Number | Refused:
        numbers = tuple(m.numbers["a" if v is m["a"] else "b"] for v in m.root.operands)
        value = _value_of(m.root, numbers, tuple(v.dtype for v in m.root.operands))
        return Refused() if value is None else value

    def rewrite(self, m: Match, b: Builder, facts: Number) -> Value:
        return _splat(b, facts, m.root.result)


def _splat(b: Builder, value: Number, like: Value) -> Value:
    if not like.shape:
        return b.constant(value, like.dtype)
    return b.add(view.full, shape=like.shape, value=value, dtype=like.dtype)


@dataclass(frozen=True, slots=True)
class FoldScalarFull(Rule[Number]):
    """full([], v) => constant(v)."""

    def pattern(self) -> Pat:
        return pat(view.full, value=attr_var("v"), dtype=attr_var("dtype"))

    def check(self, m: Match) -> Number | Refused:
        if m.root.result.shape:
            return Refused()
        v = m.attrs["v"]
        assert isinstance(v, (bool, int, float)), f"tensor.full of {v}"
        value = rounded(v, m.root.result.dtype)
        return Refused() if value is None else value

    def rewrite(self, m: Match, b: Builder, facts: Number) -> Value:
        return b.constant(facts, m.root.result.dtype)


@dataclass(frozen=True, slots=True)
class FoldViewOfConstant(Rule[Number]):
    """view(full(v)) => full(v) of the view's shape, broadcast(constant) too; flips as well."""

    def pattern(self) -> Pat:
        views = (view.reshape, view.permute, view.broadcast_to, view.slice_)
        return pat((*views, view.flip), const("c"))

    def check(self, m: Match) -> Number | Refused:
        value = rounded(m.numbers["c"], m["c"].dtype)
        return Refused() if value is None else value

    def rewrite(self, m: Match, b: Builder, facts: Number) -> Value:
        return _splat(b, facts, m.root.result)


@dataclass(frozen=True, slots=True)
class FoldSize(Rule[int]):
    """dim(8) => constant(8)."""

    def pattern(self) -> Pat:
        return pat(el.size_as_tensor, value=attr_var("n"))

    def check(self, m: Match) -> int | Refused:
        n = m.attrs["n"]
        if isinstance(n, sympy.Expr) or not isinstance(n, int):
            return Refused()
        value = rounded(n, m.root.result.dtype)
        return Refused() if value is None else int(value)

    def rewrite(self, m: Match, b: Builder, facts: int) -> Value:
        return b.constant(facts, m.root.result.dtype)


@dataclass(frozen=True, slots=True)
class UseConstant(Rule[tuple[int, Number]]):
    """op(x, full(v)) => op(x, constant(v)), where x alone gives the shape."""

    def pattern(self) -> Pat:
        specs = [s for s in vars(el).values() if isinstance(s, OpSpec) and len(s.operands) > 1]
        return either(*(pat(s, rest("xs")) for s in specs))

    def check(self, m: Match) -> tuple[int, Number] | Refused:
        for i, v in enumerate(m.root.operands):
            maker = m.program.producer(v)
            if maker is None or maker.name != "tensor.full" or not v.shape:
                continue
            number = maker.attrs["value"]
            assert isinstance(number, (bool, int, float)), f"tensor.full of {number}"
            value = rounded(number, v.dtype)
            if value is not None and keeps_shape(m.root, i, ()):
                return i, value
        return Refused()

    def rewrite(self, m: Match, b: Builder, facts: tuple[int, Number]) -> Value:
        index, value = facts
        operands = list(m.root.operands)
        operands[index] = b.constant(value, operands[index].dtype)
        return rebuild(m.root, b, operands)


def keeps_shape(op: Op, index: int, shape: tuple[Any, ...]) -> bool:
    """Whether the elementwise op's result keeps its shape if operand `index` has `shape`."""
    shapes = [v.shape for v in op.operands]
    shapes[index] = shape
    return same_shape(broadcast(*shapes), op.result.shape)


def rebuild(op: Op, b: Builder, operands: list[Value]) -> Value:
    """The same op on other operands."""
    assert Trait.BODY not in spec_of(op).traits, f"{op.name} carries a body"
    attrs: Mapping[str, Any] = op.attrs
    return b.add(spec_of(op), *operands, **attrs)


CONSTANTS: tuple[AnyRule, ...] = (
    FoldConstants(),
    FoldScalarFull(),
    FoldViewOfConstant(),
    FoldSize(),
    UseConstant(),
)
