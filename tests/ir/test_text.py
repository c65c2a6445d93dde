"""Text is a first-class form: goldens, every attribute, and what a parse error says."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effcomp.errors import ParseError, VerifyError
from effcomp.ir import Graph, Op, Ref, Tag, TensorType, Value, parse_graph, print_graph, verify
from effcomp.ir.dims import parse_dim
from effcomp.ir.ops import elementwise
from effcomp.ir.text import clean_hint
from effcomp.reference import evaluate
from effcomp.testing.inputs import random_arguments

GOLDENS = sorted((Path(__file__).parent / "goldens").glob("*.eff"))


def golden(path: Path) -> str:
    """The text without its comments."""
    lines = path.read_text().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("//"))


@pytest.mark.parametrize("path", GOLDENS, ids=lambda p: p.stem)
def test_goldens_round_trip(path: Path) -> None:
    graph = parse_graph(path.read_text())
    verify(graph)
    assert print_graph(graph) == golden(path)


@pytest.mark.parametrize("path", GOLDENS, ids=lambda p: p.stem)
def test_goldens_run(path: Path) -> None:
    graph = parse_graph(path.read_text())
    if "made_up" not in path.read_text():
        evaluate(graph, random_arguments(graph, {"s0": 3, "s1": 2}))


NASTY = ["#1", "none", "float(inf)", '"', "\\", 'a\\"', "@f(%x) {", "}", "//", "\n", "a \u2028 b"]
TEXTS = st.one_of(st.text(), st.sampled_from(NASTY))


def attributes() -> st.SearchStrategy[Any]:
    plain = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.complex_numbers(),
        TEXTS,
        st.sampled_from(["s0", "2*s0 - 1", "(s0 // 2)", "max(s0, s1)", "s0**2/2"]).map(parse_dim),
        st.integers(0, 9).map(Ref),
        st.builds(Tag, st.just("dtype"), st.sampled_from(["f32", "torch.strided"])),
    )
    return st.recursive(plain, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)


def same(a: Any, b: Any) -> bool:
    """Equal and of one type; NaN equals NaN, and -0.0 is not 0.0."""
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, complex):
        return isinstance(b, complex) and same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, float):
        return isinstance(b, float) and repr(a) == repr(b)
    return type(a) is type(b) and a == b


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from("abc"), attributes()), TEXTS, TEXTS)
def test_attributes_and_places_round_trip(attrs: dict[str, Any], loc: str, scope: str) -> None:
    x = Value(TensorType("f32", (2,)), "x")
    made = Value(TensorType("f32", (2,)))
    body = Graph("inner", (replace(x),), (), ())
    for inner in (None, body):
        op = Op("aten.call", (x,), (made,), MappingProxyType(attrs), inner, loc, scope)
        text = print_graph(Graph("g", (x,), (op,), (made,)))
        (found,) = parse_graph(text).ops
        assert (found.loc, found.scope, found.body is None) == (loc, scope, inner is None)
        assert found.attrs.keys() == attrs.keys()
        for name, value in attrs.items():
            assert same(found.attrs[name], value), name
        assert print_graph(parse_graph(text)) == text


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["", "x", "arg", "x_1", "été", "0", "a.b", "a b"]), max_size=6))
def test_hints_round_trip(hints: list[str]) -> None:
    kind = TensorType("f32", ())
    params = tuple(Value(kind, clean_hint(h)) for h in hints[:3])
    ops = tuple(Op("tensor.full", (), (Value(kind, clean_hint(h)),)) for h in hints)
    graph = Graph("g", params, ops, tuple(op.result for op in ops))
    text = print_graph(graph)
    again = parse_graph(text)
    assert print_graph(again) == text
    assert [op.result.hint for op in again.ops] == [op.result.hint for op in ops]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 0: the text ends inside a graph"),
        ("grph @g() {\n return\n}", "line 1: expected 'graph @name"),
        ("graph g() {\n return\n}", "line 1: expected '@name"),
        ("graph @g(x) {\n return\n}", "line 1: expected '%name: type'"),
        ("graph @g(%x: f33[2]) {\n return\n}", "line 1: unknown dtype 'f33'"),
        ("graph @g() {\n return %0\n}", "line 2: %0 is not defined above its use"),
        ("graph @g() {\n nonsense\n return\n}", "line 2: not an op"),
        ("graph @g() {\n %0 = tensor.full() {a = [1} : f32[]\n return\n}", "line 2: "),
        ("graph @g() {\n %0 = tensor.full() {a} : f32[]\n return\n}", "line 2: attribute 'a'"),
        ("graph @g() {\n %0 = tensor.full() {a = !} : f32[]\n return\n}", "line 2: not a size"),
        ("graph @g() {\n %0 = tensor.full() {a = \"b} : f32[]\n return\n}", "line 2: "),
        ("graph @g() {\n %0 = tensor.full() : f32[], f32[]\n return\n}", "line 2: 1 results but 2"),
        ("graph @g() {\n return\n", "line 2: the text ends"),
        ("graph @g() {\n return\n}\nmore", "line 4: text after the graph"),
    ],
)  # fmt: skip
def test_errors_name_the_line(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_graph(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("%0 = tensor.nope(%x) : f32[2]", "unknown op 'tensor.nope'"),
        ("%0 = tensor.neg(%x) : f32[3]", "results are (f32[3]), inferred (f32[2])"),
        ("%0 = tensor.neg(%x, %x) : f32[2]", "tensor.neg takes 1 operands, got 2"),
        ("%0 = tensor.neg(%x) {a = 1} : f32[2]", "tensor.neg has no attribute 'a'"),
        ("%0 = tensor.full() {dtype = \"f32\", shape = [2]} : f32[2]", "needs attribute 'value'"),
        ("%0 = tensor.add(%x, %i) : f32[2]", "operands differ in dtype"),
        ("%0 = tensor.index(%x, %i, %i) {dims = [0, 1]} : f32[3]", "do not count up"),
        ("%0 = fused.pointwise(%x) : f32[2]", "fused.pointwise needs a body"),
    ],
)  # fmt: skip
def test_the_verifier_points_at_the_op(text: str, message: str) -> None:
    graph = parse_graph(f"graph @g(%x: f32[2], %i: i64[3]) {{\n {text}\n return %0\n}}")
    with pytest.raises(VerifyError) as caught:
        verify(graph)
    assert message in str(caught.value)
    assert "\n > %0 = " in str(caught.value)


def test_a_result_is_not_called_as_a_param() -> None:
    """The second param called `add` is named by its position, as results are."""
    x, y = (Value(TensorType("f32", (n,)), hint="add") for n in (2, 3))
    negated: list[Op] = []
    for operand in (x, y):
        made = elementwise.neg.build(operand)
        negated.append(replace(made, results=(replace(made.result, hint="add"),)))
    graph = Graph("g", (x, y), tuple(negated), tuple(op.result for op in negated))
    again = parse_graph(print_graph(graph))
    assert [v.shape for v in again.outputs] == [(2,), (3,)]
    assert print_graph(again) == print_graph(graph)
