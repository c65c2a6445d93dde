"""Arithmetic, comparisons and activations, each group in one graph."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from effcomp.capture.dtypes import common_dtype
from effcomp.dtypes import DTYPE_NAMES
from effcomp.ir import TensorType, Value
from tests.capture.recording import calls, check, unmodelled

UNARY = (
    torch.neg,
    torch.abs,
    torch.sign,
    torch.floor,
    torch.ceil,
    torch.trunc,
    torch.round,
    torch.relu,
    torch.exp,
    torch.exp2,
    torch.expm1,
    torch.sin,
    torch.cos,
    torch.tan,
    torch.tanh,
    torch.sigmoid,
    torch.erf,
    torch.isnan,
    torch.isinf,
    torch.isfinite,
    torch.logical_not,
    torch.square,
)
POSITIVE = (
    torch.log,
    torch.log2,
    torch.log1p,
    torch.sqrt,
    torch.rsqrt,
    torch.reciprocal,
)
ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "softplus": F.softplus,
    "softplus_2": lambda x: F.softplus(x, beta=2, threshold=1),
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "elu_2": lambda x: F.elu(x, 2.0),
    "selu": F.selu,
    "celu": F.celu,
    "hardtanh": F.hardtanh,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "mish": F.mish,
    "glu": F.glu,
    "logsigmoid": F.logsigmoid,
    "tanhshrink": F.tanhshrink,
    "softsign": F.softsign,
    "threshold": lambda x: F.threshold(x, 0.1, 2),
}


def test_unary() -> None:
    def function(x: Tensor, y: Tensor) -> list[Tensor]:
        return [f(x) for f in UNARY] + [f(y) for f in POSITIVE]

    x = torch.tensor([-2.5, -1.5, -0.3, 0.0, 0.5, 1.5, math.inf, math.nan])
    recorder = check(function, x, torch.rand(5) + 0.1)
    assert not unmodelled(recorder.graph())


def test_integers_become_floats() -> None:
    def function(x: Tensor, flags: Tensor) -> list[Tensor]:
        floats = [torch.exp(x), torch.sigmoid(flags), torch.rsqrt(x), x / 2, x / x, flags / 2]
        return [*floats, torch.neg(x), torch.abs(x), torch.relu(x), ~x, ~flags]

    recorder = check(function, torch.arange(1, 7), torch.tensor([True, False]))
    assert not unmodelled(recorder.graph())


def test_activations() -> None:
    def function(x: Tensor) -> dict[str, Tensor]:
        return {name: f(x) for name, f in ACTIVATIONS.items()}

    recorder = check(function, torch.linspace(-4, 4, 24).reshape(3, 8))
    assert not unmodelled(recorder.graph())
    assert len(calls(recorder.graph(), "nn.gelu")) == 2


def test_binary() -> None:
    def function(x: Tensor, y: Tensor, i: Tensor, j: Tensor) -> dict[str, Tensor]:
        return {
            "add": torch.add(x, y, alpha=2),
            "sub": torch.sub(x, y, alpha=0.5),
            "rsub": 2 - x,
            "rsub_alpha": torch.rsub(x, y, alpha=3),
            "mul": x * y,
            "div": x / y,
            "floor": torch.div(x, y, rounding_mode="floor"),
            "floor_ints": i // j,
            "trunc": torch.div(i, j, rounding_mode="trunc"),
            "remainder": x % y,
            "ints": i % j,
            "scalar_remainder": i % 3,
            "from_scalar": 7 % j,
            "pow": x.abs() ** y,
            "cube": x**3,
            "of_two": 2**y,
            "ints_pow": i**2,
            "maximum": torch.maximum(x, y),
            "minimum": torch.minimum(x, y),
            "atan2": torch.atan2(x, y),
            "and": i & j,
            "or": i | 5,
            "xor": i ^ j,
            "left": i << 2,
            "right": j >> 1,
            "addcmul": torch.addcmul(x, x, y, value=2),
            "addcdiv": torch.addcdiv(x, x, y),
            "lerp": torch.lerp(x, y, 0.3),
        }

    x, y = torch.randn(4, 3), torch.rand(3) + 0.5
    i, j = torch.tensor([-7, 8, 9, -4]), torch.tensor([2, 3, -4, 5])
    recorder = check(function, x, y, i, j)
    assert not unmodelled(recorder.graph())


def test_comparisons_and_logic() -> None:
    def function(x: Tensor, i: Tensor, p: Tensor) -> list[Tensor]:
        compared = [x == 1, x != x, x < 0.5, i <= 2.5, i > x, i >= 1, p == 1]
        logic = [torch.logical_and(x, i), torch.logical_or(p, i), torch.logical_xor(p, x)]
        return [*compared, *logic, p & ~p, p ^ p, p | p]

    recorder = check(
        function, torch.tensor([0.0, 1, 2]), torch.tensor([3, 1, 0]), torch.tensor(True)
    )
    assert not unmodelled(recorder.graph())


def test_clamp_where_and_fill() -> None:
    def function(x: Tensor, i: Tensor, low: Tensor) -> list[Tensor]:
        mask = x > 0
        return [
            x.clamp(-1, 1),
            x.clamp(min=0),
            x.clamp(max=0.5),
            i.clamp(0.5, 2),
            i.clamp(1, 2),
            torch.clamp(x, low, None),
            x.clamp(low),
            torch.where(mask, x, i),
            torch.where(mask, x, 0),
            torch.where(mask, 1, 2.5),
            x.masked_fill(mask, -math.inf),
            i.masked_fill(mask, 7),
            x.masked_fill(mask, low[0]),
            x.nan_to_num(0.0),
            x.fill_(3.0),
        ]

    x = torch.tensor([-2.0, 0.3, math.nan, 4.0])
    recorder = check(function, x, torch.arange(4), torch.tensor([0.0, 1, 2, 3]))
    assert not unmodelled(recorder.graph())


FLAG, BYTE = torch.tensor([True, False]), torch.tensor([1, 200], dtype=torch.uint8)
SHORT, LONG = torch.tensor([1, -2], dtype=torch.int16), torch.tensor([3, -4])
HALF, BRAIN = torch.tensor([0.5, -1.5]).half(), torch.tensor([0.1, 3.0]).bfloat16()
SINGLE, DOUBLE = torch.tensor([0.1, 3.0]), torch.tensor([0.1, 3.0]).double()
TENSORS = (FLAG, BYTE, SHORT, LONG, HALF, BRAIN, SINGLE, DOUBLE)


NUMBERS = (True, 2, 0.5)


def test_common_dtype_is_torchs() -> None:
    """Every pair of dtypes, of ranks 1 and 0, and every Python number."""
    for x in (t for tensor in TENSORS for t in (tensor, tensor[0])):
        for y in (*(t for tensor in TENSORS for t in (tensor, tensor[0])), *NUMBERS):
            operands = [_typed(x), y if not isinstance(y, Tensor) else _typed(y)]
            assert common_dtype(operands) == DTYPE_NAMES[torch.result_type(x, y)], (x, y)


def _typed(x: Tensor) -> Value:
    return Value(TensorType(DTYPE_NAMES[x.dtype], tuple(x.shape)))


def test_promotion_of_tensors() -> None:
    def function(tensors: list[Tensor]) -> list[Tensor]:
        found = [x + y[0] for x in tensors for y in tensors]
        found += [x / y for x in tensors[:4] for y in tensors[2:6]]
        return found + [torch.maximum(x, y) for x, y in itertools.pairwise(tensors)]

    check(function, list(TENSORS))


def test_promotion_of_numbers() -> None:
    def function(tensors: list[Tensor]) -> list[Tensor]:
        found = []
        for x in tensors:
            found += [x + True, x * 2, x + 0.1, x / 3, x > 0.5]
        for x in tensors[3:6]:
            found += [torch.where(x > 0, x, 2.5), torch.add(x[0], 1), x[0] * 0.1, 1 - x, x == 1]
        return found

    recorder = check(function, list(TENSORS))
    halves = [
        op for op in calls(recorder.graph(), "tensor.constant") if op.attrs["dtype"] == "bf16"
    ]
    assert any(op.attrs["value"] == 0.1 for op in halves), "an immediate is not rounded"


def test_conversions() -> None:
    def function(x: Tensor) -> list[Tensor]:
        to = [x.to(d) for d in (torch.int32, torch.bool, torch.float64, torch.bfloat16, x.dtype)]
        return [*to, x.bool().float(), x.double() + x, x.half() * x]

    recorder = check(function, torch.tensor([-1.7, 0.0, 0.5, 2.5]))
    assert not unmodelled(recorder.graph())
