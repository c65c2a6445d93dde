"""Size and index arithmetic: whatever simplifies must keep its value."""

import time
from typing import Any

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from effcomp.errors import ParseError
from effcomp.ir.dims import (
    FloorDiv,
    Mod,
    bounded,
    contiguous_strides,
    dim,
    floor_div,
    interval,
    parse_dim,
    print_dim,
    same,
    symbol,
    within,
)

SIZES = ("s0", "s1", "u0")
INDICES = tuple(sympy.Symbol(n, integer=True, nonnegative=True) for n in "xyz")
X, Y, Z = INDICES
S0, S1 = symbol("s0"), symbol("s1")


@st.composite
def texts(draw: Any, depth: int = 3, names: tuple[str, ...] = SIZES) -> str:
    """An expression in Python syntax whose divisors are positive."""
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        return draw(st.one_of(st.sampled_from(names), st.integers(-9, 130).map(str)))
    inner = texts(depth=depth - 1, names=names)
    match draw(st.sampled_from("+-*/%")):
        case "*":
            return f"({draw(inner)} * {draw(st.sampled_from((2, 3, 4, 64, 'y', 's0')))})".replace(
                "y", names[-1]
            )
        case "/" | "%" as sign:
            divisor = draw(st.sampled_from((2, 3, 4, 8, 64, 128, "s0", "(4 * s0)", "(s0 + 1)")))
            return f"({draw(inner)} {'//' if sign == '/' else '%'} {divisor})"
        case sign:
            return f"({draw(inner)} {sign} {draw(inner)})"


def value_of(expr: Any, env: dict[str, int]) -> int:
    return eval(print_dim(expr), {"max": max, "min": min}, env)


@settings(max_examples=150, deadline=None)
@given(texts(), st.lists(st.integers(1, 200), min_size=3, max_size=3))
def test_simplified_sizes_keep_their_value(text: str, values: list[int]) -> None:
    env = dict(zip(SIZES, values, strict=True))
    assert value_of(parse_dim(text), env) == eval(text, {}, env)


@settings(max_examples=100, deadline=None)
@given(texts())
def test_print_then_parse_is_the_identity(text: str) -> None:
    expr = parse_dim(text)
    again = parse_dim(print_dim(expr))
    assert again == expr
    assert print_dim(again) == print_dim(expr)


@settings(max_examples=150, deadline=None)
@given(
    texts(names=("x", "y", "z", "s0")),
    st.lists(
        st.one_of(st.integers(1, 130), st.sampled_from(("s0", "4 * s0"))), min_size=3, max_size=3
    ),
    st.integers(1, 9),
    st.randoms(use_true_random=False),
)
def test_bounded_keeps_values_in_range(text: str, extents: list[Any], s0: int, random: Any) -> None:
    expr = _indexed(text)
    ranges = {i: parse_dim(str(e)) for i, e in zip(INDICES, extents, strict=True)}
    small = bounded(expr, ranges)
    low, high = interval(expr, ranges)
    for _ in range(5):
        env = {"s0": s0}
        env |= {i.name: random.randrange(eval(str(e), {}, {"s0": s0})) for i, e in ranges.items()}
        wanted = eval(text, {}, env)
        assert value_of(small, env) == wanted
        assert low <= wanted <= high


def _indexed(text: str) -> Any:
    """The expression of `text` over the index symbols x, y, z."""
    expr = sympy.sympify(parse_dim(text))
    return expr.xreplace({symbol(i.name): i for i in INDICES})


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (FloorDiv(64 * S0 * X + Y, sympy.Integer(64)), S0 * X + FloorDiv(Y, 64)),
        (Mod(128 * X + Y, sympy.Integer(64)), Mod(Y, 64)),
        (FloorDiv(S0 * X + Y, S0), X + FloorDiv(Y, S0)),
        (FloorDiv(64 * X, sympy.Integer(128)), FloorDiv(X, 2)),
        (FloorDiv(2 * X + 1, sympy.Integer(4)), FloorDiv(X, 2)),
        (Mod(64 * X, sympy.Integer(128)), 64 * Mod(X, 2)),
        (FloorDiv(FloorDiv(X, 4), sympy.Integer(8)), FloorDiv(X, 32)),
        (Mod(Mod(X, 128), sympy.Integer(64)), Mod(X, 64)),
        (FloorDiv(Mod(X, 128), sympy.Integer(64)), Mod(FloorDiv(X, 64), 2)),
        (FloorDiv(S0 * S1 + S1, S0 + 1), S1),
        (Mod(S0 * S1 + S1, S0 + 1), 0),
    ],
)
def test_divisions_simplify(found: Any, wanted: Any) -> None:
    assert found == wanted


def test_a_fraction_is_not_taken_out_of_a_division() -> None:
    assert isinstance(FloorDiv(64 * X / S0, sympy.Integer(64)), FloorDiv)


@pytest.mark.parametrize(
    ("expr", "ranges", "wanted"),
    [
        (FloorDiv(X, 64), {X: 64}, 0),
        (Mod(X, 64), {X: 64}, X),
        (Mod(X, 64), {X: 65}, Mod(X, 64)),
        (FloorDiv(64 * X + Y, 128), {X: 10, Y: 64}, FloorDiv(X, 2)),
        (Mod(64 * X + Y, 128), {X: 10, Y: 64}, 64 * Mod(X, 2) + Y),
        (Mod(FloorDiv(64 * X + Y, 8), 8), {X: 10, Y: 64}, FloorDiv(Y, 8)),
        (64 * FloorDiv(X, 64) + Mod(X, 64), {X: 4096}, X),
        (3 * 64 * FloorDiv(X, 64) + 3 * Mod(X, 64), {X: 4096}, 3 * X),
        (64 * FloorDiv(X, 64) + 8 * Mod(FloorDiv(X, 8), 8) + Mod(X, 8), {X: 4096}, X),
        (FloorDiv(S0 * X + Y, S0), {X: 10, Y: S0}, X),
        (Mod(S0 * X + Y, S0), {X: 10, Y: S0}, Y),
        (FloorDiv(64 * X + Y, 64 * S0), {X: S0, Y: 64}, 0),
        (Mod(64 * X + Y, 64 * S0), {X: S0, Y: 64}, 64 * X + Y),
        (FloorDiv(64 * X + Y, 64 * S0), {X: S0 * S1, Y: 64}, FloorDiv(X, S0)),
        (S0 * FloorDiv(X, S0) + Mod(X, S0), {X: S0 * S1}, X),
        (Mod(S0 - 1 - X, S0), {X: S0}, S0 - 1 - X),
        (FloorDiv(X + 128, 64), {X: 64}, 2),
        (X * Y, {X: 1, Y: 5}, 0),
    ],
)
def test_bounded_drops_what_does_nothing(expr: Any, ranges: Any, wanted: Any) -> None:
    assert bounded(expr, ranges) == wanted


def test_bounded_accepts_what_it_cannot_improve() -> None:
    assert bounded(7, {}) == 7
    assert bounded(FloorDiv(X, S0), {}) == FloorDiv(X, S0)


def test_within_needs_proof() -> None:
    assert within(X, 64, {X: 64})
    assert not within(X, 64, {X: 65})
    assert not within(X - 1, 64, {X: 64})
    assert within(64 * X + Y, 64 * S0, {X: S0, Y: 64})
    assert not within(64 * X + Y, 64 * S0, {X: S0, Y: 65})


def test_index_arithmetic_is_fast() -> None:
    started = time.perf_counter()
    for i in range(200):
        FloorDiv(64 * S0 * X + (i + 5) * Y + Mod(Z, 7), sympy.Integer(64))
        Mod(128 * X + (i + 5) * Y + FloorDiv(Z, 7), sympy.Integer(64))
    assert (time.perf_counter() - started) / 400 < 2e-3


@pytest.mark.parametrize("text", ["1 +", "s0.x", "f(s0)", "s0 // 0", "'a'", "True", ""])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="not a size"):
        parse_dim(text)


def test_sizes_normalise() -> None:
    assert dim(sympy.Integer(3)) == 3
    assert isinstance(dim(sympy.Integer(3)), int)
    assert same(2 * (S0 + 1), 2 * S0 + 2)
    assert not same(S0, S1)
    assert same(floor_div(S0 - 1, 2) + 1, floor_div(S0 + 1, 2))
    assert floor_div(7, 2) == 3
    assert contiguous_strides((2, S0, 3)) == (3 * S0, 3, 1)
    assert contiguous_strides(()) == ()
