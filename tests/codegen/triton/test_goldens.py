"""The text of some kernels, and what it must not depend on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from effcomp.ir import Graph, parse_graph, print_graph
from tests.codegen.triton.patterns import PATTERNS
from tests.codegen.triton.running import emitted

GOLDENS = Path(__file__).with_name("goldens")
NAMES = (
    "ada_layer_norm", "concat", "gated_residual", "geglu", "linear_gelu_residual", "rms_norm_rope",
    "symbolic_softmax", "transpose",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str, pytestconfig: pytest.Config) -> None:
    source = emitted(PATTERNS[name]("bf16").ops[0]).kernel.source
    golden = GOLDENS / f"{name}.txt"
    if pytestconfig.getoption("--update-golden"):
        GOLDENS.mkdir(exist_ok=True)
        golden.write_text(source)
    assert source == golden.read_text()


@pytest.mark.parametrize("make", PATTERNS.values(), ids=PATTERNS)
def test_names_and_places_do_not_change_the_kernel(make: Callable[[str], Graph]) -> None:
    graph = make("f16")
    kernel = emitted(graph.ops[0]).kernel
    renamed = parse_graph(print_graph(graph).replace(".py:", ".py:10").replace("%x", "%other"))
    again = emitted(renamed.ops[0]).kernel
    assert again.digest == kernel.digest
    assert replace(again, source="") == replace(kernel, source="")


def test_sizes_of_any_name_give_one_kernel() -> None:
    graph = PATTERNS["symbolic_softmax"]("f32")
    other = parse_graph(print_graph(graph).replace("s0", "s7").replace("s1", "s9"))
    assert emitted(graph.ops[0]).kernel.digest == emitted(other.ops[0]).kernel.digest


def test_types_are_part_of_the_digest() -> None:
    text = """
graph @casts(%x: f16[64]) {
  %0 = fused.pointwise(%x) : f32[64] @casts_kernel(%x: f16[64]) {
    %0 = tensor.convert(%x) {dtype = "f32"} : f32[64]
    return %0
  }
  return %0
}
"""
    one, two = (emitted(parse_graph(t).ops[0]).kernel for t in (text, text.replace("f16", "bf16")))
    assert one.source == two.source
    assert one.digest != two.digest


def test_blocks_are_part_of_the_digest() -> None:
    one, two = (PATTERNS["symbolic_softmax"](d) for d in ("f32", "f16"))
    assert emitted(one.ops[0]).kernel.digest != emitted(two.ops[0]).kernel.digest
