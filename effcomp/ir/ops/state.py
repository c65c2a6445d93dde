"""`state.*`: what keeps program order, or outlives a call."""

from effcomp.ir.core import Graph
from effcomp.ir.ops.indexing import indexed_shape
from effcomp.ir.spec import Trait, op, require
from effcomp.ir.types import TensorType, Type


@op("state.prologue", Trait.PURE | Trait.BODY)
def prologue(*weights: TensorType, body: Graph) -> tuple[Type, ...]:
    """Weight arithmetic: the body runs once when weights load, its results are kept."""
    require(
        len(weights) == len(body.params), f"{len(weights)} weights for {len(body.params)} params"
    )
    return tuple(v.type for v in body.outputs)


@op("state.write", Trait.NONE)
def write(target: TensorType, source: TensorType) -> tuple[TensorType, ...]:
    """Overwrite the caller's tensor `target` (a graph input) with `source`, in place. No result."""
    require(target.shape == source.shape, f"cannot write {source} into {target}")
    return ()


@op("state.index_put", Trait.NONE)
def index_put(
    target: TensorType,
    values: TensorType,
    *indices: TensorType,
    dims: tuple[int, ...],
    accumulate: bool = False,
) -> TensorType:
    """target[indices] = values (or +=, `accumulate`), in place; the result is target afterwards.

    What reinplace makes of tensor.index_put followed by state.write: a static KV cache's update.
    """
    indexed_shape(target, indices, dims)
    return target


@op("state.slice_put", Trait.NONE)
def slice_put(
    target: TensorType, source: TensorType, *, dim: int, start: int = 0, stop: int, step: int = 1
) -> TensorType:
    """target[start:stop:step along dim] = source, in place; the result is target afterwards."""
    return target
