"""Row-wise groups: the same numbers as the reference, in registers and in passes."""

from __future__ import annotations

import pytest

from tests.codegen.triton.running import check, group_graph, refusal, tensor

NAN = float("nan")


def test_ada_layer_norm() -> None:
    graph = group_graph(
        "rowwise",
        "%x: f16[2, 6, 40], %scale: f16[2, 40], %shift: f16[2, 40]",
        """
        %n = nn.layer_norm(%x) {eps = 1e-06} : f16[2, 6, 40]
        %one = tensor.constant() {value = 1.0, dtype = "f16"} : f16[]
        %s = tensor.add(%scale, %one) : f16[2, 40]
        %s1 = tensor.reshape(%s) {shape = [2, 1, 40]} : f16[2, 1, 40]
        %m = tensor.mul(%n, %s1) : f16[2, 6, 40]
        %t1 = tensor.reshape(%shift) {shape = [2, 1, 40]} : f16[2, 1, 40]
        %r = tensor.add(%m, %t1) : f16[2, 6, 40]
        return %r
        """,
    )
    check(graph, tensor("f16", 2, 6, 40), tensor("f16", 2, 40), tensor("f16", 2, 40))


def test_rms_norm_and_rope() -> None:
    graph = group_graph(
        "rowwise",
        "%x: f32[2, 5, 24], %w: f32[8], %cos: f32[5, 1, 8], %sin: f32[5, 1, 8]",
        """
        %h = tensor.reshape(%x) {shape = [2, 5, 3, 8]} : f32[2, 5, 3, 8]
        %n = nn.rms_norm(%h, %w) {eps = 1e-05} : f32[2, 5, 3, 8]
        %lo = tensor.slice(%n) {dim = 3, start = 0, stop = 4} : f32[2, 5, 3, 4]
        %hi = tensor.slice(%n) {dim = 3, start = 4, stop = 8} : f32[2, 5, 3, 4]
        %neg = tensor.neg(%hi) : f32[2, 5, 3, 4]
        %turned = tensor.concat(%neg, %lo) {dim = 3} : f32[2, 5, 3, 8]
        %a = tensor.mul(%n, %cos) : f32[2, 5, 3, 8]
        %b = tensor.mul(%turned, %sin) : f32[2, 5, 3, 8]
        %r = tensor.add(%a, %b) : f32[2, 5, 3, 8]
        return %r
        """,
    )
    check(
        graph, tensor("f32", 2, 5, 24), tensor("f32", 8), tensor("f32", 5, 1, 8),
        tensor("f32", 5, 1, 8),
    )  # fmt: skip


def test_masked_softmax() -> None:
    graph = group_graph(
        "rowwise",
        "%x: f32[2, 3, 7, 19], %mask: bool[7, 19]",
        """
        %off = tensor.constant() {value = float(-inf), dtype = "f32"} : f32[]
        %k = tensor.constant() {value = 0.125, dtype = "f32"} : f32[]
        %s = tensor.mul(%x, %k) : f32[2, 3, 7, 19]
        %m = tensor.where(%mask, %s, %off) : f32[2, 3, 7, 19]
        %p = nn.softmax(%m) {dim = -1} : f32[2, 3, 7, 19]
        return %p
        """,
    )
    mask = tensor("bool", 7, 19)
    mask[3] = False
    check(graph, tensor("f32", 2, 3, 7, 19), mask)


def test_group_norm_and_silu() -> None:
    graph = group_graph(
        "rowwise",
        "%x: f32[2, 6, 4, 5], %w: f32[6], %b: f32[6]",
        """
        %g = tensor.reshape(%x) {shape = [2, 3, 40]} : f32[2, 3, 40]
        %n = nn.layer_norm(%g) {eps = 1e-05} : f32[2, 3, 40]
        %f = tensor.reshape(%n) {shape = [2, 6, 4, 5]} : f32[2, 6, 4, 5]
        %w1 = tensor.reshape(%w) {shape = [6, 1, 1]} : f32[6, 1, 1]
        %b1 = tensor.reshape(%b) {shape = [6, 1, 1]} : f32[6, 1, 1]
        %m = tensor.mul(%f, %w1) : f32[2, 6, 4, 5]
        %a = tensor.add(%m, %b1) : f32[2, 6, 4, 5]
        %r = nn.silu(%a) : f32[2, 6, 4, 5]
        return %r
        """,
    )
    check(graph, tensor("f32", 2, 6, 4, 5), tensor("f32", 6), tensor("f32", 6))


def test_residual_and_layer_norm_give_both() -> None:
    graph = group_graph(
        "rowwise",
        "%x: f32[7, 33], %y: f32[7, 33], %w: f32[33], %b: f32[33]",
        """
        %s = tensor.add(%x, %y) : f32[7, 33]
        %n = nn.layer_norm(%s, %w, %b) {eps = 1e-05} : f32[7, 33]
        return %s, %n
        """,
    )
    check(graph, tensor("f32", 7, 33), tensor("f32", 7, 33), tensor("f32", 33), tensor("f32", 33))


@pytest.mark.parametrize("columns", [1, 5, 64, 5000])
@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin", "prod"])
def test_reductions(name: str, columns: int) -> None:
    graph = group_graph(
        "rowwise",
        f"%x: f32[3, {columns}]",
        f"""
        %r = tensor.{name}(%x) {{dims = [1], keepdim = true}} : f32[3, 1]
        return %r
        """,
    )
    x = tensor("f32", 3, columns)
    if name in ("amax", "amin"):
        x[1, columns // 2] = NAN
    if name == "prod":
        x = 1 + x / columns
    check(graph, x, tolerance=(1e-5, 1e-4))


@pytest.mark.parametrize("dtype", ["i64", "i32", "u8", "f32", "bool"])
@pytest.mark.parametrize("name", ["any", "all"])
def test_logical_reductions(name: str, dtype: str) -> None:
    graph = group_graph(
        "rowwise",
        f"%x: {dtype}[6, 3, 4]",
        f"""
        %r = tensor.{name}(%x) {{dims = [1, 2]}} : bool[6]
        return %r
        """,
    )
    x = tensor(dtype, 6, 3, 4)
    x[0], x[1] = 0, 1
    check(graph, x)


@pytest.mark.parametrize("dtype", ["i64", "i16", "f32"])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions_of_extremes(name: str, dtype: str) -> None:
    graph = group_graph(
        "rowwise",
        f"%x: {dtype}[4, 37]",
        f"""
        %r = tensor.{name}(%x) {{dim = 1}} : i64[4]
        return %r
        """,
    )
    x = tensor(dtype, 4, 37)
    x[0, 5] = x[0, 20] = 50
    if dtype == "f32":
        x[1, 30] = x[1, 31] = NAN
    check(graph, x)


def test_columns_that_are_strided() -> None:
    graph = group_graph(
        "rowwise",
        "%x: f32[2, 9, 50]",
        """
        %p = nn.log_softmax(%x) {dim = 1} : f32[2, 9, 50]
        %m = tensor.amax(%x) {dims = [1]} : f32[2, 50]
        return %p, %m
        """,
    )
    check(graph, tensor("f32", 2, 9, 50))


def test_dims_apart() -> None:
    graph = group_graph(
        "rowwise",
        "%x: f32[3, 8, 5]",
        """
        %s = tensor.sum(%x) {dims = [0, 2], keepdim = true} : f32[1, 8, 1]
        %d = tensor.sub(%x, %s) : f32[3, 8, 5]
        return %d, %s
        """,
    )
    check(graph, tensor("f32", 3, 8, 5))


@pytest.mark.parametrize("symbolic", [False, True])
def test_long_rows(symbolic: bool) -> None:
    n = "s1" if symbolic else "20000"
    rows = "s0" if symbolic else "2"
    graph = group_graph(
        "rowwise",
        f"%x: f32[{rows}, {n}], %w: f32[{n}]",
        f"""
        %n = nn.layer_norm(%x, %w) {{eps = 1e-05}} : f32[{rows}, {n}]
        %p = nn.softmax(%n) {{dim = 1}} : f32[{rows}, {n}]
        %m = tensor.amax(%p) {{dims = [1]}} : f32[{rows}]
        return %p, %m, %n
        """,
    )
    size = 5000 if symbolic else 20000
    check(graph, tensor("f32", 2, size), tensor("f32", size), tolerance=(1e-5, 1e-5))


def test_long_masked_softmax_and_argmax() -> None:
    graph = group_graph(
        "rowwise",
        "%x: f32[3, 20000], %mask: bool[3, 20000]",
        """
        %off = tensor.constant() {value = float(-inf), dtype = "f32"} : f32[]
        %m = tensor.where(%mask, %x, %off) : f32[3, 20000]
        %p = nn.softmax(%m) {dim = -1} : f32[3, 20000]
        %a = tensor.argmax(%m) {dim = 1, keepdim = true} : i64[3, 1]
        return %p, %a
        """,
    )
    mask = tensor("bool", 3, 20000)
    mask[1] = False
    mask[0, :9000] = False
    check(graph, tensor("f32", 3, 20000), mask)


def test_decomposed_layer_norm() -> None:
    graph = group_graph(
        "rowwise",
        "%x: f16[5, 48]",
        """
        %f = tensor.convert(%x) {dtype = "f32"} : f32[5, 48]
        %m = tensor.mean(%f) {dims = [1], keepdim = true} : f32[5, 1]
        %d = tensor.sub(%f, %m) : f32[5, 48]
        %q = tensor.mul(%d, %d) : f32[5, 48]
        %v = tensor.mean(%q) {dims = [-1], keepdim = true} : f32[5, 1]
        %e = tensor.constant() {value = 1e-05, dtype = "f32"} : f32[]
        %a = tensor.add(%v, %e) : f32[5, 1]
        %s = tensor.rsqrt(%a) : f32[5, 1]
        %n = tensor.mul(%d, %s) : f32[5, 48]
        %r = tensor.convert(%n) {dtype = "f16"} : f16[5, 48]
        return %r
        """,
    )
    check(graph, tensor("f16", 5, 48))


def test_another_row_is_refused() -> None:
    graph = group_graph(
        "rowwise",
        "%x: f32[4, 8]",
        """
        %n = nn.softmax(%x) {dim = 1} : f32[4, 8]
        %f = tensor.flip(%n) {dims = [0]} : f32[4, 8]
        return %f
        """,
    )
    assert "another row" in refusal(graph)


def test_few_long_rows_are_refused() -> None:
    graph = group_graph(
        "rowwise",
        "%x: f32[1000000]",
        """
        %s = tensor.sum(%x) {dims = [0]} : f32[]
        return %s
        """,
    )
    assert "idle" in refusal(graph)


def test_rows_of_no_columns_are_refused() -> None:
    graph = group_graph(
        "rowwise",
        "%x: f32[4, 0]",
        """
        %s = tensor.sum(%x) {dims = [1]} : f32[4]
        return %s
        """,
    )
    assert "no columns" in refusal(graph)


def test_dtypes_without_arithmetic_are_refused() -> None:
    graph = group_graph(
        "rowwise",
        "%x: f8e4m3[4, 8]",
        """
        %s = nn.softmax(%x) {dim = 1} : f8e4m3[4, 8]
        return %s
        """,
    )
    assert "f8e4m3" in refusal(graph)
