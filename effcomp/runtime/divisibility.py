"""What a size expression is certainly a multiple of, whatever the sizes are."""

import ast
import math

from effcomp.errors import PlanError
from effcomp.plan.schema import Expr

__all__ = ["divisor"]

_ANY = 1 << 62  # zero is a multiple of everything


def divisor(expr: Expr) -> int:
    """The largest number found that divides `expr`; `_ANY` for zero. Raises PlanError."""
    if isinstance(expr, int):
        return abs(expr) or _ANY
    try:
        return _divisor(ast.parse(expr.strip(), mode="eval").body)
    except SyntaxError as error:
        raise PlanError(f"not a size expression: {expr!r} ({error})") from None


def _divisor(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int(value)):
            return abs(value) or _ANY
        case ast.UnaryOp(operand=operand):
            return _divisor(operand)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return min(_divisor(left) * _divisor(right), _ANY)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mod(), right=right):
            return _common(_divisor(left), _divisor(right))
        case ast.BinOp(left=left, op=ast.FloorDiv() | ast.Div(), right=ast.Constant(value=int(by))):
            found = _divisor(left)
            return found // by if by > 0 and found < _ANY and found % by == 0 else 1
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(power))) if power > 0:
            return min(_divisor(left) ** power, _ANY)
        case ast.Call(args=[first, *rest]):
            found = _divisor(first)
            for arg in rest:
                found = _common(found, _divisor(arg))
            return found
        case _:
            return 1


def _common(a: int, b: int) -> int:
    if a == _ANY or b == _ANY:
        return min(a, b)
    return math.gcd(a, b)
