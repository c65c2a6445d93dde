"""Sizes: from torch's symbolic integers to the IR's dims."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import sympy
import torch

from effcomp.errors import CaptureError
from effcomp.ir.dims import Dim, FloorDiv, Mod, dim, symbol

LARGEST_DENOMINATOR = 2**20


@dataclass(frozen=True, slots=True)
class Ratio:
    """A symbolic float, by torch's own expression: only arithmetic on rank-0 tensors knows it."""

    expr: sympy.Expr
    shape_env: Any


@dataclass(slots=True)
class Sizes:
    """Names torch's symbols s0, s1, ... in the order in which one graph meets them.

    The letter tells the range: `s` at least 1, `u` at least 0, `n` any integer. torch's own names
    depend on where a size came from; these make equal graphs read the same.
    """

    names: dict[sympy.Symbol, sympy.Symbol] = field(default_factory=dict)
    hints: dict[sympy.Symbol, int] = field(default_factory=dict)
    known: dict[sympy.Symbol, sympy.Expr] = field(default_factory=dict)  # by other sizes

    def learn(self, shape_env: Any) -> None:
        """Express symbols by others where torch guards on an equality of sums.

        Two sequences joined from two parts each, say, have s0 + s1 == s2 + s3. Without this nothing
        in the IR would show that they are equally long.
        """
        for guard in shape_env.guards:
            equal = guard.expr
            if isinstance(equal, sympy.Eq) and equal.free_symbols <= self.names.keys():
                with contextlib.suppress(CaptureError):
                    left, right = (self._translate(side, shape_env) for side in equal.args)
                    self._learn_zero(sympy.expand((left - right).subs(self.known)))

    def _learn_zero(self, expr: sympy.Expr) -> None:
        for found in sorted(expr.free_symbols, key=lambda s: int(s.name[1:]), reverse=True):
            rest = sympy.expand(expr - expr.coeff(found) * found)
            if expr.coeff(found) in (1, -1) and found not in rest.free_symbols:
                value = sympy.expand(-rest * expr.coeff(found))
                self.known = {s: e.subs(found, value) for s, e in self.known.items()}
                self.known[found] = value
                return

    def dim(self, size: int | torch.SymInt) -> Dim:
        """A size as the IR writes it. Raises CaptureError for a function the IR has no word for."""
        if isinstance(size, torch.SymInt):
            return self.translate(size.node.expr, size.node.shape_env)
        return int(size)

    def shape(self, shape: Any) -> tuple[Dim, ...]:
        return tuple(self.dim(s) for s in shape)

    def translate(self, expr: sympy.Expr, shape_env: Any) -> Dim:
        found = self._translate(expr, shape_env)
        return dim(found.subs(self.known) if self.known else found)

    def is_negative(self, size: Dim) -> bool:
        """Whether a size is below zero; where symbols leave it open, as it was when traced.

        torch has asked the same question while tracing, and guards on the answer.
        """
        if isinstance(size, int):
            return size < 0
        known = size.is_negative
        if known is None:
            known = size.subs(self.hints).is_negative
        return bool(known)

    def _translate(self, expr: Any, shape_env: Any) -> Any:
        if expr.is_Symbol:
            return self._symbol(expr, shape_env)
        if expr.is_Integer:
            return sympy.Integer(int(expr))
        if expr.func in (sympy.Add, sympy.Mul) or _is_natural_power(expr):
            return expr.func(*(self._translate(a, shape_env) for a in expr.args))
        name = expr.func.__name__
        if name in _ROUNDINGS:
            top, bottom = self._fraction(expr.args[0], shape_env)
            return _ROUNDINGS[name](top, bottom)
        if name not in _FUNCTIONS:
            raise CaptureError(
                f"a size is computed by {name}, which effcomp cannot express: {expr}"
            )
        return _FUNCTIONS[name](*(self._translate(a, shape_env) for a in expr.args))

    def _fraction(self, expr: Any, shape_env: Any) -> tuple[Any, Any]:
        """A symbolic float as numerator and denominator, for rounding it."""
        if expr.is_Float or expr.is_Rational:
            ratio = Fraction(float(expr))
            if ratio.denominator > LARGEST_DENOMINATOR:
                raise CaptureError(
                    f"a size is scaled by {float(expr)}, which is no simple fraction"
                )
            return sympy.Integer(ratio.numerator), sympy.Integer(ratio.denominator)
        parts = [self._fraction(a, shape_env) for a in expr.args] if expr.is_Mul else []
        if parts:
            return sympy.Mul(*(p[0] for p in parts)), sympy.Mul(*(p[1] for p in parts))
        match expr.func.__name__:
            case "ToFloat":
                return self._translate(expr.args[0], shape_env), sympy.Integer(1)
            case "IntTrueDiv":
                top, bottom = (self._translate(a, shape_env) for a in expr.args)
                return top, bottom
            case "FloatTrueDiv":
                (a, b), (c, d) = (self._fraction(x, shape_env) for x in expr.args)
                return a * d, b * c
        return self._translate(expr, shape_env), sympy.Integer(1)

    def _symbol(self, expr: sympy.Symbol, shape_env: Any) -> sympy.Symbol:
        if expr not in self.names:
            low = shape_env.bound_sympy(expr).lower
            letter = "s" if low >= 1 else "u" if low >= 0 else "n"
            self.names[expr] = found = symbol(f"{letter}{len(self.names)}")
            if (hint := _hint(expr, shape_env)) is not None:
                self.hints[found] = hint
        return self.names[expr]


def _hint(expr: sympy.Symbol, shape_env: Any) -> int | None:
    known = getattr(shape_env, "backed_var_to_val", None)  # torch 2.13
    if known is None:
        known = shape_env.var_to_val
    return int(known[expr]) if expr in known else None


def _is_natural_power(expr: Any) -> bool:
    return expr.is_Pow and expr.exp.is_Integer and expr.exp >= 0


def _ceil_div(a: Any, b: Any) -> Any:
    return FloorDiv(a + b - 1, b)


def _trunc_div(a: Any, b: Any) -> Any:
    if not (a.is_nonnegative and b.is_positive):
        raise CaptureError(f"a size is truncated towards zero, and may be negative: {a} / {b}")
    return FloorDiv(a, b)


_ROUNDINGS: Mapping[str, Callable[[Any, Any], Any]] = {
    "FloorToInt": FloorDiv,
    "CeilToInt": _ceil_div,
    "TruncToInt": _trunc_div,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "FloorDiv": FloorDiv,
    "CleanDiv": FloorDiv,
    "CeilDiv": _ceil_div,
    "Mod": Mod,
    "PythonMod": Mod,
    "ModularIndexing": lambda a, divisor, modulus: Mod(FloorDiv(a, divisor), modulus),
    "Max": sympy.Max,
    "Min": sympy.Min,
    "PowByNatural": lambda a, n: a**n,
    "LShift": lambda a, n: a * 2**n,
    "RShift": lambda a, n: FloorDiv(a, 2**n),
    "Identity": lambda a: a,
}
