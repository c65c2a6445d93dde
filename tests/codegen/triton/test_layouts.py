"""Kernels walk dims in the order in which their tensors lie."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from effcomp.ir import Graph, parse_graph
from tests.codegen.triton.running import check, emitted, group_graph, tensor

SIZES = (3, 4, 5, 6)
LAST = "strides [120, 1, 24, 4]"


def _strided(order: tuple[int, ...]) -> tuple[torch.Tensor, str]:
    """A tensor whose dims lie in this order in memory, and its type."""
    x = tensor("f32", *(SIZES[d] for d in order)).permute([order.index(d) for d in range(4)])
    assert tuple(x.shape) == SIZES
    return x, f"f32{list(SIZES)} strides {list(x.stride())}"


@pytest.mark.parametrize("order", list(permutations(range(4))))
@pytest.mark.parametrize("dims", [(1,), (2, 3), (0, 2)])
def test_reductions_of_any_layout(order: tuple[int, ...], dims: tuple[int, ...]) -> None:
    x, kind = _strided(order)
    left = [size for d, size in enumerate(SIZES) if d not in dims]
    kept = [1 if d in dims else size for d, size in enumerate(SIZES)]
    graph = group_graph(
        "rowwise",
        f"%x: {kind}",
        f"""
        %m = tensor.mean(%x) {{dims = {list(dims)}, keepdim = true}} : f32{kept}
        %a = tensor.sub(%x, %m) : f32{list(SIZES)}
        %s = tensor.sum(%a) {{dims = {list(dims)}}} : f32{left}
        %b = tensor.amax(%a) {{dims = {list(dims)}}} : f32{left}
        %r = tensor.add(%s, %b) : f32{left}
        return %a, %r, %m
        """,
    )
    check(graph, x)


def test_a_group_norm_of_channels_last() -> None:
    x, kind = _strided((0, 2, 3, 1))
    graph = group_graph(
        "rowwise",
        f"%x: {kind}",
        """
        %g = tensor.reshape(%x) {shape = [3, 2, 2, 5, 6]} : f32[3, 2, 2, 5, 6]
        %n = nn.layer_norm(%g) {dims = 3, eps = 0.01} : f32[3, 2, 2, 5, 6]
        %r = tensor.reshape(%n) {shape = [3, 4, 5, 6]} : f32[3, 4, 5, 6]
        %s = nn.silu(%r) : f32[3, 4, 5, 6]
        return %s
        """,
    )
    check(graph, x)
    assert "col % 2" in emitted(graph.ops[0]).kernel.source


def _pointwise(x: str, result: str) -> Graph:
    return parse_graph(f"""
graph @f(%x: f16[3, 4, 5, 6]{x}) {{
  %0 = fused.pointwise(%x) : f16[3, 4, 5, 6]{result} @exp(%p: f16[3, 4, 5, 6]) {{
    %1 = tensor.exp(%p) : f16[3, 4, 5, 6]
    return %1
  }}
  return %0{result}
}}""")


def test_channels_last_is_walked_flat() -> None:
    source = emitted(_pointwise(f" {LAST}", f" {LAST}").ops[0]).kernel.source
    assert "tl.load(x + i" in source
    assert "tl.store(out + i" in source


def test_a_weight_is_copied_in_tiles() -> None:
    """Windows of nine: both ends are contiguous along one side of a tile."""
    graph = parse_graph("""
graph @f(%x: f16[64, 320, 9]) {
  %0 = fused.pointwise(%x) : f16[64, 320, 9] strides [2880, 1, 320] @copy(%p: f16[64, 320, 9]) {
    %1 = tensor.copy(%p) : f16[64, 320, 9]
    return %1
  }
  return %0 strides [2880, 1, 320]
}""")
    source = emitted(graph.ops[0]).kernel.source
    assert "x + (i + 9*j + 2880*rest)" in source
    assert "out + (320*i + j + 2880*rest)" in source
