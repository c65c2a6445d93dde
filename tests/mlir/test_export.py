"""What the texts say: arguments, weights, sizes, lines; and what the errors say."""

# ruff: noqa: E501

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

import effcomp
from effcomp.capture.exported import capture_exported
from effcomp.errors import MlirError
from effcomp.ir import Graph, parse_graph
from effcomp.mlir import DIALECTS, Dialect, dialects_of, export, export_model
from effcomp.passes.pipelines import pipeline_for
from effcomp.target import TARGETS
from tests.mlir.blocks import BLOCKS

TEXT = """graph @g(%x: f32[s0, 8], %w: weight f32[4, 8], %n: size[s1]) {
  %a = nn.linear(%x, %w) : f32[s0, 4] loc "model.py:3"
  %b = tensor.exp(%a) : f32[s0, 4] loc "model.py:4"
  return %b, %n
}
"""
OPS = {
    "linalg": "linalg.matmul",
    "raw": "torch.aten.mm",
    "stablehlo": "stablehlo.dot",
    "torch": "torch.aten.mm",
    "tosa": "tosa.matmul",
}


@pytest.fixture(autouse=True)
def _torch_mlir() -> None:
    pytest.importorskip("torch_mlir", reason="needs torch-mlir: pip install 'effcomp[mlir]'")


def fixed(text: str) -> Graph:
    return parse_graph(text.replace("s0", "6").replace(", %n: size[s1]", "").replace(", %n", ""))


def signature(text: str) -> str:
    """The line of `@main`, without locations."""
    (line,) = (line for line in text.splitlines() if "func.func @main" in line)
    return re.sub(r' loc\("[^)]*\)', "", line).strip()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_graph_in_every_dialect(dialect: Dialect) -> None:
    text = export(fixed(TEXT), dialect)
    assert OPS[dialect] in text
    assert '"model.py":3:0' in text
    assert text.startswith("// Written by effcomp: @main(%arg0 x, %arg1 w)\n")


def test_sizes_stay_dynamic() -> None:
    assert signature(export(parse_graph(TEXT), "linalg")) == (
        "func.func @main(%arg0: tensor<?x8xf32>, %arg1: tensor<4x8xf32>, %arg2: i64)"
        " -> (tensor<?x4xf32>, i64) {"
    )


def test_weights_become_constants() -> None:
    text = export(fixed(TEXT), "linalg", weights=[torch.ones(4, 8)])
    assert signature(text) == "func.func @main(%arg0: tensor<6x8xf32>) -> tensor<6x4xf32> {"
    assert text.startswith("// Written by effcomp: @main(%arg0 x)\n")
    assert "dense_resource<weight>" in text
    with pytest.raises(MlirError, match="@g has 1 weights, got 2"):
        export(fixed(TEXT), weights=[torch.ones(4, 8)] * 2)
    with pytest.raises(
        MlirError, match=r"weight w of @g is f32\[4, 8\], got torch.float32\[8, 4\]"
    ):
        export(fixed(TEXT), weights=[torch.ones(8, 4)])
    with pytest.raises(MlirError, match=r"4\.0 GiB of weights are too much for a text"):
        export(fixed(TEXT), weights=[torch.empty(2**30, device="meta")])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool, torch.int64])
def test_weights_of_other_types(dtype: torch.dtype) -> None:
    class Taken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("held", torch.tensor([[1, 0], [0, 1]]).to(dtype))

        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x > 0, self.held, self.held.flip(0))

    assert "dense_resource" in export_model(Taken(), (torch.ones(2, 2),), dialect="torch")


def test_every_stage_can_be_exported() -> None:
    module, inputs = BLOCKS["mlp"]()
    program = torch.export.export(module, inputs)
    graph = capture_exported(program).graph
    pipeline = pipeline_for(TARGETS["cuda:90"], training=False, horizontal_rows=64)
    for stage in pipeline.run(graph).stages:
        assert "linalg.matmul" in export(stage.graph, "linalg"), stage.spec


def test_passes_run_first_where_asked_for() -> None:
    module, inputs = BLOCKS["mlp"]()
    plain = export_model(module, inputs, dialect="raw", weights="arguments")
    assert plain.startswith("// Written by effcomp: @main(%arg0 norm_weight, %arg1 norm_bias,")
    fused = export_model(
        module, inputs, dialect="raw", weights="arguments", pipeline="canonicalize,cse"
    )
    assert signature(fused) == signature(plain)


def test_what_is_written_to_is_a_result() -> None:
    text = """graph @g(%cache: f32[4, 2], %x: f32[1, 2], %at: i64[1]) {
      %c = state.index_put(%cache, %x, %at) {dims = [0]} : f32[4, 2]
      %s = tensor.sum(%c) {dims = [0]} : f32[2]
      return %s
    }"""
    assert signature(export(parse_graph(text))).endswith("-> (tensor<4x2xf32>, tensor<2xf32>) {")


# ---- errors ----------------------------------------------------------------------------------


def test_an_unknown_dialect() -> None:
    with pytest.raises(MlirError, match=r"no MLIR dialect 'onnx'; known: linalg, raw, "):
        export(fixed(TEXT), "onnx")  # pyright: ignore[reportArgumentType]


def test_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("effcomp.mlir.driver.find_spec", lambda name: None)
    with pytest.raises(MlirError, match=r"needs torch-mlir: pip install 'effcomp\[mlir\]'"):
        export(fixed(TEXT))


def calling(target: str, types: str = "f32[4, 8]", arguments: str = "#0, 1") -> Graph:
    """A graph of one ATen call."""
    return parse_graph(f"""graph @g(%x: f32[4, 8]) {{
      %y = aten.call(%x) {{args = [{arguments}], target = "{target}", types = ["{types}"]}} : {types} loc "model.py:7"
      return %y
    }}""")


def test_an_op_that_one_dialect_lacks() -> None:
    with pytest.raises(MlirError) as caught:
        export(calling("aten.cumprod.default"), "tosa")
    assert str(caught.value) == (
        "tosa cannot take the graph: aten.cumprod at model.py:7: failed to legalize operation "
        "'torch.aten.cumprod' that was explicitly marked illegal; linalg, raw, torch can"
    )
    assert dialects_of(calling("aten.cumprod.default")) == ("linalg", "raw", "torch")


def test_an_op_is_named_where_its_constants_are_refused() -> None:
    with pytest.raises(MlirError, match=r"aten.cumprod.default at model.py:7: .*constant.int"):
        export(calling("aten.cumprod.default"), "stablehlo")


def test_a_custom_op_is_raw_or_nothing() -> None:
    with torch.library._scoped_library("mlir_tests", "DEF") as library:
        library.define("opaque(Tensor x) -> Tensor")
        library.impl("opaque", torch.empty_like, "Meta")
        graph = calling("mlir_tests.opaque.default", arguments="#0")
        with pytest.raises(MlirError, match=r"mlir_tests.opaque at model.py:7: .*; raw can"):
            export(graph, "linalg")
        assert "torch.mlir_tests.opaque" in export(graph, "raw")


def test_a_custom_op_of_composites_is_taken_apart() -> None:
    with torch.library._scoped_library("mlir_tests", "DEF") as library:
        library.define("composite(Tensor x) -> Tensor")
        library.impl("composite", lambda x: x.exp() + 1, "CompositeImplicitAutograd")
        graph = calling("mlir_tests.composite.default", arguments="#0")
        assert "math.exp" in export(graph, "linalg")


def test_a_type_that_mlir_lacks() -> None:
    text = "graph @g(%x: u64[4]) {\n %y = tensor.neg(%x) : u64[4]\n return %y\n}"
    with pytest.raises(MlirError, match=r"cannot import it: torch.uint64; no dialect can"):
        export(parse_graph(text))


def test_sizes_that_an_op_does_not_leave_open() -> None:
    text = """graph @g(%x: f32[s0, 8], %y: f32[4, 8]) {
      %z = tensor.add(%x, %y) : f32[s0, 8] loc "model.py:2"
      return %z
    }"""
    with pytest.raises(MlirError, match=r"^tensor.add at model.py:2 cannot be traced for MLIR: "):
        export(parse_graph(text))


def test_sizes_that_fit_into_a_table() -> None:
    """What stands for a size while tracing has to be small here."""
    text = """graph @g(%x: f32[s0, 8], %table: weight f32[32, 8]) {
      %t = tensor.slice(%table) {dim = 0, stop = s0} : f32[s0, 8]
      %y = tensor.add(%x, %t) : f32[s0, 8]
      return %y
    }"""
    assert "tensor<?x8xf32>" in signature(export(parse_graph(text)))


def test_sizes_that_depend_on_data() -> None:
    text = """graph @g(%x: f32[4]) {
      %y = aten.call(%x) {args = [#0], target = "aten.nonzero.default", types = ["i64[u0, 1]"]} : i64[u0, 1]
      %n = tensor.iota() {size = u0} : i64[u0]
      return %y, %n
    }"""
    assert signature(export(parse_graph(text))).endswith("(tensor<?x1xi64>, tensor<?xi64>) {")


def test_a_compiled_model() -> None:
    """What its plan was made from; weights are arguments."""
    module, inputs = BLOCKS["mlp"]()
    compiled = effcomp.compile(module, inputs, targets=["cpu"])
    text = export(compiled, "linalg")
    assert text.startswith("// Written by effcomp: @main(%arg0 norm_weight, %arg1 norm_bias,")
    assert "linalg.matmul" in text
