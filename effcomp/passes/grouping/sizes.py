"""Sizes as the cost model sees them: numbers, a typical one where a size has a name."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from effcomp.ir import Value
from effcomp.ir.dims import Dim, same, same_shape
from effcomp.ir.types import ITEMSIZE, TensorType

TYPICAL_SIZE = 512


@lru_cache(maxsize=4096)
def typical(size: Dim) -> int:
    """A size with every name taken for `TYPICAL_SIZE`."""
    if isinstance(size, int):
        return size
    expr: Any = size
    return max(1, int(expr.subs(dict.fromkeys(expr.free_symbols, TYPICAL_SIZE))))


def typical_numel(shape: Sequence[Dim]) -> int:
    total = 1
    for size in shape:
        total *= typical(size)
    return total


def is_equal(a: Dim, b: Dim) -> bool:
    """Whether two sizes are provably equal; quick on numbers."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return same(a, b)


def is_same_shape(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    """Whether two shapes are provably equal; quick on numbers."""
    if len(a) != len(b):
        return False
    if all(isinstance(s, int) for s in a) and all(isinstance(s, int) for s in b):
        return tuple(a) == tuple(b)
    return same_shape(a, b)


def nbytes(value: Value) -> int:
    """Bytes of a dense tensor, sizes with a name taken for a typical one."""
    if not isinstance(value.type, TensorType):
        return 0
    return ITEMSIZE[value.dtype] * typical_numel(value.shape)
