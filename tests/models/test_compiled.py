"""Every model of the zoo, compiled: the same outputs as eager, on the CPU and as a GPU plan."""

from __future__ import annotations

import pytest
import torch

from effcomp.api import Compilation
from effcomp.capture import Role
from effcomp.explanation import report_of
from effcomp.ir import parse_graph, print_graph, verify
from effcomp.plan.serialize import dump_plan, load_plan
from tests.models.compiling import Pair, assert_agree, unlisted
from tests.models.zoo import ZOO, Entry

MODELLED = {"flux", "wan", "llama", "llama_decode"}
SLOW = {"mamba", "unet", "vae"}
ENTRIES = [
    pytest.param(entry, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name, entry in ZOO.items()
]
# An interpreted kernel takes far longer than a compiled one.
GPU_PLAN = {"target": "cuda:90", "regions": "never", "cuda_graphs": "off"}


def _check_texts(record: Compilation) -> None:
    """Graphs and plans are what their texts say."""
    assert record.run is not None
    for stage in record.run.stages:
        text = print_graph(stage.graph)
        again = parse_graph(text)
        verify(again)
        assert print_graph(again) == text
    assert load_plan(dump_plan(record.plan)) == record.plan


@pytest.mark.parametrize("entry", ENTRIES)
def test_outputs_are_eagers(entry: Entry) -> None:
    with Pair.of(entry) as pair:
        assert_agree(*pair.run(), pair.dtype)
        assert [record.role for record in pair.records] == [Role.INFERENCE]
        _check_texts(pair.records[0])
        assert not unlisted(pair.records), "model them, or list them in unmodelled.md"
        if entry.name in MODELLED:
            assert not report_of(pair.records[0]).unmodelled


@pytest.mark.parametrize("entry", ENTRIES)
def test_bfloat16_is_as_exact_as_eager(entry: Entry) -> None:
    with Pair.of(entry) as exact, Pair.of(entry, torch.bfloat16) as pair:
        assert_agree(*pair.run(), pair.dtype, truth=exact.run_eager())


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_gpu_plan_gives_the_same(entry: Entry) -> None:
    """The plan for sm_90, its Triton kernels interpreted."""
    with Pair.of(entry, options=GPU_PLAN) as pair:
        assert_agree(*pair.run(), pair.dtype)
        (record,) = pair.records
        assert record.plan.target == "cuda:90"
        assert any(kernel.kind == "triton" for kernel in record.plan.kernels)


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_changed_size_costs_one_compilation(entry: Entry) -> None:
    with Pair.of(entry) as pair:
        for size in ("default", "changed", "default"):
            assert_agree(*pair.run(size=size), pair.dtype)
        assert len(pair.records) <= 2


@pytest.mark.parametrize("name", ["flux", "llama", "bert", "unet"])
def test_a_changed_batch_and_size_stop_costing(name: str) -> None:
    """Once both are known to change, no combination of them compiles anything."""
    with Pair.of(ZOO[name]) as pair:
        for batch, size in ((2, "default"), (3, "changed")):
            assert_agree(*pair.run(batch=batch, size=size), pair.dtype)
        known = len(pair.records)
        assert known <= 2
        for batch, size in ((4, "default"), (3, "default"), (5, "changed")):
            assert_agree(*pair.run(batch=batch, size=size), pair.dtype)
        assert len(pair.records) == known


@pytest.mark.parametrize("name", ["flux", "llama"])
def test_a_gpu_plan_with_symbols_gives_the_same(name: str) -> None:
    with Pair.of(ZOO[name], options=GPU_PLAN) as pair:
        for batch, size in ((2, "default"), (3, "changed"), (2, "changed")):
            assert_agree(*pair.run(batch=batch, size=size), pair.dtype)
        assert len(pair.records) == 2
        assert pair.records[-1].plan.symbols


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "flux"])
def test_compiled_regions_give_the_same(name: str) -> None:
    """Every fused region as C++, however small."""
    with Pair.of(ZOO[name], options={"regions": "always"}) as pair:
        assert_agree(*pair.run(), pair.dtype)
