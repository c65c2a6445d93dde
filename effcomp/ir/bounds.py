"""What the ranges of its symbols say about an index expression."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import sympy

from effcomp.ir.division import ONE, ZERO, FloorDiv, Mod, divide_term, terms_of

Number = int | float  # float only for plus and minus infinity
Interval = tuple[Number, Number]
Ranges = Mapping[sympy.Symbol, int | sympy.Expr]
ANYTHING: Interval = (-math.inf, math.inf)


def interval(expr: int | sympy.Expr, ranges: Ranges) -> Interval:
    """Smallest and largest value (infinite where unknown) of an integer expression.

    `ranges` maps a symbol to its extent r: 0 <= symbol < r. Other symbols are bounded by their
    assumptions only: at least 1 where positive, at least 0 where nonnegative.
    """
    return _interval(sympy.sympify(expr), ranges)


def within(a: int | sympy.Expr, b: int | sympy.Expr, ranges: Ranges) -> bool:
    """Whether 0 <= a < b is provable."""
    return _within(sympy.sympify(a), sympy.sympify(b), ranges)


def bounded(expr: int | sympy.Expr, ranges: Ranges) -> int | sympy.Expr:
    """`expr` without the divisions and remainders that do nothing for 0 <= symbol < ranges[symbol].

    An extent is an int or a size expression. Also puts back together what reshapes take apart:
    (x // n) * n + x % n becomes x.
    """
    if isinstance(expr, int):
        return expr
    found = _Simplifier(ranges).simplify(expr)
    return int(found) if found.is_Integer else found


def _interval(expr: Any, ranges: Ranges) -> Interval:
    if expr.is_Integer:
        return int(expr), int(expr)
    if expr.is_Symbol:
        return _symbol_interval(expr, ranges)
    if expr.is_Add:
        parts = [_interval(t, ranges) for t in expr.args]
        return sum(lo for lo, _ in parts), sum(hi for _, hi in parts)
    if expr.is_Mul:
        found: Interval = (1, 1)
        for factor in expr.args:
            found = _times(found, _interval(factor, ranges))
        return found
    if isinstance(expr, FloorDiv):
        return _quotient(_interval(expr.args[0], ranges), _interval(expr.args[1], ranges))
    if isinstance(expr, Mod):
        return _remainder(_interval(expr.args[0], ranges), _interval(expr.args[1], ranges))
    if expr.is_Pow and expr.exp.is_Integer and expr.exp > 0:
        low, high = _interval(expr.base, ranges)
        return (low ** int(expr.exp), high ** int(expr.exp)) if low >= 0 else ANYTHING
    if isinstance(expr, (sympy.Max, sympy.Min)):
        choose = max if isinstance(expr, sympy.Max) else min
        parts = [_interval(a, ranges) for a in expr.args]
        return choose(lo for lo, _ in parts), choose(hi for _, hi in parts)
    return ANYTHING


def _symbol_interval(symbol: Any, ranges: Ranges) -> Interval:
    extent = ranges.get(symbol)
    if extent is None:
        low = 1 if symbol.is_positive else 0 if symbol.is_nonnegative else -math.inf
        return low, math.inf
    if isinstance(extent, int):
        return 0, extent - 1
    return 0, _interval(extent, ranges)[1] - 1


def _times(a: Interval, b: Interval) -> Interval:
    corners = [0 if x == 0 or y == 0 else x * y for x in a for y in b]
    return min(corners), max(corners)


def _quotient(a: Interval, b: Interval) -> Interval:
    if b[0] <= 0:
        return ANYTHING
    low = _floor_div(a[0], b[1] if a[0] >= 0 else b[0])
    return low, _floor_div(a[1], b[0] if a[1] >= 0 else b[1])


def _floor_div(a: Number, b: Number) -> Number:
    if math.isinf(a):
        return a
    if math.isinf(b):
        return 0 if a >= 0 else -1
    return a // b


def _remainder(a: Interval, b: Interval) -> Interval:
    if b[0] <= 0:
        return ANYTHING
    if a[0] >= 0:
        return a if a[1] < b[0] else (0, min(a[1], b[1] - 1))
    return 0, b[1] - 1


def _within(a: Any, b: Any, ranges: Ranges) -> bool:
    low, high = _interval(a, ranges)
    if low < 0 and not (b.free_symbols and _is_positive(a + 1, ranges)):
        return False
    if high < _interval(b, ranges)[0]:
        return True
    return bool(b.free_symbols) and _is_positive(b - a, ranges)


def _is_positive(expr: Any, ranges: Ranges) -> bool:
    """Whether `expr` > 0, each symbol in which it is linear at the worse end of its range."""
    for _ in range(2):  # an extent may itself hold ranged symbols
        for symbol in sorted(expr.free_symbols & ranges.keys(), key=lambda s: s.name):
            expr = _at_worst(expr, symbol, ranges)
    return _interval(expr, ranges)[0] > 0


def _at_worst(expr: Any, symbol: Any, ranges: Ranges) -> Any:
    rest: list[Any] = []
    factors: list[Any] = []
    for term in terms_of(expr):
        if symbol not in term.free_symbols:
            rest.append(term)
        elif (
            factor := divide_term(term, symbol)
        ) is not None and symbol not in factor.free_symbols:
            factors.append(factor)
        else:
            return expr
    factor = sympy.Add(*factors)
    low, high = _interval(factor, ranges)
    if low >= 0:
        return sympy.Add(*rest)
    if high <= 0:
        return sympy.Add(*terms_of(sympy.Add(*rest) + factor * (ranges[symbol] - 1)))
    return expr


class _Simplifier:
    """One `bounded` call: ranges, and what has been simplified so far."""

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges
        self.seen: dict[Any, Any] = {}

    def simplify(self, expr: Any) -> Any:
        if expr.is_Integer:
            return expr
        if expr.is_Symbol:
            return ZERO if self.ranges.get(expr) == 1 else expr
        if (found := self.seen.get(expr)) is not None:
            return found
        args = [self.simplify(a) for a in expr.args]
        if isinstance(expr, (FloorDiv, Mod)):
            found = self._division(type(expr), args[0], args[1])
        else:
            same = all(a is b for a, b in zip(args, expr.args, strict=True))
            found = expr if same else expr.func(*args)
            found = self._sum(found) if found.is_Add or found.is_Mul else found
        self.seen[expr] = found
        return found

    def _division(self, kind: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
        node = kind(a, b)
        if not isinstance(node, (FloorDiv, Mod)) or node.args != (a, b) or node.func is not kind:
            return self.simplify(node)
        divides = kind is FloorDiv
        if _within(a, b, self.ranges):
            return ZERO if divides else a
        if (whole := self._only_quotient(a, b)) is not None:
            return whole if divides else self._sum(a - whole * b)
        for factor in self._factors(a, b):
            big, small = _partition(a, factor)
            if big and _within(small, factor, self.ranges):
                inner = kind(sympy.Add(*big), divide_term(b, factor))
                return self.simplify(inner if divides else factor * inner + small)
        return node

    def _only_quotient(self, a: Any, b: Any) -> Any | None:
        low, high = _interval(a, self.ranges)
        if low < 0 and b.free_symbols and _within(a + b, b, self.ranges):
            return sympy.Integer(-1)
        if not b.is_Integer or b <= 0:
            return None
        if math.isinf(low) or math.isinf(high) or low // int(b) != high // int(b):
            return None
        return sympy.Integer(int(low // int(b)))

    def _factors(self, a: Any, b: Any) -> list[Any]:
        """Divisors of b to try: what its terms have in common with it, the largest first."""
        if not a.is_Add or b.is_Add:
            return []
        found = {_common(t, b) for t in a.args} - {ONE, b}
        return sorted(found, key=lambda f: (-len(f.free_symbols), -abs(int(f.as_coeff_Mul()[0]))))

    def _sum(self, expr: Any) -> Any:
        """Put c * (e % n) and c * n * (e // n), or the remainders of one split, back together."""
        terms = dict[Any, Any]()
        for term in terms_of(expr):
            factors = sympy.Mul.make_args(term)
            core = next((f for f in factors if isinstance(f, (FloorDiv, Mod))), None)
            terms[term] = (core, None if core is None else divide_term(term, core))
        for term, (core, scale) in terms.items():
            if (
                isinstance(core, Mod)
                and scale is not None
                and (merged := _merge(terms, core, scale))
            ):
                whole, other = merged
                rest = [t for t in terms if t not in (term, other)]
                return self.simplify(sympy.Add(*rest, *terms_of(scale * whole)))
        return sympy.Add(*terms)


def _merge(terms: Mapping[Any, Any], remainder: Any, scale: Any) -> tuple[Any, Any] | None:
    """What scale * remainder makes with another term, and that term."""
    e, n = remainder.args
    quotient = FloorDiv(e, n)
    for other, (core, factor) in terms.items():
        if core is None or factor is None or core == remainder:
            continue
        if core == quotient and factor == scale * n:
            return e, other
        if isinstance(core, Mod) and core.args[0] == quotient and factor == scale * n:
            return Mod(e, n * core.args[1]), other
    return None


def _common(term: Any, b: Any) -> Any:
    """The greatest monomial that visibly divides both."""
    coefficient, rest = term.as_coeff_Mul()
    by, by_rest = b.as_coeff_Mul()
    if not (coefficient.is_Integer and by.is_Integer):
        return ONE
    powers = dict(f.as_base_exp() for f in sympy.Mul.make_args(rest))
    found = sympy.Integer(math.gcd(int(coefficient), int(by)))
    for factor in sympy.Mul.make_args(by_rest):
        base, exponent = factor.as_base_exp()
        shared = powers.get(base, ZERO)
        if (
            base is not ONE
            and shared.is_Integer
            and exponent.is_Integer
            and min(shared, exponent) > 0
        ):
            found *= base ** min(shared, exponent)
    return found


def _partition(a: Any, factor: Any) -> tuple[list[Any], Any]:
    """a as factor * sum(big) + small."""
    big: list[Any] = []
    small: list[Any] = []
    for term in sympy.Add.make_args(a):
        ratio = divide_term(term, factor)
        (small if ratio is None else big).append(term if ratio is None else ratio)
    return big, sympy.Add(*small)
