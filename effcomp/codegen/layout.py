"""Where the elements of a value lie: strides of views, and when two layouts are one."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from effcomp.ir import Dim, Op, TensorType, Value, attr
from effcomp.ir.dims import contiguous_strides, dim, interval, product, same
from effcomp.ir.ops.infer import axis

Strides = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Strides in elements, and where in its operand's memory a view begins."""

    strides: Strides
    offset: Dim = 0


def strides_of(value: Value) -> Strides:
    """The strides a value states, row-major where it states none."""
    return contiguous_strides(value.shape) if value.strides is None else value.strides


def same_layout(shape: Sequence[Dim], a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    """Whether strides `a` and `b` address the same elements: a dim of size 1 is never stepped."""
    return all(size == 1 or same(x, y) for size, x, y in zip(shape, a, b, strict=True))


def is_row_major(shape: Sequence[Dim], strides: Sequence[Dim]) -> bool:
    return same_layout(shape, strides, contiguous_strides(shape))


def overlaps(shape: Sequence[Dim], strides: Sequence[Dim]) -> bool:
    """Whether a dim repeats its elements, as an expanded view does."""
    return any(step == 0 and size != 1 for size, step in zip(shape, strides, strict=True))


def is_dense(shape: Sequence[Dim], strides: Sequence[Dim]) -> bool:
    """Whether the elements fill one span of memory, in some order of the dims."""
    left = [(size, step) for size, step in zip(shape, strides, strict=True) if size != 1]
    reach: Dim = 1
    while left:
        inner = next((pair for pair in left if same(pair[1], reach)), None)
        if inner is None:
            return False
        left.remove(inner)
        reach = product((reach, inner[0]))
    return True


def view_layout(op: Op) -> Layout | None:
    """How a VIEW op's result lies in its operand's memory; None where it takes a copy."""
    x = op.operands[0]
    strides = strides_of(x)
    match op.name:
        case "tensor.reshape":
            found = reshaped_strides(x.shape, strides, op.result.shape)
            return None if found is None else Layout(found)
        case "tensor.permute":
            dims: tuple[int, ...] = attr(op, "dims")
            return Layout(tuple(strides[d] for d in dims))
        case "tensor.broadcast":
            return Layout(_expanded(x.tensor, strides, op.result.shape))
        case "tensor.slice":
            return _sliced(op, strides)
        case _:
            return None


def _expanded(x: TensorType, strides: Strides, shape: Sequence[Dim]) -> Strides:
    lead = len(shape) - x.rank
    kept = (
        0 if old == 1 and new != 1 else step
        for old, new, step in zip(x.shape, shape[lead:], strides, strict=True)
    )
    return (*[0] * lead, *kept)


def _sliced(op: Op, strides: Strides) -> Layout:
    d = axis(attr(op, "dim"), len(strides))
    stepped = dim(strides[d] * attr(op, "step"))
    offset = dim(strides[d] * attr(op, "start"))
    return Layout((*strides[:d], stepped, *strides[d + 1 :]), offset)


def reshaped_strides(shape: Sequence[Dim], strides: Strides, new: Sequence[Dim]) -> Strides | None:
    """Strides of the same elements, in row-major order, under the shape `new`.

    Both shapes are cut wherever as many elements lie to the right; between two cuts the old dims
    must step through memory evenly, and the new ones divide that step. None where they do not.
    """
    if 0 in shape or is_row_major(shape, strides):
        return contiguous_strides(new)
    old_dims = [(size, step) for size, step in zip(shape, strides, strict=True) if size != 1]
    new_dims = [(i, size) for i, size in enumerate(new) if size != 1]
    found = list(contiguous_strides(new))
    while new_dims or old_dims:
        taken = _next_cut([s for s, _ in old_dims], [s for _, s in new_dims])
        if taken is None:
            return None
        olds, news = old_dims[-taken[0] :], new_dims[-taken[1] :]
        if not _steps_evenly(olds):
            return None
        step: Dim = olds[-1][1]
        for i, size in reversed(news):
            found[i] = step
            step = dim(step * size)
        old_dims, new_dims = old_dims[: -taken[0]], new_dims[: -taken[1]]
    return tuple(found)


def _next_cut(old: Sequence[Dim], new: Sequence[Dim]) -> tuple[int, int] | None:
    """How many dims, from the right, of each shape hold equally many elements: the fewest."""
    olds, news = _suffix_products(old), _suffix_products(new)
    for i, a in enumerate(olds, 1):
        for j, b in enumerate(news, 1):
            if same(a, b):
                return i, j
    return None


def _suffix_products(shape: Sequence[Dim]) -> list[Dim]:
    out: list[Dim] = []
    for size in reversed(shape):
        out.append(product((out[-1] if out else 1, size)))
    return out


def _steps_evenly(dims: Sequence[tuple[Dim, Dim]]) -> bool:
    return all(
        same(step, dim(inner_size * inner_step))
        for (_, step), (inner_size, inner_step) in pairwise(dims)
    )


# Layouts that torch's own kernels return: stating them saves a copy.


def returned_strides(op: Op, kind: str) -> Strides | None:
    """The strides in which torch returns an op's result on a kind of target; None for row-major.

    A hint: a result that comes back otherwise is copied, and the runtime counts it.
    """
    match op.name:
        case "nn.attention":
            return _attention_strides(op, kind)
        case "nn.conv":
            return _conv_strides(op)
        case _:
            return None


def _attention_strides(op: Op, kind: str) -> Strides | None:
    """[..., M, H, D] in memory where q lies so: torch's fused kernels keep the order of q."""
    q, k, v = op.operands[:3]
    heads, rows, last = strides_of(q)[-3:]
    if kind == "cpu" and not (same(last, 1) and same(q.shape[-1], v.shape[-1])):
        return None  # composed of products, whose result is row-major
    if kind == "cuda" and q.dtype == "f32" and not same(q.shape[-3], k.shape[-3]):
        return None  # so are grouped heads in float32, which no fused kernel takes
    if interval(dim(rows - heads), {})[0] < 0:
        return None
    *lead, h, m, d = q.shape
    found = contiguous_strides((*lead, m, h, d))
    return (*found[:-3], found[-2], found[-3], found[-1])


def _conv_strides(op: Op) -> Strides | None:
    """Channels last where the operand or the weight is, as torch suggests to its backends."""
    if any(_is_channels_last(v) for v in op.operands[:2]):
        return channels_last_strides(op.result.shape)
    return None


def _is_channels_last(value: Value) -> bool:
    last = channels_last_strides(value.shape)
    row_major = is_row_major(value.shape, strides_of(value))
    return not row_major and same_layout(value.shape, strides_of(value), last)


def channels_last_strides(shape: Sequence[Dim]) -> Strides:
    """Strides of [B, C, *S] lying in memory as [B, *S, C]."""
    batch, channels, *space = shape
    found = contiguous_strides((batch, *space, channels))
    return (found[0], found[-1], *found[1:-1])
