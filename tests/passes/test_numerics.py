"""Every golden computes the same before and after, through the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from effcomp.ir import Graph, TensorType, Value
from effcomp.reference import evaluate
from effcomp.testing import GoldenCase, golden_cases

SIZES = {"s0": 6, "s1": 5, "s2": 4, "u0": 4}
DTYPES = {
    "f64": torch.float64, "f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16,
    "i64": torch.int64, "i32": torch.int32, "i8": torch.int8, "u8": torch.uint8,
    "bool": torch.bool,
}  # fmt: skip
# Passes that compute the same thing in another order, and how far that may lead, by dtype.
INEXACT = {"decompose", "fuse-attention", "fuse-horizontal", "split-norms"}
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3, torch.float64: 1e-12}


def _size(dim: object, sizes: Mapping[str, int]) -> int:
    return (
        dim if isinstance(dim, int) else int(dim.subs({s: sizes[s.name] for s in dim.free_symbols}))
    )  # type: ignore[attr-defined]


def argument(value: Value, seed: int) -> torch.Tensor | int:
    """A made-up argument for a param; integers are small, so that they may be indices."""
    if not isinstance(value.type, TensorType):
        return _size(value.type.expr, SIZES)
    random = torch.Generator().manual_seed(seed)
    shape = tuple(_size(d, SIZES) for d in value.shape)
    dtype = DTYPES[value.dtype]
    if dtype is torch.bool:
        return torch.randint(0, 2, shape, generator=random).bool()
    if not dtype.is_floating_point:
        return torch.randint(0, 2, shape, generator=random).to(dtype)
    tensor = torch.randn(shape, generator=random).to(dtype)
    if tensor.numel() > 2:  # signs of zero are part of the numbers
        tensor.view(-1)[:2] = torch.tensor([0.0, -0.0], dtype=dtype)
    return tensor


def run(graph: Graph) -> tuple[list[object], list[object]]:
    """Outputs, and the arguments as the program left them."""
    args = [argument(v, seed) for seed, v in enumerate(graph.params)]
    return list(evaluate(graph, args)), list(args)


def _same(a: object, b: object, exact: bool) -> None:
    if not isinstance(a, torch.Tensor):
        assert a == b
        return
    assert isinstance(b, torch.Tensor)
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    if exact or not a.dtype.is_floating_point:
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
        if a.dtype.is_floating_point:
            assert torch.equal(torch.signbit(a), torch.signbit(b))
    else:
        limit = TOLERANCE[a.dtype]
        torch.testing.assert_close(a, b, rtol=limit, atol=limit, equal_nan=True)


@pytest.mark.parametrize("case", golden_cases(Path(__file__).parent), ids=lambda c: c.id)
def test_numbers_stay(case: GoldenCase) -> None:
    before = case.before
    if any(op.attrs.get("effects") for op in before.ops):
        pytest.skip("its random numbers differ from run to run")
    exact = not INEXACT & set(case.pipeline.replace("{", ",").split(","))
    old, new = run(before), run(case.run().graph)
    for olds, news in zip(old, new, strict=True):
        for a, b in zip(olds, news, strict=True):
            _same(a, b, exact)
