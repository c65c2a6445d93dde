"""What a group may hold."""

from effcomp.ir import Op, Trait, spec_of
from effcomp.ir.types import LIBRARY_ONLY, TensorType

# Values made from nothing: always made again where they are used.
GENERATORS = frozenset({"tensor.constant", "tensor.dim", "tensor.full", "tensor.iota"})
VIEWS = frozenset(
    {"tensor.reshape", "tensor.permute", "tensor.broadcast", "tensor.slice", "tensor.flip"}
)
LOOKUPS = frozenset({"tensor.gather", "tensor.take", "tensor.index", "nn.embedding"})
REARRANGEMENTS = frozenset({"tensor.concat", "tensor.pad", "tensor.triangle"})
REDUCTIONS = frozenset(
    f"tensor.{name}"
    for name in ("sum", "mean", "amax", "amin", "prod", "any", "all", "argmax", "argmin")
)
NORMS = frozenset({"nn.softmax", "nn.log_softmax", "nn.layer_norm", "nn.rms_norm"})
PRODUCTS = frozenset({"nn.linear", "tensor.matmul"})

_INDEXED = GENERATORS | VIEWS | LOOKUPS | REARRANGEMENTS


def is_library_only(op: Op) -> bool:
    """Whether an op touches what no kernel computes: complex numbers, for example."""
    return any(
        isinstance(v.type, TensorType) and v.type.dtype in LIBRARY_ONLY
        for v in (*op.operands, *op.results)
    )


def is_elementwise(op: Op) -> bool:
    return Trait.ELEMENTWISE in spec_of(op).traits


def is_pointwise(op: Op) -> bool:
    """Whether a value of this op can be computed at any one index from values at some indices."""
    return (op.name in _INDEXED or is_elementwise(op)) and not is_library_only(op)


def is_row_reduction(op: Op) -> bool:
    return (op.name in REDUCTIONS or op.name in NORMS) and not is_library_only(op)
