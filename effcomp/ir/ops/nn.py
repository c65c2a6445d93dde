"""`nn.*` and `tensor.matmul`: the ops worth keeping whole."""

from effcomp.ir.dims import Dim, dim, floor_div, print_dim, same, same_shape
from effcomp.ir.ops.infer import axis, broadcast, same_dtype
from effcomp.ir.spec import Trait, op, require
from effcomp.ir.types import TensorType


@op("tensor.matmul")
def matmul(a: TensorType, b: TensorType) -> TensorType:
    """a[..., M, K] @ b[..., K, N], equal leading dims, float32 accumulation."""
    require(
        a.rank == b.rank >= 2 and same_shape(a.shape[:-2], b.shape[:-2]),
        f"{a} @ {b}: leading dims differ",
    )
    require(same(a.shape[-1], b.shape[-2]), f"{a} @ {b}: inner dims differ")
    return TensorType(same_dtype(a, b), (*a.shape[:-1], b.shape[-1]))


@op("nn.linear")
def linear(x: TensorType, weight: TensorType, bias: TensorType | None = None) -> TensorType:
    """x[..., K] @ weight[N, K]^T (+ bias[N]), float32 accumulation."""
    require(weight.rank == 2, f"weight {weight} is not a matrix")
    require(x.rank >= 1, f"x {x} has no dim to multiply along")
    require(same(x.shape[-1], weight.shape[1]), f"x {x} and weight {weight} differ in K")
    require(bias is None or bias.shape == (weight.shape[0],), f"bias {bias} does not fit {weight}")
    return TensorType(same_dtype(x, weight), (*x.shape[:-1], weight.shape[0]))


@op("nn.attention")
def attention(
    q: TensorType,
    k: TensorType,
    v: TensorType,
    mask: TensorType | None = None,
    *,
    scale: float,
    causal: bool = False,
) -> TensorType:
    """softmax(scale q k^T + mask) v.

    q[B..., H, M, D], k[B..., Hkv, N, D], v[B..., Hkv, N, Dv]; H is a multiple of Hkv (grouped
    queries: query head h reads key head h // (H / Hkv)). mask broadcasts to [B..., H, M, N]: bool
    (True attends) or float (added). `causal` attends to key j <= query i, counted from
    the first of both.
    """
    require(q.rank == k.rank == v.rank >= 3, f"ranks differ: {q}, {k}, {v}")
    require(same(q.shape[-1], k.shape[-1]), f"q {q} and k {k} differ in head size")
    require(same(k.shape[-2], v.shape[-2]), f"k {k} and v {v} differ in length")
    heads, groups = q.shape[-3], k.shape[-3]
    if isinstance(heads, int) and isinstance(groups, int):
        require(groups > 0 and heads % groups == 0, f"{heads} query heads over {groups} key heads")
    if mask is not None:
        broadcast(mask.shape, (*q.shape[:-1], k.shape[-2]))
    return TensorType(same_dtype(q, k, v), (*q.shape[:-1], v.shape[-1]))


@op("nn.softmax", Trait.PURE | Trait.REDUCTION)
def softmax(x: TensorType, *, dim: int, dtype: str | None = None) -> TensorType:
    """exp(x - max) / sum(exp(x - max)) along `dim`; result in `dtype` where given."""
    axis(dim, x.rank)
    return x.with_dtype(dtype or x.dtype)


@op("nn.log_softmax", Trait.PURE | Trait.REDUCTION)
def log_softmax(x: TensorType, *, dim: int, dtype: str | None = None) -> TensorType:
    """x - max - log(sum(exp(x - max))) along `dim`."""
    axis(dim, x.rank)
    return x.with_dtype(dtype or x.dtype)


def _check_affine(
    x: TensorType, dims: int, weight: TensorType | None, bias: TensorType | None
) -> None:
    require(1 <= dims <= x.rank, f"{dims} normalised dims do not fit {x}")
    for affine in (weight, bias):
        fits = affine is None or same_shape(affine.shape, x.shape[x.rank - dims :])
        require(fits, f"{affine} does not fit the last {dims} dims of {x}")


@op("nn.layer_norm", Trait.PURE | Trait.REDUCTION)
def layer_norm(
    x: TensorType,
    weight: TensorType | None = None,
    bias: TensorType | None = None,
    *,
    eps: float,
    dims: int = 1,
) -> TensorType:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last `dims` dims (Ba 2016).

    Mean and variance are float32 whatever the dtype.
    """
    _check_affine(x, dims, weight, bias)
    return x


@op("nn.rms_norm", Trait.PURE | Trait.REDUCTION)
def rms_norm(
    x: TensorType, weight: TensorType | None = None, *, eps: float, dims: int = 1
) -> TensorType:
    """x / sqrt(mean(x^2) + eps) * weight over the last `dims` dims (Zhang 2019); float32 inside."""
    _check_affine(x, dims, weight, None)
    return x


@op("nn.group_norm", Trait.PURE | Trait.REDUCTION)
def group_norm(
    x: TensorType,
    weight: TensorType | None = None,
    bias: TensorType | None = None,
    *,
    groups: int,
    eps: float,
) -> TensorType:
    """x[B, C, ...] normalised over each of `groups` channel groups, channel affine (Wu 2018)."""
    require(x.rank >= 2, f"{x} has no channel dim")
    channels = x.shape[1]
    require(
        not isinstance(channels, int) or channels % groups == 0,
        f"{groups} groups do not divide {x}",
    )
    return x


@op("nn.conv")
def conv(
    x: TensorType,
    weight: TensorType,
    bias: TensorType | None = None,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int = 1,
    transposed: bool = False,
    output_padding: tuple[int, ...] = (),
) -> TensorType:
    """Correlate x[B, C, *S] with weight[O, C/groups, *K] (transposed: [C, O/groups, *K])."""
    require(x.rank == weight.rank >= 3, f"{x} and {weight} differ in rank")
    sizes: list[Dim] = []
    for i, (s, w) in enumerate(zip(x.shape[2:], weight.shape[2:], strict=True)):
        if transposed:
            extra = output_padding[i] if output_padding else 0
            sizes.append(
                dim((s - 1) * stride[i] - 2 * padding[i] + dilation[i] * (w - 1) + extra + 1)
            )
        else:
            sizes.append(floor_div(s + 2 * padding[i] - dilation[i] * (w - 1) - 1, stride[i]) + 1)
    if not transposed:
        require(
            same(x.shape[1], dim(weight.shape[1] * groups)),
            f"{x} has not {print_dim(weight.shape[1])} x {groups} channels",
        )
    channels = dim(weight.shape[1] * groups) if transposed else weight.shape[0]
    return TensorType(same_dtype(x, weight), (x.shape[0], channels, *map(dim, sizes)))


@op("nn.upsample_nearest")
def upsample_nearest(
    x: TensorType, *, sizes: tuple[Dim, ...], scales: tuple[float, ...] = ()
) -> TensorType:
    """x[B, C, *S] at `sizes`: result[i] = x[floor(i / scale)], scale = sizes / S by default."""
    require(x.rank == len(sizes) + 2, f"{len(sizes)} sizes do not fit {x}")
    return x.with_shape(*x.shape[:2], *sizes)
