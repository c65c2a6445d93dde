"""What an op moves and computes, as sizes: for reports, and for the cost models built on top."""

from collections.abc import Callable, Mapping

from effcomp.ir.core import Graph, Op, Value
from effcomp.ir.dims import Dim, dim, product
from effcomp.ir.spec import Trait, attr, spec_of
from effcomp.ir.types import TensorType

# FLOPs an element of a nontrivial function, in multiply-adds of the vector unit on a GPU.
FUNCTION_FLOPS: Mapping[str, int] = {
    "tensor.exp": 4, "tensor.exp2": 3, "tensor.expm1": 12, "tensor.log": 5, "tensor.log2": 4,
    "tensor.log1p": 12, "tensor.sqrt": 4, "tensor.rsqrt": 4, "tensor.reciprocal": 4,
    "tensor.sin": 16, "tensor.cos": 16, "tensor.tan": 24, "tensor.tanh": 10, "tensor.sigmoid": 8,
    "tensor.erf": 16,
    "tensor.div": 4, "tensor.floor_divide": 8, "tensor.trunc_divide": 8, "tensor.remainder": 10,
    "tensor.pow": 16, "tensor.atan2": 30, "nn.gelu": 20, "nn.silu": 10, "nn.softplus": 16,
}  # fmt: skip

# FLOPs an element of the operand, for ops that work on whole rows.
ROW_FLOPS: Mapping[str, int] = {
    "nn.softmax": 10, "nn.log_softmax": 10, "nn.layer_norm": 8, "nn.rms_norm": 5,
    "nn.group_norm": 8,
}  # fmt: skip

_LOOKUPS: Mapping[str, int] = {
    "tensor.gather": 0,
    "tensor.take": 0,
    "tensor.index": 0,
    "nn.embedding": 0,
}
_GENERATORS = frozenset(
    {"tensor.constant", "tensor.dim", "tensor.full", "tensor.iota", "tensor.size"}
)


def op_bytes(op: Op) -> Dim:
    """Bytes an op has to read and write when it runs alone; views move nothing.

    A lookup reads as much of its table as it returns. A group counts its operands, its results,
    and of tables and sliced operands only the part that is read.
    """
    if Trait.VIEW in spec_of(op).traits and op.name not in (
        "tensor.concat",
        "tensor.pad",
        "tensor.flip",
    ):
        return 0
    if op.body is not None and op.name != "state.prologue":
        return dim(_body_reads(op.body) + _total(op.results))
    if op.name in (
        "state.index_put",
        "state.slice_put",
        "tensor.index_put",
        "tensor.slice_scatter",
        "tensor.scatter",
    ):
        # The functional form copies its target; in place, only the written part moves.
        moved = 2 * _total(op.operands[1:])
        return dim(moved + (0 if op.name.startswith("state.") else 2 * _total(op.operands[:1])))
    if op.name in _LOOKUPS:
        return dim(_total(op.operands[1 - _LOOKUPS[op.name] :]) + 2 * _total(op.results))
    return dim(_total(op.operands) + _total(op.results))


def op_flops(op: Op) -> Dim:
    """Arithmetic an op does: two a multiply-add of a product; by weight for everything else."""
    if op.body is not None:
        return dim(sum((op_flops(inner) for inner in op.body.ops), start=0))
    if special := _PRODUCTS.get(op.name):
        return special(op)
    if op.name in _GENERATORS or not op.results or not op.operands:
        return 0
    spec = spec_of(op)
    if Trait.ELEMENTWISE in spec.traits:
        return product((FUNCTION_FLOPS.get(op.name, 1), op.results[0].tensor.numel))
    if Trait.REDUCTION in spec.traits:
        return product((ROW_FLOPS.get(op.name, 1), op.operands[0].tensor.numel))
    return 0


def _linear_flops(op: Op) -> Dim:
    x, weight = op.operands[:2]
    return product((2, x.tensor.numel, weight.shape[0]))


def _matmul_flops(op: Op) -> Dim:
    a, b = op.operands
    return product((2, a.tensor.numel, b.shape[-1]))


def _attention_flops(op: Op) -> Dim:
    q, k, v = op.operands[:3]
    rows = product(q.shape[:-1])
    full = dim(
        product((2, rows, k.shape[-2], q.shape[-1])) + product((2, rows, k.shape[-2], v.shape[-1]))
    )
    return full // 2 if attr(op, "causal") and isinstance(full, int) else full


def _conv_flops(op: Op) -> Dim:
    x, weight = op.operands[:2]
    moved = x if attr(op, "transposed") else op.results[0]
    return product((2, moved.tensor.numel, *weight.shape[1:]))


_PRODUCTS: Mapping[str, Callable[[Op], Dim]] = {
    "nn.linear": _linear_flops,
    "tensor.matmul": _matmul_flops,
    "nn.attention": _attention_flops,
    "nn.conv": _conv_flops,
}


def value_bytes(value: Value) -> Dim:
    """Bytes of a dense tensor; nothing for a size."""
    return value.type.nbytes if isinstance(value.type, TensorType) else 0


def _total(values: tuple[Value, ...]) -> Dim:
    return dim(sum((value_bytes(v) for v in values), start=0))


def _body_reads(body: Graph) -> Dim:
    """Bytes of a body's params; of one that is only looked into or sliced, what is read of it."""
    parts: dict[Value, Dim] = {}
    whole: set[Value] = set()
    for op in body.ops:
        for i, v in enumerate(op.operands):
            if op.name == "tensor.slice" or i == _LOOKUPS.get(op.name, -1):
                parts[v] = dim(parts.get(v, 0) + _total(op.results))
            else:
                whole.add(v)
    reads = (_least(parts[v], v) if v not in whole and v in parts else value_bytes(v)
             for v in body.params)  # fmt: skip
    return dim(sum(reads, start=0))


def _least(part: Dim, value: Value) -> Dim:
    """Slices may overlap: never more than the whole."""
    whole = value_bytes(value)
    if isinstance(part, int) and isinstance(whole, int):
        return min(part, whole)
    return part
