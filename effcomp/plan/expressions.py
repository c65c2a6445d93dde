"""Size expressions: Python syntax over size names, checked once, compiled once."""

import ast
import functools
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from effcomp.errors import PlanError
from effcomp.plan.schema import Expr

Sizes = Mapping[str, int]

_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod)
_MAX_POWER = 64


def evaluate(expr: Expr, sizes: Sizes) -> int:
    """The value of a size expression. Raises PlanError."""
    return expr if type(expr) is int else compile_expr(expr)(sizes)


@functools.lru_cache(maxsize=65536)
def compile_expr(expr: Expr) -> Callable[[Sizes], int]:
    """A function from sizes to the expression's value; both raise PlanError.

    Allowed are integers, names, `+ - * / // % **`, `max`, `min` and parentheses. `/` is exact, and
    the whole expression has to come out as an integer.
    """
    if isinstance(expr, int):
        return lambda sizes: expr
    compute = _compile(expr)

    def value(sizes: Sizes) -> int:
        try:
            found = compute(sizes)
        except KeyError as error:
            raise PlanError(f"size {error} of {expr!r} is not bound") from None
        except ZeroDivisionError:
            raise PlanError(f"{expr!r} divides by zero for {dict(sizes)}") from None
        if type(found) is not int:
            found = _whole(found, expr, sizes)
        return found

    return value


def names_in(expr: Expr) -> frozenset[str]:
    """The sizes an expression reads. Raises PlanError."""
    if isinstance(expr, int):
        return frozenset()
    found = (n for n in ast.walk(_parse(expr)) if isinstance(n, ast.Name))
    return frozenset(n.id for n in found) - {"max", "min"}


def _parse(text: str) -> ast.Expression:
    try:
        return ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError) as error:
        raise PlanError(f"not a size expression: {text!r} ({error})") from None


def _compile(text: str) -> Callable[[Sizes], int | Fraction]:
    """Python code of a tree that `_checked` has rebuilt: nothing but arithmetic can run."""
    body = _checked(_parse(text).body, text)
    sizes = ast.arguments([], [ast.arg("sizes")], kwonlyargs=[], kw_defaults=[], defaults=[])
    tree = ast.fix_missing_locations(ast.Expression(ast.Lambda(sizes, body)))
    names: dict[str, Any] = {"max": max, "min": min, "Fraction": Fraction, "__builtins__": {}}
    return eval(compile(tree, f"<size {text}>", "eval"), names)


def _checked(node: ast.expr, text: str) -> ast.expr:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return ast.Constant(value)
        case ast.Name(id=name):
            sizes = ast.Name("sizes", ast.Load())
            return ast.Subscript(sizes, ast.Constant(name), ast.Load())
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(power))):
            if 0 <= power <= _MAX_POWER:
                return ast.BinOp(_checked(left, text), ast.Pow(), ast.Constant(int(power)))
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            one = ast.Call(ast.Name("Fraction", ast.Load()), [ast.Constant(1)], [])
            exact = ast.BinOp(one, ast.Mult(), _checked(left, text))
            return ast.BinOp(exact, ast.Div(), _checked(right, text))
        case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _OPERATORS):
            return ast.BinOp(_checked(left, text), op, _checked(right, text))
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=operand):
            return ast.UnaryOp(op, _checked(operand, text))
        case ast.Call(func=ast.Name(id="max" | "min" as name), args=args, keywords=[]) if args:
            values = [_checked(a, text) for a in args]
            if len(values) == 1:
                return values[0]
            return ast.Call(ast.Name(name, ast.Load()), values, [])
        case _:
            pass
    raise PlanError(f"not a size expression: {text!r} ({ast.unparse(node)} is not allowed)")


def _whole(value: int | Fraction, expr: Expr, sizes: Sizes) -> int:
    if value.denominator != 1:
        raise PlanError(f"{expr!r} is {value} for {dict(sizes)}, not an integer")
    return int(value)
