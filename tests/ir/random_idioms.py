"""Phrases that models are made of, spelled out in small ops: what rewrites look for."""

import math

from effcomp.ir import Value, ops
from effcomp.ir.types import TensorType
from tests.ir.growing import Grower, is_float
from tests.ir.random_steps import Step

IDIOMS: dict[str, Step] = {}
E, V, R, N = ops.elementwise, ops.view, ops.reduction, ops.nn


def idiom(function: Step) -> Step:
    IDIOMS[function.__name__] = function
    return function


@idiom
def silu(g: Grower) -> None:
    if (x := g.pick()) is None:
        return
    gate = g.add(E.sigmoid, x)
    g.keep(g.add(E.mul, *((x, gate) if g.chance(2) else (gate, x))))


@idiom
def gelu_tanh(g: Grower) -> None:
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    if (x := g.pick()) is None:
        return
    if g.chance(2):
        cube = g.add(E.mul, g.add(E.mul, x, x), x)
    else:
        cube = g.add(E.power, x, g.constant(3.0, x.dtype))
    inner = g.scaled(g.add(E.add, x, g.scaled(cube, 0.044715)), math.sqrt(2 / math.pi))
    gate = g.add(E.add, g.add(E.tanh, inner), g.constant(1.0, x.dtype))
    g.keep(g.add(E.mul, g.scaled(x, 0.5), gate))


@idiom
def gelu_erf(g: Grower) -> None:
    """0.5 x (1 + erf(x / sqrt(2)))."""
    if (x := g.pick()) is None:
        return
    inner = g.add(E.div, x, g.constant(math.sqrt(2), x.dtype))
    gate = g.add(E.add, g.add(E.erf, inner), g.constant(1.0, x.dtype))
    g.keep(g.add(E.mul, g.scaled(x, 0.5), gate))


@idiom
def rms_norm(g: Grower) -> None:
    """x * rsqrt(mean(x^2) + eps) * weight, upcast where models do."""
    if (x := g.pick(least=1)) is None:
        return
    wide = g.add(E.convert, x, dtype="f32") if x.dtype != "f64" and g.chance(2) else x
    square = (
        g.add(E.mul, wide, wide)
        if g.chance(2)
        else g.add(E.power, wide, g.constant(2.0, wide.dtype))
    )
    mean = g.add(R.mean, square, dims=(-1,), keepdim=True)
    scale = g.add(E.rsqrt, g.add(E.add, mean, g.constant(0.1, wide.dtype)))
    found = g.add(E.mul, wide, scale)
    if found.dtype != x.dtype:
        found = g.add(E.convert, found, dtype=x.dtype)
    if g.chance(2):
        weight = g.param(TensorType(x.dtype, (x.shape[-1],)), weight=True)
        found = g.add(E.mul, *((found, weight) if g.chance(2) else (weight, found)))
    g.keep(found)


@idiom
def layer_norm(g: Grower) -> None:
    """(x - mean) / sqrt(var + eps)."""
    if (x := g.pick(least=1)) is None:
        return
    centred = g.add(E.sub, x, g.add(R.mean, x, dims=(-1,), keepdim=True))
    variance = g.add(R.mean, g.add(E.mul, centred, centred), dims=(-1,), keepdim=True)
    spread = g.add(E.add, variance, g.constant(0.1, x.dtype))
    if g.chance(2):
        g.keep(g.add(E.mul, centred, g.add(E.rsqrt, spread)))
    else:
        g.keep(g.add(E.div, centred, g.add(E.sqrt, spread)))


@idiom
def softmax(g: Grower) -> None:
    """exp(x - max) / sum."""
    if (x := g.pick(least=1)) is None:
        return
    d = g.axis(x)
    shifted = g.add(E.sub, x, g.add(R.maximum, x, dims=(d,), keepdim=True))
    found = g.add(E.exp, shifted)
    g.keep(g.add(E.div, found, g.add(R.sum_, found, dims=(d,), keepdim=True)))


@idiom
def modulate(g: Grower) -> None:
    """x * (1 + scale) + shift, with one scale and shift a row."""
    if (x := g.pick(least=2)) is None:
        return
    row = (*x.shape[:-2], 1, x.shape[-1])
    scale, shift = (g.param(TensorType(x.dtype, row)) for _ in range(2))
    scaled = g.add(E.mul, x, g.add(E.add, scale, g.constant(1.0, x.dtype)))
    g.keep(g.add(E.add, scaled, shift))


@idiom
def rotary(g: Grower) -> None:
    """x * cos + rotate_half(x) * sin."""

    def splits(v: Value) -> bool:
        return is_float(v) and v.shape[-1:] in ((2,), (4,), (6,), (8,))

    if (x := g.pick(splits, least=2)) is None:
        return
    size, rank = x.shape[-1], len(x.shape)
    half = size // 2  # pyright: ignore[reportOperatorIssue]
    low = g.add(V.slice_, x, dim=rank - 1, start=0, stop=half)
    high = g.add(V.slice_, x, dim=rank - 1, start=half, stop=size)
    turned = g.add(V.concat, g.add(E.neg, high), low, dim=-1)
    angle = g.param(TensorType(x.dtype, x.shape[-2:]))
    parts = (g.add(E.mul, x, g.add(E.cos, angle)), g.add(E.mul, turned, g.add(E.sin, angle)))
    g.keep(g.add(E.add, *parts))


@idiom
def projections(g: Grower) -> None:
    """Several linears of one input: what horizontal fusion joins."""
    if (x := g.pick(least=2)) is None:
        return
    found: list[Value] = []
    for _ in range(g.integer(2, 3)):
        rows = g.choose((2, 4))
        weight = g.param(TensorType(x.dtype, (rows, x.shape[-1])), weight=True)
        made = g.scaled(g.add(N.linear, x, weight), 0.4)
        found.append(made)
    g.keep(*found)


@idiom
def gated_mlp(g: Grower) -> None:
    """silu(gate(x)) * up(x)."""
    if (x := g.pick(least=2)) is None:
        return
    kind = TensorType(x.dtype, (4, x.shape[-1]))
    gate = g.scaled(g.add(N.linear, x, g.param(kind, weight=True)), 0.4)
    up = g.scaled(g.add(N.linear, x, g.param(kind, weight=True)), 0.4)
    g.keep(g.add(E.mul, g.add(E.silu, gate), up))


@idiom
def transposed_product(g: Grower) -> None:
    """x @ w^T through a permute, with a bias: a linear in disguise."""
    if (x := g.pick(lambda v: is_float(v) and len(v.shape) == 2)) is None:
        return
    weight = g.param(TensorType(x.dtype, (4, x.shape[-1])), weight=True)
    found = g.scaled(g.add(N.matmul, x, g.add(V.permute, weight, dims=(1, 0))), 0.4)
    bias = g.param(TensorType(x.dtype, (4,)), weight=True)
    g.keep(g.add(E.add, found, bias))


@idiom
def heads(g: Grower) -> None:
    """[B, N, H D] to [B, H, N, D], attention, and back."""

    def splits(v: Value) -> bool:
        return is_float(v) and len(v.shape) == 3 and v.shape[-1] in (4, 8)

    if (x := g.pick(splits)) is None:
        return
    batch, rows, width = x.shape
    split = (batch, rows, 2, width // 2)  # pyright: ignore[reportOperatorIssue]
    q, k, v = (
        g.add(V.permute, g.add(V.reshape, one, shape=split), dims=(0, 2, 1, 3))
        for one in (x, g.scaled(x, 0.5), x)
    )
    if g.chance(2):
        found = g.add(N.attention, q, k, v, scale=0.7, causal=g.chance(2))
    else:
        scores = g.scaled(g.add(N.matmul, q, g.add(V.permute, k, dims=(0, 1, 3, 2))), 0.7)
        found = g.add(N.matmul, g.add(N.softmax, scores, dim=-1), v)
    back = g.add(V.permute, found, dims=(0, 2, 1, 3))
    g.keep(g.add(V.reshape, back, shape=x.shape))


@idiom
def residual(g: Grower) -> None:
    """x + gate * f(x)."""
    if (x := g.pick(least=1)) is None:
        return
    branch = g.add(E.mul, g.add(E.tanh, x), g.number(x.dtype))
    g.keep(g.add(E.add, x, branch))
