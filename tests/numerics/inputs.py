"""Random tensors for values of the IR."""

from collections.abc import Mapping, Sequence

import torch

from effcomp.dtypes import DTYPES
from effcomp.ir import Graph, SizeType, Type, Value, print_dim
from effcomp.ir.dims import Dim
from effcomp.ir.types import INTEGERS, TensorType
from effcomp.plan.expressions import evaluate


def size_of(dim: Dim, sizes: Mapping[str, int]) -> int:
    """The value of a dim."""
    return evaluate(dim if isinstance(dim, int) else print_dim(dim), sizes)


def random_tensor(
    dtype: str, shape: Sequence[int], *, low: int = 0, high: int = 5, positive: bool = False
) -> torch.Tensor:
    """Normal floats (their magnitude where `positive`), integers in [low, high), fair bools."""
    if dtype == "bool":
        return torch.rand(tuple(shape)) < 0.5
    if dtype in INTEGERS:
        return torch.randint(low, high, tuple(shape)).to(DTYPES[dtype])
    if dtype in ("c64", "c128"):
        return torch.randn(tuple(shape), dtype=DTYPES[dtype])
    found = torch.randn(tuple(shape), dtype=torch.float64)
    return (found.abs() + 0.1 if positive else found).to(DTYPES[dtype])


def random_argument(
    declared: Type, sizes: Mapping[str, int], strides: Sequence[Dim] | None = None
) -> torch.Tensor | int:
    """A value of a param's type, laid out as `strides` say."""
    if isinstance(declared, SizeType):
        return size_of(declared.expr, sizes)
    found = random_tensor(declared.dtype, [size_of(d, sizes) for d in declared.shape])
    if strides is None:
        return found
    steps = [size_of(s, sizes) for s in strides]
    # A dim of stride 0 shows one element again and again.
    distinct = found[tuple(slice(1) if step == 0 else slice(None) for step in steps)]
    laid = torch.empty_strided(distinct.shape, steps, dtype=found.dtype)
    return laid.copy_(distinct).expand(found.shape)


def random_arguments(graph: Graph, sizes: Mapping[str, int]) -> list[torch.Tensor | int]:
    """One value for each param of a graph, in its layout."""
    return [random_argument(p.type, sizes, p.strides) for p in graph.params]


def value(dtype: str, *shape: Dim) -> Value:
    """A fresh tensor value."""
    return Value(TensorType(dtype, shape))
