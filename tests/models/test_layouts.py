"""Convolutional models with channels last: the same numbers, and no layout changes in between."""

from __future__ import annotations

import pytest
import torch

from effcomp.api import Compilation
from effcomp.ir import Graph
from effcomp.passes.channels_last import is_channels_last
from effcomp.passes.pipelines import pipeline_for
from effcomp.passes.plan_layout import PlanLayout
from effcomp.rewrite import Pipeline
from effcomp.target import TARGETS
from tests.models.compiling import Pair, assert_agree
from tests.models.zoo import ZOO

TARGET = TARGETS["cuda:90"]
# Copies of activations: the model's input, and the half of the moments that a VAE decodes.
COPIES = {"unet": 1, "vae": 2}


def _options(*, keep_bytes: int) -> dict[str, object]:
    """The GPU's pipeline with every convolution channels last, its kernels interpreted."""
    passes = pipeline_for(TARGET, training=False, horizontal_rows=1024).passes
    layout = PlanLayout(TARGET, min_channels=2, keep_bytes=keep_bytes, float32=True)
    text = Pipeline(tuple(layout if p.name == layout.name else p for p in passes)).text
    return {
        "target": TARGET.name, "pipeline": text, "regions": "never", "cuda_graphs": "off",
    }  # fmt: skip


def _graph(record: Compilation) -> Graph:
    assert record.run is not None
    return record.run.graph


def _copied(graph: Graph) -> list[tuple[object, ...]]:
    """Shapes of what groups copy as it is."""
    return [
        op.result.shape
        for op in graph.ops
        if op.body is not None and [inner.name for inner in op.body.ops] == ["tensor.copy"]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet", "vae"])
@pytest.mark.parametrize("keep_bytes", [0, 1 << 30])
def test_channels_last_gives_the_same(name: str, keep_bytes: int) -> None:
    with Pair.of(ZOO[name], options=_options(keep_bytes=keep_bytes)) as pair:
        assert_agree(*pair.run(), pair.dtype)
        (record,) = pair.records
    graph = _graph(record)
    convs = [op for op in graph.ops if op.name == "nn.conv"]
    assert convs
    assert all(is_channels_last(v) for op in convs for v in (*op.operands[:2], op.result))
    assert record.executable is not None
    assert not [note for note in record.executable.notes if "strides" in note]
    weights = sum(op.operands[1].shape[2:] != (1, 1) for op in convs)
    assert len(_copied(graph)) == COPIES[name] + (weights if keep_bytes == 0 else 0)


@pytest.mark.slow
def test_float16_is_as_exact_as_eager() -> None:
    entry, options = ZOO["unet"], _options(keep_bytes=0)
    with (
        Pair.of(entry) as exact,
        Pair.of(entry, torch.float16, options=options) as pair,
    ):
        assert_agree(*pair.run(), pair.dtype, truth=exact.run_eager())


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["unet", "vae"])
def test_cudnn_returns_the_layouts_that_plans_state(name: str) -> None:
    with Pair.of(ZOO[name], torch.float16, device="cuda") as pair:
        pair.run()
        (record,) = pair.records
    convs = [op for op in _graph(record).ops if op.name == "nn.conv"]
    assert any(is_channels_last(op.result) for op in convs)
    assert record.executable is not None
    assert not [note for note in record.executable.notes if "strides" in note]
