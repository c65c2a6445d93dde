"""`tensor.*` ops that move or re-address data without computing on it."""

from collections.abc import Sequence

from effcomp.ir.dims import Dim, floor_div, same
from effcomp.ir.dims import dim as normal
from effcomp.ir.ops.infer import axis, same_dtype
from effcomp.ir.spec import Trait, op, require
from effcomp.ir.types import SizeType, TensorType

VIEW = Trait.PURE | Trait.VIEW


@op("tensor.reshape", VIEW)
def reshape(x: TensorType, *, shape: tuple[Dim, ...]) -> TensorType:
    """The same elements in row-major order under another shape."""
    new = x.with_shape(*shape)
    if isinstance(x.numel, int) and isinstance(new.numel, int):
        require(x.numel == new.numel, f"{x} has {x.numel} elements, {new} has {new.numel}")
    return new


@op("tensor.permute", VIEW)
def permute(x: TensorType, *, dims: tuple[int, ...]) -> TensorType:
    """Result dim i is operand dim dims[i]."""
    require(sorted(dims) == list(range(x.rank)), f"{dims} does not permute {x.rank} dims")
    return x.with_shape(*(x.shape[d] for d in dims))


@op("tensor.broadcast", VIEW)
def broadcast_to(x: TensorType, *, shape: tuple[Dim, ...]) -> TensorType:
    """x repeated along dims of size 1 and along new leading dims."""
    require(len(shape) >= x.rank, f"{x} has more dims than {shape}")
    for old, new in zip(reversed(x.shape), reversed(shape), strict=False):
        require(old == 1 or same(old, new), f"{x} does not broadcast to {shape}")
    return x.with_shape(*shape)


@op("tensor.slice", VIEW)
def slice_(x: TensorType, *, dim: int, start: Dim = 0, stop: Dim, step: int = 1) -> TensorType:
    """Elements start, start+step, ... below stop along `dim`; 0 <= start <= stop <= size."""
    d = axis(dim, x.rank)
    require(step >= 1, f"step {step} is not positive")
    return x.with_shape(*x.shape[:d], _ceil_div(stop - start, step), *x.shape[d + 1 :])


def _ceil_div(a: Dim, b: int) -> Dim:
    return normal(a) if b == 1 else floor_div(a + b - 1, b)


@op("tensor.flip", VIEW)
def flip(x: TensorType, *, dims: tuple[int, ...]) -> TensorType:
    """x with the order along each of `dims` reversed."""
    for d in dims:
        axis(d, x.rank)
    return x


@op("tensor.concat")
def concat(x: TensorType, *rest: TensorType, dim: int) -> TensorType:
    """Operands one after another along `dim`."""
    d = axis(dim, x.rank)
    same_dtype(x, *rest)
    for other in rest:
        fits = other.rank == x.rank and all(
            i == d or same(a, b) for i, (a, b) in enumerate(zip(x.shape, other.shape, strict=True))
        )
        require(fits, f"{other} does not concatenate with {x} along dim {d}")
    total: Dim = x.shape[d]
    for other in rest:
        total = total + other.shape[d]
    return x.with_shape(*x.shape[:d], normal(total), *x.shape[d + 1 :])


@op("tensor.pad")
def pad(
    x: TensorType, *, low: tuple[Dim, ...], high: tuple[Dim, ...], value: float = 0.0
) -> TensorType:
    """x with low[i] / high[i] elements of `value` before / after along dim i (each >= 0)."""
    require(len(low) == len(high) == x.rank, f"padding {low}, {high} does not fit {x}")
    sizes: Sequence[Dim] = [
        normal(lo + s + hi) for lo, s, hi in zip(low, x.shape, high, strict=True)
    ]
    return x.with_shape(*sizes)


@op("tensor.full", Trait.PURE)
def full(*, shape: tuple[Dim, ...], value: bool | int | float, dtype: str) -> TensorType:
    """Every element `value`."""
    return TensorType(dtype, tuple(shape))


@op("tensor.iota", Trait.PURE)
def iota(*, size: Dim, start: Dim = 0, step: Dim = 1, dtype: str = "i64") -> TensorType:
    """start, start + step, ...: `size` elements."""
    return TensorType(dtype, (size,))


@op("tensor.triangle", Trait.PURE)
def triangle(x: TensorType, *, upper: bool = False, diagonal: int = 0) -> TensorType:
    """Last two dims: x on one side of a diagonal, that included, 0 beyond (torch.tril, triu)."""
    require(x.rank >= 2, f"{x} is no matrix")
    return x


@op("tensor.size", Trait.PURE)
def size(*, value: Dim) -> SizeType:
    """A size as a graph output."""
    return SizeType(value)


@op("tensor.copy", Trait.PURE)
def copy(x: TensorType) -> TensorType:
    """x in storage of its own."""
    return x
