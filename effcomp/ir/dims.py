"""Sizes: an int, or a sympy expression over named sizes such as `s0`."""

import ast
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sympy
from sympy.printing.str import StrPrinter

from effcomp.errors import ParseError
from effcomp.ir.bounds import bounded, interval, within
from effcomp.ir.division import FloorDiv, Mod

__all__ = [
    "Dim", "FloorDiv", "Mod", "bounded", "ceil_div", "contiguous_strides", "dim", "floor_div",
    "free_sizes", "interval", "parse_dim", "print_dim", "product", "same", "same_shape", "symbol",
    "within",
]  # fmt: skip

Dim = int | sympy.Expr


def symbol(name: str) -> sympy.Symbol:
    """The size called `name`. Sizes are positive; `u...` (data-dependent) may be zero."""
    if name.startswith("u"):
        return sympy.Symbol(name, integer=True, nonnegative=True)
    return sympy.Symbol(name, integer=True, positive=True)


def dim(value: Any) -> Dim:
    """Normalise a size: an int where it is constant, else an expanded expression."""
    if isinstance(value, int):
        return int(value)
    expr = sympy.expand(value)
    return int(expr) if expr.is_Integer else expr


def ceil_div(a: Dim, b: Dim) -> Dim:
    """How many pieces of size b hold a."""
    return floor_div(dim(a + b - 1), b)


def product(dims: Iterable[Dim]) -> Dim:
    out: Any = 1
    for d in dims:
        out = out * d
    return dim(out)


def floor_div(a: Dim, b: Dim) -> Dim:
    return dim(FloorDiv(sympy.sympify(a), sympy.sympify(b)))


def same(a: Dim, b: Dim) -> bool:
    """Whether two sizes are provably equal."""
    return a == b or dim(sympy.sympify(a) - sympy.sympify(b)) == 0


def same_shape(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def free_sizes(dims: Iterable[Dim]) -> frozenset[str]:
    return frozenset(s.name for d in dims if isinstance(d, sympy.Expr) for s in d.free_symbols)


def contiguous_strides(shape: Sequence[Dim]) -> tuple[Dim, ...]:
    """Row-major strides, in elements."""
    strides: list[Dim] = []
    step: Dim = 1
    for size in reversed(shape):
        strides.append(step)
        step = dim(step * size)
    return tuple(reversed(strides))


class _DimPrinter(StrPrinter):
    """Prints sizes in Python syntax, so that any Python reader can evaluate them."""

    def _term(self, expr: Any) -> str:
        text = self._print(expr)
        return text if expr.is_Atom and not text.startswith("-") else f"({text})"

    def _print_FloorDiv(self, expr: Any) -> str:
        return f"({self._term(expr.args[0])} // {self._term(expr.args[1])})"

    def _print_Mod(self, expr: Any) -> str:
        return f"({self._term(expr.args[0])} % {self._term(expr.args[1])})"

    def _print_Max(self, expr: Any) -> str:
        return f"max({', '.join(self._print(a) for a in expr.args)})"

    def _print_Min(self, expr: Any) -> str:
        return f"min({', '.join(self._print(a) for a in expr.args)})"


def print_dim(value: Dim) -> str:
    """A size in Python syntax: `//` and `%` are floor division and remainder."""
    return str(value) if isinstance(value, int) else _print_expr(value)


@functools.lru_cache(maxsize=1 << 16)
def _print_expr(expr: sympy.Expr) -> str:
    return _DimPrinter().doprint(expr)


_BINARY: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
    ast.FloorDiv: FloorDiv,
    ast.Mod: Mod,
}


def parse_dim(text: str) -> Dim:
    """Read what `print_dim` writes; names become sizes. Raises ParseError."""
    try:
        return dim(_read(ast.parse(text.strip(), mode="eval").body))
    except (SyntaxError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ParseError(f"not a size: {text!r} ({error})") from None


def _read(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return sympy.Integer(value)
        case ast.Name(id=name):
            return symbol(name)
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_read(left), _read(right))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_read(operand)
        case ast.Call(func=ast.Name(id="max" | "min" as name), args=args):
            return (sympy.Max if name == "max" else sympy.Min)(*map(_read, args))
        case _:
            raise ValueError(f"{ast.unparse(node)} is not allowed in a size")
