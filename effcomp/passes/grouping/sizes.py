"""Sizes as the cost model sees them: numbers, a typical one where a size has a name."""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from effcomp.ir import Value
from effcomp.ir.dims import Dim, product, same
from effcomp.ir.types import ITEMSIZE, TensorType

TYPICAL_SIZE = 512


@lru_cache(maxsize=4096)
def typical(size: Dim) -> int:
    """A size with every name taken for `TYPICAL_SIZE`."""
    if isinstance(size, int):
        return size
    expr: Any = size
    return max(1, int(expr.subs(dict.fromkeys(expr.free_symbols, TYPICAL_SIZE))))


@lru_cache(maxsize=4096)
def _typical_numel(shape: tuple[Dim, ...]) -> int:
    return math.prod(map(typical, shape))


def typical_numel(shape: Sequence[Dim]) -> int:
    return _typical_numel(tuple(shape))


@lru_cache(maxsize=4096)
def _numel(shape: tuple[Dim, ...]) -> Dim:
    return product(shape)


def numel(shape: Iterable[Dim]) -> Dim:
    """The product of sizes, remembered: symbolic arithmetic is slow, and asked for often."""
    return _numel(tuple(shape))


_same = lru_cache(maxsize=4096)(same)


def is_equal(a: Dim, b: Dim) -> bool:
    """Whether two sizes are provably equal; quick on numbers, remembered on others."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return a is b or _same(a, b)


def is_same_shape(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    """Whether two shapes are provably equal."""
    return len(a) == len(b) and all(map(is_equal, a, b))


def nbytes(value: Value) -> int:
    """Bytes of a dense tensor, sizes with a name taken for a typical one."""
    if not isinstance(value.type, TensorType):
        return 0
    return ITEMSIZE[value.dtype] * typical_numel(value.shape)
