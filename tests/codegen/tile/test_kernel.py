"""Tiling: which axes and blocks a group gets, what is masked, how it reads, what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from effcomp.codegen.tile.ir import (
    Compute,
    Constant,
    Load,
    Loop,
    Spread,
    Store,
    TileKernel,
    TileValue,
)
from effcomp.codegen.tile.matmul import tile_matmul
from effcomp.codegen.tile.pointwise import tile_pointwise
from effcomp.codegen.tile.prune import prune
from effcomp.codegen.tile.rowwise import tile_rowwise
from effcomp.codegen.tile.text import print_tile
from effcomp.codegen.tile.verify import verify_tile
from effcomp.errors import VerifyError
from effcomp.ir import parse_graph
from effcomp.target import TARGETS

H200 = TARGETS["cuda:90"]

TRANSPOSE = """graph @g(%x: f32[2, 4096, 640]) {
  %0 = fused.pointwise(%x) : f32[2, 640, 4096] @body(%x: f32[2, 4096, 640]) {
    %0 = tensor.permute(%x) {dims = [0, 2, 1]} : f32[2, 640, 4096]
    return %0
  }
  return %0
}"""
SCALE = """graph @g(%x: f16[4096, 3072], %w: f16[3072]) {
  %0 = fused.pointwise(%x, %w) : f16[4096, 3072] @body(%x: f16[4096, 3072], %w: f16[3072]) {
    %0 = tensor.mul(%x, %w) : f16[4096, 3072]
    return %0
  }
  return %0
}"""

GATHER = """graph @g(%t: f16[100, 2048], %ids: i64[256]) {
  %0 = fused.pointwise(%t, %ids) : f16[256, 2048] @body(%t: f16[100, 2048], %ids: i64[256]) {
    %0 = nn.embedding(%t, %ids) : f16[256, 2048]
    return %0
  }
  return %0
}"""
EXPERTS = """graph @g(%x: f16[32768, 2048], %at: i64[4096, 8]) {
  %0 = fused.rowwise(%x, %at) : f16[4096, 2048] @body(%x: f16[32768, 2048], %at: i64[4096, 8]) {
    %0 = nn.embedding(%x, %at) : f16[4096, 8, 2048]
    %1 = tensor.sum(%0) {dims = [1], keepdim = false} : f16[4096, 2048]
    return %1
  }
  return %0
}"""


def softmax(rows: str, columns: str) -> str:
    kind = f"f32[{rows}, {columns}]"
    return f"""graph @g(%x: {kind}) {{
  %0 = fused.rowwise(%x) : {kind} @body(%x: {kind}) {{
    %0 = nn.softmax(%x) {{dim = 1}} : {kind}
    return %0
  }}
  return %0
}}"""


def pointwise(text: str) -> TileKernel:
    return tile_pointwise(parse_graph(text).ops[0], H200).kernel


def rowwise(text: str) -> TileKernel:
    return tile_rowwise(parse_graph(text).ops[0], H200).kernel


def offsets(kernel: TileKernel) -> list[str]:
    return [str(s.offset) for s in kernel.walk() if isinstance(s, Load)]


def test_contiguous_accesses_make_one_axis_without_masks() -> None:
    kernel = pointwise(SCALE.replace("f16[3072]", "f16[4096, 3072]"))
    assert [a.name for a in kernel.axes] == ["i"]
    assert offsets(kernel) == ["i", "i"]
    assert not any(s.mask for s in kernel.walk() if isinstance(s, Load))


def test_positions_are_not_divided_where_blocks_stay_within_the_inner_dim() -> None:
    kernel = pointwise(SCALE)
    assert [(a.name, a.block) for a in kernel.axes] == [("outer", 1), ("i", 1024)]
    assert offsets(kernel) == ["i + 3072*outer", "i"]
    odd = pointwise(SCALE.replace("3072", "3000"))
    assert offsets(odd) == ["i", "Mod(i, 3000)"], "a block spans rows"


def test_what_the_other_dims_look_up_is_one_element_a_block() -> None:
    kernel = pointwise(GATHER)
    ids = next(s for s in kernel.walk() if isinstance(s, Load) and s.pointer.name == "ids")
    assert ids.result.axes == ()
    kernel = rowwise(EXPERTS)
    assert [(a.name, a.block) for a in kernel.axes] == [("outer", 1), ("row", 1024), ("col", 1)]
    places = next(s for s in kernel.walk() if isinstance(s, Load) and s.pointer.dtype == "i64")
    assert places.result.axes == ()


def test_a_few_strided_columns_are_walked_one_by_one_where_they_are_read_once() -> None:
    many = rowwise(EXPERTS.replace("[4096, 8", "[4096, 80"))
    assert [(a.name, a.block) for a in many.axes] == [("outer", 1), ("row", 32), ("col", 128)]
    total = "tensor.sum(%0) {dims = [1], keepdim = false}"
    twice = EXPERTS.replace(total, "nn.softmax(%0) {dim = 1}")
    twice = twice.replace("f16[4096, 2048]", "f16[4096, 8, 2048]")
    assert [(a.name, a.block) for a in rowwise(twice).axes][1:] == [("row", 256), ("col", 8)]


def test_a_transpose_makes_a_tile() -> None:
    kernel = pointwise(TRANSPOSE)
    assert [(a.name, a.block) for a in kernel.axes] == [("rest", 1), ("i", 64), ("j", 64)]


def test_columns_that_fit_stay_in_registers() -> None:
    kernel = rowwise(softmax("4096", "1000"))
    column = kernel.axis("col")
    assert (column.block, column.spread) == (1024, Spread.WHOLE)
    assert sum(isinstance(s, Load) for s in kernel.walk()) == 1


@pytest.mark.parametrize("columns", ["50000", "s0"])
def test_long_rows_take_two_passes_for_a_softmax(columns: str) -> None:
    kernel = rowwise(softmax("4096", columns))
    assert sum(isinstance(s, Loop) for s in kernel.body) == 2


def angles(d: str) -> str:
    """Cosines of both operands side by side, and cosines of one beside sines of the other."""
    params, results = f"%x: {d}[4608, 16], %y: {d}[4608, 48]", "f32[4608, 64], f32[4608, 64]"
    return f"""graph @g({params}) {{
  %0, %1 = fused.pointwise(%x, %y) : {results} @body({params}) {{
    %0 = tensor.cos(%x) : {d}[4608, 16]
    %1 = tensor.convert(%0) {{dtype = "f32"}} : f32[4608, 16]
    %2 = tensor.cos(%y) : {d}[4608, 48]
    %3 = tensor.convert(%2) {{dtype = "f32"}} : f32[4608, 48]
    %4 = tensor.concat(%1, %3) {{dim = 1}} : f32[4608, 64]
    %5 = tensor.sin(%y) : {d}[4608, 48]
    %6 = tensor.convert(%5) {{dtype = "f32"}} : f32[4608, 48]
    %7 = tensor.concat(%1, %6) {{dim = 1}} : f32[4608, 64]
    return %4, %7
  }}
  return %0, %1
}}"""


def test_what_is_done_to_all_parts_is_done_to_the_concat() -> None:
    kernel = pointwise(angles("f32"))
    made = [s.op for s in kernel.walk() if isinstance(s, Compute)]
    assert made == [
        "tensor.cos", "tensor.where", "tensor.cos", "tensor.sin", "tensor.where",
    ]  # fmt: skip


def test_slow_arithmetic_takes_one_element_a_thread() -> None:
    blocks = {}
    for dtype in ("f32", "f64"):
        kernel = pointwise(angles(dtype))
        (axis,) = kernel.axes
        blocks[dtype] = (axis.block, kernel.num_warps)
    assert blocks == {"f32": (1024, 4), "f64": (256, 8)}


def test_prune_keeps_what_is_read() -> None:
    kernel = rowwise(softmax("4096", "50000"))
    assert prune(kernel.body) == kernel.body
    unread = Compute(TileValue("unread", "f32", ("col",)), "tensor.exp", (Constant(1.0, "f32"),))
    loop = next(s for s in kernel.body if isinstance(s, Loop))
    longer = replace(loop, body=(unread, *loop.body))
    assert prune((unread, *(longer if s is loop else s for s in kernel.body))) == kernel.body


def test_text() -> None:
    text = print_tile(rowwise(softmax("4096", "1000")))
    assert text == (
        "tile @softmax_kernel(x: f32, out: out f32) warps 4 stages 2 {\n"
        "  axis row < 4096 by 1 grid\n"
        "  axis col < 1000 by 1024 whole\n"
        "  x_0: f32[col] = load x[col + 1000*row] where col < 1000 else 0\n"
        "  inside_0: bool[col] = inside where col < 1000\n"
        "  where_0: f32[col] = tensor.where(inside_0, x_0, -inf: f32)\n"
        "  row_peak_0: f32[] = reduce peak where_0 along col\n"
        "  sub_0: f32[col] = tensor.sub(x_0, row_peak_0)\n"
        "  exp_0: f32[col] = tensor.exp(sub_0)\n"
        "  where_1: f32[col] = tensor.where(inside_0, exp_0, 0.0: f32)\n"
        "  row_sum_0: f32[] = reduce sum where_1 along col\n"
        "  div_0: f32[col] = tensor.div(exp_0, row_sum_0)\n"
        "  store out[col + 1000*row] = div_0 where col < 1000\n"
        "}\n"
    )


def test_verify_points_at_a_use_before_its_definition() -> None:
    kernel = rowwise(softmax("4096", "1000"))
    broken = replace(kernel, body=kernel.body[1:])
    with pytest.raises(VerifyError, match="x_0 is used before it is defined\n  where_0"):
        verify_tile(broken)


def test_verify_keeps_loop_values_inside() -> None:
    kernel = rowwise(softmax("4096", "50000"))
    loop = kernel.body[-1]
    assert isinstance(loop, Loop)
    store = loop.body[-1]
    assert isinstance(store, Store)
    broken = replace(kernel, body=(*kernel.body, store))
    with pytest.raises(VerifyError, match="outside its loop"):
        verify_tile(broken)


def test_products_pick_blocks_by_shape() -> None:
    def blocks(m: int) -> dict[str, int]:
        text = f"""graph @g(%x: bf16[{m}, 4096], %w: bf16[4096, 4096]) {{
  %0 = fused.matmul(%x, %w) : bf16[{m}, 4096] @body(%x: bf16[{m}, 4096], %w: bf16[4096, 4096]) {{
    %0 = nn.linear(%x, %w) : bf16[{m}, 4096]
    %1 = nn.silu(%0) : bf16[{m}, 4096]
    return %1
  }}
  return %0
}}"""
        return {a.name: a.block for a in tile_matmul(parse_graph(text).ops[0], H200).kernel.axes}

    assert blocks(1) == {"n": 8}
    assert blocks(8) == {"m": 16, "n": 32}
    assert blocks(4096) == {"m": 128, "n": 256}
