"""Integer division and remainder as sympy functions that simplify themselves, cheaply.

Simplification looks at the terms of a sum only (no factoring, no polynomial algebra), because index
maps build thousands of these. Nested divisions count as opaque integers.
"""

import math
from collections.abc import Iterable
from typing import Any

import sympy

ZERO, ONE = sympy.Integer(0), sympy.Integer(1)


class FloorDiv(sympy.Function):
    """Integer division rounding down, as `//` in Python. The divisor is not zero."""

    nargs = (2,)
    is_integer = True

    @classmethod
    def eval(cls, a: Any, b: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        if b is ONE or a is ZERO:
            return a
        if a.is_Integer and b.is_Integer:
            return sympy.Integer(int(a) // int(b))
        quotient, rest = split_multiple(a, b)
        if quotient is not ZERO:
            return quotient if rest is ZERO else quotient + cls(rest, b)
        a, b, factor, _ = _without_common_factor(rest, b)
        if factor > 1:
            return cls(a, b)
        if isinstance(a, FloorDiv) and b.is_positive:
            return cls(a.args[0], a.args[1] * b)
        if isinstance(a, Mod) and b.is_positive:
            length, rest = split_multiple(a.args[1], b)
            if rest is ZERO and length.is_positive:
                return Mod(cls(a.args[0], b), length)
        return None

    def _eval_is_nonnegative(self) -> bool | None:
        return True if self.args[0].is_nonnegative and self.args[1].is_positive else None


class Mod(sympy.Function):
    """Remainder with the sign of the divisor, as `%` in Python. The divisor is not zero."""

    nargs = (2,)
    is_integer = True

    @classmethod
    def eval(cls, a: Any, b: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        if b is ONE or a is ZERO:
            return ZERO
        if a.is_Integer and b.is_Integer:
            return sympy.Integer(int(a) % int(b))
        quotient, rest = split_multiple(a, b)
        plain = _without_inner_remainders(rest, b)
        if quotient is not ZERO or plain is not rest:
            return cls(plain, b)
        a, b, factor, left = _without_common_factor(rest, b)
        if factor > 1:
            return factor * cls(a, b) + left
        return None

    def _eval_is_nonnegative(self) -> bool | None:
        return True if self.args[1].is_positive else None


def terms_of(expr: Any) -> tuple[Any, ...]:
    """The terms of a sum, products of sums multiplied out (not inside divisions)."""
    terms = sympy.Add.make_args(expr)
    if any(_holds_sum(t) for t in terms):
        return sympy.Add.make_args(sympy.Add(*(t.expand(deep=False) for t in terms)))
    return terms


def _holds_sum(term: Any) -> bool:
    factors = term.args if term.is_Mul else (term,)
    return any(f.is_Add or (f.is_Pow and f.base.is_Add) for f in factors)


def _monomial(term: Any) -> tuple[Any, dict[Any, Any]]:
    """A term as its numeric coefficient and the powers of its other factors."""
    coefficient, rest = term.as_coeff_Mul()
    if rest is ONE:
        return coefficient, {}
    return coefficient, dict(f.as_base_exp() for f in sympy.Mul.make_args(rest))


def divide_term(term: Any, divisor: Any) -> Any | None:
    """term / divisor where that is visibly an integer for any sizes, else None."""
    coefficient, powers = _monomial(term)
    by, by_powers = _monomial(divisor)
    if not coefficient.is_Integer or not by.is_Integer or int(coefficient) % int(by):
        return None
    for base, exponent in by_powers.items():
        powers[base] = powers.get(base, ZERO) - exponent
    for base, exponent in powers.items():
        if not (exponent.is_Integer and exponent >= 0 and base.is_integer):
            return None
    whole = sympy.Integer(int(coefficient) // int(by))
    return sympy.Mul(whole, *(base**exponent for base, exponent in powers.items()))


def split_multiple(a: Any, b: Any) -> tuple[Any, Any]:
    """Write a as quotient * b + rest, moving each term that b visibly divides into the quotient.

    A constant is reduced to its remainder. A divisor that is a sum comes out only where it divides
    all of `a`. Where nothing moves, rest is `a` (multiplied out).
    """
    terms = terms_of(a)
    if b.is_Add:
        return _divide_by_sum(terms, b)
    quotients: list[Any] = []
    rest: list[Any] = []
    for term in terms:
        if term.is_Integer and b.is_Integer:
            whole, left = divmod(int(term), int(b))
            if whole:
                quotients.append(sympy.Integer(whole))
            rest.append(sympy.Integer(left))
        elif (ratio := divide_term(term, b)) is not None:
            quotients.append(ratio)
        else:
            rest.append(term)
    if not quotients:
        return ZERO, (a if terms == sympy.Add.make_args(a) else sympy.Add(*terms))
    return sympy.Add(*quotients), sympy.Add(*rest)


def _divide_by_sum(terms: tuple[Any, ...], b: Any) -> tuple[Any, Any]:
    """Exact division by a sum, a term at a time; (0, a) where it does not come out even."""
    lead = max(b.args, key=lambda t: (len(t.args) if t.is_Mul else 0, not t.is_number))
    a = rest = sympy.Add(*terms)
    quotient = ZERO
    for _ in terms:
        ratios = (divide_term(t, lead) for t in sympy.Add.make_args(rest))
        if (ratio := next((r for r in ratios if r is not None), None)) is None:
            return ZERO, a
        quotient += ratio
        rest = sympy.Add(*terms_of(rest - ratio * b))
        if rest is ZERO:
            return quotient, ZERO
    return ZERO, a


def _without_common_factor(a: Any, b: Any) -> tuple[Any, Any, int, int]:
    """(a', b', g, k) with a = g a' + k, b = g b', 0 <= k < g: then a // b = a' // b'."""
    terms, divisors = sympy.Add.make_args(a), sympy.Add.make_args(b)
    factor = _coefficient_gcd((*(t for t in terms if not t.is_Integer), *divisors))
    if factor <= 1:
        return a, b, 1, 0
    left = 0
    smaller: list[Any] = []
    for term in terms:
        if term.is_Integer:
            whole, left = divmod(int(term), factor)
            smaller.append(sympy.Integer(whole))
        else:
            smaller.append(_shrink(term, factor))
    return sympy.Add(*smaller), sympy.Add(*(_shrink(t, factor) for t in divisors)), factor, left


def _shrink(term: Any, factor: int) -> Any:
    coefficient, rest = term.as_coeff_Mul()
    return sympy.Integer(int(coefficient) // factor) * rest


def _coefficient_gcd(terms: Iterable[Any]) -> int:
    """The largest integer that visibly divides every term; 1 where a term may be fractional."""
    found = 0
    for term in terms:
        coefficient = term.as_coeff_Mul()[0]
        if not coefficient.is_Integer or divide_term(term, ONE) is None:
            return 1
        found = math.gcd(found, int(coefficient))
        if found == 1:
            return 1
    return found


def _without_inner_remainders(a: Any, b: Any) -> Any:
    """c * (f % m) becomes c * f where b divides c * m: equal modulo b."""
    terms = sympy.Add.make_args(a)
    found = False
    plain: list[Any] = []
    for term in terms:
        inner = next((f for f in sympy.Mul.make_args(term) if isinstance(f, Mod)), None)
        factor = None if inner is None else divide_term(term, inner)
        if (
            inner is None
            or factor is None
            or split_multiple(factor * inner.args[1], b)[1] is not ZERO
        ):
            plain.append(term)
        else:
            found = True
            plain.append(factor * inner.args[0])
    return sympy.Add(*plain) if found else a
