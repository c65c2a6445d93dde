"""Plans of random graphs compute what the graphs mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effcomp.codegen import lower_graph
from effcomp.codegen.groups import as_group
from effcomp.ir import Graph, Level, Op, verify
from effcomp.ir.levels import refused_at
from effcomp.passes.pipelines import pipeline_for
from effcomp.plan.schema import ArenaPlace, Plan
from effcomp.reference import evaluate, region_of
from effcomp.runtime import load
from effcomp.target import TARGETS
from effcomp.testing.tolerance import assert_close
from tests.codegen.kernels import FakeEmitter
from tests.codegen.simulate import simulate
from tests.ir.random_graphs import Program, random_programs

QUICK = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
# In float64, so that no rounding error decides a comparison or a floor.
PROGRAMS = random_programs(dtypes=("f64", "i64", "bool"))


def grouped_singly(graph: Graph) -> Graph:
    """Each op that may not stand alone in a group of its own: as many buffers as can be."""

    def grouped(op: Op) -> Op:
        return as_group(op) if refused_at(Level.KERNEL, op) else op

    graph = replace(graph, ops=tuple(map(grouped, graph.ops)))
    verify(graph, Level.KERNEL)
    return graph


def check(graph: Graph, program: Program, target: str, emitter: FakeEmitter) -> None:
    expected_args = program.arguments()
    expected = evaluate(program.graph, expected_args)
    plan = lower_graph(graph, TARGETS[target], region_of=region_of)
    args = program.arguments()
    compare(simulate(plan, args, emitter.kernels), expected)
    compare(args, expected_args)
    if target == "cpu":
        args = program.arguments()
        compare(load(plan, torch.device("cpu"), regions="never")(list(args)), expected)
        compare(args, expected_args)
        args = program.arguments()
        compare(load(placed_backwards(plan), torch.device("cpu"), regions="never")(args), expected)


def placed_backwards(plan: Plan) -> Plan:
    """The plan with another order of its arena: any order is right."""
    ids = [i for i, b in enumerate(plan.buffers) if isinstance(b.place, ArenaPlace)]
    return replace(plan, arena_order=tuple(reversed(ids)))


def compare(found: Sequence[Any], expected: Sequence[Any]) -> None:
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        if isinstance(b, torch.Tensor):
            dtype = "f64" if b.is_floating_point() else "i64"
            assert_close(a, b, dtype, what=f"value {i}")
        else:
            assert a == b


@QUICK
@given(program=PROGRAMS, target=st.sampled_from(("cpu", "cuda:90")), refusing=st.booleans())
def test_plans_of_single_ops(
    program: Program, target: str, refusing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitter = FakeEmitter(lambda op: refusing)
    monkeypatch.setattr("effcomp.codegen.groups.emit_group", emitter)
    check(grouped_singly(program.graph), program, target, emitter)


@QUICK
@given(program=PROGRAMS, target=st.sampled_from(("cpu", "cuda:90")))
def test_plans_of_fused_graphs(
    program: Program, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitter = FakeEmitter()
    monkeypatch.setattr("effcomp.codegen.groups.emit_group", emitter)
    pipeline = pipeline_for(TARGETS[target], training=False, horizontal_rows=1024)
    check(pipeline.run(program.graph).graph, program, target, emitter)
