"""What happens to graphs before torch-mlir sees them; needs no torch-mlir."""

from __future__ import annotations

import pytest
import torch

from effcomp.errors import MlirError
from effcomp.ir import parse_graph, verify
from effcomp.mlir.decompositions import DECOMPOSITIONS
from effcomp.mlir.functional import functional
from effcomp.mlir.tracing import trace
from effcomp.reference import evaluate

WRITES = """graph @g(%a: f32[4, 2], %x: f32[1, 2], %at: i64[1], %b: f32[4]) {
  %old = tensor.sum(%a) {dims = [1]} : f32[4]
  %c = state.index_put(%a, %x, %at) {dims = [0]} : f32[4, 2]
  %d = state.slice_put(%a, %x) {dim = 0, start = 3, stop = 4} : f32[4, 2]
  %e = tensor.sum(%d) {dims = [1]} : f32[4]
  state.write(%b, %e) : none
  return %old, %e
}
"""


def test_writes_become_results() -> None:
    before = parse_graph(WRITES)
    after = functional(before)
    verify(after)
    assert not any(op.name.startswith("state.") for op in after.walk())
    a, x, at, b = torch.randn(4, 2), torch.randn(1, 2), torch.tensor([1]), torch.zeros(4)
    found = evaluate(after, [a.clone(), x, at, b.clone()])
    expected = evaluate(before, [a, x, at, b])  # writes into a and b
    for one, other in zip(found, [a, b, *expected], strict=True):
        assert isinstance(one, torch.Tensor)
        assert torch.equal(one, other)


def test_a_graph_that_writes_nothing_is_itself() -> None:
    graph = parse_graph("graph @g(%x: f32[2]) {\n %y = tensor.neg(%x) : f32[2]\n return %y\n}")
    assert functional(graph) is graph


def test_a_write_to_something_in_between_is_refused() -> None:
    graph = parse_graph("""graph @g(%x: f32[2]) {
      %y = tensor.neg(%x) : f32[2]
      state.write(%y, %x) : none loc "model.py:9"
      return %y
    }""")
    with pytest.raises(MlirError, match=r"state.write at model.py:9 writes to no input"):
        functional(graph)


def calls(text: str) -> list[tuple[str, object]]:
    """The traced calls that shape tensors, with their arguments."""
    traced = trace(parse_graph(text), {})
    names = ("collapse", "view", "_unsafe_view", "reshape")
    return [
        (name, node.args[1:])
        for node in traced.graph.nodes
        if (name := str(node.target).split(".")[-2 if "." in str(node.target) else 0]) in names
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("s0, s1, 8", "s0*s1, 8", [("collapse", (0, 1))]),
        ("s0, 2, s1, 4", "2*s0, 4*s1", [("collapse", (2, 3)), ("collapse", (0, 1))]),
        ("1, s0, 1", "s0", [("collapse", (0, 2))]),
        ("s0, 4, 3", "s0, 12", [("collapse", (1, 2))]),
    ],
)
def test_reshapes_that_only_join(before: str, after: str, expected: object) -> None:
    text = f"""graph @g(%x: f32[{before}]) {{
      %y = tensor.reshape(%x) {{shape = [{after}]}} : f32[{after}]
      return %y
    }}"""
    assert calls(text) == expected


def test_reshapes_that_also_part_keep_a_view() -> None:
    text = """graph @g(%x: f32[s0, s1, 8]) {
      %y = tensor.reshape(%x) {shape = [s0*s1, 2, 4]} : f32[s0*s1, 2, 4]
      return %y
    }"""
    assert [name for name, _ in calls(text)] == ["collapse", "view"]


def test_reshapes_of_sizes_that_depend_on_data() -> None:
    text = """graph @g(%x: f32[4, 4]) {
      %y = aten.call(%x) {args = [#0], target = "aten.nonzero.default", types = ["i64[u0, 2]"]} : i64[u0, 2]
      %z = tensor.reshape(%y) {shape = [2*u0]} : i64[2*u0]
      return %z
    }"""  # noqa: E501
    assert calls(text) == [("collapse", (0, 1))]


def test_reshapes_of_rounded_sizes() -> None:
    text = """graph @g(%x: f32[s0, 4, 6]) {
      %y = tensor.slice(%x) {dim = 0, stop = (s0 // 2)} : f32[(s0 // 2), 4, 6]
      %z = tensor.reshape(%y) {shape = [4*(s0 // 2), 6]} : f32[4*(s0 // 2), 6]
      return %z
    }"""
    assert calls(text) == [("collapse", (0, 1))]


def test_fixed_reshapes_are_left_alone() -> None:
    text = """graph @g(%x: f32[3, 5, 8]) {
      %y = tensor.reshape(%x) {shape = [15, 8]} : f32[15, 8]
      return %y
    }"""
    assert [name for name, _ in calls(text)] == ["view"]


@pytest.mark.parametrize("dim", [None, [1], [0, 2]])
@pytest.mark.parametrize("correction", [None, 0, 2])
def test_variances(dim: list[int] | None, correction: int | None) -> None:
    x = torch.randn(4, 5, 6)
    made = DECOMPOSITIONS[torch.ops.aten.var_mean.correction]
    found = made(x, dim, correction=correction, keepdim=True)
    expected = torch.ops.aten.var_mean.correction(x, dim, correction=correction, keepdim=True)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_comparisons_with_numbers() -> None:
    x = torch.tensor([0.1, 0.5, float("-inf")])
    for op in ("eq", "ne", "lt", "le", "gt", "ge"):
        call = getattr(torch.ops.aten, op).Scalar
        for number in (0.1, 0.5, float("-inf")):
            assert torch.equal(DECOMPOSITIONS[call](x, number), call(x, number))
    assert (
        DECOMPOSITIONS[torch.ops.aten.eq.Scalar](torch.ones(2, dtype=torch.int), 1)
        is NotImplemented
    )


def test_lines_survive_tracing() -> None:
    text = """graph @g(%x: f32[2, 8], %w: weight f32[8]) {
      %y = nn.layer_norm(%x, %w) {eps = 1e-05} : f32[2, 8] loc "model.py:5" scope "block.norm"
      return %y
    }"""
    nodes = [n for n in trace(parse_graph(text), {}).graph.nodes if n.op == "call_function"]
    assert nodes
    assert all(n.stack_trace == 'File "model.py", line 5, in block.norm' for n in nodes)
