"""`tensor.*` ops that read or write at positions given by tensors."""

from itertools import pairwise

from effcomp.ir.dims import Dim
from effcomp.ir.ops.infer import axis, broadcast
from effcomp.ir.spec import op, require
from effcomp.ir.types import INTEGERS, TensorType


@op("tensor.gather")
def gather(x: TensorType, index: TensorType, *, dim: int) -> TensorType:
    """result[..i..] = x[..index[..i..]..] along `dim` (torch.gather); indices are >= 0."""
    axis(dim, x.rank)
    require(index.dtype in INTEGERS and index.rank == x.rank, f"{index} does not index {x}")
    return x.with_shape(*index.shape)


@op("tensor.take")
def take(x: TensorType, index: TensorType, *, dim: int) -> TensorType:
    """x's slices at `index` along `dim` (torch.index_select for rank 1, any rank of index here).

    Result shape: x.shape[:dim] + index.shape + x.shape[dim+1:]. Negative indices count from
    the end.
    """
    d = axis(dim, x.rank)
    require(index.dtype in INTEGERS, f"{index} is not an integer tensor")
    return x.with_shape(*x.shape[:d], *index.shape, *x.shape[d + 1 :])


def indexed_shape(
    x: TensorType, indices: tuple[TensorType, ...], dims: tuple[int, ...]
) -> tuple[Dim, ...]:
    """Shape of x[..., i0, i1, ...] under numpy's rule, `indices[j]` standing at dim `dims[j]`."""
    require(len(indices) == len(dims) > 0, f"{len(indices)} indices for dims {dims}")
    require(all(i.dtype in INTEGERS for i in indices), "an index is not an integer tensor")
    ordered = dims[0] >= 0 and dims[-1] < x.rank and all(a < b for a, b in pairwise(dims))
    require(ordered, f"dims {dims} of {x} do not count up")
    middle = broadcast(*(i.shape for i in indices))
    rest = [s for d, s in enumerate(x.shape) if d not in dims]
    adjacent = all(b - a == 1 for a, b in pairwise(dims))
    at = dims[0] if adjacent else 0
    return (*rest[:at], *middle, *rest[at:])


@op("tensor.index")
def index(x: TensorType, *indices: TensorType, dims: tuple[int, ...]) -> TensorType:
    """x at broadcast integer indices (numpy's advanced indexing); indices[j] stands at dims[j]."""
    return x.with_shape(*indexed_shape(x, indices, dims))


@op("tensor.index_put")
def index_put(
    x: TensorType,
    values: TensorType,
    *indices: TensorType,
    dims: tuple[int, ...],
    accumulate: bool = False,
) -> TensorType:
    """x with `values` written (or added) at x[indices]; duplicates without accumulate: any wins."""
    indexed_shape(x, indices, dims)
    return x


@op("tensor.scatter")
def scatter(
    x: TensorType, index: TensorType, source: TensorType, *, dim: int, reduce: str = "none"
) -> TensorType:
    """x with x[..index[..i..]..] = source[..i..] along `dim`; reduce "sum" adds instead."""
    axis(dim, x.rank)
    require(reduce in ("none", "sum"), f"reduce={reduce!r} is not 'none' or 'sum'")
    return x


@op("tensor.slice_scatter")
def slice_scatter(
    x: TensorType, source: TensorType, *, dim: int, start: Dim = 0, stop: Dim, step: int = 1
) -> TensorType:
    """x with the slice start:stop:step along `dim` replaced by `source`."""
    axis(dim, x.rank)
    return x


@op("nn.embedding")
def embedding(weight: TensorType, index: TensorType) -> TensorType:
    """Rows of weight[V, D] at `index`: index.shape + [D]."""
    require(
        weight.rank == 2 and index.dtype in INTEGERS, f"{index} does not index rows of {weight}"
    )
    return weight.with_shape(*index.shape, weight.shape[1])
