"""Products, attention, norms, convolutions."""

import math
from collections.abc import Sequence

from effcomp.ir import Value
from effcomp.ir.dims import Dim, product, same
from effcomp.reference.emitter import BufferArg, Emitter, Place, Row, row, wide

_PRODUCTS = {2: "aten.mm.default", 3: "aten.bmm.default"}


@row("tensor.matmul")
def matmul(b: Emitter, x: Value, y: Value) -> Place:
    return b.call(_PRODUCTS.get(len(x.shape), "aten.matmul.default"), x, y)


@row("nn.linear")
def linear(b: Emitter, x: Value, weight: Value, bias: Value | None = None) -> Place:
    if bias is None:
        return b.call("aten.linear.default", x, weight)
    added = bias if bias.dtype == x.dtype else b.convert(bias, x.dtype)
    return b.call("aten.linear.default", x, weight, added)


@row("nn.attention")
def attention(
    b: Emitter,
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None = None,
    *,
    scale: float,
    causal: bool,
) -> Place:
    # ATen's fast kernels want exactly [B, H, M, D].
    batched = [_with_rank_4(b, b.tensor(x), x.shape) for x in (q, k, v)]
    bias = None if mask is None else _mask(b, mask, q, k, causal)
    grouped = {} if same(q.shape[-3], k.shape[-3]) else {"enable_gqa": True}
    out = b.call(
        "aten.scaled_dot_product_attention.default",
        *batched,
        bias,
        0.0,
        causal and mask is None,
        scale=scale,
        **grouped,
    )
    return out if len(q.shape) == 4 else b.reshape(out, (*q.shape[:-1], v.shape[-1]))


def _with_rank_4(b: Emitter, x: BufferArg, shape: Sequence[Dim]) -> BufferArg:
    if len(shape) == 4:
        return x
    return b.reshape(x, (product(shape[:-3]), *shape[-3:]))


def _mask(b: Emitter, mask: Value, q: Value, k: Value, causal: bool) -> BufferArg:
    """The mask in a form ATen takes: at most rank 4; `causal` joined to it, as ATen takes one."""
    found, shape = b.tensor(mask), mask.shape
    if causal:
        rows, columns = q.shape[-2], k.shape[-2]
        found = _causal_too(b, found, mask.dtype, rows, columns)
        shape = (*shape[:-2], rows, columns)
    leading, rank = q.shape[:-3], len(q.shape)
    full = (*[1] * (rank - len(shape)), *shape)
    if all(size == 1 for size in full[: rank - 3]):
        kept = (1, *full[-3:]) if len(shape) > 2 else full[-2:]
        return found if kept == shape else b.reshape(found, kept)
    if rank == 4:
        return found
    spread = b.call("aten.expand.default", b.reshape(found, full), (*leading, *full[-3:]))
    return b.reshape(spread, (product(leading), *full[-3:]))


def _causal_too(b: Emitter, mask: BufferArg, dtype: str, rows: Dim, columns: Dim) -> BufferArg:
    allowed = b.call("aten.tril.default", b.full((rows, columns), True, "bool"))
    if dtype == "bool":
        return b.call("aten.logical_and.default", mask, allowed)
    return b.call("aten.where.self", allowed, mask, b.full((), -math.inf, dtype))


def _softmax(target: str) -> Row:
    def emit(b: Emitter, x: Value, *, dim: int, dtype: str | None) -> Place:
        operand = x if dtype in (None, x.dtype) else b.convert(x, dtype)
        return b.call(target, operand, dim, False)

    return emit


row("nn.softmax")(_softmax("aten._softmax.default"))
row("nn.log_softmax")(_softmax("aten._log_softmax.default"))


def _agree(x: Value, *affine: Value | None) -> bool:
    """ATen's norms want x and its affine in one dtype."""
    return all(a is None or a.dtype == x.dtype for a in affine)


def _affine(
    b: Emitter, x: BufferArg, weight: Place | None, bias: Place | None, dtype: str
) -> BufferArg:
    """x * weight + bias, rounded to `dtype` at the end."""
    if weight is not None:
        x = b.call("aten.mul.Tensor", x, weight)
    if bias is not None:
        x = b.call("aten.add.Tensor", x, bias)
    return b.convert(x, dtype)


def _widened(b: Emitter, x: Value | None, dtype: str) -> BufferArg | None:
    return None if x is None else b.convert(x, dtype)


@row("nn.layer_norm")
def layer_norm(
    b: Emitter,
    x: Value,
    weight: Value | None = None,
    bias: Value | None = None,
    *,
    eps: float,
    dims: int,
) -> Place:
    shape = x.shape[len(x.shape) - dims :]
    name = "aten.native_layer_norm.default"
    if _agree(x, weight, bias):
        return b.calls_many(name, (x, shape, weight, bias, eps), results=1, dropped=2)[0]
    inner = wide(x.dtype)
    plain = (b.convert(x, inner), shape, None, None, eps)
    found = b.calls_many(name, plain, results=1, dropped=2)[0]
    return _affine(b, found, _widened(b, weight, inner), _widened(b, bias, inner), x.dtype)


@row("nn.rms_norm")
def rms_norm(b: Emitter, x: Value, weight: Value | None = None, *, eps: float, dims: int) -> Place:
    shape = x.shape[len(x.shape) - dims :]
    if _agree(x, weight):
        return b.call("aten.rms_norm.default", x, shape, weight, eps)
    inner = wide(x.dtype)
    found = b.call("aten.rms_norm.default", b.convert(x, inner), shape, None, eps)
    return _affine(b, found, _widened(b, weight, inner), None, x.dtype)


@row("nn.group_norm")
def group_norm(
    b: Emitter,
    x: Value,
    weight: Value | None = None,
    bias: Value | None = None,
    *,
    groups: int,
    eps: float,
) -> Place:
    name = "aten.group_norm.default"
    if _agree(x, weight, bias):
        return b.call(name, x, groups, weight, bias, eps)
    inner = wide(x.dtype)
    found = b.call(name, b.convert(x, inner), groups, None, None, eps)
    channels = (x.shape[1], *[1] * (len(x.shape) - 2))
    weighted, biased = (
        None if a is None else b.reshape(b.convert(a, inner), channels) for a in (weight, bias)
    )
    return _affine(b, found, weighted, biased, x.dtype)


@row("nn.conv")
def conv(
    b: Emitter,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    transposed: bool,
    output_padding: tuple[int, ...],
) -> Place:
    extra = output_padding or (0,) * len(stride)
    options = (stride, padding, dilation, transposed, extra, groups)
    return b.call("aten.convolution.default", x, weight, bias, *options)


@row("nn.upsample_nearest")
def upsample_nearest(
    b: Emitter, x: Value, *, sizes: tuple[Dim, ...], scales: tuple[float, ...]
) -> Place:
    return b.call(f"aten.upsample_nearest{len(sizes)}d.default", x, sizes, *scales)
