"""Every elementwise op, on every dtype it takes, at ordinary and at edge values."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from effcomp.ir import SPECS, Graph, Trait
from tests.codegen.triton.running import DTYPES, check, group_graph

INF, NAN = float("inf"), float("nan")
SPECIAL = {"tensor.constant", "tensor.convert", "tensor.where", "tensor.dim"}
OPS = sorted(n for n, s in SPECS.items() if Trait.ELEMENTWISE in s.traits and n not in SPECIAL)
UNARY = [n for n in OPS if len(SPECS[n].operands) == 1]
BINARY = [n for n in OPS if len(SPECS[n].operands) == 2]
FLOAT_ONLY = {
    "tensor.exp", "tensor.exp2", "tensor.expm1", "tensor.log", "tensor.log2", "tensor.log1p",
    "tensor.sqrt", "tensor.rsqrt", "tensor.reciprocal", "tensor.sin", "tensor.cos", "tensor.tan",
    "tensor.tanh", "tensor.sigmoid", "tensor.erf", "nn.gelu", "nn.silu", "nn.softplus",
    "tensor.div", "tensor.atan2",
}  # fmt: skip
INT_ONLY = {"tensor.shift_left", "tensor.shift_right"}
BITS = {"tensor.bitwise_and", "tensor.bitwise_or", "tensor.bitwise_xor", "tensor.bitwise_not"}
ON_BOOL = BITS | {
    "tensor.logical_not", "tensor.logical_and", "tensor.logical_or", "tensor.eq", "tensor.ne",
    "tensor.lt", "tensor.le", "tensor.gt", "tensor.ge", "tensor.add", "tensor.mul",
    "tensor.maximum", "tensor.minimum", "tensor.sign",
}  # fmt: skip
INTS = ("i64", "i32", "i16", "i8", "u8")
EDGES = [
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, 1e-4, -1e-4, 1e-7, 3e-8, -3e-8, 0.3, 0.62,
    0.63, -0.7, 5.0, -7.3, 11.7, 20.5, -30.0, 88.0, -100.0, 1e4, -1e4, INF, -INF, NAN,
]  # fmt: skip


def dtypes_of(name: str) -> list[str]:
    floats = [] if name in INT_ONLY | BITS else ["f32", "f64", "f16"]
    ints = [] if name in FLOAT_ONLY else list(INTS)
    return floats + ints + (["bool"] if name in ON_BOOL else [])


def one_op(name: str, dtypes: tuple[str, ...], result: str, size: int, attrs: str = "") -> Graph:
    params = ", ".join(f"%x{i}: {d}[{size}]" for i, d in enumerate(dtypes))
    operands = ", ".join(f"%x{i}" for i in range(len(dtypes)))
    body = f"%r = {name}({operands}){attrs} : {result}[{size}]\nreturn %r"
    return group_graph("pointwise", params, body)


def result_of(name: str, dtype: str) -> str:
    returns_bool = SPECS[name].doc.startswith("whether") or name in (
        "tensor.logical_not", "tensor.logical_and", "tensor.logical_or", "tensor.eq", "tensor.ne",
        "tensor.lt", "tensor.le", "tensor.gt", "tensor.ge",
    )  # fmt: skip
    return "bool" if returns_bool else dtype


def values(dtype: str) -> list[float | int | bool]:
    if dtype == "bool":
        return [False, True]
    if dtype in INTS:
        info = torch.iinfo(DTYPES[dtype])
        return [v for v in (0, 1, -1, 2, 3, -3, 7, -8, 100, info.max, info.min) if v >= info.min]
    return list(EDGES)


def accuracy(name: str, dtype: str) -> tuple[float, float] | None:
    if dtype == "f32" and name in ("tensor.tan", "tensor.rsqrt"):
        return 1e-5, 1e-6
    if dtype == "f64" and name in ("tensor.pow", "tensor.tan"):
        return 1e-11, 1e-12
    return None


@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str) -> None:
    for dtype in dtypes_of(name):
        given = [v for v in values(dtype) if name != "nn.gelu" or abs(v) != INF]  # torch: NaN there
        x = torch.tensor(given, dtype=DTYPES[dtype])
        graph = one_op(name, (dtype,), result_of(name, dtype), len(x))
        check(graph, x, tolerance=accuracy(name, dtype))


@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str) -> None:
    for dtype in dtypes_of(name):
        pairs = [p for p in itertools.product(values(dtype), repeat=2) if fits(name, dtype, *p)]
        a, b = (torch.tensor(list(v), dtype=DTYPES[dtype]) for v in zip(*pairs, strict=True))
        graph = one_op(name, (dtype, dtype), result_of(name, dtype), len(a))
        check(graph, a, b, tolerance=accuracy(name, dtype))


def fits(name: str, dtype: str, a: float, b: float) -> bool:
    """Whether torch defines the result, and it is no matter of how a quotient rounds."""
    divides = name in ("tensor.floor_divide", "tensor.trunc_divide", "tensor.remainder")
    if dtype in INTS:
        if divides:
            return b != 0 and not (b == -1 and a == torch.iinfo(DTYPES[dtype]).min)
        return "shift" not in name or 0 <= b < torch.iinfo(DTYPES[dtype]).bits
    if divides:
        return abs(a) < 1e3 and 1e-3 < abs(b) < 1e4 and not near_whole(a, b)
    return True


def near_whole(a: float, b: float) -> bool:
    """Whether a / b is so close to an integer that how it is rounded decides."""
    return math.fmod(a, b) != 0 and abs(a / b - round(a / b)) <= 4e-3 * abs(a / b)


@pytest.mark.parametrize("target", ["f64", "f32", "f16", "i64", "i32", "i16", "i8", "u8", "bool"])
def test_convert(target: str) -> None:
    for source in ("f64", "f32", "f16", *INTS, "bool"):
        given = values(source)
        if target in INTS and source not in (*INTS, "bool"):
            least = 0 if target == "u8" else -100
            given = [v for v in given if least <= v <= 100]  # beyond is undefined
        x = torch.tensor(given, dtype=DTYPES[source])
        graph = one_op("tensor.convert", (source,), target, len(x), f' {{dtype = "{target}"}}')
        check(graph, x, tolerance=(0, 0))


def test_where_with_constants() -> None:
    for dtype, value in (("f32", "0.1"), ("f64", "0.1"), ("i64", "7"), ("u8", "200"), ("i8", "-3")):
        graph = group_graph(
            "pointwise",
            f"%c: bool[4], %x: {dtype}[4]",
            f"""
            %k = tensor.constant() {{value = {value}, dtype = "{dtype}"}} : {dtype}[]
            %w = tensor.where(%c, %x, %k) : {dtype}[4]
            %s = tensor.add(%w, %k) : {dtype}[4]
            %m = tensor.maximum(%k, %s) : {dtype}[4]
            return %m
            """,
        )
        x = torch.tensor([1, 2, 3, 4]).to(DTYPES[dtype])
        check(graph, torch.tensor([True, False, True, False]), x, tolerance=(0, 0))


@pytest.mark.parametrize("exponent", [0.0, 0.5, -0.5, 1.0, 2.0, 3.0, -1.0, -2.0, 2.5])
def test_constant_powers(exponent: float) -> None:
    graph = group_graph(
        "pointwise",
        f"%x: f32[{len(EDGES)}]",
        f"""
        %k = tensor.constant() {{value = {exponent}, dtype = "f32"}} : f32[]
        %r = tensor.pow(%x, %k) : f32[{len(EDGES)}]
        return %r
        """,
    )
    check(graph, torch.tensor(EDGES))


@pytest.mark.parametrize("dtype", ["f32", "f64", "f16"])
def test_variants(dtype: str) -> None:
    x = torch.tensor(EDGES, dtype=DTYPES[dtype])
    for name, attrs in (
        ("nn.gelu", ' {approximate = "tanh"}'),
        ("nn.softplus", " {beta = 0.5, threshold = 3.0}"),
    ):
        check(one_op(name, (dtype,), dtype, len(x), attrs), x)


def test_sizes_as_numbers() -> None:
    graph = group_graph(
        "pointwise",
        "%x: f32[s0, 3]",
        """
        %n = tensor.dim() {value = s0 * 2, dtype = "f32"} : f32[]
        %r = tensor.div(%x, %n) : f32[s0, 3]
        return %r
        """,
    )
    check(graph, torch.randn(5, 3))


def test_a_constant_alone() -> None:
    graph = group_graph(
        "pointwise",
        "%x: f16[3]",
        """
        %f = tensor.full() {shape = [3], value = 0.1, dtype = "f16"} : f16[3]
        %k = tensor.constant() {value = 3.0, dtype = "f16"} : f16[]
        %p = tensor.mul(%k, %k) : f16[]
        %q = tensor.broadcast(%p) {shape = [3]} : f16[3]
        %r = tensor.add(%q, %f) : f16[3]
        return %r, %f
        """,
    )
    x = torch.zeros(3, dtype=torch.float16)
    check(graph, x)
