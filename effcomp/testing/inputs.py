"""Random tensors for values of the IR."""

from collections.abc import Mapping, Sequence

import torch

from effcomp.dtypes import DTYPES
from effcomp.ir import Graph, SizeType, Type, Value, print_dim
from effcomp.ir.dims import Dim, free_sizes
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
    declared: Type,
    sizes: Mapping[str, int],
    strides: Sequence[Dim] | None = None,
    *,
    high: int = 5,
) -> torch.Tensor | int:
    """A value of a param's type, laid out as `strides` say."""
    if isinstance(declared, SizeType):
        return size_of(declared.expr, sizes)
    shape = [size_of(d, sizes) for d in declared.shape]
    found = random_tensor(declared.dtype, shape, high=high)
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


def drawn_arguments(
    graph: Graph, sizes: Mapping[str, int] | None = None
) -> list[list[torch.Tensor | int]]:
    """Arguments for a few values of the graph's sizes (or for these), laid out in two ways.

    The same ones at every call. Integers are 0 or 1, so that they may be indices.
    """
    names = sorted(_sizes_in(graph))
    choices = [sizes] if sizes is not None else _choices(names)
    found: list[list[torch.Tensor | int]] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for chosen in choices:
            plain = [random_argument(p.type, chosen, p.strides, high=2) for p in graph.params]
            found += [plain, [_transposed(a) for a in plain]]
    return found


def _choices(names: Sequence[str]) -> list[dict[str, int]]:
    """Sizes that differ from each other, then larger ones, then the smallest."""
    if not names:
        return [{}]
    return [
        {name: 2 * i + 4 for i, name in enumerate(names)},
        {name: 8 * i + 12 for i, name in enumerate(reversed(names))},
        dict.fromkeys(names, 2),
    ]


def _sizes_in(graph: Graph) -> frozenset[str]:
    dims = [
        d
        for p in graph.params
        for d in (
            (p.type.expr,) if isinstance(p.type, SizeType) else (*p.shape, *(p.strides or ()))
        )
    ]
    return free_sizes(dims)


def _transposed(arg: torch.Tensor | int) -> torch.Tensor | int:
    """The same tensor lying column by column, where it lies row by row."""
    if not isinstance(arg, torch.Tensor) or arg.ndim < 2 or not arg.is_contiguous():
        return arg
    return arg.transpose(0, -1).contiguous().transpose(0, -1)
