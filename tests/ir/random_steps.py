"""Single steps that a random graph grows by: elementwise, views, lookups, reductions, products."""

import math
from collections.abc import Callable

from hypothesis import strategies as st

from effcomp.errors import VerifyError
from effcomp.ir import Dim, OpSpec, Value, ops
from effcomp.ir.dims import dim, product, same, same_shape
from effcomp.ir.ops.infer import broadcast
from effcomp.ir.types import TensorType
from tests.ir.growing import Grower, is_float, is_integer, is_tensor

Step = Callable[[Grower], None]
STEPS: dict[str, Step] = {}
E, V, R, L, N = ops.elementwise, ops.view, ops.reduction, ops.indexing, ops.nn


def step(function: Step) -> Step:
    STEPS[function.__name__.strip("_")] = function
    return function


def is_bool(v: Value) -> bool:
    return v.dtype == "bool"


# Elementwise.

TAME: tuple[OpSpec, ...] = (
    E.neg, E.absolute, E.tanh, E.sigmoid, E.erf, E.sin, E.cos, E.relu, E.silu, E.gelu, E.softplus,
)  # fmt: skip


@step
def unary(g: Grower) -> None:
    if (x := g.pick()) is None:
        return
    spec = g.choose(TAME)
    attrs = {"approximate": "tanh"} if spec is E.gelu and g.chance(2) else {}
    g.keep(g.add(spec, x, **attrs))


@step
def steep(g: Grower) -> None:
    """Functions that need their argument kept in range."""
    if (x := g.pick()) is None:
        return
    match g.integer(0, 4):
        case 0:
            g.keep(g.add(g.choose((E.exp, E.exp2, E.expm1)), g.add(E.tanh, x)))
        case 1:
            near = g.add(E.add, g.add(E.absolute, x), g.constant(1.0, x.dtype))
            g.keep(g.add(g.choose((E.log, E.log2, E.log1p, E.sqrt, E.rsqrt)), near))
        case 2:
            near = g.add(E.add, g.add(E.absolute, x), g.constant(1.0, x.dtype))
            g.keep(g.add(E.reciprocal, near))
        case 3:
            near = g.add(E.add, g.add(E.sigmoid, x), g.constant(0.5, x.dtype))
            g.keep(g.add(E.power, near, g.constant(g.choose((2.0, 0.5, -1.0, 3.0)), x.dtype)))
        case _:
            # Off the grid, so that rounding errors do not decide.
            far = g.add(E.add, g.scaled(x, 1.37), g.constant(0.123, x.dtype))
            g.keep(g.add(g.choose((E.floor, E.ceil, E.rounding, E.trunc)), far))


def _partner(g: Grower, x: Value) -> Value:
    """Something that broadcasts with x: another value, or a constant."""

    def fits(v: Value) -> bool:
        try:
            return v.dtype == x.dtype and g.fits(broadcast(v.shape, x.shape))
        except VerifyError:
            return False

    other = g.pick(fits)
    return g.number(x.dtype) if other is None or g.chance(3) else other


@step
def binary(g: Grower) -> None:
    if (x := g.pick()) is None:
        return
    a, b = x, _partner(g, x)
    if g.chance(2):
        a, b = b, a
    match g.choose(("add", "sub", "mul", "maximum", "minimum", "div")):
        case "mul":
            g.keep(g.add(E.mul, a, g.add(E.tanh, b) if is_param_like(b, g) else b))
        case "div":
            far = g.add(E.add, g.add(E.absolute, b), g.constant(1.0, b.dtype))
            g.keep(g.add(E.div, a, far))
        case name:
            g.keep(g.add(getattr(E, name), a, b))


def is_param_like(v: Value, g: Grower) -> bool:
    """Whether a factor may be large: not a constant."""
    return not any(v in op.results for op in g.ops if op.name == "tensor.constant")


@step
def integers(g: Grower) -> None:
    if (x := g.pick(is_integer)) is None:
        return
    spec = g.choose((E.add, E.sub, E.mul, E.maximum, E.minimum, E.bitwise_and, E.bitwise_xor))
    if g.chance(3):
        three = g.constant(3, x.dtype)
        g.keep(g.add(g.choose((E.floor_divide, E.trunc_divide, E.remainder)), x, three))
        return
    g.keep(g.add(spec, x, _partner(g, x)))


@step
def compare(g: Grower) -> None:
    if (x := g.pick(lambda v: is_float(v) or is_integer(v))) is None:
        return
    spec = g.choose((E.lt, E.le, E.gt, E.ge, E.eq, E.ne))
    odd = g.constant(0.2718 if is_float(x) else 2, x.dtype)
    g.keep(g.add(spec, *((x, odd) if g.chance(2) else (odd, x))))


@step
def logic(g: Grower) -> None:
    if (x := g.pick(is_bool)) is None:
        return
    if g.chance(3):
        g.keep(g.add(g.choose((E.logical_not, E.bitwise_not)), x))
        return
    spec = g.choose((E.logical_and, E.logical_or, E.bitwise_and, E.bitwise_xor, E.bitwise_or))
    g.keep(g.add(spec, x, _partner(g, x)))


@step
def where(g: Grower) -> None:
    if (x := g.pick(is_tensor)) is None or (c := g.pick(is_bool)) is None:
        return
    other = _partner(g, x)
    try:
        shape = broadcast(c.shape, x.shape, other.shape)
    except VerifyError:
        return
    if g.fits(shape):
        g.keep(g.add(E.where, c, *((x, other) if g.chance(2) else (other, x))))


@step
def convert(g: Grower) -> None:
    x = g.pick(is_tensor)
    dtype = g.choose(g.dtypes)
    # A float next to an integer would let a rounding error decide.
    if x is not None and not (is_float(x) and dtype in ("i64", "i32", "bool", "u8")):
        g.keep(g.add(E.convert, x, dtype=dtype))


# Views.


@step
def reshape(g: Grower) -> None:
    if (x := g.pick(is_tensor)) is None:
        return
    shape = x.shape
    at = g.integer(0, len(shape))
    match g.integer(0, 3):
        case 0 if len(shape) >= 2:
            at = min(at, len(shape) - 2)
            g.keep(
                g.add(
                    V.reshape, x, shape=(*shape[:at], product(shape[at : at + 2]), *shape[at + 2 :])
                )
            )
        case 1 if splits := [
            (i, f, s // f)
            for i, s in enumerate(shape)
            if isinstance(s, int)
            for f in (2, 3)
            if s % f == 0
        ]:
            i, *parts = g.choose(splits)
            parts = parts if g.chance(2) else parts[::-1]
            g.keep(g.add(V.reshape, x, shape=(*shape[:i], *parts, *shape[i + 1 :])))
        case 2:
            g.keep(g.add(V.reshape, x, shape=(product(shape),)))
        case _ if len(shape) < 5:
            g.keep(g.add(V.reshape, x, shape=(*shape[:at], 1, *shape[at:])))


@step
def squeeze(g: Grower) -> None:
    x = g.pick(lambda v: is_tensor(v) and 1 in v.shape)
    if x is not None:
        at = x.shape.index(1)
        g.keep(g.add(V.reshape, x, shape=(*x.shape[:at], *x.shape[at + 1 :])))


@step
def permute(g: Grower) -> None:
    if (x := g.pick(is_tensor, least=2)) is not None:
        order = g.draw(st.permutations(range(len(x.shape))))
        g.keep(g.add(V.permute, x, dims=tuple(order)))


@step
def expand(g: Grower) -> None:
    if (x := g.pick(is_tensor)) is None or len(x.shape) > 4:
        return
    shape: list[Dim] = [g.choose(g.dims) if s == 1 else s for s in x.shape]
    if g.chance(2):
        shape.insert(0, g.choose(g.dims))
    if g.fits(shape):
        g.keep(g.add(V.broadcast_to, x, shape=tuple(shape)))


@step
def slice_(g: Grower) -> None:
    if (x := g.pick(is_tensor, least=1)) is None:
        return
    d = g.axis(x)
    size = x.shape[d]
    if isinstance(size, int):
        start = g.integer(0, size - 1)
        stop = g.integer(start + 1, size)
        g.keep(g.add(V.slice_, x, dim=d, start=start, stop=stop, step=g.integer(1, 3)))
    elif g.value_of(size) >= 2:
        start = g.integer(0, 1)
        g.keep(g.add(V.slice_, x, dim=d, start=start, stop=size))


@step
def flip(g: Grower) -> None:
    if (x := g.pick(is_tensor, least=1)) is not None:
        g.keep(g.add(V.flip, x, dims=(g.axis(x),)))


@step
def concat(g: Grower) -> None:
    if (x := g.pick(is_tensor, least=1)) is None:
        return
    d = g.axis(x) % len(x.shape)

    def fits(v: Value) -> bool:
        return (
            v.dtype == x.dtype
            and len(v.shape) == len(x.shape)
            and same_shape(v.shape[:d], x.shape[:d])
            and same_shape(v.shape[d + 1 :], x.shape[d + 1 :])
        )

    others = [g.pick(fits) or x for _ in range(g.integer(1, 2))]
    g.keep(g.add(V.concat, x, *others, dim=d))


@step
def pad(g: Grower) -> None:
    if (x := g.pick(is_tensor, least=1)) is None:
        return
    low = tuple(g.integer(0, 2) for _ in x.shape)
    high = tuple(g.integer(0, 2) for _ in x.shape)
    value = g.choose((0.0, 1.0, -2.0)) if is_float(x) else 1.0
    g.keep(g.add(V.pad, x, low=low, high=high, value=value))


@step
def fresh(g: Grower) -> None:
    """Tensors out of nothing."""
    dtype = g.choose(g.dtypes)
    match g.integer(0, 2):
        case 0 if dtype != "bool":
            g.keep(g.add(V.iota, size=g.choose(g.dims), start=g.integer(-2, 2), dtype=dtype))
        case 1:
            size = g.choose(g.dims)
            g.keep(g.add(E.size_as_tensor, value=size, dtype="i64"))
        case _:
            value = True if dtype == "bool" else 2
            g.keep(g.add(V.full, shape=g.shape(0, 3), value=value, dtype=dtype))


@step
def triangle(g: Grower) -> None:
    if (x := g.pick(is_tensor, least=2)) is not None:
        upper = g.chance(2)
        g.keep(g.add(V.triangle, x, upper=upper, diagonal=g.integer(-1, 1)))


@step
def copy(g: Grower) -> None:
    if (x := g.pick(is_tensor)) is not None:
        g.keep(g.add(V.copy, x))


# Lookups.


@step
def take(g: Grower) -> None:
    x, index = g.pick(is_tensor, least=1), g.pick(is_integer)
    if x is None or index is None:
        return
    d = g.axis(x) % len(x.shape)
    if g.fits((*x.shape[:d], *index.shape, *x.shape[d + 1 :])) and len(index.shape) < 3:
        g.keep(g.add(L.take, x, g.index_below(x.shape[d], index), dim=d))


@step
def gather(g: Grower) -> None:
    if (x := g.pick(is_tensor, least=1)) is None:
        return
    d = g.axis(x) % len(x.shape)
    rows = (*x.shape[:d], g.integer(1, 3), *x.shape[d + 1 :])
    index = g.param(TensorType("i64", rows))
    g.keep(g.add(L.gather, x, g.index_below(x.shape[d], index), dim=d))


@step
def embedding(g: Grower) -> None:
    if (index := g.pick(is_integer)) is None or len(index.shape) > 2:
        return
    weight = g.param(TensorType(_float(g), (5, g.choose(g.dims))), weight=True)
    five = g.constant(5, index.dtype)
    g.keep(g.add(L.embedding, weight, g.add(E.remainder, index, five)))


def _float(g: Grower) -> str:
    found = g.pick()
    return "f32" if found is None else found.dtype


# Reductions.


def _axes(g: Grower, x: Value) -> tuple[int, ...]:
    rank = len(x.shape)
    return tuple(g.draw(st.lists(st.integers(0, rank - 1), min_size=1, unique=True)))


@step
def reduce(g: Grower) -> None:
    if (x := g.pick(least=1)) is None:
        return
    dims, keepdim = _axes(g, x), g.chance(2)
    spec = g.choose((R.mean, R.sum_, R.maximum, R.minimum))
    found = g.add(spec, x, dims=dims, keepdim=keepdim)
    g.keep(g.add(E.tanh, found) if spec is R.sum_ and g.chance(2) else found)


@step
def count(g: Grower) -> None:
    if (x := g.pick(lambda v: is_integer(v) or is_bool(v), least=1)) is None:
        return
    dims, keepdim = _axes(g, x), g.chance(2)
    specs = (R.any_, R.all_) if is_bool(x) else (R.sum_, R.maximum, R.minimum, R.any_)
    g.keep(g.add(g.choose(specs), x, dims=dims, keepdim=keepdim))


@step
def softmax(g: Grower) -> None:
    if (x := g.pick(least=1)) is not None:
        g.keep(g.add(g.choose((N.softmax, N.log_softmax)), x, dim=g.axis(x)))


def _maybe_weight(g: Grower, dtype: str, shape: tuple[Dim, ...]) -> Value | None:
    return g.param(TensorType(dtype, shape), weight=True) if g.chance(2) else None


@step
def norm(g: Grower) -> None:
    if (x := g.pick(least=1)) is None:
        return
    dims = g.integer(1, min(2, len(x.shape)))
    shape = x.shape[len(x.shape) - dims :]
    affine = [w for w in (_maybe_weight(g, x.dtype, shape),) if w is not None]
    spec = g.choose((N.rms_norm, N.layer_norm))
    if affine and spec is N.layer_norm and g.chance(2):
        affine.append(g.param(TensorType(x.dtype, shape), weight=True))
    # A large eps: rows of equal elements would divide a rounding error by another.
    g.keep(g.add(spec, x, *affine, eps=0.1, dims=dims))


@step
def group_norm(g: Grower) -> None:
    def fits(v: Value) -> bool:
        return is_float(v) and len(v.shape) >= 2 and isinstance(v.shape[1], int)

    if (x := g.pick(fits)) is not None:
        groups = 2 if x.shape[1] in (2, 4, 6, 8) and g.chance(2) else 1
        affine = _maybe_weight(g, x.dtype, (x.shape[1],))
        operands = (x,) if affine is None else (x, affine)
        # One element a group has no variance, and torch refuses it in training code paths.
        g.keep(g.add(N.group_norm, *operands, groups=groups, eps=0.1))


@step
def scan(g: Grower) -> None:
    if (x := g.pick(least=1)) is not None:
        g.keep(g.add(R.cumsum, x, dim=g.axis(x)))


# Products.


def _shrunk(g: Grower, x: Value, inner: Dim) -> Value:
    """A product of `inner` terms, back at the size of one."""
    return g.scaled(x, 1 / math.sqrt(g.value_of(inner)))


@step
def linear(g: Grower) -> None:
    if (x := g.pick(least=1)) is None:
        return
    rows: Dim = g.choose((1, 2, 4, 8))
    weight = g.param(TensorType(x.dtype, (rows, x.shape[-1])), weight=True)
    bias = _maybe_weight(g, x.dtype, (rows,))
    operands = (x, weight) if bias is None else (x, weight, bias)
    if g.fits((*x.shape[:-1], rows)):
        g.keep(_shrunk(g, g.add(N.linear, *operands), x.shape[-1]))


@step
def matmul(g: Grower) -> None:
    if (x := g.pick(least=2)) is None:
        return

    def fits(v: Value) -> bool:
        return (
            v.dtype == x.dtype
            and len(v.shape) == len(x.shape)
            and same_shape(v.shape[:-2], x.shape[:-2])
            and same(v.shape[-2], x.shape[-1])
        )

    other = g.pick(fits)
    if other is None or g.chance(3):
        rank = len(x.shape)
        other = g.add(V.permute, x, dims=(*range(rank - 2), rank - 1, rank - 2))
    if g.fits((*x.shape[:-1], other.shape[-1])):
        g.keep(_shrunk(g, g.add(N.matmul, x, other), x.shape[-1]))


@step
def attention(g: Grower) -> None:
    if (q := g.pick(least=3)) is None:
        return
    k = g.pick(lambda v: v.type == q.type) or q
    v = g.pick(lambda v: v.type == q.type) or q
    causal = g.chance(2)
    found = g.add(N.attention, q, k, v, scale=0.5, causal=causal)
    g.keep(found)


@step
def conv(g: Grower) -> None:
    def fits(v: Value) -> bool:
        return is_float(v) and len(v.shape) in (3, 4) and isinstance(v.shape[1], int)

    if (x := g.pick(fits)) is None:
        return
    spatial = len(x.shape) - 2
    kernel = g.choose((1, 3))
    weight = g.param(TensorType(x.dtype, (2, x.shape[1], *[kernel] * spatial)), weight=True)
    same_size = {"stride": (1,) * spatial, "padding": (kernel // 2,) * spatial}
    found = g.add(N.conv, x, weight, **same_size, dilation=(1,) * spatial)
    g.keep(_shrunk(g, found, dim(x.shape[1] * kernel**spatial)))
