"""`tensor.*` ops that combine elements along dims."""

from effcomp.ir.ops.infer import axes, axis, reduced
from effcomp.ir.spec import OpSpec, Trait, op
from effcomp.ir.types import TensorType

REDUCTION = Trait.PURE | Trait.REDUCTION


def _reduction(name: str, maths: str, dtype: str | None = None) -> OpSpec:
    def infer(x: TensorType, *, dims: tuple[int, ...], keepdim: bool = False) -> TensorType:
        return TensorType(dtype or x.dtype, reduced(x.shape, axes(dims, x.rank), keepdim))

    infer.__doc__ = f"{maths} along `dims`; floats accumulate in float32 or wider."
    return op(f"tensor.{name}", REDUCTION)(infer)


sum_ = _reduction("sum", "Sum")
mean = _reduction("mean", "Arithmetic mean")
maximum = _reduction("amax", "Largest element, NaN wins,")
minimum = _reduction("amin", "Smallest element, NaN wins,")
product = _reduction("prod", "Product")
any_ = _reduction("any", "Whether any element is nonzero", "bool")
all_ = _reduction("all", "Whether every element is nonzero", "bool")


def _arg_reduction(name: str, maths: str) -> OpSpec:
    def infer(x: TensorType, *, dim: int, keepdim: bool = False) -> TensorType:
        return TensorType("i64", reduced(x.shape, (axis(dim, x.rank),), keepdim))

    infer.__doc__ = f"{maths} along `dim`; the first on ties."
    return op(f"tensor.{name}", REDUCTION)(infer)


argmax = _arg_reduction("argmax", "Index of the largest element")
argmin = _arg_reduction("argmin", "Index of the smallest element")


@op("tensor.cumsum")
def cumsum(x: TensorType, *, dim: int) -> TensorType:
    """Running sum along `dim`."""
    axis(dim, x.rank)
    return x


@op("tensor.topk")
def topk(
    x: TensorType, *, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[TensorType, TensorType]:
    """The k largest (or smallest) elements along `dim`, and their indices."""
    d = axis(dim, x.rank)
    shape = (*x.shape[:d], k, *x.shape[d + 1 :])
    return x.with_shape(*shape), TensorType("i64", shape)


@op("tensor.sort")
def sort(
    x: TensorType, *, dim: int = -1, descending: bool = False, stable: bool = False
) -> tuple[TensorType, TensorType]:
    """x in order along `dim`, and the indices that order it."""
    axis(dim, x.rank)
    return x, TensorType("i64", x.shape)
