"""The zoo on a GPU: outputs, gradients, decoding, CUDA graphs. Skipped where there is none."""

from __future__ import annotations

import pytest
import torch

from effcomp.api import Role
from tests.models.compiling import Pair, assert_agree
from tests.models.zoo import ZOO, Entry

pytestmark = pytest.mark.gpu
ENTRIES = [pytest.param(entry, id=name) for name, entry in ZOO.items()]


@pytest.fixture(autouse=True)
def _exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 means float32: TF32 would hide what is to be compared."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("entry", ENTRIES)
def test_outputs_are_eagers(entry: Entry) -> None:
    with Pair.of(entry, device="cuda") as pair:
        assert_agree(*pair.run(), pair.dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("entry", ENTRIES)
def test_low_precision_is_as_exact_as_eager(entry: Entry, dtype: torch.dtype) -> None:
    with (
        Pair.of(entry, device="cuda") as exact,
        Pair.of(entry, dtype, device="cuda") as pair,
    ):
        assert_agree(*pair.run(), dtype, truth=exact.run_eager())


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_changed_size_costs_one_compilation(entry: Entry) -> None:
    with Pair.of(entry, device="cuda") as pair:
        for size in ("default", "changed", "default"):
            assert_agree(*pair.run(size=size), pair.dtype)
        assert len(pair.records) <= 2


@pytest.mark.parametrize("entry", ENTRIES)
def test_cuda_graphs_replay(entry: Entry) -> None:
    """Several calls, other inputs among them, and results of earlier calls stay as they were."""
    with Pair.of(entry, device="cuda", mode="reduce-overhead") as pair:
        kept: list[tuple[torch.Tensor, torch.Tensor]] = []
        for size in ("default", "default", "changed", "default"):
            actual, expected = pair.run(size=size)
            assert_agree(actual, expected, pair.dtype)
            kept += [(tensor, tensor.clone()) for tensor in actual]
        for tensor, copy in kept:
            assert torch.equal(tensor, copy)


@pytest.mark.parametrize("name", ["flux", "llama", "bert", "unet"])
def test_gradients_are_eagers(name: str) -> None:
    with Pair.of(ZOO[name], device="cuda") as pair:
        for module in (pair.eager, pair.compiled):
            pair.entry.output(module(**pair.inputs())).float().square().mean().backward()
        assert [record.role for record in pair.records] == [Role.FORWARD, Role.BACKWARD]
    mine = dict(pair.compiled._orig_mod.named_parameters())
    theirs = {n: p for n, p in pair.eager.named_parameters() if p.grad is not None}
    assert_agree([mine[n].grad for n in theirs], [p.grad for p in theirs.values()], torch.float32)


def test_a_cache_advances_in_place() -> None:
    for mode in (None, "reduce-overhead"):
        with Pair.of(ZOO["llama_decode"], device="cuda", mode=mode) as pair:
            for _ in range(4):
                assert_agree(*pair.run(), pair.dtype)
            states = (pair.compiled._orig_mod.cache, pair.eager.cache)
            for mine, theirs in zip(*(state.layers for state in states), strict=True):
                assert_agree((mine.keys, mine.values), (theirs.keys, theirs.values), pair.dtype)
