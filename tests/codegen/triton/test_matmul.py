"""Products with an epilogue: the same numbers as the reference, at every kind of block."""

from __future__ import annotations

import pytest

from tests.codegen.triton.patterns import linear_gelu_residual
from tests.codegen.triton.running import check, group_graph, refusal, tensor


@pytest.mark.parametrize("m", [1, 5, 70])
@pytest.mark.parametrize("k", [32, 50])
def test_linear_gelu_residual(m: int, k: int) -> None:
    graph = linear_gelu_residual("f32", m, 40, k)
    check(
        graph, tensor("f32", 1, m, k), tensor("f32", 40, k), tensor("f32", 40),
        tensor("f32", 1, m, 40), tolerance=(1e-5, 1e-5),
    )  # fmt: skip


def test_half_precision() -> None:
    graph = linear_gelu_residual("f16", 33, 64, 64)
    check(
        graph, tensor("f16", 1, 33, 64), tensor("f16", 64, 64), tensor("f16", 64),
        tensor("f16", 1, 33, 64), tolerance=(5e-3, 2e-2),
    )  # fmt: skip


def test_batched_matmul_scaled() -> None:
    graph = group_graph(
        "matmul",
        "%a: f32[2, 3, 20, 16], %b: f32[2, 3, 16, 24] strides [1152, 384, 1, 16], %c: f32[3, 1, 1]",
        """
        %p = tensor.matmul(%a, %b) : f32[2, 3, 20, 24]
        %s = tensor.mul(%p, %c) : f32[2, 3, 20, 24]
        return %s
        """,
    )
    b = tensor("f32", 2, 3, 24, 16).transpose(-1, -2)
    check(graph, tensor("f32", 2, 3, 20, 16), b, tensor("f32", 3, 1, 1), tolerance=(1e-5, 1e-5))


def test_heads_and_symbolic_rows() -> None:
    graph = group_graph(
        "matmul",
        "%x: f32[2, s0, 24], %w: f32[32, 24]",
        """
        %p = nn.linear(%x, %w) : f32[2, s0, 32]
        %h = tensor.reshape(%p) {shape = [2, s0, 4, 8]} : f32[2, s0, 4, 8]
        %r = nn.silu(%h) : f32[2, s0, 4, 8]
        return %r, %p
        """,
    )
    check(graph, tensor("f32", 2, 9, 24), tensor("f32", 32, 24), tolerance=(1e-5, 1e-5))


def test_another_element_is_refused() -> None:
    graph = group_graph(
        "matmul",
        "%x: f32[4, 16], %w: f32[32, 16]",
        """
        %p = nn.linear(%x, %w) : f32[4, 32]
        %f = tensor.flip(%p) {dims = [1]} : f32[4, 32]
        return %f
        """,
    )
    assert "another element" in refusal(graph)
