"""Norms of few long rows, in every layout, by the GPU's kernels: as exact as ATen's."""

from __future__ import annotations

import pytest
import torch

from effcomp.codegen import lower_graph
from effcomp.ir import parse_graph
from effcomp.passes.pipelines import pipeline_for
from effcomp.plan.schema import Launch, Plan
from effcomp.reference import region_of
from effcomp.runtime import load
from effcomp.target import TARGETS
from effcomp.testing.tolerance import assert_close

TARGET = TARGETS["cuda:90"]
SHAPE, GROUPS = (2, 32, 24, 48), 2
LAST = f" strides [{32 * 24 * 48}, 1, {32 * 48}, 32]"
DTYPES = {"f32": torch.float32, "f16": torch.float16}


def _plan(text: str) -> Plan:
    pipeline = pipeline_for(TARGET, training=False, horizontal_rows=0)
    return lower_graph(pipeline.run(parse_graph(text)).graph, TARGET, region_of=region_of)


def _run(plan: Plan, *args: torch.Tensor) -> torch.Tensor:
    found = load(plan, torch.device("cpu"), cuda_graphs="off")(list(args))[0]
    assert isinstance(found, torch.Tensor)
    return found


def _launches(plan: Plan) -> int:
    assert all(isinstance(step, Launch) for step in plan.steps)
    return len(plan.steps)


@pytest.mark.parametrize("dtype", ["f32", "f16"])
@pytest.mark.parametrize("strides", ["", LAST], ids=["row-major", "channels-last"])
def test_group_norm(dtype: str, strides: str) -> None:
    kind = f"{dtype}[2, 32, 24, 48]"
    plan = _plan(f"""
graph @f(%x: {kind}{strides}, %t: {dtype}[2, 32, 1, 1], %w: {dtype}[32], %b: {dtype}[32]) {{
  %0 = tensor.add(%x, %t) : {kind}{strides}
  %1 = nn.group_norm(%0, %w, %b) {{groups = {GROUPS}, eps = 1e-05}} : {kind}{strides}
  %2 = nn.silu(%1) : {kind}{strides}
  return %2{strides}
}}""")
    # The statistics of the chunks, those of the groups, and what becomes of the elements.
    assert _launches(plan) == 3
    random = torch.Generator().manual_seed(0)
    format = torch.channels_last if strides else torch.contiguous_format
    x, t, w, b = (
        torch.randn(size, generator=random).to(DTYPES[dtype])
        for size in (SHAPE, (2, 32, 1, 1), (32,), (32,))
    )
    x = (x * 0.5 + 20).to(memory_format=format)  # the mean far from 0: squares would cancel
    found = _run(plan, x, t, w, b)
    assert found.is_contiguous(memory_format=format)
    x, t, w, b = x.double(), t.double(), w.double(), b.double()
    normed = torch.nn.functional.group_norm(x + t, GROUPS, w, b, 1e-5)
    assert_close(found, torch.nn.functional.silu(normed).to(DTYPES[dtype]), dtype)


def test_layer_norm_of_few_long_rows() -> None:
    plan = _plan("""
graph @f(%x: f32[3, 96, 256], %w: f32[96, 256], %b: f32[96, 256]) {
  %0 = nn.layer_norm(%x, %w, %b) {eps = 1e-05, dims = 2} : f32[3, 96, 256]
  return %0
}""")
    assert _launches(plan) == 3
    random = torch.Generator().manual_seed(0)
    x, w, b = (torch.randn(n, 96, 256, generator=random).squeeze(0) for n in (3, 1, 1))
    found = _run(plan, x - 30, w, b)
    expected = torch.nn.functional.layer_norm(x - 30, (96, 256), w, b, 1e-5)
    assert_close(found, expected, "f32")


def test_rows_are_walked_as_their_elements_lie() -> None:
    """A group norm that is not cut: columns in memory order, [H, W, C / G]."""
    kind, last = "f32[2, 8, 5, 6]", " strides [240, 1, 48, 8]"
    plan = _plan(f"""
graph @f(%x: {kind}{last}) {{
  %0 = nn.group_norm(%x) {{groups = 2, eps = 1e-05}} : {kind}{last}
  return %0{last}
}}""")
    assert _launches(plan) == 1
    (kernel,) = plan.kernels
    assert kernel.kind == "triton"
    assert "col % 4" in kernel.source, "the channels of a group are the fastest columns"
    x = torch.randn(2, 8, 5, 6).to(memory_format=torch.channels_last)
    assert_close(_run(plan, x), torch.nn.functional.group_norm(x, 2, eps=1e-5), "f32")
