"""`only="blocks.*"`: what it takes in, in every pass, and passes that cannot be limited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from effcomp.errors import ConfigError, PassError
from effcomp.ir import Graph, Level, Op, parse_graph, print_graph
from effcomp.passes import PASSES
from effcomp.rewrite import Log, Pipeline, Scope, parse_pipeline


def op_in(scope: str) -> Op:
    return Op("tensor.neg", (), (), scope=scope)


@pytest.mark.parametrize(
    ("only", "inside", "outside"),
    [
        (["blocks.*"], ["blocks.0", "blocks.10.norm1"], ["blocks", "head", "", "xblocks.0"]),
        (["blocks.1"], ["blocks.1", "blocks.1.attn.q"], ["blocks.10", "blocks.0"]),
        (["*.norm?"], ["blocks.0.norm1", "a.b.norm2.weight"], ["norm1", "blocks.0.norm"]),
        (["head", "tail"], ["head", "tail.x"], ["heads"]),
    ],
)
def test_patterns(only: Sequence[str], inside: list[str], outside: list[str]) -> None:
    scope = Scope(tuple(only))
    assert all(scope.holds(op_in(s)) for s in inside)
    assert not any(scope.holds(op_in(s)) for s in outside)
    assert Scope().holds(op_in(""))


TWO_BLOCKS = """graph @g(%x: f32[4, 8], %w: f32[8, 8], %v: f32[8, 8], %n: f32[8]) {
  %0 = tensor.neg(%x) : f32[4, 8] scope "blocks.0"
  %1 = tensor.neg(%0) : f32[4, 8] scope "blocks.0"
  %2 = tensor.neg(%x) : f32[4, 8] scope "blocks.0.a"
  %3 = nn.linear(%1, %w) : f32[4, 8] scope "blocks.0"
  %4 = nn.linear(%1, %v) : f32[4, 8] scope "blocks.0"
  %5 = nn.rms_norm(%3, %n) {eps = 1e-06} : f32[4, 8] scope "blocks.0"
  %6 = tensor.add(%5, %4) : f32[4, 8] scope "blocks.0"
  %7 = tensor.mul(%6, %2) : f32[4, 8] scope "blocks.0"
  %10 = tensor.neg(%x) : f32[4, 8] scope "blocks.1"
  %11 = tensor.neg(%10) : f32[4, 8] scope "blocks.1"
  %12 = tensor.neg(%x) : f32[4, 8] scope "blocks.1.a"
  %13 = nn.linear(%11, %w) : f32[4, 8] scope "blocks.1"
  %14 = nn.linear(%11, %v) : f32[4, 8] scope "blocks.1"
  %15 = nn.rms_norm(%13, %n) {eps = 1e-06} : f32[4, 8] scope "blocks.1"
  %16 = tensor.add(%15, %14) : f32[4, 8] scope "blocks.1"
  %17 = tensor.mul(%16, %12) : f32[4, 8] scope "blocks.1"
  %18 = tensor.exp(%17) : f32[4, 8] scope "blocks.1"
  return %7, %17
}
"""


def weights_constant(graph: Graph) -> Graph:
    """The same with %w and %v as weights."""
    new = {p: replace(p, weight=p.hint in "wv") for p in graph.params}
    ops = tuple(replace(o, operands=tuple(new.get(v, v) for v in o.operands)) for o in graph.ops)
    return replace(graph, params=tuple(new.values()), ops=ops)


@pytest.mark.parametrize(
    "name",
    ["canonicalize", "cse", "dce", "fuse-horizontal", "fuse-rowwise", "fuse-pointwise"],
)
def test_a_limited_pass_leaves_the_other_block_as_it_was(name: str) -> None:
    graph = weights_constant(parse_graph(TWO_BLOCKS))
    level = PASSES[name].takes or Level.TENSOR
    run = parse_pipeline(f'{name}{{only="blocks.1"}}', PASSES, level).run(graph)
    assert run.stages[-1].changed
    assert outside(run.graph) == outside(graph), print_graph(run.graph)
    whole = parse_pipeline(name, PASSES, level).run(graph).graph
    assert outside(whole) != outside(graph) or name == "dce"


def outside(graph: Graph) -> list[tuple[str, str]]:
    """Names and places of the ops of the first block."""
    return [(op.name, op.scope) for op in graph.ops if op.scope.startswith("blocks.0")]


def test_the_text_of_a_limited_pass_reads_back() -> None:
    text = 'cse{only="blocks.*"},fuse-horizontal{max_rows=4,only=["blocks.*",head]}'
    pipeline = parse_pipeline(text, PASSES)
    assert pipeline.text == text
    assert parse_pipeline(pipeline.text, PASSES) == pipeline
    assert [p.name for p in pipeline.without(["cse"]).passes] == ["fuse-horizontal"]
    assert parse_pipeline("cse{only=head}", PASSES).text == "cse{only=head}"
    with pytest.raises(ConfigError, match="`only` names no module"):
        parse_pipeline('cse{only=""}', PASSES)
    with pytest.raises(ConfigError, match="did you mean 'only'"):
        parse_pipeline("cse{onyl=head}", PASSES)


def test_a_limited_pass_keeps_the_level_it_took() -> None:
    text = 'fuse-pointwise{only="blocks.1"},fuse-pointwise'
    run = parse_pipeline(text, PASSES, Level.FUSED).run(parse_graph(TWO_BLOCKS))
    assert {op.name.partition(".")[0] for op in run.stages[1].graph.ops} > {"tensor", "fused"}
    assert "tensor" not in {op.name.partition(".")[0] for op in run.graph.ops}


@dataclass(frozen=True)
class DropFirst:
    """Takes the first op's operand for its result, wherever it stands."""

    name: ClassVar[str] = "drop-first"
    takes: ClassVar[Level | None] = None
    gives: ClassVar[Level | None] = None

    def run(self, graph: Graph, log: Log) -> Graph:
        from effcomp.ir import Edit

        first = graph.ops[0]
        return graph.splice({first: Edit((), first.operands)})


def test_a_pass_that_never_asks_cannot_be_limited() -> None:
    graph = parse_graph(TWO_BLOCKS)
    pipeline = parse_pipeline('drop-first{only="blocks.1"}', {"drop-first": DropFirst})
    with pytest.raises(PassError, match="whole program and cannot be limited") as raised:
        pipeline.run(graph)
    assert "log.sees(op)" in str(raised.value)
    assert Pipeline((DropFirst(),)).run(graph).stages[-1].changed
