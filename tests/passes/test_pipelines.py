"""The pipelines: what runs where, and that their text reads back."""

from __future__ import annotations

import pytest

from effcomp.ir import Level, parse_graph, verify
from effcomp.passes import PASSES
from effcomp.passes.pipelines import pipeline_for
from effcomp.rewrite import parse_pipeline
from effcomp.target import TARGETS

GRAPH = """graph @g(%x: f32[3, 4], %q: weight f32[4, 4], %k: weight f32[2, 4]) {
  %0 = nn.linear(%x, %q) : f32[3, 4]
  %1 = nn.linear(%x, %k) : f32[3, 2]
  %2 = tensor.exp(%0) : f32[3, 4]
  %3 = nn.softmax(%1) {dim = -1} : f32[3, 2]
  return %2, %3
}"""


@pytest.mark.parametrize("target", ["cuda:90", "cpu"])
@pytest.mark.parametrize("training", [False, True])
def test_a_pipeline_gives_what_code_generation_takes(target: str, training: bool) -> None:
    pipeline = pipeline_for(TARGETS[target], training=training, horizontal_rows=1024)
    run = pipeline.run(parse_graph(GRAPH))
    verify(run.graph, Level.KERNEL)
    joined = run.graph.ops[0].name == "state.prologue"
    assert joined is not training
    assert parse_pipeline(pipeline.text, PASSES).text == pipeline.text


def test_no_rows_join_no_linears() -> None:
    pipeline = pipeline_for(TARGETS["cpu"], training=False, horizontal_rows=0)
    assert "fuse-horizontal" not in [p.name for p in pipeline.passes]


def test_every_pass_is_registered_under_its_name() -> None:
    for name, kind in PASSES.items():
        assert kind.name == name
        assert kind.__module__ == f"effcomp.passes.{name.replace('-', '_')}"
        assert kind.__name__ == "".join(part.capitalize() for part in name.split("-"))
