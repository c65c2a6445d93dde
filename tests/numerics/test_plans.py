"""Random programs as plans on a CPU: passes, code generation and runtime against the oracle."""

import pytest
import torch
from hypothesis import given, settings

from effcomp.compiling import build_plan
from effcomp.ir import parse_graph
from effcomp.passes.pipelines import pipeline_for
from effcomp.reference import evaluate
from effcomp.runtime import load
from effcomp.target import TARGETS
from effcomp.testing.inputs import random_arguments
from effcomp.testing.numbers import assert_alike, is_discrete, narrowest_of
from effcomp.testing.tolerance import assert_close
from tests.ir.random_graphs import Program, random_programs

# bf16 is left out on CUDA plans: Triton's interpreter cannot run it.
DTYPES = {"cpu": ("f32", "i64", "bool", "f64", "bf16"), "cuda:90": ("f32", "i64", "bool")}
EXAMPLES = {"cpu": 20, "cuda:90": 5}


@pytest.mark.parametrize("target", DTYPES)
def test_plans_compute_what_the_oracle_does(target: str) -> None:
    pipeline = pipeline_for(TARGETS[target], training=False, horizontal_rows=64)

    @settings(max_examples=EXAMPLES[target], deadline=None)
    @given(random_programs(dtypes=DTYPES[target], most_steps=8))
    def check(program: Program) -> None:
        graph = program.graph
        dtype = narrowest_of(graph)
        if dtype == "bf16" and any(map(is_discrete, graph.walk())):
            return
        plan = build_plan(graph, TARGETS[target], pipeline)
        executable = load(plan, torch.device("cpu"), regions="never")
        kept = program.arguments()
        expected = evaluate(graph, kept)
        for _ in range(2):  # a second call must not see what the first left behind
            args = program.arguments()
            found = executable(list(args))
            assert_alike(found, expected, args, kept, dtype, program.arguments())

    check()


@pytest.mark.parametrize(
    ("x", "w"),
    [
        ("[1]", "[1, 1]"),
        ("[5]", "[1, 5]"),
        ("[3, 5]", "[1, 5]"),
        ("[3, 5] strides [0, 1]", "[4, 5]"),
    ],
)
def test_products_with_a_single_column_or_repeated_rows(x: str, w: str) -> None:
    rows = x.partition("]")[0].rpartition(",")[0]
    shape = f"f32{rows or '['}{', ' if rows else ''}{w[1]}]"
    graph = parse_graph(f"""graph @g(%x: f32{x}, %w: f32{w}) {{
      %0 = nn.linear(%x, %w) : {shape}
      %1 = tensor.neg(%0) : {shape}
      return %1
    }}""")
    args = random_arguments(graph, {})
    pipeline = pipeline_for(TARGETS["cuda:90"], training=False, horizontal_rows=64)
    plan = build_plan(graph, TARGETS["cuda:90"], pipeline)
    (found,) = load(plan, torch.device("cpu"))(list(args))
    (expected,) = evaluate(graph, args)
    assert_close(found, expected, "f32", scale=1.0)
