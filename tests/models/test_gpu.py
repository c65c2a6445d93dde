"""The zoo on a GPU: outputs, gradients, decoding, CUDA graphs. Skipped where there is none.

Compiling takes the time here, so a compiled model is asked for all that it should do.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch

from effcomp.capture import Role
from effcomp.plan.schema import Launch
from tests.models.compiling import Pair, assert_agree
from tests.models.zoo import ZOO, Entry

pytestmark = pytest.mark.gpu
ENTRIES = [pytest.param(entry, id=name) for name, entry in ZOO.items()]
BF16 = torch.bfloat16
MANY = 32
"""Rows of a batch: with two, the errors of equally good roundings differ by a factor of two."""


@pytest.fixture(autouse=True)
def _exact_products() -> Iterator[None]:
    """Float32 means float32: TF32 would hide what is to be compared."""
    flags = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = False
    yield
    for flag, allowed in zip(flags, before, strict=True):
        flag.allow_tf32 = allowed


@pytest.fixture(autouse=True)
def _memory_is_given_back() -> Iterator[None]:
    yield
    torch.cuda.empty_cache()


@pytest.fixture
def _without_cudnn_attention() -> Iterator[None]:
    """cuDNN's is suspected of an illegal access in a compiled backward pass on torch 2.11.

    That would fail every later test of the process.
    """
    enabled = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    yield
    torch.backends.cuda.enable_cudnn_sdp(enabled)


def _check_plans(pair: Pair) -> None:
    for record in pair.records:
        assert record.plan.target.startswith("cuda:")
        assert any(isinstance(step, Launch) for step in record.plan.steps), "no kernel is launched"
        assert record.executable is not None
        for note in record.executable.notes:
            # A result in other strides than stated costs a copy, and is right all the same.
            warnings.warn(f"{pair.entry.name}: {note}", stacklevel=2)
            assert not note.startswith("argument"), note


@pytest.mark.parametrize("entry", ENTRIES)
def test_outputs_are_eagers(entry: Entry) -> None:
    with Pair.of(entry, device="cuda") as pair:
        for _ in range(2):
            assert_agree(*pair.run(), pair.dtype)
        _check_plans(pair)
        assert len(pair.records) == 1


@pytest.mark.parametrize("entry", ENTRIES)
def test_bfloat16_replays_as_exactly_as_eager(entry: Entry) -> None:
    """With CUDA graphs: the third call replays, and results of earlier calls stay as they were."""
    with (
        Pair.of(entry, device="cuda") as exact,
        Pair.of(entry, BF16, device="cuda", mode="reduce-overhead") as pair,
    ):
        request = {} if entry.name == "llama_decode" else {"batch": MANY}  # its cache holds 2
        kept: list[tuple[torch.Tensor, torch.Tensor]] = []
        for _ in range(3):
            actual, expected = pair.run(**request)
            assert_agree(actual, expected, BF16, truth=exact.run_eager(**request))
            kept += [(tensor, tensor.clone()) for tensor in actual]
        for tensor, copy in kept:
            assert torch.equal(tensor, copy)
        _check_plans(pair)


@pytest.mark.parametrize("name", ["unet", "vit", "t5"])
def test_float16_is_as_exact_as_eager(name: str) -> None:
    with (
        Pair.of(ZOO[name], device="cuda") as exact,
        Pair.of(ZOO[name], torch.float16, device="cuda") as pair,
    ):
        truth = exact.run_eager(batch=MANY)
        assert_agree(*pair.run(batch=MANY), torch.float16, truth=truth)


@pytest.mark.parametrize("mode", [None, "reduce-overhead"])
@pytest.mark.parametrize("name", ["flux", "llama", "unet"])
def test_a_changed_size_costs_one_compilation(name: str, mode: str | None) -> None:
    with Pair.of(ZOO[name], device="cuda", mode=mode) as pair:
        for size in ("default", "changed", "default", "changed", "default"):
            assert_agree(*pair.run(size=size), pair.dtype)
        assert len(pair.records) <= 2


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("flux", torch.float32), ("flux", BF16), ("llama", torch.float32), ("unet", torch.float32)],
)
@pytest.mark.usefixtures("_without_cudnn_attention")
def test_gradients_are_eagers(name: str, dtype: torch.dtype) -> None:
    gradients: list[dict[str, torch.Tensor | None]] = []
    with Pair.of(ZOO[name], dtype, device="cuda") as pair:
        exact = ZOO[name].build(device="cuda")
        for module, kind in ((pair.compiled, dtype), (pair.eager, dtype), (exact, torch.float32)):
            feed = pair.inputs() if kind is dtype else _exact_inputs(pair)
            if dtype is torch.float32:
                feed = _with_small_angles(feed)
            pair.entry.output(module(**feed)).float().square().mean().backward()
            named = getattr(module, "_orig_mod", module).named_parameters()
            gradients.append({n: p.grad for n, p in named})
        assert [record.role for record in pair.records] == [Role.FORWARD, Role.BACKWARD]
    mine, theirs, truth = gradients
    names = [n for n, grad in theirs.items() if grad is not None]
    found, expected = [mine[n] for n in names], [theirs[n] for n in names]
    if dtype is torch.float32:
        assert_agree(found, expected, dtype)
        return
    for n in names:
        # One parameter's gradient is small enough for luck to count: all of them decide.
        assert mine[n] is not None, n
        assert mine[n].dtype is dtype, n
    wide = torch.cat([truth[n].flatten() for n in names])
    flat = [torch.cat([g.float().flatten() for g in grads]) for grads in (found, expected)]
    error, own = ((f - wide).norm() / wide.norm() for f in flat)
    assert error <= 1.25 * own, f"error {error:.1e}, eager's {own:.1e}"


def _with_small_angles(feed: dict[str, object]) -> dict[str, object]:
    """FLUX takes sines of its times times 1,000: angles of 4,000, and one of these that is off by
    its last place moves gradients by 5e-4. Times of a thousandth leave 3e-6 of that.
    """
    times = {"timestep", "guidance"}
    return {
        name: value * 1e-3
        if name in times and isinstance(value, torch.Tensor) and value.is_floating_point()
        else value
        for name, value in feed.items()
    }


def _exact_inputs(pair: Pair) -> dict[str, object]:
    return {
        name: value.cuda() if isinstance(value, torch.Tensor) else value
        for name, value in pair.entry.inputs(dtype=torch.float32).items()
    }


@pytest.mark.parametrize("mode", [None, "reduce-overhead"])
def test_a_cache_advances_in_place(mode: str | None) -> None:
    with Pair.of(ZOO["llama_decode"], device="cuda", mode=mode) as pair:
        for _ in range(4):
            assert_agree(*pair.run(), pair.dtype)
        states = (pair.compiled._orig_mod.cache, pair.eager.cache)
        for mine, theirs in zip(*(state.layers for state in states), strict=True):
            assert_agree((mine.keys, mine.values), (theirs.keys, theirs.values), pair.dtype)
        (record,) = pair.records
        assert record.executable is not None
        assert not [n for n in record.executable.notes if "no CUDA graph" in n and mode]
