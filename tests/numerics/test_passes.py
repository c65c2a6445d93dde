"""The harness itself: it accepts what computes the same, and says what does not."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings

from effcomp.ir import Graph, Level, is_pure, ops, parse_graph
from effcomp.rewrite import Builder, Log, Match, Pat, Pipeline, Rule, apply_rules, pat, var
from effcomp.testing.numbers import check_pass, in_float64, narrowest_of
from tests.ir.random_graphs import Program, random_programs


@dataclass(frozen=True)
class SplitSilu(Rule[None]):
    """silu(x) => x * sigmoid(x)."""

    def pattern(self) -> Pat:
        return pat(ops.elementwise.silu, var("x"))

    def rewrite(self, m: Match, b: Builder, facts: None):
        x = m["x"]
        return b.add(ops.elementwise.mul, x, b.add(ops.elementwise.sigmoid, x))


@dataclass(frozen=True)
class LoseSign(Rule[None]):
    """-x => x, which is wrong."""

    def pattern(self) -> Pat:
        return pat(ops.elementwise.neg, var("x"))

    def rewrite(self, m: Match, b: Builder, facts: None):
        return b.add(ops.view.copy, m["x"])


@dataclass(frozen=True, slots=True)
class Split:
    name: ClassVar[str] = "split"
    takes: ClassVar[Level | None] = None
    gives: ClassVar[Level | None] = None

    def run(self, graph: Graph, log: Log) -> Graph:
        return apply_rules(graph, (SplitSilu(),), log)


@settings(max_examples=15, deadline=None)
@given(random_programs())
def test_the_same_computation_passes(program: Program) -> None:
    check_pass(Pipeline((Split(),)), program.graph, program.arguments())
    check_pass(lambda g: g.without_dead_ops(is_pure), program.graph, program.arguments())


GRAPH = """graph @g(%x: bf16[s0, 4], %y: f32[s0, 4]) {
  %0 = tensor.neg(%x) : bf16[s0, 4]
  %1 = tensor.convert(%0) {dtype = "f32"} : f32[s0, 4]
  %2 = tensor.add(%1, %y) : f32[s0, 4]
  state.write(%y, %2) : none
  return %1
}"""


def test_another_result_is_shown_with_both_programs() -> None:
    def wrong(graph: Graph) -> Graph:
        return apply_rules(graph, (LoseSign(),), Log())

    args = [torch.randn(3, 4).bfloat16(), torch.randn(3, 4)]
    with pytest.raises(AssertionError, match=r"output 0: relative error .* \(f64\)") as caught:
        check_pass(wrong, parse_graph(GRAPH), args)
    (note,) = caught.value.__notes__
    assert "before:\ngraph @g" in note
    assert "tensor.copy" in note


def test_what_is_written_is_compared() -> None:
    def forget(graph: Graph) -> Graph:
        return replace(graph, ops=graph.ops[:-1])

    args = [torch.randn(3, 4).bfloat16(), torch.randn(3, 4)]
    with pytest.raises(AssertionError, match="argument 1: relative error"):
        check_pass(forget, parse_graph(GRAPH), args)


def test_widening() -> None:
    graph = parse_graph(GRAPH)
    assert narrowest_of(graph) == "bf16"
    assert narrowest_of(in_float64(graph)) == "f64"
