"""Scaled dot-product attention, in the forms in which torch spells it."""

import math

from effcomp.capture.builder import Builder, Unmodelled
from effcomp.capture.table.rows import row
from effcomp.ir import Value
from effcomp.ir.dims import same


@row("scaled_dot_product_attention.default")
def attention(
    b: Builder, q: Value, k: Value, v: Value, mask: Value | None = None, dropout: float = 0.0,
    causal: bool = False, *, scale: float | None = None, enable_gqa: bool = False,
) -> Value:  # fmt: skip
    if dropout:
        raise Unmodelled("drops attention weights at random")
    if mask is not None and causal:
        raise Unmodelled("is causal and has a mask")
    rank = max(3, q.tensor.rank, k.tensor.rank, v.tensor.rank)
    q, k, v = (_of_rank(b, x, rank) for x in (q, k, v))
    k, v = _batched_as(b, k, q, enable_gqa), _batched_as(b, v, q, enable_gqa)
    if mask is not None and mask.dtype not in ("bool", q.dtype):
        mask = b.convert(mask, q.dtype)
    operands = (q, k, v) if mask is None else (q, k, v, mask)
    scale = _scale(q) if scale is None else float(scale)
    return b.reshape(b.emit("nn.attention", *operands, scale=scale, causal=causal), b_shape(b))


def b_shape(b: Builder) -> tuple:
    """The shape of the traced result, or of its first part."""
    first = b.expected[0] if isinstance(b.expected, (tuple, list)) else b.expected
    return b.sizes.shape(first.shape)


def _scale(q: Value) -> float:
    size = q.shape[-1]
    if not isinstance(size, int):
        raise Unmodelled("the head size is symbolic, so the scale is no constant")
    return 1.0 / math.sqrt(size)


def _of_rank(b: Builder, x: Value, rank: int) -> Value:
    return b.reshape(x, (*[1] * (rank - x.tensor.rank), *x.shape))


def _batched_as(b: Builder, x: Value, q: Value, grouped: bool) -> Value:
    """Keys or values repeated over the leading dims of q where torch broadcasts them."""
    leading = list(q.shape[:-2])
    if grouped or not _broadcasts(x, q):
        leading[-1] = x.shape[-3]
    return b.broadcast(x, (*leading, *x.shape[-2:]))


def _broadcasts(x: Value, q: Value) -> bool:
    return x.shape[-3] == 1 or same(x.shape[-3], q.shape[-3])


@row("_scaled_dot_product_flash_attention_for_cpu.default")
def flash_for_cpu(
    b: Builder, q: Value, k: Value, v: Value, dropout: float = 0.0, causal: bool = False, *,
    attn_mask: Value | None = None, scale: float | None = None,
) -> tuple[Value | None, ...]:  # fmt: skip
    return _without_statistics(b, q, k, v, attn_mask, dropout, causal, scale)


@row("_scaled_dot_product_flash_attention.default")
def flash(
    b: Builder, q: Value, k: Value, v: Value, dropout: float = 0.0, causal: bool = False,
    return_debug_mask: bool = False, *, scale: float | None = None,
) -> tuple[Value | None, ...]:  # fmt: skip
    return _without_statistics(b, q, k, v, None, dropout, causal, scale)


@row("_scaled_dot_product_efficient_attention.default")
def efficient(
    b: Builder, q: Value, k: Value, v: Value, mask: Value | None, compute_log_sumexp: bool,
    dropout: float = 0.0, causal: bool = False, *, scale: float | None = None,
) -> tuple[Value | None, ...]:  # fmt: skip
    return _without_statistics(b, q, k, v, mask, dropout, causal, scale)


@row("_scaled_dot_product_cudnn_attention.default")
def cudnn(
    b: Builder, q: Value, k: Value, v: Value, mask: Value | None, compute_log_sumexp: bool,
    dropout: float = 0.0, causal: bool = False, return_debug_mask: bool = False, *,
    scale: float | None = None,
) -> tuple[Value | None, ...]:  # fmt: skip
    return _without_statistics(b, q, k, v, mask, dropout, causal, scale)


def _without_statistics(
    b: Builder, q: Value, k: Value, v: Value, mask: Value | None, dropout: float, causal: bool,
    scale: float | None,
) -> tuple[Value | None, ...]:  # fmt: skip
    if not b.reads_only(0):
        raise Unmodelled("its backward pass needs the row statistics")
    found = attention(b, q, k, v, mask, dropout, causal, scale=scale)
    return (found, *[None] * (len(b.expected) - 1))
