"""Softmax and the norms, with the statistics that training keeps of them."""

from collections.abc import Sequence

import torch

from effcomp.capture.builder import Builder, Unmodelled
from effcomp.capture.dtypes import name_of
from effcomp.capture.table.reduction import variance
from effcomp.capture.table.rows import row
from effcomp.dtypes import DTYPES
from effcomp.ir import Dim, Value
from effcomp.ir.dims import floor_div, product


def _normalise(b: Builder, name: str, x: Value, axis: int, dtype: str | None) -> Value:
    if x.tensor.rank == 0:
        raise Unmodelled("of a scalar")
    axis = b.axis(axis, x.tensor.rank)
    if dtype is None or dtype == x.dtype:
        return b.emit(name, x, dim=axis)
    return b.emit(name, x, dim=axis, dtype=dtype)


@row("softmax.int")
def softmax(b: Builder, x: Value, axis: int, dtype: torch.dtype | None = None) -> Value:
    return _normalise(b, "nn.softmax", b.inexact(x), axis, dtype and name_of(dtype))


@row("log_softmax.int")
def log_softmax(b: Builder, x: Value, axis: int, dtype: torch.dtype | None = None) -> Value:
    return _normalise(b, "nn.log_softmax", b.inexact(x), axis, dtype and name_of(dtype))


@row("_softmax.default")
def softmax_of(b: Builder, x: Value, axis: int, half_to_float: bool) -> Value:
    return _normalise(b, "nn.softmax", x, axis, "f32" if half_to_float else None)


@row("_log_softmax.default")
def log_softmax_of(b: Builder, x: Value, axis: int, half_to_float: bool) -> Value:
    return _normalise(b, "nn.log_softmax", x, axis, "f32" if half_to_float else None)


def _affine(weight: Value | None, bias: Value | None) -> list[Value]:
    """Operands after x; the table takes no bias without a weight."""
    if weight is None and bias is not None:
        raise Unmodelled("has a bias and no weight")
    return [v for v in (weight, bias) if v is not None]


@row("layer_norm.default")
def layer_norm(
    b: Builder, x: Value, shape: Sequence[Dim], weight: Value | None = None,
    bias: Value | None = None, eps: float = 1e-5, cudnn_enable: bool = True,
) -> Value:  # fmt: skip
    affine = _affine(weight, bias)
    return b.emit("nn.layer_norm", x, *affine, eps=eps, dims=len(shape))


@row("rms_norm.default")
def rms_norm(
    b: Builder, x: Value, shape: Sequence[Dim], weight: Value | None = None,
    eps: float | None = None,
) -> Value:  # fmt: skip
    affine = _affine(weight, None)
    return b.emit("nn.rms_norm", x, *affine, eps=_epsilon(x, eps), dims=len(shape))


def _epsilon(x: Value, eps: float | None) -> float:
    """torch's default is the epsilon of the dtype that it computes in."""
    if eps is not None:
        return eps
    return torch.finfo(torch.float64 if DTYPES[x.dtype] is torch.float64 else torch.float32).eps


@row("group_norm.default")
def group_norm(
    b: Builder, x: Value, groups: int, weight: Value | None = None, bias: Value | None = None,
    eps: float = 1e-5, cudnn_enabled: bool = True,
) -> Value:  # fmt: skip
    return b.emit("nn.group_norm", x, *_affine(weight, bias), groups=groups, eps=eps)


@row("native_layer_norm.default")
def native_layer_norm(
    b: Builder, x: Value, shape: Sequence[Dim], weight: Value | None, bias: Value | None,
    eps: float,
) -> tuple[Value | None, ...]:  # fmt: skip
    """The result and, for the backward pass, mean and 1 / sqrt(var + eps)."""
    found = layer_norm(b, x, shape, weight, bias, eps)
    if b.reads_only(0):
        return found, None, None
    rank = x.tensor.rank
    mean, scale = _statistics(b, x, range(rank - len(shape), rank), eps)
    return found, _stored(b, mean, 1), _stored(b, scale, 2)


@row("native_group_norm.default")
def native_group_norm(
    b: Builder, x: Value, weight: Value | None, bias: Value | None, batch: Dim, channels: Dim,
    inner: Dim, groups: int, eps: float,
) -> tuple[Value | None, ...]:  # fmt: skip
    found = group_norm(b, x, groups, weight, bias, eps)
    if b.reads_only(0):
        return found, None, None
    apart = b.reshape(x, (batch, groups, product((floor_div(channels, groups), inner))))
    mean, scale = _statistics(b, apart, (2,), eps)
    return found, _stored(b, mean, 1), _stored(b, scale, 2)


def _statistics(b: Builder, x: Value, dims: Sequence[int], eps: float) -> tuple[Value, Value]:
    wide = x if x.dtype == "f64" else b.convert(x, "f32")
    spread, mean = variance(b, wide, tuple(dims), 0, True)
    shifted = b.emit("tensor.add", spread, b.constant(eps, wide.dtype))
    return mean, b.emit("tensor.rsqrt", shifted)


def _stored(b: Builder, x: Value, index: int) -> Value:
    """A statistic in the dtype and shape in which torch keeps it."""
    kept = b.expected[index]
    return b.reshape(b.convert(x, name_of(kept.dtype)), b.sizes.shape(kept.shape))


@row("_fused_rms_norm.default")
def fused_rms_norm(
    b: Builder, x: Value, shape: Sequence[Dim], weight: Value | None, eps: float | None
) -> tuple[Value | None, ...]:
    found = rms_norm(b, x, shape, weight, eps)
    if b.reads_only(0):
        return found, None
    wide = x if x.dtype == "f64" else b.convert(x, "f32")
    squares = b.emit("tensor.mul", wide, wide)
    rank = x.tensor.rank
    dims = tuple(range(rank - len(shape), rank))
    mean = b.emit("tensor.mean", squares, dims=dims, keepdim=True)
    shifted = b.emit("tensor.add", mean, b.constant(_epsilon(x, eps), wide.dtype))
    return found, _stored(b, b.emit("tensor.rsqrt", shifted), 1)


@row("_native_batch_norm_legit_no_training.default")
def batch_norm(
    b: Builder, x: Value, weight: Value | None, bias: Value | None, mean: Value, var: Value,
    momentum: float, eps: float,
) -> tuple[Value | None, ...]:  # fmt: skip
    """With the running statistics: (x - mean) * rsqrt(var + eps) * weight + bias by channel."""
    if not b.reads_only(0):
        raise Unmodelled("its empty statistics are read")
    along = (x.shape[1], *[1] * (x.tensor.rank - 2))
    dtype = "f64" if x.dtype == "f64" else "f32"

    def by_channel(v: Value) -> Value:
        return b.reshape(b.convert(v, dtype), along)

    shifted = b.emit("tensor.add", by_channel(var), b.constant(eps, dtype))
    found = b.emit("tensor.sub", b.convert(x, dtype), by_channel(mean))
    found = b.emit("tensor.mul", found, b.emit("tensor.rsqrt", shifted))
    if weight is not None:
        found = b.emit("tensor.mul", found, by_channel(weight))
    if bias is not None:
        found = b.emit("tensor.add", found, by_channel(bias))
    return b.convert(found, x.dtype), None, None
