"""`fused.*`: groups of ops that one kernel computes. Bodies hold tensor-level ops."""

from effcomp.ir.core import Graph
from effcomp.ir.spec import Trait, op, require
from effcomp.ir.types import TensorType, Type

GROUP = Trait.PURE | Trait.BODY


def _check(operands: tuple[Type, ...], body: Graph) -> tuple[Type, ...]:
    require(
        len(operands) == len(body.params), f"{len(operands)} operands for {len(body.params)} params"
    )
    for given, param in zip(operands, body.params, strict=True):
        require(given == param.type, f"operand {given} for body param {param.type}")
    return tuple(v.type for v in body.outputs)


@op("fused.pointwise", GROUP)
def pointwise(*operands: TensorType, body: Graph) -> tuple[Type, ...]:
    """One loop over the results' elements; the body holds elementwise, view and indexing ops."""
    return _check(operands, body)


@op("fused.rowwise", GROUP)
def rowwise(*operands: TensorType, body: Graph) -> tuple[Type, ...]:
    """One loop over rows: the body also reduces, always along the same dims of one shape."""
    return _check(operands, body)


@op("fused.matmul", GROUP)
def matmul(*operands: TensorType, body: Graph) -> tuple[Type, ...]:
    """One tiled product with its neighbours: the body's first op is nn.linear or tensor.matmul, and
    elementwise and view ops on its result (the epilogue) follow.
    """
    return _check(operands, body)
