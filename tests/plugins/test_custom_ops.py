"""Ops of one's own: declared, traced, emitted, captured; run by CPU plans and interpreted ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import triton
import triton.language as tl

import effcomp as ec
from effcomp import api
from effcomp.ir import Graph, parse_graph, verify
from effcomp.plan.schema import Launch, Plan
from effcomp.plugins import isolated
from effcomp.reference import evaluate
from effcomp.runtime import load
from effcomp.target import TARGETS

BLOCK = 32


@triton.jit
def _square(x):
    return x * x


@triton.jit
def squared_relu_kernel(x_ptr, out_ptr, n, scale: tl.constexpr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n)
    tl.store(out_ptr + offsets, _square(tl.maximum(x, 0.0)) * scale, mask=offsets < n)


def reference(x: torch.Tensor, *, scale: float) -> torch.Tensor:
    return torch.relu(x).square() * scale


def emit(op: ec.Op, target: object) -> object:
    x, out = op.operands[0], op.result
    if x.dtype == "f64":
        return ec.Refused("float64 is slow")
    n = out.tensor.numel
    constants = {"scale": ec.attr(op, "scale"), "BLOCK": BLOCK}
    return ec.launch(
        squared_relu_kernel, [x, out, n], grid=ec.ceil_div(n, BLOCK), constants=constants
    )


@pytest.fixture
def squared_relu() -> Iterator[ec.OpSpec]:
    with isolated():

        @ec.op("test.squared_relu", reference=reference, triton=emit)
        def squared_relu(x: ec.TensorType, *, scale: float = 1.0) -> ec.TensorType:
            """scale * max(x, 0)^2."""
            ec.require(x.dtype != "bool", f"{x} is no float")
            return x

        yield squared_relu


def graph_of(dtype: str = "f32") -> Graph:
    graph = parse_graph(f"""
graph @g(%x: {dtype}[s0, 6]) {{
  %0 = tensor.permute(%x) {{dims = [1, 0]}} : {dtype}[6, s0]
  %1 = test.squared_relu(%0) {{scale = 3.0}} : {dtype}[6, s0] loc "model.py:5"
  %2 = test.squared_relu(%x) : {dtype}[s0, 6]
  %3 = tensor.neg(%2) : {dtype}[s0, 6]
  return %1, %3
}}
""")
    verify(graph)
    return graph


def plan_for(graph: Graph, target: str) -> Plan:
    from effcomp.passes.pipelines import pipeline_for

    pipeline = pipeline_for(TARGETS[target], training=False, horizontal_rows=0)
    return api.build_plan(graph, TARGETS[target], pipeline)


@pytest.mark.parametrize("target", ["cpu", "cuda:90"])
@pytest.mark.usefixtures("squared_relu")
def test_both_kinds_of_plan_compute_what_the_oracle_does(target: str) -> None:
    graph = graph_of()
    plan = plan_for(graph, target)
    launches = [s for s in plan.steps if isinstance(s, Launch) and s.label == "test.squared_relu"]
    assert len(launches) == (2 if target == "cuda:90" else 0)
    run = load(plan, torch.device("cpu"), regions="never")
    for rows in (5, 70):
        x = torch.randn(rows, 6)
        expected = [reference(x.t(), scale=3.0), -reference(x, scale=1.0)]
        for a, b, c in zip(run([x]), evaluate(graph, [x]), expected, strict=True):
            torch.testing.assert_close(a, c)
            torch.testing.assert_close(b, c)


@pytest.mark.usefixtures("squared_relu")
def test_a_kernel_is_a_module_that_stands_alone() -> None:
    plan = plan_for(graph_of(), "cuda:90")
    kernels = [k for k in plan.kernels if k.function == "squared_relu_kernel"]
    assert len(kernels) == 2, "one a constant"
    assert kernels[0].source.startswith("import triton\nimport triton.language as tl\n")
    assert kernels[0].source.index("def _square") < kernels[0].source.index(
        "def squared_relu_kernel"
    )


@pytest.mark.usefixtures("squared_relu")
def test_an_emitter_that_refuses_leaves_a_note_and_the_calls() -> None:
    graph = graph_of("f64")
    plan = plan_for(graph, "cuda:90")
    assert any("test.squared_relu runs as library calls (model.py:5): float64 is slow" in n
               for n in plan.notes)  # fmt: skip
    x = torch.randn(4, 6, dtype=torch.float64)
    found = load(plan, torch.device("cpu"), regions="never")([x])
    torch.testing.assert_close(found[0], reference(x.t(), scale=3.0))
