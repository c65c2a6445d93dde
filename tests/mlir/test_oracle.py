"""IREE runs what effcomp exports, and finds what eager finds: before the passes and after them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from effcomp.capture.exported import capture_exported
from effcomp.ir import Graph
from effcomp.mlir import Dialect, export, export_model
from effcomp.passes.pipelines import pipeline_for
from effcomp.target import TARGETS
from effcomp.testing.tolerance import assert_close, relative_error
from tests.mlir.blocks import BLOCKS, outputs
from tests.mlir.iree_cpu import Compiled

pytest.importorskip("torch_mlir", reason="needs torch-mlir: pip install 'effcomp[mlir]'")
DYNAMIC = torch.export.Dim.DYNAMIC
# Largest error of an element, in float32: IREE approximates tanh to 6e-5.
TOLERANCE = 1e-4


def assert_agree(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert relative_error(found, expected) < TOLERANCE


def captured(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Graph, list[Tensor]]:
    """The graph, and the arguments that its params stand for."""
    with torch.no_grad():
        program = torch.export.export(module, inputs)
    found = capture_exported(program)
    held = {**program.state_dict, **program.constants}
    names = [spec.target for spec in program.graph_signature.input_specs if spec.target]
    return found.graph, [*(held[name] for name in names), *inputs, *found.constants]


def as_captured(graph: Graph) -> Graph:
    return graph


def fused(graph: Graph) -> Graph:
    """After the whole pipeline for a GPU: groups, epilogues, layouts."""
    found = pipeline_for(TARGETS["cuda:90"], training=False, horizontal_rows=64).run(graph).graph
    assert any(op.name.startswith("fused.") for op in found.ops)
    return found


@pytest.mark.parametrize("stage", [as_captured, fused])
@pytest.mark.parametrize("name", BLOCKS)
def test_iree_agrees_with_eager(name: str, stage: Callable[[Graph], Graph]) -> None:
    module, inputs = BLOCKS[name]()
    graph, args = captured(module, inputs)
    found = Compiled(export(stage(graph), "torch"), "torch")(*args)
    with torch.no_grad():
        expected = outputs(module(*inputs))
    for one, other in zip(found, expected, strict=True):
        assert_agree(one, other)


@pytest.mark.parametrize("dialect", ["linalg", "stablehlo", "tosa"])
def test_every_dialect_computes_the_same(dialect: Dialect) -> None:
    module, inputs = BLOCKS["attention"]()
    text = export_model(module, inputs, dialect=dialect)
    (found,) = Compiled(text, dialect)(*inputs)
    with torch.no_grad():
        assert_agree(found, module(*inputs))


def test_sixteen_bits() -> None:
    """As near to the float32 result as float16 is. IREE 3.13 has no bfloat16 products on a CPU."""
    module, (x,) = BLOCKS["attention"]()
    with torch.no_grad():
        truth = module(x)
        text = export_model(module.half(), (x.half(),), dialect="torch")
        (found,) = Compiled(text, "torch")(x.half())
    assert found.dtype is torch.float16
    assert_close(found.float(), truth, "f16")


@pytest.mark.parametrize("dialect", ["linalg", "torch"])
def test_one_text_serves_every_size(dialect: Dialect) -> None:
    """Batch and length are both dynamic: their product appears where linears flatten."""
    module, inputs = BLOCKS["attention"]()
    dynamic = ({0: DYNAMIC, 1: DYNAMIC},)
    compiled = Compiled(
        export_model(module, inputs, dialect=dialect, dynamic_shapes=dynamic), dialect
    )
    for shape in ((3, 5), (2, 9)):
        x = torch.randn(*shape, 32)
        with torch.no_grad():
            assert_agree(compiled(x)[0], module(x))


@pytest.mark.parametrize("dialect", ["linalg", "torch"])
def test_dynamic_sizes_that_a_reshape_joins(dialect: Dialect) -> None:
    class Joined(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            a, b, _ = x.shape
            return x.flatten(0, 1).sum(1).view(a, b) + x.view(a, b * 4, 2).sum((1, 2))[:, None]

    dynamic = ({0: DYNAMIC, 1: DYNAMIC},)
    text = export_model(Joined(), (torch.ones(2, 3, 8),), dialect=dialect, dynamic_shapes=dynamic)
    x = torch.randn(4, 7, 8)
    assert_agree(Compiled(text, dialect)(x)[0], Joined()(x))


def test_what_is_written_to_is_returned_first() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            self.seen[1:3] += x
            return self.seen * 2

    x = torch.tensor([1.0, 2.0])
    found = Compiled(export_model(Counter(), (x,), dialect="torch"), "torch")(torch.ones(4), x)
    assert found[0].tolist() == [1, 2, 3, 1]
    assert found[1].tolist() == [2, 4, 6, 2]
