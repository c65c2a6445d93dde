"""Pointwise groups: the same numbers as the reference, through every kind of index map."""

from __future__ import annotations

import pytest
import torch

from tests.codegen.triton.running import check, emitted, group_graph, tensor


def test_bias_and_activation() -> None:
    graph = group_graph(
        "pointwise",
        "%x: f16[2, 5, 24], %w: f16[24]",
        """
        %a = tensor.mul(%x, %w) : f16[2, 5, 24]
        %b = nn.gelu(%a) : f16[2, 5, 24]
        return %b
        """,
    )
    check(graph, tensor("f16", 2, 5, 24), tensor("f16", 24))


def test_transpose() -> None:
    graph = group_graph(
        "pointwise",
        "%x: f32[3, 70, 40]",
        """
        %a = tensor.permute(%x) {dims = [0, 2, 1]} : f32[3, 40, 70]
        return %a
        """,
    )
    check(graph, tensor("f32", 3, 70, 40))


def test_symbolic_sizes() -> None:
    graph = group_graph(
        "pointwise",
        "%x: f32[s0, 6, s1], %y: f32[s1]",
        """
        %a = tensor.add(%x, %y) : f32[s0, 6, s1]
        %b = tensor.permute(%a) {dims = [2, 0, 1]} : f32[s1, s0, 6]
        %c = tensor.reshape(%b) {shape = [s1, s0 * 6]} : f32[s1, s0 * 6]
        %d = nn.silu(%c) : f32[s1, s0 * 6]
        return %d
        """,
    )
    check(graph, tensor("f32", 5, 6, 7), tensor("f32", 7))


def test_geglu() -> None:
    graph = group_graph(
        "pointwise",
        "%x: f32[3, 4, 20]",
        """
        %a = tensor.slice(%x) {dim = 2, start = 0, stop = 10} : f32[3, 4, 10]
        %b = tensor.slice(%x) {dim = 2, start = 10, stop = 20} : f32[3, 4, 10]
        %c = nn.gelu(%b) {approximate = "tanh"} : f32[3, 4, 10]
        %d = tensor.mul(%a, %c) : f32[3, 4, 10]
        return %d
        """,
    )
    check(graph, tensor("f32", 3, 4, 20))


def test_rope() -> None:
    graph = group_graph(
        "pointwise",
        "%x: f32[2, 6, 3, 8], %cos: f32[6, 8], %sin: f32[6, 8]",
        """
        %lo = tensor.slice(%x) {dim = 3, start = 0, stop = 4} : f32[2, 6, 3, 4]
        %hi = tensor.slice(%x) {dim = 3, start = 4, stop = 8} : f32[2, 6, 3, 4]
        %neg = tensor.neg(%hi) : f32[2, 6, 3, 4]
        %turned = tensor.concat(%neg, %lo) {dim = 3} : f32[2, 6, 3, 8]
        %c = tensor.reshape(%cos) {shape = [6, 1, 8]} : f32[6, 1, 8]
        %s = tensor.reshape(%sin) {shape = [6, 1, 8]} : f32[6, 1, 8]
        %a = tensor.mul(%x, %c) : f32[2, 6, 3, 8]
        %b = tensor.mul(%turned, %s) : f32[2, 6, 3, 8]
        %r = tensor.add(%a, %b) : f32[2, 6, 3, 8]
        return %r
        """,
    )
    check(graph, tensor("f32", 2, 6, 3, 8), tensor("f32", 6, 8), tensor("f32", 6, 8))


def test_concat_pad_flip_triangle() -> None:
    graph = group_graph(
        "pointwise",
        "%x: f32[5, 4], %y: f32[5, 3]",
        """
        %a = tensor.concat(%x, %y, %x) {dim = 1} : f32[5, 11]
        %b = tensor.pad(%a) {low = [1, 2], high = [2, 0], value = 3.5} : f32[8, 13]
        %c = tensor.flip(%b) {dims = [1]} : f32[8, 13]
        %d = tensor.triangle(%c) {upper = true, diagonal = 1} : f32[8, 13]
        return %d
        """,
    )
    check(graph, tensor("f32", 5, 4), tensor("f32", 5, 3))


def test_a_join_of_one_function_computes_it_once() -> None:
    graph = group_graph(
        "pointwise",
        "%x: f64[5, 4], %y: f64[5, 3], %z: f64[5, 2]",
        """
        %a = tensor.cos(%x) : f64[5, 4]
        %b = tensor.cos(%y) : f64[5, 3]
        %c = tensor.convert(%a) {dtype = "f32"} : f32[5, 4]
        %d = tensor.convert(%b) {dtype = "f32"} : f32[5, 3]
        %e = tensor.sin(%z) : f64[5, 2]
        %f = tensor.convert(%e) {dtype = "f32"} : f32[5, 2]
        %g = tensor.concat(%c, %d) {dim = 1} : f32[5, 7]
        %h = tensor.concat(%g, %f) {dim = 1} : f32[5, 9]
        return %h
        """,
    )
    source = emitted(graph.ops[0]).kernel.source
    assert source.count("tl.cos") == 1
    assert source.count("tl.sin") == 1
    check(graph, tensor("f64", 5, 4), tensor("f64", 5, 3), tensor("f64", 5, 2))


ROTATED = """
        %v = tensor.reshape(%x) {shape = [3, 2, 4, 2]} : f32[3, 2, 4, 2]
        %even = tensor.slice(%v) {dim = 3, stop = 1} : f32[3, 2, 4, 1]
        %odd = tensor.slice(%v) {dim = 3, start = 1, stop = 2} : f32[3, 2, 4, 1]
        %c = tensor.slice(%cos) {dim = 2, step = 2, stop = 7} : f32[3, 1, 4]
        %ce = tensor.reshape(%c) {shape = [3, 1, 4, 1]} : f32[3, 1, 4, 1]
        %s = tensor.slice(%sin) {dim = 2, start = 1, step = 2, stop = 8} : f32[3, 1, 4]
        %se = tensor.reshape(%s) {shape = [3, 1, 4, 1]} : f32[3, 1, 4, 1]
        %a = tensor.mul(%even, %ce) : f32[3, 2, 4, 1]
        %b = tensor.mul(%odd, %se) : f32[3, 2, 4, 1]
        %l = tensor.sub(%a, %b) : f32[3, 2, 4, 1]
        %d = tensor.mul(%even, %se) : f32[3, 2, 4, 1]
        %e = tensor.mul(%odd, %ce) : f32[3, 2, 4, 1]
        %r = tensor.add(%d, %e) : f32[3, 2, 4, 1]
        %j = tensor.concat(%l, %r) {dim = 3} : f32[3, 2, 4, 2]
"""


@pytest.mark.parametrize("flat", [True, False])
def test_interleaved_rope_loads_whole_rows(flat: bool) -> None:
    finish = "%o = tensor.reshape(%j) {shape = [3, 16]} : f32[3, 16]\n        return %o"
    graph = group_graph(
        "pointwise",
        "%x: f32[3, 16], %cos: f32[3, 1, 8], %sin: f32[3, 1, 8]",
        ROTATED + ("        " + finish if flat else "        return %j"),
    )
    source = emitted(graph.ops[0]).kernel.source
    assert source.count("tl.load") == 3
    assert source.count("= swap_pairs(") == 3
    check(graph, tensor("f32", 3, 16), tensor("f32", 3, 1, 8), tensor("f32", 3, 1, 8))


def test_pairs_of_two_lengths_in_one_kernel() -> None:
    def swapped(name: str, shape: str, pairs: str) -> str:
        return f"""
        %{name}v = tensor.reshape(%{name}) {{shape = {pairs[:-1]}, 2]}} : f32{pairs[:-1]}, 2]
        %{name}a = tensor.slice(%{name}v) {{dim = 2, start = 1, stop = 2}} : f32{pairs[:-1]}, 1]
        %{name}b = tensor.slice(%{name}v) {{dim = 2, stop = 1}} : f32{pairs[:-1]}, 1]
        %{name}j = tensor.concat(%{name}a, %{name}b) {{dim = 2}} : f32{pairs[:-1]}, 2]
        %{name}r = tensor.reshape(%{name}j) {{shape = {shape}}} : f32{shape}
"""

    graph = group_graph(
        "pointwise",
        "%x: f32[8, 4], %y: f32[2, 16]",
        swapped("x", "[8, 4]", "[8, 2]")
        + swapped("y", "[2, 16]", "[2, 8]")
        + """
        %z = tensor.reshape(%yr) {shape = [8, 4]} : f32[8, 4]
        %o = tensor.add(%xr, %z) : f32[8, 4]
        return %o
        """,
    )
    assert emitted(graph.ops[0]).kernel.source.count("= swap_pairs(") == 2
    check(graph, tensor("f32", 8, 4), tensor("f32", 2, 16))


def test_pairs_that_end_too_early_are_loaded_apart() -> None:
    graph = group_graph(
        "pointwise",
        "%x: f32[3, 7], %y: f32[3, 4]",
        """
        %even = tensor.slice(%x) {dim = 1, step = 2, stop = 7} : f32[3, 4]
        %a = tensor.reshape(%even) {shape = [3, 4, 1]} : f32[3, 4, 1]
        %b = tensor.reshape(%y) {shape = [3, 4, 1]} : f32[3, 4, 1]
        %j = tensor.concat(%a, %b) {dim = 2} : f32[3, 4, 2]
        return %j
        """,
    )
    assert "swap_pairs" not in emitted(graph.ops[0]).kernel.source
    check(graph, tensor("f32", 3, 7), tensor("f32", 3, 4))


def test_lookups() -> None:
    graph = group_graph(
        "pointwise",
        "%table: f32[11, 6], %ids: i64[2, 5], %x: f32[5, 7], %at: i32[3], %g: i64[2, 5, 6]",
        """
        %e = nn.embedding(%table, %ids) : f32[2, 5, 6]
        %t = tensor.take(%x, %at) {dim = 1} : f32[5, 3]
        %p = tensor.pad(%t) {low = [0, 0], high = [0, 3]} : f32[5, 6]
        %s = tensor.add(%e, %p) : f32[2, 5, 6]
        %r = tensor.gather(%s, %g) {dim = 1} : f32[2, 5, 6]
        return %r
        """,
    )
    check(
        graph, tensor("f32", 11, 6), torch.tensor([[0, 10, 3, 4, 5], [1, 1, 2, 9, 8]]),
        tensor("f32", 5, 7), torch.tensor([0, -1, 4], dtype=torch.int32),
        torch.randint(0, 5, (2, 5, 6)),
    )  # fmt: skip


def test_advanced_index() -> None:
    graph = group_graph(
        "pointwise",
        "%x: f32[4, 3, 5], %i: i64[2, 1], %j: i64[6]",
        """
        %a = tensor.index(%x, %i, %j) {dims = [0, 2]} : f32[2, 6, 3]
        return %a
        """,
    )
    check(
        graph, tensor("f32", 4, 3, 5), torch.tensor([[3], [-2]]), torch.tensor([0, 1, 4, -1, 2, 2])
    )


def test_iota_positions_need_no_load() -> None:
    graph = group_graph(
        "pointwise",
        "%table: f32[9, 6]",
        """
        %at = tensor.iota() {size = 4, start = 1, step = 2} : i64[4]
        %e = tensor.take(%table, %at) {dim = 0} : f32[4, 6]
        %f = tensor.convert(%at) {dtype = "f32"} : f32[4]
        %c = tensor.reshape(%f) {shape = [4, 1]} : f32[4, 1]
        %r = tensor.mul(%e, %c) : f32[4, 6]
        return %r
        """,
    )
    check(graph, tensor("f32", 9, 6))


def test_two_outputs_and_strides() -> None:
    graph = group_graph(
        "pointwise",
        "%x: f32[4, 6] strides [1, 4], %y: bool[4, 6]",
        """
        %a = tensor.sigmoid(%x) : f32[4, 6]
        %n = tensor.logical_not(%y) : bool[4, 6]
        %w = tensor.where(%n, %a, %x) : f32[4, 6]
        return %w, %n
        """,
    )
    check(graph, tensor("f32", 6, 4).t(), tensor("bool", 4, 6))


def test_scalar_domain() -> None:
    graph = group_graph(
        "pointwise",
        "%x: f32[]",
        """
        %c = tensor.constant() {value = 0.1, dtype = "f32"} : f32[]
        %a = tensor.mul(%x, %c) : f32[]
        return %a
        """,
    )
    check(graph, torch.tensor(3.0))
