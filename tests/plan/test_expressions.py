"""Size expressions: values, errors, and nothing but arithmetic."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effcomp.errors import PlanError
from effcomp.ir.dims import parse_dim, print_dim
from effcomp.plan.expressions import compile_expr, evaluate, names_in

SIZES = {"s0": 7, "s1": 3, "u0": 0}


@pytest.mark.parametrize(
    ("expr", "value"),
    [
        (5, 5),
        ("5", 5),
        ("s0 * 4 // 2", 14),
        ("-s0 + 2*s1", -1),
        ("max(s0, s1, 8) - min(s0, s1)", 5),
        ("max(s0)", 7),
        ("s0**2 % (s1 + 1)", 1),
        ("s0**2/2 - s0/2", 21),
        ("-7 // 2", -4),
        ("u0", 0),
    ],
)
def test_values(expr: int | str, value: int) -> None:
    found = evaluate(expr, SIZES)
    assert found == value
    assert type(found) is int


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s0 +",
        "f(s0)",
        "s0.x",
        "s0[0]",
        "True",
        "'a'",
        "1.5",
        "s0 if s1 else 2",
        "lambda: 1",
        "max()",
        "max(s0, key=s1)",
        "s0 ** s1",
        "2 ** 1000",
        "s0 ** -1",
        "(s0 := 3)",
        "__import__('os')",
        "s0 << 2",
    ],
)
def test_malformed(text: str) -> None:
    with pytest.raises(PlanError, match="not a size expression"):
        evaluate(text, SIZES)


def test_errors_name_the_size_and_the_expression() -> None:
    with pytest.raises(PlanError, match=r"'s9' of 's9 \+ 1' is not bound"):
        evaluate("s9 + 1", SIZES)
    with pytest.raises(PlanError, match="'s0 // u0' divides by zero"):
        evaluate("s0 // u0", SIZES)
    with pytest.raises(PlanError, match=r"is 7/2 for .*, not an integer"):
        evaluate("s0 / 2", SIZES)


def test_a_size_may_be_called_like_what_the_code_uses() -> None:
    assert evaluate("sizes + Fraction", {"sizes": 1, "Fraction": 2}) == 3


def test_names() -> None:
    assert names_in("max(s0, 2) * s1 // 4") == {"s0", "s1"}
    assert names_in(3) == frozenset()


@st.composite
def dims(draw: st.DrawFn, depth: int = 3) -> str:
    if depth == 0 or draw(st.booleans()):
        return draw(st.one_of(st.sampled_from(sorted(SIZES)), st.integers(0, 9).map(str)))
    left, right = draw(dims(depth - 1)), draw(dims(depth - 1))
    match draw(st.sampled_from("+-*/%m")):
        case "m":
            return f"max({left}, {right})"
        case "/" | "%" as sign:
            return f"({left} {'//' if sign == '/' else '%'} {draw(st.integers(1, 9))})"
        case sign:
            return f"({left} {sign} {right})"


@settings(max_examples=100, deadline=None)
@given(dims())
def test_agrees_with_the_ir(text: str) -> None:
    wanted = eval(text, {"max": max}, SIZES)
    assert evaluate(text, SIZES) == wanted
    assert evaluate(print_dim(parse_dim(text)), SIZES) == wanted


def test_evaluation_is_fast() -> None:
    compiled = compile_expr("(s0 * 64 + s1) // 2 % (s0 + 1)")
    start = time.perf_counter()
    for _ in range(1000):
        compiled(SIZES)
    assert time.perf_counter() - start < 0.01
